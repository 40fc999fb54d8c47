"""Carries an edit out on a scene by rule: new fields, free places. What the mini editor is trained to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from mini.editor.edits import EditSpec, Op
from mini.editor.truth import followed, kept
from mini.world import codec
from mini.world.questions import at_place, stands
from mini.world.raster import REACH
from mini.world.sampling import Rng
from mini.world.scene import COLORS, CONTAINERS, FILLS, MAX_CUTOUTS, RADII, SIZES, CutOut, PrintedWord, Scene

T = TypeVar("T")
SURE = 0.015
"""How far a cut-out is from the border of a place that it is said to be at, since the oracle reads to a pixel or so."""
_COLORS = tuple(COLORS)
_MARGIN, _GAP = 0.015, 0.07
"""Least distance to the sheet's edge; to the anchor of a relation, along its axis."""
_ROOM = {"circle": 0.92, "square": 1.0, "diamond": 0.58}
"""How far from a container's middle its edge is at the least, as a share of its radius."""
_TRIES = 24


@dataclass(frozen=True)
class EditCase:
    """A scene, an edit of it, and one scene that the edit may lead to.

    Cut-outs of `before` lie in slot order. `slots` says what became of each slot: a removed cut-out leaves its slot
    empty, added ones take the slots after the last that was in use.
    """

    before: Scene
    spec: EditSpec
    after: Scene
    slots: tuple[CutOut | None, ...]

    def rows(self) -> tuple[codec.Floats, codec.Floats]:
        """Compact rows (TOKENS, ROW) before and after, slot by slot."""
        packed = codec.to_rows(self.after)
        rows = packed.copy()
        rows[:MAX_CUTOUTS] = 0
        rows[[i for i, cut in enumerate(self.slots) if cut is not None]] = packed[: len(self.after.cutouts)]
        return codec.to_rows(self.before), rows


def in_slot_order(scene: Scene) -> Scene:
    """The scene with its cut-outs from left to right: the order of the editor's slots, however they were read."""
    return replace(scene, cutouts=tuple(sorted(scene.cutouts, key=lambda cut: (cut.x, cut.y))))


def any_of(rng: Rng, options: tuple[T, ...]) -> T:
    return options[int(rng.integers(len(options)))]


def _apart(a: CutOut, b: CutOut) -> bool:
    """Whether two cut-outs lie clear of one another, or the smaller well within a container of another colour."""
    small, big = sorted((a, b), key=lambda c: c.radius)
    away = ((a.x - b.x) ** 2 + (a.y - b.y) ** 2) ** 0.5
    if away >= REACH[a.shape] * a.radius + REACH[b.shape] * b.radius + 0.01:
        return True
    room = _ROOM[big.shape] * big.radius if big.shape in CONTAINERS else 0.0
    return small.color != big.color and away + REACH[small.shape] * small.radius + 0.01 <= room


def _on_sheet(cut: CutOut, word: PrintedWord | None) -> bool:
    edge = cut.radius + _MARGIN
    low = 0.18 if word and word.y < 0.5 else _MARGIN
    high = 0.82 if word and word.y > 0.5 else 1 - _MARGIN
    return edge <= cut.x <= 1 - edge and low + cut.radius <= cut.y <= high - cut.radius


def crowding(scene: Scene) -> int:
    """How many pairs of cut-outs lie over one another, other than one well within the other, and how many cut-outs
    hang over the sheet's edge or into the word's strip."""
    cuts = scene.cutouts
    pairs = sum(not _apart(a, b) for i, a in enumerate(cuts) for b in cuts[:i])
    return pairs + sum(not _on_sheet(cut, scene.word) for cut in cuts)


def _radius(rng: Rng, size: str) -> float:
    return float(rng.uniform(*RADII[size]))


def _well_placed(op: Op, cut: CutOut, anchors: list[CutOut]) -> bool:
    """Where a change wants it, with a clear gap."""
    place = op.group.place if op.group is not None else op.place
    inwards = replace(cut, x=cut.x + math.copysign(SURE, 0.5 - cut.x), y=cut.y + math.copysign(SURE, 0.5 - cut.y))
    if place is not None and not at_place(inwards, place):
        return False
    for anchor in anchors:
        gap = {
            "left": anchor.x - cut.x, "right": cut.x - anchor.x, "above": anchor.y - cut.y, "below": cut.y - anchor.y,
        }.get(str(op.relation))  # fmt: skip
        if gap is not None and gap < _GAP:
            return False
        if op.relation == "inside" and not stands("inside", cut, anchor):
            return False
    return True


def _put(
    rng: Rng, op: Op, cut: CutOut, others: list[CutOut], anchors: list[CutOut], word: PrintedWord | None, stay: bool
) -> CutOut | None:
    """The cut-out at a place of the change's; `stay`: along one axis it stays where it was, if it can."""
    upright = op.place in ("top", "bottom") or op.relation in ("above", "below")
    for i in range(_TRIES):
        x, y = (float(v) for v in rng.uniform(cut.radius + _MARGIN, 1 - cut.radius - _MARGIN, 2))
        if op.relation == "inside":
            x, y = (float(v) for v in np.array([anchors[0].x, anchors[0].y]) + rng.uniform(-0.05, 0.05, 2))
        elif stay and i < _TRIES * 2 // 3:
            x, y = (cut.x, y) if upright else (x, cut.y)
        put = replace(cut, x=x, y=y)
        if _well_placed(op, put, anchors) and _on_sheet(put, word) and all(_apart(put, o) for o in others):
            return put
    return None


def _word_after(rng: Rng, spec: EditSpec, before: PrintedWord | None) -> PrintedWord | None:
    op = next((op for op in spec.ops if op.kind == "write"), None)
    if op is None:
        return before
    if not op.value and op.place is None:
        return None
    top = rng.random() < 0.5 if op.place is None else op.place == "top"
    if before is not None and (op.place is None or (before.y < 0.5) == top):
        return replace(before, text=op.value or before.text)
    y = float(rng.uniform(0.08, 0.12) if top else rng.uniform(0.88, 0.92))
    x = before.x if before is not None else float(rng.uniform(0.38, 0.62))
    return PrintedWord(op.value or (before.text if before else ""), x, y)


def _changed(rng: Rng, cut: CutOut, ops: list[Op]) -> CutOut:
    """The cut-out with new colour, shape, fill and size."""
    for op in ops:
        match op.kind:
            case "recolour":
                cut = replace(cut, color=op.value)
            case "refill":
                cut = replace(cut, fill=op.value)
            case "replace":
                cut = replace(cut, shape=op.value, color=op.color or cut.color)
            case "resize":
                step = {"larger": 1, "smaller": -1}.get(op.value)
                size = op.value if step is None else SIZES[SIZES.index(cut.size) + step]
                cut = replace(cut, radius=_radius(rng, size))
            case _:
                pass
    return cut


def carry_out(rng: Rng, before: Scene, spec: EditSpec) -> EditCase | None:
    """One way to do the edit, or None if none was found: what it names not stays as it is."""
    word = _word_after(rng, spec, before.word)
    gone: set[int] = set()
    for op in spec.ops:
        if op.kind == "remove":
            targets = op.targets(before)
            gone.update(int(i) for i in rng.choice(targets, size=op.count or len(targets), replace=False))
    slots: list[CutOut | None] = [None] * MAX_CUTOUTS
    movers: list[tuple[int, Op]] = []
    for i, cut in enumerate(before.cutouts):
        mine = [op for op in spec.ops if i in op.targets(before)]
        slots[i] = None if i in gone else _changed(rng, cut, mine)
        movers += [(i, op) for op in mine if op.kind == "move"]
    still = [cut for i, cut in enumerate(slots) if cut is not None and all(i != k for k, _ in movers)]
    if not all(_apart(a, b) for i, a in enumerate(still) for b in still[:i]):
        return None
    if not all(_on_sheet(cut, word) for cut in still):
        return None
    for i, op in movers:
        moved = slots[i]
        anchors = [a for a in (slots[k] for k in op.anchor.find(before)) if a] if op.anchor else []
        put = _put(rng, op, moved, still, anchors, word, stay=rng.random() < 0.8) if moved else None
        if put is None:
            return None
        slots[i] = put
        still.append(put)
    added: list[CutOut] = []
    for op in spec.ops:
        if op.group is None:
            continue
        g = op.group
        anchors = [a for a in (slots[k] for k in op.anchor.find(before)) if a] if op.anchor else []
        for _ in range(g.count):
            color = g.color or any_of(rng, _COLORS)
            fill = g.fill or str(rng.choice(FILLS, p=[0.56, 0.22, 0.22]))
            size = g.size or ("small" if op.relation == "inside" else str(rng.choice(SIZES, p=[0.40, 0.42, 0.18])))
            fresh = CutOut(g.shape, color, fill, 0.5, 0.5, _radius(rng, size))
            put = _put(rng, op, fresh, still, anchors, word, stay=False)
            if put is None:
                return None
            added.append(put)
            still.append(put)
    start = len(before.cutouts)
    added.sort(key=lambda cut: cut.x)
    slots[start : start + len(added)] = added
    sheet = next((op.value for op in spec.ops if op.kind == "sheet"), before.sheet)
    after = Scene(sheet, tuple(cut for cut in slots if cut is not None), word)
    case = EditCase(before, spec, after, tuple(slots))
    return case if followed(spec, before, after) and kept(spec, before, after) else None
