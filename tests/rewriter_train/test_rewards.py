"""The reward formulas, on numbers worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from evaluator.pairs.ranking import win_rates
from evaluator.types import Check, Outcome, Report, Verdict
from rewriter.reply import parse_reply
from rewriter.train import rewards
from rewriter.train.rewards import TaskNorm


def _report(*scored: tuple[str, float], failed: int = 0) -> Report:
    verdicts = [Verdict(Check(point, "?"), Outcome.SCORED, p) for point, p in scored]
    verdicts += [Verdict(Check("counting", "?"), Outcome.FAILED)] * failed
    return Report(tuple(verdicts), 0.5, failed)


def test_alignment_is_the_score_or_how_a_picture_stands_in_its_group() -> None:
    report = _report(("counting", 0.2), ("size", 0.4), ("negation", 0.9))
    assert rewards.alignment(report) == 0.5
    assert rewards.alignment(report, 0.75) == 0.75


def test_a_failed_check_makes_the_alignment_unknown() -> None:
    assert rewards.alignment(_report(("counting", 1.0), failed=1)) is None
    assert rewards.alignment(Report((), None, 0)) is None


def test_means_leave_failures_out_and_failures_are_counted() -> None:
    assert rewards.mean_of([0.2, None, 0.6]) == pytest.approx(0.4)
    assert rewards.mean_of([None, None]) is None
    assert rewards.failures([0.2, None, 0.0, None]) == 2


def test_group_advantages() -> None:
    # mean 2, deviations -1 0 1, std with n - 1 is 1; the failure takes no part
    assert rewards.group_advantages([1.0, None, 2.0, 3.0]) == [
        pytest.approx(-1, abs=1e-5), None, 0.0, pytest.approx(1, abs=1e-5)
    ]  # fmt: skip
    assert rewards.group_advantages([0.7, 0.7, 0.7]) == pytest.approx([0, 0, 0])
    assert rewards.group_advantages([None, 0.7]) == [None, 0.0]


def test_normalise_then_sum_gives_each_reward_the_same_say() -> None:
    # a has 0 and 1 (std 0.7071), b 0.50 and 0.52: both become -+0.7071; 2 * 0.7071 - 1 * 0.7071
    parts = {"a": [0.0, 1.0], "b": [0.52, 0.50]}
    assert rewards.normalise_then_sum(parts, {"a": 2.0, "b": 1.0}) == pytest.approx([-0.7071, 0.7071], abs=1e-3)


def test_normalise_then_sum_carries_failures_through() -> None:
    parts: dict[str, list[float | None]] = {"a": [1.0, 2.0, 3.0], "b": [None, 1.0, 2.0]}
    found = rewards.normalise_then_sum(parts, {"a": 1.0, "b": 1.0})
    assert found[0] is None
    assert found[1:] == pytest.approx([-0.7071, 1.7071], abs=1e-3)


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "c": 1.0}])
def test_unmatched_weights_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="same names"):
        rewards.normalise_then_sum({"a": [1.0], "b": [1.0]}, weights)


def test_unlike_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        rewards.normalise_then_sum({"a": [1.0, 2.0], "b": [1.0]}, {"a": 1.0, "b": 1.0})


def test_log_tamed_tames_what_spreads_more_than_the_mean_spread() -> None:
    # a: mean 2, std (n) 1, h 0.5. b: mean 5, std 4, h 0.8. Mean of h 0.65, so b alone becomes log(1 + R).
    parts = {"a": [1.0, 3.0], "b": [1.0, 9.0]}
    expected = [1.0 + 0.5 * math.log(2), 3.0 + 0.5 * math.log(10)]
    assert rewards.log_tamed(parts, {"a": 1.0, "b": 0.5}) == pytest.approx(expected)


@pytest.mark.parametrize(("threshold", "first"), [(0.9, 2.0), (0.2, 2 * math.log(2)), ("median", 1.0 + math.log(2))])
def test_log_tamed_threshold(threshold: float, first: float) -> None:
    parts = {"a": [1.0, 3.0], "b": [1.0, 9.0]}
    assert rewards.log_tamed(parts, {"a": 1.0, "b": 1.0}, threshold)[0] == pytest.approx(first)  # type: ignore[arg-type]


def test_log_tamed_failures_and_bad_input() -> None:
    parts: dict[str, list[float | None]] = {"a": [1.0, None, 3.0], "b": [1.0, 2.0, 1.0]}
    assert rewards.log_tamed(parts, {"a": 1.0, "b": 1.0})[1] is None
    assert rewards.log_tamed({"a": [None, None]}, {"a": 1.0}) == [None, None]
    with pytest.raises(ValueError, match="negative"):
        rewards.log_tamed({"a": [-0.1, 1.0]}, {"a": 1.0})


def test_comparisons_from_scores() -> None:
    outcomes = rewards.compare([0.5, 0.52, 0.9, None], margin=0.05)
    assert outcomes == {(0, 1): 0.5, (0, 2): 0.0, (1, 2): 0.0, (0, 3): None, (1, 3): None, (2, 3): None}
    assert win_rates(4, outcomes) == [0.25, 0.25, 1.0, None]


@pytest.mark.parametrize(
    ("group", "settled"),
    [
        ([0.95, 0.95, 1.0], True),  # mean 0.967, std 0.024
        ([0.8, 1.0, 1.0], False),  # mean 0.933, std 0.094
        ([0.5, 0.5, 0.5], False),  # all alike, but there is room above
        ([0.95, None, 1.0], True),
        ([None, None], False),
    ],
)
def test_low_variance_filter(group: list[float | None], settled: bool) -> None:
    assert rewards.is_settled(group) is settled


def test_task_norm_follows_the_moments_of_each_task() -> None:
    norm = TaskNorm(decay=0.5)
    # First batch: m1 0.5, m2 0.5, sigma 0.5; the other task keeps its own: values 0 and 2, m1 1, m2 2, sigma 1.
    [one, other] = norm([("count", [0.0, 1.0]), ("text", [0.0, 2.0])])
    assert one == pytest.approx([-1, 1], abs=1e-4)
    assert other == pytest.approx([-1, 1], abs=1e-4)
    # Then r = 0.2 and 0.6: m1 = (0.5 + 0.4) / 2 = 0.45, m2 = (0.5 + 0.2) / 2 = 0.35, sigma = sqrt(0.1475) = 0.38406
    [again] = norm([("count", [0.2, None, 0.6])])
    assert again[1] is None
    assert [again[0], again[2]] == pytest.approx([-0.2 / 0.38406, 0.2 / 0.38406], abs=1e-4)
    assert norm.moments["text"] == pytest.approx((1.0, 2.0))


def test_task_norm_falls_back_to_the_groups_own_deviation() -> None:
    norm = TaskNorm(moments={"t": (0.5, 0.25)})  # a constant history: sigma about 0
    [found] = norm([("t", [0.0, 1.0])])
    # sigma^2 = 0.255 - 0.25 = 0.005, so |A| = 7.1: the group's own std 0.7071 instead
    assert found == pytest.approx([-0.7071, 0.7071], abs=1e-3)


def test_task_norm_of_a_group_without_rewards() -> None:
    assert TaskNorm()([("t", [None, None])]) == [[None, None]]


def test_task_norm_goes_on_from_saved_moments() -> None:
    batches = [[("t", [0.1, 0.9])], [("t", [0.4, 0.5])]]
    whole, parts = TaskNorm(), TaskNorm()
    whole(batches[0])
    parts(batches[0])
    assert TaskNorm(moments=dict(parts.moments))(batches[1]) == whole(batches[1])


def test_uncertainty_weight() -> None:
    # KL(.8||.5) = .8 ln 1.6 + .2 ln .4 = .19274; KL(.5||.8) = .5 ln .625 + .5 ln 2.5 = .22314; mean .20794
    assert rewards.disagreement([0.8, 0.5]) == pytest.approx(0.20794, abs=1e-5)
    assert rewards.uncertainty_weight([0.8, 0.5]) == pytest.approx(0.81225, abs=1e-5)
    assert rewards.uncertainty_weight([0.7, 0.7, 0.7]) == pytest.approx(1.0)
    assert rewards.uncertainty_weight([0.3]) == 1.0
    assert 0 < rewards.uncertainty_weight([0.0, 1.0]) < 1e-3


def test_doubtful_rewards_are_drawn_to_the_mean() -> None:
    # mean 0.4; 0.4 + 0.5 * (0.8 - 0.4)
    assert rewards.tempered([0.0, 0.8, None], [1.0, 0.5, 1.0]) == [0.0, pytest.approx(0.6), None]


@pytest.mark.parametrize(
    ("reply", "term"),
    [
        ("<think>two stars</think><answer>two red stars</answer>", 1.0),
        ("<think>two\nstars</think>\n\n<answer>two red stars</answer>\n", 1.0),
        ("<answer>two red stars</answer>", 0.5),
        ("Sure!\n<think>two stars</think><answer>two red stars</answer>", 0.5),
        ("<think>a</think><answer>draft</answer><answer>two red stars</answer>", 0.5),
        ("<think>two stars", 0.0),
        ("", 0.0),
    ],
)
def test_format_term(reply: str, term: float) -> None:
    assert rewards.format_term(reply, readable=parse_reply(reply).prompt is not None) == term


def test_intent_penalty_is_bounded() -> None:
    assert [rewards.intent_penalty(n) for n in (0, 1, 3, 9)] == pytest.approx([0, 0.1, 0.3, 0.5])


def test_importing_the_formulas_loads_no_model_library() -> None:
    heavy = "{'torch', 'trl', 'transformers', 'datasets', 'diffusers'} & {*sys.modules}"
    code = f"import sys, rewriter.train.rewards; print(sorted({heavy}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
