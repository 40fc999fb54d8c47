"""The tool that counts: checks of a number are answered by the boxes of a detector, or of a model that points.

    tool = CountTool(TransformersDetector("google/owlv2-base-patch16-ensemble"))
    [verdict] = await tool(image, request, [Check("counting", "Are there exactly three cats?")])
    verdict.reason             # "4 of 3: boxes with 0.71, 0.66, 0.60, 0.41"

With n boxes for c things that were asked for, a value is 1 - min(1, |n - c| / c): too many count like too few. PFCD (github
00why00/PFCD) penalises those that are missing alone, sum of relu(th - s_k) over the c highest scores s_k, divided by c, th 0.2
(`missing_penalty`); a picture with ten cats would pass for three.

A box so near the threshold that it may or may not count leaves the check to the judge, and so does a question that is not
"exactly N things". NOT covered: things told apart by more than a detector's phrase can say ("cats on the left").
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from evaluator.coverage import load_lexicon
from evaluator.grounding import Box, Coordinates, clip_box, describe_units, to_fractions
from evaluator.keypoints import find_keypoint
from evaluator.tools import tool_verdict
from evaluator.types import Check, Verdict
from redraft.chat import ChatModel, ChatRequest, Message, open_chat
from redraft.errors import BackendError, ModelMissing, one_line
from redraft.extras import require
from redraft.json_replies import read_json
from redraft.local_models import LOADING
from redraft.profiles import DetectorConfig, model_place
from redraft.templates import fence, fill, load_template

NAME = "count"
THRESHOLD = 0.2
"""Of PFCD, for the scores of OWLv2 and GroundingDINO."""
NEAR = 0.03
"""A score so near the threshold decides nothing."""
OVERLAP = 0.5
"""Boxes that share more than this (intersection over union) are one thing."""
LIKELY, MOST_WRONG = 0.95, 0.45
_COUNT = re.compile(
    r"(?:is|are) there exactly ([\w-]+) ([\w' -]{1,80}?)(?: in (?:the|this) (?:picture|image|photo|scene))?\?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Detection:
    """A thing that was found: its box in fractions of the sides, and its score in [0, 1]."""

    box: Box
    score: float


class Detector(Protocol):
    """Finds all things that a phrase names, each with a score; also weak ones, which the tool leaves out. Raises BackendError."""

    async def __call__(self, image: Image.Image, phrase: str) -> list[Detection]: ...


@dataclass(frozen=True)
class Counted:
    """How many of what a check asks for."""

    number: int
    phrase: str


def read_count(check: Check) -> Counted | None:
    """The number and the things of "Are there exactly three red cats?", None for other questions and for none at all."""
    match = _COUNT.fullmatch(" ".join(check.question.split()))
    if match is None or find_keypoint(check.key_point).id != "counting":
        return None
    word = match[1].casefold()
    number = int(word) if word.isascii() and word.isdigit() and len(word) < 4 else load_lexicon("en").numbers.get(word)
    return Counted(number, _singular(match[2].casefold())) if number else None


def _singular(phrase: str) -> str:
    *before, last = phrase.split()
    return " ".join([*before, load_lexicon("en").fold(last)])


def missing_penalty(scores: Sequence[float], number: int, threshold: float = THRESHOLD) -> float:
    """PFCD's penalty in [0, threshold] for the things that are missing among the `number` highest scores."""
    best = sorted(scores, reverse=True)[:number]
    best += [0.0] * (number - len(best))
    return sum(max(0.0, threshold - score) for score in best) / number


def count_value(found: int, number: int) -> float:
    """1 - min(1, |found - number| / number)."""
    return 1.0 - min(1.0, abs(found - number) / number)


def keep_apart(detections: Sequence[Detection]) -> list[Detection]:
    """Without those that overlap with a better one (non-maximum suppression), best first."""
    kept: list[Detection] = []
    for one in sorted(detections, key=lambda detection: -detection.score):
        if all(_overlap(one.box, other.box) <= OVERLAP for other in kept):
            kept.append(one)
    return kept


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


class CountTool:
    """A `evaluator.tools.Tool` over a Detector."""

    name = NAME

    def __init__(self, detector: Detector, *, threshold: float = THRESHOLD) -> None:
        self._detector = detector
        self._threshold = threshold

    def reads(self, request: str, check: Check) -> bool:
        return read_count(check) is not None

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict | None]:
        return list(await asyncio.gather(*(self._answer(image, check) for check in checks)))

    async def _answer(self, image: Image.Image, check: Check) -> Verdict | None:
        counted = read_count(check)
        if counted is None:
            return None
        try:
            detections = keep_apart(await self._detector(image, counted.phrase))
        except BackendError:
            return None
        scores = [detection.score for detection in detections]
        if any(abs(score - self._threshold) < NEAR for score in scores):
            return None
        found = [score for score in scores if score >= self._threshold]
        value = count_value(len(found), counted.number)
        seen = f": boxes with {', '.join(f'{score:.2f}' for score in found[:12])}" if found else ""
        reason = f"{len(found)} of {counted.number} {counted.phrase}{seen}"
        return tool_verdict(check, LIKELY if value == 1.0 else max(0.01, MOST_WRONG * value), reason, NAME)


class TransformersDetector:
    """A Detector over a zero-shot model of transformers, such as OWLv2 and GroundingDINO; safetensors only. It loads at the
    first call. Raises ModelMissing then, and BackendError for what the model raises."""

    def __init__(self, model: str, *, device: str = "cpu") -> None:
        require("local", "this profile counts by a detector in this process")
        self._model, self._device = model, device
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    async def __call__(self, image: Image.Image, phrase: str) -> list[Detection]:
        return await asyncio.to_thread(self._detect, image, phrase)

    def _detect(self, image: Image.Image, phrase: str) -> list[Detection]:
        import torch

        with self._lock:
            processor, model = self._load()
            dotted = model.config.model_type in ("grounding-dino", "mm-grounding-dino")
            text = f"{phrase}." if dotted else [[f"a photo of a {phrase}"]]
            more = {"text_threshold": 0.0} if dotted else {}
            try:
                inputs = processor(images=image.convert("RGB"), text=text, return_tensors="pt").to(self._device)
                with torch.inference_mode():
                    outputs = model(**inputs)
                [found] = processor.post_process_grounded_object_detection(
                    outputs, threshold=THRESHOLD / 4, target_sizes=[(image.height, image.width)], **more
                )
            except Exception as error:
                raise BackendError(
                    f"the detector {self._model} failed: {type(error).__name__}: {one_line(error)}"
                ) from error
        detections = []
        for corners, score in zip(found["boxes"].tolist(), found["scores"].tolist(), strict=True):
            box = clip_box(to_fractions(tuple(corners), "pixels", image.size)) if np.isfinite(corners).all() else None
            if box is not None:
                detections.append(Detection(box, float(score)))
        return detections

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

            place = model_place(self._model)
            with LOADING:
                try:
                    model = AutoModelForZeroShotObjectDetection.from_pretrained(
                        place, use_safetensors=True, trust_remote_code=False
                    )
                    processor = AutoProcessor.from_pretrained(place)
                except (OSError, ValueError) as error:
                    raise ModelMissing(f"the detector {self._model!r} cannot be loaded: {error}") from error
            self._loaded = processor, model.to(self._device).eval()
        return self._loaded


class ChatDetector:
    """A Detector over a vision-language model that points: it lists a box for each thing. Its boxes have the score 1.

    Template `boxes.txt` of style `ground`. A reply that cannot be read is a BackendError.
    """

    def __init__(self, model: ChatModel, *, coordinates: Coordinates = "thousandths") -> None:
        self._model, self._coordinates = model, coordinates
        self._template = load_template("evaluator", "ground", "boxes")

    async def __call__(self, image: Image.Image, phrase: str) -> list[Detection]:
        units = describe_units(self._coordinates, image.size)
        text = fill(self._template, fenced_phrase=fence(phrase, "things"), units=units)
        request = ChatRequest((Message("user", (image, text)),), max_tokens=1000, schema=_Boxes.model_json_schema())
        reply = (await self._model(request)).text
        try:
            boxes = read_json(reply, _Boxes).value.boxes
        except ValueError as error:
            raise BackendError(f"{self._model.name} gave no boxes: {one_line(error)}") from error
        clipped = [clip_box(to_fractions(box, self._coordinates, image.size)) for box in boxes]
        return [Detection(box, 1.0) for box in clipped if box is not None]


class _Boxes(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    boxes: list[Box] = Field(max_length=200)


def open_count_tool(config: DetectorConfig) -> CountTool:
    """The tool that a profile describes. Raises MissingExtra, and ConfigError if an API key is not set."""
    if config.chat is not None:
        return CountTool(
            ChatDetector(open_chat(config.chat), coordinates=config.coordinates), threshold=config.threshold
        )
    assert config.model is not None
    return CountTool(TransformersDetector(config.model, device=config.device), threshold=config.threshold)
