"""The words of the loop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from core.profiles import LimitsConfig
from evaluator.types import Outcome, Report, Verdict

Kind = Literal["generate", "edit"]
Answer = Literal["accept", "again", "stop"]
"""What a user may say to a question of the loop: take the best picture, draw another round, or stop here."""


class StopReason(StrEnum):
    """Why a run ended. In every case the best picture of all rounds is handed back."""

    ACCEPTED = "accepted"
    """A picture met the bar (see `agent.decide.acceptable`), or the user took one."""
    PLATEAU = "plateau"
    """`patience` rounds in a row brought no better score."""
    BUDGET = "budget"
    """All rounds or all images are spent."""
    TIME = "time"
    CANCELLED = "cancelled"
    """Someone stopped it."""
    FAILED = "failed"
    """A model or a server failed. Such a run can be resumed."""


@dataclass(frozen=True)
class Limits:
    """What a run may spend and when it is satisfied. `pass_at`: a check passes at this probability or above."""

    accept_at: float = 0.95
    max_rounds: int = 4
    max_images: int = 8
    max_seconds: float = 600.0
    patience: int = 3
    rewrites: int = 1
    images_per_round: int = 2
    pass_at: float = 0.5

    @classmethod
    def of(cls, config: LimitsConfig, pass_at: float) -> Limits:
        return cls(**config.model_dump(), pass_at=pass_at)


@dataclass(frozen=True)
class Task:
    """One picture that a round is to make. `source`: hash of the picture to edit, None to generate."""

    round: int
    kind: Kind
    prompt: str
    seed: int
    negative_prompt: str | None = None
    source: str | None = None

    @property
    def key(self) -> str:
        """Stable name of this task: the same in every process that plans the same picture."""
        return stable_key(
            {
                "round": self.round,
                "kind": self.kind,
                "prompt": self.prompt,
                "seed": self.seed,
                "negative_prompt": self.negative_prompt,
                "source": self.source,
            }
        )


@dataclass(frozen=True)
class Attempt:
    """A picture that was drawn and judged. `image` and `parent` are hashes in the run's image store."""

    round: int
    kind: Kind
    prompt: str
    seed: int
    image: str
    parent: str | None
    report: Report
    negative_prompt: str | None = None

    @property
    def score(self) -> float | None:
        return self.report.score


@dataclass(frozen=True)
class Decision:
    """What comes after a round. `stop` None: another round. `best` is an index into the attempts so far."""

    stop: StopReason | None
    best: int | None
    why: str


def passes(verdict: Verdict, pass_at: float) -> bool:
    """True where the judge answered, and answered yes. A check that does not apply neither passes nor fails."""
    return verdict.outcome is Outcome.SCORED and verdict.probability is not None and verdict.probability >= pass_at


def missed(report: Report, pass_at: float) -> tuple[Verdict, ...]:
    """The verdicts that were answered with no, the surest no first."""
    wrong = [v for v in report.verdicts if v.outcome is Outcome.SCORED and not passes(v, pass_at)]
    return tuple(sorted(wrong, key=lambda v: v.probability or 0.0))


def stable_key(value: Mapping[str, object]) -> str:
    """32 hex digits that name a JSON-able value, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
