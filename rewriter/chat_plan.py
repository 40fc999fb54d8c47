"""The planner over a chat model: the rewriter's model with a prompt of its own.

A style whose folder has `plan.txt` (`{{situation}}`) and `plan_system.txt` can plan; others are planned for by rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mini.phrasebook.phrases import load_phrases
from mini.phrasebook.planner import RulePlanner
from redraft.chat import ChatModel, ChatRequest, Message, Usage
from redraft.errors import BadReply, ConfigError
from redraft.profiles import RewriterConfig
from redraft.templates import fence, fill, load_template, placeholders, style_folder
from rewriter.plan import Box, Choice, Plan, Planner, Situation, Step, in_order

MAX_STEPS = 12
_TRIES = 2


def open_planner(model: ChatModel, config: RewriterConfig) -> Planner:
    """The planner of a profile's rewriter: its model where the style has a prompt for it, else rules.

    Raises ConfigError where the style cannot be used.
    """
    rules = RulePlanner(load_phrases(config.style))
    if not (style_folder("rewriter", config.style) / "plan.txt").is_file():
        return rules
    return ChatPlanner(model, config, rules)


class ChatPlanner:
    """A Planner that asks `model` for JSON. A reply that cannot be used is asked for once more; after that `rules`
    stand in, and the plan's `fault` says so. Pictures are shown where the config says that the model sees.

    Raises ConfigError for templates that cannot be used when it is made, and BackendError where the model is down.
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
                    read = _Reply.model_validate_json(reply.text)
                    plan = self._plan(read, situation, reply.model or self._model.name)
                    return replace(plan, usage=usage)
                except (ValidationError, _Unusable) as error:
                    fault = _first(error)
            request = replace(request, temperature=max(0.7, self._config.temperature), seed=seed + attempt + 1)
        plan = await self._rules(situation, seed=seed)
        return replace(plan, fault=f"the planner's reply could not be used ({fault}); rules stand in", usage=usage)

    def join(self, instructions: Sequence[str]) -> str:
        return self._rules.join(instructions)

    def _request(self, situation: Situation, seed: int) -> ChatRequest:
        text = fill(self._template, situation=told(situation))
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


def told(situation: Situation) -> str:
    """The situation in words. What users, judges and models said is fenced."""
    what = "instruction" if situation.editing else "user_prompt"
    head = "The user gave a picture and asks for this edit of it:" if situation.editing else "The user asked for this:"
    parts = [f"{head}\n{fence(situation.ask, what)}"]
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
        told_before = fence(situation.refused.instruction, "refused")
        parts.append(f"No result of this sub-task was good enough. Plan it anew, and only it:\n{told_before}")
    parts.append(f"Sub-tasks that are left: at most {situation.edits_left}.")
    if situation.editing:
        parts.append('The choice is "edit": a new picture is not wanted.')
    return "\n\n".join(parts)


def _first(error: ValidationError | _Unusable) -> str:
    if isinstance(error, _Unusable):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'reply'}: {first['msg']}"
