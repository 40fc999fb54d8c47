"""A checklist of the mini world, with its relations and places as the request has them, read by rules.

    checks = (Check("attribute", "Is there a red star?"), Check("counting", "Are there exactly two blue circles?"))
    mend_checks("a red star and two blue circles. The star is above the circles.", checks)
    # (*checks, Check("entity_layout", "Is the red star above the blue circles?"))

The things are those that the checklist says are there, and a name must fit exactly one of them. NOT covered: pronouns, "the
former", and relations of two things of one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from evaluator.types import Check, Checklist
from mini.world import synonyms
from mini.world.scope import fold
from mini.world.wording import slips

_THERE = re.compile(r"(?:Is there an?|Are there exactly \w+) (.+)\?")
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")
_CLAUSE = re.compile(r"[,.;:!?]|\band\b|\bwith\b")
_RELATION = re.compile(
    r"(?:Is|Are) the [\w -]+ (left of|right of|above|below|inside|larger than|smaller than) the [\w -]+\?"
)
_PRINTED = re.compile(r"[\"“”']|\b(?:say|says|word|text|caption|reading|printed)\b")
"""What is said of words that the picture bears: nobody asks where they stand."""
_FRONTED = re.compile(r"\s*(?:(?:to|on) the )?(?:then )?\s*")
"""What may stand between the beginning of a clause and a relation, if it begins with the relation."""
_KEY_POINT = "entity_layout"
_BESIDE = {"larger": "larger than", "smaller": "smaller than", "left": "left of", "right": "right of"}


def mend_checks(request: str, checks: Checklist) -> Checklist:
    """`checks` with one check for each relation and place in `request` whose things are known. If those of all mentions
    of a relation are, they replace the other checks on that relation. Checks that name a shape which the request does not
    have are dropped ("a plain blue one" is no heart), and so are those on a relation that a clause
    begins with, or that the world does not have."""
    text = fold(request)
    named = _list_shapes(text)
    checks = tuple(check for check in checks if not _list_shapes(check.question) - named)
    things = [(name, many) for check in checks for name, many in _list_things(check)]
    written: list[Check] = []
    known: dict[str, list[Check | None]] = {}
    unreadable: set[str] = set()
    for phrase, relation in _list_phrases():
        for match in re.finditer(rf"\b{re.escape(phrase)}\b", text):
            before = _CLAUSE.split(text[: match.start()])[-1]
            after = _CLAUSE.split(text[match.end() :])[0]
            a, b = _find_thing(before, things, last=True), _find_thing(after, things, last=False)
            if phrase in synonyms.AROUND:
                a, b = b, a
            said, check = _BESIDE.get(relation, relation), None
            if _FRONTED.fullmatch(before):
                unreadable.add(said)  # "To the left of it two hearts": the model takes one for the other
            if said == "inside" and b is not None and b[1]:
                unreadable.add(said)  # nothing can be inside of several things: "four stars around a moon"
            elif a is not None and b is not None and a != b:
                check = Check(_KEY_POINT, f"{'Are' if a[1] else 'Is'} the {a[0]} {said} the {b[0]}?")
                written.append(check)
            known.setdefault(said, []).append(check)
    for phrase, place in _list_places():
        for match in re.finditer(rf"\b{re.escape(phrase)}\b(?! of\b| side\b)", text):
            before = _CLAUSE.split(text[: match.start()])[-1]
            a = None if _PRINTED.search(before) else _find_thing(before, things, last=True)
            if a is not None and not a[1]:
                written.append(Check(_KEY_POINT, f"Is the {a[0]} at the {place}?"))
    settled = {said for said, found in known.items() if None not in found} | unreadable
    kept = [check for check in checks if check in written or _find_relation(check) not in settled]
    return tuple(dict.fromkeys((*kept, *written)))


def _find_relation(check: Check) -> str | None:
    match = _RELATION.fullmatch(check.question)
    return match[1] if match else None


def _list_things(check: Check) -> Iterable[tuple[str, bool]]:
    match = _THERE.fullmatch(check.question)
    if match:
        yield match[1], check.question.startswith("Are")


def _find_thing(text: str, things: Iterable[tuple[str, bool]], *, last: bool) -> tuple[str, bool] | None:
    """The one of the things (name, whether there are several) that `text` names last or first, None if that is not one."""
    mentions = sorted(
        (match.start(), match.end(), shape)
        for name, shape in _shape_names()
        for match in re.finditer(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
    )
    if not mentions:
        return None
    if last:
        _, end, shape = max(mentions, key=lambda mention: (mention[1], -mention[0]))
        start = min(mention[0] for mention in mentions if mention[1] == end)
    else:
        start, _, shape = max(mentions, key=lambda mention: (-mention[0], mention[1]))
    said = {
        color
        for name, color in _color_names()
        if text[:start].rstrip().endswith(f" {name}") or text[:start].strip() == name
    }
    fits = []
    for name, many in things:
        words = name.split()
        own = {color for color in synonyms.COLORS if color in words}
        if _shape_of(words[-1]) == shape and (not said or own & said):
            fits.append((name, many))
    return fits[0] if len(set(fits)) == 1 else None


def _list_shapes(text: str) -> frozenset[str]:
    """The shapes that a text names, also with a slip of the finger."""
    words = _shape_words()
    return frozenset(shape for word in _WORD.findall(text) for shape in words.get(word, ()))


@cache
def _shape_words() -> dict[str, frozenset[str]]:
    table: dict[str, frozenset[str]] = {}
    for name, shape in _shape_names():
        for word in set(name.split()) - {"shape", "shapes", "love", "sign", "signs"}:
            for form in (word, *slips(word)):
                table[form] = table.get(form, frozenset()) | {shape}
    return table


def _shape_of(noun: str) -> str | None:
    return dict(_shape_names()).get(noun)


@cache
def _shape_names() -> tuple[tuple[str, str], ...]:
    pairs = [(name, shape) for shape, names in synonyms.SHAPES.items() for name in (shape, *names)]
    pairs += [("round shape", "circle")]
    return tuple(dict.fromkeys((form, shape) for name, shape in pairs for form in (name, synonyms.plural_name(name))))


@cache
def _color_names() -> tuple[tuple[str, str], ...]:
    return tuple((name, color) for color, names in synonyms.COLORS.items() for name in names)


@cache
def _list_phrases() -> tuple[tuple[str, str], ...]:
    pairs = [(phrase, relation) for relation, phrases in synonyms.RELATIONS.items() for phrase in phrases]
    pairs += [(phrase, "inside") for phrase in synonyms.AROUND]
    return tuple(sorted(pairs, key=lambda pair: -len(pair[0])))


@cache
def _list_places() -> tuple[tuple[str, str], ...]:
    return tuple((phrase, place) for place, phrases in synonyms.PLACES.items() for phrase in phrases)
