"""Ways of making a judge of pairs: out of one that scores single pictures, out of a chat model that sees two, out of a
judge of edits."""

from __future__ import annotations

import math

from agent.parts import Evaluator
from core.chat import ChatModel, ChatRequest, Message
from core.errors import BackendError
from core.templates import fence, fill, load_template
from eval_suites.judging.types import Preference, Shown
from evaluator.edits.types import Edit, EditJudge
from evaluator.types import Check, Outcome

_YES_NO = ("yes", "no")
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
    """Asks a chat model whether the second of two pictures is better, and reads P(yes) / (P(yes) + P(no)) off its first
    token (RewardDance's comparison). The order can matter."""

    ordered = True

    def __init__(self, chat: ChatModel, min_label_mass: float = 0.5) -> None:
        self._chat = chat
        self._min_mass = min_label_mass
        self._pictures = load_template("eval_suites", "pairwise", "better")
        self._edits = load_template("eval_suites", "pairwise", "better_edit")
        self.name = f"pairwise {chat.name}"

    async def __call__(self, pair: Shown, run: int) -> Preference:
        if pair.check is None:
            question = "Is the second one better?"
        else:
            question = f'Is the answer to "{pair.check.question}" more surely yes for the second one?'
        template = self._pictures if pair.source is None else self._edits
        text = fill(template, fenced_prompt=fence(pair.prompt), question=question)
        pictures = (pair.first, pair.second) if pair.source is None else (pair.source, pair.first, pair.second)
        request = ChatRequest((Message("user", (*pictures, text)),), max_tokens=1, choices=_YES_NO)
        try:
            reply = await self._chat(request)
        except BackendError as error:
            return Preference(None, failure=str(error))
        yes, no = (math.exp(reply.logprobs.get(choice, -math.inf)) for choice in _YES_NO)
        if not math.isfinite(yes + no) or yes + no < self._min_mass or yes + no == 0:
            return Preference(None, failure=f"did not answer yes or no (together {yes + no:.3f} of the probability)")
        return Preference(no / (yes + no))


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
