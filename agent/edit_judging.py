"""Judging the edits of a picture that the user gave: the questions, and the score from their answers and from what was kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from PIL import Image

from evaluator.checklist import overall_check
from evaluator.combine import aggregate
from evaluator.criteria.checks import judge_checks
from evaluator.edits.preservation import preserved_outside
from evaluator.edits.types import Edit, EditChecks, EditJudge
from evaluator.types import Check, Judge, Outcome, Report, Verdict

KEPT = Check("preservation", "Is everything as it was that was not to change?")
DONE = Check("edit_score", "Was the edit done, and nothing else?")
PIXELS = "pixels"
"""Who answers KEPT: no judge, but the difference of the pictures."""
_FAR = Image.Resampling.BILINEAR


class EditEvaluator:
    """Scores the results of an edit against the questions that were made of it.

    The report's verdicts are the judge's answers, how far the rest was kept, by pixels (KEPT), and if there is a
    judge of edits its word on the whole (DONE). Their score is `evaluator.align.aggregate` by `aggregation`.

    KEPT, with s the structural similarity to the source outside the mask: 1 - (1 - s)^2, our own choice. Without a mask
    the edit itself lowers s, so that little is taken off for a change of a part, and all of it for another picture.
    """

    def __init__(self, judge: Judge, edit_judge: EditJudge | None = None, *, aggregation: str = "group_mean") -> None:
        self.judge = judge
        self._edit_judge = edit_judge
        self._aggregation = aggregation

    async def __call__(
        self, edit: Edit, checks: EditChecks, mask: Image.Image | None = None, known: Sequence[Verdict] = ()
    ) -> Report:
        """The report on `edit.result`. `edit.checks` is left to the judge of edits; `checks` are those that count.

        If every wanted check FAILED there is no score, however well the rest was kept: nobody knows whether the edit was
        done. `known`: verdicts on checks that are not asked again, because the judge cannot answer them.
        """
        settled = {verdict.check: verdict for verdict in known}
        both = (*checks.wanted, *checks.kept)
        open_checks = tuple(check for check in both if check not in settled)
        answers = (
            await judge_checks(self.judge, edit.result, request=edit.instruction, checks=open_checks)
            if open_checks
            else ()
        )
        settled |= {verdict.check: verdict for verdict in answers}
        verdicts = [settled[check] for check in both]
        verdicts.append(await asyncio.to_thread(_kept, edit, mask))
        if self._edit_judge is not None:
            verdicts.append(await self._whole(self._edit_judge, edit))
        undone = all(settled[check].outcome is Outcome.FAILED for check in checks.wanted)
        known_otherwise = any(v.check == DONE and v.outcome is Outcome.SCORED for v in verdicts)
        return Report(
            tuple(verdicts),
            None if undone and not known_otherwise else aggregate(verdicts, self._aggregation),
            sum(verdict.outcome is Outcome.FAILED for verdict in verdicts),
        )

    async def _whole(self, judge: EditJudge, edit: Edit) -> Verdict:
        score = await judge(edit)
        reasons = [reason for one_pass in score.passes for reason in (*one_pass.reasons, one_pass.failure) if reason]
        said = reasons[0] if reasons else ""
        if score.outcome is Outcome.FAILED or score.overall is None:
            return Verdict(DONE, Outcome.FAILED, reason=said or "the judge of edits gave no score", by=judge.name)
        raw = "\n".join(text for one_pass in score.passes for text in one_pass.raw)
        return Verdict(DONE, Outcome.SCORED, score.overall, reason=said, raw=raw, by=judge.name)


def keep_what_was_there(checks: EditChecks, source: Report, pass_at: float) -> EditChecks:
    """The checklist of an edit: all that is wanted, and of what is to be kept that which the source has. `source`: the
    judge's verdicts on the source picture."""
    had = {v.check for v in source.verdicts if v.probability is not None and v.probability >= pass_at}
    return EditChecks(checks.wanted, tuple(check for check in checks.kept if check in had))


def is_unanswerable(verdict: Verdict) -> bool:
    """Whether the judge was asked and had no answer, rather than that it could not be reached."""
    return verdict.outcome is Outcome.FAILED and verdict.label_mass is not None


def unanswerable_edit(checks: EditChecks, source: Report) -> tuple[Verdict, ...]:
    """The verdicts on what the edit is to do, if the judge could answer none of them of the source picture: it will not
    be able to of the result. Else ()."""
    wanted = tuple(verdict for verdict in source.verdicts if verdict.check in checks.wanted)
    return wanted if all(map(is_unanswerable, wanted)) else ()


def nothing_done(checks: tuple[Check, ...]) -> Report:
    """The report of an attempt that changed nothing: it has failed, which is not the same as a score of 0."""
    reason = "the editor gave the picture back unchanged"
    verdicts = tuple(Verdict(check, Outcome.FAILED, reason=reason) for check in checks or (overall_check(reason),))
    return Report(verdicts, None, len(verdicts))


def _kept(edit: Edit, mask: Image.Image | None) -> Verdict:
    result = edit.result if edit.result.size == edit.source.size else edit.result.resize(edit.source.size, _FAR)
    preservation = preserved_outside(edit.source, result, mask)
    if preservation is None or preservation.ssim is None:
        return Verdict(KEPT, Outcome.NOT_APPLICABLE, reason="the mask leaves nothing outside", by=PIXELS)
    similar = max(0.0, preservation.ssim)
    where = "outside the mask" if mask is not None else "of the whole picture"
    reason = f"{100 * preservation.changed:.1f}% of the pixels {where} changed, similarity {similar:.2f}"
    return Verdict(KEPT, Outcome.SCORED, 1 - (1 - similar) ** 2, reason=reason, by=PIXELS)
