"""The events of a run: small frozen values, in the order in which things happen.

They pass through LangGraph's custom stream to the caller of `Run.stream()`: the command line, a chat, a
server. They carry everything a viewer needs; a picture is a path to a PNG file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.types import Answer, Attempt, Branch, Decision, EditPlan, StopReason
from evaluator.types import Check
from rewriter.types import Rewrite


@dataclass(frozen=True)
class RunStarted:
    """`attempts`: how many pictures there were already, more than 0 only if a run is resumed."""

    run: str
    folder: Path
    request: str
    seed: int
    resumed: bool = False
    attempts: int = 0
    source: Path | None = None
    """The picture that is edited."""


@dataclass(frozen=True)
class StepProgress:
    """A step has begun (`done` 0) or moved on. `total` is 0 if it is not known."""

    step: str
    round: int
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class ChecklistMade:
    """`unchecked`: the words of the request that no check asks about; `invented`: checks that were dropped."""

    checks: tuple[Check, ...]
    unchecked: tuple[str, ...] = ()
    invented: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Planned:
    """What the planner wants of the round: a new picture, or the step `plan.at` of an edit. `area`: the picture
    that shows where; `draft`: one of what is to come into it."""

    round: int
    plan: EditPlan
    area: Path | None = None
    draft: Path | None = None


@dataclass(frozen=True)
class Pruned:
    """What became of the results of a step: (number of the attempt, branch)."""

    round: int
    branches: tuple[tuple[int, Branch], ...]


@dataclass(frozen=True)
class RewriteMade:
    """The rewriter's thought and the prompt it led to."""

    round: int
    rewrite: Rewrite


@dataclass(frozen=True)
class ImageDrawn:
    """`path`: the picture in the run's image store."""

    round: int
    prompt: str
    seed: int
    image: str
    path: Path


@dataclass(frozen=True)
class Judged:
    """`number`: the attempt's number, from 1. `path`: the picture's own file in the run folder."""

    number: int
    attempt: Attempt
    path: Path


@dataclass(frozen=True)
class Decided:
    round: int
    decision: Decision


@dataclass(frozen=True)
class NeedsAnswer:
    """The run waits for an answer: give it to `Run.stream(answer=...)`, now or after `Run.open(folder)`."""

    round: int
    number: int | None
    attempt: Attempt | None
    path: Path | None
    why: str
    choices: tuple[Answer, ...]


@dataclass(frozen=True)
class Warned:
    text: str


@dataclass(frozen=True)
class RunFinished:
    """`number`, `attempt` and `path` are those of the best picture, None if none was drawn."""

    stop: StopReason
    why: str
    number: int | None
    attempt: Attempt | None
    path: Path | None
    trace: Path
    error: str | None = None
    unchecked: tuple[str, ...] = ()
    """The words of the request that no check asks about."""


Event = (
    RunStarted
    | StepProgress
    | ChecklistMade
    | Planned
    | Pruned
    | RewriteMade
    | ImageDrawn
    | Judged
    | Decided
    | NeedsAnswer
    | Warned
    | RunFinished
)
