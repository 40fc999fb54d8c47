"""From the options of `redraft eval` to the figures and the report of a suite of pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress

from agent.models import open_models
from eval_suites.conditions import Answered, Condition, Reporter, Work, conditions, missing
from eval_suites.journal import open_journal
from eval_suites.report import gallery, write_report
from eval_suites.runner import Results, cost, data_settings, evaluate, failures, lay_out, spread
from eval_suites.summary import summary
from eval_suites.types import Data, Item, Suite
from evaluator.align import open_evaluator
from evaluator.types import Outcome
from redraft.errors import BackendError, InputError
from redraft.profiles import Profile, load_profile
from redraft.store import ImageStore
from rewriter.request import clean_request

FEW = 20
"""Fewer prompts than this, and the report says that its intervals mean little."""


_GRACE_S = 0.5
MANY = 0.1
"""More failed answers than this share, and the report says why."""


def chosen_variant(suite: Any, variant: str | None) -> str:
    """`variant`, or the suite's first. Raises InputError."""
    if variant is None:
        return str(suite.variants[0])
    if variant not in suite.variants:
        there = ", ".join(name for name in suite.variants if name) or "no models"
        raise InputError(f"{suite.name} has no part {variant!r}; there are {there}")
    return variant


def run_generation(suite: Suite, options: Mapping[str, Any], out: Path, command: str) -> dict[str, Any]:
    """Runs a suite of pictures to its end, writes its report, and returns its figures. Raises RedraftError, and
    typer.Exit(130) where it is interrupted. With a report in which no condition has a value it is a BackendError."""
    console = Console(stderr=True, highlight=False, markup=False)
    variant = chosen_variant(suite, options["variant"])
    data = loaded(suite, options, variant)
    items = [replace(item, prompt=clean_request(item.prompt)) for item in spread(data.items, options["limit"])]
    images: int = options["images"] or suite.images
    profile = load_profile(options["profile"])
    if options["rewriter"] not in ("none", "own"):
        profile = profile.model_copy(update={"rewriter": load_profile(options["rewriter"]).rewriter})
    reporting = load_profile(options["report_profile"]) if options["report_profile"] else None
    if options["pictures"] is not None:
        rows = [Condition("given", f"pictures of {options['pictures'].name}", images, images)]
        missing(options["pictures"], suite, items, images)
    else:
        loop = suite.loop if options["loop"] is None else options["loop"]
        rows = conditions(images, rewriter=options["rewriter"] != "none", best=options["best"], loop=loop)
    settings = {
        "suite": suite.name,
        "part": variant,
        "data": data_settings(data),
        "prompts": len(items),
        "images": images,
        "seed": options["seed"],
        "conditions": [row.name for row in rows],
        "pictures": None if options["pictures"] is None else str(options["pictures"]),
        "profile": profile.model_dump(mode="json"),
        "report_profile": None if reporting is None else reporting.model_dump(mode="json"),
    }
    with open_journal(out, settings) as journal:
        with console.status("opening the models"):
            models = open_models(profile)
            reporter = suite.reporter or Reporter("own", models.evaluator, models.checklist_maker)
            if reporting is not None:
                builder, evaluator = open_evaluator(reporting)
                reporter = Reporter(f"report: {reporting.name}", evaluator, builder)
        work = Work(
            suite=suite,
            models=models,
            reporter=reporter,
            limits=profile.limits,
            journal=journal,
            store=ImageStore(out / "state" / "images"),
            out=out,
            images=images,
            seed=options["seed"],
            given=options["pictures"],
        )
        pass_at = (reporting or profile).limits.pass_at
        try:
            with Progress(console=console) as progress:
                bars = {row.name: progress.add_task(row.title, total=len(items)) for row in rows}
                results, more = asyncio.run(_all(work, items, rows, lambda name: progress.advance(bars[name])))
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on")
            raise typer.Exit(130) from None
        finally:
            models.close()
        lay_out(work, suite, items, rows, results)
        figures = {
            "measure": f"{suite.title}: {suite.measure}",
            "title": suite.title,
            "official": suite.official,
            "source": suite.source,
            "licence": suite.licence,
            "value_name": suite.value_name,
            "notes": notes(suite, data, items, rows, reporting, results),
            "prompts": len(items),
            **summary(suite, items, rows, results, pass_at),
            "sections": [],
            **more,
            "cost": cost(work),
            "models": dict(models.names),
            "command": command,
            "settings": settings,
        }
        page = write_report(out, figures, gallery(suite, items, rows, results, work.store, pass_at))
    if all(row["value"] is None for row in figures["conditions"].values()):
        raise BackendError(f"nothing could be measured: {_first_failure(results)}; {page} has the rest")
    return figures


def loaded(suite: Suite, options: Mapping[str, Any], variant: str) -> Data:
    """The suite's items, read or made. Raises InputError."""
    if suite.sample is not None:
        return suite.sample(options["limit"], options["seed"])
    assert suite.load is not None, "a suite reads its prompts or makes them"
    return suite.load(options["data"], variant)


async def _all(
    work: Work, items: Sequence[Item], rows: Sequence[Condition], done: Callable[[str], None]
) -> tuple[Results, Mapping[str, Any]]:
    """Every condition on every item, and the suite's own further figures."""
    try:
        results = await evaluate(work, items, rows, done)
        more = work.suite.more
        return results, {} if more is None else await more(work, items, results)
    except asyncio.CancelledError:
        # The loops' databases are closed by threads of their own, which report to this event loop.
        await asyncio.sleep(_GRACE_S)
        raise


def notes(
    suite: Suite,
    data: Data,
    items: Sequence[Item],
    rows: Sequence[Condition],
    reporting: Profile | None,
    results: Results,
) -> list[str]:
    """What a reader must know to read the figures right."""
    told = list(data.notes)
    if len(items) < len(data.items):
        told.append(f"{len(items):,} of {len(data.items):,} prompts, evenly spread over the file.")
    if len(items) < FEW:
        told.append(f"Fewer than {FEW} prompts: the intervals mean little.")
    chosen = [row.title for row in rows if row.name in ("raw_best", "rewritten_best", "loop")]
    if chosen and reporting is None and suite.reporter is None:
        told.append(
            f"One judge both chose and reports, so these look better than they are: {'; '.join(chosen)}. "
            "Report with another by --report-profile."
        )
    told += _unanswered(results)
    if not all(item.questions for item in items):
        told.append("The questions are a checklist made by a model from each prompt, not the benchmark's authors.")
    for name, lost in failures(results).items():
        if lost:
            first = next(iter(lost.values()))
            told.append(f"{len(lost)} prompts failed under {name}; the same command tries them again. First: {first}")
    return told


def _first_failure(results: Results) -> str:
    lost = [one for row in results.values() for one in row.values() if isinstance(one, str)]
    return next(iter([*lost, *(told.rstrip(".") for told in _unanswered(results))]), "no picture was judged")


def _unanswered(results: Results) -> list[str]:
    """Where the judge failed on so much that the figures are those of the questions it happened to answer."""
    found = [one for row in results.values() for one in row.values() if isinstance(one, Answered)]
    verdicts = [verdict for one in found for picture in one.verdicts for verdict in picture]
    failed = [reason for _, reason, state in verdicts if state == Outcome.FAILED.value]
    if len(failed) <= MANY * len(verdicts):
        return []
    return [f"The judge failed on {len(failed)} of {len(verdicts)} answers. The first: {failed[0]}."]
