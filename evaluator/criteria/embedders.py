"""Embedders of pictures by transformers: DINOv2, SigLIP, CLIP."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from evaluator.criteria.likeness import Embedding
from redraft.errors import ConfigError, ModelMissing
from redraft.profiles import model_place


class TransformersEmbedder:
    """The vision tower of a model on the hub or in a folder, safetensors only. It loads at the first call.

    `whole` is the model's pooled output or, without one, the mean of its patches; `patches` are the last hidden states in their
    grid, if they form one.
    """

    def __init__(self, model: str, device: str = "cpu", batch_size: int = 8) -> None:
        self._model = model
        self._device = device
        self._batch_size = batch_size
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    def __call__(self, images: Sequence[Image.Image]) -> list[Embedding]:
        import torch

        processor, tower = self._load()
        made: list[Embedding] = []
        for start in range(0, len(images), self._batch_size):
            batch = [image.convert("RGB") for image in images[start : start + self._batch_size]]
            inputs = processor(images=batch, return_tensors="pt").to(self._device)
            with torch.inference_mode():
                output = tower(pixel_values=inputs["pixel_values"])
            hidden = output.last_hidden_state.float().cpu().numpy()
            pooled = getattr(output, "pooler_output", None)
            for at, states in enumerate(hidden):
                patches = _grid(states)
                whole = states.mean(axis=0) if pooled is None else pooled[at].float().cpu().numpy()
                made.append(Embedding(whole, patches))
        return made

    def _load(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                from transformers import AutoImageProcessor, AutoModel

                place = model_place(self._model)
                try:
                    whole = AutoModel.from_pretrained(place, use_safetensors=True, trust_remote_code=False)
                    processor = AutoImageProcessor.from_pretrained(place)
                except (OSError, ValueError) as error:
                    raise ModelMissing(f"the embedder {self._model!r} cannot be loaded: {error}") from error
                tower = getattr(whole, "vision_model", whole)
                if not hasattr(tower, "forward"):
                    raise ConfigError(f"{self._model!r} has no vision tower")
                self._loaded = processor, tower.to(self._device).eval()
            return self._loaded


def _grid(states: Any) -> Any:
    """Hidden states (tokens, width) as (rows, columns, width): the last of them that fill a square; None if there are none."""
    side = int(len(states) ** 0.5)
    return np.asarray(states[len(states) - side * side :].reshape(side, side, -1)) if side > 1 else None
