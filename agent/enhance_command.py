"""`redraft enhance`: a file of requests in, better prompts out."""

from __future__ import annotations

import asyncio
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from agent.terminal import escape, leave_soon, open_console, stdout_for_results, write_json
from redraft.errors import InputError, RedraftError, printable
from redraft.profiles import Profile, load_profile
from redraft.scope import open_scope
from rewriter.batch.engines import ENGINES, BatchEngine, EngineName
from rewriter.batch.maker import Kit, Maker, ScoreSelector, Selector, load_scorer, open_kit, own_columns
from rewriter.batch.run import BatchPlan, Counts, rejects_path, run_batch, unfinished, work_path
from rewriter.batch.tables import InputRow, InputTable, check_output, open_source
from rewriter.batch.work import Shard, Status, WorkFolder

_DEFAULT, _REAL = "mini", "small"
"""The profile if none is named, and the one for requests that it does not know."""
_PLAIN_S = 10.0
"""Seconds between lines in a log file, in which no bar can be drawn."""
_SHOWN = 3


@dataclass(frozen=True)
class EnhanceOptions:
    """The options of the command line."""

    source: str
    out: Path
    field: str | None = None
    profile: str | None = None
    """None: mini, or small if mini knows no request and small is installed."""
    target: str | None = None
    engine: str = "auto"
    concurrency: int | None = None
    n: int = 1
    select: str | None = None
    judge: bool = False
    images: int = 1
    thought: bool = False
    seed: int = 0
    limit: int | None = None
    shard: str | None = None
    work: Path | None = None
    resume: bool = True
    split: str = "train"
    workers: int = 0
    dry_run: bool = False
    as_json: bool = False


def enhance(options: EnhanceOptions) -> None:
    """Runs the command. Raises RedraftError, or typer.Exit: 130 if it is interrupted, 3 if rows failed."""
    source = open_source(options.source, options.field, options.split)
    check_output(options.out, source)
    if Path(options.source).is_file() and options.out.exists() and options.out.samefile(options.source):
        raise InputError(f"{options.out} is the input; give the output another name")
    shard = Shard() if options.shard is None else Shard.parse(options.shard)
    engine = _engine_name(options.engine)
    profile = load_profile(options.profile or _pick_profile(source, engine))
    with stdout_for_results() as stdout:
        kit = open_kit(
            profile.rewriter,
            target=options.target,
            engine=engine,
            concurrency=options.concurrency,
            n=options.n,
            workers=options.workers,
            scope=None if engine == "fake" else open_scope(profile),  # the fake rewrites whatever it is given
        )
        how, selector = _selector(options, profile, kit.engine)
        columns = own_columns(kit.target, thought=options.thought, n=options.n, scored=selector is not None)
        plan = BatchPlan(
            settings={**kit.settings, "select": how},
            own=columns,
            seed=options.seed,
            shard=shard,
            limit=options.limit,
        )
        if options.dry_run:
            _dry_run(options, source, plan, kit=kit, stdout=stdout)
            return
        maker = Maker(kit.rewriter, plan.keys, n=options.n, selector=selector, scope=kit.scope)
        counts = _rewrite(options, source, plan, kit=kit, maker=maker)
        _report(options, counts, kit=kit, stdout=stdout)
    if kit.scope is not None and counts.rows and counts.statuses[Status.OUT_OF_SCOPE] == counts.rows:
        raise InputError(
            f"no request was rewritten: {kit.scope.profile} draws {kit.scope.draws} only, and every row asks for something "
            f"else; to rewrite real prompts on this machine: {_command_for_small()}"
        )
    report_failures(counts)


def report_failures(counts: Counts) -> None:
    """Raises typer.Exit(3), with a line on stderr, if a model or server failed on rows."""
    if counts.statuses[Status.FAILED]:
        sys.stderr.write(
            f"error: the model or server failed on {counts.statuses[Status.FAILED]} rows, the last time because: "
            f"{printable(counts.error)}\nto try them again, run the same command again\n"
        )
        raise typer.Exit(3)


_LOOKED_AT = 1000
"""Requests that are looked at to pick a profile."""


def _pick_profile(source: InputTable, engine: EngineName) -> str:
    """The profile if none is named: `mini`, unless it knows none of the first requests and `small` is installed, which is
    said."""
    scope = None if engine == "fake" else open_scope(load_profile(_DEFAULT))
    if scope is None or not load_profile(_REAL).rewriter.model.is_ready():
        return _DEFAULT
    requests = (row.request for row in islice(source.rows(), _LOOKED_AT) if isinstance(row, InputRow))
    if all(scope.words_outside(request) for request in requests):
        sys.stderr.write(f"profile {_REAL}: {scope.profile} draws {scope.draws} only, and these are other requests\n")
        return _REAL
    return _DEFAULT


def _command_for_small() -> str:
    """What to type to have the same file rewritten by `small`."""
    again = shlex.join(["redraft", *_without_profile(sys.argv[1:]), "--profile", _REAL])
    return again if load_profile(_REAL).rewriter.model.is_ready() else f"redraft get {_REAL} && {again}"


def _without_profile(arguments: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if skip or argument.startswith("--profile="):
            skip = False
        elif argument == "--profile":
            skip = True
        else:
            kept.append(argument)
    return kept


def _rewrite(options: EnhanceOptions, source: InputTable, plan: BatchPlan, *, kit: Kit, maker: Maker) -> Counts:
    folder = options.work or work_path(options.out)

    async def work(opened: WorkFolder, view: BatchView) -> Counts:
        try:
            window = max(1, -(-kit.engine.window // options.n))
            return await run_batch(source, options.out, opened, plan, maker, window=window, notify=view)
        finally:
            await kit.aclose()

    return run_resumably(source, folder, plan.shard, work, fresh=not options.resume)


def run_resumably(
    source: InputTable,
    folder: Path,
    shard: Shard,
    work: Callable[[WorkFolder, BatchView], Coroutine[Any, Any, Counts]],
    *,
    fresh: bool = False,
) -> Counts:
    """Runs a batch in its work folder, and shows how far it is. If it is interrupted or fails, the user is told the command
    that goes on. Raises typer.Exit(130), RedraftError."""
    with BatchView(source) as view, WorkFolder(folder, shard, fresh=fresh) as opened:
        try:
            return asyncio.run(work(opened, view))
        except KeyboardInterrupt:
            view.__exit__()
            sys.stderr.write(f"\ninterrupted; resume with: {_same_command()}\n")
            sys.stderr.flush()
            leave_soon()
            raise typer.Exit(130) from None
        except RedraftError as error:
            raise type(error)(f"{error}\nwhen that is mended, resume with: {_same_command()}") from error


def _same_command() -> str:
    return shlex.join(["redraft", *(argument for argument in sys.argv[1:] if argument != "--no-resume")])


def _engine_name(name: str) -> EngineName:
    for known in ENGINES:
        if name == known:
            return known
    raise InputError(f"--engine {name!r}: there are {', '.join(ENGINES)}")


def _selector(options: EnhanceOptions, profile: Profile, engine: BatchEngine) -> tuple[object, Selector | None]:
    """Its settings, and the selector; None if the first candidate is taken."""
    if options.judge and options.select is not None:
        raise InputError("--judge and --select both pick a candidate; give one of them")
    if options.images > 1 and not options.judge:
        raise InputError("--images says how many pictures --judge draws of each rewrite; give --judge too")
    if options.select is not None:
        return options.select, ScoreSelector(load_scorer(options.select))
    if not options.judge:
        return None, None
    from agent.enhance_judge import open_judging

    return open_judging(profile, engine, options.images)


def _dry_run(options: EnhanceOptions, source: InputTable, plan: BatchPlan, *, kit: Kit, stdout: TextIO) -> None:
    """Reads the whole input and asks no model."""
    counts, folder = Counts(), options.work or work_path(options.out)
    with ExitStack() as exits:
        if not folder.is_dir():
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        work = exits.enter_context(WorkFolder(folder, plan.shard))
        todo = unfinished(source, work, plan, counts=counts)
        first = [request for _, request in islice(todo, _SHOWN)]
        for _ in todo:
            pass
    seed = plan.keys.seed(plan.keys.key(first[0])) if first else 0
    question = kit.rewriter.asking.first(first[0], 0, seed) if first else None
    value: dict[str, Any] = {
        "dry_run": True,
        "rows": counts.rows,
        "rejects": counts.rejects,
        "already_done": counts.reused,
        "to_rewrite": counts.requests,
        "columns": list(plan.own),
        "model": kit.engine.name,
        "target": None if kit.target is None else kit.target.name,
        "first": first,
        "messages": [] if question is None else [{"role": m.role, "content": m.content} for m in question.messages],
    }
    if options.as_json:
        write_json(value, stdout)
        return
    console = open_console(stdout)
    console.print(f"{counts.rows:,} rows, of them {counts.requests:,} requests to rewrite, {counts.reused:,} rows done")
    console.print(f"{counts.rejects:,} rows cannot be used")
    console.print(f"model {escape(kit.engine.name)}, target {escape(str(value['target']))}")
    for message in value["messages"]:
        console.print(f"[bold]{message['role']}[/]\n{escape(str(message['content']))}", soft_wrap=True, emoji=False)


def _report(options: EnhanceOptions, counts: Counts, *, kit: Kit, stdout: TextIO) -> None:
    value = summary(options, counts, kit)
    if options.as_json:
        write_json(value, stdout)
        return
    console = open_console(stdout)
    shares = ", ".join(f"{value[status]:,} {status}" for status in Status if value[status]) or "no rows"
    console.print(f"{value['rows']:,} rows in {value['seconds']:.1f} s: {shares}", soft_wrap=True)
    if value["reused"]:
        console.print(f"of these, {value['reused']:,} were done before")
    console.print(f"output   {escape(value['out'])}", soft_wrap=True)
    if counts.rejects:
        console.print(f"rejects  {escape(value['rejects'])} ({counts.rejects:,} rows)", soft_wrap=True)
    console.print(f"work     {escape(value['work'])} (kept, so that another run only does what is new)", soft_wrap=True)
    if kit.target is not None and not kit.target.counts:
        console.print(f"tokens for {escape(kit.target.name)} were estimated: its tokenizer is not on this machine")


def summary(options: EnhanceOptions, counts: Counts, kit: Kit) -> dict[str, Any]:
    """What `enhance --json` prints. Counts are rows of the output; `requests` and `tokens` are the work of this run."""
    return {
        "out": str(options.out),
        "rows": counts.rows,
        **{status.value: counts.statuses[status] for status in Status},
        "rejected": counts.rejects,
        "rejects": str(rejects_path(options.out)) if counts.rejects else None,
        "reused": counts.reused,
        "requests": counts.requests,
        "tokens": counts.tokens,
        "seconds": round(counts.seconds, 3),
        "rows_per_s": round(counts.rows / counts.seconds, 1) if counts.seconds else None,
        "model": kit.engine.name,
        "target": None if kit.target is None else kit.target.name,
        "counted_tokens": kit.target is not None and kit.target.counts,
        "seed": options.seed,
        "work": str(options.work or work_path(options.out)),
    }


class BatchView:
    """How far a batch is, on stderr: a bar in a terminal, elsewhere a line every few seconds."""

    def __init__(self, source: InputTable) -> None:
        self._source = source
        self._console = open_console(sys.stderr)
        self._live = self._console.is_terminal
        self._printed = self._started = time.monotonic()
        self._phase = ""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=source.total, rate="")

    def __enter__(self) -> BatchView:
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, counts: Counts) -> None:
        now = time.monotonic()
        if counts.phase != self._phase:
            self._phase = counts.phase
            self._bar.reset(self._task, description=counts.phase, total=self._source.total)
            self._started = now
        if counts.phase == "writing":
            done, what = counts.rows, "rows"
        else:
            done, what = counts.done, "requests"
        rate = done / max(now - self._started, 1e-9)
        line = f"{done:,} {what}, {rate:,.0f}/s{_troubles(counts)}"
        if self._live:
            self._bar.update(self._task, completed=self._source.done, rate=line)
        elif now - self._printed >= _PLAIN_S:
            self._printed = now
            self._console.print(f"{counts.phase}: {line}{self._share()}", soft_wrap=True)

    def _share(self) -> str:
        return f", {self._source.done / self._source.total:.0%} of the input" if self._source.total else ""


def _troubles(counts: Counts) -> str:
    made: Counter[Status] = counts.statuses if counts.phase == "writing" else counts.made
    parts = [f"{made[status]:,} {status}" for status in Status if made[status] and status is not Status.REWRITTEN]
    return "".join(f", {part}" for part in parts)
