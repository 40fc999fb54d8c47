"""How people say a spec: synonyms, number words, passives, pronouns, negation, filler, and now and then a typo.

Kept apart from the canonical captions (mini/captions.py): the generator never sees this language; the rewriter learns
to turn it into theirs, and the checks of a prompt are made from the spec and from how it was said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mini import questions
from mini.captions import SIDES, caption, sides_of
from mini.questions import Noun, Query
from mini.sampling import Rng, noun, resolve, truths
from mini.world import INVERSE, Absent, Group, Relation, Spec

_SHAPES = {
    "circle": ("circle", "circle", "disc", "disk", "round"),
    "square": ("square", "square", "box", "block"),
    "triangle": ("triangle", "triangle", "wedge", "three-cornered shape"),
    "star": ("star", "star", "starlet", "five-pointed star"),
    "heart": ("heart", "heart", "love heart", "valentine"),
    "diamond": ("diamond", "diamond", "rhombus", "lozenge"),
    "cross": ("cross", "cross", "plus sign", "plus"),
    "moon": ("moon", "moon", "crescent", "half-moon"),
}
_PLURALS = {"box": "boxes", "cross": "crosses", "rhombus": "rhombuses", "plus": "pluses"}
_COLORS = {
    "red": ("red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "golden", "lemon"),
    "green": ("green", "green", "emerald", "grass-green"),
    "blue": ("blue", "blue", "azure", "navy"),
    "purple": ("purple", "purple", "violet", "plum"),
    "pink": ("pink", "pink", "rose", "magenta"),
    "brown": ("brown", "brown", "chocolate", "tan"),
}
_SIZES = {
    "small": ("small", "small", "tiny", "little", "mini"),
    "medium": ("medium", "medium-sized", "mid-sized"),
    "large": ("large", "large", "big", "huge", "giant"),
}
_FILLS = {
    "plain": ("plain", "solid", "unpatterned"),
    "striped": ("striped", "stripy", "banded"),
    "dotted": ("dotted", "spotted", "polka-dot"),
}
_FILL_TAILS = {
    "plain": ("without a pattern", "in one flat colour"),
    "striped": ("with stripes", "with bands across"),
    "dotted": ("with dots", "with spots", "covered in polka dots"),
}
_SHEETS = {
    "white": ("white", "snow-white"),
    "cream": ("cream", "ivory", "off-white"),
    "sky": ("sky-blue", "pale blue", "sky", "light blue"),
    "mint": ("mint", "pale green", "mint-green"),
    "grey": ("grey", "gray", "silver"),
    "lilac": ("lilac", "lavender", "pale purple"),
}
_COUNTS = {
    1: ("a", "a", "a", "one", "a single", "1"),
    2: ("two", "two", "2", "a pair of", "a couple of"),
    3: ("three", "three", "3", "a trio of"),
    4: ("four", "4"),
    5: ("five", "5"),
    6: ("six", "6", "half a dozen"),
}
_PLACES = {
    "left": ("at the left", "on the left side", "on the left", "near the left edge"),
    "right": ("at the right", "on the right side", "on the right", "near the right edge"),
    "top": ("at the top", "up top", "near the top edge", "in the upper part"),
    "bottom": ("at the bottom", "down at the bottom", "near the bottom edge", "in the lower part"),
}
_RELATIONS = {
    "left": ("left of", "to the left of", "on the left side of", "on the left of"),
    "right": ("right of", "to the right of", "on the right side of", "on the right of"),
    "above": ("above", "over", "higher up than"),
    "below": ("below", "under", "beneath", "underneath", "lower down than"),
    "inside": ("inside", "within", "enclosed by", "surrounded by"),
    "larger": ("larger than", "bigger than"),
    "smaller": ("smaller than", "littler than"),
}
_AROUND = ("around", "wrapped around")
_OPENERS = (
    "", "", "", "a picture of ", "an image with ", "draw ", "please draw ", "Please draw me ", "I'd like ", "show me ",
    "can you make ", "Could you please create a picture with ", "I want to see ", "paint ", "make a picture that has ",
    "Hi! I need ", "I was thinking of something simple: ", "Let's have ", "For a birthday card I need ",
    "My daughter would love a paper collage with ", "give me ", "It's for a poster: ",
)  # fmt: skip
_CLOSERS = (
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


def _pick(rng: Rng, options: tuple[str, ...]) -> str:
    return options[int(rng.random() * len(options))]


def _name(rng: Rng, shape: str, many: bool) -> str:
    name = _pick(rng, _SHAPES[shape])
    if name == "round" and many:
        name = "circle"
    if name == "round":
        return "round shape"
    return _PLURALS.get(name, f"{name}s") if many else name


def _with_article(phrase: str) -> str:
    """ "a" before a vowel sound becomes "an"."""
    return f"an {phrase[2:]}" if phrase.startswith("a ") and phrase[2] in "aeiou" else phrase


def _mention(rng: Rng, group: Group, all_color: bool) -> str:
    """First mention of a group: count, size, pattern, colour, name, place."""
    words = [_pick(rng, _COUNTS[group.count])]
    tail = ""
    if group.size:
        words.append(_pick(rng, _SIZES[group.size]))
    fill = _pick(rng, _FILLS[group.fill]) if group.fill else ""
    if group.fill and rng.random() < 0.35:
        fill, tail = "", " " + _pick(rng, _FILL_TAILS[group.fill])
    color = _pick(rng, _COLORS[group.color]) if group.color else ""
    if color and all_color:
        every = "both of them" if group.count == 2 else "all of them"
        tail = f", {every} {color}," + tail if not tail else f"{tail}, {every} {color},"
        color = ""
    pair = [fill, color] if rng.random() < 0.5 else [color, fill]
    words += [w for w in pair if w] + [_name(rng, group.shape, group.count > 1)]
    text = _with_article(" ".join(words)) + tail
    if group.place:
        text += " " + _pick(rng, _PLACES[group.place])
    return text


def _again(rng: Rng, spec: Spec, index: int) -> str:
    """A later mention: the shape, with its colour where it needs one or at random."""
    group = spec.groups[index]
    alone = sum(g.shape == group.shape for g in spec.groups) == 1
    name = _name(rng, group.shape, group.count > 1)
    if group.color and (not alone or rng.random() < 0.6):
        return f"the {_pick(rng, _COLORS[group.color])} {name}"
    return f"the {name}"


def turned(relation: Relation) -> Relation | None:
    """The same relation said from the other side, or None where that has no word."""
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
            _pick(
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
        a, b, phrase = b, a, _pick(rng, _AROUND)
    else:
        phrase = _pick(rng, _RELATIONS[relation.kind])
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
    said = f"{left}{spec.word}{right}"
    where = f" {_pick(rng, _PLACES[spec.word_place])}" if spec.word_place else ""
    return _pick(
        rng,
        (
            f"with the word {said}{where}",
            f"it should say {said}{where}",
            f"with the text {said}{where}",
            f"the word {said} is printed{where}",
            f"a caption reading {said}{where}",
        ),
    )


def _absent_phrase(rng: Rng, absent: Absent) -> str:
    if absent.shape is None:
        color = _pick(rng, _COLORS[str(absent.color)])
        return _pick(
            rng, (f"nothing {color}", f"no {color} shapes", f"avoid anything {color}", f"without any {color} shapes")
        )
    name = _name(rng, absent.shape, True)
    if absent.color:
        name = f"{_pick(rng, _COLORS[absent.color])} {name}"
    return _pick(
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
    color = _pick(rng, _SHEETS[sheet])
    return _pick(
        rng,
        (
            f"on {_with_article(f'a {color}')} background",
            f"on {color} paper",
            f"on {_with_article(f'a {color}')} sheet",
            f"against {_with_article(f'a {color}')} backdrop",
            f"the background is {color}",
        ),
    )


def _typo(rng: Rng, text: str) -> str:
    """One slip of the finger in a long word outside quotes."""
    spots = [i for i in range(2, len(text) - 2) if text[i - 2 : i + 3].isalpha() and text[i - 2 : i + 3].islower()]
    if not spots:
        return text
    i = spots[int(rng.random() * len(spots))]
    kind = rng.random()
    if kind < 0.4:
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if kind < 0.7:
        return text[:i] + text[i + 1 :]
    return text[:i] + text[i] + text[i:]


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
    mentions = [_mention(rng, g, said_all[i]) for i, g in enumerate(spec.groups)]
    pronouns: set[int] = set()
    rest = list(range(len(spec.relations)))
    main = ""
    inline = [i for i in rest if _follows(spec.relations[i], 0, 1)]
    if inline and rng.random() < 0.4 and not any(said_all[:2]):
        relation = spec.relations[inline[0]]
        rest.remove(inline[0])
        main = f"{mentions[0]} {_pick(rng, _RELATIONS[relation.kind])} {mentions[1]}"
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
    told: list[str] = []
    for i in rest:
        text, pronoun = _relation_sentence(rng, spec, spec.relations[i], last)
        if pronoun:
            pronouns.add(i)
        told.append(text)
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
        told[0] = f"{mentions[1]} {be} {_pick(rng, _RELATIONS[relation.kind])} {it}"
        pronouns.add(rest[0])
    opener = _pick(rng, _OPENERS)
    text = opener + main + "".join((", " if rng.random() < 0.4 else " ") + t for t in tail)
    text = text.replace(",,", ",").strip().rstrip(",")
    sentences = told + [sentences[i] for i in rng.permutation(len(sentences))]
    for sentence in sentences:
        joiner = ". " if rng.random() < 0.75 else ", "
        text += joiner + (sentence[0].upper() + sentence[1:] if joiner == ". " else sentence)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    if sentences or rng.random() < 0.4:
        text += "."
    closer = _pick(rng, _CLOSERS)
    if closer and text[-1] != ".":
        text += "."
    text += closer
    text = text.replace(",.", ".").replace(", .", ".").replace(", ,", ",")
    if rng.random() < 0.06:
        text = _typo(rng, text)
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


def _both(spec: Spec, relation: Relation) -> tuple[tuple[Noun, Noun], tuple[Noun, Noun]]:
    a, b = noun(spec, relation.a), noun(spec, relation.b)
    return (a, b), (b, a)


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
