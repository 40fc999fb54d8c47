"""Yes/no questions about a sheet: written by a fixed grammar, read back by it, and answered by rule from a Scene.

The question's text is all that a Check holds, so the oracle answers what was written, not what was meant.
"Yes" always means that the picture is as asked, also for what must be absent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mini.world.scene import COLORS, FILLS, SHAPES, SHEETS, SIZES, WORDS, CutOut, Scene

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


def plural(shape: str) -> str:
    return "crosses" if shape == "cross" else f"{shape}s"


_SINGULAR = {plural(shape): shape for shape in SHAPES} | {shape: shape for shape in SHAPES} | {"shapes": "shape"}


@dataclass(frozen=True)
class Noun:
    """A noun phrase: a shape (or any `shape`), a colour if given, one or several."""

    shape: str
    color: str | None = None
    many: bool = False

    def __str__(self) -> str:
        noun = ("shapes" if self.shape == "shape" else plural(self.shape)) if self.many else self.shape
        return f"{self.color} {noun}" if self.color else noun

    def find(self, scene: Scene) -> list[CutOut]:
        return [
            c
            for c in scene.cutouts
            if self.shape in ("shape", c.shape) and self.color in (None, c.color)
        ]  # fmt: skip


def _noun(text: str) -> Noun | None:
    words = text.split()
    if not words or len(words) > 2 or words[-1] not in (*_SINGULAR, "shape"):
        return None
    color = words[0] if len(words) == 2 else None
    if color is not None and color not in COLORS:
        return None
    return Noun(_SINGULAR.get(words[-1], "shape"), color, words[-1] in ("shapes", *map(plural, SHAPES)))


@dataclass(frozen=True)
class Query:
    """A question in parts. `kind` says which of the others it uses; `value` is a count, size, fill, colour, place,
    word or sheet."""

    kind: str
    noun: Noun | None = None
    other: Noun | None = None
    value: str = ""

    def __str__(self) -> str:
        n, o, v = self.noun, self.other, self.value
        is_are = "Are the" if n is not None and n.many else "Is the"
        match self.kind:
            case "exists":
                article = "an" if str(n)[0] in "aeiou" else "a"
                return f"Is there {article} {n}?"
            case "count":
                return f"Is there exactly one {n}?" if v == "one" else f"Are there exactly {v} {n}?"
            case "size" | "fill" | "color":
                return f"Are all {n} {v}?" if n is not None and n.many else f"Is the {n} {v}?"
            case "place":
                return f"{is_are} {n} at the {v}?"
            case "left" | "right":
                return f"{is_are} {n} {self.kind} of the {o}?"
            case "above" | "below" | "inside":
                return f"{is_are} {n} {self.kind} the {o}?"
            case "larger" | "smaller":
                return f"{is_are} {n} {self.kind} than the {o}?"
            case "same_color":
                return f"Do the {n} and the {o} have the same colour?"
            case "absent":
                return f"Is the picture free of {n}?"
            case "word":
                return f"Does the picture say {v}?"
            case "word_place":
                return f"Is the word at the {v}?"
            case "sheet":
                return f"Is the sheet {v}?"
        raise ValueError(f"no question of kind {self.kind!r}")


_NP = r"([a-z]+(?: [a-z]+)?)"
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("count", re.compile(rf"(?:Is|Are) there exactly ([a-z]+) {_NP}\?")),
    ("exists", re.compile(rf"Is there an? {_NP}\?")),
    ("word_place", re.compile(r"Is the word at the (top|bottom)\?")),
    ("sheet", re.compile(r"Is the sheet ([a-z]+)\?")),
    ("absent", re.compile(rf"Is the picture free of {_NP}\?")),
    ("word", re.compile(r"Does the picture say ([A-Z]+)\?")),
    ("same_color", re.compile(rf"Do the {_NP} and the {_NP} have the same colour\?")),
    ("place", re.compile(rf"(?:Is|Are) the {_NP} at the (left|right|top|bottom)\?")),
    ("left", re.compile(rf"(?:Is|Are) the {_NP} left of the {_NP}\?")),
    ("right", re.compile(rf"(?:Is|Are) the {_NP} right of the {_NP}\?")),
    ("above", re.compile(rf"(?:Is|Are) the {_NP} above the {_NP}\?")),
    ("below", re.compile(rf"(?:Is|Are) the {_NP} below the {_NP}\?")),
    ("inside", re.compile(rf"(?:Is|Are) the {_NP} inside the {_NP}\?")),
    ("larger", re.compile(rf"(?:Is|Are) the {_NP} larger than the {_NP}\?")),
    ("smaller", re.compile(rf"(?:Is|Are) the {_NP} smaller than the {_NP}\?")),
    ("attribute", re.compile(rf"(?:Is the|Are all) {_NP} ([a-z]+)\?")),
)
_BINARY = ("same_color", "left", "right", "above", "below", "inside", "larger", "smaller")


def parse(question: str) -> Query | None:
    """The question in parts, or None if it is not of this grammar."""
    for kind, form in _FORMS:
        match = form.fullmatch(question.strip())
        if match is None:
            continue
        if kind in _BINARY:
            noun, other = _noun(match[1]), _noun(match[2])
            return Query(kind, noun, other) if noun and other else None
        if kind in ("exists", "absent"):
            noun = _noun(match[1])
            return Query(kind, noun) if noun else None
        if kind == "count":
            noun = _noun(match[2])
            return Query(kind, noun, value=match[1]) if noun and match[1] in NUMBERS else None
        if kind == "place":
            noun = _noun(match[1])
            return Query(kind, noun, value=match[2]) if noun else None
        if kind == "attribute":
            noun, value = _noun(match[1]), match[2]
            real = "size" if value in SIZES else "fill" if value in FILLS else "color" if value in COLORS else None
            return Query(real, noun, value=value) if noun and real else None
        if kind == "word":
            return Query(kind, value=match[1]) if match[1] in WORDS else None
        if kind == "sheet":
            return Query(kind, value=match[1]) if match[1] in SHEETS else None
        return Query(kind, value=match[1])
    return None


def stands(kind: str, a: CutOut, b: CutOut) -> bool:
    """Whether `a` stands in a spatial relation or one of size to `b`."""
    match kind:
        case "left":
            return a.x < b.x - 0.02
        case "right":
            return a.x > b.x + 0.02
        case "above":
            return a.y < b.y - 0.02
        case "below":
            return a.y > b.y + 0.02
        case "inside":
            return a is not b and max(abs(a.x - b.x), abs(a.y - b.y)) + a.radius <= b.radius * 1.02
        case "larger":
            return a.radius > b.radius * 1.1
        case "smaller":
            return a.radius * 1.1 < b.radius
    raise ValueError(f"no relation of kind {kind!r}")


def at_place(cutout: CutOut, place: str) -> bool:
    """At the left: in the left two fifths of the sheet; likewise for the other three."""
    near, far = 0.40, 0.60
    return {"left": cutout.x < near, "right": cutout.x > far, "top": cutout.y < near, "bottom": cutout.y > far}[place]


def answer(query: Query, scene: Scene) -> bool:
    """The true answer, by rule. A statement about cut-outs that are not there is false."""
    if query.kind == "sheet":
        return scene.sheet == query.value
    if query.kind == "word":
        return scene.word is not None and scene.word.text == query.value
    if query.kind == "word_place":
        return scene.word is not None and ((scene.word.y < 0.5) == (query.value == "top"))
    assert query.noun is not None
    cutouts = query.noun.find(scene)
    match query.kind:
        case "absent":
            return not cutouts
        case "exists":
            return bool(cutouts)
        case "count":
            return len(cutouts) == NUMBERS.index(query.value)
        case "size":
            return bool(cutouts) and all(c.size == query.value for c in cutouts)
        case "fill":
            return bool(cutouts) and all(c.fill == query.value for c in cutouts)
        case "color":
            return bool(cutouts) and all(c.color == query.value for c in cutouts)
        case "place":
            return bool(cutouts) and all(at_place(c, query.value) for c in cutouts)
    assert query.other is not None
    others = query.other.find(scene)
    if not cutouts or not others:
        return False
    if query.kind == "same_color":
        return len({c.color for c in (*cutouts, *others)}) == 1
    return all(stands(query.kind, a, b) for a in cutouts for b in others)
