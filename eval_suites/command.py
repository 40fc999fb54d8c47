"""`redraft eval`: one command for every suite. stdout holds the result and nothing else, as with the other commands."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from eval_suites.registry import list_suites, load_suite
from eval_suites.report import table_lines
from eval_suites.runner import EvalOptions, Evaluation, check_options

app = typer.Typer(
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def evaluate(
    suite: Annotated[str | None, typer.Argument(help="Name of the suite; without one, the suites are listed.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The benchmark's files: a folder or a file.")] = None,
    profile: Annotated[str, typer.Option("--profile", help="Built-in profile or path to a .toml file.")] = "mini",
    images: Annotated[
        int | None,
        typer.Option("--images", min=1, help="Pictures per prompt; the benchmark's own number if not given."),
    ] = None,
    rewriter: Annotated[
        str, typer.Option("--rewriter", help="none, own, or a profile whose rewriter is used instead.")
    ] = "own",
    best: Annotated[
        bool, typer.Option("--best/--no-best", help="Also measure the best of --images by the judge.")
    ] = True,
    loop: Annotated[
        bool | None, typer.Option("--loop/--no-loop", help="Also measure the loop, with at most --images pictures.")
    ] = None,
    report_profile: Annotated[
        str | None, typer.Option("--report-profile", help="Profile whose judge reports; --profile's own if not given.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", help="Judge the pictures in this folder, in the benchmark's layout, and draw none."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Measure only this many items, evenly spread.")
    ] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="Which part of the benchmark.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all pictures.")] = 0,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="pointwise, pairwise, likert, words; for edits: editscore, viescore, editreward, digit, checks; "
            "for cutouts-search: first, without second looks.",
        ),
    ] = None,
    second_profile: Annotated[
        str | None, typer.Option("--second-profile", help="Profile with a second judge, to see whether both agree.")
    ] = None,
    passes: Annotated[int, typer.Option("--passes", min=1, help="How often a judge is asked about each pair.")] = 1,
    tie: Annotated[float, typer.Option("--tie", min=0, help="Margins up to this count as a tie.")] = 0.0,
    attacks: Annotated[
        bool,
        typer.Option(
            "--attacks/--no-attacks", help="Test whether writing in pictures or wordy prompts sway the judge."
        ),
    ] = True,
    both_orders: Annotated[
        bool, typer.Option("--both-orders/--one-order", help="Ask a pairwise judge in both orders.")
    ] = True,
    tables: Annotated[
        Path | None, typer.Option("--tables", help="Folder for the suite's own tables, if it has any.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; the same command resumes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object on stdout.")] = False,
) -> None:
    """Measure what rewriting and looping gain on a benchmark, or whether a judge deserves trust."""
    if suite is None:
        sys.stdout.write(list_suites())
        return
    options = EvalOptions(
        data=data,
        profile=profile,
        images=images,
        rewriter=rewriter,
        best=best,
        loop=loop,
        report_profile=report_profile,
        pictures=pictures,
        limit=limit,
        variant=variant,
        seed=seed,
        judge=judge,
        second_profile=second_profile,
        passes=passes,
        tie=tie,
        attacks=attacks,
        both_orders=both_orders,
        tables=tables,
    )
    chosen = load_suite(suite)
    check_options(chosen, options)
    folder = out or Path("runs") / "eval" / f"{suite}-{Path(profile).stem}"
    with contextlib.redirect_stdout(sys.stderr):  # model libraries that print must not end up inside the result
        evaluation = Evaluation(chosen, options, folder)
        figures = chosen.run(evaluation)
    if as_json:
        sys.stdout.write(json.dumps(figures, ensure_ascii=False, indent=2) + "\n")
    else:
        _print_report(evaluation, figures)


def _print_report(evaluation: Evaluation, figures: Mapping[str, Any]) -> None:
    """What is measured, the first table of the report, and where the rest is."""
    console = Console(highlight=False, markup=False)
    console.print(figures["measure"], soft_wrap=True)
    table = evaluation.sections[0].table if evaluation.sections else None
    for line in [] if table is None else table_lines(table):
        console.print(line, soft_wrap=True)
    console.print(f"report  {evaluation.out / 'report.html'}", soft_wrap=True)


def main(arguments: Sequence[str]) -> None:
    """Runs the command on its arguments. Raises RedraftError, and typer.Exit if it is interrupted."""
    code = app(list(arguments), prog_name="redraft eval", standalone_mode=False)
    if code:
        raise typer.Exit(code)
