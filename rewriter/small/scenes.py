"""What a request asks for, before it is put into words: a subject, the facts about it, and what is hard to draw of it.

Each function of `KINDS` makes one kind of scene, and names the key points (evaluator/keypoints.toml) that it tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewriter.small.words import (
    Group,
    Noun,
    Split,
    Words,
    load_words,
    made_up,
    needs_no_article,
    number,
    plural,
    with_article,
)

_LEFT = ("to the left of", "on the left of")
_RIGHT = ("to the right of", "on the right of")
_RELATIONS = {
    "train": (*_LEFT, *_RIGHT, "next to", "in front of", "behind", "on top of", "under", "above", "beside", "near",
    "between two", "facing", "surrounded by", "leaning against"),
    "test": ("below", "opposite", "beneath", "underneath", "at the foot of", "across from", "propped against"),
}  # fmt: skip
_INSIDE = {"train": ("inside", "in"), "test": ("trapped inside", "packed into")}
_TOUCH = {
    "train": ("hugging", "holding", "carrying", "riding", "pushing", "kicking", "standing on", "sitting on",
    "wearing", "painting", "biting", "balancing on", "pulling", "leaning on", "wrapped around", "lifting"),
    "test": ("climbing onto", "stroking", "clinging to", "dragging"),
}  # fmt: skip
_APART = {
    "train": ("looking at", "chasing", "pointing at", "waving to", "hiding from", "running towards", "staring at",
    "flying over", "barking at", "jumping over", "listening to"),
    "test": ("peering at", "sneaking past", "bowing to"),
}  # fmt: skip
_LIKE = {"train": ("shaped like", "that looks like", "in the shape of"), "test": ("resembling", "with the outline of")}
_WITHOUT = {"train": ("without", "with no"), "test": ("that has no", "lacking")}
_HUMAN = (
    "riding a bicycle", "reading a newspaper", "playing chess", "drinking tea", "playing the violin",
    "driving a bus", "cooking soup", "wearing a suit",
    "typing on a laptop", "giving a lecture", "dancing ballet", "surfing a wave", "painting a self-portrait",
    "flying a kite", "skiing down a slope",
    "ordering a coffee", "conducting an orchestra", "repairing a clock", "lifting weights", "doing yoga",
    "taking a photo", "delivering a letter",
)  # fmt: skip
_BOXES = ("glass bottle", "cardboard box", "snow globe", "bird cage", "glass jar", "suitcase", "bathtub", "teacup",
    "picture frame", "light bulb", "shoe", "drawer", "basket", "bucket", "mirror")  # fmt: skip
_ABSENT = ("people", "cars", "trees", "clouds", "windows", "leaves", "a roof", "wheels", "flowers", "a door", "water",
    "a face", "text", "shoes", "a hat", "legs", "stripes")  # fmt: skip
_ALONE = ("yes", "seven", "blink", "tomorrow", "maybe", "north", "alpha", "echo", "orbit", "circuit", "particle", "formula",
    "insight", "trance", "species", "symmetry", "kernel", "matrix", "protocol", "strike", "fragment", "vector", "gradient",
    "motion", "habit")  # fmt: skip
_MORE = {"train": ("taller than", "bigger than", "smaller than", "longer than", "darker than", "older than"),
    "test": ("wider than", "shorter than", "brighter than")}  # fmt: skip


@dataclass
class Scene:
    """What is asked for.

    core:   a noun phrase that says all of it, as one would write it; `many` if its verb is in the plural.
    head:   the main thing, with "the"; `group` says what fits it, None if that is not known.
    facts:  sentences that put the hard parts once more, without adding to them.
    more:   sentences of the request after the core, each as the user has it and as the rewrite has it.
    keep:   for the thought, the core if nothing else. hard, points: what is tested.
    style, light, view: what the user said of these. placed: whether a place is named.
    absent: what must not be there.
    """

    core: str
    head: str
    group: Group | None = None
    many: bool = False
    facts: list[str] = field(default_factory=list)
    more: list[tuple[str, str]] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    hard: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    style: str | None = None
    light: str | None = None
    view: str | None = None
    placed: bool = False
    plain: bool = False
    """Whether it is a drawing, sign or shape, to which light and place hardly apply."""
    absent: list[str] = field(default_factory=list)
    opening: str | None = None
    """The whole first sentence, if the usual ones do not fit."""
    typed: str | None = None
    """The core as the user has it, if that is not as the rewrite has it."""

    def __post_init__(self) -> None:
        self.keep = self.keep or [self.core]


Maker = Callable[["Sampler"], Scene]


class Sampler:
    """Draws words and scenes of a split."""

    def __init__(self, rng: random.Random, split: Split) -> None:
        self.rng, self.split = rng, split
        self.words: Words = load_words(split)

    def pick(self, name: str) -> str:
        """An item of a list of craft.toml or known.toml."""
        return self.rng.choice(self.words.lists[name])

    def relation(self, table: Mapping[str, tuple[str, ...]]) -> str:
        """Of the split; test requests have known ones too."""
        split = self.split if self.rng.random() < 0.6 else "train"
        return self.rng.choice(table[split])

    def noun(self, *kinds: str) -> Noun:
        return self.words.noun(self.rng, *kinds)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def trait(self, noun: Noun) -> str:
        """An adjective that fits, with a space behind it, or none."""
        return f"{self.rng.choice(noun.group.traits)} " if noun.group.traits and self.chance(0.5) else ""

    def one(self, noun: Noun, *, trait: str | None = None) -> str:
        """The noun with an article, and perhaps an adjective."""
        trait = self.trait(noun) if trait is None else trait
        if needs_no_article(noun.word):
            return f"{trait}{noun.word}"
        return with_article(f"{trait}{noun.word}")


def sample_scene(rng: random.Random, split: Split) -> tuple[Scene, str]:
    """A scene of a kind drawn by the kinds' shares, perhaps with style, light and view; and the name of the kind."""
    sampler = Sampler(rng, split)
    maker = rng.choices(tuple(KINDS), weights=tuple(KINDS.values()))[0]
    scene = maker(sampler)
    if scene.style is None and sampler.chance(0.27):
        scene.style = sampler.pick("styles_request")
        scene.points.append("artistic_style")
    if scene.light is None and not scene.plain and sampler.chance(0.12):
        scene.light = sampler.pick("light_request")
    if scene.view is None and not scene.plain and sampler.chance(0.1):
        scene.view = sampler.pick("views_request")
    return scene, maker.__name__


def _the(noun: str) -> str:
    return f"the {noun}"


def _about(noun: Noun, core: str, fact: str = "", *, hard: str = "", points: str = "", **more: Any) -> Scene:
    """A scene of one noun with at most one fact and one hard thing. `more`: what is not as the noun says."""
    usual: dict[str, Any] = {"head": _the(noun.word), "group": noun.group, "many": noun.only_plural}
    facts, hards = [fact] if fact else [], [hard] if hard else []
    return Scene(core, facts=facts, hard=hards, points=points.split(), **(usual | more))


def _of_knowledge(core: str, head: str, hard: str, *, placed: bool = True, **more: Any) -> Scene:
    """A scene that can be drawn only by what one knows."""
    return Scene(core, head, hard=[hard], points=["knowledge_application"], placed=placed, **more)


def _is(many: bool) -> str:
    return "are" if many else "is"


def _kinds(s: Sampler) -> tuple[str, ...]:
    return s.rng.choice(
        (
            ("animal",),
            ("person",),
            ("thing",),
            ("food",),
            ("vehicle",),
            ("building",),
            ("plant",),
            ("thing",),
            ("animal",),
        )
    )


def _extra(s: Sampler, noun: Noun) -> tuple[str, bool]:
    """What the noun does, or how it is, and whether a place is named."""
    group, roll = noun.group, s.rng.random()
    said = [*group.actions, *group.hands, *group.states]
    place = f" {s.rng.choice(group.places)}" if group.places and s.chance(0.45) else ""
    if said and roll < 0.6:
        return f" {s.rng.choice(said)}{place}", bool(place)
    return place, bool(place)


def single(s: Sampler) -> Scene:
    noun = s.noun(*_kinds(s), "place")
    extra, placed = _extra(s, noun)
    core = s.one(noun) + extra
    points = ""
    if extra and noun.group.actions:
        points = "animal_action" if noun.group.kind == "animal" else "full_body_action"
    elif extra:
        points = "state"
    place = noun.group.kind == "place"
    typed = None
    if extra.endswith("ing") or "ing " in extra[:14]:
        typed = s.rng.choice(
            (
                None,
                None,
                f"{core.removesuffix(extra)} {_is(noun.only_plural)}{extra}",
                f"{core.removesuffix(extra)} that {_is(noun.only_plural)}{extra}",
                f"there {_is(noun.only_plural)} {core}",
            )
        )
    return _about(noun, core, points=points, placed=placed or place, typed=typed)


def bare(s: Sampler) -> Scene:
    """A word or two, and nothing else."""
    noun = s.noun(*_kinds(s), "place", "shape", "crowd")
    many = s.chance(0.2)
    core = plural(noun.word) if many else s.one(noun, trait="" if s.chance(0.7) else None)
    head = _the(plural(noun.word) if many else noun.word)
    kind = noun.group.kind
    return _about(noun, core, head=head, many=many or noun.only_plural, placed=kind == "place", plain=kind == "shape")


def counted(s: Sampler) -> Scene:
    count, digits = s.rng.randint(2, 10), s.chance(0.3)
    noun = s.noun("animal", "food", "thing", "plant", "vehicle", "person", "shape")
    things = f"{s.trait(noun)}{plural(noun.word)}"
    if noun.group.actions and s.chance(0.4):
        things += f" {s.rng.choice(noun.group.actions)}"
    place = f" {s.rng.choice(noun.group.places)}" if noun.group.places and s.chance(0.5) else ""
    core = f"{number(count, digits)} {things}{place}"
    word = number(count)
    fact = s.rng.choice((
        f"There are exactly {word} {plural(noun.word)}, each fully visible",
        f"All {word} {plural(noun.word)} can be counted at a glance",
        f"The {word} {plural(noun.word)} stand apart from each other, so that none hides another",
        f"The {plural(noun.word)} form a loose row, {word} in all",
    ))  # fmt: skip
    head, shape = _the(plural(noun.word)), noun.group.kind == "shape"
    return _about(
        noun,
        core,
        fact,
        hard=f"{word} of them",
        points="counting",
        head=head,
        many=True,
        placed=bool(place),
        plain=shape,
    )


def two_counts(s: Sampler) -> Scene:
    a, b = s.noun(*_kinds(s)), s.noun(*_kinds(s))
    m, n = s.rng.randint(1, 5), s.rng.randint(2, 6)
    first = f"{number(m)} {s.trait(a)}{plural(a.word)}" if m > 1 else s.one(a)
    second = f"{number(n)} {s.trait(b)}{plural(b.word)}"
    core = f"{first} and {second}"
    fact = f"On one side {_is(m > 1)} {first}, on the other {_is(True)} {second}"
    head = _the(plural(a.word) if m > 1 else a.word)
    return _about(a, core, fact, hard="two counts", points="counting", head=head, many=True, keep=[first, second])


def related(s: Sampler) -> Scene:
    a, b = s.noun(*_kinds(s)), s.noun(*_kinds(s))
    first, second, relation = s.one(a), s.one(b), s.relation(_RELATIONS)
    if relation == "between two":
        second = plural(b.word)
    core = f"{first} {relation} {second}"
    if relation in ("surrounded by",):
        core = f"{first} surrounded by {plural(b.word)}"
        second = plural(b.word)
    ha, hb = _the(a.word), _the(plural(b.word) if second == plural(b.word) else b.word)
    va = _is(a.only_plural)
    facts = {
        "left": f"{ha} {va} in the left half, {hb} in the right half",
        "right": f"{ha} {va} in the right half, {hb} in the left half",
    }
    side = "left" if relation in _LEFT else "right" if relation in _RIGHT else ""
    fact = facts.get(side) or s.rng.choice((
        f"{ha} {va} {relation} {hb if relation != 'between two' else 'two ' + plural(b.word)}, and both can be seen whole",
        f"It is clear at first sight that {ha} {va} {relation} {hb if relation != 'between two' else 'two ' + plural(b.word)}",
    ))  # fmt: skip
    if relation == "between two":
        fact = fact.replace(", and both can be seen whole", ", with one on each side")
    return _about(a, core, fact, hard="position", points="entity_layout", keep=[first, f"{relation} {second}"])


def bound(s: Sampler) -> Scene:
    """Two or three things, each with a colour of its own."""
    n = s.rng.choice((2, 2, 3))
    nouns = [s.noun("thing", "vehicle", "animal", "food", "shape") for _ in range(n)]
    colours = s.rng.sample(s.words.lists["colours"], n)
    parts = [
        with_article(f"{c} {x.word}") if not x.only_plural else f"{c} {x.word}"
        for c, x in zip(colours, nouns, strict=True)
    ]
    core = f"{', '.join(parts[:-1])} and {parts[-1]}"
    said = [f"the {x.word} {_is(x.only_plural)} {c}" for c, x in zip(colours, nouns, strict=True)]
    fact = f"{', '.join(said[:-1])} and {said[-1]}, with no colour shared between them"
    hard = "each colour on its own thing"
    return _about(nouns[0], core, fact, hard=hard, points="cross_entity_binding", many=True, keep=parts)


def shared(s: Sampler) -> Scene:
    """A trait of several things."""
    noun, count = s.noun("person", "animal", "thing"), s.rng.randint(2, 7)
    if noun.group.wear and s.chance(0.7):
        trait = f"all wearing {plural_wear(s.rng.choice(noun.group.wear))}"
    else:
        trait = f"all in {s.pick('colours')}" if noun.group.kind == "person" else f"all {s.pick('colours')}"
    core = f"{number(count)} {plural(noun.word)}, {trait}"
    fact = f"Each of the {number(count)} {plural(noun.word)} has this in common: {trait}"
    points, head = "attribute_consistency counting", _the(plural(noun.word))
    return _about(noun, core, fact, hard="the same on all", points=points, head=head, many=True)


def plural_wear(wear: str) -> str:
    """Of a thing that one wears, several."""
    article, _, rest = wear.partition(" ")
    return plural(rest) if article in ("a", "an") else wear


def made_of(s: Sampler) -> Scene:
    noun, material = s.noun("animal", "thing", "vehicle", "building", "person"), s.pick("materials")
    way = s.rng.choice(("made of", "made entirely of", "built from", "carved out of", "made out of"))
    core = f"{s.one(noun)} {way} {material}"
    fact = s.rng.choice((
        f"The {material} can be recognised in every part of the {noun.word}",
        f"The whole of the {noun.word} shows the texture of {material}",
    ))  # fmt: skip
    return _about(noun, core, fact, hard=material, points="compositional_relation material", group=None)


def of_material(s: Sampler) -> Scene:
    noun, material = s.noun("thing", "building"), s.pick("materials_of_request")
    size = f"{s.pick('sizes')} " if s.chance(0.5) else ""
    extra, placed = _extra(s, noun)
    thing = s.one(noun, trait=f"{size}{material} ")
    core = f"{thing}{extra}"
    fact = f"The surface of the {noun.word} shows clearly that it is {material}"
    return _about(noun, core, fact, points="material size" if size else "material", placed=placed)


def like(s: Sampler) -> Scene:
    a, b = s.noun("thing", "food", "building", "vehicle"), s.noun("animal", "thing", "food", "plant")
    core = f"{s.one(a)} {s.relation(_LIKE)} {s.one(b)}"
    still = with_article(a.word) if not a.only_plural else a.word
    fact = f"It is still {still}, but its outline is that of {with_article(b.word)}"
    return _about(a, core, fact, hard="likeness", points="similarity_relation")


def inside(s: Sampler) -> Scene:
    a, b = s.noun("animal", "thing", "vehicle", "building", "plant"), s.noun("thing", "building")
    box = s.rng.choice(_BOXES)
    if s.chance(0.35):
        box = b.word
    relation = s.relation(_INSIDE)
    core = f"{s.one(a)} {relation} {with_article(box)}"
    fact = f"The {a.word} {_is(a.only_plural)} {relation} the {box}, and the edge of the {box} is visible all around"
    return _about(a, core, fact, hard="one within the other", points="containment_relation")


def compared(s: Sampler) -> Scene:
    a, b, more = s.noun(*_kinds(s)), s.noun(*_kinds(s)), s.relation(_MORE)
    adjective = more.removesuffix(" than")
    core = (
        f"{s.one(a)} that is {more} {s.one(b)}"
        if s.chance(0.6)
        else f"{s.one(b)} next to {with_article(f'{adjective} {a.word}') if not a.only_plural else f'{adjective} {a.word}'}"
    )
    fact = f"The {a.word} {_is(a.only_plural)} clearly {more} the {b.word} beside it"
    return _about(a, core, fact, hard="comparison", points="comparative_relation")


def negated(s: Sampler) -> Scene:
    noun = s.noun(*_kinds(s), "place")
    absent = s.rng.choice(
        (
            plural(s.noun("thing", "animal", "person", "plant", "food").word),
            s.rng.choice(_ABSENT),
        )
    )
    without = s.relation(_WITHOUT)
    if absent.startswith("a ") and without in ("with no", "that has no"):
        absent = absent[2:]
    extra, placed = _extra(s, noun) if s.chance(0.4) else ("", False)
    core = f"{s.one(noun)} {without} {absent}{extra}"
    many = noun.only_plural
    fact = s.rng.choice((
        f"The {noun.word} {_is(many)} {without if without != 'that has no' else 'with no'} {absent}, "
        "and none can be seen anywhere",
        f"The frame stays free of {absent.removeprefix('a ')}",
        f"There are no {absent} in the frame" if not absent.startswith("a ") else f"There is no {absent[2:]} in the frame",
    ))  # fmt: skip
    gone, placed = absent.removeprefix("a "), placed or noun.group.kind == "place"
    return _about(noun, core, fact, hard=f"no {gone}", points="negation", group=None, absent=[gone], placed=placed)


def pronoun(s: Sampler) -> Scene:
    a, b = s.noun("person"), s.noun("animal")
    act, holds = s.rng.choice(b.group.actions), s.rng.choice(a.group.wear or ("a hat",))
    first, second = s.one(a), s.one(b)
    core = f"{first} with {second}"
    said = (
        (f"it is {act}", f"the {b.word} is {act}")
        if s.chance(0.6)
        else (f"the {b.word} wears {holds}", f"the {b.word} wears {holds}")
    )
    fact = f"It is the {b.word} and not the {a.word}: {said[1]}"
    points = "pronoun_resolution animal_action"
    return _about(a, core, fact, hard="who is meant", points=points, more=[said], keep=[core, said[1]])


def touching(s: Sampler) -> Scene:
    a, b, verb = s.noun("animal", "person"), s.noun("animal", "thing", "plant", "vehicle", "food"), s.relation(_TOUCH)
    core = f"{s.one(a)} {verb} {s.one(b)}"
    fact = f"The {a.word} is {verb} the {b.word}, and the point where they touch can be seen"
    return _about(a, core, fact, hard="contact", points="contact_interaction")


def apart(s: Sampler) -> Scene:
    a, b, verb = s.noun("animal", "person"), s.noun("animal", "thing", "person", "vehicle"), s.relation(_APART)
    core = f"{s.one(a)} {verb} {s.one(b)}"
    fact = f"The {a.word} is {verb} the {b.word} across a clear gap"
    return _about(a, core, fact, hard="direction of the look", points="non_contact_interaction")


def person(s: Sampler) -> Scene:
    noun = s.noun("person")
    group, parts, points = noun.group, [], []
    head = s.one(noun)
    if s.chance(0.6):
        wear = s.rng.sample(group.wear, 1 if s.chance(0.6) else 2)
        parts.append(f"wearing {' and '.join(wear)}")
    if s.chance(0.45):
        parts.append(f"with {s.rng.choice(group.faces)}")
        points.append("expression")
    if s.chance(0.5) or not parts:
        hand = s.chance(0.5)
        parts.append(s.rng.choice(group.hands if hand else group.actions))
        points.append("hand_action" if hand else "full_body_action")
    place = f" {s.rng.choice(group.places)}" if s.chance(0.5) else ""
    core = f"{head} {', '.join(parts)}{place}"
    fact = f"The {noun.word} is shown {', '.join(parts)}"
    keep = [head, *parts, *([place.strip()] if place else [])]
    said = fact if s.chance(0.6) else ""
    return _about(noun, core, said, points=" ".join(points) or "state", keep=keep, placed=bool(place))


def rich(s: Sampler) -> Scene:
    """One subject and all about it in one breath."""
    noun, other, third = (
        s.noun("animal", "person", "thing", "vehicle"),
        s.noun("thing", "food", "plant"),
        s.noun("building", "vehicle", "plant", "animal"),
    )
    dressed = s.noun("person").group
    text = s.pick("quotes")
    behind = s.pick("landmarks") if s.chance(0.3) else s.one(third)
    dress = s.rng.choice(dressed.wear or ("a hat",))
    more = s.rng.choice(s.words.by_kind["person"][0].group.wear or ("a scarf",))
    pool = (
        f"wearing {dress} and {more}",
        f"with {s.one(other)}",
        f"holding {s.one(other)}",
        f"in front of {behind}",
        s.rng.choice(noun.group.actions or noun.group.states or ("floating in the air",)),
        s.rng.choice(noun.group.places or ("on a table",)),
        f'with a sign that says "{text}"',
        f"next to {with_article(s.pick('colours') + ' ' + third.word)}",
        f"surrounded by {plural(other.word)}",
        f"under {with_article(s.pick('colours') + ' sky')}",
    )
    parts = s.rng.sample(pool, s.rng.choice((2, 3, 3, 4)))
    head = s.one(noun)
    core = " ".join((head, *parts)) if s.chance(0.7) else ", ".join((head, *parts))
    points = "cross_entity_binding entity_layout" + (" text_rendering" if '"' in core else "")
    return _about(noun, core, points=points, keep=[head, *parts], placed=True)


def crowd(s: Sampler) -> Scene:
    noun = s.noun("crowd")
    extra, placed = _extra(s, noun)
    core = s.one(noun) + extra
    return _about(noun, core, points="full_body_action", placed=placed)


def impossible(s: Sampler) -> Scene:
    """What cannot be."""
    noun = s.noun("animal", "food", "thing", "plant")
    if noun.group.kind == "animal" or s.chance(0.5):
        act = s.rng.choice(_HUMAN)
        place = f" {s.rng.choice(noun.group.places)}" if s.chance(0.4) else ""
        core = f"{s.one(noun)} {act}{place}"
        fact = f"The {noun.word} is really {act}, drawn as if it were quite ordinary"
    else:
        colour, place = s.pick("colours"), ""
        core = s.rng.choice((
            f"{with_article(f'{colour} {noun.word}')} floating above a city",
            f"{with_article(f'{noun.word}')} as big as a house",
            f"a square {noun.word}",
            f"{with_article(noun.word)} with wings",
            f"{with_article(noun.word)} with human legs",
            f"{with_article(noun.word)} with a smiling face",
        ))  # fmt: skip
        fact = f"The {noun.word} is shown exactly so, although it does not exist in real life"
    hard = "impossible in real life"
    return _about(noun, core, fact, hard=hard, points="counterfactual", group=None, many=False, placed=bool(place))


def lettered(s: Sampler) -> Scene:
    """Text on a thing."""
    text, thing = s.pick("quotes"), s.pick("carriers")
    if s.chance(0.35):
        text = " ".join(s.noun("thing", "food", "animal", "place").word for _ in range(s.rng.choice((1, 2)))).title()
    elif s.chance(0.15):
        text = made_up_text(s)
    left, right = s.rng.choice((('"', '"'), ('"', '"'), ("“", "”"), ("'", "'")))
    if "'" in text or '"' in text:
        left = right = '"'
    quoted = f"{left}{text}{right}"
    says = s.rng.choice(
        ("that says", "with the words", "reading", "with the text", "that reads", "which says", "with", "saying")
    )
    points, look = ["text_rendering"], ""
    if s.chance(0.4):
        look = f" {s.pick('lettering')}"
    if s.chance(0.25):
        look += f" {s.pick('text_places')}"
    if look:
        points.append("text_layout")
    core = f"{thing} {says} {quoted}{look}"
    fact = s.rng.choice((
        f'The text reads "{text}", letter for letter, and nothing else is written',
        f'The letters of "{text}" are large enough to read and spelled exactly so',
        f'"{text}" is the only text in the frame',
    ))  # fmt: skip
    return Scene(
        core,
        _the(thing.removeprefix("a ").removeprefix("an ")),
        None,
        facts=[fact],
        keep=[thing, quoted, *([look.strip()] if look else [])],
        hard=["exact text"],
        points=points,
        plain=s.chance(0.5),
    )


def made_up_text(s: Sampler) -> str:
    """Letters and figures that mean nothing."""
    return s.rng.choice(
        (
            made_up(s.rng).title(),
            made_up(s.rng).upper(),
            f"{made_up(s.rng).title()} {s.rng.randint(2, 99)}",
            f"{s.rng.randint(10, 999)}",
        )
    )


def known(s: Sampler) -> Scene:
    roll = s.rng.random()
    if roll < 0.4:
        name = s.pick("landmarks")
        a = s.noun("animal", "person", "vehicle")
        core = s.rng.choice(
            (
                name,
                f"{name} {s.pick('light_request')}",
                f"{s.one(a)} in front of {name}",
                f"a view of {name} from a window",
                f"a street in {name.removeprefix('the ')}" if not name.startswith("the ") else f"a drawing of {name}",
                f"a map of {name.removeprefix('the ')}",
            )
        )
        fact = (
            f"{name} can be recognised by its well-known shape"
            if not core.startswith("a map")
            else "The map has clear outlines and thin lines"
        )
        return _of_knowledge(core, name, "recognisable", facts=[fact])
    if roll < 0.7:
        name = s.pick("persons")
        act = s.rng.choice(
            (*_HUMAN, "on a motorcycle", "as a child", "at a supermarket", "as a robot", "in a space suit")
        )
        core = s.rng.choice((f"{name} {act}", f"{name} {act}", f"a portrait of {name}", f"a statue of {name}"))
        return _of_knowledge(core, name, "recognisable", facts=[f"{name} can be recognised at once"], placed=False)
    name = s.pick("works")
    a = s.noun("animal", "food", "thing")
    core = s.rng.choice(
        (
            name,
            f"{name} painting",
            f"{name} with {s.one(a, trait='')}",
            f"{s.one(a, trait='')} in the style of {name}",
            f"{name} made of {s.pick('materials')}",
        )
    )
    fact = f"The well-known arrangement of {name} can be recognised"
    return _of_knowledge(core, name, "recognisable", facts=[fact])


def idea(s: Sampler) -> Scene:
    """A thing that cannot be seen: it is shown by one that can."""
    word = s.rng.choice(tuple(s.words.ideas))
    shown = s.words.ideas[word]
    core = s.rng.choice((word, word, f"the concept of {word}", f"an image of {word}", f"{word} as an emblem"))
    opening = s.rng.choice((
        f"{core}, shown by {shown}", f"{core} as a simple scene: {shown}",
        f"{core}, expressed by a single motif: {shown}", f"A symbolic scene for {core}: {shown}, alone in the frame",
    ))  # fmt: skip
    return _of_knowledge(core, "the motif", "an idea, not a thing", opening=opening)


def unknown(s: Sampler) -> Scene:
    """A word that stands alone, of which nothing is known."""
    known = (*s.words.lists["colours"], *s.words.lists["materials"], *_ALONE)
    word = made_up(s.rng) if s.chance(0.5) else s.rng.choice(known)
    opening = s.rng.choice((
        f"{word} as the subject of a simple picture, shown by one clear form in the middle of the frame",
        f"A plain scene about {word}, with one clear motif in the centre",
        f"{word}, given as a single clear motif on a plain ground",
        f"The subject is {word}, shown by one simple form in the centre",
    ))  # fmt: skip
    return _of_knowledge(word, "the motif", "a word alone", opening=opening)


def design(s: Sampler) -> Scene:
    """Signs, plans, symbols, patterns."""
    a, b = s.noun("animal", "food", "thing", "plant"), s.noun("animal", "food", "vehicle")
    colours = s.rng.sample(s.words.lists["colours"], 2)
    letter = s.rng.choice("ABCDEFGHJKLMNOPRSTUVWZ")
    core = s.rng.choice((
        f"a logo with {s.one(a)} and {s.one(b)}", f"a pattern of {plural(a.word)} and {plural(b.word)}",
        f"the letter {letter} made of {s.pick('materials')}",
        f"a {colours[0]} and {colours[1]} flag with {s.one(a)}", f"a map of an island with {s.one(a)}",
        f"a floor plan of {s.one(s.noun('building'))}",
        f"a diagram of {s.one(s.noun('vehicle', 'plant', 'thing'))}", f"a silhouette of {s.one(a)}",
        f"an emoji of {s.one(a)}", f"a {s.rng.choice(('black', 'blue', 'white'))} outline of {s.one(a)}",
        f"a chart of the kinds of {plural(a.word)}", f"a close-up of {s.one(a)}",
        f"a drawing of {s.one(a)} on a napkin", f"{s.one(a)} printed on a T-shirt",
        f"the shadow of {s.one(a)} on a wall", f"the reflection of {s.one(a)} in a puddle",
        f"a stained glass window of {s.one(a)}", f"graffiti of {s.one(a)} on a brick wall",
        f"an abstract composition of {colours[0]} and {colours[1]} {plural(s.noun('shape').word)}",
        f"a cross-section of {s.one(a)}", f"half {a.word}, half {b.word}",
    ))  # fmt: skip
    fact = "It is drawn with clear outlines and few colours"
    return Scene(core, "the drawing", None, facts=[fact], points=["artistic_style"], plain=True, placed=True)


def long(s: Sampler) -> Scene:
    """Several sentences."""
    a, b, c = (
        s.noun("animal", "person", "vehicle", "building"),
        s.noun("thing", "animal", "plant"),
        s.noun("thing", "vehicle", "plant", "building"),
    )
    base = single(s) if s.chance(0.15) else None
    extra, _ = _extra(s, a)
    core = base.core if base else s.one(a) + extra
    head = base.head if base else _the(a.word)
    group = base.group if base else a.group
    name = head.removeprefix("the ")
    wear = s.rng.choice(s.noun("person").group.wear or ("a hat",))
    colours = s.rng.sample(s.words.lists["colours"], 2)
    pool = [
        f"there is {s.one(b)} {s.relation(_RELATIONS)} it" if s.chance(0.5) else f"next to the {name} is {s.one(b)}",
        f"the {name} is wearing {wear}", f"in the background there is {s.one(c)}",
        f"on the left side we see {s.one(b)}", f"behind it stands {s.one(c)}",
        f"the ground is covered with {plural(s.noun('plant', 'food').word)}", f"the sky is {colours[0]}",
        f"a {colours[0]} {b.word} lies in front",
        f"the {name} has {colours[1]} eyes" if group and group.kind in ("animal",
        "person") else f"the {name} is painted {colours[1]}",
        f"the {name} is holding {s.one(b)} and {s.one(c)}" if group and group.kind in ("animal",
        "person") else f"{number(s.rng.randint(2, 6))} {plural(b.word)} are lined up in front of it",
        f"there are no {plural(b.word)}", f"{number(s.rng.randint(2, 9))} {plural(b.word)} fly above",
        f"it is {s.rng.choice(('night', 'raining', 'snowing', 'late afternoon', 'early morning', 'foggy'))}",
        f"a sign says \"{s.pick('quotes')}\"",
    ]  # fmt: skip
    said = [text for text in s.rng.sample(pool, s.rng.choice((1, 2, 2, 3, 4))) if text]
    more = [(text, text.replace("we see", "is").replace("there is ", "there is ")) for text in said]
    points = [
        "entity_layout",
        *(["text_rendering"] if any('"' in text for text in said) else []),
        *(["negation"] if any("no " in text for text in said) else []),
    ]
    return Scene(
        core,
        head,
        group,
        base.many if base else a.only_plural,
        more=more,
        keep=[core, *said],
        points=points,
        placed=True,
    )


KINDS: dict[Maker, float] = {
    single: 1.7, bare: 1.0, counted: 0.7, two_counts: 0.35, related: 1.1, bound: 0.6, shared: 0.35, made_of: 0.5,
        of_material: 0.35, like: 0.35, inside: 0.5,
    compared: 0.35, negated: 0.55, pronoun: 0.35, touching: 0.7, apart: 0.5, person: 1.0, crowd: 0.25,
        impossible: 0.9, lettered: 1.0, known: 0.8, idea: 0.35,
    unknown: 0.3, design: 0.7, long: 1.7, rich: 1.2,
}  # fmt: skip
