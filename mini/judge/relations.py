"""A checklist of the mini world, held by rules to the relations, places and numbers of the request.

    checks = (Check("attribute", "Is there a red star?"), Check("counting", "Are there exactly two blue circles?"))
    mend_checks("a red star and two blue circles. The star is above the circles.", checks)
    # (*checks, Check("entity_layout", "Is the red star above the blue circles?"))

The things are those that the checklist says are there. A name that fits several of them leaves the choice to the checklist,
within what the words allow; "the former" and "the latter" are understood if there are two things, "it" and "them" by their
number. Slips of the finger are mended first. NOT covered: two things of one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from evaluator.types import Check, Checklist
from mini.world import synonyms
from mini.world.questions import NUMBERS, Noun, Query, parse
from mini.world.scene import INVERSE
from mini.world.scope import fold, mend_slips

_CLAUSE = re.compile(r"[,.;:!?]|\band\b|\bwith\b")
_SENTENCE = re.compile(r"[,.;:!?]")
_AND = re.compile(r"\band\b")
_PRINTED = re.compile(r"[\"“”]|(?<!\w)'|'(?!\w)|\b(?:say|says|word|text|caption|reading|printed)\b")
"""What is said of words that the picture bears."""
_QUOTED = re.compile(r"(?<=[\"“'])\w+(?=[\"”'])")
_FRONTED = re.compile(r"\s*(?:(?:to|on) the )?(?:then )?\s*")
"""What may stand between the beginning of a clause and a relation, if it begins with the relation."""
_REFERRING = re.compile(r"\b(?:the (?P<order>former|latter)|(?P<one>it)|(?P<many>they|them))\b")
_SAME_AS = re.compile(r"\bsame colou?r as\b")
_SHARE = re.compile(r"\bshare (?:one|a|the same) colou?r\b|\bhave the same colou?r\b(?! as\b)")
_KEY_POINTS = {
    "color": "attribute_consistency",
    "inside": "containment_relation",
    "larger": "comparative_relation",
    "smaller": "comparative_relation",
    "same_color": "similarity_relation",
    "word_place": "text_layout",
}
_SENTENCE_END = re.compile(r"[.;:!?]")
_DENIAL = re.compile(
    r"\b(?:no|not|nor|without|never|none|neither|nothing|except|but|avoid|free|any|leave|instead|same|as|than|don't|isn't"
    r"|aren't|mustn't|shouldn't|dont|isnt)\b"
)
"""Before a thing, these may say that it is not wanted, or is spoken of for another's sake."""
_BRACKETED = re.compile(r" \(([a-z, -]{1,40})\)")
_LOOKS = (synonyms.COLORS, synonyms.SIZES, synonyms.FILLS)
_NUMBER_REACH = 80
"""Characters before the name of a shape in which its number is looked for."""
_CLAUSE_REACH = 200
"""Characters around a relation in which its things are looked for."""


@dataclass(frozen=True)
class _Reading:
    """A passage of the request about a relation or place: its kind, and the questions that it may mean. No question: it
    cannot be read, or the world has no such thing."""

    kind: str
    queries: tuple[Query, ...]


def mend_checks(request: str, checks: Checklist) -> Checklist:
    """`checks` with the relations, places and numbers that `request` speaks of.

    A passage that can mean one thing only is asked about. Checks on a relation or place that the request speaks of stay if
    some passage can mean them. Dropped, too, are checks that name a shape which the request does not have ("a plain blue
    one" is no heart), and those on a word if none is to be printed.
    """
    text = _QUOTED.sub(_blank, mend_slips(fold(request)))
    named = _list_shapes(text)
    checks = tuple(check for check in checks if not _list_shapes(check.question) - named)
    if not _PRINTED.search(text):
        checks = tuple(check for check in checks if _kind(check.question) not in ("word", "word_place"))
    checks = _mend_numbers(text, checks)
    checks = (*checks, *_list_left_out(text, checks))
    text = _all_of_them().sub(_blank, _tails().sub(_blank, text))
    things = sorted(_list_things(checks), key=lambda thing: _find_first(text, thing))
    readings = [*_read_relations(text, things), *_read_shared_colors(text, things), *_read_places(text, things)]
    spoken = {kind for reading in readings for kind in (reading.kind, _invert(reading.kind))}
    possible = {saying for reading in readings for query in reading.queries for saying in _say_both_ways(query)}
    kept = [check for check in checks if _kind(check.question) not in spoken or check.question in possible]
    kept = [check for check in kept if not _is_of_itself(check.question)]
    asked = {check.question for check in kept}
    sure = dict.fromkeys(reading.queries[0] for reading in readings if len(set(reading.queries)) == 1)
    new = [query for query in sure if not asked.intersection(_say_both_ways(query))]
    return (*kept, *(Check(_KEY_POINTS.get(query.kind, "entity_layout"), str(query)) for query in new))


def _read_relations(text: str, things: Sequence[Noun]) -> Iterator[_Reading]:
    for phrase, kind in _list_phrases():
        for match in re.finditer(rf"\b{re.escape(phrase)}\b", text):
            before, after = _split_clause(text, match)
            a, b = _find_things(before, things, last=True), _find_things(after, things, last=False)
            if phrase in synonyms.AROUND:
                a, b = b, a
            if _FRONTED.fullmatch(before):
                a = ()  # "To the left of it two hearts": the model takes one for the other
            if kind == "inside":
                b = tuple(noun for noun in b if not noun.many)  # "four stars around a moon"
            yield _Reading(kind, _pair(kind, a, b))


def _read_shared_colors(text: str, things: Sequence[Noun]) -> Iterator[_Reading]:
    for match in _SAME_AS.finditer(text):
        before, after = _split_clause(text, match)
        a, b = _find_things(before, things, last=True), _find_things(after, things, last=False)
        yield _Reading("same_color", _pair("same_color", a, b))
    for match in _SHARE.finditer(text):
        *_, first, second = (
            "",
            *_AND.split(_SENTENCE.split(text[max(0, match.start() - _CLAUSE_REACH) : match.start()])[-1]),
        )
        a, b = _find_things(first, things, last=True), _find_things(second, things, last=True)
        yield _Reading("same_color", _pair("same_color", a, b))


def _read_places(text: str, things: Sequence[Noun]) -> Iterator[_Reading]:
    for phrase, place in _list_places():
        for match in re.finditer(rf"\b{re.escape(phrase)}\b(?! of\b| side\b)", text):
            before, _ = _split_clause(text, match)
            if _PRINTED.search(before):
                yield _Reading("word_place", (Query("word_place", value=place),) if place in ("top", "bottom") else ())
            else:
                nouns = _find_things(before, things, last=True)
                yield _Reading(f"place {place}", tuple(Query("place", noun, value=place) for noun in nouns))


def _split_clause(text: str, match: re.Match[str]) -> tuple[str, str]:
    """What is before and behind a match in its clause."""
    before = text[max(0, match.start() - _CLAUSE_REACH) : match.start()]
    return _CLAUSE.split(before)[-1], _CLAUSE.split(text[match.end() : match.end() + _CLAUSE_REACH])[0]


def _pair(kind: str, a: Sequence[Noun], b: Sequence[Noun]) -> tuple[Query, ...]:
    return tuple(Query(kind, one, other) for one in a for other in b if one != other)


def _mend_numbers(text: str, checks: Checklist) -> Checklist:
    """The checks with the number and colour that the request says of things: "three red stars" or "three stars, all of them
    red" are three red stars, whatever the model wrote."""
    things = [query.noun for query in map(_parse_there, checks) if query is not None]
    mended, shared = {}, []
    for start, end, shape, many in _list_mentions(text):
        number = _number_before().search(text[max(0, start - _NUMBER_REACH) : start]) if many else None
        if number is None:
            continue
        every = _all_of_them().match(text, end)
        colors = _list_colors(f"{number['adjectives']} {every[0] if every else ''}")
        fits = [noun for noun in things if noun and noun.shape == shape and noun.color in (None, *colors)]
        if every and len(colors) == 1:
            shared.append(Check(_KEY_POINTS["color"], str(Query("color", Noun(shape, None, True), value=min(colors)))))
        if len(fits) == 1 and len(colors) < 2:
            color = next(iter(colors), fits[0].color)
            mended[fits[0]] = Query("count", Noun(shape, color, True), value=NUMBERS[_numbers()[number["number"]]])
    numbered = tuple(
        replace(check, question=str(mended[query.noun])) if query and query.noun in mended else check
        for check in checks
        for query in (_parse_there(check),)
    )
    questions = {check.question for check in numbered}
    return (*numbered, *(check for check in shared if check.question not in questions))


def _list_left_out(text: str, checks: Checklist) -> Iterator[Check]:
    """Checks on the things that the request plainly names and the checklist leaves out: "1x blue heart", "star (yellow, small)",
    the second of a list. NOT read: what stands in a sentence with a word of denial, what has several colours, several things
    without a number, and names without an article or adjective if a word is to be printed ("say MOON")."""
    things = _list_things(checks)
    for start, end, shape, many in _list_mentions(text):
        before = _SENTENCE_END.split(text[max(0, start - _CLAUSE_REACH) : start])[-1]
        named = _named_before().search(before)
        number, adjectives = (named["number"] or "", named["adjectives"]) if named else ("", "")
        if _DENIAL.search(before) or (_PRINTED.search(text) and not (number or adjectives)):
            continue
        if named and _and_more().search(before[: named.start()]):
            continue  # "red and blue hearts" are of two colours, or each of both
        behind = _BRACKETED.match(text, end)
        if behind and _adjectives_only().fullmatch(behind[1]):
            adjectives = f"{adjectives} {behind[1]}"
        count = _numbers().get(number.removesuffix("x"), 1)
        colors, sizes, fills = (_list_names(adjectives, names) for names in _LOOKS)
        if (many or number.endswith("x")) != (count > 1 or number == "1x") or max(map(len, (colors, sizes, fills))) > 1:
            continue
        color = next(iter(colors), None)
        if any(thing.shape == shape and color in (None, thing.color) for thing in things):
            continue
        noun = Noun(shape, color, count > 1)
        there = Query("exists", noun) if number in ("a", "an") else Query("count", noun, value=NUMBERS[count])
        things.append(noun)
        yield Check("cross_entity_binding" if there.kind == "exists" else "counting", str(there))
        yield from (Check("size", str(Query("size", noun, value=size))) for size in sizes)
        yield from (Check("material", str(Query("fill", noun, value=fill))) for fill in fills)


def _list_names(text: str, names: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Which of `names` (a word to what people call it) a text has."""
    return frozenset(name for name, others in names.items() if re.search(rf"\b(?:{_any_of(others)})\b", text))


def _list_things(checks: Checklist) -> list[Noun]:
    """What the checklist says is there, each once."""
    queries = map(_parse_there, checks)
    return list(dict.fromkeys(query.noun for query in queries if query is not None and query.noun is not None))


def _parse_there(check: Check) -> Query | None:
    query = parse(check.question)
    return query if query is not None and query.kind in ("exists", "count") else None


def _kind(question: str) -> str | None:
    """The kind of a question, with the place if it is about one."""
    query = parse(question)
    if query is None:
        return None
    return f"place {query.value}" if query.kind == "place" else query.kind


def _is_of_itself(question: str) -> bool:
    """Whether a question compares a thing with itself."""
    query = parse(question)
    return query is not None and query.noun is not None and query.noun == query.other


def _invert(kind: str) -> str | None:
    """What the kind of a relation is from the other side; None if there is no word for it."""
    return kind if kind == "same_color" else next((to for of, to in INVERSE.items() if of == kind), None)


def _say_both_ways(query: Query) -> set[str]:
    """The question, and the same from the other side: a star above a moon is a moon below a star."""
    inverse = _invert(query.kind)
    return {str(query)} if inverse is None else {str(query), str(Query(inverse, query.other, query.noun))}


def _find_things(text: str, things: Sequence[Noun], *, last: bool) -> tuple[Noun, ...]:
    """Those of `things` that the last or first name in `text` can mean; all of them if it names none."""
    mentions = _list_mentions(text)
    words = [(match.start(), match) for match in _REFERRING.finditer(text)]
    word = max(words, key=lambda word: word[0] if last else -word[0], default=None)
    mention = max(mentions, key=lambda mention: mention[0] if last else -mention[0], default=None)
    if word is not None and (mention is None or (word[0] > mention[0]) == last):
        return _find_meant(word[1], things)
    if mention is None:
        return tuple(things)
    start, _, shape, many = mention
    said = _list_colors(text[max(0, start - _NUMBER_REACH) : start], at_end=True)
    named = [noun for noun in things if noun.shape == shape]
    fits = [noun for noun in named if not said or noun.color in said] or [n for n in named if n.color is None]
    return tuple([noun for noun in fits if noun.many == many] or fits)


def _find_meant(match: re.Match[str], things: Sequence[Noun]) -> tuple[Noun, ...]:
    """The things that "the former" or a pronoun can mean."""
    if match["order"] and len(things) == 2:
        return (things[0] if match["order"] == "former" else things[1],)
    if match["order"]:
        return tuple(things)
    return tuple(noun for noun in things if noun.many == bool(match["many"]))


def _find_first(text: str, thing: Noun) -> int:
    """Where a text names a thing first; at its end if it does not."""
    for start, end, shape, _ in _list_mentions(text):
        if shape == thing.shape:
            every = _all_of_them().match(text, end)
            said = _list_colors(text[max(0, start - _NUMBER_REACH) : start], at_end=True)
            if not said or every or thing.color in said:
                return start
    return len(text)


def _list_mentions(text: str) -> list[tuple[int, int, str, bool]]:
    """The names of shapes in a text, in order: start, end, the shape, and whether there are several."""
    names = _shape_names()
    return [(match.start(), match.end(), *names[match[0]]) for match in _shape_name().finditer(text)]


def _list_shapes(text: str) -> frozenset[str]:
    return frozenset(shape for _, _, shape, _ in _list_mentions(text))


def _list_colors(text: str, *, at_end: bool = False) -> frozenset[str]:
    """The colours that a text names; those that it ends with if `at_end`."""
    names = _color_names()
    if not at_end:
        return frozenset(names[match[0]] for match in _color_name().finditer(text))
    colors, adjectives = set(), _adjectives_at_end().search(text)
    if adjectives is not None:
        colors = {names[match[0]] for match in _color_name().finditer(adjectives[0])}
    return frozenset(colors)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _any_of(names: Iterator[str] | Sequence[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(set(names), key=lambda name: (-len(name), name)))


@cache
def _shape_names() -> dict[str, tuple[str, bool]]:
    pairs = [(name, shape) for shape, names in synonyms.SHAPES.items() for name in (shape, *names)]
    pairs += [("round shape", "circle")]
    table = {name: (shape, False) for name, shape in pairs}
    return table | {synonyms.plural_name(name): (shape, True) for name, shape in pairs}


@cache
def _shape_name() -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{_any_of(list(_shape_names()))})(?![\w-])")


@cache
def _color_names() -> dict[str, str]:
    return {name: color for color, names in synonyms.COLORS.items() for name in names}


@cache
def _color_name() -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{_any_of(list(_color_names()))})(?![\w-])")


@cache
def _adjectives() -> str:
    tables = (synonyms.COLORS, synonyms.SIZES, synonyms.FILLS)
    return _any_of([name for table in tables for names in table.values() for name in names])


@cache
def _adjectives_at_end() -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:(?:{_adjectives()}) )+$")


@cache
def _adjectives_only() -> re.Pattern[str]:
    return re.compile(rf"(?:{_adjectives()})(?:,? (?:and )?(?:{_adjectives()}))*")


@cache
def _and_more() -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{_adjectives()})(?:,|,? and|,? or) $")


@cache
def _named_before() -> re.Pattern[str]:
    """An article or number and adjectives at the end of a text. Nothing else may stand between them."""
    numbers = _any_of(["a", "an", "one", "1x", "1", *_numbers(), *(f"{n}x" for n in range(2, 7))])
    return re.compile(rf"(?<![\w-])(?:(?P<number>{numbers}) )?(?P<adjectives>(?:(?:{_adjectives()}),? )*)$")


@cache
def _number_before() -> re.Pattern[str]:
    """A number and adjectives at the end of a text."""
    return re.compile(
        rf"(?<![\w-])(?<!the )(?P<number>{_any_of(list(_numbers()))}) (?P<adjectives>(?:(?:{_adjectives()}) )*)$"
    )


@cache
def _numbers() -> dict[str, int]:
    return {name: count for count, names in synonyms.COUNTS.items() for name in names if count > 1}


@cache
def _all_of_them() -> re.Pattern[str]:
    tails = _any_of([name for names in synonyms.FILL_TAILS.values() for name in names])
    return re.compile(rf"(?: (?:{tails}))?, (?:both|all) of them (?:{_any_of(list(_color_names()))})\b,?")


@cache
def _tails() -> re.Pattern[str]:
    return re.compile(rf"\b(?:{_any_of([name for names in synonyms.FILL_TAILS.values() for name in names])})\b")


@cache
def _list_phrases() -> tuple[tuple[str, str], ...]:
    pairs = [(phrase, relation) for relation, phrases in synonyms.RELATIONS.items() for phrase in phrases]
    pairs += [(phrase, "inside") for phrase in synonyms.AROUND]
    return tuple(sorted(pairs, key=lambda pair: -len(pair[0])))


@cache
def _list_places() -> tuple[tuple[str, str], ...]:
    return tuple((phrase, place) for place, phrases in synonyms.PLACES.items() for phrase in phrases)
