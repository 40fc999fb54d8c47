"""Judging the edits of a picture that the user gave: the questions, and what they come to with what was kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from PIL import Image

from evaluator.align import aggregate
from evaluator.checklist import overall_check
from evaluator.edits.checks import overall_edit_check
from evaluator.edits.preservation import preserved_outside
from evaluator.edits.types import Edit, EditChecks, EditJudge
from evaluator.types import Check, Judge, Outcome, Report, Verdict
from mini.phrasebook.aftermath import Aftermath, Seen
from mini.phrasebook.phrases import Phrases

KEPT = Check("preservation", "Is everything as it was that was not to change?")
DONE = Check("edit_score", "Was the edit done, and nothing else?")
SURE = 0.8
"""What the judge is less sure of before the edit is not asked after it: the answer may turn without a cause."""
_FAR = Image.Resampling.BILINEAR


class LookingEditChecks:
    """An EditChecklistMaker that reads the instruction off a phrase book, and has the judge look at the picture.

    What the book says pictures may hold, the judge is asked about; `mini.phrasebook.aftermath` works out what should be there
    afterwards, and what must stay. Where the book does not know a part of the instruction one question about the whole
    stands in for it, and nothing is said of the rest, since that part may mean any of it.
    """

    def __init__(self, phrases: Phrases, judge: Judge, pass_at: float = 0.5) -> None:
        self._phrases = phrases
        self._judge = judge
        self._pass_at = pass_at

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks:
        clauses = self._phrases.read(instruction)
        if not all(clause.known for clause in clauses):
            told = [Check(*check) for clause in clauses for check in clause.checks]
            return EditChecks((*dict.fromkeys(told), overall_edit_check(instruction)))
        after = Aftermath(self._phrases, clauses, await self._look(source, instruction), self._pass_at)
        wanted = [Check(*asked) for asked in after.wanted()] or [overall_edit_check(instruction)]
        asked = {check.question for check in wanted}
        kept = [question for question in after.kept(SURE) if question not in asked]
        return EditChecks(tuple(wanted), tuple(Check(KEPT.key_point, question) for question in kept))

    async def _look(self, source: Image.Image, instruction: str) -> list[Seen]:
        """All that is in the picture, with what the judge says of it."""
        things = self._phrases.things
        sure = await self._sure(source, instruction, [thing.there for thing in things])
        there = [thing for thing in things if sure.get(thing.there, 0.0) >= self._pass_at]
        sure |= await self._sure(source, instruction, [question for thing in there for question in thing.counts])
        seen = [Seen(thing, sure) for thing in there]
        more = await self._sure(source, instruction, [ask.question for one in seen for ask in one.asks(self._pass_at)])
        return [Seen(one.thing, sure | more) for one in seen]

    async def _sure(self, source: Image.Image, instruction: str, questions: Sequence[str]) -> dict[str, float]:
        """P(yes) of each question that the judge could answer."""
        if not questions:
            return {}
        verdicts = await self._judge(source, instruction, tuple(Check(KEPT.key_point, q) for q in questions))
        return {v.check.question: v.probability for v in verdicts if v.probability is not None}


class EditEvaluator:
    """Scores the results of an edit against the questions that were made of it.

    The report's verdicts are the judge's answers, how far the rest was kept, by pixels (KEPT), and where there is a
    judge of edits its word on the whole (DONE). Their score is `evaluator.align.aggregate` by `aggregation`.

    KEPT, with s the structural similarity to the source outside the mask: 1 - (1 - s)^2, our own choice. Without a mask
    the edit itself lowers s, so that little is taken off for a change of a part, and all of it for another picture.
    """

    def __init__(self, judge: Judge, edit_judge: EditJudge | None = None, *, aggregation: str = "group_mean") -> None:
        self.judge = judge
        self._edit_judge = edit_judge
        self._aggregation = aggregation

    async def __call__(self, edit: Edit, checks: tuple[Check, ...], mask: Image.Image | None = None) -> Report:
        """`edit.checks` is left to the judge of edits; `checks` are those that count, in this order."""
        verdicts = await self.judge(edit.result, edit.instruction, checks)
        verdicts.append(await asyncio.to_thread(_kept, edit, mask))
        if self._edit_judge is not None:
            verdicts.append(await self._whole(self._edit_judge, edit))
        return Report(
            tuple(verdicts),
            aggregate(verdicts, self._aggregation),
            sum(verdict.outcome is Outcome.FAILED for verdict in verdicts),
        )

    async def _whole(self, judge: EditJudge, edit: Edit) -> Verdict:
        score = await judge(edit)
        reasons = [reason for one in score.passes for reason in (*one.reasons, one.failure) if reason]
        said = reasons[0] if reasons else ""
        if score.outcome is Outcome.FAILED or score.overall is None:
            return Verdict(DONE, Outcome.FAILED, reason=said or "the judge of edits gave no score")
        raw = "\n".join(text for one in score.passes for text in one.raw)
        return Verdict(DONE, Outcome.SCORED, score.overall, reason=said, raw=raw)


def wanted_and_kept(checks: EditChecks, source: Report, pass_at: float) -> tuple[Check, ...]:
    """The checklist of an edit: all that is wanted, and of what is to be kept that which the source has. `source`: the
    judge's verdicts on the source picture."""
    had = {v.check for v in source.verdicts if v.probability is not None and v.probability >= pass_at}
    return (*checks.wanted, *(check for check in checks.kept if check in had))


def nothing_done(checks: tuple[Check, ...]) -> Report:
    """The report of an attempt that changed nothing: it has failed, which is not the same as a score of 0."""
    said = "the editor gave the picture back unchanged"
    verdicts = tuple(Verdict(check, Outcome.FAILED, reason=said) for check in checks or (overall_check(said),))
    return Report(verdicts, None, len(verdicts))


def _kept(edit: Edit, mask: Image.Image | None) -> Verdict:
    result = edit.result if edit.result.size == edit.source.size else edit.result.resize(edit.source.size, _FAR)
    found = preserved_outside(edit.source, result, mask)
    if found is None or found.ssim is None:
        return Verdict(KEPT, Outcome.NOT_APPLICABLE, reason="the mask leaves nothing outside")
    similar = max(0.0, found.ssim)
    where = "outside the mask" if mask is not None else "of the whole picture"
    said = f"{100 * found.changed:.1f}% of the pixels {where} changed, similarity {similar:.2f}"
    return Verdict(KEPT, Outcome.SCORED, 1 - (1 - similar) ** 2, reason=said)
