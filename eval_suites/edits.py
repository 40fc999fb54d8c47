"""The words of the editing suites, and how finished edits are scored.

Edits are judged where they lie: in the layout that the benchmark's own scripts read, whoever made them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from eval_suites.likeness import find_embedders, measure_likeness
from eval_suites.report import Section, Table, percent
from eval_suites.runner import Evaluation, hash_data, note_count, spread_evenly
from eval_suites.stats import interval
from evaluator.criteria.likeness import Embedder
from evaluator.edits.judges import Method, build_edit_judge
from evaluator.edits.types import Edit, EditJudge
from evaluator.judge import open_judge
from evaluator.types import Judge
from redraft.chat import open_chat
from redraft.errors import InputError
from redraft.images import open_image
from redraft.journal import Journal
from redraft.profiles import Profile, load_profile

EDIT_METHODS: tuple[str, ...] = get_args(Method)
SCORES = ("overall", "followed", "kept", "perceptual")


@dataclass(frozen=True)
class EditItem:
    """One edit of a benchmark: what is asked of which picture. `place` is where its result is looked for; `truth` the picture
    that people made, if the benchmark has one."""

    id: str
    instruction: str
    source: Path
    place: str
    tags: Mapping[str, str] = field(default_factory=dict)
    truth: Path | None = None


@dataclass(frozen=True)
class EditData:
    """What was loaded."""

    items: tuple[EditItem, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EditSuite:
    """A benchmark of edits. `load` gets (place, variant, folder to unpack pictures into)."""

    name: str
    title: str
    source: str
    licence: str
    official: str
    measure: str
    load: Callable[[Path, str, Path], EditData]
    variants: tuple[str, ...] = ("",)
    needs_data: bool = True

    @property
    def takes(self) -> tuple[str, ...]:
        return ("judge", "pictures", "passes")

    def run(self, evaluation: Evaluation) -> dict[str, Any]:
        return run_edits(self, evaluation)


def require_edits(items: Sequence[EditItem], pictures: Path) -> None:
    """Raises InputError if results are missing."""
    gone = [item.place for item in items if not (pictures / item.place).is_file()]
    if gone:
        raise InputError(
            f"{len(gone):,} of {len(items):,} edited pictures are missing in {pictures}, the first being "
            f"{', '.join(gone[:3])}; make them, or lower --limit"
        )


async def score_edits(
    items: Sequence[EditItem],
    pictures: Path,
    judge: EditJudge,
    journal: Journal,
    done: Callable[[], None],
    at_once: int = 8,
) -> list[dict[str, Any] | None]:
    """Each edit's scores in [0, 1] by name, None if the judge FAILED; a later run asks for those again."""
    gate = asyncio.Semaphore(at_once)
    keys: set[str] = set()

    async def one(item: EditItem) -> dict[str, Any] | None:
        async def make() -> dict[str, Any]:
            async with gate:
                source = await asyncio.to_thread(open_image, item.source)
                result = await asyncio.to_thread(open_image, pictures / item.place)
                keys.add(item.id)
                made = await judge(Edit(source, result, item.instruction))
            failure = next((one_pass.failure for one_pass in made.passes if one_pass.failure), "no score")
            return {name: getattr(made, name) for name in SCORES} | {"failure": failure if made.overall is None else ""}

        known = journal.get(("edit", item.id))
        again = known is not None and known["overall"] is None and item.id not in keys
        value: dict[str, Any] = await journal.aonce(("edit", item.id), make, again=again)
        done()
        return None if value["overall"] is None else value

    return list(await asyncio.gather(*(one(item) for item in items)))


def edit_figures(items: Sequence[EditItem], scores: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Means of each score with intervals: of all, and along every axis of tags."""
    figures: dict[str, Any] = {"suite": {"all": _means(scores)}}
    for axis in sorted({axis for item in items for axis in item.tags}):
        values = sorted({item.tags[axis] for item in items if axis in item.tags})
        figures[axis] = {
            value: _means([s for item, s in zip(items, scores, strict=True) if item.tags.get(axis) == value])
            for value in values
        }
    return figures


def _means(scores: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    known = [score for score in scores if score is not None]
    figures: dict[str, Any] = {"edits": len(scores), "failed": len(scores) - len(known)}
    for name in SCORES:
        values = [score[name] for score in known if score[name] is not None]
        figures[name] = interval(values)
    return figures


def run_edits(suite: EditSuite, evaluation: Evaluation) -> dict[str, Any]:
    """Scores finished edits of a suite. Raises as `AnySuite.run` does."""
    options = evaluation.options
    pictures, method = options.pictures, options.judge or "editscore"
    if pictures is None:
        raise InputError(f"{suite.name} scores finished edits; give the folder they lie in as --pictures")
    assert options.data is not None, "checked by check_options"
    data = suite.load(options.data, evaluation.variant, evaluation.out / "state" / "inputs")
    items = spread_evenly(data.items, options.limit)
    require_edits(items, pictures)
    profile = load_profile(options.profile)
    settings = {
        "data": hash_data(data),
        "edits": len(items),
        "pictures": str(pictures),
        "judge": method,
        "passes": options.passes,
        "profile": profile.need_judge().model_dump(mode="json"),
    }
    with evaluation.open(**settings) as journal:
        judge = open_edit_judge(profile, method, options.passes)

        async def measure(advance: Callable[[str], None]) -> dict[str, Any]:
            scores = await score_edits(items, pictures, judge, journal, lambda: advance("judging"))
            figures: dict[str, Any] = {"judge": judge.name, "edits": edit_figures(items, scores)}
            distances = await measure_distances(items, pictures, find_embedders(profile), journal)
            return figures | ({"distances": distances} if distances else {})

        figures = evaluation.wait_for({"judging": ("judging", len(items))}, measure)
        row = figures["edits"]["suite"]["all"]
        failure = f"the judge scored none of {row['edits']} edits" if row["failed"] == row["edits"] else None
        notes = [*data.notes, *note_count(len(items), len(data.items))]
        return evaluation.report(figures, edit_sections, notes=notes, failure=failure)


async def measure_distances(
    items: Sequence[EditItem], pictures: Path, embedders: Mapping[str, Embedder], journal: Journal
) -> dict[str, Any]:
    """How far results are from the pictures that people made: the mean of each distance (`eval_suites.likeness`), and of the
    source left as it is, which an editor that does nothing reaches. Empty if the benchmark has no such pictures."""
    columns: dict[str, dict[str, list[float]]] = {"results": {}, "sources": {}}
    for item in items:
        if item.truth is None:
            continue
        truth_file = item.truth
        for row, file in (("results", pictures / item.place), ("sources", item.source)):

            async def measure(file: Path = file, truth_file: Path = truth_file) -> dict[str, float]:
                return await asyncio.to_thread(
                    lambda: measure_likeness(open_image(file), open_image(truth_file), embedders)
                )

            for name, value in (await journal.aonce(("distance", row, item.id), measure)).items():
                columns[row].setdefault(name, []).append(value)
    return {row: {name: interval(values) for name, values in named.items()} for row, named in columns.items() if named}


def edit_sections(figures: Mapping[str, Any]) -> list[Section]:
    """A table for all edits, one for each axis of tags, and one of distances to people's pictures if there are such."""
    head = ["", "edits", "failed", "overall", "followed", "kept", "looks right"]
    text = "Mean of each scored edit's scores, percent of the scale; 95% intervals, edits resampled."
    sections = []
    for axis, rows in figures["edits"].items():
        table = [
            [value, f"{row['edits']}", f"{row['failed']}", *(percent(row[name]) for name in SCORES)]
            for value, row in rows.items()
        ]
        sections.append(Section(f"Edits by {axis}", text, Table(head, table)))
    if "distances" in figures:
        names = list(figures["distances"]["results"])
        shown = [
            [row, *(f"{named[name]['mean']:.4f}" if name in named else "" for name in names)]
            for row, named in figures["distances"].items()
        ]
        text = "Mean distance to the picture that people made; sources: as if nothing had been edited."
        sections.append(Section("Distances", text, Table(["", *names], shown)))
    return sections


def open_edit_judge(profile: Profile, method: str, passes: int) -> EditJudge:
    """The judge of `profile` as a judge of edits. Raises InputError for an unknown method."""
    fitting: Sequence[Method] = [known for known in get_args(Method) if known == method]
    if not fitting:
        raise InputError(f"--judge {method} does not fit edits: {', '.join(EDIT_METHODS)}")
    judge: Judge | None = open_judge(profile.need_judge()) if method == "checks" else None
    chat = open_chat(profile.rewriter.model if method == "checks" else profile.need_judge().model)
    return build_edit_judge(fitting[0], chat=chat, judge=judge, passes=passes, pass_at=profile.limits.pass_at)
