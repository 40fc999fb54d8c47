"""AlignEvaluator: checklist, judge and aggregation together. One score in [0, 1] for a picture against a request."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from evaluator.checklist import ChecklistBuilder, CoveredChecklists
from evaluator.combine import aggregate
from evaluator.coverage import Lexicon, load_lexicon
from evaluator.criteria.checks import judge_checks, write_feedback
from evaluator.judge import open_judge
from evaluator.types import Checklist, ChecklistMaker, Judge, Outcome, Report, RequestChecks
from redraft.chat import ChatModel, open_chat
from redraft.profiles import EvaluatorConfig, Profile, load_part
from redraft.scope import open_scope


class AlignEvaluator:
    """Scores pictures against a checklist that was made from the user's request, never from a rewrite of it.

    A check passes if its probability is at least `pass_at` (the judge's setting).
    """

    def __init__(
        self, builder: ChecklistMaker, judge: Judge, config: EvaluatorConfig | None = None, *, pass_at: float = 0.5
    ) -> None:
        self.builder = builder
        self.judge = judge
        self.aggregation = (config or EvaluatorConfig()).aggregation
        self._pass_at = pass_at

    async def checklist(self, request: str) -> RequestChecks:
        """The checks for `request`. Raises as the builder does."""
        return await self.builder(request)

    async def score(self, image: Image.Image, request: str, checklist: RequestChecks | Checklist) -> Report:
        """The judge's verdicts on all checks, and their score; None if there are no checks."""
        made = checklist if isinstance(checklist, RequestChecks) else RequestChecks(checklist)
        verdicts = await judge_checks(self.judge, image, request=request, checks=made.checks) if made.checks else ()
        return Report(
            verdicts=verdicts,
            score=aggregate(verdicts, self.aggregation),
            failed=sum(verdict.outcome is Outcome.FAILED for verdict in verdicts),
            feedback=write_feedback(verdicts, self._pass_at),
            unchecked=made.unchecked,
        )


DetectLanguage = Callable[[str], str | None]
"""A text to the code of its language, None if it is not recognised."""


def open_checklists(
    profile: Profile, listing: ChatModel | None = None, *, detect_language: DetectLanguage | None = None
) -> CoveredChecklists:
    """What makes the checklists of `profile`; `listing` is its checklist model if that is open already.

    `detect_language` (the guard's, as a rule) picks the lexicon of a request if the profile names none; None: English.
    Raises ConfigError for settings that cannot be used, ModelMissing if weights are not in their place.
    """
    listing = listing or open_chat(profile.checklist.model or profile.rewriter.model)
    named = profile.checklist.lexicon
    own = None if named is None else load_part(named)

    def find_lexicon(request: str) -> Lexicon:
        if own is not None:
            lexicon: Lexicon = own()
            return lexicon
        return load_lexicon((detect_language(request) if detect_language else None) or "en")

    return CoveredChecklists(
        ChecklistBuilder(listing, profile.checklist),
        asks_freely=profile.judge is None or profile.judge.asks_freely,
        find_lexicon=find_lexicon,
        scope=open_scope(profile),
        rules=None if profile.checklist.rules is None else load_part(profile.checklist.rules),
    )


def open_evaluator(
    profile: Profile, listing: ChatModel | None = None, *, detect_language: DetectLanguage | None = None
) -> tuple[CoveredChecklists, AlignEvaluator]:
    """Checklist maker and AlignEvaluator of `profile`. Arguments and errors are those of `open_checklists`."""
    judging = profile.need_judge()
    builder = open_checklists(profile, listing, detect_language=detect_language)
    judge = open_judge(judging, profile.limits.pass_at)
    return builder, AlignEvaluator(builder, judge, profile.evaluator, pass_at=profile.limits.pass_at)
