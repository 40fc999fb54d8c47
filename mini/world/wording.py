"""How people say a spec: synonyms (mini/world/synonyms.py), passives, pronouns, negation, filler, now and then a typo.

Kept apart from the canonical captions (mini/world/captions.py): the generator never sees this language; the rewriter learns
to turn it into theirs, and the checks of a prompt are made from the spec and from how it was said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mini.rewriter.thoughts import thought_of
from mini.world import synonyms
from mini.world.captions import caption
from mini.world.questions import Noun, Query
from mini.world.sampling import Rng, noun, truths
from mini.world.scene import INVERSE, Absent, Group, Relation, Spec
from mini.world.synonyms import one_of, shape_name, with_article

OPENERS = (
    "", "", "", "a picture of ", "an image with ", "draw ", "please draw ", "Please draw me ", "I'd like ", "show me ",
    "can you make ", "Could you please create a picture with ", "I want to see ", "paint ", "make a picture that has ",
    "Hi! I need ", "I was thinking of something simple: ", "Let's have ", "For a birthday card I need ",
    "My daughter would love a paper collage with ", "give me ", "It's for a poster: ",
)  # fmt: skip
CLOSERS = (
    "", "", "", "", "", " Thanks!", " Thank you so much.", " That's all.", " Please keep it simple.",
    " I hope that's clear.", " If you don't mind, make it look nice.",
)  # fmt: skip


@dataclass(frozen=True)
class Wording:
    """A prompt as a person would say it; the spec it says; what a good rewriter thinks, writes and checks.

    `checks` holds (key point, question) pairs; `caption` is the canonical caption.
    """

    text: str
    spec: Spec
    thought: str
    caption: str
    checks: tuple[tuple[str, str], ...]


def mention(rng: Rng, group: Group, all_color: bool) -> str:
    """First mention of a group: count, size, pattern, colour, name, place."""
    words = [one_of(rng, synonyms.COUNTS[group.count])]
    tail = ""
    if group.size:
        words.append(one_of(rng, synonyms.SIZES[group.size]))
    fill = one_of(rng, synonyms.FILLS[group.fill]) if group.fill else ""
    if group.fill and rng.random() < 0.35:
        fill, tail = "", " " + one_of(rng, synonyms.FILL_TAILS[group.fill])
    color = one_of(rng, synonyms.COLORS[group.color]) if group.color else ""
    if color and all_color:
        every = "both of them" if group.count == 2 else "all of them"
        tail = f", {every} {color}," + tail if not tail else f"{tail}, {every} {color},"
        color = ""
    pair = [fill, color] if rng.random() < 0.5 else [color, fill]
    words += [w for w in pair if w] + [shape_name(rng, group.shape, group.count > 1)]
    text = with_article(" ".join(words)) + tail
    if group.place:
        text += " " + one_of(rng, synonyms.PLACES[group.place])
    return text


def _again(rng: Rng, spec: Spec, index: int) -> str:
    """A later mention: the shape, with its colour if it needs one or at random."""
    group = spec.groups[index]
    alone = sum(g.shape == group.shape for g in spec.groups) == 1
    name = shape_name(rng, group.shape, group.count > 1)
    if group.color and (not alone or rng.random() < 0.6):
        return f"the {one_of(rng, synonyms.COLORS[group.color])} {name}"
    return f"the {name}"


def turned(relation: Relation) -> Relation | None:
    """The same relation said from the other side, or None if that has no word."""
    kind = INVERSE.get(relation.kind)
    return None if kind is None else Relation(kind, relation.b, relation.a)


def _turn_some(rng: Rng, spec: Spec) -> Spec:
    """What is asked for is asked in the words of the prompt: a relation said from the other side is one from there."""
    turns = [turned(r) if rng.random() < 0.35 else None for r in spec.relations]
    return replace(spec, relations=tuple(t or r for t, r in zip(turns, spec.relations, strict=True)))


def _relation_sentence(rng: Rng, spec: Spec, relation: Relation, last: int | None) -> tuple[str, bool]:
    """The sentence, and whether a pronoun stands for one of the two."""
    a, b = relation.a, relation.b
    if relation.kind == "same_color":
        first, second = _again(rng, spec, a), _again(rng, spec, b)
        return (
            one_of(
                rng,
                (
                    f"{first} should have the same colour as {second}",
                    f"{first} and {second} share one colour",
                    f"make {first} the same color as {second}",
                ),
            ),
            False,
        )
    if relation.kind == "inside" and rng.random() < 0.3:
        a, b, phrase = b, a, one_of(rng, synonyms.AROUND)
    else:
        phrase = one_of(rng, synonyms.RELATIONS[relation.kind])
    many = spec.groups[a].count > 1
    first, second, pronoun = _again(rng, spec, a), _again(rng, spec, b), False
    if len(spec.groups) == 2 and rng.random() < 0.15:
        first = "the former" if a == 0 else "the latter"
        second = "the former" if b == 0 else "the latter"
        pronoun = True
    elif last == b and rng.random() < 0.5:
        second, pronoun = ("them" if spec.groups[b].count > 1 else "it"), True
    elif last == a and rng.random() < 0.5:
        first, pronoun = ("they" if many else "it"), True
    be = "are" if many else "is"
    form = rng.random()
    if form < 0.45:
        text = f"{first} {be} {phrase} {second}"
    elif form < 0.65:
        text = (
            f"{first} {be} placed {phrase} {second}"
            if relation.kind not in ("larger", "smaller")
            else f"{first} must be {phrase} {second}"
        )
    elif form < 0.85:
        text = f"{first} should be {phrase} {second}"
    else:
        subject = {"they": "them"}.get(first, first)
        text = f"make sure {first if subject == first else 'they'} {be} {phrase} {second}"
    return text, pronoun


def _word_phrase(rng: Rng, spec: Spec) -> str:
    left, right = ('"', '"') if rng.random() < 0.6 else ("“", "”") if rng.random() < 0.5 else ("'", "'")
    quoted = f"{left}{spec.word}{right}"
    where = f" {one_of(rng, synonyms.PLACES[spec.word_place])}" if spec.word_place else ""
    return one_of(
        rng,
        (
            f"with the word {quoted}{where}",
            f"it should say {quoted}{where}",
            f"with the text {quoted}{where}",
            f"the word {quoted} is printed{where}",
            f"a caption reading {quoted}{where}",
        ),
    )


def _absent_phrase(rng: Rng, absent: Absent) -> str:
    if absent.shape is None:
        color = one_of(rng, synonyms.COLORS[str(absent.color)])
        return one_of(
            rng, (f"nothing {color}", f"no {color} shapes", f"avoid anything {color}", f"without any {color} shapes")
        )
    name = shape_name(rng, absent.shape, True)
    if absent.color:
        name = f"{one_of(rng, synonyms.COLORS[absent.color])} {name}"
    return one_of(
        rng,
        (
            f"no {name}",
            f"without any {name}",
            f"don't include any {name}",
            f"leave out {name}",
            f"there must be no {name}",
        ),
    )


def _sheet_phrase(rng: Rng, sheet: str) -> str:
    color = one_of(rng, synonyms.SHEETS[sheet])
    return one_of(
        rng,
        (
            f"on {with_article(f'a {color}')} background",
            f"on {color} paper",
            f"on {with_article(f'a {color}')} sheet",
            f"against {with_article(f'a {color}')} backdrop",
            f"the background is {color}",
        ),
    )


def typo(rng: Rng, text: str) -> str:
    """One slip of the finger in a long word outside quotes."""
    spots = _spots(text)
    if not spots:
        return text
    i = spots[int(rng.random() * len(spots))]
    kind = rng.random()
    return _slip(text, i, 0 if kind < 0.4 else 1 if kind < 0.7 else 2)


def slips(text: str) -> list[str]:
    """Everything that `typo` can make of `text`."""
    return [_slip(text, i, kind) for i in _spots(text) for kind in range(3)]


def _spots(text: str) -> list[int]:
    """Where a finger may slip: at letters with two lower-case letters on either side."""
    return [i for i in range(2, len(text) - 2) if text[i - 2 : i + 3].isalpha() and text[i - 2 : i + 3].islower()]


def _slip(text: str, i: int, kind: int) -> str:
    """`text` with the letter at `i` exchanged with the next, left out, or doubled."""
    return (text[:i] + text[i + 1] + text[i] + text[i + 2 :], text[:i] + text[i + 1 :], text[:i] + text[i] + text[i:])[
        kind
    ]


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _follows(relation: Relation, a: int, b: int) -> bool:
    return (relation.a, relation.b) == (a, b) and relation.kind != "same_color"


def say(rng: Rng, spec: Spec) -> Wording:
    """One of many ways in which a person might ask for the spec, and for nothing else."""
    spec = _turn_some(rng, spec)
    said_all = [
        g.count > 1 and g.color is not None and rng.random() < 0.25
        and sum(o.shape == g.shape for o in spec.groups) == 1
        for g in spec.groups
    ]  # fmt: skip
    mentions = [mention(rng, g, said_all[i]) for i, g in enumerate(spec.groups)]
    pronouns: set[int] = set()
    rest = list(range(len(spec.relations)))
    main = ""
    inline = [i for i in rest if _follows(spec.relations[i], 0, 1)]
    if inline and rng.random() < 0.4 and not any(said_all[:2]):
        relation = spec.relations[inline[0]]
        rest.remove(inline[0])
        main = f"{mentions[0]} {one_of(rng, synonyms.RELATIONS[relation.kind])} {mentions[1]}"
        if mentions[2:]:
            main = _list([main, *mentions[2:]])
    else:
        main = _list(mentions)
    tail: list[str] = []
    sentences: list[str] = []
    if spec.sheet:
        (tail if rng.random() < 0.7 else sentences).append(_sheet_phrase(rng, spec.sheet))
    if spec.word:
        (tail if rng.random() < 0.5 else sentences).append(_word_phrase(rng, spec))
    for absent in spec.absent:
        (tail if rng.random() < 0.6 else sentences).append(_absent_phrase(rng, absent))
    last = 0 if len(spec.groups) == 1 else None
    clauses: list[str] = []
    for i in rest:
        text, pronoun = _relation_sentence(rng, spec, spec.relations[i], last)
        if pronoun:
            pronouns.add(i)
        clauses.append(text)
        last = None
    if (
        rest
        and len(spec.groups) == 2
        and _follows(spec.relations[rest[0]], 1, 0)
        and rng.random() < 0.5
        and not any(said_all)
    ):
        # "A red star. A blue circle is below it." The first group is all that the pronoun can mean.
        relation = spec.relations[rest[0]]
        be = "are" if spec.groups[1].count > 1 else "is"
        main = mentions[0]
        it = "them" if spec.groups[0].count > 1 else "it"
        clauses[0] = f"{mentions[1]} {be} {one_of(rng, synonyms.RELATIONS[relation.kind])} {it}"
        pronouns.add(rest[0])
    opener = one_of(rng, OPENERS)
    text = opener + main + "".join((", " if rng.random() < 0.4 else " ") + t for t in tail)
    text = text.replace(",,", ",").strip().rstrip(",")
    sentences = clauses + [sentences[i] for i in rng.permutation(len(sentences))]
    for sentence in sentences:
        joiner = ". " if rng.random() < 0.75 else ", "
        text += joiner + (sentence[0].upper() + sentence[1:] if joiner == ". " else sentence)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    if sentences or rng.random() < 0.4:
        text += "."
    closer = one_of(rng, CLOSERS)
    if closer and text[-1] != ".":
        text += "."
    text += closer
    text = text.replace(",.", ".").replace(", .", ".").replace(", ,", ",")
    if rng.random() < 0.06:
        text = typo(rng, text)
    return Wording(text, spec, thought_of(spec, pronouns), caption(spec), _checks(spec, pronouns, said_all))


_KEY_POINTS = {
    "exists": "cross_entity_binding",
    "count": "counting",
    "size": "size",
    "fill": "material",
    "color": "attribute_consistency",
    "place": "entity_layout",
    "left": "entity_layout",
    "right": "entity_layout",
    "above": "entity_layout",
    "below": "entity_layout",
    "inside": "containment_relation",
    "larger": "comparative_relation",
    "smaller": "comparative_relation",
    "same_color": "similarity_relation",
    "absent": "negation",
    "word": "text_rendering",
    "word_place": "text_layout",
    "sheet": "artistic_style",
}


def _checks(spec: Spec, pronouns: set[int], said_all: list[bool]) -> tuple[tuple[str, str], ...]:
    by_pronoun = {
        str(Query(spec.relations[i].kind, noun(spec, spec.relations[i].a), noun(spec, spec.relations[i].b)))
        for i in pronouns
    }
    checks = []
    for query in truths(spec):
        question = str(query)
        checks.append(("pronoun_resolution" if question in by_pronoun else _KEY_POINTS[query.kind], question))
        for group, every in zip(spec.groups, said_all, strict=True):
            if every and query.kind == "count" and query.noun == Noun(group.shape, group.color, True):
                asked = Query("color", Noun(group.shape, None, True), value=str(group.color))
                checks.append((_KEY_POINTS["color"], str(asked)))
    return tuple(checks)
