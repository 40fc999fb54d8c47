"""Draws a Scene with Pillow, supersampled: paper shapes with a soft edge of shadow on a coloured sheet."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mini.world.scene import COLORS, SHEETS, WORD_HEIGHT, Scene

INK = (18, 18, 24)
DARK = 0.70
"""A pattern is drawn in the shape's colour, darkened to this share."""
SHADOW = 0.90
STRIPE = 0.047
"""Period of stripes and dots, as a fraction of the sheet's side."""
SUPERSAMPLE = 2


def darker(rgb: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    return (round(rgb[0] * share), round(rgb[1] * share), round(rgb[2] * share))


def _normalised(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Centred on the bounding box, the longer half side 1."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    cx, cy = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    half = max(max(xs) - min(xs), max(ys) - min(ys)) / 2
    return tuple(((x - cx) / half, (y - cy) / half) for x, y in points)


def _outlines() -> dict[str, tuple[tuple[float, float], ...]]:
    turn = [2 * math.pi * i / 64 for i in range(64)]
    reach = [1.0 if i % 2 == 0 else 0.42 for i in range(10)]
    star = [(r * math.sin(math.pi * i / 5), -r * math.cos(math.pi * i / 5)) for i, r in enumerate(reach)]
    heart = [
        (16 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)))
        for t in turn
    ]
    arm = 0.36
    cross = [
        (-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
        (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm),
    ]  # fmt: skip
    open_at = 0.8
    outer = [(math.cos(t), math.sin(t)) for t in (open_at + (2 * math.pi - 2 * open_at) * i / 48 for i in range(49))]
    # The inner edge is an arc through the outer arc's two ends, bulging less: what is left is a crescent.
    tip_x, tip_y = math.cos(open_at), math.sin(open_at)
    centre = 0.72
    inner_r = math.hypot(tip_x - centre, tip_y)
    start = math.atan2(tip_y, tip_x - centre)
    inner = [
        (centre + inner_r * math.cos(t), inner_r * math.sin(t))
        for t in (-start - (2 * math.pi - 2 * start) * i / 48 for i in range(49))
    ]
    shapes: dict[str, list[tuple[float, float]]] = {
        "circle": [(math.cos(t), math.sin(t)) for t in turn],
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -1), (1, 0.8), (-1, 0.8)],
        "star": star,
        "heart": heart,
        "diamond": [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)],
        "cross": cross,
        "moon": outer + inner,
    }
    return {name: _normalised(points) for name, points in shapes.items()}


OUTLINES = _outlines()
REACH = {shape: max(math.hypot(x, y) for x, y in points) for shape, points in OUTLINES.items()}
"""Distance from the middle to the farthest corner, in radii."""


EXTENT = {shape: (max(x for x, _ in points), max(y for _, y in points)) for shape, points in OUTLINES.items()}
"""Half width and half height, in radii; the larger of the two is 1."""


def polygon(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Outline points in the units of x, y and radius."""
    return [(x + radius * px, y + radius * py) for px, py in OUTLINES[shape]]


@lru_cache(maxsize=8)
def font(side: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=WORD_HEIGHT * side)


def pattern(fill: str, width: int, height: int, side: int) -> NDArray[np.bool_]:
    """(height, width) mask of the darker tone of a fill, anchored to the middle, for a sheet of `side` pixels."""
    period = STRIPE * side
    ys = (np.arange(height) - (height - 1) / 2)[:, None]
    xs = (np.arange(width) - (width - 1) / 2)[None, :]
    if fill == "striped":
        return np.broadcast_to((ys / period + 0.25) % 1.0 < 0.5, (height, width))
    if fill == "dotted":
        dx = (xs / period + 0.5) % 1.0 - 0.5
        dy = (ys / period + 0.5) % 1.0 - 0.5
        return dx * dx + dy * dy < 0.31**2
    return np.zeros((height, width), dtype=np.bool_)


def draw(scene: Scene, side: int = 256) -> Image.Image:
    """The scene as an RGB picture of side x side pixels. Smaller cut-outs lie on top of larger ones."""
    big = side * SUPERSAMPLE
    sheet = SHEETS[scene.sheet]
    image = Image.new("RGB", (big, big), sheet)
    pen = ImageDraw.Draw(image)
    shade = darker(sheet, SHADOW)
    offset = 0.009 * big
    for cut in sorted(scene.cutouts, key=lambda c: -c.radius):
        x, y, r = cut.x * big, cut.y * big, max(cut.radius * big, 1.0)
        pen.polygon([(px + offset, py + offset * 1.2) for px, py in polygon(cut.shape, x, y, r)], fill=shade)
        outline = polygon(cut.shape, x, y, r)
        color = COLORS[cut.color]
        pen.polygon(outline, fill=color)
        if cut.fill == "plain":
            continue
        # Tone and outline are made in the box around the shape alone; that is ten times cheaper than the whole sheet.
        box = max(1, math.ceil(r)) * 2 + 1
        left, top = round(x) - box // 2, round(y) - box // 2
        outline_mask = Image.new("L", (box, box), 0)
        ImageDraw.Draw(outline_mask).polygon([(px - left, py - top) for px, py in outline], fill=255)
        tone = Image.fromarray(np.where(pattern(cut.fill, box, box, big), 255, 0).astype(np.uint8))
        both = Image.new("L", (box, box), 0)
        both.paste(tone, (0, 0), outline_mask)
        image.paste(darker(color, DARK), (left, top, left + box, top + box), both)
    if scene.word is not None:
        pen.text((scene.word.x * big, scene.word.y * big), scene.word.text, fill=INK, font=font(big), anchor="mm")
    return image.reduce(SUPERSAMPLE)
