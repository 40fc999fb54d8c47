"""Reading a rewriter's reply: what it says, and whether its prompt may be used. The one way for everybody: the agent's
loop, batches and clusters. Pure functions of picklable values, so that they run in any process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from redraft.chat import ChatReply
from rewriter.guard import GuardSettings, check_intent
from rewriter.parse import parse_reply
from rewriter.target import Target

_DEFAULT = GuardSettings()


@dataclass(frozen=True)
class Rules:
    """What a reply is held against: the intent guard's settings, and the image model's wishes."""

    guard: GuardSettings = _DEFAULT
    target: Target | None = None

    @classmethod
    def of(cls, guard: GuardSettings, target: Target | None) -> Rules:
        """The rules of a style for a target. The target counts tokens better than the guard estimates them, so the
        guard's own rule on length only stops what has no end."""
        if target is not None:
            guard = guard.model_copy(update={"max_tokens": max(16, 2 * target.max_tokens)})
        return cls(guard, target)


@dataclass(frozen=True)
class Review:
    """A reply, read and checked. Its prompt may be used where `faults` is empty.

    faults:   plain sentences, fit to be shown to the model.
    findings: the same with the names of the rules before them.
    notices:  what the user should know and no rewrite mends.
    """

    thought: str = ""
    prompt: str | None = None
    negative_prompt: str | None = None
    faults: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


Reviewer = Callable[[str, ChatReply], Awaitable[Review]]
"""Reads the reply to a request for a rewrite of the given original."""


def review(original: str, reply: ChatReply, rules: Rules) -> Review:
    """Never raises for the texts."""
    parsed = parse_reply(reply.text, reasoning=reply.reasoning, truncated=reply.truncated)
    if parsed.prompt is None:
        problem = parsed.problem or "The reply could not be read."
        return Review(parsed.thought, None, None, (problem,), (f"reply: {problem}",))
    prompt, negative, target = parsed.prompt, None, rules.target
    if target is not None:
        prompt, negative = target.split(prompt)
    found = [(finding.rule, finding.message) for finding in check_intent(original, prompt, rules.guard)]
    if target is not None:
        found += target.faults(original, prompt, negative)
    notice = None if target is None else target.notice(original)
    return Review(
        thought=parsed.thought,
        prompt=prompt,
        negative_prompt=negative,
        faults=tuple(message for _, message in found),
        findings=tuple(f"{rule}: {message}" for rule, message in found),
        notices=() if notice is None else (notice,),
    )
