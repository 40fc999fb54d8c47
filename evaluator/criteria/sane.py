"""The criterion `sane`: faults that cost nothing to see, without a model.

[[evaluator.criteria]]
use = "sane"
floor = 0.5
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops

from evaluator.types import Case, Need, Outcome, Reading, Shot

BLANK = 2.0
"""Standard deviation of brightness, in 8-bit steps, below which a picture shows nothing."""
BLURRED = 0.04
"""Sharpness below which a picture counts as out of focus. Our own choice; flat drawings have a few sharp edges and pass."""
_SIDE = 512


class Sane:
    """0 for a picture that is blank, an exact copy of the source of an edit, of another shape than the source, or blurred
    all over; else 1. The reason names the fault, and how sharp the picture is."""

    name = "sane"
    absolute = True
    needs: frozenset[Need] = frozenset()

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        return [await asyncio.to_thread(_read, shot.image, case.source) for shot in shots]


def open_sane(parts: object) -> Sane:
    """The criterion; a profile lends it nothing."""
    return Sane()


def _read(image: Image.Image, source: Image.Image | None) -> Reading:
    sharp = sharpness(image)
    faults = list_faults(image, source)
    if sharp < BLURRED and not faults:
        faults = ("the picture is blurred",)
    reason = "; ".join([*faults, f"sharpness {sharp:.2f}"])
    return Reading(Outcome.SCORED, 0.0 if faults else 1.0, reason=reason)


def list_faults(image: Image.Image, source: Image.Image | None = None) -> tuple[str, ...]:
    """What is plainly wrong with a picture, in words. Sizes may differ from the source's by what models round to."""
    faults = []
    if np.asarray(image.convert("L"), dtype=np.float32).std() < BLANK:
        faults.append("the picture is blank")
    if source is not None:
        if (
            image.size == source.size
            and ImageChops.difference(image.convert("RGB"), source.convert("RGB")).getbbox() is None
        ):
            faults.append("the picture is the source, unchanged")
        wide, tall = image.width * source.height, source.width * image.height
        if abs(wide - tall) > 0.1 * max(wide, tall):
            faults.append(f"{image.width} x {image.height} pixels are of another shape than the source")
    return tuple(faults)


def sharpness(image: Image.Image) -> float:
    """How sharp the sharpest edges are, in [0, 1]: the 99.9th percentile of the steps from pixel to pixel, as a share of the
    range of brightness. An edge that is spread over two pixels has 0.5, over fifty 0.02. 0.0 for a blank picture."""
    small = image.convert("L")
    if max(small.size) > _SIDE:
        small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.float32)
    low, high = np.percentile(grey, (1, 99))
    span = max(float(high - low), float(grey.max() - grey.min()) / 2)
    if span < BLANK or min(grey.shape) < 2:
        return 0.0
    steps = np.concatenate([np.abs(np.diff(grey, axis=0)).ravel(), np.abs(np.diff(grey, axis=1)).ravel()])
    return float(min(1.0, np.percentile(steps, 99.9) / span))
