"""Intervals for reported figures: scipy's bootstrap, with percentiles.

    accuracy = bootstrap(mean, [1.0, 0.0, 1.0, 1.0])
    print(accuracy)                                              # 0.750 [0.250, 1.000]
    share = bootstrap(lambda hits, totals: hits.sum(-1) / totals.sum(-1), hits, totals)

Importing this module loads numpy; scipy is loaded by the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its 95% interval. The bounds are None if there is only one item to resample."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.low is None else f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean(values: NDArray[Any]) -> Floats:
    """The mean over the last axis: the usual statistic."""
    return np.asarray(values.mean(-1), dtype=np.float64)


def bootstrap(
    statistic: Callable[..., Floats],
    *samples: ArrayLike,
    paired: bool = True,
    seed: int = 0,
    resamples: int = 2000,
    batch: int | None = None,
) -> Interval:
    """`statistic(*samples)` with its 95% percentile-bootstrap interval (Efron 1979).

    Each sample is a sequence of numbers, one for an item; `statistic` takes arrays with the items on the last axis and
    reduces that axis. If `paired`, the same items are drawn from every sample, which must then be equally long; else
    each sample is resampled by itself. Resamples without a value (NaN, a share of nothing) are left out. `batch`
    resamples are held in memory at a time; None means all. The same seed gives the same interval.

    Raises ValueError if a sample is empty.
    """
    from scipy import stats

    arrays: Sequence[NDArray[Any]] = [np.asarray(sample) for sample in samples]
    if not all(array.size for array in arrays):
        raise ValueError("no values to average")
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(*arrays))
        if min(array.shape[-1] for array in arrays) < 2:
            return Interval(value, None, None)
        result = stats.bootstrap(
            arrays,
            lambda *drawn, axis: statistic(*drawn),
            paired=paired,
            vectorized=True,
            axis=-1,
            method="percentile",
            n_resamples=resamples,
            batch=batch,
            rng=np.random.default_rng(seed),
        )
    low, high = np.nanpercentile(result.bootstrap_distribution, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def area_under_curve(higher: ArrayLike, lower: ArrayLike) -> float:
    """The area under the ROC curve: the share of pairs in which the first value is above the second, a tie counting half (Mann
    and Whitney).

    >>> area_under_curve([3, 2], [1, 2])
    0.875
    """
    ranks = np.sort(np.asarray(lower))
    below = (np.searchsorted(ranks, higher, "left") + np.searchsorted(ranks, higher, "right")) / 2
    return float(below.mean() / len(ranks))
