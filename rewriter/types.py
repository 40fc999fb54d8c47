"""The words of the rewriter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from redraft.chat import Usage


@dataclass(frozen=True)
class Rewrite:
    """A better prompt, and how the model came to it. `thought` never reaches an image model."""

    prompt: str
    thought: str = ""
    negative_prompt: str | None = None
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    findings: tuple[str, ...] = ()
    """What the intent guard found and mended, and notices to the user; empty where the rewrite passed as it came."""
    fallback: bool = False
    """True where the rewrite was given up and `prompt` is the user's own."""
    tries: int = 1
    """How often the model was asked: 2 where the first reply could not be used."""


@dataclass(frozen=True)
class Feedback:
    """What was wrong with a picture: the prompt that drew it, and the question of each failed check, with the judge's
    reason behind it where there is one."""

    prompt: str
    failed: tuple[str, ...]


class Rewriter(Protocol):
    """Prompt in, better prompts out. Never raises for a bad reply: it falls back to the original and says so."""

    async def __call__(
        self, prompt: str, *, n: int = 1, seed: int = 0, feedback: Feedback | None = None
    ) -> list[Rewrite]: ...
