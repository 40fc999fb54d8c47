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

from evaluator.grounding import Box, Coordinates, clip_box, describe_units, size_for_boxes, to_fractions
from evaluator.judge import YES_NO, CheckWording, failed_verdict, scored_verdict
from evaluator.types import Check, Outcome, Verdict
from redraft.chat import ChatModel, ChatRequest, Message
from redraft.errors import BackendError, BadReply, one_line
from redraft.json_replies import is_cut, json_objects, repaired_objects
from redraft.profiles import JudgeConfig


class ServerJudge:
    """Judges by P(yes) / (P(yes) + P(no)) of the first reply token.

    The picture and the text that all checks share come first and the question last, so that a server's prefix cache
    serves all but the question. All checks of a picture are asked at once (the chat model limits how many run). With
    `explain`, the model is asked once more about each check that did not pass, for a one-sentence reason and its region,
    in the `coordinates` that the model was trained on. That second answer never changes a probability.
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
        """Raises ConfigError if the style cannot be used."""
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
        image = size_for_boxes(image, self._coordinates)
        texts = self._explain(request, checks, describe_units(self._coordinates, image.size))
        explained = (self._add_reason(image, *pair) for pair in zip(verdicts, texts, strict=True))
        return await asyncio.gather(*explained)

    async def _judge(self, image: Image.Image, check: Check, text: str) -> Verdict:
        chat_request = ChatRequest((Message("user", (image, text)),), max_tokens=1, choices=YES_NO)
        try:
            reply = await self._chat(chat_request)
        except BackendError as error:
            return failed_verdict(check, str(error))
        if not reply.logprobs:
            return failed_verdict(check, f"{self.name} reported no token probabilities", raw=reply.text)
        yes, no = (math.exp(reply.logprobs.get(choice, -math.inf)) for choice in YES_NO)
        return scored_verdict(check, yes, no, self._config, raw=reply.text)

    async def _add_reason(self, image: Image.Image, verdict: Verdict, text: str) -> Verdict:
        assert self._explain is not None
        if verdict.outcome is not Outcome.SCORED or verdict.passes(self._pass_at):
            return verdict
        try:
            reply = await self._request_reason(image, text, points=self._explain.points)
        except BackendError as error:
            return replace(verdict, raw=f"{verdict.raw}\n(no reason: {error})")
        explanation = read_explanation(reply, self._coordinates, image.size)
        # If a style does not say in which units a box is wanted, nobody can tell what its numbers mean.
        region = explanation.region if self._explain.points else None
        return replace(verdict, reason=explanation.reason, region=region, raw=f"{verdict.raw}\n{reply}")

    async def _request_reason(self, image: Image.Image, text: str, *, points: bool) -> str:
        chat_request = ChatRequest(
            (Message("user", (image, text)),), max_tokens=300, schema=explanation_schema(points=points)
        )
        try:
            return (await self._chat(chat_request)).text
        except BadReply:
            # No JSON, in spite of the schema. A model that cannot write it may still give a reason in plain text.
            return (await self._chat(replace(chat_request, schema=None))).text


MAX_REASON = 500
"""Longest reason in characters: the rewriter and the planner read it, and some judges never stop."""

_REASON = re.compile(r'"reason"\s*:\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_YES = re.compile(r"^\W*yes\b|\bverdict\W+yes\b", re.IGNORECASE)
_Number = Annotated[float, Field(strict=True)]
_BOX = TypeAdapter(tuple[_Number, _Number, _Number, _Number], config=ConfigDict(allow_inf_nan=False))


@dataclass(frozen=True)
class Explanation:
    """`reason` is one line, "" if the judge gave none. `region`: its place in the picture, None if it has none."""

    reason: str = ""
    region: Box | None = None


def explanation_schema(*, points: bool) -> Mapping[str, object]:
    """The JSON schema of the reply, with a box if `points`. The reason comes first, so that the rest follows from it."""
    box = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
    properties: dict[str, object] = {
        "reason": {"type": "string"},
        "verdict": {"type": "string", "enum": ["yes", "no"]},
    }
    if points:
        properties["box"] = {"anyOf": [box, {"type": "null"}]}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_explanation(text: str, coordinates: Coordinates, size: tuple[int, int]) -> Explanation:
    """The explanation in a judge's reply about a check that did not pass. `size` is the picture's (width, height).

    A box that is malformed, has its corners out of order or reaches outside the picture is dropped, since a wrong place
    misleads more than none; the reason is kept. Plain text counts as a reason, and so does the reason of broken JSON. A
    reply that says "yes" contradicts the verdict, and gives no explanation.
    """
    answer = text.rpartition("</think>")[2].strip()
    if answer.startswith("<think>"):
        return Explanation()  # cut off while it was thinking
    objects = list(json_objects(answer)) or ([] if is_cut(answer) else repaired_objects(answer))
    replies = [reply for reply in objects if isinstance(reply.get("reason"), str)]
    if replies:
        reply = replies[-1]
        if str(reply.get("verdict")).strip().lower() == "yes":
            return Explanation()
        return Explanation(_line(reply["reason"]), _region(reply.get("box"), coordinates, size))
    if _YES.search(answer):
        return Explanation()
    if broken := _REASON.search(answer):
        return Explanation(_line(broken[1].replace('\\"', '"')))
    return Explanation("" if answer.startswith(("{", "[", "`")) else _line(answer))


def _line(reason: str) -> str:
    if re.sub(r"\W+", "", reason).lower() in {"", "yes", "no", "none", "null"}:
        return ""
    # JSON can spell halves of surrogate pairs, which no file takes.
    return one_line(reason.encode(errors="replace").decode(), length=MAX_REASON)


def _region(box: object, coordinates: Coordinates, size: tuple[int, int]) -> Box | None:
    try:
        box = to_fractions(_BOX.validate_python(box), coordinates, size)
    except ValidationError:
        return None
    return box if box == clip_box(box) else None
