"""The words of the editing suites, and how finished edits are scored.

Edits are judged where they lie: in the layout that the benchmark's own scripts read, whoever made them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval_suites.stats import bootstrap
from evaluator.edits.types import Edit, EditJudge
from redraft.errors import InputError
from redraft.images import open_image
from redraft.journal import Journal

SCORES = ("overall", "followed", "kept", "perceptual")


@dataclass(frozen=True)
class EditItem:
    """One edit of a benchmark: what is asked of which picture. `place` is where its result is looked for."""

    id: str
    instruction: str
    source: Path
    place: str
    tags: Mapping[str, str] = field(default_factory=dict)


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


def require_edits(items: Sequence[EditItem], pictures: Path) -> None:
    """Raises InputError where results are missing."""
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
    """Each edit's scores in [0, 1] by name, None where the judge FAILED; a later run asks for those again."""
    gate = asyncio.Semaphore(at_once)
    asked: set[str] = set()

    async def one(item: EditItem) -> dict[str, Any] | None:
        async def make() -> dict[str, Any]:
            async with gate:
                source = await asyncio.to_thread(open_image, item.source)
                result = await asyncio.to_thread(open_image, pictures / item.place)
                asked.add(item.id)
                made = await judge(Edit(source, result, item.instruction))
            failure = next((one.failure for one in made.passes if one.failure), "no score")
            return {name: getattr(made, name) for name in SCORES} | {"failure": failure if made.overall is None else ""}

        known = journal.get(("edit", item.id))
        again = known is not None and known["overall"] is None and item.id not in asked
        told: dict[str, Any] = await journal.aonce(("edit", item.id), make, again=again)
        done()
        return None if told["overall"] is None else told

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
        figures[name] = asdict(bootstrap(values)) if values else None
    return figures
