"""What a good rewriter thinks between a person's prompt and the caption: the chains of thought of its lessons."""

from __future__ import annotations

from mini.world import questions
from mini.world.captions import SIDES, sides_of
from mini.world.questions import Noun
from mini.world.sampling import noun, resolve
from mini.world.scene import Relation, Spec


def thought_of(spec: Spec, pronouns: frozenset[int] | set[int] = frozenset()) -> str:
    """The chain of thought of a good rewriter: what is asked for, piece by piece, in plain words.

    Things bear numbers, relations are said from both sides, each side's subject with its number, and "In order" sorts
    the sides by thing, as the caption has them. Without numbers a small model understood the relations and then gave
    the answer's clauses to the wrong things: a number is one token to look up, a name is two, and stands as object too.
    """
    plain = resolve(spec)
    things = "; ".join(
        ", ".join(
            w
            for w in (
                questions.NUMBERS[g.count],
                g.size,
                g.color,
                g.fill,
                f"{g.shape} {i}",
                g.place and f"at {g.place}",
            )
            if w
        )
        for i, g in enumerate(plain.groups, 1)
    )
    lines = [f"Things: {things}."]
    for i, r in enumerate(spec.relations):
        said = "By pronoun" if i in pronouns else "Relation"
        if r.kind == "same_color":
            lines.append(f"{said}: {noun(spec, r.a)} {r.a + 1} same colour as {noun(spec, r.b)}.")
        else:
            ends = zip((r.a, r.b), SIDES[r.kind], _both(plain, r), strict=True)
            first, second = (f"{x} {at + 1} {side} {y}" for at, side, (x, y) in ends)
            lines.append(f"{said}: {first}; {second}.")
    sides = [sides_of(plain, i) for i in range(len(plain.groups))]
    if any(sides):
        lines.append("In order: " + "; ".join(f"{i} {said or 'alone'}" for i, said in enumerate(sides, 1)) + ".")
    if spec.word:
        lines.append(f"Word: {spec.word}" + (f" at {spec.word_place}." if spec.word_place else "."))
    if spec.sheet:
        lines.append(f"Sheet: {spec.sheet}.")
    for absent in spec.absent:
        what = Noun(absent.shape, absent.color, True) if absent.shape else f"{absent.color} shapes"
        lines.append(f"Absent: {what}; leave it out.")
    return " ".join(lines)


def _both(spec: Spec, relation: Relation) -> tuple[tuple[Noun, Noun], tuple[Noun, Noun]]:
    a, b = noun(spec, relation.a), noun(spec, relation.b)
    return (a, b), (b, a)
