"""Which attempt is best, and whether the run continues. Pure functions of what was seen; the graph only stores what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.edit_judging import is_unanswerable
from agent.types import Attempt, Decision, StopReason, cost_of, passes
from evaluator.types import Outcome, Report
from redraft.limits import Limits

_SHOWN = 8
"""Unchecked words that a reason names."""


def acceptable(report: Report, limits: Limits) -> bool:
    """True if a picture may end the run without asking the user: it meets the bar, and every word of the request is
    asked about by some check."""
    return not report.unchecked and meets_bar(report, limits)


def meets_bar(report: Report, limits: Limits) -> bool:
    """True if the checks leave nothing to be wished for.

    The score must reach `accept_at`, every check that applies must have been answered (a check the judge FAILED on
    could hide a fault), every criterion must reach its floor, and every answer must pass: an average never buys off a check
    that is plainly wrong.
    """
    if report.score is None or report.score < limits.accept_at or report.failed or report.below:
        return False
    applying = [v for v in report.verdicts if v.outcome is not Outcome.NOT_APPLICABLE]
    return bool(applying) and all(passes(v, limits.pass_at) for v in applying)


def best_of(attempts: Sequence[Attempt], limits: Limits) -> int | None:
    """Index of the best attempt, None if there is none but drafts.

    Pictures that meet the bar come before others (a higher score with unanswered checks in it does not beat them), then the
    higher score, then the earlier attempt. Attempts without a score never win over scored ones. If the best by that
    was compared with others, the one that stands highest among them is the best.
    """

    def rank(index: int) -> tuple[bool, bool, float, int]:
        report = attempts[index].report
        scored = report.score is not None
        return meets_bar(report, limits), scored, report.score if report.score is not None else 0.0, -index

    best = max((index for index, attempt in enumerate(attempts) if not attempt.draft), key=rank, default=None)
    if best is None or attempts[best].standing is None:
        return best
    compared = [index for index, attempt in enumerate(attempts) if attempt.standing is not None and not attempt.draft]
    return max(compared, key=lambda i: (meets_bar(attempts[i].report, limits), attempts[i].standing or 0.0, rank(i)))


def tied(attempts: Sequence[Attempt], limits: Limits, margin: float) -> list[int]:
    """Indexes of the attempts as good as the best by their scores: as near the bar as it, at most `margin` below it."""
    plain = [replace(attempt, standing=None) for attempt in attempts]
    best = best_of(plain, limits)
    top = None if best is None else attempts[best].score
    if best is None or top is None:
        return []
    ends = meets_bar(attempts[best].report, limits)
    return [
        index
        for index, attempt in enumerate(attempts)
        if not attempt.draft
        and attempt.score is not None
        and attempt.score >= top - margin
        and meets_bar(attempt.report, limits) == ends
    ]


def rounds_without_gain(attempts: Sequence[Attempt]) -> int:
    """How many of the latest rounds in a row brought no better score than all before them. Rounds of drafts do not count."""
    best: float | None = None
    idle = 0
    tops: dict[int, float | None] = {}
    for attempt in attempts:
        if not attempt.draft:
            scores = [s for s in (tops.get(attempt.round), attempt.score) if s is not None]
            tops[attempt.round] = max(scores, default=None)
    for _, top in sorted(tops.items()):
        if top is not None and (best is None or top > best):
            best, idle = top, 0
        else:
            idle += 1
    return idle


def decide(attempts: Sequence[Attempt], limits: Limits, elapsed_s: float, *, cancelled: bool = False) -> Decision:
    """Whether the run continues, or stops and why. `attempts` in the order in which they were made; `elapsed_s`: seconds
    of work so far.

    Reasons are looked at in this order: accepted (or, if words of the request are unchecked, unchecked), cancelled,
    unchecked and failed (nothing so far could be scored, so that more pictures would be drawn blindly: because nothing of
    the request can be checked, or because the judge failed), time, budget, plateau. Rounds of drafts alone do not count,
    and while there are only drafts, nothing but the user ends the run: one of them is still to be finished.
    """
    best = best_of(attempts, limits)
    rounds = len({attempt.round for attempt in attempts if not attempt.draft})
    spent = cost_of(attempts, elapsed_s)
    spoilt = bool(attempts) and all(attempt.unchanged for attempt in attempts)

    def stop(reason: StopReason, why: str) -> Decision:
        if spoilt and reason is not StopReason.CANCELLED:
            reason, why = StopReason.FAILED, f"the editor gave the picture back unchanged each time ({why})"
        return Decision(stop=reason, best=best, why=why)

    report = None if best is None else attempts[best].report
    if report is not None and meets_bar(report, limits):
        checks = sum(passes(v, limits.pass_at) for v in report.verdicts)
        why = f"{_all(checks)} passed and the score reached {limits.accept_at:g}"
        if report.unchecked:
            return stop(StopReason.UNCHECKED, f"{why}, but nothing checks: {_list(report.unchecked)}")
        return stop(StopReason.ACCEPTED, why)
    if cancelled:
        return stop(StopReason.CANCELLED, "the run was stopped")
    if attempts and best is None:
        return Decision(stop=None, best=None, why="there are only drafts so far")
    if report is not None and report.score is None and not spoilt:
        if is_uncheckable(report):
            return stop(StopReason.UNCHECKED, f"nothing checks: {_list(report.unchecked)}")
        return stop(StopReason.FAILED, f"the judge could not score any picture: {_first_reason(report)}")
    if elapsed_s >= limits.max_seconds:
        return stop(StopReason.TIME, f"{limits.max_seconds:g} seconds are spent")
    if len(attempts) >= limits.max_images:
        return stop(StopReason.BUDGET, f"{_count(limits.max_images, 'image')} drawn, as many as allowed")
    for name, used, most in (
        ("step", spent.steps, limits.max_steps),
        ("judgement", spent.judgements, limits.max_judgements),
    ):
        if most and used >= most:
            return stop(StopReason.BUDGET, f"{_count(most, name)} spent, as many as allowed")
    if rounds >= limits.max_rounds:
        return stop(StopReason.BUDGET, f"{_count(limits.max_rounds, 'round')} done, as many as allowed")
    idle = rounds_without_gain(attempts)
    if idle >= limits.patience:
        return stop(StopReason.PLATEAU, f"no better score for {_count(idle, 'round')}")
    return Decision(stop=None, best=best, why=_what_is_missing(attempts, best, limits))


def is_uncheckable(report: Report) -> bool:
    """Whether the judge cannot be asked about the request: there is no check, or none that it could answer."""
    failed = [verdict for verdict in report.verdicts if verdict.outcome is Outcome.FAILED]
    return bool(report.unchecked) and report.score is None and all(map(is_unanswerable, failed))


def _list(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _what_is_missing(attempts: Sequence[Attempt], best: int | None, limits: Limits) -> str:
    if best is None:
        return "nothing has been drawn yet"
    if attempts[best].unchanged:
        return "the editor gave the picture back unchanged"
    report = attempts[best].report
    applying = [v for v in report.verdicts if v.outcome is not Outcome.NOT_APPLICABLE]
    wrong = [v for v in applying if v.outcome is Outcome.SCORED and not passes(v, limits.pass_at)]
    parts = []
    if wrong:
        parts.append(f"{len(wrong)} of {_count(len(applying), 'check')} did not pass")
    if report.failed:
        parts.append(f"{_count(report.failed, 'check')} could not be judged")
    if report.below:
        parts.append(f"below the floor: {_list(report.below)}")
    if not parts:
        parts.append(f"the best score {report.score:.2f} is below {limits.accept_at:g}")
    return " and ".join(parts)


def _first_reason(report: Report) -> str:
    reasons = (v.reason or v.raw for v in report.verdicts if v.outcome is Outcome.FAILED)
    return next((reason for reason in reasons if reason), "no check could be answered")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _all(checks: int) -> str:
    return "the only check" if checks == 1 else f"all {checks} checks"
