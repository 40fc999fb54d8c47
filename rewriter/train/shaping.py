"""From the parts of rewards to what TRL is given: the options of `ShapingArguments`, on whole groups and batches.

TRL hands a reward function the rewrites of one prompt side by side, `num_generations` of them: a group. Most options
need nothing else. With several processes all rows are first gathered (`rewriter.train.adapter`), so that groups are
whole and batch-wide numbers are those of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from evaluator.pairs.ranking import win_rates
from rewriter.train.arguments import ShapingArguments
from rewriter.train.rewards import (
    Reward,
    TaskNorm,
    compare,
    is_settled,
    log_tamed,
    mean_of,
    normalise_then_sum,
    tempered,
)

_PARTS = ("alignment", "format", "intent")


@dataclass(frozen=True)
class Row:
    """What shaping needs of one rewrite: whose it is, its reward and the reward's parts (see `image_reward.Scored`)."""

    prompt: str
    task: str
    reward: Reward
    alignment: Reward
    format: float
    penalty: float
    certainty: float = 1.0


@dataclass(frozen=True)
class Shaped:
    """Rewards in the order of the rows; how many groups there were, and how many of them were settled."""

    rewards: tuple[Reward, ...]
    groups: int
    settled: int


class Shaper:
    """Applies the options in their order. With `task_ema` it has a state, which checkpoints keep."""

    def __init__(self, settings: ShapingArguments) -> None:
        self._settings = settings
        self._norm = TaskNorm(settings.task_decay)

    @property
    def is_plain(self) -> bool:
        """Whether rewards are left as they are."""
        s = self._settings
        return s.combine == "sum" and not (s.doubt_weight or s.win_rate or s.skip_settled or s.task_ema)

    def __call__(self, rows: Sequence[Row]) -> Shaped:
        """What the rows come to; None stays None."""
        s = self._settings
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row.prompt)]
        rewards = _cut(self._combined(rows, groups), groups)
        if s.doubt_weight:
            rewards = [tempered(own, [row.certainty for row in g]) for own, g in zip(rewards, groups, strict=True)]
        if s.win_rate:
            rewards = [win_rates(len(own), compare(own, s.win_margin)) for own in rewards]
        settled = [False] * len(groups)
        if s.skip_settled:
            settled = [self._is_settled(group) for group in groups]
            # A constant group has no advantage. None instead would make TRL warn of rows that nobody could score.
            rewards = [_levelled(own) if done else own for own, done in zip(rewards, settled, strict=True)]
        if s.task_ema:
            rewards = self._norm([(group[0].task, own) for group, own in zip(groups, rewards, strict=True)])
        return Shaped(tuple(r for own in rewards for r in own), len(groups), sum(settled))

    def state(self) -> dict[str, Any]:
        """What has to be saved, as JSON has it."""
        return {"moments": {task: list(moments) for task, moments in self._norm.moments.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self._norm.moments = {task: (m1, m2) for task, (m1, m2) in state.get("moments", {}).items()}

    def _combined(self, rows: Sequence[Row], groups: Sequence[Sequence[Row]]) -> list[Reward]:
        s = self._settings
        if s.combine == "sum":
            return [row.reward for row in rows]
        weights = dict(zip(_PARTS, s.part_weights, strict=True))
        if s.combine == "normalise_then_sum":
            return [r for group in groups for r in normalise_then_sum(_parts(group, lambda p: -p), weights)]
        above = s.log_tame_above
        threshold: Any = above if above in ("mean", "median") else float(above)
        # Log-taming takes no negative numbers: what is kept of the intent stands in for the penalty.
        return log_tamed(_parts(rows, lambda p: max(0.0, 1.0 - p)), weights, threshold)

    def _is_settled(self, group: Sequence[Row]) -> bool:
        alignments = [row.alignment for row in group]
        return is_settled(alignments, above=self._settings.settled_above, spread_below=self._settings.settled_spread)


def _parts(rows: Sequence[Row], intent: Callable[[float], float]) -> dict[str, list[Reward]]:
    """Each part of all rows, None for rows whose judgement failed: they must not move the others' means either."""
    known = [row.alignment is not None for row in rows]
    return {
        "alignment": [row.alignment for row in rows],
        "format": [row.format if ok else None for row, ok in zip(rows, known, strict=True)],
        "intent": [intent(row.penalty) if ok else None for row, ok in zip(rows, known, strict=True)],
    }


def _cut(rewards: Sequence[Reward], groups: Sequence[Sequence[Row]]) -> list[list[Reward]]:
    left = iter(rewards)
    return [[next(left) for _ in group] for group in groups]


def _levelled(rewards: Sequence[Reward]) -> list[Reward]:
    mean = mean_of(rewards)
    return [None if reward is None else mean for reward in rewards]
