"""Rules on numbers: none is lost, and none moves to another noun."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewriter.guard.base import Case, Finding, Passage, singular, word_set
from rewriter.guard.numerals import (
    Number,
    counted,
    exactly,
    is_number,
    mentioned_in_passing,
    pairs,
    present,
    required,
    said,
)

_STOPS = word_set(
    "a an the of and or with in on at to from by under over near behind beside between for is are as each its his her "
    "their that which who into onto around against inside outside above below but not no one other than both all "
    "und oder mit im am auf unter über neben von et ou avec dans sur sous de des y o con en sobre del"
)
_NEAR = 6
"""Words between a number and the noun it counts."""
_EACH = word_set("each both all every per half other others remaining rest pairs apiece respectively")
_PEOPLE = word_set(
    "people persons friends kids children lovers siblings characters figures animals pets players fighters dancers "
    "parents partners strangers creatures colors colours sisters adults opponents shapes"
)
_COMPOUND = re.compile(r"-[^\W\d]")
_TWO_OF = re.compile(
    r"\b(?:an?|one|the)\s+(?:[\w'’-]+\s+){1,5}?(?:and|facing|beside|with|opposite|kissing)\s+\w", re.IGNORECASE
)


def numbers(case: Case) -> Iterator[Finding]:
    """Each exact number of the original comes back, as digits or as a word."""
    wanted = [*required(case.original), *pairs(case.original)]
    if not wanted:
        return
    named = present(case.rewrite)
    told = set()
    for number in wanted:
        if number.values & named or number.values in told or _added_up(number, case):
            continue
        if not case.settings.compounds and _COMPOUND.match(case.original.text, number.end):
            continue
        told.add(number.values)
        text = case.original.text[number.start : number.end]
        yield Finding(
            "numbers", f"The number {text!r} of the request is missing or changed.",
            text, "original", number.start, number.end,
        )  # fmt: skip


def counts(case: Case) -> Iterator[Finding]:
    """No noun gets another number: two cats and three dogs are not three cats and two dogs."""
    if case.original.language not in (None, "en", "de", "fr", "es"):
        return
    asked = _by_noun(case.original)
    if not asked:
        return
    got = _by_noun(case.rewrite)
    in_passing = mentioned_in_passing(case.rewrite)
    for noun, wanted in asked.items():
        found = {value: number for value, number in got.get(noun, ()) if value >= 2}
        values = {value for value, _ in wanted}
        if not got.get(noun) and (number := _uncounted(noun, wanted, case)):
            text = case.original.text[number.start : number.end]
            yield Finding("counts", f"The number of {noun!r} is lost.", text, "original", number.start, number.end)
        if not found or values & found.keys() or sum(value for value, _ in wanted) in found:
            continue
        if sum(value for value, _ in got[noun]) in values | {sum(v for v, _ in wanted)}:
            continue
        if 1 in values and _mentioned_singly(noun, case):
            continue
        if values & in_passing:
            continue  # four sit, a fifth stands
        number = next(iter(found.values()))
        message = f"The number of {noun!r} is not the one asked for."
        yield Finding(
            "counts", message, case.rewrite.text[number.start : number.end], "rewrite", number.start, number.end
        )


def _by_noun(passage: Passage) -> dict[str, list[tuple[float, Number]]]:
    """Counts by the nouns that may go with them. A or an counts one, for nouns that stand there only once."""
    found: dict[str, list[tuple[float, Number]]] = {}
    english = passage.language in (None, "en")
    for number in counted(passage):
        if number.last < 0 or len(number.values) != 1:
            continue
        value = min(number.values)
        for noun in _nouns(passage, number.last, value, english):
            found.setdefault(noun, []).append((value, number))
    if english:
        for i, word in enumerate(passage.words):
            if word.text in ("a", "an") and not word.ends_clause:
                for noun in _nouns(passage, i, 1, english):
                    found.setdefault(noun, []).append((1, Number(frozenset({1.0}), word.start, word.end, i)))
    return found


def _nouns(passage: Passage, last: int, value: float, english: bool) -> Iterator[str]:
    words = passage.words
    if words[last].gap.strip(" \t\n"):  # punctuation, or "two-story"
        return
    following = []
    for word in words[last + 1 : last + 4]:
        if word.text in _STOPS or word.text.isdigit():
            break
        following.append(word)
        if word.gap.strip():
            break
    if english and value >= 2:
        for word in following:
            if singular(word.text) != word.text:
                yield singular(word.text)
    elif english:
        yield from (word.text for word in following[-1:])
    elif passage.language == "de":
        yield from (word.text for word in following if word.capital)
    else:
        yield from (word.text for word in following[:1])


def _uncounted(noun: str, wanted: list[tuple[float, Number]], case: Case) -> Number | None:
    """The count that a noun has lost, though the same number is there with something else: at nine, nine chairs."""
    value, number = wanted[0]
    words = case.rewrite.words
    places = [i for i, word in enumerate(words) if word.text != noun and singular(word.text) == noun]
    if len(wanted) > 1 or value < 2 or not places or {word.text for word in words} & _EACH:
        return None
    if any(is_number(word.text) for i in places for word in words[max(0, i - _NEAR) : i]):
        return None
    return number if 0 < said(case.rewrite, value) < exactly(case.original, value) else None


def _mentioned_singly(noun: str, case: Case) -> bool:
    """Whether one alone of it is in the rewrite too, or several in the original: then there is more than one kind."""
    alone = any(word.text == noun for word in case.rewrite.words)
    several = any(word.text != noun and singular(word.text) == noun for word in case.original.words)
    return alone or several


def _added_up(number: Number, case: Case) -> bool:
    """Three stars told one by one, or a star and two more told as three; two people told as a man and a woman."""
    words = case.original.words
    if number.last < 0:
        return False
    nouns = {singular(word.text) for word in words[number.last + 1 : number.last + 4]}
    if number.values == {2.0} and {word.text for word in words[number.last + 1 : number.last + 4]} & _PEOPLE:
        return bool(_TWO_OF.search(case.rewrite.plain))
    if case.original.language not in (None, "en"):
        return False
    asked, got = _by_noun(case.original), _by_noun(case.rewrite)
    for noun in nouns & asked.keys() & got.keys():
        if number.start not in {other.start for _, other in asked[noun]}:
            continue
        total = sum(value for value, _ in asked[noun])
        if total in {value for value, _ in got[noun]} or sum(value for value, _ in got[noun]) == total:
            return True
    return False
