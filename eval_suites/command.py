"""`redraft eval`: one command for every suite. stdout holds the result and nothing else, as with the other commands."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from eval_suites import registry
from redraft.errors import InputError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

_PICTURES, _JUDGES = "Suites of pictures", "Suites of judges and edits"
_DEFAULTS: Mapping[str, object] = {
    "profile": "mini", "rewriter": "own", "best": True, "loop": None, "seed": 0,
    "judge": None, "tie": 0.0, "passes": 1, "attacks": True, "both_orders": True,
}  # fmt: skip


@app.command()
def evaluate(
    suite: Annotated[str | None, typer.Argument(help="Which suite; without one, lists them.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The benchmark's files: a folder or a file.")] = None,
    profile: Annotated[str, typer.Option("--profile", help="Built-in profile or path to a .toml file.")] = "mini",
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Pictures a prompt; else the benchmark's own number.")
    ] = None,
    rewriter: Annotated[
        str, typer.Option("--rewriter", help="none, own, or a profile whose rewriter is taken instead.")
    ] = "own",
    best: Annotated[bool, typer.Option("--best/--no-best", help="Also the best of --images by the judge.")] = True,
    loop: Annotated[
        bool | None, typer.Option("--loop/--no-loop", help="Also the loop, with at most --images pictures.")
    ] = None,
    report_profile: Annotated[
        str | None, typer.Option("--report-profile", help="Profile whose judge reports; else the system's own.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Judge pictures that lie here in the benchmark's layout.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many items, evenly spread.")] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="Which part of the benchmark.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all pictures.")] = 0,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="pointwise, pairwise, likert, words; of edits: editscore, viescore, editreward, digit, checks.",
        ),
    ] = None,
    second_profile: Annotated[
        str | None, typer.Option("--second-profile", help="A second judge, to see whether both agree.")
    ] = None,
    passes: Annotated[int, typer.Option("--passes", min=1, help="Times that a judge is asked for each pair.")] = 1,
    tie: Annotated[float, typer.Option("--tie", min=0, help="Margin up to which a judge prefers none.")] = 0.0,
    attacks: Annotated[
        bool, typer.Option("--attacks/--no-attacks", help="Orders in pictures, wordy prompts: do they move the judge?")
    ] = True,
    both_orders: Annotated[
        bool, typer.Option("--both-orders/--one-order", help="Ask a pairwise judge in both orders.")
    ] = True,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; a second call goes on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as one JSON object on stdout.")] = False,
) -> None:
    """Measure what rewriting and looping gain on a benchmark, or whether a judge deserves trust."""
    options = {name: value for name, value in locals().items() if name not in ("suite", "out", "as_json")}
    if suite is None:
        sys.stdout.write(registry.listing())
        return
    folder = out or Path("runs") / "eval" / f"{suite}-{Path(profile).stem}"
    chosen = registry.suite(suite)
    if data is None and getattr(chosen, "needs_data", True):
        raise InputError(f"{suite} needs --data, the files from {chosen.source}; redraft ships no benchmark's data")
    names = ("data", "profile", "limit", "variant", *_fitting(suite))
    _refuse_others(suite, options, [name for name in names if _useful(chosen, name)])
    mine = {name: options[name] for name in names}
    command = command_line(suite, mine, folder)
    with contextlib.redirect_stdout(sys.stderr):  # model libraries that print must not end up inside the result
        if suite in registry.GENERATION:
            from eval_suites.generating import run_generation

            figures = run_generation(chosen, mine, folder, command)
        elif suite in registry.EDITING:
            from eval_suites.judging.command import run_editing

            figures = run_editing(chosen, mine, folder, command)
        else:
            from eval_suites.judging.command import run_judging

            figures = run_judging(chosen, mine, folder, command)
    if as_json:
        sys.stdout.write(json.dumps(figures, ensure_ascii=False, indent=2) + "\n")
    else:
        _tell(figures, folder)


def _fitting(suite: str) -> tuple[str, ...]:
    """The options that a suite of this kind takes, beside those that all take."""
    if suite in registry.GENERATION:
        return ("images", "rewriter", "best", "loop", "report_profile", "pictures", "seed")
    if suite in registry.EDITING:
        return ("judge", "pictures", "passes")
    return ("judge", "second_profile", "passes", "tie", "attacks", "both_orders")


def _useful(suite: Any, option: str) -> bool:
    """Whether this suite makes use of an option that others of its kind take."""
    if option == "data":
        return bool(getattr(suite, "needs_data", True))
    return option != "report_profile" or suite.reporter is None


def _refuse_others(suite: str, options: Mapping[str, object], names: Sequence[str]) -> None:
    others = [name for name, value in options.items() if name not in names and value != _DEFAULTS.get(name)]
    if others:
        wrong = ", ".join("--" + name.replace("_", "-") for name in others)
        raise InputError(
            f"{suite} has no use for {wrong}; it takes --{', --'.join(n.replace('_', '-') for n in names)}"
        )


def command_line(suite: str, options: Mapping[str, object], out: Path) -> str:
    """The command that repeats a run."""
    words = ["redraft", "eval", suite]
    for name, value in options.items():
        if value is None or value == _DEFAULTS.get(name):
            continue
        option = "--" + name.replace("_", "-")
        if value is False:
            words.append("--one-order" if name == "both_orders" else f"--no-{name}")
        else:
            words += [option] if value is True else [option, str(value)]
    return shlex.join([*words, "--out", str(out)])


def _tell(figures: Mapping[str, Any], folder: Path) -> None:
    from eval_suites.report import percent

    console = Console(highlight=False, markup=False)
    console.print(figures["measure"], soft_wrap=True)
    for row in figures.get("conditions", {}).values():
        told = percent(row["value"])
        console.print(f"{row['title']:<28} {told:<22} {row['failed_answers']} of {row['answers']} answers failed")
    if "accuracy" in figures:
        row = figures["accuracy"]
        console.print(f"accuracy {percent(row['with_ties'])}, {row['failed']} of {row['pairs']} pairs failed")
    if "ratings" in figures:
        console.print(f"Spearman {figures['ratings']['spearman']}, {figures['ratings']['failed']} pictures failed")
    if "edits" in figures:
        row = figures["edits"]["suite"]["all"]
        console.print(f"overall {percent(row['overall'])}, {row['failed']} of {row['edits']} edits failed")
    console.print(f"report  {folder / 'report.html'}", soft_wrap=True)


def main(arguments: Sequence[str]) -> None:
    """Runs the command on its arguments. Raises RedraftError, and typer.Exit where it is interrupted."""
    code = app(list(arguments), prog_name="redraft eval", standalone_mode=False)
    if code:
        raise typer.Exit(code)
