"""Planning what comes after a picture was judged: a new prompt, or edits of the best picture so far.

A planner decides between the two; for an edit it lists steps. There are two: `ChatPlanner`, the rewriter's model
with a prompt of its own, and `RulePlanner`, fixed rules for models that cannot plan and for replies that cannot be
read. A profile can name another one:

    [planner]
    use = "package.module:Class"
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from redraft.chat import ChatModel, ChatRequest, Message, Usage
from redraft.errors import BadReply, ConfigError
from redraft.json_replies import read_json
from redraft.profiles import RewriterConfig
from redraft.templates import fence, fill, load_template, placeholders, style_folder

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as fractions of width and height."""
Choice = Literal["redraw", "edit"]
Look = Callable[[Sequence[str]], Awaitable[list[float | None]]]
"""Asks the judge yes/no questions about the picture that is to be edited: P(yes) of each, None without an answer."""
RULES = "rules"
"""`Plan.by` of a plan that no model made."""
MAX_STEPS = 12
_TRIES = 2
_EDIT_FROM = 0.5
"""The least share of questions answered with yes for which rules edit a picture rather than draw a new one."""
_SENTENCES = re.compile(r";|(?<=[.!])\s+|\n|,? and then |,? then ", re.IGNORECASE)
_NUMBER = "two|three|four|five|six|seven|eight|nine|ten"
_INSTRUCTIONS = (
    (r"(?:Is there an?|Are there any) ([^?]{2,120}?)\?", r"Add this to the picture: \1"),
    (rf"Are there exactly ((?:{_NUMBER}) [^?]{{2,120}}?)\?", r"Make it exactly \1"),
    (r"Is the picture free of ([^?]{2,120}?)\?", r"Remove from the picture: \1"),
    (r"Does the (?:picture|sign|text|image) (?:say|read) ([^?]{1,120}?)\?", r"Make the text in the picture read \1"),
)
"""(question, the instruction that mends it)."""
_ANY_INSTRUCTION = "Change the picture so that the answer to this question is yes: {} Leave everything else as it is."


@dataclass(frozen=True)
class FailedQuestion:
    """A question about the picture that was not answered with yes, and what the judge answered."""

    question: str
    reason: str = ""
    region: Box | None = None


@dataclass(frozen=True)
class Step:
    """One step of an edit.

    `instruction` goes to the editor. `questions`: those that should be answered with yes afterwards.
    `region`: where to look for it, None if unknown. `local`: nothing outside of what it names should change.
    `after`: positions in the plan of steps that must be done before this one.
    `draft`: what is new in the picture then, as a prompt that draws it alone; "" if nothing is.
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
    """What the planner knows.

    request:    what the user wrote: what to draw, or the instruction of an edit.
    editing:    True if the user gave a picture to be edited; there is nothing to redraw then.
    prompt:     what drew the best picture so far; None before anything was drawn.
    faults:     what is wrong with the picture, the surest first. Before the first edit: all that is wanted.
    passed:     questions that are answered with yes, which an edit must leave so.
    done:       the steps that led from the source picture to the best one.
    refused:    a step of which no result was good enough; it is to be put in other words or in smaller parts.
    edits_left: how many more steps may be put on top of `done`.
    chain:      the trace so far, text and pictures alternating, the picture in question last. For models that see.
    look:       asks the judge about that picture.
    """

    request: str
    editing: bool = False
    prompt: str | None = None
    faults: tuple[FailedQuestion, ...] = ()
    passed: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    refused: Step | None = None
    edits_left: int = 1
    chain: tuple[str | Image.Image, ...] = ()
    look: Look | None = None


@dataclass(frozen=True)
class Plan:
    """What comes next, and why. `steps` is empty exactly if the choice is to redraw.

    `by` is the model's name, or "rules"; `fault` says why fixed rules planned instead of a model, empty if they did not.
    """

    choice: Choice
    reason: str
    steps: tuple[Step, ...] = ()
    by: str = RULES
    fault: str = ""
    usage: Usage = field(default_factory=Usage)


class Planner(Protocol):
    """Decides what comes next. Never raises for a bad reply: fixed rules plan then, and the plan says so.

    Raises BackendError if the model cannot be reached.
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


def open_planner(model: ChatModel, config: RewriterConfig) -> Planner:
    """The planner of a profile's rewriter: its model if the style has `plan.txt` (`{{situation}}`) and
    `plan_system.txt`, else rules. Raises ConfigError if the style cannot be used."""
    if not (style_folder("rewriter", config.style) / "plan.txt").is_file():
        return RulePlanner()
    return ChatPlanner(model, config, RulePlanner())


class RulePlanner:
    """A Planner by fixed rules: the user's words sentence by sentence, and one plain instruction for each question
    that was not answered with yes. Deterministic."""

    async def __call__(self, situation: Situation, *, seed: int = 0) -> Plan:
        if situation.refused is not None:
            return self._plan_again(situation, situation.refused)
        if situation.editing and not situation.done:
            return self._plan_request(situation)
        return self._plan_repair(situation)

    def join(self, instructions: Sequence[str]) -> str:
        bare = [text.strip() for text in instructions]
        return ". ".join([*(text.rstrip(".") for text in bare[:-1]), *bare[-1:]])

    def _plan_request(self, situation: Situation) -> Plan:
        steps = self._steps(situation.request, situation.faults)
        if len(steps) == 1:
            steps = (replace(steps[0], instruction=situation.request),)
        count = "one step" if len(steps) == 1 else f"{len(steps)} steps"
        return Plan("edit", f"the instruction has {count}", steps)

    def _plan_again(self, situation: Situation, refused: Step) -> Plan:
        steps = self._steps(refused.instruction, situation.faults)
        if len(steps) > 1:
            return Plan("edit", f"in {len(steps)} smaller parts", steps)
        return Plan("edit", "the same words, drawn anew", (replace(refused, after=()),))

    def _plan_repair(self, situation: Situation) -> Plan:
        right, total = len(situation.passed), len(situation.faults) + len(situation.passed)
        if not situation.faults:
            return redraw_or_retry(situation, "no single question says what is wrong")
        if not situation.editing and right / total < _EDIT_FROM:
            reason = f"only {right} of {total} questions are answered with yes, so there is little to keep"
            return redraw_or_retry(situation, reason)
        steps: dict[str, Step] = {}
        for fault in situation.faults:
            instruction = _instruction(fault.question)
            step = steps.setdefault(instruction, Step(instruction, f"Mends: {fault.question}", (), fault.region))
            steps[instruction] = replace(step, questions=(*step.questions, fault.question))
        return repair_plan(situation, list(steps.values())[: situation.edits_left])

    def _steps(self, instruction: str, faults: Sequence[FailedQuestion]) -> tuple[Step, ...]:
        """A step for each sentence. No rule tells which question is about which: all go with the last."""
        pieces = [" ".join(piece.split()).strip(" ,;.!?") for piece in _SENTENCES.split(instruction)]
        steps = [Step(piece) for piece in pieces if any(char.isalnum() for char in piece)] or [Step(instruction)]
        steps[-1] = replace(steps[-1], questions=tuple(fault.question for fault in faults))
        return in_order(steps)


def _instruction(question: str) -> str:
    for pattern, instruction in _INSTRUCTIONS:
        match = re.fullmatch(pattern, question.strip(), re.IGNORECASE)
        if match is not None:
            return match.expand(instruction)
    return _ANY_INSTRUCTION.format(question.strip())


def repair_plan(situation: Situation, steps: Sequence[Step]) -> Plan:
    """The plan that mends the situation's faults by `steps`; without a step, to draw a new picture."""
    if not steps:
        return redraw_or_retry(situation, "nothing more can be edited")
    count = sum(len(step.questions) for step in steps)
    mended = "1 question is" if count == 1 else f"{count} questions are"
    total = len(situation.faults) + len(situation.passed)
    return Plan(
        "edit", f"{mended} to be mended, {len(situation.passed)} of {total} are right and stay", in_order(steps)
    )


def redraw_or_retry(situation: Situation, reason: str) -> Plan:
    """To draw a new picture; a picture that the user gave cannot be drawn anew, so the request is tried once more."""
    if not situation.editing:
        return Plan("redraw", reason)
    questions = tuple(fault.question for fault in situation.faults)
    return Plan("edit", f"{reason}; the instruction is tried once more", (Step(situation.request, "", questions),))


class ChatPlanner:
    """A Planner that asks `model` for JSON. If a reply cannot be used, the model is asked once more; after that `rules`
    plan, and the plan's `fault` says so. Pictures are shown if the config says that the model sees.

    Raises ConfigError for templates that cannot be used when it is made, and BackendError if the model is down.
    """

    def __init__(self, model: ChatModel, config: RewriterConfig, rules: Planner) -> None:
        self._model = model
        self._config = config
        self._rules = rules
        self._template = load_template("rewriter", config.style, "plan")
        self._system = load_template("rewriter", config.style, "plan_system")
        if placeholders(self._template) != {"situation"} or placeholders(self._system):
            raise ConfigError(
                f"plan.txt of style {config.style!r} must hold {{{{situation}}}} and nothing else in double braces, "
                "plan_system.txt nothing"
            )

    async def __call__(self, situation: Situation, *, seed: int = 0) -> Plan:
        request = self._request(situation, seed)
        usage, fault = Usage(), ""
        for attempt in range(_TRIES):
            try:
                reply = await self._model(request)
            except BadReply as error:
                fault = str(error)
            else:
                usage += reply.usage
                try:
                    read = read_json(reply.text, _Reply).value
                    plan = self._plan(read, situation, reply.model or self._model.name)
                    return replace(plan, usage=usage)
                except (ValueError, _Unusable) as error:
                    fault = _first(error)
            request = replace(request, temperature=max(0.7, self._config.temperature), seed=seed + attempt + 1)
        plan = await self._rules(situation, seed=seed)
        return replace(
            plan, fault=f"the planner's reply could not be used ({fault}); fixed rules are used", usage=usage
        )

    def join(self, instructions: Sequence[str]) -> str:
        return self._rules.join(instructions)

    def _request(self, situation: Situation, seed: int) -> ChatRequest:
        text = fill(self._template, situation=describe_situation(situation))
        parts: list[str | Image.Image] = list(situation.chain) if self._config.sees else []
        content = (*parts, text) if parts else text
        return ChatRequest(
            (Message("system", self._system), Message("user", content)),
            max_tokens=self._config.max_tokens,
            temperature=0.0,
            seed=seed,
            schema=_Reply.model_json_schema(),
        )

    def _plan(self, reply: _Reply, situation: Situation, by: str) -> Plan:
        if situation.editing and reply.choice == "redraw":
            raise _Unusable("there is nothing to redraw in a picture that the user gave")
        if reply.choice == "redraw":
            return Plan("redraw", reply.reason, by=by)
        if not reply.steps:
            raise _Unusable("an edit without a step")
        numbered = [fault.question for fault in situation.faults]
        steps = [
            Step(
                " ".join(step.instruction.split()),
                step.thought.strip(),
                tuple(numbered[n - 1] for n in step.mends if 1 <= n <= len(numbered)),
                step.box(),
                step.local,
                tuple(n - 1 for n in step.after if n != index + 1),
                " ".join(step.draft.split()),
            )
            for index, step in enumerate(reply.steps[: max(1, situation.edits_left)])
        ]
        return Plan("edit", reply.reason, in_order(steps), by)


class _Unusable(Exception):  # noqa: N818
    """A reply of the right form that cannot be followed."""


class _ReplyStep(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    thought: str = ""
    instruction: str = Field(min_length=1, max_length=2000)
    mends: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    local: bool = False
    region: tuple[float, float, float, float] | None = None
    draft: str = Field(default="", max_length=2000)

    @field_validator("instruction")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not any(char.isalnum() for char in value):
            raise ValueError("an instruction without a word")
        return value

    def box(self) -> Box | None:
        if self.region is None:
            return None
        left, top, right, bottom = self.region
        return self.region if 0 <= left < right <= 1 and 0 <= top < bottom <= 1 else None


class _Reply(BaseModel):
    """What the model is asked for; the reason comes first, so that it is thought of first."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    reason: str = Field(max_length=4000)
    choice: Choice
    steps: tuple[_ReplyStep, ...] = Field(default=(), max_length=MAX_STEPS)


def describe_situation(situation: Situation) -> str:
    """The situation in words. What users, judges and models wrote is fenced."""
    what = "instruction" if situation.editing else "user_prompt"
    head = "The user gave a picture and asks for this edit of it:" if situation.editing else "The user asked for this:"
    parts = [f"{head}\n{fence(situation.request, what)}"]
    if situation.prompt is not None and not situation.editing:
        parts.append(f"The best picture so far was made from:\n{fence(situation.prompt, 'drawn_from')}")
    if situation.done:
        parts.append(f"Edits that were made on the way to it:\n{fence(chr(10).join(situation.done), 'edits_made')}")
    if situation.passed:
        right = "Questions about it that are answered with yes, and must stay so:"
        parts.append(f"{right}\n{fence(chr(10).join(situation.passed), 'right')}")
    if situation.faults:
        lines = [
            f"{n}. {fault.question} {fault.reason}".strip()
            + ("" if fault.region is None else f" (region {', '.join(f'{x:.2f}' for x in fault.region)})")
            for n, fault in enumerate(situation.faults, start=1)
        ]
        parts.append(f"Questions that are not answered with yes yet:\n{fence(chr(10).join(lines), 'wrong')}")
    if situation.refused is not None:
        refused = fence(situation.refused.instruction, "refused")
        parts.append(f"No result of this sub-task was good enough. Plan it anew, and only it:\n{refused}")
    parts.append(f"Sub-tasks that are left: at most {situation.edits_left}.")
    if situation.editing:
        parts.append('The choice is "edit": a new picture is not wanted.')
    return "\n\n".join(parts)


def _first(error: ValueError | _Unusable) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'reply'}: {first['msg']}"
