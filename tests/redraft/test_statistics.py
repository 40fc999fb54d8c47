"""Intervals, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from redraft.statistics import bootstrap, mean


def test_the_mean_of_equal_values_has_no_width() -> None:
    interval = bootstrap(mean, [0.5] * 20)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_an_interval_of_coin_flips_is_about_as_wide_as_theory_says() -> None:
    interval = bootstrap(mean, [0.0, 1.0] * 200)
    # 1.96 * sqrt(0.25 / 400) = 0.049
    assert (interval.mean, interval.low, interval.high) == (
        0.5, pytest.approx(0.451, abs=0.006), pytest.approx(0.549, abs=0.006),
    )  # fmt: skip


def test_one_item_has_no_interval_and_none_has_no_mean() -> None:
    assert str(bootstrap(mean, [0.5])) == "0.500"
    with pytest.raises(ValueError, match="no values"):
        bootstrap(mean, [])


def test_paired_samples_are_drawn_together() -> None:
    theirs = np.arange(100) / 100
    interval = bootstrap(lambda a, b: (a - b).mean(-1), theirs + 0.01, theirs)
    assert (interval.low, interval.high) == (pytest.approx(0.01), pytest.approx(0.01))
    apart = bootstrap(lambda a, b: (a - b).mean(-1), theirs + 0.01, theirs, paired=False)
    assert apart.low is not None
    assert apart.low < 0 < 0.05 < (apart.high or 0)


def test_resamples_without_a_value_are_left_out() -> None:
    interval = bootstrap(lambda hits, totals: hits.sum(-1) / totals.sum(-1), [1.0, 0.0], [1.0, 0.0])
    assert (interval.mean, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap(mean, values, seed=1) == bootstrap(mean, values, seed=1) != bootstrap(mean, values, seed=2)
