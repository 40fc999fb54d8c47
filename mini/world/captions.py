"""Canonical captions: the one short, fixed way of saying a spec that the mini generator was trained on.

    two small red striped stars above blue circle, one blue circle below red stars, word TEA at the top, sky sheet

Each group's clause says its own side of a relation. (Said once, in a clause of its own, a relation was not learnt:
after 1,400 steps every attribute was right and "left of" no better than chance.)
"""

from __future__ import annotations

from collections.abc import Container

from mini.world.questions import NUMBERS, plural
from mini.world.sampling import Rng, noun, resolve
from mini.world.scene import Group, RelationKind, Spec

SIDES: dict[RelationKind, tuple[str, str]] = {
    "left": ("left of", "right of"),
    "right": ("right of", "left of"),
    "above": ("above", "below"),
    "below": ("below", "above"),
    "inside": ("inside", "around"),
    "larger": ("larger than", "smaller than"),
    "smaller": ("smaller than", "larger than"),
}
"""What the clause of a relation's first group says, and that of its second."""


def group_phrase(group: Group) -> str:
    name = group.shape if group.count == 1 else plural(group.shape)
    words = [NUMBERS[group.count], group.size, group.color, group.fill, name]
    text = " ".join(word for word in words if word)
    return f"{text} at the {group.place}" if group.place else text


def sides_of(plain: Spec, index: int, silent: Container[tuple[int, int]] = ()) -> str:
    """What a group's clause says of its relations: "left of red star and inside blue circle", or nothing. `silent`:
    (number of the relation, number of the group) of what the group does not say."""
    stated = [(n, r) for n, r in enumerate(plain.relations) if (n, index) not in silent]
    sides = [f"{SIDES[r.kind][0]} {noun(plain, r.b)}" for _, r in stated if r.a == index]
    sides += [f"{SIDES[r.kind][1]} {noun(plain, r.a)}" for _, r in stated if r.b == index]
    return " and ".join(sides)


def caption(spec: Spec) -> str:
    """The canonical caption. What must be absent is left out: the generator knows no "no"."""
    return _told(resolve(spec))


def caption_unaware(rng: Rng, spec: Spec, once: float) -> str:
    """A caption by somebody who knows the language, but not the generator: each relation is stated by one of its groups
    alone with probability `once`, else by both."""
    plain = resolve(spec)
    silent = {
        (n, relation.a if rng.random() < 0.5 else relation.b)
        for n, relation in enumerate(plain.relations)
        if rng.random() < once
    }
    return _told(plain, silent)


def _told(plain: Spec, silent: Container[tuple[int, int]] = ()) -> str:
    clauses = []
    for i, group in enumerate(plain.groups):
        clauses.append(" ".join([group_phrase(group), sides_of(plain, i, silent)]).strip())
    if plain.word:
        clauses.append(f"word {plain.word}" + (f" at the {plain.word_place}" if plain.word_place else ""))
    if plain.sheet:
        clauses.append(f"{plain.sheet} sheet")
    return ", ".join(clauses)
