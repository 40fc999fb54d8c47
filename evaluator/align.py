"""AlignEvaluator: checklist, judge and aggregation together. One score in [0, 1] for a picture against a request."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from PIL import Image

from evaluator.checklist import ChecklistBuilder, CoveredChecklists
from evaluator.coverage import Lexicon, load_lexicon
from evaluator.judge import open_judge
from evaluator.keypoints import find_keypoint
from evaluator.types import Checklist, ChecklistMaker, Judge, Outcome, Report, RequestChecks, Verdict
from redraft.chat import ChatModel, open_chat
from redraft.profiles import EvaluatorConfig, Profile, load_part
from redraft.scope import open_scope

Scored = Sequence[tuple[str, float]]
"""(key point id, probability) of each SCORED verdict. Formulas get at least one."""


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


async def judge_checks(judge: Judge, image: Image.Image, *, request: str, checks: Checklist) -> tuple[Verdict, ...]:
    """The judge's verdicts on `checks`, in order, each with the name of the judge in `by`."""
    verdicts = await judge(image, request, checks)
    if [verdict.check for verdict in verdicts] != list(checks):
        raise AssertionError(f"{judge.name} did not answer the checks that it was given, in their order")
    return tuple(verdict if verdict.by else replace(verdict, by=judge.name) for verdict in verdicts)


def aggregate(verdicts: Sequence[Verdict], how: str) -> float | None:
    """One number from the SCORED verdicts, None if there are none. FAILED and NOT_APPLICABLE ones do not count.

    With p_1 ... p_n the probabilities and G the key-point groups that have a scored check:

        group_mean      (1/|G|) sum over g in G of the mean of the p_i in g     (PromptEnhancer, as in its notes)
        mean            (1/n) sum of p_i
        min             least p_i
        geometric_mean  (product of p_i) ** (1/n), 0 if any p_i is 0

    Labels that are none of the 24 key points form one group together. Raises KeyError for an unknown `how`.
    """
    formula = _FORMULAS[how]
    pairs = [(v.check.key_point, v.probability) for v in verdicts if v.outcome is Outcome.SCORED]
    points = [(key_point, p) for key_point, p in pairs if p is not None]
    return formula(points) if points else None


def write_feedback(verdicts: Sequence[Verdict], pass_at: float) -> tuple[str, ...]:
    """One plain sentence for each SCORED check below `pass_at`, worst first. FAILED ones say nothing about the picture."""
    missed = [(v.probability, v) for v in verdicts if v.probability is not None and v.probability < pass_at]
    return tuple(_sentence(v, p) for p, v in sorted(missed, key=lambda pair: pair[0]))


def _sentence(verdict: Verdict, p: float) -> str:
    reason = f" {verdict.reason}" if verdict.reason else ""
    return f"Not satisfied: {verdict.check.question} (p={p:.2f}, {verdict.check.key_point}){reason}"


def _group_mean(points: Scored) -> float:
    groups: dict[str, list[float]] = defaultdict(list)
    for key_point, p in points:
        groups[find_keypoint(key_point).group].append(p)
    return fmean(fmean(group) for group in groups.values())


def _mean(points: Scored) -> float:
    return fmean(p for _, p in points)


def _min(points: Scored) -> float:
    return min(p for _, p in points)


def _geometric_mean(points: Scored) -> float:
    if _min(points) == 0:
        return 0.0
    return math.exp(fmean(math.log(p) for _, p in points))


_FORMULAS: dict[str, Callable[[Scored], float]] = {
    "group_mean": _group_mean,
    "mean": _mean,
    "min": _min,
    "geometric_mean": _geometric_mean,
}


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
        asks_freely=profile.judge.asks_freely,
        find_lexicon=find_lexicon,
        scope=open_scope(profile),
        rules=None if profile.checklist.rules is None else load_part(profile.checklist.rules),
    )


def open_evaluator(
    profile: Profile, listing: ChatModel | None = None, *, detect_language: DetectLanguage | None = None
) -> tuple[CoveredChecklists, AlignEvaluator]:
    """Checklist maker and AlignEvaluator of `profile`. Arguments and errors are those of `open_checklists`."""
    builder = open_checklists(profile, listing, detect_language=detect_language)
    judge = open_judge(profile.judge, profile.limits.pass_at)
    return builder, AlignEvaluator(builder, judge, profile.evaluator, pass_at=profile.limits.pass_at)
