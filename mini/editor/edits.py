"""Edits of a sheet: what may be asked for, the short canonical language that says it.

    recolour red star to blue; remove two circles; move heart left of moon

An edit's names speak of the picture before it. Whether it was done is for `mini.editor.truth` to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mini.world.questions import NUMBERS, at_place, plural
from mini.world.scene import (
    COLORS,
    FILLS,
    PLACES,
    SHAPES,
    SHEETS,
    SIZES,
    WORDS,
    CutOut,
    Group,
    Place,
    RelationKind,
    Scene,
)

OpKind = Literal["add", "remove", "replace", "recolour", "resize", "move", "refill", "write", "sheet"]
OP_KINDS: tuple[OpKind, ...] = (
    "add", "remove", "replace", "recolour", "resize", "move", "refill", "write", "sheet",
)  # fmt: skip
MOVES: dict[RelationKind, str] = {
    "left": "left of",
    "right": "right of",
    "above": "above",
    "below": "below",
    "inside": "inside",
}
"""Relations that a cut-out can be put into, and their words."""
STEPS = ("larger", "smaller")
"""Sizes that are said by comparison with what was there."""


@dataclass(frozen=True)
class Pick:
    """Cut-outs of the picture before an edit: of a shape ("shape": of any), and if given of a colour, size, fill and
    place. `many` says that all such are meant, however many; else there is one."""

    shape: str
    color: str | None = None
    size: str | None = None
    fill: str | None = None
    place: Place | None = None
    many: bool = False

    def fits(self, cut: CutOut) -> bool:
        return (
            self.shape in ("shape", cut.shape)
            and self.color in (None, cut.color)
            and self.size in (None, cut.size)
            and self.fill in (None, cut.fill)
            and (self.place is None or at_place(cut, self.place))
        )

    def find(self, scene: Scene) -> tuple[int, ...]:
        """Positions among the scene's cut-outs."""
        return tuple(i for i, cut in enumerate(scene.cutouts) if self.fits(cut))

    def __str__(self) -> str:
        name = plural(self.shape) if self.many else self.shape
        text = " ".join(word for word in (self.size, self.color, self.fill, name) if word)
        return f"{text} at the {self.place}" if self.place else text


@dataclass(frozen=True)
class Op:
    """One change. `kind` says which of the other fields it uses.

    add: `group`, and if given `relation` to `anchor`. remove: `pick`, and `count` if only so many of them go.
    replace: `value` is the new shape, `color` its colour if it changes too. recolour, resize, refill: `value` is the
    new colour, size (or "larger", "smaller") or fill. move: `place`, or `relation` to `anchor`. write: `value` is the
    new word, `place` where it is to stand; no value: the old word stays and moves, or, with no place either, goes.
    sheet: `value`.
    """

    kind: OpKind
    pick: Pick | None = None
    value: str = ""
    color: str | None = None
    group: Group | None = None
    place: Place | None = None
    relation: RelationKind | None = None
    anchor: Pick | None = None
    count: int | None = None

    def targets(self, scene: Scene) -> tuple[int, ...]:
        """Positions of the cut-outs that the change speaks of, anchors apart."""
        return self.pick.find(scene) if self.pick is not None else ()

    def __str__(self) -> str:
        side = f" {MOVES[self.relation]} {self.anchor}" if self.relation else ""
        match self.kind:
            case "add":
                assert self.group is not None
                g = self.group
                pick = Pick(g.shape, g.color, g.size, g.fill, g.place, g.count > 1)
                return f"add {NUMBERS[g.count]} {pick}{side}"
            case "remove":
                return f"remove {NUMBERS[self.count]} {self.pick}" if self.count else f"remove {self.pick}"
            case "replace":
                assert self.pick is not None
                return f"replace {self.pick} with {Pick(self.value, self.color, many=self.pick.many)}"
            case "recolour" | "resize" | "refill":
                return f"{self.kind} {self.pick} to {self.value}"
            case "move":
                return f"move {self.pick}{side or f' to the {self.place}'}"
            case "write":
                if not self.value:
                    return f"move word to the {self.place}" if self.place else "erase word"
                return f"write {self.value}" + (f" at the {self.place}" if self.place else "")
            case "sheet":
                return f"change sheet to {self.value}"


@dataclass(frozen=True)
class EditSpec:
    ops: tuple[Op, ...]

    def __str__(self) -> str:
        """The canonical edit language: a clause for each change."""
        return "; ".join(map(str, self.ops))


_SINGULAR = {plural(s): s for s in (*SHAPES, "shape")}
_SIDE_WORDS = {words: kind for kind, words in MOVES.items()}
_SIDE = "|".join(_SIDE_WORDS)
_PLACE = "|".join(PLACES)


def _parse_pick(text: str) -> Pick | None:
    match = re.fullmatch(rf"(.+?)(?: at the ({_PLACE}))?", text.strip())
    words = match[1].split() if match else []
    size, color, fill = (words.pop(0) if words and words[0] in options else None for options in (SIZES, COLORS, FILLS))
    if match is None or len(words) != 1 or words[0] not in (*SHAPES, "shape", *_SINGULAR):
        return None
    place = next((p for p in PLACES if p == match[2]), None)
    return Pick(_SINGULAR.get(words[0], words[0]), color, size, fill, place, words[0] in _SINGULAR)


def _counted(text: str) -> tuple[int | None, Pick | None]:
    first, _, rest = text.partition(" ")
    if first in NUMBERS[1:]:
        return NUMBERS.index(first), _parse_pick(rest)
    return None, _parse_pick(text)


def _parse_add(text: str) -> Op | None:
    match = re.fullmatch(rf"(.+?)(?: ({_SIDE}) (.+))?", text)
    assert match is not None
    count, pick = _counted(match[1])
    anchor = _parse_pick(match[3]) if match[3] else None
    if pick is None or count is None or pick.shape == "shape" or (match[3] and anchor is None):
        return None
    group = Group(count, pick.shape, pick.color, pick.size, pick.fill, pick.place)
    return Op("add", group=group, relation=_SIDE_WORDS[match[2]] if match[2] else None, anchor=anchor)


def _parse_clause(text: str) -> Op | None:
    verb, _, rest = text.strip().partition(" ")
    if text == "erase word":
        return Op("write")
    if verb == "add":
        return _parse_add(rest)
    if verb == "remove":
        count, pick = _counted(rest)
        return Op("remove", pick, count=count) if pick else None
    if match := re.fullmatch(r"change sheet to ([a-z]+)", text):
        return Op("sheet", value=match[1]) if match[1] in SHEETS else None
    if match := re.fullmatch(r"(?:write ([A-Z]+)(?: at the (top|bottom))?|move word to the (top|bottom))", text):
        place = next((p for p in PLACES if p in (match[2], match[3])), None)
        return Op("write", value=match[1] or "", place=place) if match[1] in (None, *WORDS) else None
    if verb == "move" and (match := re.fullmatch(rf"(.+?) to the ({_PLACE})", rest)):
        pick = _parse_pick(match[1])
        return Op("move", pick, place=next(p for p in PLACES if p == match[2])) if pick else None
    if verb == "move" and (match := re.fullmatch(rf"(.+?) ({_SIDE}) (.+)", rest)):
        pick, anchor = _parse_pick(match[1]), _parse_pick(match[3])
        return Op("move", pick, relation=_SIDE_WORDS[match[2]], anchor=anchor) if pick and anchor else None
    if verb == "replace" and (match := re.fullmatch(r"(.+) with (.+)", rest)):
        pick, new = _parse_pick(match[1]), _parse_pick(match[2])
        plain = pick is not None and new is not None and new == Pick(new.shape, new.color, many=pick.many)
        if not plain or new is None or new.shape == "shape":
            return None
        return Op("replace", pick, value=new.shape, color=new.color)
    values = {"recolour": tuple(COLORS), "resize": (*SIZES, *STEPS), "refill": FILLS}
    for kind in ("recolour", "resize", "refill"):
        if verb == kind and (match := re.fullmatch(r"(.+) to ([a-z]+)", rest)):
            pick = _parse_pick(match[1])
            return Op(kind, pick, value=match[2]) if pick and match[2] in values[kind] else None
    return None


def parse_edit(text: str) -> EditSpec | None:
    """The edit that a text of the canonical language says, or None if it is not of that language."""
    ops = [_parse_clause(clause.strip()) for clause in text.split(";")]
    return EditSpec(tuple(op for op in ops if op is not None)) if all(ops) else None
