"""A vision-language model behind any ChatModel as a judge: one request for each check, read off its first token."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from PIL import Image
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from evaluator.grounding import Box, Coordinates, in_fractions, put_right, units_of
from evaluator.judge import YES_NO, CheckWording, failed_verdict, scored_verdict
from evaluator.replies import json_objects
from evaluator.types import Check, Outcome, Verdict
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError, BadReply, one_line
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
        pass_at: float = 0.5,
    ) -> None:
        """Raises ConfigError for a style that cannot be used."""
        self._chat = chat
        self._config = config
        self._wording = CheckWording(config.style)
        self._explain = CheckWording(config.style, "explain") if explain else None
        self._coordinates = coordinates
        self._pass_at = pass_at

    @property
    def name(self) -> str:
        return self._chat.name

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        texts = self._wording(request, checks)
        verdicts = await asyncio.gather(*(self._judge(image, *pair) for pair in zip(checks, texts, strict=True)))
        if self._explain is None:
            return verdicts
        texts = self._explain(request, checks, units_of(self._coordinates, image.size))
        points = self._explain.points
        asked = (self._reasoned(image, *pair, points) for pair in zip(verdicts, texts, strict=True))
        return await asyncio.gather(*asked)

    async def _judge(self, image: Image.Image, check: Check, text: str) -> Verdict:
        request = ChatRequest((Message("user", (image, text)),), max_tokens=1, choices=YES_NO)
        try:
            reply = await self._chat(request)
        except BackendError as error:
            return failed_verdict(check, str(error))
        if not reply.logprobs:
            return failed_verdict(check, f"{self.name} reported no token probabilities", raw=reply.text)
        yes, no = (math.exp(reply.logprobs.get(choice, -math.inf)) for choice in YES_NO)
        return scored_verdict(check, yes, no, self._config, raw=reply.text)

    async def _reasoned(self, image: Image.Image, verdict: Verdict, text: str, points: bool) -> Verdict:
        passed = verdict.probability is not None and verdict.probability >= self._pass_at
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


MAX_REASON = 500
"""Characters of a reason that are kept: the rewriter and the planner read it, and some judges never end."""

_REASON = re.compile(r'"reason"\s*:\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_YES = re.compile(r"^\W*yes\b|\bverdict\W+yes\b", re.IGNORECASE)
_Number = Annotated[float, Field(strict=True)]
_BOX = TypeAdapter(tuple[_Number, _Number, _Number, _Number], config=ConfigDict(allow_inf_nan=False))


@dataclass(frozen=True)
class Explanation:
    """`reason` is one line, "" where the judge gave none. `region`: what it is about, None where it has no place."""

    reason: str = ""
    region: Box | None = None


def schema(*, points: bool) -> Mapping[str, object]:
    """The JSON schema of the reply, with a box where `points`. The reason comes first, so that the rest follows it."""
    box = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
    properties: dict[str, object] = {
        "reason": {"type": "string"},
        "verdict": {"type": "string", "enum": ["yes", "no"]},
    }
    if points:
        properties["box"] = {"anyOf": [box, {"type": "null"}]}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_explanation(text: str, coordinates: Coordinates, size: tuple[int, int]) -> Explanation:
    """What a judge said of a check that did not pass; `size` is that of the picture, (width, height).

    A box that is none, has its corners out of order or reaches outside the picture is dropped, since a wrong place
    misleads more than none, and the reason is kept. Plain text is a reason, too, and so is that of broken JSON. One for
    "yes" would contradict the verdict that it is to explain, and is none.
    """
    said = text.rpartition("</think>")[2].strip()
    if said.startswith("<think>"):
        return Explanation()  # cut off in the midst of its thoughts
    replies = [reply for reply in json_objects(said) if isinstance(reply.get("reason"), str)]
    if replies:
        reply = replies[-1]
        if str(reply.get("verdict")).strip().lower() == "yes":
            return Explanation()
        return Explanation(_line(reply["reason"]), _region(reply.get("box"), coordinates, size))
    if _YES.search(said):
        return Explanation()
    if broken := _REASON.search(said):
        return Explanation(_line(broken[1].replace('\\"', '"')))
    return Explanation("" if said.startswith(("{", "[", "`")) else _line(said))


def _line(reason: str) -> str:
    if re.sub(r"\W+", "", reason).lower() in {"", "yes", "no", "none", "null"}:
        return ""
    # JSON can spell halves of surrogate pairs, which no file takes.
    return one_line(reason.encode(errors="replace").decode(), length=MAX_REASON)


def _region(told: object, coordinates: Coordinates, size: tuple[int, int]) -> Box | None:
    try:
        box = in_fractions(_BOX.validate_python(told), coordinates, size)
    except ValidationError:
        return None
    return box if box == put_right(box) else None
