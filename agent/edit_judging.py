"""Which questions the results of an edit are judged by."""

from __future__ import annotations

from dataclasses import replace

from evaluator.checklist import overall_check
from evaluator.edits.types import EditChecks
from evaluator.types import Check, Outcome, Report, Verdict


def keep_what_was_there(checks: EditChecks, source: Report, pass_at: float) -> EditChecks:
    """The checklist of an edit: all that is wanted, and of what is to be kept that which the source has. `source`: the
    judge's verdicts on the source picture."""
    had = {v.check for v in source.verdicts if v.probability is not None and v.probability >= pass_at}
    return replace(checks, kept=tuple(check for check in checks.kept if check in had))


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
