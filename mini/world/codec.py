"""Scenes as arrays: compact rows for storage, and token vectors for the generator.

Token vectors have shape (TOKENS, WIDTH): six cut-out slots in the caption's order, one token for the sheet, one for the
word. One-hot fields are -1 / +1; lengths are scaled to about unit variance. Fields that a token does not use are 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mini.world.scene import COLORS, FILLS, MAX_CUTOUTS, SHAPES, SHEETS, WORDS, CutOut, PrintedWord, Scene

Floats = NDArray[np.float32]
TOKENS = MAX_CUTOUTS + 2
SHEET_TOKEN, WORD_TOKEN = MAX_CUTOUTS, MAX_CUTOUTS + 1
ROW = 6
"""Numbers of a stored token: x, y, radius, then class indices (shape, colour, fill) or (sheet) or (word)."""


@dataclass(frozen=True)
class Field:
    """A one-hot field: where it starts in the vector and how many classes it has."""

    start: int
    size: int

    @property
    def span(self) -> slice:
        return slice(self.start, self.start + self.size)


LENGTHS = slice(0, 3)
SHAPE = Field(3, 1 + len(SHAPES))
"""Class 0 of shape means that the slot is empty; class 0 of word that there is none."""
COLOR = Field(SHAPE.span.stop, len(COLORS))
FILL = Field(COLOR.span.stop, len(FILLS))
SHEET = Field(FILL.span.stop, len(SHEETS))
WORD = Field(SHEET.span.stop, 1 + len(WORDS))
WIDTH = WORD.span.stop
OFFSET = np.array([0.5, 0.5, 0.095], dtype=np.float32)
SCALE = np.array([0.28, 0.28, 0.033], dtype=np.float32)
"""x, y and radius are stored as (length - OFFSET) / SCALE."""
_COLORS, _SHEETS = tuple(COLORS), tuple(SHEETS)


def to_rows(scene: Scene) -> Floats:
    """(TOKENS, ROW) compact form."""
    rows = np.zeros((TOKENS, ROW), dtype=np.float32)
    for i, cut in enumerate(scene.cutouts[:MAX_CUTOUTS]):
        classes = (1 + SHAPES.index(cut.shape), _COLORS.index(cut.color), FILLS.index(cut.fill))
        rows[i] = (cut.x, cut.y, cut.radius, *classes)
    rows[SHEET_TOKEN, 3] = _SHEETS.index(scene.sheet)
    if scene.word is not None:
        rows[WORD_TOKEN, :4] = (scene.word.x, scene.word.y, 0, 1 + WORDS.index(scene.word.text))
    return rows


def from_rows(rows: Floats) -> Scene:
    """The scene of compact rows."""
    cutouts = tuple(
        CutOut(SHAPES[int(s) - 1], _COLORS[int(c)], FILLS[int(f)], float(x), float(y), float(r))
        for x, y, r, s, c, f in rows[:MAX_CUTOUTS]
        if s > 0
    )
    x, y, _, text = rows[WORD_TOKEN, :4]
    word = PrintedWord(WORDS[int(text) - 1], float(x), float(y)) if text > 0 else None
    return Scene(_SHEETS[int(rows[SHEET_TOKEN, 3])], cutouts, word)


def to_vectors(rows: Floats) -> Floats:
    """(N, TOKENS, ROW) to (N, TOKENS, WIDTH)."""
    n = len(rows)
    vectors = np.zeros((n, TOKENS, WIDTH), dtype=np.float32)

    def put(tokens: slice, field: Field, classes: Floats, where: NDArray[np.bool_] | None = None) -> None:
        hot = np.eye(field.size, dtype=np.float32)[classes.astype(np.int64)] * 2 - 1
        vectors[:, tokens, field.span] = hot if where is None else hot * where[..., None]

    slots, sheet, word = slice(0, MAX_CUTOUTS), slice(SHEET_TOKEN, SHEET_TOKEN + 1), slice(WORD_TOKEN, WORD_TOKEN + 1)
    used = rows[:, slots, 3] > 0
    put(slots, SHAPE, rows[:, slots, 3])
    put(slots, COLOR, rows[:, slots, 4], used)
    put(slots, FILL, rows[:, slots, 5], used)
    put(sheet, SHEET, rows[:, sheet, 3])
    put(word, WORD, rows[:, word, 3])
    lengths = (rows[..., :3] - OFFSET) / SCALE
    lengths[:, WORD_TOKEN, 2] = 0
    present = np.concatenate([used, np.zeros((n, 1), np.bool_), rows[:, word, 3] > 0], axis=1)
    vectors[..., LENGTHS] = lengths * present[..., None]
    return vectors


def to_scenes(vectors: Floats) -> list[Scene]:
    """(N, TOKENS, WIDTH), noisy as a generator leaves them, to scenes: the nearest class of each field."""
    rows = np.zeros((*vectors.shape[:2], ROW), dtype=np.float32)
    rows[..., :3] = vectors[..., LENGTHS] * SCALE + OFFSET
    rows[..., 2] = np.clip(rows[..., 2], 0.02, 0.5)
    rows[..., :2] = np.clip(rows[..., :2], -0.5, 1.5)
    for column, field in ((3, SHAPE), (4, COLOR), (5, FILL)):
        rows[:, :MAX_CUTOUTS, column] = vectors[:, :MAX_CUTOUTS, field.span].argmax(-1)
    rows[:, SHEET_TOKEN, 3] = vectors[:, SHEET_TOKEN, SHEET.span].argmax(-1)
    rows[:, WORD_TOKEN, 3] = vectors[:, WORD_TOKEN, WORD.span].argmax(-1)
    return [from_rows(row) for row in rows]
