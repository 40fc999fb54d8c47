"""Looking again: the checks of which a judge is least certain are put to other readers, within a budget.

    judge = LooksAgain(open_judge(config), (SecondReader(reader),), most=8)
    [verdict] = await judge(image, request, [check])
    verdict.probability, verdict.spread, verdict.by, verdict.looks      # 0.55, 0.4, "judge, reader", 2

A look is one question more about one check. The least certain checks (the nearest to 1/2) are looked at first. A way of
looking is a class with `name`, `wants` and `__call__` (the protocol `Look`):

    SecondReader   an independent judge answers; what both make it is counted (`pool`). If one says no where the other says
                   yes, the spread is how far the lower lies below that.
                   `DescribingReader` is one for any chat models: the picture is described without the question, and the
                   question is answered from the description alone (after Vision-SR1 and CapRL)
    Zoom           the judge is asked again about the region that the check is about, cut out with a margin; of both answers
                   the surer counts (after VR-Thinker)
    Again          the judge is asked again about the picture moved by a few pixels; mean and standard deviation count
                   (after Ctrl-U: where answers scatter, they are not to be trusted)

A verdict passes if its probability less its spread does (`Verdict.passes`): with two readers, if both say yes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from statistics import fmean, pstdev
from typing import Protocol

from PIL import Image

from evaluator.grounding import Box, Grounder, clip_box
from evaluator.judge import YES_NO, scored_verdict
from evaluator.types import Check, Judge, Outcome, Verdict
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError
from redraft.profiles import JudgeConfig
from redraft.templates import fence, fill, load_template

SURE = 0.3
"""A verdict is sure if its probability is at least this far from 1/2 (our own choice, after REWARD: |p - 1/2| < 0.3)."""


class Look(Protocol):
    """A way of looking again. A call gives each verdict as it is after the look; those that it cannot better, as they are."""

    @property
    def name(self) -> str: ...

    def wants(self, verdict: Verdict) -> bool:
        """Whether a look at this verdict is worth its cost."""
        ...

    async def __call__(self, image: Image.Image, request: str, verdicts: Sequence[Verdict]) -> list[Verdict]: ...


class LooksAgain:
    """A Judge that spends at most `most` looks a picture beyond the first answers, by each of `ways` in turn."""

    def __init__(self, judge: Judge, ways: Sequence[Look], *, most: int) -> None:
        self.judge = judge
        self.ways = tuple(ways)
        self.most = most

    @property
    def name(self) -> str:
        return self.judge.name

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        verdicts = [
            replace(verdict, by=verdict.by or self.judge.name) for verdict in await self.judge(image, request, checks)
        ]
        left = self.most
        for way in self.ways:
            wanted = [n for n, verdict in enumerate(verdicts) if verdict.probability is not None and way.wants(verdict)]
            wanted = sorted(wanted, key=lambda n: (_certainty(verdicts[n]), n))[:left]
            if wanted:
                left -= len(wanted)
                again = await way(image, request, [verdicts[n] for n in wanted])
                for n, verdict in zip(wanted, again, strict=True):
                    verdicts[n] = replace(verdict, looks=verdicts[n].looks + 1)
        return verdicts


def _certainty(verdict: Verdict) -> float:
    return abs((verdict.probability or 0.0) - 0.5)


_SUREST = 1e-4


def pool(first: float, other: float, *, weight: float = 0.5, independence: float = 1.0) -> float:
    """One probability of two: the sigmoid of `independence` times the mean of their log odds, `weight` being that of the other.

    At `independence` 1 it is the logarithmic opinion pool (Genest and Zidek 1986), for readers that err alike; at 2, with equal
    weights, their odds are multiplied, as those of two that err independently of each other are. Both are taken as at
    least 1e-4 away from 0 and 1, so that no reader has the last word.
    """
    a, b = (math.log(p / (1 - p)) for p in (min(max(p, _SUREST), 1 - _SUREST) for p in (first, other)))
    return 1 / (1 + math.exp(-independence * ((1 - weight) * a + weight * b)))


class SecondReader:
    """Another judge's answers, pooled with the first (`pool`). If the two disagree, the spread is how far the lower lies below
    what both make, so that a check passes only if both say yes; if they agree, what both make is what counts. If
    the other has no answer, the first one stands."""

    def __init__(self, reader: Judge, *, weight: float = 0.5, independence: float = 1.0) -> None:
        self.reader = reader
        self._weight = weight
        self._independence = independence

    @property
    def name(self) -> str:
        return self.reader.name

    def wants(self, verdict: Verdict) -> bool:
        return True

    async def __call__(self, image: Image.Image, request: str, verdicts: Sequence[Verdict]) -> list[Verdict]:
        others = await self.reader(image, request, [verdict.check for verdict in verdicts])
        return [self._merge(*pair) for pair in zip(verdicts, others, strict=True)]

    def _merge(self, first: Verdict, other: Verdict) -> Verdict:
        if first.probability is None or other.probability is None:
            return first
        a, b = first.probability, other.probability
        p = pool(a, b, weight=self._weight, independence=self._independence)
        reason, spread = first.reason, first.spread
        if (a >= 0.5) != (b >= 0.5):
            spread = max(spread, p - min(a, b))
            reason = f"the readers disagree: {first.by} {a:.2f}, {self.name} {b:.2f}"
            reason += f"; {other.reason}" if other.reason else ""
        return replace(
            first,
            probability=p,
            spread=spread,
            by=f"{first.by}, {self.name}",
            reason=reason,
        )


Locate = Callable[[Image.Image, Check], Awaitable[Box | None]]


class Zoom:
    """The judge looks at the region of a check: the verdict's own, else what `locate` finds. The surer answer counts; the
    region is kept. Only unsure verdicts are looked at, and only regions that are smaller than most of the picture."""

    name = "zoom"
    MARGIN = 0.2
    """How far beyond its box a region reaches, as a share of the box."""
    LARGEST = 0.6
    """Of a region's area as a share of the picture; in a larger one nothing is seen better."""

    def __init__(self, judge: Judge, locate: Locate | None = None) -> None:
        self._judge = judge
        self._locate = locate

    def wants(self, verdict: Verdict) -> bool:
        return _certainty(verdict) < SURE and (verdict.region is not None or self._locate is not None)

    async def __call__(self, image: Image.Image, request: str, verdicts: Sequence[Verdict]) -> list[Verdict]:
        return list(await asyncio.gather(*(self._look(image, request, verdict) for verdict in verdicts)))

    async def _look(self, image: Image.Image, request: str, verdict: Verdict) -> Verdict:
        region = verdict.region
        if region is None and self._locate is not None:
            try:
                region = await self._locate(image, verdict.check)
            except BackendError:
                return verdict
        box = None if region is None else widen(region, self.MARGIN)
        if box is None or (box[2] - box[0]) * (box[3] - box[1]) > self.LARGEST:
            return verdict
        [near] = await self._judge(crop(image, box), request, [verdict.check])
        if near.probability is None or _certainty(near) <= _certainty(verdict):
            return replace(verdict, region=region)
        return replace(near, by=f"{verdict.by}, {self.name}", region=region, looks=verdict.looks)


def locate_by(grounder: Grounder) -> Locate:
    """Finds what a check's question is about by a grounder."""

    async def locate(image: Image.Image, check: Check) -> Box | None:
        return await grounder(image, check.question)

    return locate


def widen(box: Box, margin: float) -> Box | None:
    """The box with `margin` of its own size added on each side, within the picture."""
    across, down = margin * (box[2] - box[0]), margin * (box[3] - box[1])
    return clip_box((box[0] - across, box[1] - down, box[2] + across, box[3] + down))


def crop(image: Image.Image, box: Box) -> Image.Image:
    """The part of a picture in a box, enlarged to the picture's longer side."""
    width, height = image.size
    corners = (
        math.floor(box[0] * width), math.floor(box[1] * height), math.ceil(box[2] * width), math.ceil(box[3] * height)
    )  # fmt: skip
    part = image.crop(corners)
    scale = max(image.size) / max(part.size)
    return part.resize(
        (max(1, round(part.width * scale)), max(1, round(part.height * scale))), Image.Resampling.BICUBIC
    )


class Again:
    """The judge looks again at the picture moved by some pixels, `times` times in different directions."""

    name = "again"

    def __init__(self, judge: Judge, *, times: int = 1, share: float = 0.02) -> None:
        self._judge = judge
        self._moves = [(share, share), (-share, share), (share, -share), (-share, -share)][: max(1, times)]

    def wants(self, verdict: Verdict) -> bool:
        return _certainty(verdict) < SURE

    async def __call__(self, image: Image.Image, request: str, verdicts: Sequence[Verdict]) -> list[Verdict]:
        checks = [verdict.check for verdict in verdicts]
        looks = [await self._judge(move(image, *by), request, checks) for by in self._moves]
        return [self._merge(verdict, [look[n] for look in looks]) for n, verdict in enumerate(verdicts)]

    def _merge(self, first: Verdict, more: Sequence[Verdict]) -> Verdict:
        known = [v.probability for v in (first, *more) if v.probability is not None]
        return replace(
            first, probability=fmean(known), spread=max(first.spread, pstdev(known)), by=f"{first.by}, {self.name}"
        )


def move(image: Image.Image, across: float, down: float) -> Image.Image:
    """The picture moved by shares of its sides; the border that comes free repeats the pixels beside it."""
    width, height = image.size
    dx, dy = round(across * width), round(down * height)
    rows = [min(max(y - dy, 0), height - 1) for y in range(height)]
    columns = [min(max(x - dx, 0), width - 1) for x in range(width)]
    import numpy as np

    return Image.fromarray(np.asarray(image.convert("RGB"))[rows][:, columns])


class DescribingReader:
    """A Judge in two steps: `describer`, a chat model that sees pictures, describes the picture without knowing what will be
    asked; `answerer` answers each check from the description alone, by P(yes) / (P(yes) + P(no)) of its first token.

    Templates `describe.txt` and `answer.txt` of style `describe`. A description that cannot be had leaves every check FAILED.
    """

    def __init__(
        self,
        describer: ChatModel,
        answerer: ChatModel,
        config: JudgeConfig,
        *,
        style: str = "describe",
        max_tokens: int = 600,
    ) -> None:
        self._describer = describer
        self._answerer = answerer
        self._config = config
        self._describe = load_template("evaluator", style, "describe")
        self._answer = load_template("evaluator", style, "answer")
        fill(self._answer, fenced_description="", question="")  # raises now rather than at the first picture
        self._max_tokens = max_tokens

    @property
    def name(self) -> str:
        return f"description by {self._describer.name}"

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        asked = ChatRequest((Message("user", (image, self._describe)),), max_tokens=self._max_tokens)
        try:
            description = (await self._describer(asked)).text.strip()
        except BackendError as error:
            return [Verdict(check, Outcome.FAILED, reason=f"no description: {error}", by=self.name) for check in checks]
        return list(await asyncio.gather(*(self._read(description, check) for check in checks)))

    async def _read(self, description: str, check: Check) -> Verdict:
        text = fill(self._answer, fenced_description=fence(description, "description"), question=check.question)
        try:
            reply = await self._answerer(ChatRequest((Message("user", text),), max_tokens=1, choices=YES_NO))
        except BackendError as error:
            return Verdict(check, Outcome.FAILED, reason=str(error), by=self.name)
        yes, no = (math.exp(reply.logprobs.get(choice, -math.inf)) for choice in YES_NO)
        return replace(scored_verdict(check, yes, no, self._config, raw=description), by=self.name)
