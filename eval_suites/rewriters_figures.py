"""The figures of `eval_suites.rewriters` from its answers: rows, paired differences, key points, reward and truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from eval_suites.stats import Interval, bootstrap, paired_difference, ratio, ratio_difference
from evaluator.align import aggregate
from evaluator.types import Check, Outcome, Verdict
from mini.world.wording import Wording


@dataclass(frozen=True)
class Answer:
    """One prompt under one row. `right`: the oracle's answer to each true check; `judge`: the reward's alignment, from
    the system's own checklist, None where the judge failed."""

    right: tuple[bool, ...]
    judge: float | None
    images: int
    prompt: str
    fallback: bool = False


def every(answers: Sequence[Answer]) -> list[float]:
    return [float(all(one.right)) for one in answers]


def share(answers: Sequence[Answer]) -> list[float]:
    return [fmean(one.right) for one in answers]


def truth(answers: Sequence[Answer], wordings: Sequence[Wording]) -> list[float]:
    """What the reward would be with the oracle as the judge, on the true checks: mean in groups, then over groups."""
    found = []
    for one, wording in zip(answers, wordings, strict=False):
        verdicts = [
            Verdict(Check(*check), Outcome.SCORED, probability=float(yes), label_mass=1.0)
            for check, yes in zip(wording.checks, one.right, strict=True)
        ]
        found.append(aggregate(verdicts, "group_mean") or 0.0)
    return found


def _mean(runs: Sequence[Sequence[float]]) -> list[float]:
    """Each prompt's mean over runs."""
    return [fmean(values) for values in zip(*runs, strict=True)]


def row_of(title: str, runs: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """A row of the table; several runs are averaged prompt by prompt."""
    scores = [score for run in runs for one in run if (score := one.judge) is not None]
    judged = [
        fmean(known) for run in zip(*runs, strict=True) if (known := [a.judge for a in run if a.judge is not None])
    ]
    return {
        "title": title,
        "every_check_right": asdict(bootstrap(_mean([every(run) for run in runs]))),
        "checks_right": asdict(bootstrap(_mean([share(run) for run in runs]))),
        "judge": asdict(bootstrap(judged)) if judged else None,
        "unscored": sum(len(run) for run in runs) - len(scores),
        "images": fmean(one.images for run in runs for one in run),
        "fallback": fmean(one.fallback for run in runs for one in run),
    }


def difference(ours: Sequence[Sequence[Answer]], theirs: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """Ours minus theirs, paired by prompt, runs averaged first."""
    told: dict[str, Interval] = {
        "every_check_right": paired_difference(_mean([every(r) for r in ours]), _mean([every(r) for r in theirs])),
        "checks_right": paired_difference(_mean([share(r) for r in ours]), _mean([share(r) for r in theirs])),
    }
    return {name: asdict(one) for name, one in told.items()}


def points(
    ours: Sequence[Sequence[Answer]], theirs: Sequence[Sequence[Answer]], wordings: Sequence[Wording]
) -> dict[str, Any]:
    """By key point: share of checks right under both and the gain, whole prompts resampled."""

    def counted(runs: Sequence[Sequence[Answer]]) -> dict[str, tuple[list[float], list[float]]]:
        table: dict[str, tuple[list[float], list[float]]] = defaultdict(
            lambda: ([0.0] * len(wordings), [0.0] * len(wordings))
        )
        for run in runs:
            for i, (one, wording) in enumerate(zip(run, wordings, strict=True)):
                for (key_point, _), yes in zip(wording.checks, one.right, strict=True):
                    hits, totals = table[key_point]
                    hits[i] += yes / len(runs)
                    totals[i] += 1 / len(runs)
        return table

    mine, other = counted(ours), counted(theirs)
    return {
        name: {
            "checks": round(sum(other[name][1])),
            "before": asdict(ratio(*other[name])),
            "after": asdict(ratio(*mine[name])),
            "gain": asdict(ratio_difference(*mine[name], *other[name])),
        }
        for name in sorted(other)
    }


def curve_point(step: int, answers: Sequence[Answer], wordings: Sequence[Wording]) -> dict[str, Any]:
    """Reward and truth at a checkpoint, on the prompts that the judge could score."""
    both = [(a.judge, t) for a, t in zip(answers, truth(answers, wordings), strict=True) if a.judge is not None]
    return {
        "step": step,
        "judge": asdict(bootstrap([j for j, _ in both])),
        "oracle": asdict(bootstrap([t for _, t in both])),
        "gap": asdict(paired_difference([j for j, _ in both], [t for _, t in both])),
        "every_check_right": asdict(bootstrap(every(answers))),
    }
