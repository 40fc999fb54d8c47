"""Edits, their checks and scores, and the protocols of their judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from evaluator.types import Checklist, Outcome, Verdict


@dataclass(frozen=True)
class EditChecks:
    """An edit as yes/no questions about the picture AFTER it, for judges that can answer nothing else.

    `wanted`: what the instruction asks to be there (or gone); `kept`: what must still be as it was; `unchecked`: words of the
    instruction that no check asks about.
    """

    wanted: Checklist
    kept: Checklist = ()
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edit:
    """One edit to be judged: the picture before, the picture after, and the instruction, in the user's words.

    `requirement` is a note on what to look at, for judges that take one (Edit-R1's data has one per sample).
    """

    source: Image.Image
    result: Image.Image
    instruction: str
    requirement: str = ""
    checks: EditChecks | None = None


@dataclass(frozen=True)
class EditPass:
    """One pass of a judge over an edit, all its calls together.

    `numbers` are the judge's own, by name, on its own scale; empty if the pass FAILED, and `failure` then says why.
    """

    outcome: Outcome
    numbers: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class EditScore:
    """A judge's scores for an edit. All scores lie in [0, 1], higher is better, whatever scale the judge used.

    `followed`: was the instruction carried out; `kept`: did nothing else change; `semantic`: both together;
    `perceptual`: does the result look right on its own. None is "this judge does not measure it". `overall` is None
    exactly if `outcome` is FAILED: no pass could be scored. That is never 0, and such an edit is no example.

    `spread` is the standard deviation of `overall`: between passes (n - 1; None with fewer than two), or, for a judge
    that is read off its token probabilities, that of the distribution. `failed` counts passes (or checks) without an
    answer, apart from those that make up the score.
    """

    method: str
    outcome: Outcome
    overall: float | None = None
    followed: float | None = None
    kept: float | None = None
    semantic: float | None = None
    perceptual: float | None = None
    spread: float | None = None
    failed: int = 0
    passes: tuple[EditPass, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    feedback: tuple[str, ...] = ()


class EditJudge(Protocol):
    """Scores edits. If a reply cannot be had or read, the score is FAILED; raises nothing but programming errors."""

    @property
    def name(self) -> str: ...

    async def __call__(self, edit: Edit) -> EditScore: ...


class EditChecklistMaker(Protocol):
    """Turns an instruction into questions about the picture after it, at least one of them wanted.

    Never raises for a bad reply (it falls back to one question); raises BackendError if the model cannot be reached.
    """

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks: ...
