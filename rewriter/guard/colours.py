"""Colours: what was bound for in red does not come back in blue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from rewriter.guard.language import Language, Languages
from rewriter.guard.passage import Finding, Passage, TextPair, singular

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class _Palette:
    """The colours of one language in words."""

    language: Language
    exact: dict[str, frozenset[str]]
    """The names of the colours of a word; of a stem, if there are endings."""
    inflected: re.Pattern[str] | None
    adjectives: re.Pattern[str] | None
    verbs: frozenset[str]
    ends_at: frozenset[str]
    """Words behind the noun of a phrase; empty if a noun is not known by them."""

    def families(self, word: str) -> frozenset[str]:
        """Names of the colours that a word may mean."""
        if self.inflected is None:
            return self.exact.get(word, _NONE)
        match = self.inflected.fullmatch(word)
        return self.exact[match[1]] if match else _NONE


@cache
def _palette(language: Language, languages: Languages) -> _Palette:
    table = language.colours
    if table is None or not language.spaced:
        return _palette(languages.english, languages)
    exact: dict[str, frozenset[str]] = {}
    for family, words in table.words.items():
        for word in words:
            exact[word] = exact.get(word, _NONE) | {family}
    stems = "|".join(sorted(exact, key=len, reverse=True))
    shades = f"(?:{'|'.join(table.shades)})?" if table.shades else ""
    return _Palette(
        language=language,
        exact=exact,
        inflected=re.compile(f"{shades}({stems}){table.endings}") if table.endings else None,
        adjectives=table.adjectives,
        verbs=frozenset(table.verbs),
        ends_at=frozenset(table.stops),
    )


@dataclass(frozen=True, eq=False)
class _Common:
    """What all languages have together."""

    stops: frozenset[str]
    too_general: frozenset[str]
    characters: dict[str, str]
    """The name of the colour by its character, in text without spaces."""
    bound: re.Pattern[str]
    """A colour and its noun in such text."""
    short_nouns: str


@cache
def _common(languages: Languages) -> _Common:
    tables = [language.colours for language in languages if language.colours]
    unspaced = [language.colours for language in languages.unspaced if language.colours]
    characters = {word: name for table in unspaced for name, words in table.words.items() for word in words}
    particles = sorted({word for table in unspaced for word in table.particles}, key=len, reverse=True)
    short_nouns = "".join(table.short_nouns for table in unspaced)
    nouns = "|".join(word for table in unspaced for word in table.nouns)
    return _Common(
        stops=frozenset(word for table in tables for word in table.stops),
        too_general=frozenset(word for table in tables for word in table.too_general),
        characters=characters,
        bound=re.compile(
            f"([{''.join(characters)}])(?:(?:{'|'.join(particles)})([\u4e00-\u9fff]{{1,2}})|({nouns}|[{short_nouns}]))"
        ),
        short_nouns=short_nouns,
    )


@dataclass(frozen=True)
class _Bound:
    """A colour and the noun it stands with. `at` is the index of the colour word, or its place in CJK text."""

    noun: str
    """The noun in the singular; `form` as it is written."""
    form: str
    families: frozenset[str]
    at: int
    start: int
    end: int


def colours(case: TextPair) -> Iterator[Finding]:
    """A noun that has a colour in the request has no other in the rewrite, unless it has that one too."""
    palette = _palette(case.request.grammar, case.languages)
    bound = list(_bound(case.request, palette))
    if not bound:
        return
    # A red umbrella among black umbrellas: there the number tells which is meant.
    forms = {pair.form for pair in bound}
    apart = len(forms) > len({pair.noun for pair in bound})
    wanted: dict[str, frozenset[str]] = {}
    for pair in bound:
        noun = pair.form if apart else pair.noun
        wanted[noun] = wanted.get(noun, _NONE) | pair.families
    if finding := _replaced(case, bound, wanted, apart, palette):
        yield finding
        return
    got = [pair for pair in _bound(case.rewrite, palette) if (pair.form if apart else pair.noun) in wanted]
    for noun, families in wanted.items():
        mine = [pair for pair in got if (pair.form if apart else pair.noun) == noun]
        if not mine or any(pair.families & families for pair in mine):
            continue
        taken = {pair.at for pair in got if pair not in mine}
        if not _named_nearby(case.rewrite, families, taken, mine[0].noun, palette):
            yield _finding(case, noun, families, mine[0])


def _finding(case: TextPair, noun: str, families: frozenset[str], pair: _Bound) -> Finding:
    text = case.rewrite.text[pair.start : pair.end]
    message = f"The request has {noun!r} in {' or '.join(sorted(families))}, the rewrite has {text!r}."
    return Finding("colours", message, text, "rewrite", pair.start, pair.end)


def _replaced(
    case: TextPair, bound: list[_Bound], wanted: dict[str, frozenset[str]], apart: bool, palette: _Palette
) -> Finding | None:
    """A colour that is named nowhere any more, while its noun has one that it was not to have."""
    named = _named(case.rewrite, palette)
    for lost in bound:
        if lost.families & named:
            continue
        noun = lost.form if apart else lost.noun
        for pair in _beside(case.rewrite, noun, apart, palette):
            if not pair.families & wanted[noun]:
                return _finding(case, noun, lost.families, pair)
    return None


def _named(passage: Passage, palette: _Palette) -> frozenset[str]:
    """Every colour that a passage names."""
    if not passage.spaced:
        characters = _common(passage.languages).characters
        return frozenset(characters[char] for char in passage.plain if char in characters)
    return frozenset(family for word in passage.words for family in palette.families(word.text))


def _beside(passage: Passage, noun: str, apart: bool, palette: _Palette) -> Iterator[_Bound]:
    """Colours that stand beside a noun, whether or not the phrase ends there."""
    if not passage.spaced:
        yield from (pair for pair in _bound(passage, palette) if pair.noun == noun)
        return
    words = passage.words
    for i, word in enumerate(words):
        families = palette.families(word.text)
        if not families:
            continue
        for j in (i - 1, i - 2) if palette.language.noun_first else (i + 1, i + 2):
            if not 0 <= j < len(words) or words[min(i, j)].ends_clause:
                break
            form = words[j].text
            if _same_noun(form if apart else singular(form), noun, palette):
                start, end = min(word.start, words[j].start), max(word.end, words[j].end)
                yield _Bound(noun=noun, form=form, families=families, at=i, start=start, end=end)


def _same_noun(word: str, noun: str, palette: _Palette) -> bool:
    if word == noun or not palette.inflected:
        return word == noun
    size = max(2, min(len(word), len(noun)) - 2)
    return word[:size] == noun[:size] and abs(len(word) - len(noun)) <= 3


def _bound(passage: Passage, palette: _Palette) -> Iterator[_Bound]:
    common = _common(passage.languages)
    if not passage.spaced:
        for match in common.bound.finditer(passage.plain):
            noun = match[2] or match[3]
            noun = noun[0] if noun[0] in common.short_nouns else noun
            if len(noun) >= 2 or noun in common.short_nouns:
                families = frozenset({common.characters[match[1]]})
                at, end = match.start(), match.end()
                yield _Bound(noun=noun, form=noun, families=families, at=at, start=at, end=end)
        return
    words = passage.words
    for i, word in enumerate(words):
        families = palette.families(word.text)
        if not families:
            continue
        if palette.language.noun_first:
            if i and not words[i - 1].ends_clause and len(words[i - 1].text) > 2:
                noun = words[i - 1].text
                yield _Bound(noun=noun, form=noun, families=families, at=i, start=words[i - 1].start, end=word.end)
            continue
        for j in (i + 1, i + 2):
            if j >= len(words) or words[j - 1].gap != " " or words[j].text in common.stops:
                break
            if palette.families(words[j].text):
                break
            if _ends_phrase(passage, j, palette) and words[j].text not in common.too_general:
                form = words[j].text
                yield _Bound(
                    noun=singular(form), form=form, families=families, at=i, start=word.start, end=words[j].end
                )
                break


def _ends_phrase(passage: Passage, at: int, palette: _Palette) -> bool:
    """Whether the word at `at` is the noun that a phrase is about: "car", not the car of "car windows"."""
    words = passage.words
    if palette.language.capital_nouns:
        return words[at].capital
    if not palette.ends_at:
        return palette.adjectives is None or not palette.adjectives.search(words[at].text)
    if at + 1 >= len(words) or words[at].ends_clause:
        return True
    following = words[at + 1].text
    return words[at].gap == " " and (
        following in palette.ends_at or following in palette.verbs or following.endswith("ing")
    )


def _named_nearby(rewrite: Passage, families: frozenset[str], taken: set[int], noun: str, palette: _Palette) -> bool:
    """Whether the colour of the request is said of the noun in some other way: a car painted red."""
    if not rewrite.spaced:
        characters = _common(rewrite.languages).characters
        return any(characters.get(char) in families and i not in taken for i, char in enumerate(rewrite.plain))
    places = [i for i, word in enumerate(rewrite.words) if singular(word.text) == noun]
    return any(
        i not in taken and palette.families(word.text) & families and any(abs(i - place) <= 6 for place in places)
        for i, word in enumerate(rewrite.words)
    )
