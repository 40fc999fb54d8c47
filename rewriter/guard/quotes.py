"""Quoted text: what a picture is to say must come through byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# What may close a quote that the key opens. The same curly mark opens in one language and closes in another.
_CLOSERS = {
    '"': '"', "＂": "＂", "“": "”“", "„": "“”\"", "”": "”“", "«": "»", "»": "«", "‹": "›", "›": "‹",
    "「": "」", "『": "』",
    "《": "》", "〈": "〉", "﹁": "﹂", "﹃": "﹄", "〝": "〟〞", "'": "'", "‘": "’", "‚": "‘’", "`": "`",
}  # fmt: skip
_APOSTROPHES = "'‘"
_TITLES = "《〈"
_OPENER = re.compile("[" + "".join(_CLOSERS) + "]")
# Words that begin with an apostrophe: the '90s, rock 'n' roll.
_ELISION = re.compile(r"['‘](?:\d\ds?\b|(?:n|em|til|tis|twas|cause|round|bout|neath|tween|cept|kay)\b)", re.IGNORECASE)
_MAX_CHARS = 300


@dataclass(frozen=True)
class Quoted:
    """A quote: `text` lies between its marks, which stand at `start` and `end - 1`."""

    text: str
    start: int
    end: int
    mark: str

    @property
    def is_title(self) -> bool:
        """The title of a work, as in 《星夜》: named, not written in the picture."""
        return self.mark in _TITLES


def find_quotes(text: str) -> tuple[Quoted, ...]:
    """All quotes of `text`, outermost only. Apostrophes and inch marks are none, nor are marks around the whole."""
    return tuple(q for q in _scan(text) if not _is_whole(q, text))


def _scan(text: str) -> Iterator[Quoted]:
    at = 0
    while match := _OPENER.search(text, at):
        start = match.start()
        end = _closing(text, start)
        if end is None:
            at = start + 1
            continue
        yield Quoted(text[start + 1 : end], start, end + 1, match[0])
        at = end + 1


def _closing(text: str, start: int) -> int | None:
    """Where the quote that opens at `start` closes; None where nothing opens there."""
    mark = text[start]
    before, after = text[start - 1 : start], text[start + 1 : start + 2]
    if mark in "\"＂”'" and _joins(before):
        return None
    if mark in _APOSTROPHES and (after.isspace() or _ELISION.match(text, start)):
        return None
    for end in range(start + 2, min(len(text), start + _MAX_CHARS)):
        char = text[end]
        if char == "\n" and (mark in _APOSTROPHES or text[end - 1] == "\n"):
            return None
        if char in _CLOSERS[mark]:
            if char in "\"'’" and _joins(text[end + 1 : end + 2]):
                continue
            if char in "'’" and text[end - 1].isspace():
                continue
            return end if text[start + 1 : end].strip() else None
    return None


def _joins(char: str) -> bool:
    """Whether a mark beside `char` is part of a word or a measure; CJK text has no spaces, so marks touch it."""
    return char.isalnum() and not "\u3040" <= char <= "\ud7ff"


def _is_whole(quote: Quoted, text: str) -> bool:
    """A whole prompt pasted in quotes is not text to be drawn; a word or two alone may be."""
    outside = text[: quote.start] + text[quote.end :]
    return not any(ch.isalnum() for ch in outside) and (len(quote.text.split()) >= 4 or len(quote.text) >= 24)
