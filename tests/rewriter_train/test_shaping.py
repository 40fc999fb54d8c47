"""The options of ShapingArguments on hand-computed numbers, in groups and over batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from rewriter.train.rewards import Shaper, ShapingArguments, ShapingRow, Value


def row(
    prompt: str,
    alignment: Value,
    *,
    form: float = 1.0,
    penalty: float = 0.0,
    certainty: float = 1.0,
    task: str = "",
) -> ShapingRow:
    """A row as `ImageReward` makes it: reward = alignment + 0.1 format - penalty."""
    reward = None if alignment is None else alignment + 0.1 * form - penalty
    return ShapingRow(
        request=prompt,
        task=task,
        reward=reward,
        alignment=alignment,
        format=form,
        penalty=penalty,
        certainty=certainty,
    )


def shaped(rows: Sequence[ShapingRow], **settings: object) -> list[Value]:
    return list(Shaper(ShapingArguments(**settings))(rows).rewards)  # type: ignore[arg-type]


def near(expected: Sequence[Value]) -> list[object]:
    return [None if one is None else pytest.approx(one, abs=1e-5) for one in expected]


def test_the_default_leaves_rewards_alone() -> None:
    rows = [row("a", 0.2), row("a", None), row("b", 0.9, penalty=0.3)]
    assert Shaper(ShapingArguments()).is_plain
    assert shaped(rows) == [one.reward for one in rows]


@pytest.mark.parametrize(
    "settings",
    [
        {"combine": "log_tamed"},
        {"combine": "normalise_then_sum"},
        {"doubt_weight": True},
        {"win_rate": True},
        {"skip_settled": True},
        {"task_ema": True},
    ],
)
def test_every_option_is_told_and_keeps_failures_apart(settings: dict[str, object]) -> None:
    assert not Shaper(ShapingArguments(**settings)).is_plain  # type: ignore[arg-type]
    rows = [row("a", 0.2), row("a", None), row("a", 0.6), row("b", None), row("b", None)]
    found = shaped(rows, **settings)
    assert [one is None for one in found] == [False, True, False, True, True]


def test_normalise_then_sum_within_each_group() -> None:
    # Two rewards of a group have deviation d / sqrt 2 (n - 1), so each part comes to +-1 / sqrt 2.
    rows = [row("a", 0.2, form=0.5), row("a", 0.4), row("b", 0.1), row("b", 0.9, penalty=0.1)]
    half = math.sqrt(0.5)
    found = shaped(rows, combine="normalise_then_sum", part_weights=[1.0, 0.1, 0.5])
    # Group a: alignment and format rise together, intent is constant. Group b: the better picture pays a penalty.
    assert found == near([-1.1 * half, 1.1 * half, -half + 0.5 * half, half - 0.5 * half])


def test_a_failed_judgement_moves_no_part_of_the_others() -> None:
    rows = [row("a", 0.2, form=0.5), row("a", 0.4), row("a", None, form=0.0)]
    with_failure = shaped(rows, combine="normalise_then_sum")
    assert with_failure == [*near(shaped(rows[:2], combine="normalise_then_sum")), None]


def test_log_taming_over_the_whole_batch() -> None:
    # Alignment 0.1 and 0.9: h = 0.4 / 0.5 = 0.8, tamed; format and intent do not spread: h = 0, left as they are.
    rows = [row("a", 0.1), row("b", 0.9)]
    weights = [1.0, 0.1, 0.5]
    expected = [math.log1p(0.1) + 0.1 + 0.5, math.log1p(0.9) + 0.1 + 0.5]
    assert shaped(rows, combine="log_tamed", part_weights=weights) == near(expected)
    # Above a threshold of 1 nothing is tamed.
    assert shaped(rows, combine="log_tamed", part_weights=weights, log_tame_above="1") == near([0.7, 1.5])


def test_doubtful_judgements_are_drawn_to_their_groups_mean() -> None:
    rows = [row("a", 0.2, certainty=0.5), row("a", 0.6), row("b", 0.2, certainty=0.5), row("b", 0.2)]
    # Rewards 0.3 and 0.7, mean 0.5: 0.5 + 0.5 (0.3 - 0.5) = 0.4. Group b is at its mean already.
    assert shaped(rows, doubt_weight=True) == near([0.4, 0.7, 0.3, 0.3])


def test_win_rates_in_place_of_rewards() -> None:
    rows = [row("a", 0.1), row("a", 0.5), row("a", 0.52), row("b", 0.9), row("b", None)]
    assert shaped(rows, win_rate=True) == near([0.0, 0.5, 1.0, None, None])
    assert shaped(rows, win_rate=True, win_margin=0.05) == near([0.0, 0.75, 0.75, None, None])


def test_settled_groups_become_constant_and_are_counted() -> None:
    rows = [row("good", 0.93), row("good", 0.95), row("wide", 0.99), row("wide", 0.85), row("bad", 0.1)]
    found = Shaper(ShapingArguments(skip_settled=True))(rows)
    assert list(found.rewards) == near([1.04, 1.04, 1.09, 0.95, 0.2])
    assert (found.groups, found.settled) == (3, 1)


def test_task_normalisation_has_a_state_that_checkpoints_keep() -> None:
    settings = ShapingArguments(task_ema=True, task_decay=0.5)
    first = [row("a", 0.1, task="counting"), row("a", 0.5, task="counting")]
    second = [row("b", 0.2, task="counting"), row("b", 0.4, task="counting")]
    whole, cut = Shaper(settings), Shaper(settings)
    # Rewards 0.2 and 0.6: m1 = 0.4, m2 = 0.2, sigma = 0.2.
    assert list(whole(first).rewards) == near([-1.0, 1.0])
    cut(first)
    later = Shaper(settings)
    later.restore(cut.state())
    # m1 = (0.4 + 0.4) / 2, m2 = (0.2 + 0.17) / 2, sigma^2 = 0.185 - 0.16
    expected = near([-0.1 / math.sqrt(0.025), 0.1 / math.sqrt(0.025)])
    assert list(later(second).rewards) == expected
    assert list(whole(second).rewards) == expected
    assert list(Shaper(settings)(second).rewards) == near([-1.0, 1.0])


def test_options_follow_each_other() -> None:
    # Win rates (0, 1) of group a, then its task's deviation 0.5.
    rows = [row("a", 0.1), row("a", 0.3)]
    assert shaped(rows, win_rate=True, task_ema=True) == near([-1.0, 1.0])


@pytest.mark.parametrize("bad", [{"part_weights": [1.0]}, {"log_tame_above": "a little"}])
def test_settings_that_cannot_be(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"part_weights|could not convert"):
        ShapingArguments(**bad)  # type: ignore[arg-type]
