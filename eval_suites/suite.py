"""The words of the suites: a Suite is data, questions and a metric.

load        files of the benchmark, as its authors publish them  ->  Items
questions   what is asked of each picture, with the answer that is right
value       the answers on one picture  ->  one number, None if it cannot be known
place       where the benchmark's own scripts look for a picture, so that they can score it too
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from PIL import Image

from evaluator.reward import Reward
from evaluator.types import Check, Checklist
from redraft.images import open_image, save_png

if TYPE_CHECKING:
    from eval_suites.runner import Evaluation
    from evaluator.types import ChecklistMaker


@dataclass(frozen=True)
class Question:
    """One thing asked of a picture.

    `wanted` False: "no" is the right answer. `needs`: indexes of questions of the same item without whose right answer
    this one cannot be right. `label`: the benchmark's own name for what is tested, for its tables.
    """

    check: Check
    wanted: bool = True
    needs: tuple[int, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Item:
    """One prompt of a benchmark.

    `questions` empty: the judge's own checklist is asked, made once from `prompt`. `tags`: axis to the item's values on
    it, for the tables. `row`: what the benchmark's own layout of pictures needs.
    """

    id: str
    prompt: str
    questions: tuple[Question, ...] = ()
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """What was loaded. `files` were read, `notes` say in which way they are not the published ones."""

    items: tuple[Item, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


Answers = Sequence[float | None]
"""For each question the probability that the picture answers it right; None if the judge FAILED."""

Value = Callable[[Item, Answers, float], float | None]
"""(item, answers on one picture, pass_at) to its value, None if failed answers leave it open."""


@dataclass(frozen=True)
class Headline:
    """How values of items become one number: their mean, or a mean (weighted by `weights`, equal without) of the means
    over the values of `axis`."""

    axis: str | None = None
    weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Reporter:
    """Who answers the suite's questions; `builder` makes checklists if a suite has none. The system's is "own"."""

    name: str
    reward: Reward
    builder: ChecklistMaker


@dataclass(frozen=True)
class Condition:
    """A row of the report. `images`: pictures drawn for an item; `shown`: how many of them count."""

    name: str
    title: str
    images: int
    shown: int


@dataclass(frozen=True)
class Made:
    """What a condition made of an item. `pictures` are hashes of those that count, `drawn` how many were drawn.

    Of a loop, `trace` is its page and `story` its attempts in short: {round, prompt, score, missed}.
    """

    pictures: tuple[str, ...]
    drawn: int
    prompt: str
    thought: str = ""
    trace: str | None = None
    story: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Answered:
    """The judge's verdicts on the pictures of an item under a condition: of each picture one row, of each check
    (probability of yes or None, reason, outcome)."""

    made: Made
    checks: Checklist
    verdicts: tuple[tuple[tuple[float | None, str, str], ...], ...]


Results = dict[str, dict[str, Answered | str]]
"""Condition to item id to its answers, or to what went wrong."""


@dataclass(frozen=True)
class Suite:
    """A benchmark for pictures made from prompts.

    `official` says how its authors score; `measure` says what is measured here, and is the first line of every report.
    `value_name` names the number that `value` gives; `extras` are further values, by name. `finish` writes what the
    official scripts want beside the pictures of a condition: (its folder, items, images each).

    A suite that makes its prompts has `sample`, (how many or None, seed) to Data, instead of `load`. `reporter`: who
    answers its questions if no judge does. `loop`: whether the loop is among its conditions unless told otherwise.
    `more`: (work, items, results) to figures of its own, of which "sections" go into the report.
    `tables`: figures to file name and text of tables of its own.
    """

    name: str
    title: str
    source: str
    licence: str
    official: str
    measure: str
    value_name: str
    load: Callable[[Path, str], Data] | None
    place: Callable[[Item, int], str]
    value: Value
    images: int = 4
    variants: tuple[str, ...] = ("",)
    headline: Headline = Headline()
    extras: Mapping[str, Value] = field(default_factory=dict)
    finish: Callable[[Path, Sequence[Item], int], None] | None = None
    sample: Callable[[int | None, int], Data] | None = None
    reporter: Reporter | None = None
    loop: bool = False
    tables: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None
    more: Callable[[Any, Sequence[Item], Any], Awaitable[Mapping[str, Any]]] | None = None

    @property
    def needs_data(self) -> bool:
        return self.sample is None

    @property
    def takes(self) -> tuple[str, ...]:
        reporting = ("report_profile",) if self.reporter is None else ()
        tables = ("tables",) if self.tables is not None else ()
        return ("images", "rewriter", "best", "loop", *reporting, "pictures", "seed", *tables)

    def run(self, evaluation: Evaluation) -> dict[str, Any]:
        from eval_suites.pictures import run_pictures

        return run_pictures(self, evaluation)


def file_name(text: str, length: int = 200) -> str:
    """`text` as the stem of a file, if a benchmark names pictures by their prompts: no slashes, at most `length`
    bytes."""
    return text.replace("/", " ").replace("\0", " ").encode()[:length].decode(errors="ignore").strip()


def write_grids(
    folder: Path,
    items: Sequence[Item],
    images: int,
    place: Callable[[Item, int], str],
    name: Callable[[Item], str],
) -> None:
    """Writes the pictures of each item in one file, 2 x 2 in reading order, as some official scripts want them; a single
    picture stays alone."""
    side = 1 if images == 1 else 2
    for item in items:
        made = [open_image(folder / place(item, k)) for k in range(min(images, 4))]
        width, height = made[0].size
        grid = Image.new("RGB", (side * width, side * height), "white")
        for k, picture in enumerate(made):
            grid.paste(picture, ((k % side) * width, (k // side) * height))
        save_png(grid, folder / name(item), {})


def right(answer: float | None, pass_at: float) -> bool | None:
    """Whether a question is answered right; None if the judge failed."""
    return None if answer is None else answer >= pass_at


def resolved(item: Item, answers: Answers, pass_at: float) -> list[bool | None]:
    """Each question right, wrong or open. One that needs a wrong one is wrong; one that needs an open one is open,
    unless it is wrong by itself (the rule of DPG-Bench and TIFA: what hangs on a missing thing cannot be there)."""
    states = [right(answer, pass_at) for answer in answers]
    for index, question in enumerate(item.questions):
        parents = [states[parent] for parent in question.needs]
        if False in parents:
            states[index] = False
        elif None in parents and states[index] is not False:
            states[index] = None
    return states


def every_right(item: Item, answers: Answers, pass_at: float) -> float | None:
    """1 if every question is answered right, 0 if one is wrong, None if only failed answers leave it open."""
    states = resolved(item, answers, pass_at)
    if False in states:
        return 0.0
    return None if None in states or not states else 1.0


def share_right(item: Item, answers: Answers, pass_at: float) -> float | None:
    """Share of questions answered right, of those that were answered."""
    states = [state for state in resolved(item, answers, pass_at) if state is not None]
    return fmean(states) if states else None


def mean_probability(_: Item, answers: Answers, pass_at: float) -> float | None:
    """Mean probability of the right answers (Soft-TIFA's arithmetic mean), of those that were answered."""
    known = [answer for answer in answers if answer is not None]
    return fmean(known) if known else None


def geometric_probability(_: Item, answers: Answers, pass_at: float) -> float | None:
    """Geometric mean of the probabilities (Soft-TIFA GM); None if any is missing."""
    known = [answer for answer in answers if answer is not None]
    if not known or len(known) < len(answers):
        return None
    return 0.0 if min(known) == 0 else math.exp(fmean(math.log(p) for p in known))
