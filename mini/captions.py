"""Canonical captions: the one short, fixed way of saying a spec that the mini generator was trained on.

For example:

two small red striped stars at the left, one blue circle, red stars above blue circle, word HELLO at the top,
cream sheet (all of it on one line)
"""

from __future__ import annotations

from mini.questions import NUMBERS, plural
from mini.sampling import noun, resolve
from mini.world import Group, RelationKind, Spec

_JOINS: dict[RelationKind, str] = {
    "left": "left of",
    "right": "right of",
    "above": "above",
    "below": "below",
    "inside": "inside",
    "larger": "larger than",
    "smaller": "smaller than",
}


def group_phrase(group: Group) -> str:
    name = group.shape if group.count == 1 else plural(group.shape)
    words = [NUMBERS[group.count], group.size, group.color, group.fill, name]
    text = " ".join(word for word in words if word)
    return f"{text} at the {group.place}" if group.place else text


def caption(spec: Spec) -> str:
    """The canonical caption. What must be absent is left out: the generator knows no "no"."""
    plain = resolve(spec)
    clauses = [group_phrase(group) for group in plain.groups]
    clauses += [f"{noun(plain, r.a)} {_JOINS[r.kind]} {noun(plain, r.b)}" for r in plain.relations]
    if plain.word:
        clauses.append(f"word {plain.word}" + (f" at the {plain.word_place}" if plain.word_place else ""))
    if plain.sheet:
        clauses.append(f"{plain.sheet} sheet")
    return ", ".join(clauses)
