"""Intervals and calibration for reported figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its 95% percentile-bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: Sequence[float], seed: int = 0, resamples: int = 2000) -> Interval:
    """Mean of `values` and its 95% interval, resampling whole items (here: prompts). Raises ValueError for none."""
    if not values:
        raise ValueError("no values to average")
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = array[rng.integers(len(array), size=(resamples, len(array)))].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(array.mean()), float(low), float(high))


def paired_difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Interval:
    """Mean of ours - theirs over the same items, with its 95% interval."""
    return bootstrap([a - b for a, b in zip(ours, theirs, strict=True)], seed)


@dataclass(frozen=True)
class Bin:
    """Answers whose probability lay between `low` and `high`: how many, their mean, and how often yes was true."""

    low: float
    high: float
    count: int
    confidence: float
    frequency: float


def calibration(probabilities: Sequence[float], truths: Sequence[bool], bins: int = 10) -> tuple[list[Bin], float]:
    """Reliability bins of equal width that hold anything, and the expected calibration error.

    ECE = sum over bins of (share of answers in the bin) * |mean probability - share that were true| (Guo et al. 2017).
    """
    p = np.asarray(probabilities, dtype=np.float64)
    t = np.asarray(truths, dtype=np.float64)
    which = np.minimum((p * bins).astype(int), bins - 1)
    found = []
    for b in range(bins):
        mine = which == b
        if mine.any():
            found.append(Bin(b / bins, (b + 1) / bins, int(mine.sum()), float(p[mine].mean()), float(t[mine].mean())))
    error = sum(b.count * abs(b.confidence - b.frequency) for b in found) / max(len(p), 1)
    return found, float(error)


def mean_of_means(
    groups: Mapping[str, Sequence[float]],
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Mean (weighted, where `weights` has every group) of the groups' means, items resampled within their groups.

    Groups without values do not count. Raises ValueError where none has any.
    """
    filled = {name: np.asarray(values, dtype=np.float64) for name, values in groups.items() if len(values)}
    if not filled:
        raise ValueError("no values to average")
    share = np.asarray([1.0 if weights is None else weights[name] for name in filled])
    share /= share.sum()
    rng = np.random.default_rng(seed)
    drawn = [v[rng.integers(len(v), size=(resamples, len(v)))].mean(1) for v in filled.values()]
    low, high = np.percentile(share @ np.stack(drawn), (2.5, 97.5))
    return Interval(float(share @ np.asarray([v.mean() for v in filled.values()])), float(low), float(high))


def ratio(hits: Sequence[float], totals: Sequence[float], seed: int = 0, resamples: int = 2000) -> Interval:
    """sum(hits) / sum(totals) with its interval, whole items resampled: right for answers that share a picture."""
    return ratio_difference(hits, totals, [0.0] * len(hits), [1.0] * len(hits), seed, resamples)


def ratio_difference(
    hits: Sequence[float],
    totals: Sequence[float],
    other_hits: Sequence[float],
    other_totals: Sequence[float],
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """sum(hits)/sum(totals) - sum(other_hits)/sum(other_totals), the same items resampled on both sides.

    Raises ValueError where a total is zero.
    """
    table = np.asarray([hits, totals, other_hits, other_totals], dtype=np.float64)
    if table.size == 0 or table[1].sum() == 0 or table[3].sum() == 0:
        raise ValueError("no values to average")
    rng = np.random.default_rng(seed)
    which = rng.integers(table.shape[1], size=(resamples, table.shape[1]))
    sums = table[:, which].sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = sums[0] / sums[1] - sums[2] / sums[3]
    # A resample may hit only items that have no such answer.
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    total = table.sum(1)
    return Interval(float(total[0] / total[1] - total[2] / total[3]), float(low), float(high))
