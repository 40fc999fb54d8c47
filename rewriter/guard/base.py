"""What the rules of the intent guard share: the passage they read, the settings they keep, the finding they make."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from rewriter.guard.language import detect_language
from rewriter.guard.quotes import Quoted, find_quotes

_HAN = re.compile("[\u4e00-\u9fff]")
# Vowel signs of Arabic and of the scripts of India are no letters to `\w`.
_VOWEL_SIGNS = (
    "\u0300-\u036f\u064b-\u0655\u0670\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963"
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
)
_LETTER = f"(?:[^\\W_]|[{_VOWEL_SIGNS}])"
_WORD = re.compile(f"{_LETTER}+(?:['’]{_LETTER}+)*")


class GuardSettings(BaseModel):
    """How strict the guard is: the table [guard] of a style."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    off: tuple[str, ...] = ()
    """Names of rules that are not asked."""
    quotes: Literal["marked", "content"] = "marked"
    """Whether quoted text must stay in quotation marks (of any kind), or only come through."""
    compounds: bool = True
    """Whether the number in a compound ("five-pointed") must come back; no, where shapes have one plain name."""
    max_tokens: int = Field(default=512, ge=16)
    """Longest rewrite, in tokens of the image model's text encoder, by the estimate of `estimate_tokens`."""


@dataclass(frozen=True)
class Finding:
    """One thing that a rewrite broke. `message` is a plain sentence, fit to be shown to the model.

    `text` is the offending words: `start` to `end` of the original (something was lost) or the rewrite (added).
    """

    rule: str
    message: str
    text: str = ""
    side: Literal["original", "rewrite"] = "rewrite"
    start: int = 0
    end: int = 0

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


class Word(NamedTuple):
    """A word in lower case with straight apostrophes, where it stood, and what stands between it and the next."""

    text: str
    start: int
    end: int
    gap: str
    capital: bool

    @property
    def ends_clause(self) -> bool:
        """Whether punctuation other than a hyphen follows."""
        return any(not ch.isspace() and ch != "-" for ch in self.gap)


def _folded(word: str) -> str:
    word = word.lower().replace("’", "'")
    return word if word.isascii() else unicodedata.normalize("NFC", word)


def _has_capital(word: str) -> bool:
    """Whether a word, or what stands behind an elided article, begins with a capital: d'Orsay."""
    return word[0].isupper() or (len(word) > 2 and word[1] in "'’" and word[2].isupper())


@dataclass(frozen=True)
class Passage:
    """A text and what the rules want to know about it, worked out once and only where asked."""

    text: str

    @cached_property
    def quotes(self) -> tuple[Quoted, ...]:
        """Text in quotation marks, in order."""
        return find_quotes(self.text)

    @cached_property
    def plain(self) -> str:
        """The text with quotes blanked out: what is said about the picture, not in it. Places stay the same."""
        plain = self.text
        for quote in self.quotes:
            plain = plain[: quote.start] + " " * (quote.end - quote.start - 1) + "," + plain[quote.end :]
        return plain

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """Words outside quotes, in order."""
        matches = list(_WORD.finditer(self.plain))
        ends = [*(match.start() for match in matches[1:]), len(self.plain)]
        return tuple(
            Word(_folded(m[0]), m.start(), m.end(), self.plain[m.end() : nxt], _has_capital(m[0]))
            for m, nxt in zip(matches, ends, strict=False)
        )

    @cached_property
    def language(self) -> str | None:
        """Two-letter code; None where it cannot be told."""
        return detect_language(self.plain)

    @cached_property
    def is_cjk(self) -> bool:
        """Whether it is Chinese or Japanese: text without spaces, also where it is too short to say which."""
        return self.language in ("zh", "ja") or (self.language is None and _HAN.search(self.plain) is not None)


@dataclass(frozen=True)
class Case:
    """A rewrite on trial."""

    original: Passage
    rewrite: Passage
    settings: GuardSettings


Rule = Callable[[Case], Iterator[Finding]]


def word_set(text: str) -> frozenset[str]:
    """The words of `text`, for the word lists of the rules."""
    return frozenset(text.split())


@lru_cache(maxsize=8192)
def singular(word: str) -> str:
    """A key that an English noun shares with its plural. Not a dictionary form: only good for comparing."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose",
    "feet": "foot", "teeth": "tooth", "wolves": "wolf", "leaves": "leaf", "knives": "knife", "lives": "life",
    "shelves": "shelf", "loaves": "loaf", "heroes": "hero", "potatoes": "potato", "tomatoes": "tomato",
    "buses": "bus", "glasses": "glass", "persons": "person", "halves": "half", "calves": "calf", "oxen": "ox",
}  # fmt: skip
