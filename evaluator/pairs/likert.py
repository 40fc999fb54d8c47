"""A judge of single pictures that answers with a word of a scale, read as an expectation over the words."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from evaluator.pairs.ranking import thurstone
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError
from redraft.templates import fence, fill, load_template

WORDS = ("terrible", "poor", "average", "good", "excellent")
"""The worst first. Single tokens of the usual tokenizers, unlike MJ-Bench's "Extremely Poor" and "Outstanding"."""


@dataclass(frozen=True)
class Rating:
    """`score` in [0, 1], None where the judge FAILED; `variance` of the answer over the words, on that scale."""

    score: float | None
    variance: float = 0.0
    failure: str = ""


class LikertJudge:
    """score = sum over words of P(word) k / (n - 1), k = 0 for the worst, over P of all words together (as Edit-R1
    reads its digits, arXiv 2510.16888). Where the words together have less than `min_label_mass`, it FAILED.

    The variance goes with it: two ratings are compared by `evaluator.pairs.ranking`'s Thurstone model.
    """

    def __init__(self, chat: ChatModel, min_label_mass: float = 0.5, style: str = "likert") -> None:
        self._chat = chat
        self._min_mass = min_label_mass
        self._template = load_template("evaluator", style, "judge")

    @property
    def name(self) -> str:
        return f"in words of a scale {self._chat.name}"

    async def __call__(self, image: Image.Image, prompt: str, question: str = "") -> Rating:
        text = fill(self._template, fenced_prompt=fence(prompt), words=", ".join(WORDS), question=question)
        request = ChatRequest((Message("user", (image, text)),), max_tokens=1, choices=WORDS)
        try:
            reply = await self._chat(request)
        except BackendError as error:
            return Rating(None, failure=str(error))
        p = [math.exp(reply.logprobs.get(word, -math.inf)) for word in WORDS]
        mass = sum(p)
        if not math.isfinite(mass) or mass < self._min_mass or mass == 0:
            return Rating(None, failure=f"answered with none of the words (together {mass:.3f} of the probability)")
        steps = [k / (len(WORDS) - 1) for k in range(len(WORDS))]
        mean = sum(share * step for share, step in zip(p, steps, strict=True)) / mass
        return Rating(mean, sum(share * (step - mean) ** 2 for share, step in zip(p, steps, strict=True)) / mass)


class ThurstoneRanks:
    """Orders a group by one rating of each picture and its spread (`evaluator.pairs.ranking.thurstone`): one request a
    picture, where win rates take two a pair. It sees no source, and so judges edits by their results alone."""

    def __init__(self, judge: LikertJudge) -> None:
        self._judge = judge

    @property
    def name(self) -> str:
        return f"Thurstone, {self._judge.name}"

    async def __call__(
        self, prompt: str, pictures: Sequence[Image.Image], source: Image.Image | None = None
    ) -> list[float | None]:
        told = await asyncio.gather(*(self._judge(picture, prompt) for picture in pictures))
        return thurstone([None if one.score is None else (one.score, one.variance) for one in told])
