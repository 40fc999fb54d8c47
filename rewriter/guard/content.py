"""Rules on what a request is about: something of its content comes back, and so does what steers the image program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from rewriter.guard.language import Languages
from rewriter.guard.passage import Finding, Passage, TextPair, singular

_HAN_OR_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc\u3400-\u9fff]")
_HANGUL = re.compile("[\uac00-\ud7af]")
_STEM, _STEM_OF_SYLLABLES = 4, 2
"""Letters, or syllables of Korean, that forms of a word share."""
_SYNTAX = re.compile(
    r"<\w+:[^<>\n]+>"  # <lora:detail:0.8>
    r"|\((?=[^()\n:]*[^\W\d])[^()\n:]+:\d(?:\.\d+)?\)"  # (red hat:1.4), not (16:9)
    r"|\[[^\[\]\n:]+:[^\[\]\n:]+:\d+(?:\.\d+)?\]"  # [cat:dog:0.5]
    r"|(?<!\w)__[\w/-]+?__(?!\w)"  # __animal__
    r"|\{[^{}\n]*\|[^{}\n]*\}"  # {red|blue}
    r"|\bembedding:[\w.-]+"
    r"|(?<!\S)--[a-z]\w*(?:[ \t]+[\d.]+(?::[\d.]+)?(?!\S))?",  # --ar 16:9
    re.IGNORECASE,
)
_SYNTAX_CHARS = frozenset("<([{_")


@dataclass(frozen=True, eq=False)
class _Common:
    """Words of all languages that are not what a request is about."""

    words: frozenset[str]
    characters: frozenset[str]
    media: dict[str, str]
    """The kind of picture that a word names."""
    media_unspaced: tuple[tuple[str, str], ...]


@cache
def _common(languages: Languages) -> _Common:
    words: set[str] = set()
    characters: set[str] = set()
    media: dict[str, str] = {}
    media_unspaced: dict[str, str] = {}
    for language in languages:
        for table in (language.negation, language.counts, language.colours):
            words |= set(table.stops) if table else set()
        if language.negation:
            words |= {*language.negation.cues, *language.negation.skipped, *language.negation.too_general}
        if language.numbers:
            words |= {form for forms in (*language.numbers.from_zero, *language.numbers.tens) for form in forms}
        if language.numerals:
            characters |= {*language.numerals.digits, *language.numerals.scales, *language.numerals.counters}
        if language.colours:
            (words if language.spaced else characters).update(*language.colours.words.values())
        named = {word for kind in language.media.values() for word in kind}
        (words if language.spaced else characters).update(named if language.spaced else "".join(named))
        for kind, forms in language.media.items():
            (media if language.spaced else media_unspaced).update(dict.fromkeys(forms, kind))
    media = {word: kind for word, kind in media.items() if kind != "other"}
    return _Common(
        words=frozenset(words),
        characters=frozenset(characters),
        media=media,
        media_unspaced=tuple(media_unspaced.items()),
    )


def subject(case: TextPair) -> Iterator[Finding]:
    """Something of what the request is about comes back: a cat does not become a golden retriever on a lawn.

    Numbers, colours, small words and the medium do not count, for they fit any subject.
    """
    wanted = _content(case.request)
    for group in _synonyms(case.settings.synonyms):
        wanted |= group if group & wanted else set()
    if not wanted or _content(case.rewrite) & wanted:
        return
    text = case.rewrite.text.casefold()
    if any(stem in text for stem in wanted) or any(quote.text.casefold() in text for quote in case.request.quotes):
        return
    if case.rewrite.spaced != case.request.spaced:
        return  # another script, which is the business of the rule on language
    message = "The rewrite has nothing of what the request is about."
    yield Finding("subject", message, case.request.text, "request", 0, len(case.request.text))


def medium(case: TextPair) -> Iterator[Finding]:
    """An oil painting does not become a 3D render."""
    wanted = _media(case.request)
    if not wanted:
        return
    shown = _media(case.rewrite)
    if shown and not shown & wanted:
        kinds = " or ".join(sorted(wanted))
        yield Finding("medium", f"The request wants a {kinds}, the rewrite has a {' or '.join(sorted(shown))}.")


def _media(passage: Passage) -> set[str]:
    """The kinds of pictures that a passage names."""
    common = _common(passage.languages)
    if not passage.spaced:
        return {kind for word, kind in common.media_unspaced if word in passage.plain}
    return {common.media[word.text] for word in passage.words if word.text in common.media}


def _content(passage: Passage) -> set[str]:
    """The stems of the words, or the characters, that say what a passage is about."""
    common = _common(passage.languages)
    if not passage.spaced:
        return set(_HAN_OR_KATAKANA.findall(passage.text)) - common.characters
    return {stem for word in passage.words if not _is_common(word.text, common.words) and (stem := _stem(word.text))}


def _stem(word: str) -> str:
    """What a word shares with its other forms; "" if it is too short to say anything."""
    if _HANGUL.match(word):
        return word[:_STEM_OF_SYLLABLES] if len(word) > 1 else ""
    return singular(word)[:_STEM] if len(word) > 2 else ""


@cache
def _synonyms(groups: tuple[str, ...]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(_stem(word) for word in group.split()) for group in groups)


def _is_common(word: str, words: frozenset[str]) -> bool:
    return word in words or word.removesuffix("s") in words or word.isdigit()


def _codes(text: str) -> dict[str, re.Match[str]]:
    """What a program reads in `text`, with white space and case evened out."""
    if _SYNTAX_CHARS.isdisjoint(text) and "--" not in text and "embedding:" not in text:
        return {}  # the slow look is saved
    return {" ".join(match[0].split()).casefold(): match for match in _SYNTAX.finditer(text)}


def syntax(case: TextPair) -> Iterator[Finding]:
    """What a program reads (<lora:…>, (x:1.2), __wildcard__, {a|b}, embedding:x, --ar) is neither lost nor invented."""
    ours, theirs = _codes(case.request.text), _codes(case.rewrite.text)
    for code, match in ours.items():
        if code not in theirs:
            message = f"{match[0]!r} is for the program that draws; it must come back as it is."
            yield Finding("syntax", message, match[0], "request", match.start(), match.end())
    for code, match in theirs.items():
        if code not in ours:
            message = f"{match[0]!r} is not in the request, and is no description of the picture."
            yield Finding("syntax", message, match[0], "rewrite", match.start(), match.end())
