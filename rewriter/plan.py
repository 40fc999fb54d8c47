"""The words of the planner: what it is told after a picture was judged, and what it may answer.

The planner decides between writing a new prompt and editing the best picture so far; for an edit it lists sub-tasks.
There are two: `rewriter.chat_plan.ChatPlanner`, the rewriter's model with a prompt of its own, and
`mini.phrasebook.planner.RulePlanner`, fixed rules for models that cannot plan, and for replies that cannot be read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from PIL import Image

from redraft.chat import Usage

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as fractions of width and height."""
Choice = Literal["redraw", "edit"]
Look = Callable[[Sequence[str]], Awaitable[list[float | None]]]
"""Asks the judge yes/no questions about the picture that is to be edited: P(yes) of each, None without an answer."""
RULES = "rules"
"""`Plan.by` of a plan that no model made."""


@dataclass(frozen=True)
class Fault:
    """A question about the picture that was not answered with yes, and what the judge said to it."""

    question: str
    reason: str = ""
    region: Box | None = None


@dataclass(frozen=True)
class Step:
    """One sub-task of an edit.

    `instruction` is what the editor is told. `questions`: those that should be answered with yes afterwards.
    `region`: where to look for it, None where nobody said. `local`: nothing outside of what it names should change.
    `after`: positions in the plan of sub-tasks that must be done before this one.
    `draft`: what is new in the picture then, as a prompt that draws it by itself; "" where nothing is.
    """

    instruction: str
    thought: str = ""
    questions: tuple[str, ...] = ()
    region: Box | None = None
    local: bool = False
    after: tuple[int, ...] = ()
    draft: str = ""


@dataclass(frozen=True)
class Situation:
    """What the planner is told.

    ask:        the user's own words: a prompt, or the instruction of an edit.
    editing:    True where the user gave a picture to be edited; there is nothing to redraw then.
    prompt:     what drew the best picture so far; None before anything was drawn.
    faults:     what is wrong with the picture, the surest first. Before the first edit: all that is wanted.
    passed:     questions that are answered with yes, which an edit must leave so.
    done:       the sub-tasks that led from the source picture to the best one.
    refused:    a sub-task of which no result was good enough; it is to be put in other words or in smaller parts.
    edits_left: how many more sub-tasks may be put on top of `done`.
    chain:      the story so far, text and pictures by turns, the picture in question last. For models that see.
    look:       asks the judge about that picture.
    """

    ask: str
    editing: bool = False
    prompt: str | None = None
    faults: tuple[Fault, ...] = ()
    passed: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    refused: Step | None = None
    edits_left: int = 1
    chain: tuple[str | Image.Image, ...] = ()
    look: Look | None = None


@dataclass(frozen=True)
class Plan:
    """What comes next, and why. `steps` is empty exactly where the choice is to redraw.

    `by` is the model's name, or "rules"; `fault` says why rules stood in for a model, empty where they did not.
    """

    choice: Choice
    reason: str
    steps: tuple[Step, ...] = ()
    by: str = RULES
    fault: str = ""
    usage: Usage = field(default_factory=Usage)


class Planner(Protocol):
    """Decides what comes next. Never raises for a bad reply: fixed rules stand in, and the plan says so.

    Raises BackendError where the model cannot be reached.
    """

    async def __call__(self, situation: Situation, *, seed: int = 0) -> Plan: ...

    def join(self, instructions: Sequence[str]) -> str:
        """Several instructions said as one, in the manner that the editor is used to."""
        ...


def in_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps so that each comes after those it depends on, else in their own order. What cannot be kept (a circle,
    a step that is not there) is dropped from `after`."""
    left = list(range(len(steps)))
    placed: list[int] = []
    while left:
        ready = next((i for i in left if all(j in placed for j in steps[i].after if j in left or j in placed)), left[0])
        placed.append(ready)
        left.remove(ready)
    position = {old: new for new, old in enumerate(placed)}
    ordered = []
    for old in placed:
        step = steps[old]
        after = tuple(sorted(position[j] for j in step.after if j in position and position[j] < position[old]))
        ordered.append(_with_after(step, after))
    return tuple(ordered)


def merged(steps: Sequence[Step], most: int, join: Callable[[Sequence[str]], str]) -> tuple[Step, ...]:
    """Steps without mutual dependence put together, at most `most` in one; `join` makes one instruction of several.

    `steps` as from `in_order`. A step goes into the earliest group behind everything that it depends on.
    """
    groups: list[list[int]] = []
    group_of: dict[int, int] = {}
    for index, step in enumerate(steps):
        first = max((group_of[j] + 1 for j in step.after), default=0)
        at = next((g for g in range(first, len(groups)) if len(groups[g]) < most), len(groups))
        if at == len(groups):
            groups.append([])
        groups[at].append(index)
        group_of[index] = at
    return tuple(_one([steps[i] for i in group], join, at) for at, group in enumerate(groups))


def _one(steps: Sequence[Step], join: Callable[[Sequence[str]], str], at: int) -> Step:
    before = () if at == 0 else (at - 1,)
    if len(steps) == 1:
        return _with_after(steps[0], before)
    boxes = [step.region for step in steps]
    return Step(
        instruction=join([step.instruction for step in steps]),
        thought=" ".join(step.thought for step in steps if step.thought),
        questions=tuple(dict.fromkeys(q for step in steps for q in step.questions)),
        region=None if None in boxes else _around([box for box in boxes if box is not None]),
        local=all(step.local for step in steps),
        after=before,
        draft=", ".join(step.draft for step in steps if step.draft),
    )


def _around(boxes: Sequence[Box]) -> Box:
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def _with_after(step: Step, after: tuple[int, ...]) -> Step:
    return replace(step, after=after)
