"""Intervals and calibration for reported figures."""

from __future__ import annotations

from collections.abc import Sequence
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
