"""Intervals and calibration, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from eval_suites.stats import bootstrap, calibration, paired_difference


def test_the_mean_of_equal_values_has_no_width() -> None:
    interval = bootstrap([0.5] * 20)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_an_interval_of_coin_flips_is_about_as_wide_as_theory_says() -> None:
    interval = bootstrap([0.0, 1.0] * 200)
    assert interval.mean == 0.5
    # 1.96 * sqrt(0.25 / 400) = 0.049
    assert interval.low == pytest.approx(0.451, abs=0.006)
    assert interval.high == pytest.approx(0.549, abs=0.006)


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    theirs = [i / 100 for i in range(100)]
    ours = [value + 0.01 for value in theirs]
    interval = paired_difference(ours, theirs)
    assert interval.low == pytest.approx(0.01)
    assert interval.high == pytest.approx(0.01)


def test_calibration_by_hand() -> None:
    # Two answers at 0.25, one true: |0.25 - 0.5|; two at 0.95, both true: |0.95 - 1|; each bin half of all answers.
    bins, error = calibration([0.25, 0.25, 0.95, 0.95], [True, False, True, True])
    assert [(b.count, b.confidence, b.frequency) for b in bins] == [(2, 0.25, 0.5), (2, pytest.approx(0.95), 1.0)]
    assert error == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


def test_certainty_falls_into_the_last_bin() -> None:
    bins, _ = calibration([1.0], [True])
    assert (bins[0].low, bins[0].high) == (0.9, 1.0)
