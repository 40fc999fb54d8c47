"""Reward: criteria, their weights and floors, and one rule that makes a number of them. All that scores pictures is one.

    reward = checks_reward(judge)                                     # the checklist alone
    [report] = await reward(Case(request, checks), [Shot((image,))])
    report.score, report.feedback, report.readings

    _, reward = open_evaluator(load_profile("mine.toml"))             # what a profile names

The loop, edits, `redraft judge`, `redraft enhance --judge`, the suites and GRPO all score by it. What a criterion is, and how
to write one: docs/rewards.md.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from PIL import Image

from evaluator.combine import Pooled
from evaluator.criteria.checks import Checks, write_feedback
from evaluator.criteria.edits import EditScored, Preserved
from evaluator.edits.types import EditJudge
from evaluator.types import Case, Combine, Criterion, Judge, Outcome, Reading, Report, Shot
from redraft.errors import ConfigError, ModelMissing, one_line

ANSWERING = frozenset({"checks", "edit_score"})
"""Criteria that know whether the request was met. If a reward has any of them and none has a value, there is no score: nobody
knows whether what was asked for is there, however good the rest is."""

Seen = Callable[[int, Report], Awaitable[None]]


@dataclass(frozen=True)
class Reward:
    """Scores the pictures of a case. Criteria run all at once, each call under `calls`, the one limit of a run.

    criteria: with their weights; one of weight 0 is read and shown, and does not count.
    floors:   the least value by criterion; a picture below any of them is never accepted.
    pass_at:  from which probability a check passes, for the feedback.
    margin:   of relative criteria: None to compare all pictures, a number to compare only those whose scores lie so near
              the best, which then decide between these alone.
    """

    criteria: tuple[tuple[Criterion, float], ...]
    combine: Combine = field(default_factory=lambda: Pooled("group_mean"))
    floors: Mapping[str, float] = field(default_factory=dict)
    pass_at: float = 0.5
    margin: float | None = None
    calls: AbstractAsyncContextManager[Any] = field(default_factory=nullcontext)

    @property
    def weights(self) -> dict[str, float]:
        return {criterion.name: weight for criterion, weight in self.criteria}

    @property
    def is_relative(self) -> bool:
        """Whether pictures are also compared with one another (`compare`)."""
        return not self.combine.absolute or any(not criterion.absolute for criterion, _ in self.criteria)

    async def __call__(self, case: Case, shots: Sequence[Shot], seen: Seen | None = None) -> list[Report]:
        """A report on each shot, in order, by the absolute criteria. `seen` is awaited with the number of a shot and its
        report as soon as that is known.

        All calls end before the first error is raised, so that what `seen` was given is kept.
        """
        absolute = [criterion for criterion, _ in self.criteria if criterion.absolute]
        together = {
            criterion.name: asyncio.ensure_future(self._read(criterion, case, shots))
            for criterion in absolute
            if "group" in criterion.needs
        }

        async def report(index: int) -> Report:
            async def value(criterion: Criterion) -> Reading:
                if criterion.name in together:
                    return (await together[criterion.name])[index]
                return (await self._read(criterion, case, [shots[index]]))[0]

            readings = await asyncio.gather(*(value(criterion) for criterion in absolute))
            made = self._report(case, dict(zip((c.name for c in absolute), readings, strict=True)))
            if seen is not None:
                await seen(index, made)
            return made

        done = await asyncio.gather(*(report(index) for index in range(len(shots))), return_exceptions=True)
        await asyncio.gather(*together.values(), return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in done if isinstance(outcome, Report)]

    async def judge(self, image: Image.Image, case: Case) -> Report:
        """The report on one picture."""
        [report] = await self(case, [Shot((image,))])
        return report

    async def compare(self, case: Case, shots: Sequence[Shot], reports: Sequence[Report]) -> list[Standing]:
        """How each shot stands among the others, by the relative criteria and rules; `reports` are those of `__call__`."""
        relative = [criterion for criterion, _ in self.criteria if not criterion.absolute]
        read = await asyncio.gather(*(self._read(criterion, case, shots) for criterion in relative))
        names = [criterion.name for criterion in relative]
        added = (
            [dict(zip(names, row, strict=True)) for row in zip(*read, strict=True)] if relative else [{}] * len(shots)
        )
        if self.margin is not None:
            values = [[reading.value for reading in row.values() if reading.value is not None] for row in added]
            places = [fmean(own) if own else None for own in values]
        else:
            rows = [rows_of(report) | more for report, more in zip(reports, added, strict=True)]
            places = self.combine(rows, self.weights)
        return [Standing(*pair) for pair in zip(places, added, strict=True)]

    async def _read(self, criterion: Criterion, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        """What the criterion says, or why it FAILED: a reading for each shot whatever happens."""
        if (lacking := _lacking(criterion, case)) is not None:
            return [Reading(Outcome.NOT_APPLICABLE, reason=lacking)] * len(shots)
        try:
            async with self.calls:
                readings: Any = await criterion(case, shots)
        except (ModelMissing, ConfigError, AssertionError):
            raise  # nothing that another picture would mend
        except Exception as error:  # noqa: BLE001 - a criterion of anybody's; what it raises is no score
            return [_failed(criterion, f"{type(error).__name__}: {one_line(error)}")] * len(shots)
        if not isinstance(readings, list | tuple) or len(readings) != len(shots):
            count = len(readings) if isinstance(readings, list | tuple) else type(readings).__name__
            return [_failed(criterion, f"gave {count} readings for {len(shots)} pictures")] * len(shots)
        return [_checked(criterion, reading) for reading in readings]

    def _report(self, case: Case, readings: Mapping[str, Reading]) -> Report:
        verdicts = tuple(verdict for reading in readings.values() for verdict in reading.verdicts)
        failed = sum(verdict.outcome is Outcome.FAILED for verdict in verdicts)
        failed += sum(r.outcome is Outcome.FAILED and not r.verdicts for r in readings.values())
        answering = [reading for name, reading in readings.items() if name in ANSWERING]
        known = not answering or any(reading.outcome is Outcome.SCORED for reading in answering)
        combine = self.combine if self.combine.absolute else Pooled("group_mean")
        [score] = combine([readings], self.weights) if known else [None]
        low = {
            name: reading.value
            for name, reading in readings.items()
            if reading.value is not None and reading.value < self.floors.get(name, 0.0)
        }
        return Report(
            verdicts=verdicts,
            score=score,
            failed=failed,
            feedback=(
                *write_feedback(verdicts, self.pass_at),
                *(f"{name} is {value:.2f}, below {self.floors[name]:g}" for name, value in low.items()),
            ),
            unchecked=case.unchecked,
            below=tuple(low),
            readings={
                name: replace(reading, verdicts=(), answers=len(reading.verdicts)) for name, reading in readings.items()
            },
        )


@dataclass(frozen=True)
class Standing:
    """How a picture stands in its group, higher is better; None if it could not be compared. `readings`: those of the
    relative criteria."""

    value: float | None
    readings: Mapping[str, Reading]


def rows_of(report: Report) -> dict[str, Reading]:
    """The readings of a report, each with its own verdicts again."""
    rows: dict[str, Reading] = {}
    at = 0
    for name, reading in report.readings.items():
        rows[name] = replace(reading, verdicts=report.verdicts[at : at + reading.answers])
        at += reading.answers
    return rows


def checks_reward(judge: Judge, *, aggregation: str = "group_mean", pass_at: float = 0.5) -> Reward:
    """The reward of a checklist alone: what every profile has if it names no other criteria."""
    return Reward(((Checks(judge, aggregation), 1.0),), Pooled(aggregation), pass_at=pass_at)


def edit_reward(
    judge: Judge, scorer: EditJudge | None = None, *, aggregation: str = "group_mean", pass_at: float = 0.5
) -> Reward:
    """The reward of edits: the checks, how far the rest was kept and, if there is a judge of edits, its word on the whole."""
    criteria: list[Criterion] = [Checks(judge, aggregation), Preserved()]
    if scorer is not None:
        criteria.append(EditScored(scorer))
    return Reward(tuple((c, 1.0) for c in criteria), Pooled(aggregation), pass_at=pass_at)


def _lacking(criterion: Criterion, case: Case) -> str | None:
    """Why the criterion does not apply to the case."""
    if "source" in criterion.needs and case.source is None:
        return "there is no picture that was edited"
    if "references" in criterion.needs and not case.references:
        return "there is no reference"
    if "checks" in criterion.needs and not (case.checks or case.kept):
        return "there is no check"
    return None


def _failed(criterion: Criterion, reason: str) -> Reading:
    return Reading(Outcome.FAILED, reason=f"{criterion.name} {reason}")


def _checked(criterion: Criterion, reading: object) -> Reading:
    """The reading if it is one: a value in [0, 1] if SCORED, none otherwise. Else one that FAILED."""
    if not isinstance(reading, Reading):
        return _failed(criterion, f"gave {type(reading).__name__} {one_line(str(reading))!r} instead of a reading")
    value = reading.value
    if reading.outcome is not Outcome.SCORED:
        return replace(reading, value=None)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return replace(_failed(criterion, f"gave {value!r}, which is no number"), verdicts=reading.verdicts)
    if not 0 <= value <= 1:
        return replace(_failed(criterion, f"gave {value:g}, outside 0 to 1"), verdicts=reading.verdicts)
    return reading
