"""Intervals and calibration for reported figures, by `redraft.statistics`: 95%, whole items (here: prompts) resampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from redraft import statistics
from redraft.statistics import Floats, Interval


def bootstrap(values: Sequence[float]) -> Interval:
    """Mean of `values` with its interval. Raises ValueError if there are none."""
    return statistics.bootstrap(statistics.mean, values)


def interval(values: Sequence[float]) -> dict[str, float | None] | None:
    """`bootstrap` as plain values; None if there are none."""
    return asdict(bootstrap(values)) if values else None


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Mean of ours - theirs over the same items."""
    return bootstrap([a - b for a, b in zip(ours, theirs, strict=True)])


def mean_of_means(groups: Mapping[str, Sequence[float]], weights: Mapping[str, float] | None = None) -> Interval:
    """Mean of the groups' means (weighted if `weights`, which has every group, is given), items resampled within their
    groups. Groups without values do not count. Raises ValueError if none has any."""
    filled = {name: values for name, values in groups.items() if values}
    if not filled:
        raise ValueError("no values to average")
    total = sum(1.0 if weights is None else weights[name] for name in filled)
    share = {name: (1.0 if weights is None else weights[name]) / total for name in filled}
    # A group of one has nothing to resample: it is a constant.
    constant = sum(share[name] * values[0] for name, values in filled.items() if len(values) == 1)
    drawn = {name: values for name, values in filled.items() if len(values) > 1}
    if not drawn:
        return Interval(constant, None, None) if len(filled) == 1 else Interval(constant, constant, constant)

    def mean(*samples: NDArray[np.float64]) -> Floats:
        parts = [share[name] * sample.mean(-1) for name, sample in zip(drawn, samples, strict=True)]
        return np.asarray(sum(parts) + constant, dtype=np.float64)

    return statistics.bootstrap(mean, *drawn.values(), paired=False)


def ratio(hits: Sequence[float], totals: Sequence[float]) -> Interval:
    """sum(hits) / sum(totals): right for answers that share a picture. Raises ValueError if the total is zero."""
    return ratio_difference(hits, totals, [0.0] * len(hits), [1.0] * len(hits))


def ratio_difference(
    hits: Sequence[float], totals: Sequence[float], other_hits: Sequence[float], other_totals: Sequence[float]
) -> Interval:
    """sum(hits)/sum(totals) - sum(other_hits)/sum(other_totals), the same items resampled on both sides.

    Raises ValueError if a total is zero.
    """
    if not sum(totals) or not sum(other_totals):
        raise ValueError("no values to average")
    return statistics.bootstrap(
        lambda a, b, c, d: a.sum(-1) / b.sum(-1) - c.sum(-1) / d.sum(-1), hits, totals, other_hits, other_totals
    )


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
    filled = []
    for b in range(bins):
        mine = which == b
        if mine.any():
            filled.append(
                Bin(
                    low=b / bins,
                    high=(b + 1) / bins,
                    count=int(mine.sum()),
                    confidence=float(p[mine].mean()),
                    frequency=float(t[mine].mean()),
                )
            )
    error = sum(b.count * abs(b.confidence - b.frequency) for b in filled) / max(len(p), 1)
    return filled, float(error)
