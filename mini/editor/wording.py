"""How people ask for edits: synonyms, pronouns, negation, politeness, several things in one sentence, typos.

The planner learns to turn this into the canonical language of mini/editor/edits.py; the mini editor is trained on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mini.editor.edits import EditSpec, Op, Pick
from mini.world import synonyms
from mini.world.sampling import Rng
from mini.world.scene import CutOut, Scene
from mini.world.synonyms import one_of, shape_name, with_article
from mini.world.wording import mention, typo

_OPENERS = (
    "", "", "", "", "", "please ", "Please ", "could you ", "Can you please ", "can you ", "now ", "Ok, ", "Okay, now ",
    "I'd like you to ", "just ", "Hi! Please ", "nice! But ", "Looks good, but ", "would you ", "let's ", "Hmm, ",
)  # fmt: skip
_CLOSERS = (
    "", "", "", "", "", "", " Thanks!", " Leave the rest as it is.", " Keep everything else.", " please",
    " Don't change anything else.", " Thank you.", " The rest is perfect.",
)  # fmt: skip
_IMPERATIVES = (
    "add", "put", "draw", "include", "place", "insert", "give", "remove", "delete", "get", "take", "erase", "drop",
    "leave", "lose", "replace", "swap", "turn", "change", "make", "exchange", "paint", "colour", "color", "recolour",
    "recolor", "enlarge", "scale", "grow", "blow", "shrink", "reduce", "resize", "move", "shift", "push", "bring",
    "redo", "fill", "write", "print", "have", "use",
)  # fmt: skip
_JOINERS = (", and ", " and ", ". ", ". Also, ", "; ", ", then ", ". Then ", " and also ", ", ")
_LEFT_OUT = (("recolour", "refill"), ("recolour", "resize"), ("resize", "refill"))
"""Pairs of kinds that go into one "make it ..."."""


@dataclass(frozen=True)
class EditWording:
    """An instruction as a person would give it, the edit that it says, the same in the canonical language, and what a
    good planner thinks on the way from the one to the other."""

    text: str
    spec: EditSpec
    canonical: str
    thought: str


def _the(rng: Rng, pick: Pick) -> str:
    """The cut-outs of a pick, with an article."""
    many = pick.many
    if pick.shape == "shape" and many and pick.size is None and pick.fill is None and pick.color and rng.random() < 0.4:
        return f"everything {one_of(rng, synonyms.COLORS[pick.color])}"
    words = [one_of(rng, synonyms.SIZES[pick.size])] if pick.size else []
    pair = [one_of(rng, synonyms.FILLS[pick.fill])] if pick.fill else []
    if pick.color:
        pair.insert(int(rng.random() * (len(pair) + 1)), one_of(rng, synonyms.COLORS[pick.color]))
    name = ("shapes" if many else "shape") if pick.shape == "shape" else shape_name(rng, pick.shape, many)
    text = " ".join([*words, *pair, name])
    if pick.place:
        text += " " + one_of(rng, synonyms.PLACES[pick.place])
    article = one_of(rng, ("all the ", "the ", "all ", "every one of the ")) if many else "the "
    return article + text


def _a(rng: Rng, pick: Pick) -> str:
    color = f"{one_of(rng, synonyms.COLORS[pick.color])} " if pick.color else ""
    name = shape_name(rng, pick.shape, pick.many)
    return f"{color}{name}" if pick.many else with_article(f"a {color}{name}")


def _bare(name: str) -> str:
    """A name without its article."""
    for article in ("every one of the ", "all the ", "all ", "the "):
        name = name.removeprefix(article)
    return name


def _side(rng: Rng, op: Op) -> str:
    if op.relation is None or op.anchor is None:
        return f" {one_of(rng, synonyms.PLACES[op.place])}" if op.place else ""
    return f" {one_of(rng, synonyms.RELATIONS[op.relation])} {_the(rng, op.anchor)}"


def _add(rng: Rng, op: Op, name: str) -> str:
    assert op.group is not None
    what = mention(rng, op.group, False)
    if op.group.count == 1 and rng.random() < 0.12 and what.startswith(("a ", "an ")):
        what = "another " + what.split(" ", 1)[1]
    what += _side(rng, op)
    return one_of(
        rng,
        (
            f"add {what}", f"add {what}", f"put {what}", f"draw {what} too", f"include {what}", f"place {what}",
            f"there should also be {what}", f"I also want {what}", f"insert {what}", f"give me {what} as well",
        ),
    )  # fmt: skip


def _remove(rng: Rng, op: Op, name: str) -> str:
    pick = op.pick
    assert pick is not None
    if op.count is not None:
        count = one_of(rng, synonyms.COUNTS[op.count]) if op.count > 1 else "one"
        bare = _bare(_the(rng, replace(pick, many=True)))
        name = f"{count.removesuffix(' of')} of the {bare}"
        if op.count > 1 and rng.random() < 0.4:
            name = f"the {one_of(rng, synonyms.COUNTS[op.count]).removeprefix('a ')} {bare}"
        return one_of(rng, (f"remove {name}", f"delete {name}", f"take {name} away", f"get rid of {name}"))
    bare = _bare(name)
    forms = [
        f"remove {name}", f"remove {name}", f"delete {name}", f"get rid of {name}", f"take {name} away",
        f"erase {name}", f"take out {name}", f"drop {name}", f"I don't want {name}", f"leave out {name}",
    ]  # fmt: skip
    if not name.startswith(("every", "it", "them")):
        forms += [f"no {bare}, please", f"there should be no {bare}", f"lose {name}"]
    return one_of(rng, tuple(forms))


def _replace(rng: Rng, op: Op, name: str) -> str:
    assert op.pick is not None
    new = _a(rng, Pick(op.value, op.color, many=op.pick.many))
    return one_of(
        rng,
        (
            f"replace {name} with {new}", f"replace {name} by {new}", f"swap {name} for {new}",
            f"turn {name} into {new}", f"change {name} to {new}", f"make {name} {new}",
            f"I want {new} instead of {name}", f"{name} should be {new}", f"exchange {name} for {new}",
        ),
    )  # fmt: skip


def _recolour(rng: Rng, op: Op, name: str) -> str:
    color = one_of(rng, synonyms.COLORS[op.value])
    return one_of(
        rng,
        (
            f"make {name} {color}", f"make {name} {color}", f"make {name} {color} instead", f"turn {name} {color}",
            f"paint {name} {color}", f"colour {name} {color}", f"color {name} {color}", f"recolour {name} to {color}",
            f"change the colour of {name} to {color}", f"change {name} to {color}", f"{name} should be {color}",
            f"I want {name} in {color}", f"change the color of {name} to {color}", f"recolor {name} {color}",
        ),
    )  # fmt: skip


def _resize(rng: Rng, op: Op, name: str) -> str:
    forms: tuple[str, ...]
    if op.value == "larger":
        forms = (
            f"make {name} bigger", f"make {name} larger", f"enlarge {name}", f"{name} should be bigger",
            f"scale {name} up", f"grow {name}", f"{name} should be larger", f"blow {name} up a bit",
        )  # fmt: skip
    elif op.value == "smaller":
        forms = (
            f"make {name} smaller", f"shrink {name}", f"{name} should be smaller", f"scale {name} down",
            f"reduce {name} in size", f"make {name} littler", f"make {name} a bit smaller",
        )  # fmt: skip
    else:
        size = one_of(rng, synonyms.SIZES[op.value])
        forms = (
            f"make {name} {size}", f"{name} should be {size}", f"change the size of {name} to {size}",
            f"resize {name} to {size}", f"I want {name} to be {size}",
        )  # fmt: skip
    return one_of(rng, forms)


def _move(rng: Rng, op: Op, name: str) -> str:
    side = _side(rng, op)
    if op.place and rng.random() < 0.5:
        side = f" to the {op.place}"
        return one_of(rng, (f"move {name}{side}", f"shift {name}{side}", f"push {name}{side}", f"bring {name}{side}"))
    return one_of(
        rng,
        (
            f"move {name}{side}", f"put {name}{side}", f"place {name}{side}", f"{name} should be{side}",
            f"I want {name}{side}", f"move {name} so that it is{side}" if op.pick and not op.pick.many else
            f"move {name} so that they are{side}",
        ),
    )  # fmt: skip


def _refill(rng: Rng, op: Op, name: str) -> str:
    fill, tail = one_of(rng, synonyms.FILLS[op.value]), one_of(rng, synonyms.FILL_TAILS[op.value])
    forms = [
        f"make {name} {fill}", f"make {name} {fill} instead", f"{name} should be {fill}", f"{name} should come {tail}",
        f"I want {name} {tail}", f"redo {name} {tail}",
    ]  # fmt: skip
    if op.value == "plain":
        forms += [
            f"no pattern on {name}", f"take the pattern off {name}", f"remove the pattern from {name}",
            f"fill {name} with one flat colour",
        ]  # fmt: skip
    else:
        marks = "stripes" if op.value == "striped" else one_of(rng, ("dots", "spots", "polka dots"))
        forms += [
            f"put {marks} on {name}",
            f"give {name} {marks}",
            f"add {marks} to {name}",
            f"fill {name} with {marks}",
        ]
    return one_of(rng, tuple(forms))


def _write(rng: Rng, op: Op, name: str) -> str:
    thing = one_of(rng, ("text", "word", "caption", "writing"))
    if not op.value and not op.place:
        verb = one_of(rng, ("remove", "delete", "erase", "drop", "get rid of"))
        return f"no {thing}, please" if rng.random() < 0.15 else f"{verb} the {thing}"
    if not op.value:
        forms = (f"move the {thing} to the {op.place}", f"put the {thing}{_side(rng, op)}", f"the {thing} should be")
        text = one_of(rng, forms)
        return text + _side(rng, op) if text.endswith("be") else text
    left, right = ('"', '"') if rng.random() < 0.6 else ("“", "”") if rng.random() < 0.5 else ("'", "'")
    quoted, side = f"{left}{op.value}{right}", _side(rng, op)
    return one_of(
        rng,
        (
            f"write {quoted}{side}", f"change the {thing} to {quoted}{side}", f"the {thing} should say {quoted}{side}",
            f"it should say {quoted}{side}", f"make the {thing} {quoted}{side}", f"put the word {quoted}{side}",
            f"print {quoted}{side}", f"have it read {quoted}{side}",
        ),
    )  # fmt: skip


def _sheet(rng: Rng, op: Op, name: str) -> str:
    color = one_of(rng, synonyms.SHEETS[op.value])
    return one_of(
        rng,
        (
            f"make the background {color}", f"change the background to {color}", f"use {color} paper",
            f"put it on {with_article(f'a {color}')} background", f"the background should be {color}",
            f"change the sheet to {color}", f"make the sheet {color}", f"{color} background instead",
            f"swap the paper for {color}", f"turn the background {color}",
        ),
    )  # fmt: skip


_SAYINGS: dict[str, Callable[[Rng, Op, str], str]] = {
    "add": _add, "remove": _remove, "replace": _replace, "recolour": _recolour, "resize": _resize, "move": _move,
    "refill": _refill, "write": _write, "sheet": _sheet,
}  # fmt: skip


def _negated(rng: Rng, op: Op, name: str, before: Scene) -> str | None:
    """ "No stripes on the heart", if stripes are what it has."""
    fills = {before.cutouts[i].fill for i in op.targets(before)}
    if op.kind != "refill" or op.value != "plain" or len(fills) != 1 or rng.random() < 0.5:
        return None
    [fill] = fills
    marks = "stripes" if fill == "striped" else one_of(rng, ("dots", "spots", "polka dots"))
    return one_of(
        rng, (f"no {marks} on {name}", f"remove the {marks} from {name}", f"{name} should have no {marks}",
              f"take the {marks} off {name}", f"{name} without {marks}, please")
    )  # fmt: skip


def _merged(rng: Rng, ops: Sequence[Op], name: str) -> str | None:
    """ "Make the star blue and striped": two qualities of the same cut-outs in one breath."""
    if tuple(op.kind for op in ops) not in (*_LEFT_OUT, *(pair[::-1] for pair in _LEFT_OUT)):
        return None
    words = []
    for op in ops:
        if op.value in ("larger", "smaller"):
            words.append("bigger" if op.value == "larger" and rng.random() < 0.5 else op.value)
        else:
            words.append(one_of(rng, {**synonyms.COLORS, **synonyms.FILLS, **synonyms.SIZES}[op.value]))
    return one_of(rng, (f"make {name} {words[0]} and {words[1]}", f"{name} should be {words[0]} and {words[1]}"))


def say_edit(rng: Rng, spec: EditSpec, before: Scene) -> EditWording:
    """One of many ways in which a person might ask for the edit of a picture, and for nothing else."""
    parts: list[str] = []
    pronouns: set[int] = set()
    ops, i = spec.ops, 0
    while i < len(ops):
        op, nxt = ops[i], ops[i + 1] if i + 1 < len(ops) else None
        name = _the(rng, op.pick) if op.pick is not None else ""
        same = i > 0 and op.pick is not None and op.pick == ops[i - 1].pick
        if same and rng.random() < 0.7 and ops[i - 1].relation is None:
            name = "them" if op.pick and op.pick.many else "it"
            pronouns.add(i)
        text = None
        if nxt is not None and op.pick is not None and op.pick == nxt.pick and rng.random() < 0.6:
            text = _merged(rng, (op, nxt), name)
            i += text is not None
        text = text or _negated(rng, op, name, before) or _SAYINGS[op.kind](rng, op, name)
        parts.append(_as_subject(text))
        i += 1
    text = parts[0]
    for part in parts[1:]:
        joiner = one_of(rng, _JOINERS)
        capital = joiner.endswith(". ") and rng.random() < 0.8
        text += joiner + (part[0].upper() + part[1:] if capital else part)
    if text.split(" ", 1)[0] in _IMPERATIVES:
        text = one_of(rng, _OPENERS) + text
    closer = one_of(rng, _CLOSERS)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    if closer[1:2].isupper() or rng.random() < 0.3:
        text += "."
    text += closer
    text = text.replace("please.", "please").replace("..", ".").replace("please please", "please")
    if rng.random() < 0.06:
        text = typo(rng, text)
    canonical = str(spec)
    return EditWording(text, spec, canonical, _thought(spec, before, pronouns))


def _as_subject(text: str) -> str:
    """A pronoun at the start of a clause is its subject."""
    return "they" + text[4:] if text.startswith("them ") else text


def _thought(spec: EditSpec, before: Scene, pronouns: set[int]) -> str:
    """What is to be changed, piece by piece, and which cut-outs of the picture are meant."""

    def seen(cut: CutOut) -> str:
        return f"{cut.size} {cut.color} {cut.fill} {cut.shape}"

    lines = []
    for i, op in enumerate(spec.ops):
        meant = "; ".join(seen(before.cutouts[k]) for k in op.targets(before))
        how = "by pronoun, " if i in pronouns else ""
        lines.append(f"{i + 1}. {op.kind}: {how}{meant or 'nothing there yet'}.")
    return " ".join(lines)
