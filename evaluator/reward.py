"""Reward: criteria, their weights and floors, and one rule that makes a number of them. All that scores pictures is one.

    reward = checks_reward(judge)                                     # the checklist alone
    [report] = await reward(Case(request, checks), [Shot((image,))])
    report.score, report.feedback, report.readings

    make_checklist, reward = open_evaluator(load_profile("mine.toml"))      # what a profile names
    report = await reward.judge(image, case_of(request, await make_checklist(request)))

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

from evaluator.checklist import CoveredChecklists, DetectLanguage, open_checklists
from evaluator.combine import Pooled, open_combine
from evaluator.criteria import Parts, open_criterion
from evaluator.criteria.checks import Checks, write_feedback
from evaluator.criteria.edits import EditScored, Preserved
from evaluator.edits.judges import Method, build_edit_judge
from evaluator.edits.types import EditJudge
from evaluator.judge import open_judge
from evaluator.keypoints import OTHER, find_keypoint
from evaluator.types import (
    Case,
    Checklist,
    Combine,
    Criterion,
    Judge,
    Outcome,
    Reading,
    Report,
    RequestChecks,
    Shot,
)
from redraft.chat import ChatModel
from redraft.errors import ConfigError, ModelMissing, one_line
from redraft.profiles import CriterionConfig, Profile

ANSWERING = frozenset({"checks", "edit_score"})
"""Criteria that know whether the request was met. If a reward has any of them and none has a value, there is no score: nobody
knows whether what was asked for is there, however good the rest is."""

OURS = ("checks", "preserved", "edit_score")
"""Criteria that every profile has; listing one changes its weight and its floor. They raise nothing but programming errors."""

Calls = AbstractAsyncContextManager[Any]
Seen = Callable[[int, Report], Awaitable[None]]


@dataclass(frozen=True)
class Reward:
    """Scores the pictures of a case, by all criteria at once.

    criteria: with their weights; one of weight 0 is read and shown, and does not count.
    floors:   the least value by criterion; a picture below any of them is never accepted.
    pass_at:  from which probability a check passes, for the feedback.
    margin:   of relative criteria: None to compare all pictures, a number to compare only those whose scores lie so near
              the best, which then decide between these alone.
    fallback: makes the score if `combine` is relative.
    """

    criteria: tuple[tuple[Criterion, float], ...]
    combine: Combine = field(default_factory=lambda: Pooled("group_mean"))
    floors: Mapping[str, float] = field(default_factory=dict)
    pass_at: float = 0.5
    margin: float | None = None
    fallback: Combine = field(default_factory=lambda: Pooled("group_mean"))

    @property
    def weights(self) -> dict[str, float]:
        return {criterion.name: weight for criterion, weight in self.criteria}

    @property
    def is_relative(self) -> bool:
        """Whether pictures are also compared with one another (`compare`)."""
        return not self.combine.absolute or any(not criterion.absolute for criterion, _ in self.criteria)

    @property
    def sees_groups(self) -> bool:
        """Whether a picture's report depends on the pictures that it is judged with."""
        return any("group" in criterion.needs for criterion, _ in self.criteria if criterion.absolute)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the criteria, and of the rule if it is not the checklist's own: what a cached score depends on."""
        return (*(f"{criterion.name} {weight:g}" for criterion, weight in self.criteria), self.combine.name)

    def only(self, *names: str) -> Reward:
        """The same with these of its criteria alone."""
        return replace(self, criteria=tuple(pair for pair in self.criteria if pair[0].name in names))

    async def __call__(
        self, case: Case, shots: Sequence[Shot], *, calls: Calls | None = None, seen: Seen | None = None
    ) -> list[Report]:
        """A report on each shot, in order, by the absolute criteria.

        All run at once, each call of a criterion within `calls`, the limit that a run has for all of them. `seen` is awaited
        with the number of a shot and its report as soon as that is known.

        All calls end before the first error is raised, so that what `seen` was given is kept.
        """
        if not shots:
            return []
        absolute = [criterion for criterion, _ in self.criteria if criterion.absolute]
        together = {
            criterion.name: asyncio.ensure_future(self._read(criterion, case, shots, calls))
            for criterion in absolute
            if "group" in criterion.needs
        }

        async def report(index: int) -> Report:
            async def value(criterion: Criterion) -> Reading:
                if criterion.name in together:
                    return (await together[criterion.name])[index]
                return (await self._read(criterion, case, [shots[index]], calls))[0]

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

    async def judge(self, image: Image.Image, case: Case, *, calls: Calls | None = None) -> Report:
        """The report on one picture."""
        [report] = await self(case, [Shot((image,))], calls=calls)
        return report

    async def compare(
        self, case: Case, shots: Sequence[Shot], reports: Sequence[Report], *, calls: Calls | None = None
    ) -> list[Standing]:
        """How each shot stands among the others, by the relative criteria and rules; `reports` are those of `__call__`."""
        relative = [criterion for criterion, _ in self.criteria if not criterion.absolute]
        read = await asyncio.gather(*(self._read(criterion, case, shots, calls) for criterion in relative))
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

    async def _read(
        self, criterion: Criterion, case: Case, shots: Sequence[Shot], calls: Calls | None
    ) -> list[Reading]:
        """What the criterion says, or why it FAILED: a reading for each shot whatever happens."""
        if (lacking := _lacking(criterion, case)) is not None:
            return [Reading(Outcome.NOT_APPLICABLE, reason=lacking)] * len(shots)
        try:
            async with calls or nullcontext():
                readings: Any = await criterion(case, shots)
        except (ModelMissing, ConfigError):
            raise  # nothing that another picture would mend
        except Exception as error:
            if criterion.name in OURS:
                raise  # a mistake of ours must not hide
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
        combine = self.combine if self.combine.absolute else self.fallback
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
    readings: Mapping[str, Reading] = field(default_factory=dict)


def rows_of(report: Report) -> dict[str, Reading]:
    """The readings of a report, each with its own verdicts again."""
    rows: dict[str, Reading] = {}
    at = 0
    for name, reading in report.readings.items():
        rows[name] = replace(reading, verdicts=report.verdicts[at : at + reading.answers])
        at += reading.answers
    return rows


def case_of(request: str, checklist: RequestChecks | Checklist) -> Case:
    """The case of a request to be drawn."""
    made = checklist if isinstance(checklist, RequestChecks) else RequestChecks(checklist)
    return Case(request, made.checks, unchecked=made.unchecked)


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


def open_evaluator(
    profile: Profile, listing: ChatModel | None = None, *, detect_language: DetectLanguage | None = None
) -> tuple[CoveredChecklists, Reward]:
    """Checklist maker and reward of `profile`. Arguments and errors are those of `open_checklists`."""
    profile.need_judge()  # said before a model is looked for
    builder = open_checklists(profile, listing, detect_language=detect_language)
    return builder, open_reward(profile)


def open_reward(profile: Profile, parts: Parts | None = None, *, edits: bool = False) -> Reward:
    """What scores the pictures of `profile`, or the results of its `edits`. Raises ConfigError for criteria that cannot be
    used, ModelMissing if weights are not in their place."""
    settings = profile.evaluator
    parts = parts or Parts(profile, open_judge(profile.need_judge(), profile.limits.pass_at, profile.grounder))
    unknown = [name for name in settings.key_points if find_keypoint(name).group == OTHER]
    if unknown:
        raise ConfigError(
            f"evaluator.key_points names {unknown[0]!r}, which is no key point; docs/rewards.md lists them"
        )
    key_points = {find_keypoint(name).id: weight for name, weight in settings.key_points.items()}
    aggregation = settings.edit_aggregation if edits else settings.aggregation
    own = {part.use: part for part in settings.criteria if part.use in OURS}
    made: list[tuple[Criterion, CriterionConfig]] = []

    def add(criterion: Criterion, part: CriterionConfig | None = None) -> None:
        made.append((criterion, part or own.get(criterion.name) or CriterionConfig(use=criterion.name)))

    add(Checks(parts.judge, aggregation, key_points))
    if edits:
        add(Preserved())
        if settings.edit_score != "none":
            add(EditScored(_open_edit_judge(settings.edit_score, parts)))
    for part in settings.criteria:
        if part.use not in OURS:
            add(open_criterion(part, parts), part)
    if settings.ties != "first":
        add(open_criterion(CriterionConfig(use=settings.ties), parts))
    names = [criterion.name for criterion, _ in made]
    for criterion, part in made:
        if names.count(criterion.name) > 1:
            raise ConfigError(f"two criteria are called {criterion.name!r}; give one of them another name")
        if part.floor is not None and not criterion.absolute:
            raise ConfigError(
                f"{criterion.name} only orders pictures: a floor would say nothing of how good one is; leave it out"
            )
    pooled = Pooled(aggregation, key_points)
    return Reward(
        tuple((criterion, part.weight) for criterion, part in made),
        pooled if settings.combine is None else open_combine(settings.combine, key_points),
        floors={criterion.name: part.floor for criterion, part in made if part.floor is not None},
        pass_at=profile.limits.pass_at,
        margin=None if settings.ties == "first" else settings.tie_margin,
        fallback=pooled,
    )


def _open_edit_judge(method: Method, parts: Parts) -> EditJudge:
    if method == "checks":
        return build_edit_judge("checks", judge=parts.judge, pass_at=parts.profile.limits.pass_at)
    return build_edit_judge(method, chat=parts.talking(f'edit_score = "{method}"'))


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
