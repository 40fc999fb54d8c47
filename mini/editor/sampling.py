"""Draws edits of scenes, together with the scenes they lead to. The same seed, the same edits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mini.editor.edits import OP_KINDS, STEPS, EditSpec, Op, OpKind, Pick
from mini.editor.layout import SURE, EditCase, any_of, carry_out, in_slot_order
from mini.world.questions import at_place, stands
from mini.world.sampling import Rng, Split, sample_pair
from mini.world.scene import (
    COLORS,
    CONTAINERS,
    FILLS,
    INVERSE,
    MAX_CUTOUTS,
    PLACES,
    SHAPES,
    SHEETS,
    SIZES,
    WORDS,
    Group,
    Place,
    RelationKind,
    Scene,
    held_out,
)

_COLORS, _SHEETS = tuple(COLORS), tuple(SHEETS)
_KIND_WEIGHTS = np.array([0.14, 0.09, 0.12, 0.10, 0.16, 0.23, 0.08, 0.05, 0.03])
_COUNT_WEIGHTS = np.array([0.42, 0.30, 0.18, 0.10])
MAX_OPS = len(_COUNT_WEIGHTS)
_INSIDE = 0.35
"""Share of relations that are "inside" on sheets with something roomy."""
_TRIES = 600
_ALONE: frozenset[OpKind] = frozenset({"remove", "replace"})
"""Kinds that leave nothing to be said of the same cut-out."""


def _named_surely(pick: Pick, scene: Scene) -> tuple[int, ...] | None:
    """What the pick finds, or None if a pixel's shift would change that."""
    cutouts = pick.find(scene)
    if pick.place is not None:
        for dx, dy in ((SURE, SURE), (-SURE, -SURE)):
            moved = replace(scene, cutouts=tuple(replace(c, x=c.x + dx, y=c.y + dy) for c in scene.cutouts))
            if pick.find(moved) != cutouts:
                return None
    return cutouts


def describe(rng: Rng, scene: Scene, index: int) -> Pick | None:
    """A name for one cut-out that fits no other, mostly as short as people make it; None for twins."""
    cut = scene.cutouts[index]
    places = [p for p in PLACES if at_place(cut, p)]
    bare, colored = Pick(cut.shape), Pick(cut.shape, cut.color)
    longer = [replace(colored, size=cut.size), replace(colored, fill=cut.fill)]
    longer += [replace(bare, size=cut.size), replace(bare, fill=cut.fill)]
    longer += [replace(p, place=place) for place in places for p in (bare, colored)]
    rng.shuffle(longer)
    first = [bare, colored] if rng.random() < 0.5 else [colored, bare]
    order = [*longer[:1], *first, *longer[1:]] if rng.random() < 0.15 else [*first, *longer]
    return next((pick for pick in order if _named_surely(pick, scene) == (index,)), None)


def _several(rng: Rng, scene: Scene) -> Pick | None:
    """A name for all cut-outs of a kind, at least two."""
    cut = scene.cutouts[int(rng.integers(len(scene.cutouts)))]
    options = [
        Pick(cut.shape, many=True), Pick(cut.shape, cut.color, many=True), Pick("shape", cut.color, many=True),
        Pick("shape", size=cut.size, many=True), Pick(cut.shape, fill=cut.fill, many=True),
    ]  # fmt: skip
    weights = np.array([0.4, 0.25, 0.2, 0.08, 0.07])
    pick = options[int(rng.choice(len(options), p=weights))]
    return pick if len(pick.find(scene)) >= 2 else None


class _Draft:
    """An edit in the making: its changes so far, and what they speak of."""

    def __init__(self, rng: Rng, scene: Scene) -> None:
        self.rng, self.scene = rng, scene
        self.ops: list[Op] = []
        self.kinds: dict[int, set[OpKind]] = {i: set() for i in range(len(scene.cutouts))}
        self.anchors: set[int] = set()
        self.free = MAX_CUTOUTS - len(scene.cutouts)

    def _pick(self, kind: OpKind) -> Pick | None:
        rng, scene = self.rng, self.scene
        if not scene.cutouts:
            return None
        last = self.ops[-1].pick if self.ops else None
        if last is not None and kind not in _ALONE and rng.random() < 0.35:
            return last
        if rng.random() < 0.18:
            return _several(rng, scene)
        return describe(rng, scene, int(rng.integers(len(scene.cutouts))))

    def _allowed(self, kind: OpKind, targets: tuple[int, ...]) -> bool:
        for i in targets:
            kinds = self.kinds[i]
            if kind in kinds or kinds & _ALONE or (kind in _ALONE and kinds):
                return False
            if i in self.anchors and kind in ("remove", "move", "resize", "replace"):
                return False
        return bool(targets)

    def _anchor(self, relation: RelationKind, away_from: tuple[int, ...] = ()) -> Pick | None:
        """A name for a cut-out that stays where it is, with room enough if something is to come inside it."""
        still = [
            i for i, kinds in self.kinds.items()
            if i not in away_from and not kinds & {"remove", "move", "resize", "replace"}
        ]  # fmt: skip
        if relation == "inside":
            cuts = self.scene.cutouts
            still = [i for i in still if cuts[i].size == "large" and cuts[i].shape in CONTAINERS]
        return describe(self.rng, self.scene, int(self.rng.choice(still))) if still else None

    def _side(self) -> RelationKind:
        roomy = any(cut.size == "large" and cut.shape in CONTAINERS for cut in self.scene.cutouts)
        return (
            "inside" if roomy and self.rng.random() < _INSIDE else any_of(self.rng, ("left", "right", "above", "below"))
        )

    def extend(self) -> bool:
        """Adds a change; False if that does not work out in a few draws of one kind."""
        kind = OP_KINDS[int(self.rng.choice(len(OP_KINDS), p=_KIND_WEIGHTS))]
        op = next((op for op in (self._draw(kind) for _ in range(4)) if op is not None), None)
        if op is None:
            return False
        self.ops.append(op)
        for i in op.targets(self.scene):
            self.kinds[i].add(kind)
        if op.anchor is not None:
            self.anchors.update(op.anchor.find(self.scene))
        if op.group is not None:
            self.free -= op.group.count
        return True

    def _draw(self, kind: OpKind) -> Op | None:
        if kind == "add":
            return self._add()
        if kind in ("write", "sheet"):
            taken = any(op.kind == kind for op in self.ops)
            return None if taken else self._write() if kind == "write" else self._sheet()
        pick = self._pick(kind)
        targets = pick.find(self.scene) if pick else ()
        if pick is None or not self._allowed(kind, targets):
            return None
        return self._remove(pick, targets) if kind == "remove" else self._change(kind, pick, targets)

    def _add(self) -> Op | None:
        rng = self.rng
        count = int(rng.choice([1, 2, 3], p=[0.76, 0.18, 0.06]))
        taken = {op.group.shape for op in self.ops if op.group}
        gone = {self.scene.cutouts[i].shape for op in self.ops if op.kind == "remove" for i in op.targets(self.scene)}
        shape = any_of(rng, SHAPES)
        if count > self.free or shape in taken | gone:
            return None
        group = Group(
            count,
            shape,
            any_of(rng, _COLORS) if rng.random() < 0.85 else None,
            any_of(rng, SIZES) if rng.random() < 0.35 else None,
            any_of(rng, FILLS) if rng.random() < 0.25 else None,
        )
        relation, anchor = None, None
        where = rng.random()
        if where < 0.25:
            group = replace(group, place=any_of(rng, PLACES))
        elif where < 0.70:
            relation = self._side()
            anchor = self._anchor(relation)
            if anchor is None:
                return None
            if relation == "inside":
                group = replace(group, count=1, size="small" if group.size else None)
        return Op("add", group=group, relation=relation, anchor=anchor)

    def _remove(self, pick: Pick, targets: tuple[int, ...]) -> Op | None:
        if pick.many and pick.shape != "shape" and self.rng.random() < 0.55:
            whole = self.rng.random() < 0.65
            count = len(targets) if whole else int(self.rng.integers(1, len(targets)))
            return Op("remove", replace(pick, many=count > 1), count=count)
        return Op("remove", pick)

    def _change(self, kind: OpKind, pick: Pick, targets: tuple[int, ...]) -> Op | None:
        rng, cuts = self.rng, [self.scene.cutouts[i] for i in targets]
        if kind == "recolour":
            color = any_of(rng, _COLORS)
            return Op(kind, pick, color) if all(c.color != color for c in cuts) else None
        if kind == "refill":
            fill = any_of(rng, FILLS)
            return Op(kind, pick, fill) if all(c.fill != fill for c in cuts) else None
        if kind == "resize":
            size = any_of(rng, STEPS) if rng.random() < 0.5 else any_of(rng, SIZES)
            end = {"larger": "large", "smaller": "small"}.get(size, size)
            return Op(kind, pick, size) if all(c.size != end for c in cuts) else None
        if kind == "replace":
            shape, new = any_of(rng, SHAPES), any_of(rng, _COLORS) if rng.random() < 0.4 else None
            if any(c.shape == shape or c.color == new for c in cuts):
                return None
            return Op(kind, pick, shape, color=new)
        if rng.random() < 0.38:
            place = any_of(rng, PLACES)
            here = Pick("shape", place=place)
            return None if any(here.fits(c) for c in cuts) else Op(kind, pick, place=place)
        relation = self._side()
        anchor = self._anchor(relation, targets)
        if anchor is None or len(targets) > 1:
            return None
        [at] = anchor.find(self.scene)
        if stands(relation, cuts[0], self.scene.cutouts[at]):
            return None
        return Op(kind, pick, relation=relation, anchor=anchor)

    def _write(self) -> Op | None:
        rng, word = self.rng, self.scene.word
        place: Place = "top" if rng.random() < 0.5 else "bottom"
        if word is not None and rng.random() < 0.25:
            return Op("write")
        if word is not None and rng.random() < 0.33:
            return Op("write", place="bottom" if word.y < 0.5 else "top")
        text = any_of(rng, WORDS)
        if word is not None and word.text == text:
            return None
        return Op("write", value=text, place=place if rng.random() < (0.3 if word else 0.6) else None)

    def _sheet(self) -> Op | None:
        sheet = any_of(self.rng, _SHEETS)
        return None if sheet == self.scene.sheet else Op("sheet", value=sheet)


def holds_out(spec: EditSpec, before: Scene) -> bool:
    """Whether the edit asks for a combination that training must never see: a held-out (change, colour, shape) of a
    cut-out it changes; a held-out relation, said from either side."""
    triples: set[tuple[str, str, str]] = set()
    for op in spec.ops:
        cuts = [before.cutouts[i] for i in op.targets(before)]
        things = [(c.color, c.shape) for c in cuts]
        if op.group is not None:
            things = [(op.group.color, op.group.shape)] if op.group.color else []
        triples |= {(op.kind, color, shape) for color, shape in things}
        if op.relation is not None and op.anchor is not None:
            triples |= {(op.relation, color, shape) for color, shape in things}
            if op.relation in INVERSE:
                anchors = [before.cutouts[i] for i in op.anchor.find(before)]
                triples |= {(INVERSE[op.relation], c.color, c.shape) for c in anchors}
    return any(held_out(*triple) for triple in triples)


def sample_edit(rng: Rng, split: Split = "train", scene: Scene | None = None, ops: int | None = None) -> EditCase:
    """An edit of the split ("train": no held-out combination; "test": at least one) with so many changes, of a scene.

    Scenes of one's own give cases until no edit of theirs is of the split: ValueError after many tries.
    """
    given_scene = scene
    wanted = ops or int(rng.choice(MAX_OPS, p=_COUNT_WEIGHTS)) + 1
    for tries in range(_TRIES):
        if tries == _TRIES // 2 and ops is None:
            wanted = 1
        if given_scene is None and tries % 8 == 0:
            scene = sample_pair(rng, "test" if split == "test" and rng.random() < 0.5 else "train")[1]
        assert scene is not None
        before = in_slot_order(scene)
        draft = _Draft(rng, before)
        for _ in range(3 * wanted):
            if len(draft.ops) < wanted:
                draft.extend()
        spec = EditSpec(tuple(draft.ops))
        if len(spec.ops) != wanted or holds_out(spec, before) != (split == "test"):
            continue
        case = carry_out(rng, before, spec) or carry_out(rng, before, spec)
        if case is not None:
            return case
    raise ValueError(f"no edit of the {split} split was found for this scene")
