"""Where an edit goes next: pure functions of what was judged. The tree of candidates is pruned here.

An edit is a course of sub-tasks. Each gets candidates; the judge's answers to the questions that were to be mended so
far, and to those that were right before, are the confidence in a candidate (after MURE, which asks a vision-language
model for a number from 0 to 100 instead, and prunes to the best). The best go on; where all lie below the bar, the
sub-task is planned anew once. After that, in a picture of the user's, the best goes on all the same: the judge may be
wrong about one sub-task, and to begin anew would repeat it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from agent.types import Attempt, Course, Task, passes
from evaluator.types import Outcome, Report
from redraft.limits import Limits, TreeLimits

Fate = Literal["kept", "pruned", "below", "unchanged"]
Joiner = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Branch:
    """A candidate of a sub-task, judged. `confidence` None: the judge could not tell, or nothing changed."""

    key: str
    confidence: float | None
    fate: Fate


def confidence(report: Report, mended: Sequence[str], before: Report | None, pass_at: float) -> float | None:
    """How sure it is that a candidate is what the sub-tasks so far wanted, in [0, 1].

        min(mean P over the questions `mended`, mean P over those that passed `before`)

    Either is left out where it has no answered question; without both it is the report's score.
    """
    answered = {v.check.question: v.probability for v in report.verdicts if v.outcome is Outcome.SCORED}
    passed = [] if before is None else [v.check.question for v in before.verdicts if passes(v, pass_at)]
    wanted = [p for question in mended if (p := answered.get(question)) is not None]
    kept = [p for question in passed if question not in mended and (p := answered.get(question)) is not None]
    means = [fmean(values) for values in (wanted, kept) if values]
    return min(means) if means else report.score


def prune(
    level: Sequence[tuple[str, Attempt, float | None]], limits: TreeLimits, bar: float | None = None
) -> tuple[Branch, ...]:
    """The fate of each candidate, given as (key, attempt, confidence), in their order: the `keep` best that reach
    `bar`, as a rule `confidence`, are kept; at equal confidence the higher score wins, then the earlier."""
    bar = limits.confidence if bar is None else bar
    able = [
        (p, attempt.score or 0.0, -n)
        for n, (_, attempt, p) in enumerate(level)
        if p is not None and p >= bar and not attempt.unchanged
    ]
    kept = {-n for _, _, n in sorted(able, reverse=True)[: limits.keep]}

    def fate(n: int, attempt: Attempt, p: float | None) -> Fate:
        if attempt.unchanged:
            return "unchanged"
        if n in kept:
            return "kept"
        return "pruned" if p is not None and p >= bar else "below"

    return tuple(
        Branch(key, None if attempt.unchanged else p, fate(n, attempt, p)) for n, (key, attempt, p) in enumerate(level)
    )


def advanced(course: Course, branches: Sequence[Branch]) -> Course | None:
    """The course after a level: at the next sub-task, or finished (`at` behind the last); None where no candidate was
    good enough."""
    kept = tuple(branch.key for branch in branches if branch.fate == "kept")
    return replace(course, at=course.at + 1, kept=kept, replanned=False) if kept else None


def under_way(course: Course | None) -> bool:
    """Whether the course has a sub-task left."""
    return course is not None and course.choice == "edit" and course.at < len(course.steps)


def mended_so_far(course: Course) -> tuple[str, ...]:
    """The questions of all sub-tasks up to the one under way."""
    return tuple(dict.fromkeys(q for step in course.steps[: course.at + 1] for q in step.questions))


@dataclass(frozen=True)
class Start:
    """A picture to be edited, what the editor is told, and the chain that the result will end."""

    source: str
    prompt: str
    root: str
    steps: tuple[str, ...]


def starts(course: Course, attempts: Mapping[str, Attempt], limits: Limits, join: Joiner) -> list[Start]:
    """What the candidates of the sub-task under way start from.

    The first sub-task of a course that goes on with an earlier edit starts again from the picture that was first
    edited, with all instructions together, so that nothing drifts (limit `edit_base`); the later ones start from the
    results that were kept.
    """
    now = course.steps[course.at].instruction
    assert course.start is not None
    if course.at > 0:
        branches = [attempts[key] for key in course.kept]
        return [Start(branch.image, now, branch.root or course.start, (*branch.steps, now)) for branch in branches]
    steps = (*course.done, now)
    root = course.root or course.start
    if course.done and limits.tree.base == "source":
        return [Start(root, join(steps), root, steps)]
    return [Start(course.start, now, root, steps)]


def candidates(
    number: int,
    found: Sequence[Start],
    seeds: Callable[[int], int],
    places: int,
    limits: Limits,
    mask: str | None,
    reference: str | None = None,
) -> list[Task]:
    """The tasks of a level: `edit_width` for each start in turn, no more than `places`. `seeds` by index."""
    count = min(places, limits.tree.width * len(found))
    tasks = []
    for index in range(count):
        start = found[index % len(found)]
        tasks.append(
            Task(
                number, "edit", start.prompt, seeds(index), None, start.source, mask, start.root, start.steps, reference
            )
        )
    return tasks
