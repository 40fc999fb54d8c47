"""From comparisons, or from scores with their spread, to an order of a group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

_EPS = 1e-6


def win_rates(count: int, outcomes: Mapping[tuple[int, int], float | None]) -> list[float | None]:
    """Each item's share of won comparisons: wins / comparisons, a tie being half a win (Pref-GRPO, arXiv 2508.20751).

    `outcomes[i, j]` is 1 if i is better than j, 0 if j is, 0.5 for a tie, between them for a probability, None if the
    comparison failed. Unlike the source, which calls an unreadable comparison a tie, failed ones are left out. The rate
    is None if none is left.
    """
    won: list[list[float]] = [[] for _ in range(count)]
    for (i, j), outcome in outcomes.items():
        if outcome is not None:
            won[i].append(outcome)
            won[j].append(1.0 - outcome)
    return [fmean(results) if results else None for results in won]


def thurstone(scores: Sequence[tuple[float, float] | None]) -> list[float | None]:
    """Each item's mean probability of being `better` than the others, from its score and the variance of that.

    VisualQuality-R1 takes single answers of i against the mean of j; here both sides are means, so that p(i, j) and
    p(j, i) add up to 1. None for an item without a score (None), and for one that is alone.
    """
    ranks: list[float | None] = []
    for i, own in enumerate(scores):
        others = [] if own is None else [other for j, other in enumerate(scores) if j != i and other is not None]
        ranks.append(fmean(better(*own, *other) for other in others) if own is not None and others else None)
    return ranks


def better(mean: float, variance: float, other_mean: float, other_variance: float) -> float:
    """Phi((mean - other_mean) / sqrt(variance + other_variance + 1e-6)), Thurstone's model as VisualQuality-R1 has it:
    the probability that one of two scores known with some spread is the greater."""
    z = (mean - other_mean) / math.sqrt(variance + other_variance + _EPS)
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))
