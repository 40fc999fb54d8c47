"""Judging the edits of a picture that the user gave: the questions, and what they come to with what was kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from evaluator.align import aggregate
from evaluator.checklist import OVERALL, overall_check
from evaluator.edits.checklist import overall_edit_check
from evaluator.edits.preservation import preserved_outside
from evaluator.edits.types import Edit, EditChecks, EditJudge
from evaluator.types import Check, Judge, Outcome, Report, Verdict
from rewriter.phrases import Phrases

KEPT = Check("preservation", "Is everything as it was that was not to change?")
DONE = Check("edit_score", "Was the edit done, and nothing else?")
SURE = 0.8
"""What the judge is less sure of before the edit is not asked after it: the answer may turn without a cause."""
_FAR = Image.Resampling.BILINEAR


class RuleEditChecks:
    """An EditChecklistMaker that reads the questions of an instruction off a phrase book.

    One question about the whole stands in where the book does not know a part of the instruction.
    """

    def __init__(self, phrases: Phrases) -> None:
        self._phrases = phrases

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks:
        clauses = self._phrases.read(instruction)
        checks = [Check(key_point, question) for clause in clauses for key_point, question in clause.checks]
        if not all(clause.checks for clause in clauses):
            checks.append(overall_edit_check(instruction))
        return EditChecks(tuple(dict.fromkeys(checks)))


@dataclass(frozen=True)
class _Count:
    """How many there are of a thing, and the questions for each number from zero on."""

    number: int
    asks: tuple[str, ...]


class LookingEditChecks:
    """An EditChecklistMaker that reads the instruction off a phrase book, and has the judge look at the picture.

    What the book says pictures may hold, the judge is asked about; what is there and no sub-task touches is to be kept.
    Things that come or go are counted before: two more circles than one are "exactly three". Where the book does not
    know a part of the instruction nothing is said of the rest, since that part may mean any of it.
    """

    def __init__(self, phrases: Phrases, judge: Judge, pass_at: float = 0.5) -> None:
        self._phrases = phrases
        self._judge = judge
        self._pass_at = pass_at
        self._by_rule = RuleEditChecks(phrases)

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks:
        by_rule = await self._by_rule(source, instruction)
        clauses = self._phrases.read(instruction)
        if not all(clause.known for clause in clauses):
            return by_rule
        wanted = [Check(*check) for clause in clauses if clause.more is None for check in clause.checks]
        more: dict[str, int] = {}
        for clause in clauses:
            if clause.more is not None:
                thing, count = clause.more
                more[thing] = more.get(thing, 0) + count
        for clause in clauses:
            if clause.more is not None:
                now = await self._counted(source, instruction, clause.more[0])
                number = -1 if now is None else now.number + more[clause.more[0]]
                told = now is not None and 0 <= number < len(now.asks)
                if now is not None and told:
                    wanted.append(Check("counting", now.asks[number]))
                # Where there are others of its kind, what a new thing is like cannot be asked: they would be meant too.
                if not told or (now is not None and now.number == 0):
                    wanted += [Check(*check) for check in clause.checks]
        wanted += [check for check in by_rule.wanted if check.key_point == OVERALL]
        things = [self._phrases.left_alone(thing, clauses) for thing in self._phrases.things()]
        stay = [thing for thing in things if thing is not None]
        there = await self._yes(source, instruction, [thing.there for thing in stay])
        more_of = [ask for thing in stay if thing.there in there for _, ask in thing.asks]
        kept = [*there, *await self._yes(source, instruction, more_of)]
        asked = {check.question for check in wanted}
        return EditChecks(
            tuple(dict.fromkeys(wanted)),
            tuple(Check(KEPT.key_point, question) for question in kept if question not in asked),
        )

    async def _counted(self, source: Image.Image, instruction: str, thing: str) -> _Count | None:
        """How many there are of a thing; None where the judge cannot tell."""
        counting = self._phrases.counting(thing)
        if counting is None:
            return None
        sure = await self._sure(source, instruction, counting.asks)
        known = [(p, number) for number, p in enumerate(sure) if p is not None and p >= self._pass_at]
        return _Count(max(known)[1], counting.asks) if known else None

    async def _yes(self, source: Image.Image, instruction: str, questions: Sequence[str]) -> list[str]:
        sure = await self._sure(source, instruction, questions)
        return [q for q, p in zip(questions, sure, strict=True) if p is not None and p >= SURE]

    async def _sure(self, source: Image.Image, instruction: str, questions: Sequence[str]) -> list[float | None]:
        if not questions:
            return []
        verdicts = await self._judge(source, instruction, tuple(Check(KEPT.key_point, q) for q in questions))
        return [v.probability if v.outcome is Outcome.SCORED else None for v in verdicts]


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
