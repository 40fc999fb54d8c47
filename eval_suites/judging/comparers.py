"""Ways of making a judge of pairs: out of one that scores single pictures, out of a chat model that sees two, out of a
judge of edits."""

from __future__ import annotations

import math

from agent.models import Evaluator
from eval_suites.judging.types import Preference, Shown
from evaluator.edits.types import Edit, EditJudge
from evaluator.pairs.judges import LikertJudge, PairJudge, PicturePair
from evaluator.pairs.ranking import better
from evaluator.types import Check, Outcome

_SMALLEST = 1e-6
_DIMENSIONS = {"prompt_following": "followed", "consistency": "kept"}


def whole(prompt: str) -> Check:
    """The question for a picture as a whole."""
    return Check("whole", f'Does this picture show "{prompt}"?')


class PointwiseComparer:
    """Scores each picture by itself; the higher score is better. The order cannot matter.

    P(first better) = sigmoid(logit s1 - logit s2), the Bradley-Terry model with the scores' odds as strengths.
    """

    ordered = False

    def __init__(self, evaluator: Evaluator, name: str) -> None:
        self._evaluator = evaluator
        self.name = f"pointwise {name}"

    async def __call__(self, pair: Shown, run: int) -> Preference:
        check = pair.check or whole(pair.prompt)
        scores = []
        for image in (pair.first, pair.second):
            report = await self._evaluator.score(image, pair.prompt, (check,))
            if report.score is None:
                failed = [v.reason for v in report.verdicts if v.outcome is Outcome.FAILED]
                return Preference(None, failure=failed[0] if failed else "no answer")
            scores.append(report.score)
        return preference(scores[0], scores[1])


class PairwiseComparer:
    """A judge that is shown both pictures (`evaluator.pairs`). The order can matter."""

    ordered = True

    def __init__(self, judge: PairJudge) -> None:
        self._judge = judge
        self.name = judge.name

    async def __call__(self, pair: Shown, run: int) -> Preference:
        question = None if pair.check is None else pair.check.question
        told = await self._judge(PicturePair(pair.prompt, pair.first, pair.second, pair.source, question))
        return Preference(told.p_first, failure=told.failure)


class LikertComparer:
    """Rates each picture by itself with a word of a scale; P(first better) by Thurstone's model of both ratings."""

    ordered = False

    def __init__(self, judge: LikertJudge) -> None:
        self._judge = judge
        self.name = judge.name

    async def __call__(self, pair: Shown, run: int) -> Preference:
        check = pair.check or whole(pair.prompt)
        one, two = [await self._judge(image, pair.prompt, check.question) for image in (pair.first, pair.second)]
        if one.score is None or two.score is None:
            return Preference(None, failure=one.failure or two.failure)
        p = better(one.score, one.variance, two.score, two.variance)
        return Preference(p, (one.score, two.score))


class EditComparer:
    """Scores each edit by itself with a judge of edits; where the pair is compared in one dimension and the judge
    measures it, by that."""

    ordered = False

    def __init__(self, judge: EditJudge) -> None:
        self._judge = judge
        self.name = judge.name

    async def __call__(self, pair: Shown, run: int) -> Preference:
        if pair.source is None:
            return Preference(None, failure="an edit cannot be judged without the picture it was made from")
        scores = []
        for image in (pair.first, pair.second):
            made = await self._judge(Edit(pair.source, image, pair.prompt))
            if made.overall is None:
                return Preference(None, failure=made.passes[0].failure if made.passes else "no score")
            value = getattr(made, _DIMENSIONS.get(pair.perspective, "overall"))
            scores.append(made.overall if value is None else value)
        return preference(scores[0], scores[1])


def preference(first: float, second: float) -> Preference:
    """The preference that two scores in [0, 1] mean."""
    one, two = (min(max(score, _SMALLEST), 1 - _SMALLEST) for score in (first, second))
    odds = math.log(one / (1 - one)) - math.log(two / (1 - two))
    return Preference(1 / (1 + math.exp(-odds)), (first, second))
