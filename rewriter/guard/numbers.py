"""Numbers: none of the request is lost, and none moves to another noun.

Read are digits of any script, number words, pairs and dozens, and numbers in text without spaces. `_required` numbers
are what a rewrite must say again; `_present` is the far wider set of what may count as saying it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from typing import TypeVar

from rewriter.guard.language import Language, Languages, Numbers, Numerals
from rewriter.guard.passage import Finding, Passage, TextPair, TextWord, singular

V = TypeVar("V")
_HUGE = 10**12
"""Larger numbers are noise: a model caught in a loop says million for ever."""
_NEAR = 6
"""Words between a number and the noun it counts."""
_COMPOUND = re.compile(r"-[^\W\d]")

# A digit run that belongs to a name (R2, #5) is no number; nor is what steers a program instead of the picture.
_DIGITS = re.compile(r"(?<![A-Za-z\u00c0-\u052f_#\d.])(\d+(?:[.,]\d+)*)(?!\d)([A-Za-zÀ-ÿ]*)")
_SETTINGS = re.compile(
    r"--\w+(?:\s+[\d.:x]+)?|<[^<>\n]*>|:\d+(?:\.\d+)?(?=\))|\b\d{3,5}\s?[x×*]\s?\d{3,5}\b"
    r"|\b(?:16:9|9:16|4:3|3:4|1:1|2:3|3:2|21:9|4:5|5:4|16:10)\b|\b100\s?%|\b\d+/\d+\b|\b\d+\s?[-–]\s?\d+\b"
    r"|\b(?:seed|steps|cfg|sampler)\s*[:=]?\s*\d+(?:\.\d+)?",
    re.IGNORECASE,
)
_UNITS = frozenset(["k", "d", "p", "x", "hd"])
"""Behind figures: 4k, 3D. No count."""


@dataclass(frozen=True)
class _Number:
    """A number as it stands in a text. `values` are its possible readings; `last` the index of its last word, or -1."""

    values: frozenset[float]
    start: int
    end: int
    last: int = -1


def numbers(case: TextPair) -> Iterator[Finding]:
    """Each exact number of the request comes back, as digits or as a word."""
    wanted = [*_required(case.request), *_pairs(case.request)]
    if not wanted:
        return
    named = _present(case.rewrite)
    reported = set()
    for number in wanted:
        if number.values & named or number.values in reported or _added_up(number, case):
            continue
        if not case.settings.compounds and _COMPOUND.match(case.request.text, number.end):
            continue
        reported.add(number.values)
        text = case.request.text[number.start : number.end]
        message = f"The number {text!r} of the request is missing or changed."
        yield Finding("numbers", message, text, "request", number.start, number.end)


def counts(case: TextPair) -> Iterator[Finding]:
    """No noun gets another number: two cats and three dogs are not three cats and two dogs."""
    if case.request.grammar.counts is None:
        return
    yield from _one_alone(case)
    if not any(min(number.values) >= 2 for side in (case.request, case.rewrite) for number in _counted(side)):
        return  # articles alone contradict nothing
    wanted_by_noun = _by_noun(case.request)
    if not wanted_by_noun:
        return
    got = _by_noun(case.rewrite)
    in_passing = _mentioned_in_passing(case.rewrite)
    for noun, wanted in wanted_by_noun.items():
        several = {value: number for value, number in got.get(noun, ()) if value >= 2}
        values = {value for value, _ in wanted}
        if not got.get(noun) and (number := _uncounted(noun, wanted, case)):
            text = case.request.text[number.start : number.end]
            yield Finding("counts", f"The number of {noun!r} is lost.", text, "request", number.start, number.end)
        if not several or values & several.keys() or sum(value for value, _ in wanted) in several:
            continue
        if sum(value for value, _ in got[noun]) in values | {sum(v for v, _ in wanted)}:
            continue
        if 1 in values and _mentioned_singly(noun, case):
            continue
        if values & in_passing:
            continue  # four sit, a fifth stands
        number = next(iter(several.values()))
        shown = next(
            (word.text for word in case.request.words if _noun_key(word.text, case.request.grammar) == noun), noun
        )
        message = f"The number of {shown!r} is not the one asked for."
        text = case.rewrite.text[number.start : number.end]
        yield Finding("counts", message, text, "rewrite", number.start, number.end)


# ---- which noun a number counts


def _by_noun(passage: Passage) -> dict[str, list[tuple[float, _Number]]]:
    """Counts by the nouns that may go with them. An article counts one, for nouns that stand there only once."""
    by_noun: dict[str, list[tuple[float, _Number]]] = {}
    for number in _counted(passage):
        if number.last < 0 or len(number.values) != 1:
            continue
        value = min(number.values)
        for noun in _nouns(passage, number.last, value):
            by_noun.setdefault(noun, []).append((value, number))
    articles = passage.grammar.counts.articles if passage.grammar.counts else ()
    if articles:
        for i, word in enumerate(passage.words):
            if word.text in articles and not word.ends_clause:
                for noun in _nouns(passage, i, 1):
                    by_noun.setdefault(noun, []).append((1, _Number(frozenset({1.0}), word.start, word.end, i)))
    return by_noun


def _nouns(passage: Passage, last: int, value: float) -> Iterator[str]:
    words = passage.words
    if words[last].gap.strip(" \t\n"):  # punctuation, or "two-story"
        return
    stops = _common(passage.languages).stops
    following = []
    for word in words[last + 1 : last + 4]:
        if word.text in stops or word.text.isdigit():
            break
        following.append(word)
        if word.gap.strip():
            break
    how = passage.grammar.counts.noun if passage.grammar.counts else "next"
    if how == "plural" and value >= 2:
        for word in following:
            if singular(word.text) != word.text:
                yield singular(word.text)
    elif how == "plural":
        yield from (word.text for word in following[-1:])
    elif how == "capital":
        yield from (_noun_key(word.text, passage.grammar) for word in following if word.capital)
    else:
        keys = (_noun_key(word.text, passage.grammar) for word in following)
        yield from islice((key for key in keys if key not in _adjectives(passage.grammar)), 1)


@lru_cache(maxsize=8192)
def _noun_key(word: str, language: Language) -> str:
    """What the forms of a noun share in a language that tells them by their endings."""
    endings = language.counts.endings if language.counts else ()
    if not endings:
        return word
    plain = "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))
    stem = next((plain[: -len(end)] for end in endings if plain.endswith(end) and len(plain) - len(end) >= 3), plain)
    return stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] else stem  # Dutch kat, katten


@cache
def _adjectives(language: Language) -> frozenset[str]:
    words = language.counts.adjectives if language.counts else ()
    return frozenset(_noun_key(word, language) for word in words)


def _uncounted(noun: str, wanted: list[tuple[float, _Number]], case: TextPair) -> _Number | None:
    """The count that a noun has lost, though the same number is there with something else: at nine, nine chairs."""
    value, number = wanted[0]
    if case.request.grammar.counts is None or case.request.grammar.counts.noun != "plural":
        return None
    words = case.rewrite.words
    common = _common(case.languages)
    places = [i for i, word in enumerate(words) if word.text != noun and singular(word.text) == noun]
    if len(wanted) > 1 or value < 2 or not places or not common.each.isdisjoint(word.text for word in words):
        return None
    if any(_is_number(word.text, common) for i in places for word in words[max(0, i - _NEAR) : i]):
        return None
    return number if 0 < _times_named(case.rewrite, value) < _times_counted(case.request, value) else None


def _one_alone(case: TextPair) -> Iterator[Finding]:
    """A single rose does not become roses."""
    words, shown = case.request.words, case.rewrite.words
    only = case.request.grammar.counts.only_one if case.request.grammar.counts else ()
    for i in range(len(words) - 2):
        if (words[i].text, words[i + 1].text) not in only or words[i + 1].ends_clause:
            continue
        noun = next(_nouns(case.request, i + 1, 1), "")
        many = [word for word in shown if word.text != noun and singular(word.text) == noun]
        if many and not any(word.text == noun for word in (*shown, *words[:i])):
            message = f"The request has one {noun!r} alone, the rewrite {many[0].text!r}."
            text = case.rewrite.text[many[0].start : many[0].end]
            yield Finding("counts", message, text, "rewrite", many[0].start, many[0].end)
            return


def _mentioned_singly(noun: str, case: TextPair) -> bool:
    """Whether one alone of it is in the rewrite too, or several in the request: then there is more than one kind."""
    grammar = case.request.grammar
    if grammar.counts is not None and grammar.counts.noun != "plural":
        forms = {word.text for word in case.request.words if _noun_key(word.text, grammar) == noun}
        return len(forms) > 1 or any(word.text in forms for word in case.rewrite.words)
    alone = any(word.text == noun for word in case.rewrite.words)
    several = any(word.text != noun and singular(word.text) == noun for word in case.request.words)
    return alone or several


def _added_up(number: _Number, case: TextPair) -> bool:
    """Three stars told one by one, or a star and two more told as three; two people told as a man and a woman."""
    words = case.request.words
    if number.last < 0:
        return False
    nouns = {singular(word.text) for word in words[number.last + 1 : number.last + 4]}
    common = _common(case.languages)
    if number.values == {2.0} and any(word.text in common.people for word in words[number.last + 1 : number.last + 4]):
        return any(pattern.search(case.rewrite.plain) for pattern in common.one_and_another)
    if case.request.grammar.counts is None or case.request.grammar.counts.noun != "plural":
        return False
    wanted, got = _by_noun(case.request), _by_noun(case.rewrite)
    for noun in nouns & wanted.keys() & got.keys():
        if number.start not in {other.start for _, other in wanted[noun]}:
            continue
        total = sum(value for value, _ in wanted[noun])
        if total in {value for value, _ in got[noun]} or sum(value for value, _ in got[noun]) == total:
            return True
    return False


# ---- reading numbers


def _required(passage: Passage) -> list[_Number]:
    """The numbers of a request that a rewrite has to keep: two and more, said exactly, about the picture."""
    numbers = [*_digits(passage, strict=True), *_spelled(passage, passage.grammar, strict=True), *_unspaced(passage)]
    hidden = [match.span() for match in _SETTINGS.finditer(passage.plain)] if numbers else []
    return [
        number
        for number in sorted(numbers, key=lambda number: number.start)
        if min(number.values) >= 2 and not any(start < number.end and number.start < end for start, end in hidden)
    ]


def _present(passage: Passage) -> set[float]:
    """All numbers that a rewrite may be said to name."""
    values = {value for number in _digits(passage, strict=False) for value in number.values}
    for language in (passage.grammar, passage.languages.english):
        for number in _spelled(passage, language, strict=False):
            values |= number.values
    return values | _mentioned_in_passing(passage) | _present_unspaced(passage)


def _mentioned_in_passing(passage: Passage) -> set[float]:
    """Numbers that a pair, an ordinal, a decade or the inside of a word gives away."""
    common = _common(passage.languages)
    values = {value for word in passage.words for value in common.in_passing.get(word.text, ())}
    for match in common.inflected.finditer(passage.plain.lower()):
        values.add(common.prefixes.get(match[1], 2.0))
    return values


def _counted(passage: Passage) -> Iterator[_Number]:
    """Every exact count, one included, with the place of its last word: for what stands behind it."""
    yield from _digits(passage, strict=True)
    yield from _spelled(passage, passage.grammar, strict=True)


def _times_counted(passage: Passage, value: float) -> int:
    """How often a passage says a number in figures or as a number word, however loosely."""
    loosely = (*_digits(passage, strict=False), *_spelled(passage, passage.grammar, strict=False))
    return sum(value in number.values for number in loosely)


def _times_named(passage: Passage, value: float) -> int:
    """How often a passage says a number in whatever way."""
    in_passing = _common(passage.languages).in_passing
    return _times_counted(passage, value) + sum(value in in_passing.get(word.text, ()) for word in passage.words)


def _is_number(word: str, common: _Common) -> bool:
    """Whether a word is a number, in figures or in any language."""
    return word.isdigit() or word in common.number_words


def _pairs(passage: Passage) -> Iterator[_Number]:
    """ "a pair of …", if the pair is more than a manner of speaking (a pair of jeans)."""
    words = passage.words
    common = _common(passage.languages)
    for i in range(len(words) - 2):
        of_a_kind = (words[i].text, words[i + 1].text) in common.pair_of
        if of_a_kind and not any(word.text in common.come_in_pairs for word in words[i + 2 : i + 6]):
            yield _Number(frozenset({2.0}), words[i].start, words[i].end, i + 1)


# A text is asked for its numbers by several rules, one after the other.
@lru_cache(maxsize=16)
def _digits(passage: Passage, *, strict: bool) -> tuple[_Number, ...]:
    return tuple(_find_digits(passage, strict))


@lru_cache(maxsize=16)
def _spelled(passage: Passage, language: Language, *, strict: bool) -> tuple[_Number, ...]:
    """Number words, compounds put together: twenty-five, two hundred and six, quatre-vingts."""
    lexicon = _lexicon(language)
    return () if lexicon is None else tuple(_find_spelled(passage, lexicon, strict))


def _find_digits(passage: Passage, strict: bool) -> Iterator[_Number]:
    matches = list(_DIGITS.finditer(passage.plain))
    if not matches:
        return
    at = {word.start: i for i, word in enumerate(passage.words)}
    common = _common(passage.languages)
    for match in matches:
        suffix = match[2].lower()
        if strict and (suffix in _UNITS or suffix in common.ordinal_endings or (suffix and match[1] == "1")):
            continue
        value = _read_digits(match[1])
        values = frozenset({value})
        if suffix in common.decade_endings and value % 10 == 0:  # the 80s, the 1980s, in den 80ern
            values = frozenset({value % 100, 1900 + value % 100})
        yield _Number(values, match.start(), match.end(1), at.get(match.start(), -1))


def _read_digits(text: str) -> float:
    if re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", text):
        return float(re.sub("[.,]", "", text))
    head, *tail = re.split("[.,]", text)
    return float(f"{head}.{''.join(tail) or 0}")


# ---- number words


@dataclass(frozen=True, eq=False)
class _Lexicon:
    """How one language counts."""

    table: Numbers
    values: dict[str, float]
    """Of every number word, scales included."""
    scales: dict[str, int]
    dozens: dict[str, int]

    def value(self, word: str) -> float | None:
        """What a word counts; None if it is no number."""
        value = self.values.get(word)
        if value is None and self.table.word_prefixes and word.startswith(self.table.word_prefixes):
            value = self.values.get(word[1:])
        return value

    def with_next(self, value: float, word: str, joined: bool) -> float | None:
        """The number that `value` and the word behind it make; None if they make none."""
        if not joined and word in self.scales:
            return value * self.scales[word] if value < self.scales[word] else value + self.scales[word]
        if not joined and word in self.dozens:
            return value * self.dozens[word]
        more = self.value(word)
        if more is None:
            return None
        if self.table.twenties and value == 4 and more == 20:
            return 80.0
        return value + more if self._adds(value, more) or self._unit_first(value, more, word) else None

    def _adds(self, value: float, more: float) -> bool:
        if 0 < more < 10 and 20 <= value < 100 and value % 10 == 0:
            return True
        if self.table.twenties and 10 <= more < 20 and value in (60, 80):
            return True
        if self.table.twenties and value % 100 == 10 and more in (7, 8, 9):
            return True
        if value >= 1000 and value % 1000 == 0 and 0 < more < 1000:
            return True
        return value >= 100 and value % 100 == 0 and 0 < more < 100

    def _unit_first(self, value: float, more: float, word: str) -> bool:
        """Arabic: seven-ten for seventeen, five-and-twenty for twenty-five."""
        if not 0 < value < 10:
            return False
        prefix = self.table.ten_prefix
        tens = prefix and word.startswith(prefix) and more in range(20, 100, 10)
        return bool(tens) or (more == 10 and word in self.table.ten_behind_unit)


@cache
def _lexicon(language: Language) -> _Lexicon | None:
    table = language.numbers
    if table is None:
        return None
    scales = _composed(table.scales)
    values = {word: float(value) for word, value in scales.items()} | _composed(table.others)
    values |= {word: 30.0 + 10 * step for step, forms in enumerate(table.tens) for word in forms}
    values |= {word: 200.0 + 100 * step for step, forms in enumerate(table.hundreds) for word in forms}
    values |= {word: float(value) for value, forms in enumerate(table.from_zero) for word in forms}
    values |= {word: float(value) for word, value in _composed(table.dozens).items()}
    dozens = _composed(table.dozens) | dict.fromkeys(table.dozens_plural, 12)
    return _Lexicon(table=table, values=values, scales=scales, dozens=dozens)


def _composed(table: dict[str, V]) -> dict[str, V]:
    return {unicodedata.normalize("NFC", word): value for word, value in table.items()}


@dataclass(frozen=True, eq=False)
class _Common:
    """What is counted by words of any language, since a rewrite may be in another than its request."""

    number_words: frozenset[str]
    in_passing: dict[str, frozenset[float]]
    prefixes: dict[str, float]
    inflected: re.Pattern[str]
    decade_endings: frozenset[str]
    ordinal_endings: frozenset[str]
    half: frozenset[str]
    half_more: frozenset[str]
    range: frozenset[str]
    or_more: frozenset[str]
    some: frozenset[str]
    denied_by: frozenset[str]
    fractions: frozenset[str]
    back_references: frozenset[str]
    pair_of: frozenset[tuple[str, ...]]
    come_in_pairs: frozenset[str]
    stops: frozenset[str]
    each: frozenset[str]
    people: frozenset[str]
    one_and_another: tuple[re.Pattern[str], ...]


@cache
def _common(languages: Languages) -> _Common:
    tables = [language.numbers for language in languages if language.numbers]
    counting = [language.counts for language in languages if language.counts]
    lexicons = [lexicon for language in languages if (lexicon := _lexicon(language))]
    in_passing: dict[str, frozenset[float]] = {}
    for table in tables:
        for value, forms in table.in_passing.items():
            in_passing |= dict.fromkeys(forms, frozenset({float(value)}))
        for word, value in table.decades.items():
            in_passing[word] = frozenset({float(value), 1900.0 + value})
    prefixes = {word: value for table in tables for word, value in _composed(table.prefixes).items()}
    not_before = "|".join(word for table in tables for word in table.no_prefix_before)
    dual = "|".join(ending for table in tables for ending in table.dual)

    def pool(pick: Callable[[Numbers], Iterable[str]]) -> frozenset[str]:
        return frozenset(word for table in tables for word in pick(table))

    return _Common(
        number_words=frozenset(word for lexicon in lexicons for word in lexicon.values),
        in_passing=in_passing,
        prefixes=prefixes,
        inflected=re.compile(rf"\b(?:({'|'.join(prefixes)})(?!{not_before})\w{{2,}}|\w{{3,}}(?:{dual})\b)"),
        decade_endings=pool(lambda table: table.decade_endings),
        ordinal_endings=pool(lambda table: table.ordinal_endings),
        half=pool(lambda table: table.half),
        half_more=pool(lambda table: table.half_more),
        range=pool(lambda table: table.range),
        or_more=pool(lambda table: table.or_more),
        some=pool(lambda table: table.some),
        denied_by=pool(lambda table: table.denied_by),
        fractions=pool(lambda table: table.fractions),
        back_references=pool(lambda table: table.back_references),
        pair_of=frozenset(table.pair_of for table in tables),
        come_in_pairs=pool(lambda table: table.come_in_pairs),
        stops=frozenset(word for table in counting for word in table.stops),
        each=frozenset(word for table in counting for word in table.each),
        people=frozenset(word for table in counting for word in table.people),
        one_and_another=tuple(table.one_and_another for table in counting if table.one_and_another),
    )


def _find_spelled(passage: Passage, lexicon: _Lexicon, strict: bool) -> Iterator[_Number]:
    words = passage.words
    common = _common(passage.languages)
    joiner = lexicon.table.joiner
    done = 0
    for start, first in enumerate(words):
        if start < done:
            continue
        value = lexicon.value(first.text)
        if value is None:
            continue
        last = start
        while last + 1 < len(words) and not words[last].ends_clause and value < _HUGE:
            joined = words[last + 1].text == joiner and last + 2 < len(words) and value >= 20
            step = 2 if joined else 1
            taken = lexicon.with_next(value, words[last + step].text, joined)
            if taken is None:
                break
            value = taken
            last += step
        done = last + 1
        if value == 12 and any(word.text in common.half for word in words[max(0, start - 2) : start]):
            value = 6.0  # half a dozen
        if not (strict and _is_loose(words, start, last, value, lexicon, common)):
            following = tuple(word.text for word in words[last + 1 : last + 4])
            half = any(following[: len(half)] == half for half in lexicon.table.and_a_half)
            values = frozenset({value, value + 0.5} if half else {value})
            if start and words[start - 1].text in common.half_more:
                values = frozenset({value, value + 0.5} if strict else {value + 0.5})
            yield _Number(values, first.start, words[last].end, last)


def _is_loose(
    words: tuple[TextWord, ...], start: int, last: int, value: float, lexicon: _Lexicon, common: _Common
) -> bool:
    """Whether a number word is idiom, range, fraction or back-reference rather than an exact count."""
    before = words[start - 1].text if start else ""
    before2 = words[start - 2].text if start > 1 else ""
    after = words[last + 1].text if last + 1 < len(words) and not words[last].ends_clause else ""
    after2 = words[last + 2].text if after and last + 2 < len(words) and not words[last + 1].ends_clause else ""
    if before in common.denied_by or after in common.fractions:
        return True
    if before in common.range and _is_number(before2, common):
        return True
    if after in common.range and (_is_number(after2, common) or after2 in common.or_more):
        return True
    if value == 2 and before in common.back_references:
        return True
    scales = lexicon.scales
    if words[start].text in scales and (before in common.some or (value >= 1000 and value in scales.values())):
        return True  # a few hundred; a thousand: more than one can count
    return (
        start == last and words[start].text in lexicon.table.unsure and not after.endswith(lexicon.table.plural_endings)
    )


# ---- numbers in text without spaces


@dataclass(frozen=True, eq=False)
class _Characters:
    """Numbers of Chinese and Japanese, whose characters are the same."""

    digits: dict[str, int]
    scales: dict[str, int]
    run: re.Pattern[str]
    """Characters of a number."""
    counted: re.Pattern[str]
    """A number with a counting word behind it."""
    bare_scale: re.Pattern[str]
    about: tuple[re.Pattern[str], ...]
    pairs: tuple[re.Pattern[str], ...]
    dozens: tuple[re.Pattern[str], ...]
    half: frozenset[str]
    in_passing: tuple[tuple[float, str], ...]
    """Numbers, and what names them in passing."""
    syllables: tuple[_Syllables, ...]


@dataclass(frozen=True, eq=False)
class _Syllables:
    """Numbers of Korean: words before a counter, or syllables with a scale."""

    tens: dict[str, int]
    units: dict[str, int]
    digits: dict[str, int]
    scales: dict[str, int]
    counted: re.Pattern[str]


@cache
def _characters(languages: Languages) -> _Characters:
    tables = [language.numerals for language in languages if language.numerals]
    han = [table for table in tables if not table.units]
    digits = {char: value for table in han for char, value in table.digits.items()}
    of_both = {char: value for table in han for char, value in table.of_both.items()}
    scales = {char: value for table in han for char, value in table.scales.items()}
    written = "".join([*digits, *scales])
    counters = "|".join(dict.fromkeys(counter for table in han for counter in table.counters))
    not_after = "".join(table.not_after for table in han)
    return _Characters(
        digits=digits | of_both,
        scales=scales,
        run=re.compile(f"[{written}{''.join(of_both)}]+"),
        counted=re.compile(f"(?<![{not_after}])(?<![{written}])([{written}]+)(?:{counters})"),
        bare_scale=re.compile(f"[{''.join(char for char, value in scales.items() if value > 10)}]+"),
        about=tuple(table.about for table in han if table.about),
        pairs=tuple(table.pair for table in han if table.pair),
        dozens=tuple(table.dozen for table in han if table.dozen),
        half=frozenset(table.half for table in han if table.half),
        in_passing=tuple(
            (float(value), word) for table in tables for value, words in table.in_passing.items() for word in words
        ),
        syllables=tuple(
            _Syllables(
                tens=table.tens, units=table.units, digits=table.digits, scales=table.scales, counted=_syllables(table)
            )
            for table in tables
            if table.units
        ),
    )


def _syllables(table: Numerals) -> re.Pattern[str]:
    some = "".join(char for char, value in table.digits.items() if value)
    return re.compile(
        rf"(?<![가-힣])(?:({'|'.join(table.tens)})?({'|'.join(table.units)})?"
        rf"|((?:[{some}]?[{''.join(table.scales)}])+[{some}]?))\s?(?:{'|'.join(table.counters)})"
    )


def _unspaced(passage: Passage) -> Iterator[_Number]:
    """Exact counts with a counting word behind them."""
    text = passage.plain
    if text.isascii():
        return
    known = _characters(passage.languages)
    for match in known.counted.finditer(text):
        if known.bare_scale.fullmatch(match[1]) or any(about.search(match[1]) for about in known.about):
            continue  # thousands as a manner of speaking; "three or four"
        yield _Number(frozenset({_sum(match[1], known.digits, known.scales)}), match.start(), match.end())
    for pattern in known.pairs:
        for match in pattern.finditer(text):
            yield _Number(frozenset({2.0}), match.start(), match.end())
    for value, match in _dozens(text, known):
        yield _Number(frozenset({value}), match.start(), match.end())
    for value, match in _in_syllables(text, known):
        yield _Number(frozenset({value}), match.start(), match.end())


def _present_unspaced(passage: Passage) -> set[float]:
    """All numbers that text without spaces may be said to name."""
    text = passage.plain
    values: set[float] = set()
    if text.isascii():
        return values
    known = _characters(passage.languages)
    for match in known.run.finditer(text):
        values.add(_sum(match[0], known.digits, known.scales))
        if not set(match[0]) & known.scales.keys():  # 二〇四九; 三四
            values.add(float("".join(str(known.digits[char]) for char in match[0])[:12]))
            values |= {float(known.digits[char]) for char in match[0]}
    values |= {value for value, word in known.in_passing if word in text}
    values |= {value for value, _ in _dozens(text, known)}
    return values | {value for value, _ in _in_syllables(text, known)}


def _dozens(text: str, known: _Characters) -> Iterator[tuple[float, re.Match[str]]]:
    for pattern in known.dozens:
        for match in pattern.finditer(text):
            yield (6.0 if any(half in match[0] for half in known.half) else 12.0), match


def _in_syllables(text: str, known: _Characters) -> Iterator[tuple[float, re.Match[str]]]:
    for table in known.syllables:
        for match in table.counted.finditer(text):
            if match[3]:
                yield _sum(match[3], table.digits, table.scales), match
            elif match[1] or match[2]:
                yield float(table.tens.get(match[1] or "", 0) + table.units.get(match[2] or "", 0)), match


def _sum(text: str, digits: dict[str, int], scales: dict[str, int]) -> float:
    total, section, digit = 0, 0, 0
    for char in text:
        if char in digits:
            digit = digits[char]
        elif scales[char] == 10_000:
            total, section, digit = (total + section + digit) * 10_000, 0, 0
        else:
            section += (digit or 1) * scales[char]
            digit = 0
    return float(min(total + section + digit, _HUGE))
