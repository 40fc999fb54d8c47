"""Published scorers of one number as criteria: CLIP-like ones (HPS, PickScore) and models with a score head."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evaluator.types import Case, Need, Outcome, Reading, Shot
from redraft.errors import ConfigError, ModelMissing
from redraft.profiles import model_place

if TYPE_CHECKING:
    from evaluator.criteria import Parts


class ScoreHead:
    """A model of transformers that gives one number for request and picture, safetensors only, no code of its own.

    kind "clip": the scaled cosine of text and picture (CLIP, SigLIP and their fine-tuned likes). kind "head": the single
    logit of a sequence classifier that sees pictures. A number x becomes sigmoid((x - center) / scale); the two are settings,
    because every published scorer has its own range. It loads at the first call.
    """

    absolute = True
    needs: frozenset[Need] = frozenset({"group"})

    def __init__(
        self,
        model: str,
        name: str = "score_head",
        *,
        kind: str = "clip",
        center: float = 0.0,
        scale: float = 1.0,
        device: str = "cpu",
    ) -> None:
        if kind not in ("clip", "head"):
            raise ConfigError(f'{name}: kind = "{kind}" is unknown; take "clip" or "head"')
        if not (math.isfinite(center) and math.isfinite(scale) and scale > 0):
            raise ConfigError(f"{name}: center must be a number and scale above 0, not {center:g} and {scale:g}")
        self.name = name
        self._model, self._kind, self._device = model, kind, device
        self._center, self._scale = center, scale
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        numbers = await asyncio.to_thread(self._score, case.request, shots)
        return [self._read(number) for number in numbers]

    def _read(self, number: float) -> Reading:
        if not math.isfinite(number):
            return Reading(Outcome.FAILED, reason=f"{self.name}: the model gave {number}")
        x = (number - self._center) / self._scale
        return Reading(Outcome.SCORED, 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x)))

    def _score(self, request: str, shots: Sequence[Shot]) -> list[float]:
        with self._lock:
            return self._score_alone(request, shots)

    def _score_alone(self, request: str, shots: Sequence[Shot]) -> list[float]:
        import torch

        processor, model = self._load()
        images = [shot.image.convert("RGB") for shot in shots]
        with torch.inference_mode():
            if self._kind == "clip":
                inputs = processor(text=[request], images=images, return_tensors="pt", padding=True, truncation=True)
                logits = model(**inputs.to(self._device)).logits_per_image[:, 0]
            else:
                texts = [request] * len(images)
                inputs = processor(text=texts, images=images, return_tensors="pt", padding=True, truncation=True)
                logits = model(**inputs.to(self._device)).logits.reshape(len(images), -1)[:, 0]
        return [float(x) for x in logits.float().cpu()]

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoModelForSequenceClassification, AutoProcessor

            kind = AutoModel if self._kind == "clip" else AutoModelForSequenceClassification
            place = model_place(self._model)
            try:
                model = kind.from_pretrained(place, use_safetensors=True, trust_remote_code=False)
                processor = AutoProcessor.from_pretrained(place, trust_remote_code=False)
            except (OSError, ValueError) as error:
                raise ModelMissing(f"the scorer {self._model!r} cannot be loaded: {error}") from error
            self._loaded = processor, model.to(self._device).eval()
        return self._loaded


def open_score_head(
    parts: Parts, *, model: str, kind: str = "clip", center: float = 0.0, scale: float = 1.0, device: str = "cpu"
) -> ScoreHead:
    """`model`: a folder or a name on the hub; `center` and `scale`: of its numbers."""
    return ScoreHead(model, kind=kind, center=center, scale=scale, device=device)
