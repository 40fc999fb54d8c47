"""What the rules share: a text with what is known of it, the pair of texts that is compared, a finding."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from rewriter.guard.language import Language, Languages, detect_language, load_languages

_HAN = re.compile("[\u4e00-\u9fff]")
# Vowel signs of Arabic and of the scripts of India are no letters to `\w`.
_VOWEL_SIGNS = (
    "\u0300-\u036f\u064b-\u0655\u0670\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963"
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
)
_LETTER = f"(?:[^\\W_]|[{_VOWEL_SIGNS}])"
_WORD = re.compile(f"{_LETTER}+(?:['’]{_LETTER}+)*")
_ASCII_WORD = re.compile("[A-Za-z0-9]+(?:'[A-Za-z0-9]+)*")
_APOSTROPHES = "'‘"
_MAX_QUOTE = 300
"""Longest quote, in characters."""


class GuardSettings(BaseModel):
    """How strict the guard is: the table [guard] of a style."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    off: tuple[str, ...] = ()
    """Names of rules that are not checked."""
    quotes: Literal["marked", "content"] = "marked"
    """Whether quoted text must stay in quotation marks (of any kind), or only come through."""
    compounds: bool = True
    """Whether the number in a compound ("five-pointed") must come back; false if shapes have one plain name."""
    max_tokens: int = Field(default=512, ge=16)
    """Longest rewrite, in tokens of the image model's text encoder, by the estimate of `estimate_tokens`."""
    synonyms: tuple[str, ...] = ()
    """Words for one thing, a string for each thing, if rewrites of this style call it by another name than users do."""
    languages: tuple[str, ...] = ()
    """Folders with files of further languages (see `Language`), or better ones of those that come with redraft."""


@dataclass(frozen=True)
class Finding:
    """One thing that a rewrite broke. `message` is a plain sentence, fit to be shown to the model.

    `text` is the offending words: `start` to `end` of the request (something was lost) or the rewrite (added).
    """

    rule: str
    message: str
    text: str = ""
    side: Literal["request", "rewrite"] = "rewrite"
    start: int = 0
    end: int = 0

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


class TextWord(NamedTuple):
    """A word in lower case with straight apostrophes, its place, and what stands between it and the next."""

    text: str
    start: int
    end: int
    gap: str
    capital: bool

    @property
    def ends_clause(self) -> bool:
        """Whether punctuation other than a hyphen follows."""
        return any(not ch.isspace() and ch != "-" for ch in self.gap)


@dataclass(frozen=True)
class Quoted:
    """A quote: `text` lies between its marks, which stand at `start` and `end - 1`."""

    text: str
    start: int
    end: int
    is_title: bool = False
    """The title of a work, as in 《星夜》: named, not written in the picture."""


@dataclass(frozen=True)
class Passage:
    """A text and what the rules want to know about it, worked out once and only if needed."""

    text: str
    languages: Languages

    @cached_property
    def quotes(self) -> tuple[Quoted, ...]:
        """Text in quotation marks, in order."""
        return find_quotes(self.text, self.languages)

    @cached_property
    def plain(self) -> str:
        """The text with quotes blanked out: what is said about the picture, not in it. Places stay the same."""
        plain = self.text
        for quote in self.quotes:
            plain = plain[: quote.start] + " " * (quote.end - quote.start - 1) + "," + plain[quote.end :]
        return plain

    @cached_property
    def words(self) -> tuple[TextWord, ...]:
        """Words outside quotes, in order."""
        plain = self.plain
        places = [match.span() for match in (_ASCII_WORD if plain.isascii() else _WORD).finditer(plain)]
        ends = [*(start for start, _ in places[1:]), len(plain)]
        small = plain.islower() and plain.isascii()  # the common case, and a fast one
        return tuple(
            TextWord(word, start, end, plain[end:following], False)
            if small
            else TextWord(_fold(word), start, end, plain[end:following], _has_capital(word))
            for (start, end), following in zip(places, ends, strict=False)
            for word in (plain[start:end],)
        )

    @cached_property
    def language(self) -> str | None:
        """Two-letter code; None if it is not recognised."""
        return detect_language(self.plain, self.languages)

    @cached_property
    def grammar(self) -> Language:
        """The language that the text is read in: English if it is not recognised."""
        return self.languages.get(self.language)

    @cached_property
    def spaced(self) -> bool:
        """Whether there are spaces between words: not in Chinese and Japanese, even if it is too short to say which."""
        if self.language is None:
            return _HAN.search(self.plain) is None
        return self.grammar.spaced


@dataclass(frozen=True)
class TextPair:
    """A rewrite, and the request that it is held against."""

    request: Passage
    rewrite: Passage
    settings: GuardSettings

    @property
    def languages(self) -> Languages:
        return self.request.languages


Rule = Callable[[TextPair], Iterator[Finding]]


def _fold(word: str) -> str:
    word = word.lower().replace("’", "'")
    return word if word.isascii() else unicodedata.normalize("NFC", word)


def _has_capital(word: str) -> bool:
    """Whether a word, or what stands behind an elided article, begins with a capital: d'Orsay."""
    return word[0].isupper() or (len(word) > 2 and word[1] in "'’" and word[2].isupper())


@lru_cache(maxsize=8192)
def singular(word: str) -> str:
    """A key that an English noun shares with its plural. Not a dictionary form: only good for comparing."""
    irregular = load_languages().english.plurals
    if word in irregular:
        return irregular[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def have_common_beginning(word: str, other: str, most: int = 3) -> bool:
    """Whether two words may be forms of one: a long common beginning, and no more than `most` letters apart."""
    shorter = min(len(word), len(other))
    common = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), shorter)
    return common >= max(3, shorter - 2) and abs(len(word) - len(other)) <= most


@dataclass(frozen=True, eq=False)
class _Marks:
    """Quotation marks of all languages."""

    closers: dict[str, str]
    opener: re.Pattern[str]
    elision: re.Pattern[str]
    titles: str


@cache
def _marks(languages: Languages) -> _Marks:
    closers: dict[str, str] = {}
    for pair in dict.fromkeys(pair for language in languages for pair in language.quotes.marks):
        closers[pair[0]] = closers.get(pair[0], "") + pair[1]
    elided = "|".join(language.quotes.elisions for language in languages if language.quotes.elisions)
    return _Marks(
        closers=closers,
        opener=re.compile(f"[{re.escape(''.join(closers))}]"),
        elision=re.compile(rf"['‘](?:{elided})\b", re.IGNORECASE),
        titles="".join(language.quotes.titles for language in languages),
    )


def find_quotes(text: str, languages: Languages | None = None) -> tuple[Quoted, ...]:
    """All quotes of `text`, outermost only. Apostrophes and inch marks are none, nor are marks around the whole."""
    marks = _marks(languages or load_languages())
    return tuple(q for q in _scan(text, marks) if not _is_whole(q, text))


def _scan(text: str, marks: _Marks) -> Iterator[Quoted]:
    at = 0
    while match := marks.opener.search(text, at):
        start = match.start()
        end = _closing(text, start, marks)
        if end is None:
            at = start + 1
            continue
        yield Quoted(text[start + 1 : end], start, end + 1, match[0] in marks.titles)
        at = end + 1


def _closing(text: str, start: int, marks: _Marks) -> int | None:
    """Where the quote that opens at `start` closes; None if nothing opens there."""
    mark = text[start]
    before, after = text[start - 1 : start], text[start + 1 : start + 2]
    if mark in "\"＂”'" and _joins(before):
        return None
    if mark in _APOSTROPHES and (after.isspace() or marks.elision.match(text, start)):
        return None
    for end in range(start + 2, min(len(text), start + _MAX_QUOTE)):
        char = text[end]
        if char == "\n" and (mark in _APOSTROPHES or text[end - 1] == "\n"):
            return None
        if char in marks.closers[mark]:
            if char in "\"'’" and _joins(text[end + 1 : end + 2]):
                continue
            if char in "'’" and (text[end - 1].isspace() or _closes_elision(text, start, end, marks)):
                continue
            return end if text[start + 1 : end].strip() else None
    return None


def _closes_elision(text: str, start: int, end: int, marks: _Marks) -> bool:
    """Whether the mark at `end` belongs to a word within the quote, as in 'Rock 'n' Roll'; the quote closes later."""
    opened = max(text.rfind("'", start + 1, end), text.rfind("‘", start + 1, end))
    elided = marks.elision.match(text, opened) if opened > start and text[opened - 1].isspace() else None
    return elided is not None and elided.end() == end and text[end] in text[end + 1 : start + _MAX_QUOTE].split("\n")[0]


def _joins(char: str) -> bool:
    """Whether a mark beside `char` is part of a word or a measure; CJK text has no spaces, so marks touch it."""
    return char.isalnum() and not "\u3040" <= char <= "\ud7ff"


def _is_whole(quote: Quoted, text: str) -> bool:
    """A whole prompt pasted in quotes is not text to be drawn; a word or two alone may be."""
    outside = text[: quote.start] + text[quote.end :]
    return not any(ch.isalnum() for ch in outside) and (len(quote.text.split()) >= 4 or len(quote.text) >= 24)
