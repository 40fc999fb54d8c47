"""The words of the evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from PIL import Image


@dataclass(frozen=True)
class Check:
    """One thing the user asked for, as a yes/no question ("yes" = as asked), under the id of a key point."""

    key_point: str
    question: str


Checklist = tuple[Check, ...]
"""Made once from the ORIGINAL prompt; every picture of a session is judged against it."""


class Outcome(StrEnum):
    SCORED = "scored"
    NOT_APPLICABLE = "not_applicable"
    FAILED = "failed"


@dataclass(frozen=True)
class Verdict:
    """A judge's answer to one check.

    `probability` is P(yes) / (P(yes) + P(no)), None unless SCORED. `label_mass` is P(yes) + P(no): where it is small
    the answer was no answer. `region` is (left, top, right, bottom) as fractions of width and height.
    """

    check: Check
    outcome: Outcome
    probability: float | None = None
    label_mass: float | None = None
    reason: str = ""
    region: tuple[float, float, float, float] | None = None
    raw: str = ""
    """The judge's own words, kept for the run folder."""


@dataclass(frozen=True)
class Report:
    """All verdicts on one picture. `score` in [0, 1], None where nothing could be scored.

    `feedback`: one plain sentence for each check that did not pass; `failed`: how many checks the judge failed on.
    """

    verdicts: tuple[Verdict, ...]
    score: float | None
    failed: int
    feedback: tuple[str, ...] = ()


class Judge(Protocol):
    """Answers checks about a picture: one Verdict for each check, in order. FAILED rather than an exception
    where a reply cannot be had or read; raises nothing but programming errors."""

    @property
    def name(self) -> str: ...

    async def __call__(self, image: Image.Image, prompt: str, checks: Sequence[Check]) -> list[Verdict]: ...


class ChecklistMaker(Protocol):
    """Turns the user's prompt into a checklist of at least one check.

    Never raises for a bad reply (it falls back to one question about the whole picture); raises BackendError where
    the model cannot be reached at all.
    """

    async def __call__(self, prompt: str) -> Checklist: ...
