"""The words of the suites: a Suite is data, questions and a metric.

load        files of the benchmark, as its authors publish them  ->  Items
questions   what is asked of each picture, with the answer that is right
value       the answers on one picture  ->  one number, None where it cannot be known
place       where the benchmark's own scripts look for a picture, so that they can score it too
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.types import Check

if TYPE_CHECKING:
    from eval_suites.conditions import Reporter


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
"""For each question the probability that the picture answers it right; None where the judge FAILED."""

Value = Callable[[Item, Answers, float], float | None]
"""(item, answers on one picture, pass_at) to its value, None where failed answers leave it open."""


@dataclass(frozen=True)
class Headline:
    """How values of items become one number: their mean, or a mean (weighted by `weights`, equal without) of the means
    over the values of `axis`."""

    axis: str | None = None
    weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Suite:
    """A benchmark for pictures made from prompts.

    `official` says how its authors score; `measure` says what is measured here, and is the first line of every report.
    `value_name` names the number that `value` gives; `extras` are further values, by name. `finish` writes what the
    official scripts want beside the pictures of a condition: (its folder, items, images each).

    A suite that makes its prompts has `sample`, (how many or None, seed) to Data, in place of `load`. `reporter`: who
    answers its questions where no judge does. `loop`: whether the loop is among its conditions unless told otherwise.
    `more`: (work, items, results) to figures of its own, of which "sections" go into the report.
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
    more: Callable[[Any, Sequence[Item], Any], Awaitable[Mapping[str, Any]]] | None = None

    @property
    def needs_data(self) -> bool:
        return self.sample is None


def file_name(text: str, length: int = 200) -> str:
    """`text` as the stem of a file, where a benchmark names pictures by their prompts: no slashes, at most `length`
    bytes."""
    return text.replace("/", " ").replace("\0", " ").encode()[:length].decode(errors="ignore").strip()
