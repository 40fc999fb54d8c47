"""Rules on form: a rewrite says something, comes to an end, and is nothing but the description of a picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from rewriter.guard.language import Language
from rewriter.guard.passage import Finding, Passage, TextPair

_BROKEN_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[\"”“](?:t|s|re|ve|ll|d|m)\b", re.IGNORECASE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LOOP = re.compile(r"(\b\w[\w ,;.'’-]{1,120}?\W+)\1{3,}", re.IGNORECASE)
_WORDS = re.compile(r"\w+")
_TAIL = 24
"""Characters of the end of a text that come three times only in a loop."""
_CJK_LOOP = re.compile(r"([\u3040-\u30ff\u3400-\u9fff，、。]{2,40}?)\1{3,}")
_TAGS = re.compile(
    r"</?\s*(?:think\w*|thought|answer|reasoning|analysis|final|prompt|user_prompt|last_rewrite|found)\b"
    r"|<\|\w+\|?>|\[/?(?:INST|SYS)\]|<</?SYS>>|</?s>|\A\s*(?:system|user|assistant)\s*:",
    re.IGNORECASE,
)
_FORM = re.compile(
    r"^\s{0,3}#{1,6}\s+\S"  # a heading
    r"|^\s*(?:```|~~~)|```"
    r"|^\s*(?:[-*•·]|\d{1,2}[.)])\s+\S.*\n(?=\s*(?:[-*•·]|\d{1,2}[.)])\s)"  # two items of a list
    r"|\*\*[^*\n]+\*\*|(?<!\w)__[^_\n]+__(?!\w)|^\s*\*[^*\n]+\*\s*$"
    r"|^\s*(?:-{3,}|\*{3,}|_{3,})\s*$|^\s*\|.*\|\s*$"
    r"|(?:^|(?<=[.;]\s))\s*(?:positive|negative)(?: prompt)?\s*:"
    r"|<lora:"
    r"|\A\s*[\[{]\s*[\"']?\w*(?:prompt|text|answer|caption)\w*[\"']?\s*:",
    re.IGNORECASE | re.MULTILINE,
)
_MARKUP = re.compile(
    r"</?[a-z][\w:-]*(?:\s[^<>\n]*)?/?>"  # any tag of HTML, SVG or XML
    r"|\{\s*[\"'][^\"'\n]+[\"']\s*:|\A\s*\[\s*[\"'{]"  # JSON
    r"|\\(?:boxed|text|textbf|begin|mathrm)\{"
    r"|&(?:[a-z]{2,8}|#\d{2,5}|#x[0-9a-f]{2,5});"
    r"|\\n|\\t(?![a-z])|\\[\"']",  # a line break or a quotation mark that was escaped twice
    re.IGNORECASE,
)
# Without one of these characters a pattern matches nowhere, and the slow look is saved.
_TAG_CHARS = frozenset("<[:")
_FORM_CHARS = frozenset("#`~*_|:\n")
_MARKUP_CHARS = frozenset("<{[&\\")
_PARAMETER = re.compile(r"(?<!\S)--[a-z]\w*", re.IGNORECASE)
_QUESTION = re.compile("[?？؟]")


def estimate_tokens(text: str) -> int:
    """Tokens of `text` for a common text encoder: one for a CJK character, one for four other characters.

    An estimate: T5, CLIP and Qwen tokenizers came within a third of it on English prose.
    """
    cjk = len(_CJK.findall(text))
    return cjk + -(-(len(text) - cjk) // 4)


def empty(case: TextPair) -> Iterator[Finding]:
    """A rewrite that says nothing."""
    if not any(ch.isalnum() for ch in case.rewrite.text):
        yield Finding("empty", "The rewrite is empty.")


def length(case: TextPair) -> Iterator[Finding]:
    """A rewrite that no text encoder reads to its end. A user's own long prompt may stay as long as it was."""
    limit = max(case.settings.max_tokens, int(1.5 * estimate_tokens(case.request.text)))
    tokens = estimate_tokens(case.rewrite.text)
    if tokens > limit:
        text = case.rewrite.text
        yield Finding(
            "length", f"The rewrite has about {tokens} tokens; at most {limit} are read.", "", "rewrite", 0, len(text)
        )


def repetition(case: TextPair) -> Iterator[Finding]:
    """A model caught in a loop says the same words four times in a row, or ends on what it has said twice before."""
    text, known = case.rewrite.plain, case.request.text.casefold()
    patterns = [pattern for pattern, may in ((_LOOP, _says_a_word_often(text)), (_CJK_LOOP, not text.isascii())) if may]
    spans = [(m[1], m.start(), m.end()) for pattern in patterns if (m := pattern.search(text))]
    tail = text.rstrip()[-_TAIL:]
    if len(tail) == _TAIL and text.count(tail) >= 3:
        spans.append((tail, text.find(tail), len(text)))
    for words, start, end in spans:
        if text[start:end].strip().casefold() not in known:
            yield Finding(
                "repetition", f"The rewrite repeats {words.strip()!r}.", text[start:end], "rewrite", start, end
            )  # fmt: skip
            return


def _says_a_word_often(text: str) -> bool:
    """Whether a word comes four times: without, nothing is said four times in a row, and the slow look is saved."""
    words = _WORDS.findall(text.lower())
    return len(words) - len(set(words)) >= 3 and max(Counter(words).values()) >= 4


def apostrophes(case: TextPair) -> Iterator[Finding]:
    """The old mistake of turning don't into don"t."""
    match = _BROKEN_APOSTROPHE.search(case.rewrite.text)
    if match and match[0] not in case.request.text:
        start = max(0, match.start() - 12)
        shown = case.rewrite.text[start : match.end()].split()[-1]
        yield Finding(
            "apostrophes", f"{shown!r} has a quotation mark for an apostrophe.",
            match[0], "rewrite", match.start(), match.end(),
        )  # fmt: skip


def remnants(case: TextPair) -> Iterator[Finding]:
    """Whatever is no description of a picture; what the user wrote is excused."""
    text, plain = _without(case.request, case.rewrite.text), case.rewrite.plain
    known = case.request.plain.casefold()
    chats = [_chat(language) for language in _languages(case)]
    looked_at = [
        *([(_TAGS, text)] if not _TAG_CHARS.isdisjoint(text) else []),
        *([(_FORM, text)] if not _FORM_CHARS.isdisjoint(text) or "---" in text else []),
        *([(_MARKUP, text)] if not _MARKUP_CHARS.isdisjoint(text) else []),
        *([(_PARAMETER, plain)] if "--" in plain else []),
        *((chat.opening, plain) for chat in chats),
        *((chat.anywhere, plain) for chat in chats if any(kind.search(plain) for kind in chat.kinds)),
    ]
    for pattern, searched in looked_at:
        for match in pattern.finditer(searched):
            words = match[0].strip()
            if not _is_known(words.casefold(), known, case.request.spaced):
                message = f"The rewrite holds {words!r}, which is not a description of the picture."
                yield Finding("remnants", message, match[0], "rewrite", match.start(), match.end())
                break
    if not _QUESTION.search(case.request.plain) and (mark := _QUESTION.search(plain)):
        message = "The rewrite asks a question; it has to describe the picture."
        yield Finding("remnants", message, mark[0], "rewrite", mark.start(), mark.end())


def _is_known(words: str, known: str, spaced: bool) -> bool:
    """Whether the request says the words, too; short ones not inside of others, as the Italian io is in vecchio."""
    if spaced and len(words) <= 3:
        return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", known) is not None
    return words in known


def _without(request: Passage, text: str) -> str:
    """`text` with what the request quotes blanked out, in its places."""
    for quote in request.quotes:
        text = text.replace(quote.text, " " * len(quote.text))
    return text


def _languages(case: TextPair) -> list[Language]:
    """The languages to look for chat in: that of the request, that of the rewrite, and English."""
    languages = {"en": case.languages.english}
    for passage in (case.request, case.rewrite):
        if passage.language is not None or passage.spaced:
            languages[passage.grammar.code] = passage.grammar
        if not passage.spaced:  # short text in Han letters is easily taken for the other language
            languages |= {language.code: language for language in case.languages.unspaced}
    return [language for language in languages.values() if language.chat]


@dataclass(frozen=True, eq=False)
class _Chat:
    """How chat begins, and chat wherever it stands. Matched against text without quotes, so that a sign may say what it
    likes."""

    opening: re.Pattern[str]
    anywhere: re.Pattern[str]
    kinds: tuple[re.Pattern[str], ...]
    """The alternatives of `anywhere`. To search for them one by one takes a third of the time."""


@cache
def _chat(language: Language) -> _Chat:
    opening, anywhere = (language.chat.opening, language.chat.anywhere) if language.chat else (("(?!)",), ("(?!)",))
    return _Chat(
        opening=re.compile(rf"\A\W*(?:{'|'.join(opening)})", re.IGNORECASE),
        anywhere=re.compile("|".join(anywhere), re.IGNORECASE),
        kinds=tuple(re.compile(kind, re.IGNORECASE) for kind in anywhere),
    )
