"""The words of the loop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from evaluator.types import Outcome, Report, Verdict
from rewriter.plan import Choice

Kind = Literal["generate", "edit"]
Fate = Literal["kept", "pruned", "below", "unchanged"]
Answer = Literal["accept", "again", "stop"]
"""What a user may say to a question of the loop: take the best picture, draw another round, or stop here."""


class StopReason(StrEnum):
    """Why a run ended. In every case the best picture of all rounds is the result."""

    ACCEPTED = "accepted"
    """A picture met the bar (see `agent.decide.acceptable`), or the user took one of whose request every word is checked."""
    UNCHECKED = "unchecked"
    """A picture met the bar but for words of the request that nothing checks, or nothing of the request can be checked."""
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
class Task:
    """One picture that a round is to make.

    For an edit `prompt` is what the editor reads, `source` the hash of the picture that it is given, and `mask` that
    of the part that may change, None for everything. `root` is the picture that the first of a chain of edits started
    from, and `steps` are all instructions that lead from there to this picture. `reference` is the hash of a picture of
    what is to come into it.

    `draft`: the picture is only looked at, to choose what is worth finishing; `effort` is the share of the denoiser's
    steps that it gets. `noise` is mixed into the seed's own (see `editors.backend.ImageTask`), `parent` is the hash of the
    picture that the task goes on from without being given it: the draft that is finished. `backend`: which of the
    gallery draws it; "" is the generator.
    """

    round: int
    kind: Kind
    prompt: str
    seed: int
    negative_prompt: str | None = None
    source: str | None = None
    mask: str | None = None
    root: str | None = None
    steps: tuple[str, ...] = ()
    reference: str | None = None
    noise: tuple[tuple[int, float], ...] = ()
    effort: float = 1.0
    draft: bool = False
    parent: str | None = None
    backend: str = ""

    def __post_init__(self) -> None:
        _as_tuples(self, "steps")
        if self.noise != ():
            object.__setattr__(self, "noise", tuple((int(seed), float(share)) for seed, share in self.noise))

    @property
    def key(self) -> str:
        """Stable name of this task: the same in every process that plans the same picture."""
        value: dict[str, object] = {
            "round": self.round,
            "kind": self.kind,
            "prompt": self.prompt,
            "seed": self.seed,
            "negative_prompt": self.negative_prompt,
            "source": self.source,
        }
        # Absent rather than null, so that the pictures of older runs keep their names.
        more = {
            "mask": self.mask,
            "root": self.root,
            "steps": list(self.steps),
            "reference": self.reference,
            "noise": [list(pair) for pair in self.noise],
            "effort": None if self.effort == 1.0 else self.effort,
            "draft": self.draft,
            "parent": self.parent,
            "backend": self.backend,
        }
        return stable_key(value | {name: item for name, item in more.items() if item})


@dataclass(frozen=True)
class Attempt:
    """A picture that was made and judged. `image`, `parent` and `root` are hashes in the run's image store.

    `parent`: the picture that was edited, or the draft that was finished. A `draft` is never handed back or accepted.
    `denoiser_steps`: what it cost. `noise` and `backend` are those of its task.

    `unchanged`: the editor gave its source back; such an attempt has failed, and has no score. `standing`: how
    it stands among those that it was compared with, higher is better.
    """

    round: int
    kind: Kind
    prompt: str
    seed: int
    image: str
    parent: str | None
    report: Report
    negative_prompt: str | None = None
    root: str | None = None
    steps: tuple[str, ...] = ()
    unchanged: bool = False
    standing: float | None = None
    draft: bool = False
    denoiser_steps: int = 0
    noise: tuple[tuple[int, float], ...] = ()
    backend: str = ""

    @property
    def score(self) -> float | None:
        return self.report.score


@dataclass(frozen=True)
class Cost:
    """What was spent: pictures (drafts too), denoiser steps, pictures judged, seconds of work."""

    images: int = 0
    steps: int = 0
    judgements: int = 0
    seconds: float = 0.0


def cost_of(attempts: Sequence[Attempt], seconds: float = 0.0) -> Cost:
    """What the attempts cost. Equal pictures are judged once, and those that an editor gave back unchanged never."""
    judged = {attempt.image for attempt in attempts if not attempt.unchanged}
    return Cost(len(attempts), sum(attempt.denoiser_steps for attempt in attempts), len(judged), seconds)


@dataclass(frozen=True)
class EditStep:
    """One step of an edit. `region`: where, as the planner or the judge has it. `area` is the hash of a mask that shows
    where (white), `area_from` says who said so. `draft`: a prompt for what is new in the picture then, `drafted` the
    hash of what it drew."""

    instruction: str
    thought: str = ""
    questions: tuple[str, ...] = ()
    local: bool = False
    region: tuple[float, float, float, float] | None = None
    area: str | None = None
    area_from: str = ""
    draft: str = ""
    drafted: str | None = None

    def __post_init__(self) -> None:
        _as_tuples(self, "questions", *(() if self.region is None else ("region",)))


@dataclass(frozen=True)
class EditPlan:
    """What comes next, and why: a new picture, or an edit in steps.

    `at`: position of the step under way. `kept`: keys of the results that its candidates start from; empty at the first
    step, which starts from `start`. `start` is the hash of a picture, `root` and `done` are those of the chain it ends.
    `by`: who planned it; `fault`: why fixed rules planned instead of a model.
    """

    choice: Choice
    reason: str
    by: str = ""
    fault: str = ""
    start: str | None = None
    root: str | None = None
    done: tuple[str, ...] = ()
    steps: tuple[EditStep, ...] = ()
    at: int = 0
    kept: tuple[str, ...] = ()
    replanned: bool = False

    def __post_init__(self) -> None:
        _as_tuples(self, "done", "steps", "kept")

    @property
    def is_under_way(self) -> bool:
        """Whether a step is left."""
        return self.choice == "edit" and self.at < len(self.steps)


@dataclass(frozen=True)
class Branch:
    """A result of a step of an edit, judged. `confidence` None: the judge could not tell, or nothing changed."""

    key: str
    confidence: float | None
    fate: Fate


@dataclass(frozen=True)
class Decision:
    """What comes after a round. `stop` None: another round. `best` is an index into the attempts so far."""

    stop: StopReason | None
    best: int | None
    why: str


def _as_tuples(value: object, *names: str) -> None:
    """Checkpoints turn tuples into lists."""
    for name in names:
        object.__setattr__(value, name, tuple(getattr(value, name)))


def passes(verdict: Verdict, pass_at: float) -> bool:
    """True if the judge answered, and answered yes. A check that does not apply neither passes nor fails."""
    return verdict.passes(pass_at)


def missed(report: Report, pass_at: float) -> tuple[Verdict, ...]:
    """The verdicts that were answered with no, the surest no first."""
    wrong = [v for v in report.verdicts if v.outcome is Outcome.SCORED and not passes(v, pass_at)]
    return tuple(sorted(wrong, key=lambda v: v.probability or 0.0))


def is_box(box: tuple[float, ...] | None) -> bool:
    """Whether a region that a model gave is a box inside the picture."""
    if box is None or len(box) != 4:
        return False
    left, top, right, bottom = box
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def stable_key(value: Mapping[str, object]) -> str:
    """32 hex digits that name a JSON-able value, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
