"""Distances between pictures, as benchmarks with a true picture report them: L1, L2, and cosines of embeddings.

    distances = measure_likeness(result, truth, find_embedders(profile))     # {"L1": 0.03, "L2": 0.01, "cosine, subject": 0.91}

Which embedders there are says the profile: those of its criteria `subject`, `style` and `person` (docs/rewards.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from evaluator.criteria.likeness import Embedder, open_embedder
from redraft.profiles import Profile

_LIKENESS = ("subject", "style", "person")
_NOT_THE_EMBEDDERS = ("embedder", "by", "references", "low", "to_source")


def find_embedders(profile: Profile) -> dict[str, Embedder]:
    """Name of a criterion to its embedder; none if the profile names none. Raises ConfigError."""
    parts = [part for part in profile.evaluator.criteria if part.use in _LIKENESS and "embedder" in part.args]
    return {
        part.name or part.use: open_embedder(
            str(part.args["embedder"]), {k: v for k, v in part.args.items() if k not in _NOT_THE_EMBEDDERS}
        )
        for part in parts
    }


def measure_likeness(made: Image.Image, truth: Image.Image, embedders: Mapping[str, Embedder]) -> dict[str, float]:
    """Mean absolute and mean squared difference of the pixels in [0, 1], `made` scaled to the size of `truth`, and for each
    embedder the cosine of the whole pictures. An embedder that finds nothing in either has no entry."""
    other = made.convert("RGB").resize(truth.size, Image.Resampling.BICUBIC)
    difference = (np.asarray(other, dtype=np.float64) - np.asarray(truth.convert("RGB"), dtype=np.float64)) / 255
    figures = {"L1": float(np.abs(difference).mean()), "L2": float((difference**2).mean())}
    for name, embed in embedders.items():
        one, two = embed([made.convert("RGB"), truth.convert("RGB")])
        if one is not None and two is not None:
            cosine = one.whole @ two.whole / max(float(np.linalg.norm(one.whole) * np.linalg.norm(two.whole)), 1e-12)
            figures[f"cosine, {name}"] = float(cosine)
    return figures
