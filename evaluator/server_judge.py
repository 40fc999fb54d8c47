"""A vision-language model behind any ChatModel as a judge: one request for each check, read off its first token."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ValidationError

from core.chat import ChatModel, ChatRequest, Message
from core.errors import BackendError
from core.profiles import JudgeConfig
from evaluator.judging import YES_NO, Wording, failed, scored
from evaluator.types import Check, Outcome, Verdict


class ServerJudge:
    """Judges by P(yes) / (P(yes) + P(no)) of the first reply token.

    The picture and the text that all checks share come first and the question last, so that a server's prefix cache
    serves all but the question; all checks of a picture are asked at once (the chat model limits how many run). With
    `explain`, each check that did not pass is asked about once more, for a one-sentence reason; that second answer
    never changes a probability.
    """

    def __init__(self, chat: ChatModel, config: JudgeConfig, *, explain: bool = False) -> None:
        self._chat = chat
        self._config = config
        self._wording = Wording(config.style)
        self._explain = Wording(config.style, "explain") if explain else None

    @property
    def name(self) -> str:
        return self._chat.name

    async def __call__(self, image: Image.Image, prompt: str, checks: Sequence[Check]) -> list[Verdict]:
        texts = self._wording(prompt, checks)
        verdicts = await asyncio.gather(*(self._judge(image, *pair) for pair in zip(checks, texts, strict=True)))
        if self._explain is None:
            return verdicts
        texts = self._explain(prompt, checks)
        return await asyncio.gather(*(self._reasoned(image, *pair) for pair in zip(verdicts, texts, strict=True)))

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

    async def _reasoned(self, image: Image.Image, verdict: Verdict, text: str) -> Verdict:
        passed = verdict.probability is not None and verdict.probability >= self._config.pass_at
        if verdict.outcome is not Outcome.SCORED or passed:
            return verdict
        schema = _Explanation.model_json_schema()
        request = ChatRequest((Message("user", (image, text)),), max_tokens=200, schema=schema)
        try:
            reply = await self._chat(request)
        except BackendError as error:
            return replace(verdict, raw=f"{verdict.raw}\n(no reason: {error})")
        verdict = replace(verdict, raw=f"{verdict.raw}\n{reply.text}")
        try:
            explanation = _Explanation.model_validate_json(reply.text)
        except ValidationError:
            return verdict
        # A reason for "yes" would contradict the verdict it is to explain; both stay readable in `raw`.
        return replace(verdict, reason=explanation.reason.strip()) if explanation.verdict == "no" else verdict


class _Explanation(BaseModel):
    """The reason comes first, so that the verdict follows from it."""

    reason: str
    verdict: Literal["yes", "no"]
