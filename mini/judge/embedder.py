"""The judge's vision tower as an embedder of pictures, for likeness to references (`evaluator.criteria.likeness`)."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from PIL import Image
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from evaluator.criteria.likeness import Embedding
from mini.judge.looking import pixels
from mini.judge.model import PATCH, SIDE
from redraft.profiles import model_place


class TowerEmbedder:
    """Features of the patches of a picture, 8 x 8 of them, and their mean. Loads at the first call."""

    def __init__(self, model: str = "package:mini/weights/judge") -> None:
        self._model = model
        self._tower: CLIPVisionModel | None = None
        self._lock = threading.Lock()

    def __call__(self, images: Sequence[Image.Image]) -> list[Embedding]:
        with self._lock:
            if self._tower is None:
                whole = LlavaForConditionalGeneration.from_pretrained(model_place(self._model), use_safetensors=True)
                self._tower = whole.model.vision_tower.eval()
        side = SIDE // PATCH
        with torch.inference_mode():
            states = self._tower(pixel_values=pixels([image.convert("RGB") for image in images])).last_hidden_state
        patches = states[:, 1:].float().numpy()
        return [Embedding(each.mean(axis=0), each.reshape(side, side, -1)) for each in patches]
