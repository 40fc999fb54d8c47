"""The words of strategies: what one knows (View), what it may say (Move), what the budget leaves (`room`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.types import Attempt, Branch, Cost, EditPlan, StopReason, Task
from editors.backend import Ability, steps_at
from evaluator.types import Check, Report
from redraft.limits import Limits
from rewriter.types import Feedback, Rewrite

KeyPointMeans = Mapping[str, tuple[float, int]]
"""Key point to (sum of the judge's probabilities, how many they were)."""
Joiner = Callable[[Sequence[str]], str]

GENERATOR, EDITOR = "", "edit"
"""Keys of `View.backends`. The others are the names of the profile's gallery."""


class Abilities(Protocol):
    """What a strategy may know of a backend: see `editors.backend.ImageBackend`."""

    @property
    def abilities(self) -> frozenset[Ability]: ...

    @property
    def steps(self) -> int | None: ...


@dataclass(frozen=True)
class View:
    """All that a strategy knows. Pictures are named by their hashes, tasks by their keys.

    `round` is the one to be planned, from 1. `rewrites` are those made for it, None before any were asked for.
    `attempts`: all that were judged, in order, by the keys of their tasks; `latest`: those of the round before. `phase`:
    the part of a `then` that is at work, `began` the round that it began with. `backends`: what the generator, the editor
    and the gallery are able to do.

    `checks`: what the judge asks of each picture. `experience`: how the backends of a gallery did in earlier runs.

    `edits`: whether the run may edit. `source` is the picture that the user gave to be edited and `source_report` the
    judge's report on it; `reports` are those of the other pictures. `plan`: the edit under way; `earlier`: all plans of
    the rounds before. `ready`: what the planner says to this round, once it was asked; `mask`: the part of the picture
    that the user lets it change; `inpaints`: whether the editor keeps to a mask; `join`: puts several instructions into
    one.
    """

    request: str
    seed: int
    limits: Limits
    round: int = 1
    spent: Cost = field(default_factory=Cost)
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    latest: Mapping[str, Attempt] = field(default_factory=dict)
    rewrites: tuple[Rewrite, ...] | None = None
    phase: int = 0
    began: int = 1
    backends: Mapping[str, Abilities] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    experience: Mapping[str, KeyPointMeans] = field(default_factory=dict)
    edits: bool = False
    source: str | None = None
    source_report: Report | None = None
    reports: Mapping[str, Report] = field(default_factory=dict)
    plan: EditPlan | None = None
    earlier: tuple[EditPlan, ...] = ()
    ready: EditPlan | None = None
    mask: str | None = None
    inpaints: bool = False
    join: Joiner = "; ".join

    def report_on(self, image: str | None) -> Report | None:
        """The judge's report on a picture, None if it never saw it."""
        if image is not None and image == self.source:
            return self.source_report
        return None if image is None else self.reports.get(image)

    def can(self, ability: Ability, backend: str = GENERATOR) -> bool:
        """Whether a backend is able to do that. False for one that is not there."""
        return backend in self.backends and ability in self.backends[backend].abilities


@dataclass(frozen=True, kw_only=True)
class _Move:
    phase: int = 0
    """The part of a `then` that made it, and the round that this part began with."""
    began: int = 1
    note: str = ""
    """What the user is warned of, once in a run."""


@dataclass(frozen=True)
class MakeRewrites(_Move):
    """Ask the rewriter for `n` rewrites of the request, and then the strategy again."""

    n: int
    seed: int
    feedback: Feedback | None = None


@dataclass(frozen=True)
class MakePictures(_Move):
    """Make these pictures."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class MakeEdit(_Move):
    """Continue an edit as `plan` says, or draw a new picture if its choice is "redraw". The strategy is asked again when
    the plan is ready.

    The planner fills in the steps of a plan that has none yet; `prompt` is then what the picture was made from. With
    `again` it plans the step under way again. `branches`: what became of the results of the step before.
    """

    plan: EditPlan
    branches: tuple[Branch, ...] | None = None
    prompt: str | None = None
    again: bool = False


@dataclass(frozen=True)
class Stop(_Move):
    """End the run: nothing is left that this strategy would do, or can pay."""

    reason: StopReason
    why: str


Move = MakeRewrites | MakePictures | MakeEdit | Stop


class Strategy(Protocol):
    """Says what comes next. Pure: it reads nothing but the view, so that a run that was killed makes the same move."""

    def __call__(self, view: View) -> Move: ...


def room(view: View, effort: float = 1.0, backend: str = GENERATOR) -> int:
    """How many more pictures at this share of the steps the budget pays: images, denoiser steps and judgements."""
    limits, spent = view.limits, view.spent
    places = limits.max_images - spent.images
    if limits.max_judgements:
        places = min(places, limits.max_judgements - spent.judgements)
    if limits.max_steps:
        places = min(places, (limits.max_steps - spent.steps) // price(view, effort, backend))
    return max(0, places)


def price(view: View, effort: float = 1.0, backend: str = GENERATOR) -> int:
    """Denoiser steps of a picture. One of a backend that does not say how many it makes costs 1."""
    known = view.backends[backend].steps if backend in view.backends else None
    return 1 if known is None else steps_at(known, effort)


def too_little(view: View) -> Stop:
    """What a strategy says if `room` is 0."""
    limits, spent = view.limits, view.spent
    left = []
    if limits.max_steps:
        left.append(f"{limits.max_steps - spent.steps} of {limits.max_steps} steps")
    if limits.max_judgements:
        left.append(f"{limits.max_judgements - spent.judgements} of {limits.max_judgements} judgements")
    left.append(f"{limits.max_images - spent.images} of {limits.max_images} images")
    return Stop(StopReason.BUDGET, f"what is left of the budget pays no further picture: {', '.join(left)}")


def derive_seed(seed: int, number: int, index: int) -> int:
    """Seed in [0, 2**31) of the index-th draw of a round. The run's very first draw has the run's own seed."""
    if (number, index) == (1, 0):
        return seed
    digest = hashlib.sha256(f"{seed}:{number}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
