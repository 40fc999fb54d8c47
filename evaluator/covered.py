"""The checklist of a request, held to its words: what is judged by it, and what nobody checks.

    make = CoveredChecklists(ChecklistBuilder(chat, config), asks_freely=True)
    made = await make("a red star between two blue circles")
    made.checks, made.unchecked, made.warnings

The model writes the checklist. Checks that ask about nothing in the request are dropped. The model is asked once more for
the words that are left out. Words that are still left out become a check of their own, in the user's own words, if the judge
can be asked any question; otherwise nobody checks them, and no picture of the request is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from evaluator.checklist import OVERALL, ChecklistResult, overall_check
from evaluator.coverage import Coverage, Lexicon, find_coverage, load_lexicon
from evaluator.types import Check, Checklist, RequestChecks
from redraft.scope import Scope

OWN_WORDS = "own_words"
"""Key point of the checks on the user's own words."""
AS_A_WHOLE = "no checklist could be made of the request; the picture is judged as a whole"
_SHOWN = 3
"""Invented checks that a warning names."""

FindLexicon = Callable[[str], Lexicon]
"""A request to what is known of its language."""
MendChecks = Callable[[str, Checklist], Checklist]
"""A request and its checklist to a better one."""


class ChecklistWriter(Protocol):
    """Asks a model for checks; `left_out` are the passages of the request that its first checklist did not ask about.

    After a bad reply the result is the one question about the whole picture. Raises BackendError if the model cannot be
    reached.
    """

    async def build(self, request: str, left_out: Sequence[str] = ()) -> ChecklistResult: ...


class CoveredChecklists:
    """A ChecklistMaker over a model that writes checks.

    `asks_freely`: whether the judge can be asked any question. `scope`: what the profile knows, if that is less than
    everything; words outside are unchecked, whatever is asked about them. `rules` mend what the
    model wrote, which is then not asked once more.
    """

    def __init__(
        self,
        writer: ChecklistWriter,
        *,
        asks_freely: bool = True,
        find_lexicon: FindLexicon | None = None,
        scope: Scope | None = None,
        rules: MendChecks | None = None,
    ) -> None:
        self._writer = writer
        self._asks_freely = asks_freely
        self._find_lexicon = find_lexicon or (lambda _: load_lexicon())
        self._scope = scope
        self._rules = rules

    async def __call__(self, request: str) -> RequestChecks:
        """Raises InputError if the request is empty, BackendError if the model cannot be reached."""
        lexicon = self._find_lexicon(request)
        outside = () if self._scope is None else self._scope.words_outside(request)
        warnings = [] if self._scope is None or not outside else [self._scope.warn(outside)]
        made = await self._writer.build(request)
        if made.warning:
            warnings.append(made.warning)
        checks = made.checks if self._asks_freely or not made.fallback else ()
        coverage = find_coverage(request, checks, lexicon)
        invented = coverage.invented
        if not self._asks_freely:
            # In another script than the request's nothing can be compared; such a judge has no other language.
            invented = tuple(check for check in checks if check in invented or not coverage.anchored_by[check])
        checks = _without(checks, invented)
        if self._rules is not None:
            checks = self._rules(request, checks)
            coverage = find_coverage(request, checks, lexicon)
        elif coverage.uncovered:
            checks += await self._ask_again(request, checks, coverage, invented=invented, lexicon=lexicon)
            coverage = find_coverage(request, checks, lexicon)
        if self._asks_freely:
            checks += tuple(map(own_words_check, coverage.uncovered_phrases))
            checks = checks or (overall_check(request),)
        if any(check.key_point == OVERALL for check in checks):
            warnings.append(AS_A_WHOLE)
        if invented:
            warnings.append(_say_invented(invented))
        # A request without content words, such as "something nice", has nothing that a check could be about.
        left = coverage.uncovered if checks else list_content_words(request, lexicon)
        if self._asks_freely:
            left = ()  # each is asked about in the user's own words
        unchecked = _in_order(request, (*left, *outside))
        if len(unchecked) > len(outside):
            warnings.append(f"nothing checks these words, so no picture will be accepted: {', '.join(unchecked)}")
        return RequestChecks(checks, unchecked=unchecked, invented=invented, warnings=tuple(warnings))

    async def _ask_again(
        self, request: str, checks: Checklist, coverage: Coverage, *, invented: Checklist, lexicon: Lexicon
    ) -> Checklist:
        """More checks, of which each asks about words that `checks` leave out."""
        made = await self._writer.build(request, coverage.uncovered_phrases)
        if made.fallback:
            return ()
        new = _without(made.checks, (*checks, *invented))
        anchored = find_coverage(request, (*checks, *new), lexicon)
        wanted = set(coverage.uncovered)
        new = _without(new, anchored.invented)
        return tuple(check for check in new if wanted.intersection(anchored.anchored_by[check]))


def list_content_words(request: str, lexicon: Lexicon) -> tuple[str, ...]:
    """The words of a request that nothing checks if there are no checks; the whole request if it has no content words."""
    return find_coverage(request, (), lexicon).uncovered or (" ".join(request.split()),)


def own_words_check(phrase: str) -> Check:
    """A check on a passage of the request, as the user wrote it."""
    return Check(OWN_WORDS, f"Does the picture fit these words: {' '.join(phrase.split())}?")


def _without(checks: Checklist, dropped: Sequence[Check]) -> Checklist:
    return tuple(check for check in checks if check not in dropped)


def _say_invented(invented: Checklist) -> str:
    shown = ", ".join(f'"{check.question}"' for check in invented[:_SHOWN])
    more = f" and {len(invented) - _SHOWN} more" if len(invented) > _SHOWN else ""
    return f"dropped from the checklist, because the request says nothing of it: {shown}{more}"


def _in_order(request: str, words: Sequence[str]) -> tuple[str, ...]:
    """The words, each once whatever its case, in the order of the request."""
    plain = request.casefold()
    each = {word.casefold(): word for word in reversed(words)}
    return tuple(sorted(each.values(), key=lambda word: plain.find(word.casefold())))
