"""Numbers in prompts: digits of any script, number words of several languages, pairs and dozens.

`required` numbers are what a rewrite must say again; `present` is the far wider set of what may count as saying it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from rewriter.guard import numerals_east
from rewriter.guard.base import Passage, Word, word_set
from rewriter.guard.number_words import HALF, IN_PASSING, LEXICONS, NUMBER_WORDS, Lexicon

# German zweier and dreistöckig, Russian двухэтажный; an Arabic dual, which has no prefix.
_PREFIXES = {
    "zwei": 2.0, "drei": 3.0, "vier": 4.0, "fünf": 5.0, "sechs": 6.0, "sieben": 7.0, "acht": 8.0,
    "двух": 2.0, "трёх": 3.0, "трех": 3.0, "четырёх": 4.0, "четырех": 4.0, "пяти": 5.0, "шести": 6.0,
}  # fmt: skip
_INFLECTED = re.compile(
    rf"\b(?:({'|'.join(_PREFIXES)})(?!und|zehn|zig|hundert|надцат|десят)\w{{2,}}|\w{{3,}}(?:ان|ين)\b)"
)
_HUGE = 10**12
"""Larger numbers are noise: a model caught in a loop says million for ever."""


# A digit run that belongs to a name (R2, #5) is no number; nor is what steers a program instead of the picture.
_DIGITS = re.compile(r"(?<![A-Za-z\u00c0-\u052f_#\d.])(\d+(?:[.,]\d+)*)(?!\d)([A-Za-zÀ-ÿ]*)")
_SETTINGS = re.compile(
    r"--\w+(?:\s+[\d.:x]+)?|<[^<>\n]*>|:\d+(?:\.\d+)?(?=\))|\b\d{3,5}\s?[x×*]\s?\d{3,5}\b"
    r"|\b(?:16:9|9:16|4:3|3:4|1:1|2:3|3:2|21:9|4:5|5:4|16:10)\b|\b100\s?%|\b\d+/\d+\b|\b\d+\s?[-–]\s?\d+\b"
    r"|\b(?:seed|steps|cfg|sampler)\s*[:=]?\s*\d+(?:\.\d+)?",
    re.IGNORECASE,
)
_DECADE = {"s", "er", "ern"}
_NOT_COUNTED = {"k", "d", "p", "st", "nd", "rd", "th", "x", "hd", "ème", "º", "ª"}
_PAIRED = word_set(
    "glasses sunglasses spectacles goggles shoes boots sneakers sandals slippers heels gloves mittens socks stockings "
    "jeans pants trousers shorts leggings overalls scissors pliers tweezers tongs headphones earphones earbuds "
    "earrings binoculars eyes hands legs arms wings ears feet horns antlers lips skis skates dice chopsticks crutches "
    "handcuffs curtains suspenders pajamas tights"
)
_FRACTIONS = {"quarter", "quarters", "third", "thirds", "fifths", "dimensional", "fourths", "eighths", "point", "d"}
_BEFORE_TWO = {"the", "these", "those", "between", "other", "last", "first"}
_VAGUE = {"or", "to", "oder", "bis", "ou", "à", "o", "u", "или", "أو"}
_SOME = {
    "couple",
    "few",
    "several",
    "some",
    "many",
    "paar",
    "einige",
    "mehrere",
    "quelques",
    "varios",
    "alcuni",
    "alguns",
}
_AND_A_HALF = {"साढ़े"}
"""Words that add a half to the number behind them."""
_DENIED = {"not", "no", "never", "nicht", "pas", "не"}


@dataclass(frozen=True)
class Number:
    """A number as it stands in a text. `values` are its possible readings; `last` the index of its last word, or -1."""

    values: frozenset[float]
    start: int
    end: int
    last: int = -1


def required(passage: Passage) -> list[Number]:
    """The numbers of an original that a rewrite has to keep: two and more, said exactly, about the picture."""
    hidden = [match.span() for match in _SETTINGS.finditer(passage.plain)]
    numbers = [*_digits(passage, strict=True), *_spelled(passage, _language(passage), strict=True)]
    numbers += [Number(frozenset({value}), start, end) for value, start, end in numerals_east.counted(passage.plain)]
    return [
        number
        for number in sorted(numbers, key=lambda number: number.start)
        if min(number.values) >= 2 and not any(start < number.end and number.start < end for start, end in hidden)
    ]


def present(passage: Passage) -> set[float]:
    """All numbers that a rewrite may be said to name."""
    values = {value for number in _digits(passage, strict=False) for value in number.values}
    for language in {_language(passage), "en"}:
        for number in _spelled(passage, language, strict=False):
            values |= number.values
    return values | mentioned_in_passing(passage) | numerals_east.present(passage.plain)


def mentioned_in_passing(passage: Passage) -> set[float]:
    """Numbers that a pair, an ordinal, a decade or the inside of a word gives away."""
    values = {value for word in passage.words for value in IN_PASSING.get(word.text, ())}
    for match in _INFLECTED.finditer(passage.plain.lower()):
        values.add(_PREFIXES.get(match[1], 2.0))
    return values


def counted(passage: Passage) -> Iterator[Number]:
    """Every exact count, one included, with the place of its last word: for what stands behind it."""
    yield from _digits(passage, strict=True)
    yield from _spelled(passage, _language(passage), strict=True)


def exactly(passage: Passage, value: float) -> int:
    """How often a passage says a number in figures or as a number word, however loosely."""
    loosely = (*_digits(passage, strict=False), *_spelled(passage, _language(passage), strict=False))
    return sum(value in number.values for number in loosely)


def said(passage: Passage, value: float) -> int:
    """How often a passage says a number in whatever way."""
    return exactly(passage, value) + sum(value in IN_PASSING.get(word.text, ()) for word in passage.words)


def is_number(word: str) -> bool:
    """Whether a word is a number, in figures or in any language."""
    return word.isdigit() or word in NUMBER_WORDS


def _language(passage: Passage) -> str:
    return passage.language or "en"


# A text is asked for its numbers by several rules, one after the other.
@lru_cache(maxsize=16)
def _digits(passage: Passage, *, strict: bool) -> tuple[Number, ...]:
    return tuple(_find_digits(passage, strict))


@lru_cache(maxsize=16)
def _spelled(passage: Passage, language: str, *, strict: bool) -> tuple[Number, ...]:
    """Number words, compounds put together: twenty-five, two hundred and six, quatre-vingts."""
    return tuple(_find_spelled(passage, language, strict))


def _find_digits(passage: Passage, strict: bool) -> Iterator[Number]:
    matches = list(_DIGITS.finditer(passage.plain))
    at = {word.start: i for i, word in enumerate(passage.words)} if matches else {}
    for match in matches:
        suffix = match[2].lower()
        if strict and (suffix in _NOT_COUNTED or (suffix and match[1] == "1")):
            continue
        value = _read_digits(match[1])
        values = frozenset({value})
        if suffix in _DECADE and value % 10 == 0:  # the 80s, the 1980s, in den 80ern
            values = frozenset({value % 100, 1900 + value % 100})
        yield Number(values, match.start(), match.end(1), at.get(match.start(), -1))


def _read_digits(text: str) -> float:
    if re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", text):
        return float(re.sub("[.,]", "", text))
    head, *tail = re.split("[.,]", text)
    return float(f"{head}.{''.join(tail) or 0}")


def _find_spelled(passage: Passage, language: str, strict: bool) -> Iterator[Number]:
    lexicon = LEXICONS.get(language)
    if lexicon is None:
        return
    words = passage.words
    done = 0
    for start, first in enumerate(words):
        if start < done:
            continue
        value = _value_of(first.text, lexicon, language)
        if value is None:
            continue
        last = start
        while last + 1 < len(words) and not words[last].ends_clause and value < _HUGE:
            joined = words[last + 1].text == lexicon.joiner and last + 2 < len(words) and value >= 20
            step = 2 if joined else 1
            taken = _with_next(value, words[last + step].text, joined, lexicon, language)
            if taken is None:
                break
            value = taken
            last += step
        done = last + 1
        if value == 12 and any(word.text in HALF for word in words[max(0, start - 2) : start]):
            value = 6.0  # half a dozen
        if not (strict and _is_loose(words, start, last, value, language)):
            following = tuple(word.text for word in words[last + 1 : last + 4])
            half = any(following[: len(half)] == half for half in lexicon.halves)
            values = frozenset({value, value + 0.5} if half else {value})
            if start and words[start - 1].text in _AND_A_HALF:
                values = frozenset({value, value + 0.5} if strict else {value + 0.5})
            yield Number(values, first.start, words[last].end, last)


def _with_next(value: float, word: str, joined: bool, lexicon: Lexicon, language: str) -> float | None:
    """The number that `value` and the word behind it make; None where they make none."""
    if not joined and word in lexicon.scales:
        return value * lexicon.scales[word] if value < lexicon.scales[word] else value + lexicon.scales[word]
    if not joined and word in lexicon.dozens:
        return value * lexicon.dozens[word]
    if language == "fr" and value == 4 and word in ("vingt", "vingts"):
        return 80.0
    more = _value_of(word, lexicon, language)
    if more is None:
        return None
    if language == "ar" and _adds_in_arabic(value, more, word):
        return value + more
    return value + more if _adds(value, more, language) else None


def _value_of(word: str, lexicon: Lexicon, language: str) -> float | None:
    if language == "ar" and word not in lexicon.words and word[:1] in ("و", "ب", "ف", "ل"):
        word = word[1:]
    value = lexicon.words.get(word)
    return float(lexicon.scales[word]) if value is None and word in lexicon.scales else value


def _adds(value: float, more: float, language: str) -> bool:
    if 0 < more < 10 and 20 <= value < 100 and value % 10 == 0:
        return True
    if language == "fr" and 10 <= more < 20 and value in (60, 80):
        return True
    if language == "fr" and value % 100 == 10 and more in (7, 8, 9):
        return True
    if value >= 1000 and value % 1000 == 0 and 0 < more < 1000:
        return True
    return value >= 100 and value % 100 == 0 and 0 < more < 100


def _adds_in_arabic(value: float, more: float, word: str) -> bool:
    """Seven-ten for seventeen, five-and-twenty for twenty-five."""
    if 0 < value < 10 and more == 10 and word in ("عشر", "عشرة"):
        return True
    return 0 < value < 10 and word.startswith("و") and more in range(20, 100, 10)


def _is_loose(words: tuple[Word, ...], start: int, last: int, value: float, language: str) -> bool:
    """Whether a number word is idiom, range, fraction or back-reference rather than an exact count."""
    before = words[start - 1].text if start else ""
    before2 = words[start - 2].text if start > 1 else ""
    after = words[last + 1].text if last + 1 < len(words) and not words[last].ends_clause else ""
    after2 = words[last + 2].text if after and last + 2 < len(words) and not words[last + 1].ends_clause else ""
    if before in _DENIED or after in _FRACTIONS or (before in _VAGUE and is_number(before2)):
        return True
    if after in _VAGUE and (is_number(after2) or after2 == "more"):
        return True
    if value == 2 and before in _BEFORE_TWO:
        return True
    scales = LEXICONS[language].scales
    if words[start].text in scales and (before in _SOME or (value >= 1000 and value in scales.values())):
        return True  # a few hundred; a thousand: more than one can count
    # "neuf" is also French for new, and then stands behind its noun.
    return language == "fr" and value == 9 and not after.endswith(("s", "x"))


def pairs(passage: Passage) -> Iterator[Number]:
    """ "a pair of …", where the pair is more than a manner of speaking (a pair of jeans)."""
    words = passage.words
    for i in range(len(words) - 2):
        of_a_kind = words[i].text == "pair" and words[i + 1].text == "of"
        if of_a_kind and not any(word.text in _PAIRED for word in words[i + 2 : i + 6]):
            yield Number(frozenset({2.0}), words[i].start, words[i].end, i + 1)
