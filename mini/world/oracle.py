"""Recovers the scene from a picture's pixels, and answers checks by rule. The ground truth of every mini figure.

By synthesis: each connected patch of one paper colour is compared with every shape drawn into its bounding box, and its
darker tone with every pattern. What matches no shape is kept as shape "unknown", so that a clipped or covered cut-out
counts as nothing that was asked for. It is never the reward of a training and never the judge inside a reported loop.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from mini.world import questions
from mini.world.raster import DARK, EXTENT, INK, SHADOW, darker, font, pattern, polygon
from mini.world.scene import COLORS, FILLS, SHAPES, SHEETS, WORDS, CutOut, PrintedWord, Scene

SIDE = 256
MIN_AREA = 60
MIN_MATCH = 0.78
"""Intersection over union below which a patch is no known shape."""
MIN_WORD_MATCH = 0.62
INK_BELOW = 140
"""Sum of the three channels below which a pixel is ink; the darkest paper tone sums to 152."""
_SQUARE = np.ones((3, 3), dtype=np.bool_)
_NAMES = tuple(COLORS)
_SHEET_NAMES = tuple(SHEETS)
_INK = 2 * len(_NAMES)
"""Palette classes: 2i paper colour i, 2i + 1 its darker tone, then ink, then sheet and shadow in pairs."""


@lru_cache(maxsize=1)
def _palette_lut() -> NDArray[np.uint8]:
    """(32768,) nearest palette class of each 5-bit RGB cell."""
    palette: list[tuple[int, int, int]] = []
    for rgb in COLORS.values():
        palette += [rgb, darker(rgb, DARK)]
    palette.append(INK)
    for rgb in SHEETS.values():
        palette += [rgb, darker(rgb, SHADOW)]
    cells = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 8.0 + 3.5
    distance = ((cells[:, None, :] - np.array(palette, dtype=np.float64)[None]) ** 2).sum(-1)
    nearest: NDArray[np.uint8] = distance.argmin(1).astype(np.uint8)
    return nearest


def _filled(shape: str, width: int, height: int, radius: float) -> NDArray[np.bool_]:
    image = Image.new("1", (width * 2, height * 2), 0)
    ImageDraw.Draw(image).polygon(polygon(shape, width - 0.5, height - 0.5, radius * 2), fill=1)
    return np.asarray(image.convert("L").reduce(2)) > 127


@lru_cache(maxsize=4096)
def _template(shape: str, width: int, height: int) -> NDArray[np.bool_]:
    """The shape drawn so that its longer side fills the box, centred."""
    return _filled(shape, width, height, max(width, height) / 2)


def _match(shape: str, mask: NDArray[np.bool_]) -> float:
    """Intersection over union of a patch and a shape in its box, 0 if the box has not the shape's proportions."""
    across, down = EXTENT[shape]
    longer = max(mask.shape)
    if max(abs(mask.shape[1] - across * longer), abs(mask.shape[0] - down * longer)) > 2 + 0.08 * longer:
        return 0.0
    template = _template(shape, mask.shape[1], mask.shape[0])
    return float((mask & template).sum() / max((mask | template).sum(), 1))


def _cutout(
    color: str, mask: NDArray[np.bool_], dark: NDArray[np.bool_], top: int, left: int, min_match: float
) -> CutOut:
    height, width = mask.shape
    solid = ndimage.binary_fill_holes(mask)
    scores = {shape: _match(shape, solid) for shape in SHAPES}
    shape = max(scores, key=scores.__getitem__)
    tones = {fill: float((pattern(fill, width, height, SIDE) == dark)[mask].mean()) for fill in FILLS}
    fill = max(tones, key=tones.__getitem__)
    return CutOut(
        shape=shape if scores[shape] >= min_match else "unknown",
        color=color,
        fill=fill,
        x=(left + width / 2) / SIDE,
        y=(top + height / 2) / SIDE,
        radius=max(width, height) / 2 / SIDE,
    )


@lru_cache(maxsize=len(WORDS))
def _word_mask(text: str) -> NDArray[np.bool_]:
    big = SIDE * 2
    image = Image.new("L", (big, big // 2), 0)
    ImageDraw.Draw(image).text((big / 2, big / 4), text, fill=255, font=font(big), anchor="mm")
    return _cropped(np.asarray(image.reduce(2)) > 110)[0]


def _cropped(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int, int]:
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], int(rows[0]), int(cols[0])


def _thick(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(np.pad(mask, 1)), dtype=np.bool_)


def _word(ink: NDArray[np.bool_]) -> PrintedWord | None:
    if ink.sum() < MIN_AREA / 2:
        return None
    mask, top, left = _cropped(ink)
    best, best_score = "?", 0.0
    for text in WORDS:
        template = _word_mask(text)
        if abs(template.shape[0] - mask.shape[0]) > 4 or abs(template.shape[1] - mask.shape[1]) > 5:
            continue
        resized = Image.fromarray(mask).resize((template.shape[1], template.shape[0]), Image.Resampling.NEAREST)
        # Strokes are two pixels wide: thickened, so that half a pixel of shift does not decide.
        ours, theirs = _thick(np.asarray(resized)), _thick(template)
        score = float((ours & theirs).sum() / max((ours | theirs).sum(), 1))
        if score > best_score:
            best, best_score = text, score
    text = best if best_score >= MIN_WORD_MATCH else "?"
    return PrintedWord(text, (left + mask.shape[1] / 2) / SIDE, (top + mask.shape[0] / 2) / SIDE)


def read_scene(image: Image.Image, min_match: float = MIN_MATCH) -> Scene:
    """The scene that a picture shows. Any size; judged at 256 x 256 pixels. What matches no shape as well as
    `min_match` (intersection over union) is "unknown"; at 0 it is the likeliest shape."""
    rgb = image.convert("RGB")
    if rgb.size != (SIDE, SIDE):
        rgb = rgb.resize((SIDE, SIDE), Image.Resampling.BOX)
    full = np.asarray(rgb).astype(np.int32)
    pixels = full >> 3
    classes = _palette_lut()[(pixels[..., 0] << 10) | (pixels[..., 1] << 5) | pixels[..., 2]]
    counts = np.bincount(classes.ravel(), minlength=_INK + 1 + 2 * len(_SHEET_NAMES))
    sheet = _SHEET_NAMES[int(counts[_INK + 1 :: 2].argmax())]
    cutouts = []
    for i, color in enumerate(_NAMES):
        if counts[2 * i] + counts[2 * i + 1] < MIN_AREA:
            continue
        mask = (classes >> 1 == i) & (classes < _INK)
        # Seams, one pixel wide, where two papers blend into the colour of a third: opening drops those that took this
        # colour, and what the opening cut off a real cut-out's corners is given back.
        core = ndimage.binary_opening(mask, structure=_SQUARE)
        mask &= ndimage.binary_dilation(core, structure=_SQUARE, iterations=2)
        labels, n = ndimage.label(mask, structure=_SQUARE)
        dark = classes == 2 * i + 1
        for number, window in enumerate(ndimage.find_objects(labels, max_label=n), start=1):
            piece = labels[window] == number
            if piece.sum() >= MIN_AREA:
                cutouts.append(_cutout(color, piece, dark[window], window[0].start, window[1].start, min_match))
    return Scene(sheet, tuple(cutouts), _word(full.sum(-1) < INK_BELOW))


def answers(image: Image.Image, asked: list[str]) -> list[bool]:
    """The truth of each question about a picture. Raises ValueError for a question outside the grammar."""
    scene = read_scene(image)
    truth = []
    for question in asked:
        query = questions.parse(question)
        if query is None:
            raise ValueError(f"not a question of the cut-outs grammar: {question!r}")
        truth.append(questions.answer(query, scene))
    return truth
