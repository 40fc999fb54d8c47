"""Checks, verdicts and reports, and the protocols of what makes and answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from PIL import Image


@dataclass(frozen=True)
class Check:
    """One thing that the request asks for, as a yes/no question ("yes" = as requested), under the id of a key point."""

    key_point: str
    question: str


Checklist = tuple[Check, ...]
"""Made once from the user's request; every picture of a run is judged against it."""


@dataclass(frozen=True)
class RequestChecks:
    """The checklist of a request, and what of the request it leaves out.

    `unchecked`: the words of the request that no check asks about, as it has them and in its order. `invented`: the checks
    of the model that ask about nothing in the request; nothing is judged by them. `warnings`: plain sentences for the user.
    """

    checks: Checklist
    unchecked: tuple[str, ...] = ()
    invented: Checklist = ()
    warnings: tuple[str, ...] = ()


class Outcome(StrEnum):
    SCORED = "scored"
    NOT_APPLICABLE = "not_applicable"
    FAILED = "failed"


@dataclass(frozen=True)
class Verdict:
    """A judge's answer to one check.

    `probability` is P(yes) / (P(yes) + P(no)), None unless SCORED. `label_mass` is P(yes) + P(no): if it is small, the
    answer was no answer. `region` is (left, top, right, bottom) as fractions of width and height. `by` names who
    answered. `raw` holds the judge's own words, kept for the run folder.
    """

    check: Check
    outcome: Outcome
    probability: float | None = None
    label_mass: float | None = None
    reason: str = ""
    region: tuple[float, float, float, float] | None = None
    raw: str = ""
    by: str = ""

    def passes(self, pass_at: float) -> bool:
        """Whether the check was answered with a yes that is at least as sure as `pass_at`."""
        return self.outcome is Outcome.SCORED and self.probability is not None and self.probability >= pass_at


@dataclass(frozen=True)
class Report:
    """All verdicts on one picture. `score` in [0, 1], None if nothing could be scored.

    `feedback`: one plain sentence for each check that did not pass; `failed`: how many checks the judge failed on;
    `unchecked`: the words of the request that no check asks about. With any of them the picture is never accepted.
    """

    verdicts: tuple[Verdict, ...]
    score: float | None
    failed: int
    feedback: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    def check_rows(self) -> list[dict[str, Any]]:
        """The `checks` of every JSON output: {key_point, question, outcome, p, by, reason}, one row for each verdict.

        `p` is None unless the outcome is "scored".
        """
        return [
            {
                "key_point": verdict.check.key_point,
                "question": verdict.check.question,
                "outcome": verdict.outcome.value,
                "p": verdict.probability,
                "by": verdict.by,
                "reason": verdict.reason,
            }
            for verdict in self.verdicts
        ]


class Judge(Protocol):
    """Answers checks about a picture: one Verdict for each check, in order.

    If a reply cannot be had or read, the verdict is FAILED. Raises nothing but programming errors.
    """

    @property
    def name(self) -> str: ...

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]: ...


class ChecklistMaker(Protocol):
    """Turns the user's request into its checklist, and says which words of it no check asks about.

    There may be no check at all; then all content words are unchecked. Raises BackendError if the model cannot be reached.
    """

    async def __call__(self, request: str) -> RequestChecks: ...
