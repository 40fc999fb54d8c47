"""Checklists without a model: the request's own passages, one question each.

    [checklist]
    by = "rules"

is for profiles whose language model cannot write questions, such as `small`. The questions hold the user's own words, so nothing
is lost and nothing invented; but they are coarse (what one passage says is asked about at once), know no pronouns, and put the
burden on the judge, who must be one that can be asked anything. A language model that follows instructions writes better ones.

    >>> [check.question for check in write_checks("a red fox and two owls without hats")]
    ['Does the picture fit these words: red fox?', 'Does the picture fit these words: two owls without hats?']
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence

from evaluator.checklist import ChecklistResult, overall_check, own_words_check
from evaluator.coverage import Lexicon, find_coverage, list_quotes, load_lexicon
from evaluator.types import Check, Checklist
from redraft.errors import InputError

_WORD = re.compile(r"[^\W_]+")
_MARKS = tuple("'\"”’»“")
_ARTICLE = re.compile(r"^(?:an?|the) ")


def write_checks(request: str, lexicon: Lexicon | None = None) -> Checklist:
    """A check for each passage of the request, and one more for each text in quotation marks; () if it has no content.

    Passages end at punctuation and at what asks for nothing ("please"), and before a thing with an article or number of its
    own behind "and". A passage with a number asks for counting, one with a negation for that, others for the user's own words.
    """
    lexicon = lexicon or load_lexicon()
    quoted = list_quotes(request)
    passages = [_closed(passage, request) for passage in find_coverage(request, (), lexicon).uncovered_phrases]
    checks = [_check(part, quoted, lexicon) for passage in passages for part in _split(passage, lexicon)]
    texts = [Check("text_rendering", f'Can the text "{text}" be read in the picture?') for text in quoted]
    return tuple(dict.fromkeys((*checks, *texts)))


class PassageWriter:
    """An `evaluator.checklist.ChecklistWriter` of `write_checks`; at most `max_checks` of them."""

    def __init__(self, find_lexicon: Callable[[str], Lexicon], max_checks: int) -> None:
        self._find_lexicon = find_lexicon
        self._max_checks = max_checks

    async def build(self, request: str, left_out: Sequence[str] = ()) -> ChecklistResult:
        """The checks; nothing for `left_out`, as the same rules would give the same."""
        if not request.strip():
            raise InputError("the request is empty; say what the picture should show")
        checks = () if left_out else await asyncio.to_thread(self._write, request)
        dropped = max(0, len(checks) - self._max_checks)
        if not checks:
            return ChecklistResult((overall_check(request),), fallback=True)
        return ChecklistResult(checks[: self._max_checks], dropped=dropped)

    def _write(self, request: str) -> Checklist:
        return write_checks(request, self._find_lexicon(request))


def _closed(passage: str, request: str) -> str:
    """With the quotation mark behind it, if it ends in a quoted text: passages end with their last word."""
    mark = request[request.find(passage) + len(passage) :][:1]
    return passage + mark if mark in _MARKS else passage


def _split(passage: str, lexicon: Lexicon) -> list[str]:
    """The passage in parts, before each "and" with an article or a number behind it."""
    if lexicon.language != "en" or list_quotes(passage):
        return [passage]
    opens = "|".join(map(re.escape, ("a", "an", "the", *sorted(lexicon.numbers))))
    parts = re.split(rf" and (?=(?:{opens}|\d+) )", passage)
    return [_ARTICLE.sub("", part) for part in parts]


def _check(passage: str, quoted: Sequence[str], lexicon: Lexicon) -> Check:
    check, said = own_words_check(passage), passage
    for text in quoted:
        said = said.replace(text, "")
    words = [match[0].casefold() for match in _WORD.finditer(said)]
    if any(word in lexicon.negations for word in words):
        return Check("negation", check.question)
    if any(word in lexicon.numbers or word.isdecimal() for word in words):
        return Check("counting", check.question)
    return check
