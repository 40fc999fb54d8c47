"""Draws specs and scenes that satisfy them. All is made from a numpy Generator: the same seed, the same world."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from mini.world import questions
from mini.world.questions import Noun, Query
from mini.world.raster import REACH
from mini.world.scene import (
    COLORS,
    CONTAINERS,
    FILLS,
    INVERSE,
    MAX_CUTOUTS,
    PLACES,
    RADII,
    RELATIONS,
    SHAPES,
    SHEETS,
    SIZES,
    WORDS,
    Absent,
    CutOut,
    Group,
    Place,
    PrintedWord,
    Relation,
    Scene,
    Spec,
    held_out,
)

Split = Literal["train", "test"]
Rng = np.random.Generator
_COLORS, _SHEETS = tuple(COLORS), tuple(SHEETS)
_MARGIN = 0.02
_ROOM = {"circle": 0.92, "square": 1.0, "diamond": 0.58}
"""How far from a container's middle its edge is at the least, as a share of its radius."""
_RELATION_WEIGHTS = np.array([0.17, 0.16, 0.17, 0.16, 0.12, 0.07, 0.07, 0.08])


def noun(spec: Spec, index: int) -> Noun:
    """How questions and captions call a group: its shape, with its colour if it has one."""
    group = spec.groups[index]
    return Noun(group.shape, group.color, group.count > 1)


def _group(rng: Rng, budget: int) -> Group:
    count = min(int(rng.choice(6, p=[0.62, 0.17, 0.11, 0.05, 0.03, 0.02])) + 1, budget)
    return Group(
        count=count,
        shape=str(rng.choice(SHAPES)),
        color=str(rng.choice(_COLORS)) if rng.random() < 0.85 else None,
        size=str(rng.choice(SIZES)) if rng.random() < 0.35 else None,
        fill=str(rng.choice(FILLS)) if rng.random() < 0.30 else None,
    )


def _distinct(groups: list[Group]) -> bool:
    """No two groups may be called by the same noun, nor one noun cover the other's cut-outs."""
    for i, a in enumerate(groups):
        for b in groups[i + 1 :]:
            if a.shape == b.shape and (a.color is None or b.color is None or a.color == b.color):
                return False
    return True


def _relate(rng: Rng, groups: list[Group]) -> tuple[list[Group], list[Relation]]:
    if len(groups) < 2:
        return groups, []
    relations: list[Relation] = []
    wanted = int(rng.choice(3, p=[0.25, 0.60, 0.15]))
    for _ in range(wanted):
        a, b = (int(i) for i in rng.choice(len(groups), size=2, replace=False))
        if any({r.a, r.b} == {a, b} for r in relations):
            continue
        kind = RELATIONS[int(rng.choice(len(RELATIONS), p=_RELATION_WEIGHTS))]
        if kind == "inside":
            if groups[a].count > 1 or groups[b].count > 1 or any(r.kind == "inside" for r in relations):
                continue
            groups[a] = replace(groups[a], size="small" if groups[a].size else None)
            groups[b] = replace(groups[b], size="large" if groups[b].size else None, shape=str(rng.choice(CONTAINERS)))
            if groups[a].color is not None and groups[a].color == groups[b].color:
                continue
        elif kind in ("larger", "smaller"):
            # Neither size is asked for by name: "a large star, larger than" would say it twice.
            groups[a], groups[b] = replace(groups[a], size=None), replace(groups[b], size=None)
        elif kind == "same_color":
            if groups[b].color is None or groups[a].shape == groups[b].shape:
                continue
            groups[a] = replace(groups[a], color=None)
        relations.append(Relation(kind, a, b))
    return groups, relations


def _absent(rng: Rng, groups: list[Group]) -> Absent | None:
    shapes = [s for s in SHAPES if all(g.shape != s for g in groups)]
    colors = [c for c in _COLORS if all(g.color != c for g in groups)]
    if any(g.color is None for g in groups):
        colors = []
    pick = rng.random()
    if pick < 0.55 or not colors:
        return Absent(shape=str(rng.choice(shapes)))
    if pick < 0.80:
        return Absent(color=str(rng.choice(colors)))
    shape = str(rng.choice(shapes))
    return Absent(shape=shape, color=str(rng.choice(_COLORS)))


def holds_out(spec: Spec) -> bool:
    """Whether the spec asks for a combination that training must never see, said from either side of a relation."""
    groups = resolve(spec).groups
    sides = [(r.kind, groups[r.a]) for r in spec.relations]
    sides += [(INVERSE[r.kind], groups[r.b]) for r in spec.relations if r.kind in INVERSE]
    return any(group.color is not None and held_out(kind, group.color, group.shape) for kind, group in sides)


def resolve(spec: Spec) -> Spec:
    """The spec with "the same colour as" replaced by the colour itself."""
    groups = list(spec.groups)
    for relation in spec.relations:
        if relation.kind == "same_color":
            groups[relation.a] = replace(groups[relation.a], color=groups[relation.b].color)
    return replace(spec, groups=tuple(groups), relations=tuple(r for r in spec.relations if r.kind != "same_color"))


def sample_spec(rng: Rng, split: Split = "train") -> Spec:
    """A spec of the split: "train" asks for no held-out combination, "test" for at least one."""
    while True:
        groups: list[Group] = []
        for _ in range(int(rng.choice(4, p=[0.20, 0.42, 0.32, 0.06])) + 1):
            left = MAX_CUTOUTS - sum(g.count for g in groups)
            if left:
                groups.append(_group(rng, left))
        groups, relations = _relate(rng, groups)
        related = {i for r in relations for i in (r.a, r.b)}
        for i, group in enumerate(groups):
            if i not in related and rng.random() < 0.22:
                place: Place = PLACES[int(rng.integers(4))]
                groups[i] = replace(group, place=place)
        word = str(rng.choice(WORDS)) if rng.random() < 0.2 else None
        where: Literal["top", "bottom"] | None = None
        if word and rng.random() < 0.6:
            where = "top" if rng.random() < 0.5 else "bottom"
        absent = _absent(rng, groups) if rng.random() < 0.18 else None
        spec = Spec(
            groups=tuple(groups),
            relations=tuple(relations),
            sheet=str(rng.choice(_SHEETS)) if rng.random() < 0.5 else None,
            word=word,
            word_place=where,
            absent=(absent,) if absent else (),
        )
        if not _distinct(list(resolve(spec).groups)) or _crowded(spec):
            continue
        if holds_out(spec) == (split == "test"):
            return spec


def _crowded(spec: Spec) -> bool:
    room = {"small": 0.14, "medium": 0.22, "large": 0.34, None: 0.14}
    return sum(g.count * room[g.size] ** 2 for g in spec.groups) > 0.40


def _radius(rng: Rng, size: str) -> float:
    low, high = RADII[size]
    return float(rng.uniform(low, high))


def _sizes(rng: Rng, spec: Spec) -> list[str] | None:
    """A size for each group that its relations allow, or None if this draw does not work out."""
    sizes = [g.size or str(rng.choice(SIZES, p=[0.40, 0.42, 0.18])) for g in spec.groups]
    for r in spec.relations:
        if r.kind == "inside":
            sizes[r.a], sizes[r.b] = "small", "large"
        elif r.kind in ("larger", "smaller"):
            big, small = (r.a, r.b) if r.kind == "larger" else (r.b, r.a)
            if SIZES.index(sizes[big]) <= SIZES.index(sizes[small]):
                return None
    return sizes


def _try_scene(rng: Rng, spec: Spec) -> Scene | None:
    resolved = resolve(spec)
    sizes = _sizes(rng, spec)
    if sizes is None:
        return None
    word = None
    if spec.word is not None:
        top = rng.random() < 0.5 if spec.word_place is None else spec.word_place == "top"
        word = PrintedWord(
            spec.word,
            float(rng.uniform(0.38, 0.62)),
            float(rng.uniform(0.08, 0.12) if top else rng.uniform(0.88, 0.92)),
        )
    low_y = 0.18 if word and word.y < 0.5 else 0.0
    high_y = 0.82 if word and word.y > 0.5 else 1.0
    inside = {r.a: r.b for r in spec.relations if r.kind == "inside"}
    taken: list[str] = [g.color for g in resolved.groups if g.color is not None]
    placed: dict[int, list[CutOut]] = {}
    # Containers are placed before what lies inside them.
    order = sorted(range(len(spec.groups)), key=lambda i: i in inside)
    for i in order:
        group = resolved.groups[i]
        banned = {a.color for a in spec.absent if a.color is not None}
        free = [c for c in _COLORS if c not in banned and (c not in taken or len(taken) > 5)]
        placed[i] = []
        for _ in range(group.count):
            color = group.color or str(rng.choice(free))
            fill = group.fill or str(rng.choice(FILLS, p=[0.56, 0.22, 0.22]))
            radius = _radius(rng, sizes[i])
            others = [c for cuts in placed.values() for c in cuts]
            cut = _put(rng, spec, i, group, color, fill, radius, others, placed, inside, low_y, high_y)
            if cut is None:
                return None
            placed[i].append(cut)
    cutouts = tuple(c for i in sorted(order) for c in sorted(placed[i], key=lambda c: c.x))
    return Scene(spec.sheet or str(rng.choice(_SHEETS)), cutouts, word)


def _put(
    rng: Rng,
    spec: Spec,
    index: int,
    group: Group,
    color: str,
    fill: str,
    radius: float,
    others: list[CutOut],
    placed: dict[int, list[CutOut]],
    inside: dict[int, int],
    low_y: float,
    high_y: float,
) -> CutOut | None:
    edge = radius + _MARGIN
    holder = placed[inside[index]][0] if index in inside else None
    for _ in range(24):
        if holder is not None:
            # A spec that asks for something inside a shape that is not roomy has no scene.
            roomy = _ROOM.get(holder.shape, 0.0) * holder.radius
            spread = (roomy - REACH[group.shape] * radius - 0.012) / 1.42
            if holder.color == color or spread < 0:
                return None
            away = rng.uniform(-spread, spread, 2)
            x, y = holder.x + float(away[0]), holder.y + float(away[1])
        else:
            x = float(rng.uniform(edge, 1 - edge))
            y = float(rng.uniform(max(edge, low_y + radius), min(1 - edge, high_y - radius)))
        cut = CutOut(group.shape, color, fill, x, y, radius)
        if group.place is not None and not questions.at_place(cut, group.place):
            continue
        reach = REACH[group.shape] * radius + _MARGIN
        if any(
            c is not holder and (c.x - x) ** 2 + (c.y - y) ** 2 < (REACH[c.shape] * c.radius + reach) ** 2
            for c in others
        ):
            continue
        if all(_keeps(r, index, cut, placed) for r in spec.relations):
            return cut
    return None


def _keeps(relation: Relation, index: int, cut: CutOut, placed: dict[int, list[CutOut]]) -> bool:
    """Whether a cut-out of group `index` stands in the relation, with a clear gap, to what is placed already."""
    if relation.kind not in ("left", "right", "above", "below") or index not in (relation.a, relation.b):
        return True
    other = relation.b if index == relation.a else relation.a
    sign = 1.0 if index == relation.a else -1.0
    if relation.kind in ("right", "below"):
        sign = -sign
    for c in placed.get(other, ()):
        gap = (c.x - cut.x) if relation.kind in ("left", "right") else (c.y - cut.y)
        if sign * gap < 0.10:
            return False
    return True


def sample_scene(rng: Rng, spec: Spec, tries: int = 40) -> Scene | None:
    """A scene that shows just what the spec asks for, or None if no layout was found in so many tries."""
    for _ in range(tries):
        scene = _try_scene(rng, spec)
        if scene is not None and all(questions.answer(q, scene) for q in truths(spec)):
            return scene
    return None


def truths(spec: Spec) -> list[Query]:
    """All that a picture of the spec must answer with yes."""
    queries: list[Query] = []
    for i, group in enumerate(spec.groups):
        n = noun(spec, i)
        if group.count > 1:
            queries.append(Query("count", n, value=questions.NUMBERS[group.count]))
        else:
            queries.append(Query("exists", n))
        traits = (("size", group.size), ("fill", group.fill), ("place", group.place))
        queries += [Query(kind, n, value=value) for kind, value in traits if value is not None]
    queries += [Query(r.kind, noun(spec, r.a), noun(spec, r.b)) for r in spec.relations]
    if spec.sheet is not None:
        queries.append(Query("sheet", value=spec.sheet))
    if spec.word is not None:
        queries.append(Query("word", value=spec.word))
        if spec.word_place is not None:
            queries.append(Query("word_place", value=spec.word_place))
    queries += [Query("absent", Noun(absent.shape or "shape", absent.color, True)) for absent in spec.absent]
    return queries


def sample_pair(rng: Rng, split: Split = "train") -> tuple[Spec, Scene]:
    """A spec and a scene of it."""
    while True:
        spec = sample_spec(rng, split)
        scene = sample_scene(rng, spec)
        if scene is not None:
            return spec, scene
