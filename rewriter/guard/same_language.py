"""The rule on language: a rewrite is in the language of the request, from its first sentence to its last."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from rewriter.guard.language import detect_language, guess_language, may_be_in, script_shares
from rewriter.guard.passage import Finding, TextPair

_SENTENCE = re.compile(r"[^.!?;。！？；।؟\n]+")
_KANA = re.compile("[\u3041-\u30fa]")
_MIN_LETTERS = 24
"""A shorter sentence (a name, a lens, a brand) may be in another language."""
_SHOWN = 40
_MOST_SENTENCES = 32
_FEW_CHARACTERS = 2
"""Characters of one kind of Chinese that do not come by chance."""


def language(case: TextPair) -> Iterator[Finding]:
    """At most one finding: the whole is in another language, or in other letters, or drifts off."""
    wanted, got = case.request.language, case.rewrite.language
    if wanted is not None and got is not None and wanted != got and not _mixed(case) and not _shares_its_words(case):
        yield _finding(
            case, f"The request is in {case.languages.name(wanted)}; the rewrite is in {case.languages.name(got)}."
        )
        return
    if {wanted, got} <= {"zh", None} and (message := _other_characters(case)):
        yield _finding(case, message)
        return
    if wanted is None or got is None:
        if message := _other_letters(case):
            yield _finding(case, message)
            return
        # What says nothing else is most often English.
        guess = guess_language(case.request.plain, case.languages) if got == "en" else "en"
        if (
            wanted is None
            and got in case.languages.spelled
            and guess not in (None, got)
            and not may_be_in(case.request.plain, got, case.languages)
            and not _shares_its_words(case)
        ):
            yield _finding(
                case, f"The rewrite is in {case.languages.name(got)} and has no word in common with the request."
            )
            return
    yield from _drift(case)


def _drift(case: TextPair) -> Iterator[Finding]:
    """A sentence in another language than the request, or than the sentences before it."""
    sentences = [m for m in _SENTENCE.finditer(case.rewrite.plain) if _letters(m[0]) >= _MIN_LETTERS]
    if len(sentences) < 2:
        return
    wanted = case.request.language
    allowed: set[str | None] = {wanted, None}
    if wanted is None:
        allowed.add(detect_language(sentences[0][0], case.languages))
    for sentence in sentences[:_MOST_SENTENCES]:
        got = detect_language(sentence[0], case.languages)
        if got not in allowed and not _mixed(case):
            shown = sentence[0].strip()[:_SHOWN]
            message = f"A part of the rewrite is in {case.languages.name(got)}, unlike the rest: {shown!r}."
            yield Finding("language", message, sentence[0], "rewrite", sentence.start(), sentence.end())
            return


def _finding(case: TextPair, message: str) -> Finding:
    shown = case.rewrite.text[:_SHOWN]
    return Finding("language", message, shown, "rewrite", 0, len(shown))


def _letters(text: str) -> int:
    """How much is said, in Latin letters: a Chinese character says as much as three, an Indic one as two."""
    if text.isascii():
        return sum(map(str.isalpha, text))
    return sum(
        3 if "\u3040" <= ch <= "\ud7ff" else 2 if "\u0900" <= ch <= "\u0e7f" else 1 for ch in text if ch.isalpha()
    )


def _other_letters(case: TextPair) -> str | None:
    """What is wrong with the script of the rewrite, if the languages are not recognised."""
    ours, theirs = _merged(script_shares(case.request.plain)), _merged(script_shares(case.rewrite.plain))
    if not ours or not theirs:
        return None
    mine = max(ours, key=lambda name: ours[name])
    other = max(theirs, key=lambda name: theirs[name])
    # A few letters (a name, a unit) do not make a language.
    few = sum(ch.isalpha() for ch in case.request.plain) < 2
    if few or ours.get(other, 0) >= 0.15 or theirs[other] <= 0.6:
        return None
    return f"The request is written in {mine} letters; the rewrite in {other} letters."


def _other_characters(case: TextPair) -> str | None:
    """What is wrong if Chinese in traditional characters comes back in simplified ones, or the other way round."""
    ours, theirs = _chinese_characters(case.request.plain), _chinese_characters(case.rewrite.plain)
    for own, other in (("traditional", "simplified"), ("simplified", "traditional")):
        if ours[own] >= _FEW_CHARACTERS and not ours[other] and theirs[other] >= _FEW_CHARACTERS + theirs[own]:
            return f"The request is written in {own} Chinese characters, the rewrite in {other} ones."
    return None


def _chinese_characters(text: str) -> dict[str, int]:
    """How many characters a text has that only traditional or only simplified Chinese is written with: those that are in
    one of the two old national character sets and not in the other."""
    counts = {"traditional": 0, "simplified": 0}
    if text.isascii() or _KANA.search(text):
        return counts
    for char in text:
        if "\u4e00" <= char <= "\u9fff":
            old, new = _is_in(char, "big5"), _is_in(char, "gb2312")
            counts["traditional"] += old and not new
            counts["simplified"] += new and not old
    return counts


@lru_cache(maxsize=16384)
def _is_in(char: str, charset: str) -> bool:
    try:
        char.encode(charset)
    except UnicodeEncodeError:
        return False
    return True


def _shares_its_words(case: TextPair) -> bool:
    """Whether the longer words of the request, or their beginnings, mostly come back.

    Then the rewrite is no translation, and one of the two languages was guessed wrong. If there is no longer word,
    nothing can be said: that is a yes unless the language is known.
    """
    long = {word.text[:4] for word in case.request.words if len(word.text) >= 4 and word.text.isalpha()}
    if not long:
        return case.request.language is None
    return len(long & {word.text[:4] for word in case.rewrite.words}) > 0.6 * len(long)


def _merged(share: dict[str, float]) -> dict[str, float]:
    """Han and kana are one: a Japanese title can do without kana."""
    east = share.pop("kana", 0) + share.pop("han", 0)
    return share | ({"Chinese or Japanese": east} if east else {})


def _mixed(case: TextPair) -> bool:
    """Prompts that mix scripts may be answered in either."""
    ours, theirs = _merged(script_shares(case.request.plain)), _merged(script_shares(case.rewrite.plain))
    other = max(theirs, key=lambda name: theirs[name])
    return len(ours) > 1 and 0.15 <= ours.get(other, 0) < 0.85
