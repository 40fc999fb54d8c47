"""What a small rewriter had better leave alone: requests that it was not made for are kept as they are, and the user reads why.

    >>> reason_to_keep("def draw():\\n    return 3;", KeepSettings(code=True))
    'code: the request is code or markup rather than words about a picture'

A large model asks itself whether a request is a picture at all, and follows its system message if the request says
otherwise. A small one writes something for anything. So its style says, under [keep], what is kept without asking it.
Deterministic, and in doubt silent: what passes here is still held against the guard's rules.
"""

from __future__ import annotations

import json
import re

from pydantic import BaseModel, ConfigDict, Field

from rewriter.guard import load_languages
from rewriter.guard.content import find_codes
from rewriter.guard.language import may_be_in, script_shares
from rewriter.guard.passage import Passage


class KeepSettings(BaseModel):
    """Which requests are kept: the table [keep] of a style. Without it none are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    languages: tuple[str, ...] = ()
    """Languages that the rewriter reads and writes, as two letters; a request in another one is kept. () for all."""
    syntax: bool = False
    """Requests that hold what a drawing program reads: (red:1.2), <lora:…>, {a|b}, --ar 16:9, BREAK, ((…)), x::2."""
    code: bool = False
    """Requests that are code, markup or data."""
    orders: bool = False
    """Requests that tell the rewriter itself what to do: "ignore the above instructions"."""
    wordless: bool = False
    """Requests without a word."""
    max_words: int | None = Field(default=None, ge=1)
    """Longer requests, which are full prompts already."""


# Each of these takes time that grows linearly with the text (tests/test_linear.py).
_TOOLS = re.compile(
    r"\(\([^()\n]{1,200}\)|\[\[[^\[\]\n]{1,200}\]|\{\{[^{}\n]{1,200}\}|(?<!\S)BREAK(?!\S)|\w::-?\d"
    r"|\A\s{0,9}/imagine\b"
)
_MARKUP = re.compile(
    r"</[a-z][\w:-]{0,40}\s{0,4}>|<!doctype\b|<\?xml\b|<[a-z][\w:-]{0,40}(?:\s[^<>]{0,200})?/>|\\begin\{",
    re.IGNORECASE,
)
_CODE_LINE = re.compile(
    r"^[ \t]{0,80}(?:def \w|class \w+\s?[:({]|import \w[\w.]{0,80}(?: as \w{1,80})?[ \t;]{0,9}$|from [\w.]{1,80} import"
    r"|#include\b|#!/|(?:async )?function\b.{0,80}\(|const \w{1,40} ?=|(?:let|var) \w{1,40} ?="
    r"|public (?:static|class|void)\b|return\b.{0,80};|print\(|console\.|(?:if|for|while) \("
    r"|SELECT\b.{1,200}\bFROM\b|INSERT INTO\b|CREATE TABLE\b|\$ ?(?:sudo|pip|npm|git|cd|ls)\b)",
    re.MULTILINE,
)
_ENOUGH_WORDS = 3
_CODE_MARKS = frozenset("{}[]<>=;$\\|~^@#")
_MARKS_AT_LEAST = 6
_MARKS_SHARE = 0.08
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b[^.!?\n]{0,40}"
    r"\b(?:instructions?|prompts?|rules|above|guidelines|directions|said before|told)\b"
    r"|\b(?:system|developer|hidden|secret) (?:prompt|message|instructions?)\b"
    r"|\byou are (?:now|no longer|not) (?:a|an|my|in|chatgpt|dan)\b|\b(?:jailbreak|developer mode|prompt injection)\b"
    r"|\b(?:reveal|repeat|print|output|show) (?:me )?(?:your|the) (?:instructions|rules|prompt|words above|text above)\b"
    r"|\b(?:reply|respond|answer|output|say|print)(?: back)?(?: to me)? (?:only|just|nothing but|with only|exactly)\b"
    r"|\binstead of (?:rewriting|describing|drawing)\b|\b(?:do not|don't) (?:rewrite|describe)\b",
    re.IGNORECASE,
)


def reason_to_keep(request: str, settings: KeepSettings) -> str | None:
    """Why `request` is kept without asking the model, as a finding ("rule: sentence"); None if it is to be rewritten."""
    passage = Passage(request, load_languages())
    if settings.code and _is_code(request):
        return "code: the request is code or markup rather than words about a picture"
    if settings.syntax and (code := _first_code(request)):
        return f"syntax: {code!r} is for the program that draws; this rewriter keeps a request with such words as it is"
    if settings.orders and (order := _ORDERS.search(passage.plain)):
        return f"orders: {order[0]!r} speaks to the rewriter and does not describe a picture"
    if settings.wordless and not script_shares(request):
        return "words: the request has no word"
    if settings.languages and (language := _foreign(passage, settings.languages)):
        names = " and ".join(load_languages().name(code) for code in settings.languages)
        return f"language: this rewriter writes {names}; the request is in {language}"
    if settings.max_words is not None and (count := len(request.split())) > settings.max_words:
        return f"long: the request has {count} words, and is a full prompt already; this rewriter takes {settings.max_words}"
    return None


def _first_code(request: str) -> str | None:
    match = next(iter(find_codes(request).values()), None) or _TOOLS.search(request)
    return match[0].strip() if match else None


def _is_code(request: str) -> bool:
    text = request.strip()
    if text.startswith("```") or _MARKUP.search(text) or _CODE_LINE.search(text):
        return True
    if text[:1] + text[-1:] in ("{}", "[]"):
        try:
            return isinstance(json.loads(text), dict | list)
        except (ValueError, RecursionError):
            pass
    marks = sum(char in _CODE_MARKS for char in text)
    return marks >= _MARKS_AT_LEAST and marks >= _MARKS_SHARE * len(text)


def _foreign(passage: Passage, languages: tuple[str, ...]) -> str | None:
    """The name of the language that the request is in, outside of its quotes, if it is none of `languages`."""
    shares = script_shares(passage.plain)
    latin = shares.get("latin", 0.0)
    if passage.language is not None:
        known, few = load_languages(), len(passage.words) < _ENOUGH_WORDS
        if passage.language in languages:
            return None
        # Few words in Latin letters are taken for this language or that: their small words have to say so.
        if latin > 0.5 and (few or not may_be_in(passage.plain, passage.language, known)):
            return None
        return known.name(passage.language)
    # Too short to say which it is: its letters may say which it is not.
    return "another language" if shares and latin < 0.5 else None
