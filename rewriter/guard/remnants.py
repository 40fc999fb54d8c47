"""What a language model says around a prompt, or in its place: tags, thought, notes, answers, markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewriter.guard.base import Case, Finding, Passage
from rewriter.guard.phrases import LANGUAGES, anywhere, opening

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
_PARAMETER = re.compile(r"(?<!\S)--[a-z]\w*", re.IGNORECASE)
_QUESTION = re.compile("[?？؟]")
_TWINS = {"zh": ("zh", "ja"), "ja": ("ja", "zh")}
"""Short text in Han letters is easily taken for the other language."""


def remnants(case: Case) -> Iterator[Finding]:
    """Whatever is no description of a picture; what the user wrote is excused."""
    text, plain = _without(case.original, case.rewrite.text), case.rewrite.plain
    known = case.original.plain.casefold()
    languages = _languages(case)
    looked_at = [
        (_TAGS, text),
        (_FORM, text),
        (_PARAMETER, plain),
        *((opening(language), plain) for language in languages),
        *((anywhere(language), plain) for language in languages),
    ]
    for pattern, where in looked_at:
        for match in pattern.finditer(where):
            said = match[0].strip()
            if said.casefold() not in known:
                message = f"The rewrite holds {said!r}, which is not a description of the picture."
                yield Finding("remnants", message, match[0], "rewrite", match.start(), match.end())
                break
    if not _QUESTION.search(case.original.plain) and (mark := _QUESTION.search(plain)):
        message = "The rewrite asks a question; it has to describe the picture."
        yield Finding("remnants", message, mark[0], "rewrite", mark.start(), mark.end())


def _without(original: Passage, text: str) -> str:
    """`text` with what the original quotes blanked out, in its places."""
    for quote in original.quotes:
        text = text.replace(quote.text, " " * len(quote.text))
    return text


def _languages(case: Case) -> list[str]:
    """The languages to look for talk in: that of the request, that of the rewrite, and English."""
    found = {"en": None}
    for passage in (case.original, case.rewrite):
        for language in _TWINS.get(_code(passage), (_code(passage),)):
            found[language] = None
    return [language for language in found if language in LANGUAGES]


def _code(passage: Passage) -> str:
    return passage.language or ("zh" if passage.is_cjk else "en")
