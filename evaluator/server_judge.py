"""A vision-language model behind any ChatModel as a judge: one request for each check, read off its first token."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from evaluator.explaining import read_explanation, schema
from evaluator.grounding import Coordinates, units_of
from evaluator.judging import YES_NO, Wording, failed, scored
from evaluator.types import Check, Outcome, Verdict
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError, BadReply
from redraft.profiles import JudgeConfig


class ServerJudge:
    """Judges by P(yes) / (P(yes) + P(no)) of the first reply token.

    The picture and the text that all checks share come first and the question last, so that a server's prefix cache
    serves all but the question; all checks of a picture are asked at once (the chat model limits how many run). With
    `explain`, each check that did not pass is asked about once more, for a one-sentence reason and the region that it
    is about, in the `coordinates` that the model was trained on; that second answer never changes a probability.
    """

    def __init__(
        self,
        chat: ChatModel,
        config: JudgeConfig,
        *,
        explain: bool = False,
        coordinates: Coordinates = "thousandths",
    ) -> None:
        """Raises ConfigError for a style that cannot be used."""
        self._chat = chat
        self._config = config
        self._wording = Wording(config.style)
        self._explain = Wording(config.style, "explain") if explain else None
        self._coordinates = coordinates

    @property
    def name(self) -> str:
        return self._chat.name

    async def __call__(self, image: Image.Image, prompt: str, checks: Sequence[Check]) -> list[Verdict]:
        texts = self._wording(prompt, checks)
        verdicts = await asyncio.gather(*(self._judge(image, *pair) for pair in zip(checks, texts, strict=True)))
        if self._explain is None:
            return verdicts
        texts = self._explain(prompt, checks, units_of(self._coordinates, image.size))
        points = self._explain.points
        asked = (self._reasoned(image, *pair, points) for pair in zip(verdicts, texts, strict=True))
        return await asyncio.gather(*asked)

    async def _judge(self, image: Image.Image, check: Check, text: str) -> Verdict:
        request = ChatRequest((Message("user", (image, text)),), max_tokens=1, choices=YES_NO)
        try:
            reply = await self._chat(request)
        except BackendError as error:
            return failed(check, str(error))
        if not reply.logprobs:
            return failed(check, f"{self.name} reported no token probabilities", raw=reply.text)
        yes, no = (math.exp(reply.logprobs.get(choice, -math.inf)) for choice in YES_NO)
        return scored(check, yes, no, self._config, raw=reply.text)

    async def _reasoned(self, image: Image.Image, verdict: Verdict, text: str, points: bool) -> Verdict:
        passed = verdict.probability is not None and verdict.probability >= self._config.pass_at
        if verdict.outcome is not Outcome.SCORED or passed:
            return verdict
        try:
            said = await self._said(image, text, points)
        except BackendError as error:
            return replace(verdict, raw=f"{verdict.raw}\n(no reason: {error})")
        found = read_explanation(said, self._coordinates, image.size)
        # Where a style does not say in which units a box is wanted, nobody could tell what its numbers mean.
        region = found.region if points else None
        return replace(verdict, reason=found.reason, region=region, raw=f"{verdict.raw}\n{said}")

    async def _said(self, image: Image.Image, text: str, points: bool) -> str:
        request = ChatRequest((Message("user", (image, text)),), max_tokens=300, schema=schema(points=points))
        try:
            return (await self._chat(request)).text
        except BadReply:
            # No JSON, in spite of the schema. A model that cannot write it may still say in its own words why.
            return (await self._chat(replace(request, schema=None))).text
