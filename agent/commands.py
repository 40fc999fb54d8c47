"""What the commands of `agent.cli` do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import typer

from agent.chat.conversation import LOG, read_profile
from agent.events import Event, NeedsAnswer
from agent.models import Models, open_models
from agent.run import Run, RunResult, choose_result
from agent.runfolder import RunFolder, best_score, last_run, list_runs, require_writable
from agent.terminal import (
    LiveView,
    escape,
    leave_soon,
    open_console,
    stdin_is_a_person,
    stdout_for_results,
    verdict_lines,
    write_json,
)
from agent.types import Answer, StopReason, passes
from evaluator.reward import case_of, open_evaluator
from evaluator.types import Outcome, Report
from redraft.errors import BackendError, ConfigError, InputError, one_line, printable
from redraft.gpu import find_gpu_gb, require_memory
from redraft.images import open_image, open_mask
from redraft.options import DrawOptions
from redraft.profiles import Profile, builtin_profiles, load_profile, read_stored_profile
from redraft.trust import Untrusted, grant
from redraft.weights import find_weights, get_weights
from rewriter.guard import detect_language
from rewriter.request import clean_request


def draw(
    request: str,
    *,
    profile_name: str,
    out: Path | None,
    options: Mapping[str, object],
    references: Sequence[Path] = (),
    n: int = 1,
    ask: bool,
    as_json: bool,
    opens: bool = False,
) -> None:
    """`redraft draw`. `options`: fields of `DrawOptions`. Raises RedraftError, or typer.Exit(130) if it is interrupted."""
    request, chosen = clean_request(request), DrawOptions.read(options)
    profile = load_profile(profile_name).searching(chosen.search)
    profile.pixels(chosen)
    start = functools.partial(
        Run.start,
        request,
        limits=profile.limits,
        out=_runs_folder(profile, out),
        profile=profile,
        references=[open_image(path) for path in references],
        ask=ask,
    )
    editing = chosen.limits(profile.limits).edit_draws
    _follow_to_end(start, profile, chosen, n=n, ask=ask, as_json=as_json, opens=opens, editing=editing)


def edit(
    image: Path,
    instruction: str,
    *,
    mask: Path | None,
    profile_name: str,
    out: Path | None,
    options: Mapping[str, object],
    references: Sequence[Path] = (),
    n: int = 1,
    ask: bool,
    as_json: bool,
    opens: bool = False,
) -> None:
    """`redraft edit`. Raises as `draw` does."""
    instruction, chosen = clean_request(instruction, kind="instruction"), DrawOptions.read(options)
    picture = open_image(image)
    marked = None if mask is None else open_mask(mask, picture.size)
    profile = load_profile(profile_name).searching(chosen.search, editing=True)
    profile.pixels(chosen, picture.size)
    if profile.editor is None:
        raise ConfigError(f"the profile {profile.name!r} has no [editor]; add one, or choose another profile")
    start = functools.partial(
        Run.start,
        instruction,
        limits=profile.limits,
        out=_runs_folder(profile, out),
        profile=profile,
        references=[open_image(path) for path in references],
        ask=ask,
        source=picture,
        mask=marked,
    )
    _follow_to_end(start, profile, chosen, n=n, ask=ask, as_json=as_json, opens=opens)


def read_request(request: str | None, stdin: Callable[[], str] | None = None) -> str:
    """The request of `redraft draw REQUEST`; of `redraft draw -`, what stands on stdin. Raises InputError."""
    if request is None:
        raise InputError(
            'say what to draw, such as redraft draw "a red star"; "-" reads it from stdin, --prompts a file'
        )
    if request != "-":
        return request
    try:
        return (stdin or sys.stdin.read)()
    except UnicodeDecodeError as error:
        raise InputError(f"what came on stdin is not UTF-8 text ({error})") from None


def _runs_folder(profile: Profile, out: Path | None) -> Path:
    folder = Path(profile.runs) if out is None else out
    require_writable(folder)
    return folder


def _follow_to_end(
    start: Callable[..., Run],
    profile: Profile,
    options: DrawOptions | None = None,
    *,
    n: int = 1,
    ask: bool,
    as_json: bool,
    opens: bool = False,
    editing: bool = True,
) -> None:
    """Opens the models, starts a run with them as `models` (with options, n runs from seeds in a row), and reports how it
    ended. `opens`: shows the best picture of each in the system's viewer."""
    if ask:
        _require_a_person()
    with stdout_for_results() as stdout, contextlib.closing(_load(profile, editing=editing)) as models:
        results: list[RunResult] = []
        for each in [None] if options is None else options.with_seeds(n):
            run = start(models=models) if each is None else start(models=models, options=each)
            if profile.description and not results:
                open_console(sys.stderr).print(
                    f"[dim]{escape(f'{profile.name}: {profile.description}')}[/]", soft_wrap=True
                )
            results.append(_follow(run))
            _require_finished(results[-1])
            if not as_json:
                _report(results[-1], stdout)
            if opens and (image := results[-1].image) is not None and typer.launch(str(image)):
                sys.stderr.write(printable(f"warning: no program here opens pictures: {image}\n"))
        if as_json:
            _write_results(results, stdout)


def resume(run_dir: Path | None, *, last: bool, out: Path, as_json: bool) -> None:
    """`redraft resume`. Raises as `draw` does."""
    if last == (run_dir is not None):
        raise InputError("name the folder of one run, or give --last")
    folder = RunFolder.open(last_run(out) if run_dir is None else run_dir)
    run_dir, (record, _) = folder.path, folder.recover_record()
    if record.get("profile") is None:
        raise InputError(f"{run_dir} was started from Python with its own models; resume it there, with Run.open")
    profile = read_stored_profile(record["profile"], run_dir)
    with contextlib.suppress(InputError):  # of a run in a folder that cannot be written
        folder.note_last()
    _follow_to_end(functools.partial(Run.open, run_dir), profile, ask=bool(record.get("ask")), as_json=as_json)


def runs(out: Path, *, as_json: bool) -> None:
    """`redraft runs`."""
    records = list_runs(out, lambda sentence: typer.echo(f"warning: {printable(sentence)}", err=True))
    if as_json:
        rows = [{name: record[name] for name in ("run", "created", "request", "stop")} for record in records]
        for row, record in zip(rows, records, strict=True):
            row["score"] = best_score(record)
        write_json({"folder": str(out), "runs": rows}, sys.stdout)
        return
    console = open_console(sys.stdout)
    if not records:
        console.print(f"there are no runs in {escape(str(out))}", soft_wrap=True)
        return
    console.print(f"{'when':<16}  {'stop':<12}  score  request")
    for record in records:
        score = best_score(record)
        when, stop = record["created"][:16].replace("T", " "), record["stop"] or "not finished"
        line = f"{when:<16}  {stop:<12}  {'' if score is None else f'{score:.2f}':<5}  {one_line(record['request'])}"
        console.print(escape(line), soft_wrap=True)
        console.print(f"{'':<16}  {escape(str(out / record['run']))}", style="dim", soft_wrap=True)


def judge(image: Path, request: str, *, profile_name: str, as_json: bool) -> None:
    """`redraft judge`. Raises BackendError if the judge could not answer a single check."""
    from evaluator.frames import Clip, is_video, judge_frames, read_frames

    request = clean_request(request)
    clip = read_frames(image) if is_video(image) else Clip((open_image(image),), (0,), 1)
    profile = load_profile(profile_name)
    with stdout_for_results() as stdout:
        make_checklist, reward = open_evaluator(profile, detect_language=detect_language)
        warnings: tuple[str, ...] = ()

        async def work() -> Report:
            nonlocal warnings
            checklist = await make_checklist(request)
            warnings = checklist.warnings
            return await judge_frames(reward, case_of(request, checklist), clip)

        try:
            report = asyncio.run(work())
        except KeyboardInterrupt:
            leave_soon()
            raise
        if report.score is None and report.failed:
            reasons = [v.reason for v in report.verdicts if v.outcome is Outcome.FAILED and v.reason]
            raise BackendError(f"the judge could not score the picture: {reasons[0] if reasons else 'no answer'}")
        stderr = open_console(sys.stderr)
        for warning in warnings:
            stderr.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
        if as_json:
            write_json(judged_json(report), stdout)
        else:
            console = open_console(stdout)
            console.print(f"score {'none' if report.score is None else f'{report.score:.2f}'}")
            if report.unchecked:
                console.print(f"unchecked  {escape(', '.join(report.unchecked))}", soft_wrap=True)
            for line in verdict_lines(report, profile.limits.pass_at):
                console.print(line, soft_wrap=True, emoji=False)
            for line in report.reading_lines():
                console.print(escape(line), soft_wrap=True, emoji=False)


def export(
    kind: str,
    source: Path,
    out: Path,
    *,
    margin: float,
    sure: float,
    share: float,
    accept_at: float,
    profile_name: str | None,
    as_json: bool,
) -> None:
    """`redraft export`. Raises InputError, and with a profile BackendError."""
    from agent.export import ExportOptions, export_judged, export_runs

    options = ExportOptions(margin=margin, sure=sure, share=share, accept_at=accept_at)
    if profile_name is None:
        exported = export_runs(kind, source, out, options)
    else:
        with stdout_for_results():
            exported = export_judged(kind, source, out, load_profile(profile_name), options)
    for name, why in exported.skipped.items():
        open_console(sys.stderr).print(escape(f"left out {name}: {why}"), soft_wrap=True)
    if as_json:
        summary = {"kind": kind, "out": str(exported.out), "rows": exported.rows, "runs": exported.runs}
        write_json(summary | {"skipped": dict(exported.skipped)}, sys.stdout)
        return
    text = f"{exported.rows:,} rows from {exported.runs:,} {'conversations' if kind == 'implicit' else 'runs'}: {exported.out}"
    open_console(sys.stdout).print(escape(text), soft_wrap=True)


def profiles() -> None:
    """`redraft profiles`: each with what it is for and its file, to be copied and changed."""
    console = open_console(sys.stdout)
    for name, path in builtin_profiles().items():
        profile = load_profile(name)
        console.print(f"[bold]{escape(name)}[/]  {escape(profile.description)}", soft_wrap=True)
        console.print(f"    can {', '.join(profile.abilities())}{escape(_what_is_missing(profile))}", soft_wrap=True)
        console.print(f"    {escape(str(path))}", soft_wrap=True)
    console.print("\nFor one of your own, copy a file, change it, and give its path: --profile ./mine.toml")


def _what_is_missing(profile: Profile) -> str:
    """What has to be fetched before its rewriter can be used, for the list of profiles."""
    missing = find_weights(profile.rewriter.model.model) is None
    return f"; fetch it first: redraft get {profile.name}" if missing else ""


def get(name: str) -> None:
    """`redraft get`: says each thing that it does on stderr, and on stdout where the weights are. Raises RedraftError, or
    typer.Exit(130) if it is interrupted."""
    console = open_console(sys.stderr)
    try:
        place = get_weights(name, lambda line: console.print(escape(line), soft_wrap=True))
    except KeyboardInterrupt:
        sys.stderr.write(f"\ninterrupted; continue with: redraft get {shlex.quote(name)}\n")
        raise typer.Exit(130) from None
    sys.stdout.write(f"{place}\n")


def trust(place: Path) -> None:
    """`redraft trust`: grants what the profile in a file, a run's or a conversation's folder demands."""
    try:
        if place.suffix == ".toml":
            load_profile(str(place.absolute()))
        elif (place / LOG).is_file():
            read_profile(place.absolute().parent, place.absolute().name)
        elif (profile := RunFolder.open(place).read_record().get("profile")) is not None:
            read_stored_profile(profile, place)
    except Untrusted as error:
        grant(error.demands)
        for demand in error.demands:
            sys.stdout.write(f"granted: {printable(str(demand))}\n")
        return
    sys.stdout.write(f"{printable(str(place))} demands nothing that is not granted\n")


def ask_for_trust(error: Untrusted) -> bool:
    """Asks the person at the terminal, if there is one, to grant what a stranger's profile demands."""
    if not stdin_is_a_person():
        return False
    wanted = "".join(f"  {demand}\n" for demand in error.demands)
    sys.stderr.write(printable(f"{error.place} is not known to be yours, and would\n{wanted}Do you trust it? [y/N] "))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        return False
    grant(error.demands)
    return True


def drawn_json(result: RunResult) -> dict[str, Any]:
    """What `draw`, `edit` and `resume` print with --json. `prompt` and `checks` are those of the best picture.

    `unchecked`: the words of the request that no check asks about; with any of them `accepted` is false, also if the user
    took the picture.
    """
    best = result.best_attempt
    return {
        "run": str(result.folder),
        "stop": result.stop.value,
        "score": None if best is None else best.score,
        "accepted": result.stop is StopReason.ACCEPTED,
        "unchecked": list(result.unchecked),
        "warnings": list(result.warnings),
        "request": result.request,
        "prompt": None if best is None else best.prompt,
        "image": None if result.image is None else str(result.image),
        "rounds": max((attempt.round for attempt in result.attempts), default=0),
        "images": len(result.attempts),
        "seed": result.seed,
        "trace": str(result.trace),
        "checks": [] if best is None else best.report.check_rows(),
        "attempts": [
            {
                "round": attempt.round,
                "kind": attempt.kind,
                "prompt": attempt.prompt,
                "seed": attempt.seed,
                "score": attempt.score,
                "image": str(path),
                "parent": attempt.parent,
                "draft": attempt.draft,
            }
            for attempt, path in zip(result.attempts, result.images, strict=True)
        ],
        "readings": {} if best is None else best.report.reading_rows(),
    }


def judged_json(report: Report) -> dict[str, Any]:
    """What `judge --json` prints. `failed` counts the checks that the judge could not answer; `unchecked` are the words of
    the request that no check asks about."""
    return {
        "score": report.score,
        "failed": report.failed,
        "unchecked": list(report.unchecked),
        "checks": report.check_rows(),
        "readings": report.reading_rows(),
    }


def _load(profile: Profile, *, editing: bool = True) -> Models:
    console = open_console(sys.stderr)
    if (plan := require_memory(profile, find_gpu_gb())) is not None:
        console.print(f"[dim]GPU memory, by sums: {escape(str(plan))}[/]", soft_wrap=True)
    with console.status("opening the models"):
        return open_models(profile, editing=editing, conversing=False)


def _follow(run: Run) -> RunResult:
    """Runs to the end, passing the run's questions to the user. After Ctrl-C the run can be resumed."""
    folder = run.folder.path
    last: Event | None = None
    answer: Answer | None = None

    async def work() -> Event | None:
        event = None
        async for event in run.stream(answer):
            view.show(event)
        return event

    with LiveView(run.limits) as view, asyncio.Runner() as runner:
        try:
            while run.result is None:
                last = runner.run(work())
                if isinstance(last, NeedsAnswer):
                    answer = _answer()
        except (KeyboardInterrupt, EOFError):
            view.__exit__()
            sys.stderr.write(f"\ninterrupted; continue with: redraft resume {shlex.quote(str(folder))}\n")
            sys.stderr.flush()
            leave_soon()
            run.models.close()
            raise typer.Exit(130) from None
    return run.result


def _answer() -> Answer:
    words: dict[str, Answer] = {"a": "accept", "r": "again", "s": "stop"}
    while True:
        sys.stderr.write("[a]ccept it, another [r]ound, or [s]top? ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        word = line.strip().lower()[:1]
        if word in words:
            return words[word]


def _require_finished(result: RunResult) -> None:
    """Raises BackendError for a run that failed."""
    if result.stop is StopReason.FAILED:
        best = "" if result.image is None else f"\nthe best picture so far: {result.image}"
        again = f"redraft resume {shlex.quote(str(result.folder))}"
        raise BackendError(f"{result.error}{best}\nwhen that is mended, continue with: {again}")


def _write_results(results: Sequence[RunResult], stdout: TextIO) -> None:
    """One JSON object: of several runs that of the best, with all of them as `pictures`."""
    best = choose_result(results)
    pictures = {"pictures": [drawn_json(result) for result in best.pictures]} if best.pictures else {}
    write_json(drawn_json(best) | pictures, stdout)


def _report(result: RunResult, stdout: TextIO) -> None:
    console, best_attempt = open_console(stdout), result.best_attempt
    if best_attempt is None:
        console.print(f"{result.stop.value}: {escape(result.why)}", soft_wrap=True)
        return
    report = best_attempt.report
    applying = [v for v in report.verdicts if v.outcome is not Outcome.NOT_APPLICABLE]
    passed = sum(passes(v, result.limits.pass_at) for v in applying)
    score = "no score" if report.score is None else f"score {report.score:.2f}"
    console.print(f"\n[bold]{result.stop.value}[/]: {escape(result.why)}", soft_wrap=True)
    count = len(result.attempts)
    drawn = "1 picture" if count == 1 else f"{count} pictures"
    drafts = sum(attempt.draft for attempt in result.attempts)
    among = f" ({drafts} of them drafts)" if drafts else ""
    spent = f", {result.cost.steps} denoiser steps" if result.cost.steps else ""
    spent += f", {result.cost.seconds:.0f} s" if result.cost.seconds >= 1 else ""
    console.print(f"{score}, {passed} of {len(applying)} checks passed, {drawn} drawn{among}{spent}")
    if result.unchecked:
        console.print(f"unchecked {escape(', '.join(result.unchecked))}", soft_wrap=True)
    console.print(f"picture  {escape(str(result.image))}", soft_wrap=True)
    console.print(f"trace    {escape(str(result.trace))}", soft_wrap=True)


def _require_a_person() -> None:
    if not stdin_is_a_person():
        raise InputError("--ask needs someone to answer, but stdin is no terminal; run it in one or without --ask")
