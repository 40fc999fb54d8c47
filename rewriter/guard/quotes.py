"""Rules on text that the picture is to show: it comes back byte for byte, and no other joins it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from rewriter.guard.passage import Finding, TextPair

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_INNER = re.compile(r"['‘“\"「『](.+?)['’”\"」』](?!\w)")


def quoted_text(case: TextPair) -> Iterator[Finding]:
    """Every quoted string of the request comes back byte for byte, in quotation marks of any kind."""
    written = {_composed(quote.text) for quote in case.rewrite.quotes}
    inner = {match[1] for quote in written for match in _INNER.finditer(quote)}
    for quote in dict.fromkeys(case.request.quotes):
        # In "OPEN," the comma belongs to the sentence as often as to the sign.
        text = _composed(quote.text)
        forms = {text, text.rstrip(",."), text.strip()} - {""}
        if forms & (written | inner):
            continue
        comes_through = any(_stands_in(form, _composed(case.rewrite.text)) for form in forms)
        if comes_through and case.settings.quotes == "content":
            continue
        message = (
            f"The text {quote.text!r} lost its quotation marks."
            if comes_through
            else f"The quoted text {quote.text!r} must be kept, character by character."
        )
        yield Finding("quoted_text", message, quote.text, "request", quote.start, quote.end)


def added_text(case: TextPair) -> Iterator[Finding]:
    """If the user said which text the picture shows, no other quoted text is added beside it."""
    if not any(not quote.is_title for quote in case.request.quotes):
        return
    known = _composed(case.request.text).casefold()
    for quote in case.rewrite.quotes:
        if not quote.is_title and _composed(quote.text).strip(" ,.;:!?。，").casefold() not in known:
            yield Finding(
                "added_text",
                f"The text {quote.text!r} was not asked for.",
                quote.text,
                "rewrite",
                quote.start,
                quote.end,
            )


def _composed(text: str) -> str:
    """Letters with their accents in one character (NFC): both ways of writing them are the same text."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


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
