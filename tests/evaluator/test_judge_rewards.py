"""Rewards of judges, by hand-computed numbers."""

from __future__ import annotations

import math

import pytest

from evaluator.train import rewards
from evaluator.train.rewards import read_reasoned

FORMED = "<think>Two stars.</think><answer>yes</answer>"


@pytest.mark.parametrize(
    ("text", "answer", "formed"),
    [
        (FORMED, "yes", True),
        (" <think>\nTwo.\n</think>\n<answer> Yes. </answer>\n", "yes", True),
        ("<description>Stars.</description><think>Two.</think><answer>no</answer>", "no", True),
        ("yes", "yes", False),
        ("Yes.", "yes", False),
        (FORMED + " and more", "yes", False),
        ("first " + FORMED, "", False),
        ("<think>Two stars", "", False),
        ("<think>Two.</think> yes", "", False),
        ("<answer>yes</answer>", "yes", False),
        ("<think>x</think><description>y</description><answer>yes</answer>", "", False),
    ],
)
def test_replies_are_read(text: str, answer: str, formed: bool) -> None:
    reply = read_reasoned(text)
    assert (reply.answer, reply.is_formed) == (answer, formed)


def test_format_accuracy_and_no_thinking() -> None:
    assert rewards.reward_format(read_reasoned(FORMED)) == 1
    assert rewards.reward_format(read_reasoned("<think></think><answer>yes</answer>")) == 0
    assert rewards.reward_accuracy(read_reasoned(FORMED), "Yes") == 1
    assert rewards.reward_accuracy(read_reasoned(FORMED), "no") == 0
    assert rewards.reward_no_thinking(read_reasoned("Yes."), "yes") == 1
    assert rewards.reward_no_thinking(read_reasoned(FORMED), "yes") == 0


@pytest.mark.parametrize(
    ("answer", "value"), [("3.6", 1), ("3.2", 1), ("3.85", 0), ("3.15", 0), ("about 3.5", 0), ("", 0)]
)
def test_scores_within_a_third_are_right(answer: str, value: float) -> None:
    assert rewards.reward_score(read_reasoned(f"<think>x</think><answer>{answer}</answer>"), 3.5) == value


def test_degradations() -> None:
    assert rewards.reward_degradation("Blur", "Slight", "blur", "slight") == 1
    assert rewards.reward_degradation("blur", "severe", "blur", "slight") == 0.25
    assert rewards.reward_degradation("noise", "slight", "blur", "slight") == 0


def test_fidelity_by_hand() -> None:
    """Scores 2 and 4 have variance 1, 1 and 3 too; z of 4 against mean 2 is 2 / sqrt(2), Phi(1.41421) = 0.92135."""
    low, high = rewards.fidelity([2, 4], [[1, 3]], 5, [1])
    assert high == pytest.approx(math.sqrt(0.92135), abs=1e-4)
    assert low == pytest.approx(math.sqrt(0.5), abs=1e-4)  # z = 0
    wrong_way = rewards.fidelity([2, 4], [[1, 3]], 1, [5])
    assert wrong_way[1] == pytest.approx(math.sqrt(1 - 0.92135), abs=1e-4)
    tie = rewards.fidelity([2, 4], [[1, 3]], 3, [3])
    assert tie[0] == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(ValueError, match="0 other pictures"):
        rewards.fidelity([2], [], 1, [])


def test_listener_and_caption() -> None:
    assert rewards.reward_listener(0.7) == 0.7
    assert rewards.reward_listener(None) is None
    assert rewards.caption_utility(["a", "B", "c", "d"], ["a", "b", "x", "y"]) == 0.5
    with pytest.raises(ValueError, match="0 answers"):
        rewards.caption_utility([], [])


def test_gain_and_exploration() -> None:
    assert rewards.confidence_gain([0.2, 0.5, 0.4]) == pytest.approx(0.1)
    assert rewards.confidence_gain([]) == 0
    assert rewards.exploration_bonus(0.3, 2) == pytest.approx(0.7)
    assert rewards.exploration_bonus(0.3, 1) == 0


def test_overlap_and_regions() -> None:
    """Unit squares shifted by half a side share 1/2 of 3/2."""
    assert rewards.overlap((0, 0, 1, 1), (0.5, 0, 1.5, 1)) == pytest.approx(1 / 3)
    assert rewards.overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert rewards.overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0
    true = [(0.0, 0.0, 1.0, 1.0)]
    assert rewards.reward_regions(true, true) == 1
    assert rewards.reward_regions([*true, (5, 5, 6, 6)], true) == 0.5
    assert rewards.reward_regions([], true) == 0
    assert rewards.reward_regions([], []) == 1


def test_labels_on_two_levels() -> None:
    hand, face, light = ("human", "hand"), ("human", "face"), ("scene", "light")
    assert rewards.reward_labels([hand], [hand]) == 1
    assert rewards.reward_labels([hand], [face]) == 0.5
    assert rewards.reward_labels([hand], [light]) == 0
    assert rewards.reward_labels([hand, light], [hand]) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert rewards.reward_labels([], []) == 1
    assert rewards.reward_labels([hand], []) == 0


def test_rank_weight_by_hand() -> None:
    """Ranks 1 and 2: |1 / ln 2 - 1 / ln 3| = |1.442695 - 0.910239|."""
    assert rewards.rank_weight(0.9, 0.4, 1, 2) == pytest.approx(0.5 * 0.532456, abs=1e-6)
    assert rewards.rank_weight(0.4, 0.9, 2, 1) == rewards.rank_weight(0.9, 0.4, 1, 2)
    assert rewards.rank_weight(0.5, 0.5, 1, 2) == 0
    with pytest.raises(ValueError, match="begin at 1"):
        rewards.rank_weight(1, 0, 0, 1)
