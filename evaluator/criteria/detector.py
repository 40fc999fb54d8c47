"""Real or drawn, by a head that was trained on features of pictures (`python -m evaluator.train.detector`). No model is asked.

[[evaluator.criteria]]
use = "detector"
weight = 0.1
args = { head = "work/detector", embedder = "evaluator.criteria.embedders:TransformersEmbedder", model = "facebook/dinov2-base" }
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluator.criteria.likeness import Embedder, Embedding, open_embedder
from evaluator.types import Case, Need, Outcome, Reading, Shot
from redraft.errors import ConfigError, ModelMissing

if TYPE_CHECKING:
    from evaluator.criteria import Parts

FILE = "detector.safetensors"
PATCH_SHARE = 0.3
"""How much patches count beside the whole picture: Adv-GRPO's 0.7 and 0.3."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """Logistic regressions on features: weights (width,) and bias of P(real) by the whole picture, and by each patch (None if the
    embedder has no patches)."""

    whole: tuple[Floats, float]
    patches: tuple[Floats, float] | None = None

    def read(self, embedding: Embedding) -> float:
        """P(real) in [0, 1]: 0.7 by the whole picture and 0.3 the mean over its patches (Adv-GRPO, arXiv 2511.20256, with a
        logistic loss in place of its hinge loss)."""
        whole = float(_chances(embedding.whole[None], *self.whole)[0])
        if self.patches is None or embedding.patches is None:
            return whole
        patches = _chances(embedding.patches.reshape(-1, embedding.patches.shape[-1]), *self.patches)
        return (1 - PATCH_SHARE) * whole + PATCH_SHARE * float(patches.mean())

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        arrays = {"whole": self.whole[0], "whole_bias": np.array([self.whole[1]], dtype=np.float32)}
        if self.patches is not None:
            arrays |= {"patches": self.patches[0], "patches_bias": np.array([self.patches[1]], dtype=np.float32)}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(arrays, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Head:
        """Raises ModelMissing if there is none."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(folder / FILE)
            whole = arrays["whole"], float(arrays["whole_bias"][0])
            patches = (arrays["patches"], float(arrays["patches_bias"][0])) if "patches" in arrays else None
        except (OSError, SafetensorError, KeyError) as error:
            raise ModelMissing(
                f"there is no head in {folder} ({error}); train one: python -m evaluator.train.detector REAL DRAWN {folder}"
            ) from error
        return cls(whole, patches)


def _chances(features: NDArray[np.floating[Any]], weights: Floats, bias: float) -> Floats:
    logits = np.clip(features @ weights + bias, -30, 30)
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


class Detector:
    """P(real) of a picture by a trained head. FAILED if the embedder finds nothing in it."""

    absolute = True
    needs: frozenset[Need] = frozenset({"group"})

    def __init__(self, head: Head, embedder: Embedder, name: str = "detector") -> None:
        self.name = name
        self._head, self._embed = head, embedder
        self._lock = threading.Lock()

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        return await asyncio.to_thread(self._read, shots)

    def _read(self, shots: Sequence[Shot]) -> list[Reading]:
        with self._lock:
            embedded = list(self._embed([shot.image for shot in shots]))
        wrong = [each for each in embedded if each is not None and len(each.whole) != len(self._head.whole[0])]
        if wrong:
            raise ValueError(
                f"the head was trained on {len(self._head.whole[0])} features, the embedder gives {len(wrong[0].whole)}"
            )
        return [
            Reading(Outcome.FAILED, reason=f"{self.name}: the embedder finds nothing in the picture")
            if each is None
            else Reading(Outcome.SCORED, self._head.read(each))
            for each in embedded
        ]


def open_detector(parts: Parts, *, head: str, embedder: str, **settings: Any) -> Detector:
    """`head`: the folder of a trained head; `embedder`: dotted path of the Embedder's class that it was trained with, which is
    made of all other settings."""
    try:
        loaded = Head.load(Path(head))
    except ModelMissing as error:
        raise ConfigError(f"detector: {error}") from None
    return Detector(loaded, open_embedder(embedder, settings))
