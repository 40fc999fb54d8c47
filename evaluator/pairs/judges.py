"""Judging pictures against one another: judges of pairs, and the order of a group."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from PIL import Image

from evaluator.judge import YES_NO
from evaluator.pairs.ranking import thurstone, win_rates
from evaluator.replies import read_reply
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError
from redraft.templates import fence, fill, load_template


@dataclass(frozen=True)
class Comparison:
    """Which of two pictures is better. `p_first`: probability that the first is, 0.5 for a tie; None if the judge FAILED,
    and `failure` then says why. `raw`: the judge's own words."""

    p_first: float | None
    failure: str = ""
    raw: str = ""


@dataclass(frozen=True)
class PicturePair:
    """Two pictures made for `request`; with a `source`, edits of it, and `request` is the instruction. `question`: what
    they are compared in, None for how good they are as a whole."""

    request: str
    first: Image.Image
    second: Image.Image
    source: Image.Image | None = None
    question: str | None = None

    def swapped(self) -> PicturePair:
        return PicturePair(self.request, self.second, self.first, self.source, self.question)


class PairJudge(Protocol):
    """Compares two pictures, shown in their order, which can matter. A failure is in the comparison, never raised."""

    @property
    def name(self) -> str: ...

    async def __call__(self, pair: PicturePair) -> Comparison: ...


class GroupJudge(Protocol):
    """Judges pictures of one request (or edits of one `source`) against one another: for each the probability that it is
    better than another of them. None if it FAILED."""

    @property
    def name(self) -> str: ...

    async def __call__(
        self, request: str, pictures: Sequence[Image.Image], source: Image.Image | None = None
    ) -> list[float | None]: ...


_MAX_TOKENS = 1024


class YesNoPairJudge:
    """ "Is the second better?", read as P(yes) / (P(yes) + P(no)) off the first token (RewardDance, arXiv 2509.08826).

    `bare` leaves out its defences, to measure what they are worth: the fence around the request, the sentence about
    writing in pictures, the question at the end, and the least label mass.
    """

    def __init__(self, chat: ChatModel, min_label_mass: float = 0.5, *, bare: bool = False) -> None:
        self._chat = chat
        self._min_mass = 0.0 if bare else min_label_mass
        self._bare = bare
        names = ("bare", "bare_edit") if bare else ("better", "better_edit")
        self._pictures, self._edits = (load_template("evaluator", "pairwise", name) for name in names)

    @property
    def name(self) -> str:
        return f"pairwise {self._chat.name}{' without defences' if self._bare else ''}"

    async def __call__(self, pair: PicturePair) -> Comparison:
        question = "Is the second one better?"
        if pair.question is not None:
            question = f'Is the answer to "{pair.question}" more surely yes for the second one?'
        template = self._pictures if pair.source is None else self._edits
        text = fill(template, fenced_request=pair.request if self._bare else fence(pair.request), question=question)
        request = ChatRequest((Message("user", (*_shown(pair), text)),), max_tokens=1, choices=YES_NO)
        try:
            reply = await self._chat(request)
        except BackendError as error:
            return Comparison(None, str(error))
        yes, no = (math.exp(reply.logprobs.get(choice, -math.inf)) for choice in YES_NO)
        mass = yes + no
        if not math.isfinite(mass) or mass < self._min_mass or mass == 0:
            return Comparison(None, f"did not answer yes or no (together {mass:.3f} of the probability)", reply.text)
        return Comparison(no / mass, raw=reply.text)


class WordsPairJudge:
    """Asks for thoughts and one of three sentences, UnifiedReward's reply format; other formats that
    `evaluator.replies` reads will do. 1, 0, or 0.5 for a tie. A reply that names no winner is no tie (as
    Pref-GRPO's code has it): it FAILED."""

    def __init__(self, chat: ChatModel) -> None:
        self._chat = chat
        self._template = load_template("evaluator", "pairwise", "words")

    @property
    def name(self) -> str:
        return f"in words {self._chat.name}"

    async def __call__(self, pair: PicturePair) -> Comparison:
        question = "Which image is better?"
        if pair.question is not None:
            question = f'For which image is the answer to "{pair.question}" more surely yes?'
        text = fill(self._template, fenced_request=fence(pair.request), question=question)
        request = ChatRequest((Message("user", (*_shown(pair), text)),), max_tokens=_MAX_TOKENS, temperature=0.0)
        try:
            reply = await self._chat(request)
            winner = read_reply(reply.text).winner
        except BackendError as error:
            return Comparison(None, str(error))
        if winner is None:
            return Comparison(None, "the reply names no winner", reply.text)
        return Comparison({1: 1.0, 2: 0.0, 0: 0.5}[winner], raw=reply.text)


async def both_orders(judge: PairJudge, pair: PicturePair) -> Comparison:
    """The mean over both orders, in which a liking for one place cancels out; what failed in one order counts by the
    other."""
    one, other = await asyncio.gather(judge(pair), judge(pair.swapped()))
    if one.p_first is None or other.p_first is None:
        if other.p_first is None:
            return one
        return Comparison(1 - other.p_first, raw=other.raw)
    return Comparison((one.p_first + 1 - other.p_first) / 2, raw=f"{one.raw}\n{other.raw}")


class WinRates:
    """Each picture's win rate in its group (Pref-GRPO): all pairs, both orders; a picture wins as surely as the judge
    of pairs says. None if every comparison of a picture failed."""

    def __init__(self, judge: PairJudge) -> None:
        self._judge = judge

    @property
    def name(self) -> str:
        return f"win rates, {self._judge.name}"

    async def __call__(
        self, request: str, pictures: Sequence[Image.Image], source: Image.Image | None = None
    ) -> list[float | None]:
        pairs = list(combinations(range(len(pictures)), 2))
        shown = [PicturePair(request, pictures[i], pictures[j], source) for i, j in pairs]
        comparisons = await asyncio.gather(*(both_orders(self._judge, pair) for pair in shown))
        return win_rates(len(pictures), {pair: c.p_first for pair, c in zip(pairs, comparisons, strict=True)})


def _shown(pair: PicturePair) -> tuple[Image.Image, ...]:
    return (pair.first, pair.second) if pair.source is None else (pair.source, pair.first, pair.second)


WORDS = ("terrible", "poor", "average", "good", "excellent")
"""The worst first. Single tokens of the usual tokenizers, unlike MJ-Bench's "Extremely Poor" and "Outstanding"."""


@dataclass(frozen=True)
class Rating:
    """`score` in [0, 1], None if the judge FAILED; `variance` of the answer over the words, on that scale."""

    score: float | None
    variance: float = 0.0
    failure: str = ""


class LikertJudge:
    """score = sum over words of P(word) k / (n - 1), k = 0 for the worst, over P of all words together (as Edit-R1
    reads its digits, arXiv 2510.16888). If the words together have less than `min_label_mass`, it FAILED.

    The variance goes with it: two ratings are compared by `evaluator.pairs.ranking`'s Thurstone model.
    """

    def __init__(self, chat: ChatModel, min_label_mass: float = 0.5, style: str = "likert") -> None:
        self._chat = chat
        self._min_mass = min_label_mass
        self._template = load_template("evaluator", style, "judge")

    @property
    def name(self) -> str:
        return f"in words of a scale {self._chat.name}"

    async def __call__(self, image: Image.Image, request: str, question: str = "") -> Rating:
        text = fill(self._template, fenced_request=fence(request), words=", ".join(WORDS), question=question)
        chat_request = ChatRequest((Message("user", (image, text)),), max_tokens=1, choices=WORDS)
        try:
            reply = await self._chat(chat_request)
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
    picture, while win rates take two a pair. It sees no source, and so judges edits by their results alone."""

    def __init__(self, judge: LikertJudge) -> None:
        self._judge = judge

    @property
    def name(self) -> str:
        return f"Thurstone, {self._judge.name}"

    async def __call__(
        self, request: str, pictures: Sequence[Image.Image], source: Image.Image | None = None
    ) -> list[float | None]:
        ratings = await asyncio.gather(*(self._judge(picture, request) for picture in pictures))
        return thurstone([None if r.score is None else (r.score, r.variance) for r in ratings])
