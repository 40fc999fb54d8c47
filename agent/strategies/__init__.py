"""What a run does next with the budget that is left.

A strategy is a pure function of what the journal holds, so that a run that was killed makes the same move again:

    view = View(request="a red star", seed=7, limits=Limits())
    load_strategy("loop")(view)                                  # MakeRewrites(n=1, ...)
    load_strategy("loop")(replace(view, rewrites=(rewrite,)))    # MakePictures(tasks=(the request itself, the rewrite))

`loop` rewrites and draws, round by round; `tree` edits in steps. Whether a run ends is not theirs to say: `agent.decide`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from agent.types import Attempt, Branch, EditPlan, Task
from evaluator.types import Report
from redraft.limits import Limits
from rewriter.types import Feedback, Rewrite

Joiner = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Cost:
    """What was spent so far."""

    images: int = 0


@dataclass(frozen=True)
class View:
    """All that a strategy knows. Pictures are named by their hashes, tasks by their keys.

    `round` is the one to be planned, from 1. `rewrites` are those made for it, None before any were asked for.
    `attempts`: all that were judged, in order, by the keys of their tasks; `latest`: those of the round before.

    `source` is the picture that the user gave to be edited and `source_report` what the judge said of it; `reports` are
    those of the other pictures. `plan`: the edit under way; `earlier`: all plans of the rounds before. `ready`: the edit
    that this round makes, once its steps are planned; `mask`: the part of the picture that the user lets it change; `inpaints`:
    whether the editor keeps to a mask; `join`: puts several instructions into one.
    """

    request: str
    seed: int
    limits: Limits
    round: int = 1
    spent: Cost = Cost()
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    latest: Mapping[str, Attempt] = field(default_factory=dict)
    rewrites: tuple[Rewrite, ...] | None = None
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
        """What the judge said of a picture, None if it never saw it."""
        if image is not None and image == self.source:
            return self.source_report
        return None if image is None else self.reports.get(image)


@dataclass(frozen=True)
class MakeRewrites:
    """Ask the rewriter for `n` rewrites of the request, and then the strategy again."""

    n: int
    seed: int
    feedback: Feedback | None = None


@dataclass(frozen=True)
class MakePictures:
    """Make these pictures."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class MakeEdit:
    """Go on with an edit as `plan` says, or draw a new picture if its choice is "redraw". The strategy is asked again when
    the plan is ready.

    The planner fills in the steps of a plan that has none yet; `prompt` is then what the picture was made from. With
    `again` it plans the step under way anew. `branches`: what became of the results of the step before.
    """

    plan: EditPlan
    branches: tuple[Branch, ...] | None = None
    prompt: str | None = None
    again: bool = False


Move = MakeRewrites | MakePictures | MakeEdit
Strategy = Callable[[View], Move]

STRATEGIES: Mapping[str, str] = {"loop": "agent.strategies.loop:loop", "tree": "agent.strategies.tree:tree"}


def load_strategy(name: str) -> Strategy:
    """The strategy of that name. Raises KeyError if there is none."""
    module, _, function = STRATEGIES[name].partition(":")
    strategy: Strategy = getattr(import_module(module), function)
    return strategy
