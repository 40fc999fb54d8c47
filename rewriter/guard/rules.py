"""Rules on form and on text in the picture. What takes more has files of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from rewriter.guard.base import Case, Finding

_BROKEN_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[\"”“](?:t|s|re|ve|ll|d|m)\b", re.IGNORECASE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_LOOP = re.compile(r"(\b\w[\w ,;.'’-]{1,120}?\W+)\1{3,}", re.IGNORECASE)
_WORDS = re.compile(r"\w+")
_TAIL = 24
"""Characters of the end of a text that come three times only in a loop."""
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
    """A model caught in a loop says the same words four times in a row, or ends on what it has said twice before."""
    text, known = case.rewrite.plain, case.original.text.casefold()
    patterns = [pattern for pattern, may in ((_LOOP, _says_a_word_often(text)), (_CJK_LOOP, not text.isascii())) if may]
    spans = [(m[1], m.start(), m.end()) for pattern in patterns if (m := pattern.search(text))]
    tail = text.rstrip()[-_TAIL:]
    if len(tail) == _TAIL and text.count(tail) >= 3:
        spans.append((tail, text.find(tail), len(text)))
    for said, start, end in spans:
        if text[start:end].strip().casefold() not in known:
            yield Finding(
                "repetition", f"The rewrite repeats {said.strip()!r}.", text[start:end], "rewrite", start, end
            )  # fmt: skip
            return


def _says_a_word_often(text: str) -> bool:
    """Whether a word comes four times: without, nothing is said four times in a row, and the slow look is saved."""
    words = _WORDS.findall(text.lower())
    return len(words) >= 4 and max(Counter(words).values()) >= 4


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
        if found and case.settings.quotes == "content":
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
