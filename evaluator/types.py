"""Checks, verdicts, readings and reports, and the protocols of what makes and answers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from PIL import Image

from redraft.templates import unfence


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
    answered. `raw` holds the judge's own words, kept for the run folder. `spread`: how far below
    the probability the looks go that made it (`evaluator.looks`), 0.0 if there was one; `looks`: how many there were.
    """

    check: Check
    outcome: Outcome
    probability: float | None = None
    label_mass: float | None = None
    reason: str = ""
    region: tuple[float, float, float, float] | None = None
    raw: str = ""
    by: str = ""
    spread: float = 0.0
    looks: int = 1

    def passes(self, pass_at: float) -> bool:
        """Whether the check was answered with a yes that is at least as sure as `pass_at`, less the spread: if there were two
        readers, whether both said yes."""
        return self.least is not None and self.least >= pass_at

    @property
    def least(self) -> float | None:
        """The probability less its spread, None unless SCORED."""
        scored = self.outcome is Outcome.SCORED and self.probability is not None
        return max(0.0, (self.probability or 0.0) - self.spread) if scored else None


@dataclass(frozen=True)
class Reading:
    """What one criterion says of one picture.

    `value` in [0, 1], higher is better; None unless SCORED: a criterion that failed says nothing, which is never 0.
    `spread`: standard deviation of the value, 0.0 if the criterion does not know it. `verdicts`: its answers to checks, if
    it answers any; in a report they are counted as `answers` and stand in the report's own `verdicts`, one reading after the
    other. `reason`: why it FAILED or does not apply, or a sentence on the value.
    """

    outcome: Outcome
    value: float | None = None
    spread: float = 0.0
    verdicts: tuple[Verdict, ...] = ()
    reason: str = ""
    answers: int = 0


@dataclass(frozen=True)
class Report:
    """All that is known of one picture. `score` in [0, 1], None if nothing could be scored.

    `feedback`: one plain sentence for each check that did not pass; `failed`: how many checks, and criteria without checks,
    failed; `unchecked`: the words of the request that no check asks about; `below`: the criteria that do not reach their
    floor. With any of the last three the picture is never accepted. `readings`: by the name of the criterion.
    """

    verdicts: tuple[Verdict, ...]
    score: float | None
    failed: int
    feedback: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    readings: Mapping[str, Reading] = field(default_factory=dict)

    def check_rows(self) -> list[dict[str, Any]]:
        """The `checks` of every JSON output: {key_point, question, outcome, p, by, reason}, one row for each verdict.

        `p` is None unless the outcome is "scored".
        """
        return [
            {
                "key_point": verdict.check.key_point,
                "question": unfence(verdict.check.question),
                "outcome": verdict.outcome.value,
                "p": verdict.probability,
                "by": verdict.by,
                "reason": verdict.reason,
            }
            for verdict in self.verdicts
        ]

    def reading_rows(self) -> dict[str, dict[str, Any]]:
        """The `readings` of every JSON output: criterion to {outcome, value, spread, reason}."""
        return {
            name: {
                "outcome": reading.outcome.value,
                "value": reading.value,
                "spread": reading.spread,
                "reason": reading.reason,
            }
            for name, reading in self.readings.items()
        }

    def reading_lines(self) -> list[str]:
        """A line for each criterion, for people; none if there is nothing beside the checks."""
        if not self.readings.keys() - {"checks"}:
            return []
        return [
            f"{name} {reading.outcome.value.replace('_', ' ') if reading.value is None else f'{reading.value:.2f}'}"
            + (", below its floor" if name in self.below else "")
            for name, reading in self.readings.items()
        ]


Role = Literal["subject", "person", "style", "low_res"]
"""What of a reference counts: the thing that it shows, the person, how it is drawn, or all of it at a higher resolution."""


@dataclass(frozen=True)
class Reference:
    """A picture that the user gave to go by. `words`: what the user said of it."""

    image: Image.Image
    role: Role = "subject"
    words: str = ""


@dataclass(frozen=True)
class Case:
    """What pictures are judged against: the same for every picture of a run, and never the rewrite.

    `request`: what the user wrote; with a `source` the instruction of an edit. `checks`: what is wanted. `kept`: of an edit,
    what must still be as it was in the source. `mask`: where the source may be changed (white); None: everywhere.
    `known`: verdicts on checks that are not asked again, because the judge cannot answer them. `unchecked`: words of the
    request that no check asks about.
    """

    request: str
    checks: Checklist = ()
    kept: Checklist = ()
    source: Image.Image | None = None
    mask: Image.Image | None = None
    references: tuple[Reference, ...] = ()
    known: tuple[Verdict, ...] = ()
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shot:
    """A picture to be judged. `frames`: the one picture, or several frames of a clip or views of a thing. `prompt`: what
    drew it, for criteria that compare the two; nothing is judged against it."""

    frames: tuple[Image.Image, ...]
    prompt: str = ""

    @property
    def image(self) -> Image.Image:
        """The picture; of several frames the first."""
        return self.frames[0]


Need = Literal["checks", "source", "references", "group"]
"""What a criterion cannot do without. A case that lacks it gives NOT_APPLICABLE without a call. "group": the criterion is
called once with all pictures of a group; any other is called for each picture, all at once."""


class Criterion(Protocol):
    """Scores pictures of a case: one Reading for each shot, in order.

    `name`: what weights, floors and readings name it by. `absolute`: whether a value says how good a picture is by itself;
    if it only orders the pictures of a group, it accepts none. What it raises becomes FAILED readings with its words,
    except `ModelMissing` and `ConfigError`, which end a run.
    """

    @property
    def name(self) -> str: ...

    @property
    def absolute(self) -> bool: ...

    @property
    def needs(self) -> frozenset[Need]: ...

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]: ...


class Combine(Protocol):
    """Makes one number of the readings of each picture. Pure.

    `rows`: the readings of the pictures of a group, by criterion; `weights`: of the criteria. None for a picture without
    any value. If `absolute`, a number is that of its own row alone, in [0, 1]; if not, it orders the group and accepts none.
    """

    @property
    def name(self) -> str: ...

    @property
    def absolute(self) -> bool: ...

    def __call__(self, rows: Sequence[Mapping[str, Reading]], weights: Mapping[str, float]) -> list[float | None]: ...


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
