"""The words of judging pictures against one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


@dataclass(frozen=True)
class Comparison:
    """Which of two pictures is better. `p_first`: probability that the first is, 0.5 for a tie; None where the judge
    FAILED, and `failure` then says why. `raw`: the judge's own words."""

    p_first: float | None
    failure: str = ""
    raw: str = ""


@dataclass(frozen=True)
class Two:
    """Two pictures made for `prompt`; with a `source`, edits of it, and `prompt` is the instruction. `question`: what
    they are compared in, None for how good they are as a whole."""

    prompt: str
    first: Image.Image
    second: Image.Image
    source: Image.Image | None = None
    question: str | None = None

    def swapped(self) -> Two:
        return Two(self.prompt, self.second, self.first, self.source, self.question)


class PairJudge(Protocol):
    """Compares two pictures, shown in their order, which can matter. A failure is in the comparison, never raised."""

    @property
    def name(self) -> str: ...

    async def __call__(self, two: Two) -> Comparison: ...


class GroupJudge(Protocol):
    """Judges pictures of one prompt against one another, edits of `source` where there is one: of each the probability
    that it is better than another of them. None where it FAILED."""

    @property
    def name(self) -> str: ...

    async def __call__(
        self, prompt: str, pictures: Sequence[Image.Image], source: Image.Image | None = None
    ) -> list[float | None]: ...
