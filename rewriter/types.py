"""What a rewriter is given and what it gives: a request, and a Rewrite of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from redraft.chat import Usage


@dataclass(frozen=True)
class Rewrite:
    """A better prompt, and how the model arrived at it. `thought` never reaches an image model."""

    prompt: str
    thought: str = ""
    negative_prompt: str | None = None
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    findings: tuple[str, ...] = ()
    """What the guard found and a second try mended, and notices to the user; empty if the rewrite passed at once."""
    fallback: bool = False
    """Whether the rewrite was given up: then `prompt` is the request itself."""
    tries: int = 1
    """How often the model was asked: 2 if the first reply could not be used, 0 if the style keeps such requests."""


@dataclass(frozen=True)
class Feedback:
    """What was wrong with a picture: the prompt that drew it, and the question of each failed check, with the judge's
    reason behind it if there is one."""

    prompt: str
    failed: tuple[str, ...]


class Rewriter(Protocol):
    """Request in, prompts out. Never raises for a bad reply: then the request itself is the prompt, and `fallback` is set."""

    async def __call__(
        self, request: str, *, n: int = 1, seed: int = 0, feedback: Feedback | None = None
    ) -> list[Rewrite]: ...
