"""Visual cues: pictures that show where a sub-task is to change something. White is where, as in masks."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from evaluator.grounding import Box

MARGIN = 0.04
"""Added on each side of a box, as a share of the picture: boxes are seldom generous, and a cut edge is ugly."""


def cue_of(box: Box, size: tuple[int, int]) -> Image.Image:
    """A mask of `size` (L) that is white inside the box and a margin around it."""
    width, height = size
    left, top, right, bottom = box
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle(
        (
            max(0, math.floor((left - MARGIN) * width)),
            max(0, math.floor((top - MARGIN) * height)),
            min(width - 1, math.ceil((right + MARGIN) * width)),
            min(height - 1, math.ceil((bottom + MARGIN) * height)),
        ),
        fill=255,
    )
    return mask


def is_box(box: tuple[float, ...] | None) -> bool:
    """Whether a region that a model gave is a box inside the picture."""
    if box is None or len(box) != 4:
        return False
    left, top, right, bottom = box
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1
