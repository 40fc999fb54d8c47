"""From many numbers to one: answers to the score of a checklist, and readings of several criteria to the score of a picture.

    combine = open_combine("lambda_harmonic")
    [score] = combine([{"checks": Reading(Outcome.SCORED, 0.9), "subject": Reading(Outcome.SCORED, 0.6)}],
                      {"checks": 0.7, "subject": 0.3})

Absolute rules score each picture by itself. Relative ones (`rank_sum`, `pareto`, `win_rate`) order the pictures of a group;
nothing is ever accepted by them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

from evaluator.keypoints import find_keypoint
from evaluator.types import Combine, Outcome, Reading, Verdict
from redraft.errors import ConfigError

Rows = Sequence[Mapping[str, Reading]]


@dataclass(frozen=True)
class Point:
    """A number in [0, 1] of a group of key points, and its weight (above 0)."""

    group: str
    p: float
    weight: float = 1.0


def aggregate(verdicts: Sequence[Verdict], how: str, key_points: Mapping[str, float] | None = None) -> float | None:
    """One number from the SCORED verdicts, None if there are none. FAILED and NOT_APPLICABLE ones do not count.

    With p_1 ... p_n the probabilities and G the key-point groups that have a scored check:

        group_mean      (1/|G|) sum over g in G of the mean of the p_i in g     (PromptEnhancer, as in its notes)
        mean            (1/n) sum of p_i
        min             least p_i
        geometric_mean  (product of p_i) ** (1/n), 0 if any p_i is 0

    `key_points`: weights by id of key point, 1 if not named; all means are then weighted ones, a group by the mean weight
    of its checks, and checks of weight 0 are left out. Labels that are none of the 24 key points form one group together.
    Raises KeyError for an unknown `how`.
    """
    formula = _FORMULAS[how]
    points = _verdict_points(verdicts, key_points or {}, 1.0)
    return formula(points) if points else None


def _verdict_points(verdicts: Sequence[Verdict], key_points: Mapping[str, float], weight: float) -> list[Point]:
    scored = [(v.check.key_point, v.probability) for v in verdicts if v.outcome is Outcome.SCORED]
    points = [
        Point(find_keypoint(label).group, p, weight * key_points.get(find_keypoint(label).id, 1.0))
        for label, p in scored
        if p is not None
    ]
    return [point for point in points if point.weight > 0]


def _mean(points: Sequence[Point]) -> float:
    return fmean([point.p for point in points], [point.weight for point in points])


def _group_mean(points: Sequence[Point]) -> float:
    groups: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        groups[point.group].append(point)
    weights = [fmean(point.weight for point in group) for group in groups.values()]
    return fmean([_mean(group) for group in groups.values()], weights)


def _min(points: Sequence[Point]) -> float:
    return min(point.p for point in points)


def _geometric_mean(points: Sequence[Point]) -> float:
    if _min(points) == 0:
        return 0.0
    return math.exp(fmean([math.log(point.p) for point in points], [point.weight for point in points]))


_FORMULAS: dict[str, Callable[[Sequence[Point]], float]] = {
    "group_mean": _group_mean,
    "mean": _mean,
    "min": _min,
    "geometric_mean": _geometric_mean,
}


@dataclass(frozen=True)
class Pooled:
    """`aggregate` over all answers of all criteria: each answer counts with the weight of its criterion, times that of its
    key point; a criterion without answers is one number in a group of its own. Criteria of weight 0 do not count."""

    how: str
    key_points: Mapping[str, float] = field(default_factory=dict)
    absolute: bool = True

    @property
    def name(self) -> str:
        return "geometric" if self.how == "geometric_mean" else self.how

    def __call__(self, rows: Rows, weights: Mapping[str, float]) -> list[float | None]:
        return [self._score(row, weights) for row in rows]

    def _score(self, row: Mapping[str, Reading], weights: Mapping[str, float]) -> float | None:
        points: list[Point] = []
        for name, reading in row.items():
            weight = weights.get(name, 1.0)
            if weight <= 0:
                continue
            if reading.verdicts:
                points += _verdict_points(reading.verdicts, self.key_points, weight)
            elif reading.value is not None:
                points.append(Point(f"criterion {name}", reading.value, weight))
        return _FORMULAS[self.how](points) if points else None


@dataclass(frozen=True)
class WeightedSum:
    """sum of w_k v_k / sum of w_k over the criteria that have a value, so that the result stays in [0, 1]."""

    name: str = "weighted_sum"
    absolute: bool = True

    def __call__(self, rows: Rows, weights: Mapping[str, float]) -> list[float | None]:
        return [_weighted_sum(_values(row, weights)) for row in rows]


def _weighted_sum(values: Sequence[tuple[float, float]]) -> float | None:
    return fmean([v for v, _ in values], [w for _, w in values]) if values else None


_EPS = 1e-8


@dataclass(frozen=True)
class LambdaHarmonic:
    """The weighted harmonic mean 1 / sum of l_k / (v_k + 1e-8), with l_k the share of criterion k in all weights.

    Of `subject` with weight 0.3 and `checks` with 0.7 it is RPO's 1 / (l / (I + 1e-8) + (1 - l) / (T + 1e-8)) with l = 0.3
    (github andrew-miao/RPO): a picture must have both, and no amount of one makes up for the other.
    """

    name: str = "lambda_harmonic"
    absolute: bool = True

    def __call__(self, rows: Rows, weights: Mapping[str, float]) -> list[float | None]:
        return [_harmonic(_values(row, weights)) for row in rows]


def _harmonic(values: Sequence[tuple[float, float]]) -> float | None:
    total = sum(w for _, w in values)
    # 1e-8 lets the mean of ones come out a hair above 1.
    return min(1.0, total / sum(w / (v + _EPS) for v, w in values)) if values else None


@dataclass(frozen=True)
class RankSum:
    """The weighted mean of ranks (TTSnap sums them): by each column (see `columns`) a picture has the share of the others
    that it is better than, equal ones counting half. Relative."""

    key_points: Mapping[str, float] = field(default_factory=dict)
    name: str = "rank_sum"
    absolute: bool = False

    def __call__(self, rows: Rows, weights: Mapping[str, float]) -> list[float | None]:
        table, scale = columns(rows, weights, self.key_points)
        ranks: list[list[tuple[float, float]]] = [[] for _ in rows]
        for name, column in table.items():
            known = [value for value in column if value is not None]
            for own, value in zip(ranks, column, strict=True):
                if value is not None:
                    others = len(known) - 1
                    better = sum(value > other for other in known) + (sum(value == other for other in known) - 1) / 2
                    own.append((better / others if others else 0.5, scale[name]))
        return [None if _is_lost(row, weights) else _weighted_sum(own) for row, own in zip(rows, ranks, strict=True)]


@dataclass(frozen=True)
class Pareto:
    """The fronts of non-dominated pictures one after the other (Parrot takes the first and drops the rest), by `columns`.
    Within a front the greater weighted sum comes first. With F fronts, front f = 0, 1, ...: (F - 1 - f + sum) / F. Relative.
    """

    key_points: Mapping[str, float] = field(default_factory=dict)
    name: str = "pareto"
    absolute: bool = False

    def __call__(self, rows: Rows, weights: Mapping[str, float]) -> list[float | None]:
        table, scale = columns(rows, weights, self.key_points)
        points = [
            [(table[name][i], scale[name]) for name in table if table[name][i] is not None] for i in range(len(rows))
        ]
        sums = [
            None if _is_lost(row, weights) else _weighted_sum([(v, w) for v, w in own if v is not None])
            for row, own in zip(rows, points, strict=True)
        ]
        front: dict[int, int] = {}
        left = [i for i, total in enumerate(sums) if total is not None]
        number = 0
        while left:
            best = [i for i in left if not any(_dominates(table, j, i) for j in left)]
            front |= dict.fromkeys(best, number)
            left = [i for i in left if i not in best]
            number += 1
        return [None if s is None else (number - 1 - front[i] + s) / number for i, s in enumerate(sums)]


def _dominates(table: Mapping[str, Sequence[float | None]], one: int, other: int) -> bool:
    """Whether a picture is nowhere worse than another, and somewhere better, in the columns that both have."""
    pairs = [(column[one], column[other]) for column in table.values()]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    return bool(both) and all(a >= b for a, b in both) and any(a > b for a, b in both)


@dataclass(frozen=True)
class WinRate:
    """The share of comparisons that a picture wins against the others of its group (Pref-GRPO's rate, over readings): by the
    weighted votes of all `columns`, a tie counting half. Relative."""

    key_points: Mapping[str, float] = field(default_factory=dict)
    name: str = "win_rate"
    absolute: bool = False

    def __call__(self, rows: Rows, weights: Mapping[str, float]) -> list[float | None]:
        table, scale = columns(rows, weights, self.key_points)
        lost = [
            _is_lost(row, weights) or not any(c[i] is not None for c in table.values()) for i, row in enumerate(rows)
        ]
        won: list[list[float]] = [[] for _ in rows]
        for i, j in combinations([i for i, gone in enumerate(lost) if not gone], 2):
            votes = 0.0
            for name, column in table.items():
                a, b = column[i], column[j]
                if a is not None and b is not None:
                    votes += scale[name] * ((a > b) - (a < b))
            outcome = 0.5 if abs(votes) < _EPS else float(votes > 0)
            won[i].append(outcome)
            won[j].append(1 - outcome)
        return [None if gone else fmean(own) if own else 0.5 for gone, own in zip(lost, won, strict=True)]


def columns(
    rows: Rows, weights: Mapping[str, float], key_points: Mapping[str, float]
) -> tuple[dict[str, list[float | None]], dict[str, float]]:
    """The numbers by which the pictures of a group are compared, and the weight of each column.

    A criterion that answers checks has one column for each group of key points (the mean of its answers there), any other
    criterion has one for its value. None: the picture has no such number.
    """
    table: dict[str, list[float | None]] = {}
    scale: dict[str, float] = {}
    for at, row in enumerate(rows):
        for name, reading in row.items():
            weight = weights.get(name, 1.0)
            if weight <= 0:
                continue
            cells: dict[str, list[Point]] = defaultdict(list)
            if reading.verdicts:
                for point in _verdict_points(reading.verdicts, key_points, weight):
                    cells[f"{name} {point.group}"].append(point)
            elif reading.value is not None:
                cells[name].append(Point(name, reading.value, weight))
            for column, points in cells.items():
                table.setdefault(column, [None] * len(rows))[at] = _mean(points)
                scale.setdefault(column, fmean(point.weight for point in points))
    return table, scale


def _values(row: Mapping[str, Reading], weights: Mapping[str, float]) -> list[tuple[float, float]]:
    """Value and weight of the criteria that have both."""
    pairs = [(reading.value, weights.get(name, 1.0)) for name, reading in row.items()]
    return [(value, weight) for value, weight in pairs if value is not None and weight > 0]


def _is_lost(row: Mapping[str, Reading], weights: Mapping[str, float]) -> bool:
    """Whether a criterion that counts FAILED: such a picture has no place in an order, rather than one by the rest."""
    return any(r.outcome is Outcome.FAILED and weights.get(name, 1.0) > 0 for name, r in row.items())


def open_combine(name: str, key_points: Mapping[str, float] | None = None) -> Combine:
    """The rule of that name; `key_points`: weights by id of key point, for the rules that look at answers. Raises ConfigError."""
    weights = dict(key_points or {})
    rules: dict[str, Combine] = {
        "group_mean": Pooled("group_mean", weights),
        "mean": Pooled("mean", weights),
        "min": Pooled("min", weights),
        "geometric": Pooled("geometric_mean", weights),
        "weighted_sum": WeightedSum(),
        "lambda_harmonic": LambdaHarmonic(),
        "rank_sum": RankSum(weights),
        "pareto": Pareto(weights),
        "win_rate": WinRate(weights),
    }
    if name not in rules:
        raise ConfigError(f"unknown combine {name!r}; there are {', '.join(rules)}")
    return rules[name]
