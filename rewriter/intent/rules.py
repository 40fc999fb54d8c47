"""Rules on text in the picture, language and form. Numbers, negations and colours have files of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewriter.intent.base import Case, Finding
from rewriter.intent.language import NAMES, scripts

# English is left out: keywords without a telling word are mostly English, and a good rewrite may use other words.
_LATIN = {"de", "fr", "es", "it", "pt", "nl"}
_BROKEN_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[\"”“](?:t|s|re|ve|ll|d|m)\b", re.IGNORECASE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LOOP = re.compile(r"(\b\w[\w ,;.'’-]{1,120}?\W+)\1{3,}", re.IGNORECASE)
_CJK_LOOP = re.compile(r"([\u3040-\u30ff\u3400-\u9fff，、。]{2,40}?)\1{3,}")


def estimate_tokens(text: str) -> int:
    """Tokens of `text` for a common text encoder: one for a CJK character, one for four other characters.

    An estimate: T5, CLIP and Qwen tokenizers came within a third of it on English prose.
    """
    cjk = len(_CJK.findall(text))
    return cjk + -(-(len(text) - cjk) // 4)


def empty(case: Case) -> Iterator[Finding]:
    """A rewrite that says nothing."""
    if not any(ch.isalnum() for ch in case.rewrite.text):
        yield Finding("empty", "The rewrite is empty.")


def length(case: Case) -> Iterator[Finding]:
    """A rewrite that no text encoder reads to its end. A user's own long prompt may stay as long as it was."""
    limit = max(case.settings.max_tokens, int(1.5 * estimate_tokens(case.original.text)))
    tokens = estimate_tokens(case.rewrite.text)
    if tokens > limit:
        text = case.rewrite.text
        yield Finding(
            "length", f"The rewrite has about {tokens} tokens; at most {limit} are read.", "", "rewrite", 0, len(text)
        )


def repetition(case: Case) -> Iterator[Finding]:
    """A model caught in a loop says the same words four times in a row."""
    for pattern in (_LOOP, _CJK_LOOP):
        match = pattern.search(case.rewrite.plain)
        if match and match[0].strip().casefold() not in case.original.text.casefold():
            yield Finding(
                "repetition",
                f"The rewrite repeats {match[1].strip()!r}.",
                match[0],
                "rewrite",
                match.start(),
                match.end(),
            )
            return


def apostrophes(case: Case) -> Iterator[Finding]:
    """The old mistake of turning don't into don"t."""
    match = _BROKEN_APOSTROPHE.search(case.rewrite.text)
    if match and match[0] not in case.original.text:
        start = max(0, match.start() - 12)
        shown = case.rewrite.text[start : match.end()].split()[-1]
        yield Finding(
            "apostrophes", f"{shown!r} has a quotation mark for an apostrophe.",
            match[0], "rewrite", match.start(), match.end(),
        )  # fmt: skip


def quoted_text(case: Case) -> Iterator[Finding]:
    """Every quoted string of the original comes back byte for byte, in quotation marks of any kind."""
    written = {quote.text for quote in case.rewrite.quotes}
    inner = {text for quote in written for text in _inner(quote)}
    for quote in dict.fromkeys(case.original.quotes):
        # In "OPEN," the comma belongs to the sentence as often as to the sign.
        forms = {quote.text, quote.text.rstrip(",."), quote.text.strip()} - {""}
        if forms & (written | inner):
            continue
        found = any(_stands_in(form, case.rewrite.text) for form in forms)
        if found and (case.settings.quotes == "content" or quote.is_title):
            continue
        message = (
            f"The text {quote.text!r} lost its quotation marks."
            if found
            else f"The quoted text {quote.text!r} must be kept, character by character."
        )
        yield Finding("quoted_text", message, quote.text, "original", quote.start, quote.end)


def added_text(case: Case) -> Iterator[Finding]:
    """Where the user said which text the picture shows, no other quoted text is added beside it."""
    if not any(not quote.is_title for quote in case.original.quotes):
        return
    known = case.original.text.casefold()
    for quote in case.rewrite.quotes:
        if not quote.is_title and quote.text.strip(" ,.;:!?。，").casefold() not in known:
            yield Finding(
                "added_text",
                f"The text {quote.text!r} was not asked for.",
                quote.text,
                "rewrite",
                quote.start,
                quote.end,
            )


def language(case: Case) -> Iterator[Finding]:
    """The rewrite is in the language of the original."""
    asked, got = case.original.language, case.rewrite.language
    if asked is not None and got is not None and asked != got and not _mixed(case):
        yield Finding(
            "language", f"The request is in {NAMES[asked]}; the rewrite is in {NAMES[got]}.",
            case.rewrite.text[:40], "rewrite", 0, len(case.rewrite.text[:40]),
        )  # fmt: skip
    elif asked is None or got is None:
        yield from _script(case)
        if asked is None and got in _LATIN and not _shares_a_word(case):
            message = f"The rewrite is in {NAMES[got]} and has no word in common with the request."
            yield Finding("language", message, case.rewrite.text[:40], "rewrite", 0, len(case.rewrite.text[:40]))


def _script(case: Case) -> Iterator[Finding]:
    ours, theirs = _merged(scripts(case.original.plain)), _merged(scripts(case.rewrite.plain))
    if not ours or not theirs:
        return
    mine = max(ours, key=lambda name: ours[name])
    other = max(theirs, key=lambda name: theirs[name])
    # A few letters (a name, a unit) do not make a language.
    if sum(ch.isalpha() for ch in case.original.plain) >= 2 and ours.get(other, 0) < 0.15 and theirs[other] > 0.6:
        yield Finding(
            "language", f"The request is written in {mine} letters; the rewrite in {other} letters.",
            case.rewrite.text[:40], "rewrite", 0, len(case.rewrite.text[:40]),
        )  # fmt: skip


def _shares_a_word(case: Case) -> bool:
    """Whether a longer word of the original, or its beginning, comes back; True where it has none."""
    long = {word.text[:4] for word in case.original.words if len(word.text) >= 4 and word.text.isalpha()}
    return len(long) < 2 or bool(long & {word.text[:4] for word in case.rewrite.words})


def _merged(share: dict[str, float]) -> dict[str, float]:
    """Han and kana are one: a Japanese title can do without kana."""
    east = share.pop("kana", 0) + share.pop("han", 0)
    return share | ({"Chinese or Japanese": east} if east else {})


def _mixed(case: Case) -> bool:
    """Prompts that mix languages may be answered in either."""
    ours, theirs = _merged(scripts(case.original.plain)), _merged(scripts(case.rewrite.plain))
    other = max(theirs, key=lambda name: theirs[name])
    return len(ours) > 1 and 0.15 <= ours.get(other, 0) < 0.85


def _inner(text: str) -> Iterator[str]:
    for match in re.finditer(r"['‘“\"「『](.+?)['’”\"」』](?!\w)", text):
        yield match[1]


def _stands_in(text: str, rewrite: str) -> bool:
    at = rewrite.find(text)
    while at >= 0:
        before, after = rewrite[at - 1 : at], rewrite[at + len(text) : at + len(text) + 1]
        if not (_glued(before, text[0]) or _glued(text[-1], after)):
            return True
        at = rewrite.find(text, at + 1)
    return False


def _glued(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum() and not (_CJK.match(left) or _CJK.match(right))
