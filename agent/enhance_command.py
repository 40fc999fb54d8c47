"""`redraft enhance`: a file of prompts in, better prompts out."""

from __future__ import annotations

import asyncio
import shlex
import sys
import tempfile
import time
from collections import Counter
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
from rewriter.batch.engines import ENGINES, BatchEngine, EngineName
from rewriter.batch.maker import Kit, Maker, ScoreSelector, Selector, load_scorer, open_kit, own_columns
from rewriter.batch.run import BatchPlan, Counts, fresh_prompts, rejects_path, run_batch, work_path
from rewriter.batch.tables import InputTable, check_output, open_source
from rewriter.batch.work import Shard, Status, WorkFolder

_PLAIN_S = 10.0
"""How often a log file, which no bar can be drawn in, is told how far the batch is."""
_SHOWN = 3


@dataclass(frozen=True)
class Options:
    """The command's options, as they were given."""

    source: str
    out: Path
    field: str | None = None
    profile: str = "mini"
    target: str | None = None
    engine: str = "auto"
    concurrency: int | None = None
    n: int = 1
    select: str | None = None
    judge: bool = False
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


def enhance(options: Options) -> None:
    """Raises RedraftError, or typer.Exit: 130 where it is interrupted, 3 where rows failed."""
    source = open_source(options.source, options.field, options.split)
    check_output(options.out, source)
    if Path(options.source).is_file() and options.out.exists() and options.out.samefile(options.source):
        raise InputError(f"{options.out} is the input; give the output another name")
    shard = Shard() if options.shard is None else Shard.parse(options.shard)
    engine = _engine_name(options.engine)
    profile = load_profile(options.profile)
    with stdout_for_results() as stdout:
        kit = open_kit(
            profile.rewriter,
            target=options.target,
            engine=engine,
            concurrency=options.concurrency,
            n=options.n,
            workers=options.workers,
        )
        how, selector = _selector(options, profile, kit.engine)
        columns = own_columns(kit.target, thought=options.thought, n=options.n, scored=selector is not None)
        plan = BatchPlan({**kit.settings, "select": how}, columns, options.seed, shard, options.limit)
        if options.dry_run:
            _dry_run(options, source, plan, kit, stdout)
            return
        maker = Maker(kit.rewriter, plan.keys, n=options.n, selector=selector)
        counts = _work(options, source, plan, kit, maker)
        _report(options, counts, kit, stdout)
    if counts.statuses[Status.FAILED]:
        sys.stderr.write(
            f"error: the model or server failed on {counts.statuses[Status.FAILED]} rows, the last time because: "
            f"{printable(counts.error)}\nto try them again, run the same command again\n"
        )
        raise typer.Exit(3)


def _work(options: Options, source: InputTable, plan: BatchPlan, kit: Kit, maker: Maker) -> Counts:
    folder = options.work or work_path(options.out)

    async def work(opened: WorkFolder, view: _View) -> Counts:
        try:
            window = max(1, -(-kit.engine.window // options.n))
            return await run_batch(source, options.out, opened, plan, maker, window, view)
        finally:
            await kit.aclose()

    with _View(source) as view, WorkFolder(folder, plan.shard, fresh=not options.resume) as opened:
        try:
            return asyncio.run(work(opened, view))
        except KeyboardInterrupt:
            view.__exit__()
            sys.stderr.write(f"\ninterrupted; go on with: {_again()}\n")
            sys.stderr.flush()
            leave_soon()
            raise typer.Exit(130) from None
        except RedraftError as error:
            raise type(error)(f"{error}\nwhen that is mended, go on with: {_again()}") from error


def _again() -> str:
    return shlex.join(["redraft", *(argument for argument in sys.argv[1:] if argument != "--no-resume")])


def _engine_name(name: str) -> EngineName:
    for known in ENGINES:
        if name == known:
            return known
    raise InputError(f"--engine {name!r}: there are {', '.join(ENGINES)}")


def _selector(options: Options, profile: Profile, engine: BatchEngine) -> tuple[object, Selector | None]:
    """Its settings, and the selector; None where the first candidate is taken."""
    if options.judge and options.select is not None:
        raise InputError("--judge and --select both pick a candidate; give one of them")
    if options.select is not None:
        return options.select, ScoreSelector(load_scorer(options.select))
    if not options.judge:
        return None, None
    from agent.enhance_judge import open_judging

    return open_judging(profile, engine)


def _dry_run(options: Options, source: InputTable, plan: BatchPlan, kit: Kit, stdout: TextIO) -> None:
    """Reads the whole input and asks no model."""
    counts, folder = Counts(), options.work or work_path(options.out)
    with ExitStack() as exits:
        if not folder.is_dir():
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        work = exits.enter_context(WorkFolder(folder, plan.shard))
        todo = fresh_prompts(source, work, plan, counts)
        first = [prompt for _, prompt in islice(todo, _SHOWN)]
        for _ in todo:
            pass
    seed = plan.keys.seed(plan.keys.key(first[0])) if first else 0
    request = kit.rewriter.asking.first(first[0], 0, seed) if first else None
    value: dict[str, Any] = {
        "dry_run": True,
        "rows": counts.rows,
        "rejects": counts.rejects,
        "already_done": counts.reused,
        "to_rewrite": counts.prompts,
        "columns": list(plan.own),
        "model": kit.engine.name,
        "target": None if kit.target is None else kit.target.name,
        "first": first,
        "messages": [] if request is None else [{"role": m.role, "content": m.content} for m in request.messages],
    }
    if options.as_json:
        write_json(value, stdout)
        return
    console = open_console(stdout)
    console.print(f"{counts.rows:,} rows, of them {counts.prompts:,} prompts to rewrite, {counts.reused:,} rows done")
    console.print(f"{counts.rejects:,} rows cannot be used")
    console.print(f"model {escape(kit.engine.name)}, target {escape(str(value['target']))}")
    for message in value["messages"]:
        console.print(f"[bold]{message['role']}[/]\n{escape(str(message['content']))}", soft_wrap=True, emoji=False)


def _report(options: Options, counts: Counts, kit: Kit, stdout: TextIO) -> None:
    value = summary(options, counts, kit)
    if options.as_json:
        write_json(value, stdout)
        return
    console = open_console(stdout)
    told = ", ".join(f"{value[status]:,} {status}" for status in Status if value[status]) or "no rows"
    console.print(f"{value['rows']:,} rows in {value['seconds']:.1f} s: {told}", soft_wrap=True)
    if value["reused"]:
        console.print(f"of them {value['reused']:,} had been done before")
    console.print(f"output   {escape(value['out'])}", soft_wrap=True)
    if counts.rejects:
        console.print(f"rejects  {escape(value['rejects'])} ({counts.rejects:,} rows)", soft_wrap=True)
    console.print(f"work     {escape(value['work'])} (kept, so that another run asks only what is new)", soft_wrap=True)
    if kit.target is not None and not kit.target.counts:
        console.print(f"tokens for {escape(kit.target.name)} were estimated: its tokenizer is not on this machine")


def summary(options: Options, counts: Counts, kit: Kit) -> dict[str, Any]:
    """What `enhance --json` prints. Counts are rows of the output; `prompts` and `tokens` are this run's work."""
    return {
        "out": str(options.out),
        "rows": counts.rows,
        **{status.value: counts.statuses[status] for status in Status},
        "rejected": counts.rejects,
        "rejects": str(rejects_path(options.out)) if counts.rejects else None,
        "reused": counts.reused,
        "prompts": counts.prompts,
        "tokens": counts.tokens,
        "seconds": round(counts.seconds, 3),
        "rows_per_s": round(counts.rows / counts.seconds, 1) if counts.seconds else None,
        "model": kit.engine.name,
        "target": None if kit.target is None else kit.target.name,
        "counted_tokens": kit.target is not None and kit.target.counts,
        "seed": options.seed,
        "work": str(options.work or work_path(options.out)),
    }


class _View:
    """How far the batch is, on stderr: a bar in a terminal, a line now and then elsewhere."""

    def __init__(self, source: InputTable) -> None:
        self._source = source
        self._console = open_console(sys.stderr)
        self._live = self._console.is_terminal
        self._told = self._started = time.monotonic()
        self._phase = ""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("rewriting", total=source.total, told="")

    def __enter__(self) -> _View:
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
            done, what = counts.done, "prompts"
        rate = done / max(now - self._started, 1e-9)
        told = f"{done:,} {what}, {rate:,.0f}/s{_troubles(counts)}"
        if self._live:
            self._bar.update(self._task, completed=self._source.done, told=told)
        elif now - self._told >= _PLAIN_S:
            self._told = now
            self._console.print(f"{counts.phase}: {told}{self._share()}", soft_wrap=True)

    def _share(self) -> str:
        return f", {self._source.done / self._source.total:.0%} of the input" if self._source.total else ""


def _troubles(counts: Counts) -> str:
    made: Counter[Status] = counts.made if counts.phase == "rewriting" else counts.statuses
    parts = [f"{made[status]:,} {status}" for status in (Status.REPAIRED, Status.KEPT, Status.FAILED) if made[status]]
    return "".join(f", {part}" for part in parts)
