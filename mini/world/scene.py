"""Cut-outs: the words of a world of paper shapes on a coloured sheet.

A `Spec` is what somebody asks for; a `Scene` is what lies on the sheet. Lengths are fractions of the sheet's side.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "moon")
COLORS = {
    "red": (214, 48, 49),
    "orange": (245, 146, 30),
    "yellow": (250, 215, 50),
    "green": (52, 152, 70),
    "blue": (38, 98, 200),
    "purple": (128, 60, 170),
    "pink": (243, 130, 185),
    "brown": (112, 68, 38),
}
FILLS = ("plain", "striped", "dotted")
SIZES = ("small", "medium", "large")
RADII = {"small": (0.055, 0.070), "medium": (0.090, 0.110), "large": (0.140, 0.170)}
SIZE_EDGES = (0.080, 0.125)
"""Radii below the first are small, above the second large."""
SHEETS = {
    "white": (252, 252, 250),
    "cream": (252, 239, 205),
    "sky": (190, 224, 246),
    "mint": (196, 236, 206),
    "grey": (201, 203, 206),
    "lilac": (222, 206, 242),
}
WORDS = (
    "HELLO", "OPEN", "SALE", "MOON", "LOVE", "JAZZ", "TEA", "ZOO",
    "STOP", "PLAY", "HOME", "YES", "NORTH", "BIRD", "FISH", "CAKE",
)  # fmt: skip
WORD_HEIGHT = 0.12
MAX_CUTOUTS = 6
CONTAINERS = ("circle", "square", "diamond")
"""Shapes roomy enough to hold a small one."""

RelationKind = Literal["left", "right", "above", "below", "inside", "larger", "smaller", "same_color"]
RELATIONS: tuple[RelationKind, ...] = ("left", "right", "above", "below", "inside", "larger", "smaller", "same_color")
INVERSE: dict[RelationKind, RelationKind] = {
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
    "larger": "smaller",
    "smaller": "larger",
}
"""The same relation said from the other side, if that has a word of its own."""
Place = Literal["left", "right", "top", "bottom"]
PLACES: tuple[Place, ...] = ("left", "right", "top", "bottom")

HELD_OUT_SHARE = 7
"""One in so many (relation, colour, shape of its subject) triples is asked for in no training set."""


@dataclass(frozen=True)
class CutOut:
    """One paper shape. `radius` is half the longer side of its bounding box."""

    shape: str
    color: str
    fill: str
    x: float
    y: float
    radius: float

    @property
    def size(self) -> str:
        return SIZES[sum(self.radius > edge for edge in SIZE_EDGES)]


@dataclass(frozen=True)
class PrintedWord:
    """A short word printed on the sheet; x, y is the middle of its box."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    sheet: str
    cutouts: tuple[CutOut, ...]
    word: PrintedWord | None = None


@dataclass(frozen=True)
class Group:
    """`count` cut-outs that share shape and, if given, colour, size, fill and place."""

    count: int
    shape: str
    color: str | None = None
    size: str | None = None
    fill: str | None = None
    place: Place | None = None


@dataclass(frozen=True)
class Relation:
    """Group number `a` stands in `kind` to group number `b`: a left of b, a inside b, a larger than b."""

    kind: RelationKind
    a: int
    b: int


@dataclass(frozen=True)
class Absent:
    """What the picture must not hold: a shape, a colour, or a shape of a colour."""

    shape: str | None = None
    color: str | None = None


@dataclass(frozen=True)
class Spec:
    groups: tuple[Group, ...]
    relations: tuple[Relation, ...] = ()
    sheet: str | None = None
    word: str | None = None
    word_place: Literal["top", "bottom"] | None = None
    absent: tuple[Absent, ...] = ()


def held_out(kind: str, color: str, shape: str) -> bool:
    """Whether a relation with such a subject is kept from every training set."""
    return zlib.crc32(f"{kind} {color} {shape}".encode()) % HELD_OUT_SHARE == 0
