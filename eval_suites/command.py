"""`redraft eval`: one command for every suite. stdout holds the result and nothing else, as with the other commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from core.errors import InputError
from eval_suites import registry

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(context_settings={"help_option_names": ["--help"]})
def evaluate(
    suite: Annotated[str | None, typer.Argument(help="Which suite; without one, lists them.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The benchmark's files: a folder or a file.")] = None,
    profile: Annotated[str, typer.Option("--profile", help="Built-in profile or path to a .toml file.")] = "mini",
    report_profile: Annotated[
        str | None,
        typer.Option("--report-profile", help="Profile whose judge answers the questions; else the system's own."),
    ] = None,
    rewriter: Annotated[
        str, typer.Option("--rewriter", help="none, own, or a profile whose rewriter is used instead.")
    ] = "own",
    best: Annotated[bool, typer.Option("--best/--no-best", help="Also the best of --images by the judge.")] = True,
    loop: Annotated[bool, typer.Option("--loop", help="Also the loop, with at most --images pictures.")] = False,
    images: Annotated[int | None, typer.Option("--images", min=1, help="Pictures a prompt; the suite's own.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many prompts, evenly spread.")] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="Which part of the benchmark.")] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Judge pictures that are here in the benchmark's layout.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of all pictures.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; a second call goes on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as one JSON object on stdout.")] = False,
) -> None:
    """Measure what rewriting and looping gain on a benchmark."""
    if suite is None:
        sys.stdout.write(registry.listing())
        return
    chosen = registry.suite(suite)
    if data is None:
        raise InputError(f"{suite} needs --data, the files from {chosen.source}; redraft ships no benchmark's data")
    options = {
        "data": data, "profile": profile, "report_profile": report_profile, "rewriter": rewriter, "best": best,
        "loop": loop, "images": images, "limit": limit, "variant": variant, "pictures": pictures, "seed": seed,
    }  # fmt: skip
    folder = out or Path("evals") / f"{suite}-{Path(profile).stem}"
    with contextlib.redirect_stdout(sys.stderr):  # model libraries that print must not end up inside the result
        figures = run_generation(chosen, options, folder)
    if as_json:
        sys.stdout.write(json.dumps(figures, ensure_ascii=False, indent=2) + "\n")
        return
    from eval_suites.report import percent

    console = Console(highlight=False)
    console.print(figures["measure"], soft_wrap=True)
    for row in figures["conditions"].values():
        told = percent(row["value"])
        console.print(f"{row['title']:<28} {told:<22} {row['failed_answers']} of {row['answers']} answers failed")
    console.print(f"report  {folder / 'report.html'}", soft_wrap=True)


def run_generation(suite: Any, options: dict[str, Any], out: Path) -> dict[str, Any]:
    """Runs a suite of pictures to its end and returns its figures. Raises RedraftError."""
    from agent.types import Limits
    from agent.wiring import open_evaluator, open_parts
    from core.profiles import load_profile
    from core.store import ImageStore
    from eval_suites.book import opened
    from eval_suites.conditions import Condition, Reporter, Work, conditions, missing
    from eval_suites.report import gallery, write_report
    from eval_suites.runner import cost, data_settings, evaluate, failures, lay_out, spread
    from eval_suites.summary import summary
    from rewriter.limits import clean_prompt

    console = Console(stderr=True, highlight=False)
    variant = options["variant"] or suite.variants[0]
    if variant not in suite.variants:
        raise InputError(f"{suite.name} has no variant {variant!r}; there are {', '.join(suite.variants)}")
    data = suite.load(options["data"], variant)
    items = [replace(item, prompt=clean_prompt(item.prompt)) for item in spread(data.items, options["limit"])]
    images = options["images"] or suite.images
    profile = load_profile(options["profile"])
    if options["rewriter"] not in ("none", "own"):
        profile = profile.model_copy(update={"rewriter": load_profile(options["rewriter"]).rewriter})
    reporting = load_profile(options["report_profile"]) if options["report_profile"] else profile
    if options["pictures"] is not None:
        rows = [Condition("given", f"pictures of {options['pictures']}", images, images)]
        missing(options["pictures"], suite, items, images)
    else:
        rows = conditions(images, rewriter=options["rewriter"] != "none", best=options["best"], loop=options["loop"])
    settings = {
        "suite": suite.name,
        "variant": variant,
        "data": data_settings(data),
        "prompts": len(items),
        "images": images,
        "seed": options["seed"],
        "conditions": [row.name for row in rows],
        "profile": profile.model_dump(mode="json"),
        "report_profile": reporting.model_dump(mode="json") if reporting is not profile else None,
    }
    with opened(out, settings) as book:
        with console.status("opening the models"):
            parts = open_parts(profile)
            reporter = Reporter("own", parts.evaluator, parts.builder)
            if reporting is not profile:
                builder, evaluator = open_evaluator(reporting)
                reporter = Reporter(f"report: {reporting.name}", evaluator, builder)
        work = Work(
            suite=suite,
            parts=parts,
            reporter=reporter,
            limits=Limits.of(profile.limits, profile.judge.pass_at),
            book=book,
            store=ImageStore(out / "state" / "images"),
            out=out,
            images=images,
            seed=options["seed"],
            given=options["pictures"],
        )
        pass_at = reporting.judge.pass_at
        try:
            with Progress(console=console) as progress:
                bars = {row.name: progress.add_task(row.title, total=len(items)) for row in rows}
                results = asyncio.run(evaluate(work, items, rows, lambda name: progress.advance(bars[name])))
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on")
            raise typer.Exit(130) from None
        finally:
            parts.close()
        lay_out(work, suite, items, rows, results)
        figures = {
            "measure": f"{suite.title}: {suite.measure}",
            "title": suite.title,
            "official": suite.official,
            "source": suite.source,
            "licence": suite.licence,
            "value_name": suite.value_name,
            "notes": _notes(data.notes, items, data.items, rows, reporting is profile, failures(results)),
            "items": len(items),
            **summary(suite, items, rows, results, pass_at),
            "cost": cost(work),
            "models": dict(parts.names),
            "command": _command(suite.name, options, out),
            "settings": settings,
        }
        write_report(out, figures, gallery(suite, items, rows, results, work.store, pass_at))
    return figures


def _notes(
    told: Sequence[str],
    items: Sequence[Any],
    every: Sequence[Any],
    rows: Sequence[Any],
    same_judge: bool,
    failed: Any,
) -> list[str]:
    notes = list(told)
    if len(items) < len(every):
        notes.append(f"{len(items):,} of {len(every):,} prompts, evenly spread over the file.")
    chosen = [row.title for row in rows if row.name in ("raw_best", "rewritten_best", "loop")]
    if chosen and same_judge:
        notes.append(
            f"One judge both chose and reports: {'; '.join(chosen)} look better than they are. "
            "Report with another by --report-profile."
        )
    for name, items_failed in failed.items():
        if items_failed:
            first = next(iter(items_failed.values()))
            notes.append(
                f"{len(items_failed)} prompts failed under {name}; the same command tries them again. First: {first}"
            )
    return notes


def _command(suite: str, options: dict[str, Any], out: Path) -> str:
    words = ["redraft", "eval", suite]
    defaults = {"profile": "mini", "rewriter": "own", "best": True, "loop": False, "seed": 0}
    for name, value in options.items():
        if value is None or value == defaults.get(name):
            continue
        option = f"--{name.replace('_', '-')}"
        words += ["--no-best"] if name == "best" else [option] if value is True else [option, str(value)]
    return shlex.join([*words, "--out", str(out)])


def main(arguments: Sequence[str]) -> None:
    """Runs the command on its arguments; raises RedraftError and typer.Exit."""
    code = app(list(arguments), prog_name="redraft eval", standalone_mode=False)
    if code:
        raise typer.Exit(code)
