"""The criterion `checks`: a judge's answers to the checklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from PIL import Image

from evaluator.combine import aggregate
from evaluator.types import Case, Checklist, Judge, Need, Outcome, Reading, Shot, Verdict


class Checks:
    """A picture's answers to the checks that were made from the user's request, never from a rewrite of it.

    The value is `evaluator.combine.aggregate` of all answers. What is `known` of the case is not asked again. If none of the
    checks that say what is wanted could be answered, it FAILED, however many others were.
    """

    name = "checks"
    absolute = True
    needs: frozenset[Need] = frozenset({"checks"})

    def __init__(
        self, judge: Judge, aggregation: str = "group_mean", key_points: Mapping[str, float] | None = None
    ) -> None:
        self.judge = judge
        self.aggregation = aggregation
        self.key_points = dict(key_points or {})

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        return [await self._read(case, shot.image) for shot in shots]

    async def _read(self, case: Case, image: Image.Image) -> Reading:
        settled = {verdict.check: verdict for verdict in case.known}
        checks = (*case.checks, *case.kept)
        open_checks = tuple(check for check in checks if check not in settled)
        if open_checks:
            answers = await judge_checks(self.judge, image, request=case.request, checks=open_checks)
            settled |= {verdict.check: verdict for verdict in answers}
        verdicts = tuple(settled[check] for check in checks)
        value = aggregate(verdicts, self.aggregation, self.key_points)
        lost = [verdict for verdict in verdicts[: len(case.checks)] if verdict.outcome is Outcome.FAILED]
        if case.checks and len(lost) == len(case.checks):
            return Reading(Outcome.FAILED, verdicts=verdicts, reason=lost[0].reason)
        return Reading(Outcome.NOT_APPLICABLE if value is None else Outcome.SCORED, value, verdicts=verdicts)


async def judge_checks(judge: Judge, image: Image.Image, *, request: str, checks: Checklist) -> tuple[Verdict, ...]:
    """The judge's verdicts on `checks`, in order, each with the name of the judge in `by`."""
    verdicts = await judge(image, request, checks)
    if [verdict.check for verdict in verdicts] != list(checks):
        raise AssertionError(f"{judge.name} did not answer the checks that it was given, in their order")
    return tuple(verdict if verdict.by else replace(verdict, by=judge.name) for verdict in verdicts)


def write_feedback(verdicts: Sequence[Verdict], pass_at: float) -> tuple[str, ...]:
    """One plain sentence for each SCORED check that does not pass, worst first. FAILED ones say nothing about the picture."""
    missed = [(v.probability, v) for v in verdicts if v.probability is not None and not v.passes(pass_at)]
    return tuple(_sentence(v, p) for p, v in sorted(missed, key=lambda pair: pair[0]))


def _sentence(verdict: Verdict, p: float) -> str:
    reason = f" {verdict.reason}" if verdict.reason else ""
    return f"Not satisfied: {verdict.check.question} (p={p:.2f}, {verdict.check.key_point}){reason}"
