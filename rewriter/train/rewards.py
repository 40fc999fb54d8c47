"""What a reward is made of: pure functions on numbers, nothing of TRL or torch.

A reward is None where the judgement failed. None is carried through: it counts in no mean and no deviation, and what
it belongs to comes out as None again, never as 0, since a judge's failure says nothing of a rewrite. `failures` counts.
A constant group (or one with a single reward left) has no deviation, so nothing is learnt from it: advantages are 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby, permutations
from statistics import fmean, median, pstdev, stdev
from typing import Any, Literal

from evaluator.pairs.ranking import win_rates
from evaluator.types import Report
from redraft.training import check_choices, setting

Value = float | None
_EPS = 1e-6
_FORM = re.compile(r"\s*<think>(?P<thought>.+?)</think>\s*<answer>(?P<answer>.+?)</answer>\s*", re.DOTALL)


def failures(rewards: Sequence[Value]) -> int:
    """How many judgements failed."""
    return sum(reward is None for reward in rewards)


def alignment(report: Report, standing: Value = None) -> Value:
    """A picture's reward in [0, 1]: its score or, by a reward that compares, how it stands among its group.

    None if the judge failed on any check, or a criterion on the picture: the others' mean would be that of an easier
    checklist.
    """
    if report.failed:
        return None
    return report.score if standing is None else standing


def mean_of(rewards: Sequence[Value]) -> Value:
    """The mean of those that did not fail, such as a rewrite's pictures from several seeds; None if all did."""
    known = _known(rewards)
    return fmean(known) if known else None


def group_advantages(rewards: Sequence[Value]) -> list[Value]:
    """(r_i - mean) / (std + 1e-6) within one request's group, std with n - 1 as in TRL (GRPO, arXiv 2402.03300)."""
    known = _known(rewards)
    if len(set(known)) < 2:  # else rounding would be divided by 1e-6
        return _each(rewards, lambda _: 0.0)
    mean, spread = fmean(known), stdev(known)
    return _each(rewards, lambda r: (r - mean) / (spread + _EPS))


def normalise_then_sum(parts: Mapping[str, Sequence[Value]], weights: Mapping[str, float]) -> list[Value]:
    """sum_k w_k (r_ik - mean_k) / (std_k + 1e-6) over one request's group, for several rewards k of the same rewrites.

    Each reward is brought to one scale before they are added, so that one with a narrow range still counts (TRL's
    `multi_objective_aggregation="normalize_then_sum"`, after GDPO, arXiv 2601.05242; without its last normalisation
    over the batch, which TRL does). A rewrite with any part None comes out None. Raises ValueError for parts of unlike
    lengths, and for names that `parts` and `weights` do not share.
    """
    return _weighted_sum({name: group_advantages(part) for name, part in parts.items()}, weights)


def log_tamed(
    parts: Mapping[str, Sequence[Value]],
    weights: Mapping[str, float],
    threshold: float | Literal["mean", "median"] = "mean",
) -> list[Value]:
    """Log-tamed sum over a batch (PaCo-RL). With h_k = std_k / (mean_k + 1e-6), a reward k whose h_k is above the
    threshold is first tamed, R_k <- log(1 + R_k), so that it cannot drown the others; then R = sum_k w_k R_k.

    The threshold is a number, or the mean or median of all h_k; std is the batch's own (n). The source group-normalises
    the result, which TRL does. Rewards must not be negative. Raises ValueError for that, and as `normalise_then_sum`.
    """
    if any(r < 0 for part in parts.values() for r in _known(part)):
        raise ValueError("log-tamed aggregation takes no negative rewards; shift them first")
    spread = {name: _relative_spread(_known(part)) for name, part in parts.items()}
    limit = threshold
    if isinstance(limit, str):
        limit = fmean(spread.values()) if limit == "mean" else median(spread.values())
    tamed = {name: _each(part, math.log1p) if spread[name] > limit else list(part) for name, part in parts.items()}
    return _weighted_sum(tamed, weights)


def compare(scores: Sequence[Value], margin: float = 0.0) -> dict[tuple[int, int], float | None]:
    """All pairs i < j of a group: 1 if i is better, 0 if j is, 0.5 within `margin`, None if a score failed."""
    return {(i, j): _compared(scores[i], scores[j], margin) for i, j in combinations(range(len(scores)), 2)}


def is_settled(group: Sequence[Value], *, above: float = 0.9, spread_below: float = 0.05) -> bool:
    """Whether a group teaches nothing but noise: mean > above and std < spread_below, std with n (Edit-R1, arXiv
    2510.16888, with its settings). A group without any reward is not settled."""
    known = _known(group)
    return bool(known) and fmean(known) > above and pstdev(known) < spread_below


@dataclass
class TaskNorm:
    """Task-wise normalisation by a moving average (EMA-GRPO, of OneThinker).

    A = (r - group mean) / (sigma_task + 1e-6), where per task m1 and m2 are moving averages of r and r squared, and
    sigma = sqrt(max(m2 - m1^2, 1e-6)). The current batch is taken in first. In a group with any |A| above
    `largest`, the group's own deviation (n - 1) is used for sigma. `moments` (task to m1, m2) is all there is to
    save and to restore. How the source starts the averages is not known; here the first batch's moments start them.
    """

    decay: float = 0.99
    largest: float = 5.0
    moments: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __call__(self, groups: Sequence[tuple[str, Sequence[Value]]]) -> list[list[Value]]:
        """Advantages of a batch of (task, group of rewards), in their order."""
        for task in dict.fromkeys(task for task, _ in groups):
            self._take_in(task, [r for name, group in groups if name == task for r in _known(group)])
        return [self._advantages(task, group) for task, group in groups]

    def _take_in(self, task: str, rewards: Sequence[float]) -> None:
        if not rewards:
            return
        new = fmean(rewards), fmean(r * r for r in rewards)
        old = self.moments.get(task, new)
        m1, m2 = (self.decay * before + (1 - self.decay) * now for before, now in zip(old, new, strict=True))
        self.moments[task] = m1, m2

    def _advantages(self, task: str, group: Sequence[Value]) -> list[Value]:
        known = _known(group)
        if not known:
            return list(group)
        m1, m2 = self.moments[task]
        sigma, mean = math.sqrt(max(m2 - m1 * m1, _EPS)), fmean(known)
        advantages = _each(group, lambda r: (r - mean) / (sigma + _EPS))
        return group_advantages(group) if any(abs(a) > self.largest for a in _known(advantages)) else advantages


def disagreement(repeats: Sequence[float], clamp: float = 1e-4) -> float:
    """How far repeated yes-probabilities for one check lie apart, in nats: the mean over ordered pairs of
    KL(p || q) = p ln(p/q) + (1-p) ln((1-p)/(1-q)), each kept `clamp` away from 0 and 1. Zero for a single one."""
    kept = [min(max(p, clamp), 1 - clamp) for p in repeats]
    pairs = list(permutations(kept, 2))
    return fmean(_divergence(p, q) for p, q in pairs) if pairs else 0.0


def uncertainty_weight(repeats: Sequence[float]) -> float:
    """exp(-u) in (0, 1], u the disagreement of repeated judgements (Ctrl-U weighs its reward loss so, u being the KL
    divergence of two passes; here over any number of passes, both ways)."""
    return math.exp(-disagreement(repeats))


def tempered(rewards: Sequence[Value], weights: Sequence[float]) -> list[Value]:
    """mean + w_i (r_i - mean): doubtful judgements drawn to their group's mean, where they push neither way."""
    mean = mean_of(rewards)
    pairs = zip(rewards, weights, strict=True)
    return [None if r is None or mean is None else mean + w * (r - mean) for r, w in pairs]


def format_term(reply: str, *, readable: bool) -> float:
    """1 for a reply that is `<think>…</think><answer>…</answer>`, once and with nothing around it (as in DeepSeek-R1,
    arXiv 2501.12948), 0.5 for another that the rewriter's parser reads all the same (`readable`), 0 for one that it
    cannot read."""
    if not readable:
        return 0.0
    form = _FORM.fullmatch(reply)
    if form is None or any(tag in form[part] for tag in ("<think", "<answer", "</") for part in ("thought", "answer")):
        return 0.5
    return 1.0


def intent_penalty(findings: int, each: float = 0.1, most: float = 0.5) -> float:
    """min(most, each * findings) for what the intent guard found. No paper's: a setting, bounded so that one rewrite
    with many findings does not set its whole group's deviation."""
    return min(most, each * findings)


def _known(rewards: Sequence[Value]) -> list[float]:
    return [reward for reward in rewards if reward is not None]


def _each(rewards: Sequence[Value], change: Callable[[float], float]) -> list[Value]:
    return [None if reward is None else change(reward) for reward in rewards]


def _relative_spread(rewards: Sequence[float]) -> float:
    return pstdev(rewards) / (fmean(rewards) + _EPS) if rewards else 0.0


def _compared(a: Value, b: Value, margin: float) -> float | None:
    if a is None or b is None:
        return None
    return 0.5 if abs(a - b) <= margin else float(a > b)


def _divergence(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def _weighted_sum(parts: Mapping[str, Sequence[Value]], weights: Mapping[str, float]) -> list[Value]:
    if parts.keys() != weights.keys():
        raise ValueError(f"rewards {sorted(parts)} and weights {sorted(weights)} must have the same names")
    rows = zip(*parts.values(), strict=True)
    scale = [weights[name] for name in parts]
    return [_row_sum(row, scale) for row in rows]


def _row_sum(row: Sequence[Value], scale: Sequence[float]) -> Value:
    known = _known(row)
    return sum(w * r for w, r in zip(scale, known, strict=True)) if len(known) == len(row) else None


@dataclass
class ShapingArguments:
    """What becomes of rewards before TRL makes advantages of them. The defaults leave them alone, as in the paper.

    Applied in this order; each formula is in rewriter/train/rewards.py, with its source.
    """

    combine: Literal["sum", "normalise_then_sum", "log_tamed"] = setting(
        "sum", "How alignment, format and intent become one: their sum, or with part_weights GDPO's or PaCo-RL's way."
    )
    part_weights: list[float] = field(
        default_factory=lambda: [1.0, 0.1, 0.5],
        metadata={"help": "Weights of alignment, format and intent for every `combine` but sum."},
    )
    log_tame_above: str = setting("mean", "log_tamed: `mean`, `median` or a number; parts that spread more are tamed.")
    doubt_weight: bool = setting(False, "Pull rewards towards their group's mean by exp(-disagreement) (after Ctrl-U).")
    win_rate: bool = setting(False, "Replace each reward by its share of won comparisons in the group (Pref-GRPO).")
    win_margin: float = setting(0.0, "win_rate: rewards that differ by no more than this are a tie.")
    skip_settled: bool = setting(False, "Learn nothing from groups that are good and alike (Edit-R1).")
    settled_above: float = setting(0.9, "skip_settled: the mean alignment of such a group is above this.")
    settled_spread: float = setting(0.05, "skip_settled: the standard deviation of such a group is below this.")
    task_ema: bool = setting(False, "Normalise by a moving deviation of the record's `task` (EMA-GRPO).")
    task_decay: float = setting(0.99, "How much of the moving averages is kept from step to step.")

    def __post_init__(self) -> None:
        check_choices(self)
        if len(self.part_weights) != 3:
            raise ValueError(f"part_weights needs three numbers (alignment, format, intent), not {self.part_weights}")
        if self.log_tame_above not in ("mean", "median"):
            float(self.log_tame_above)


@dataclass(frozen=True)
class ShapingRow:
    """What shaping needs of one rewrite: whose it is, its reward and the reward's parts (see `image_reward.ScoredSample`).

    `readings` and `weights`: by criterion, if there are several; alignment is then not one part but several.
    """

    request: str
    task: str
    reward: Value
    alignment: Value
    format: float
    penalty: float
    certainty: float = 1.0
    readings: Mapping[str, Value] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Shaped:
    """Rewards in the order of the rows; how many groups there were, and how many of them were settled."""

    rewards: tuple[Value, ...]
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

    def __call__(self, rows: Sequence[ShapingRow]) -> Shaped:
        """The rewards of the rows; None stays None."""
        s = self._settings
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row.request)]
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
        """Continues from what `state` gave."""
        self._norm.moments = {task: (m1, m2) for task, (m1, m2) in state.get("moments", {}).items()}

    def _combined(self, rows: Sequence[ShapingRow], groups: Sequence[Sequence[ShapingRow]]) -> list[Value]:
        s = self._settings
        if s.combine == "sum":
            return [row.reward for row in rows]
        weights = _part_weights(rows, s.part_weights)
        if s.combine == "normalise_then_sum":
            return [r for group in groups for r in normalise_then_sum(_parts(group, lambda p: -p, weights), weights)]
        above = s.log_tame_above
        threshold: Any = above if above in ("mean", "median") else float(above)
        # Log-taming takes no negative numbers: the share of intent that is kept is used instead of the penalty.
        return log_tamed(_parts(rows, lambda p: max(0.0, 1.0 - p), weights), weights, threshold)

    def _is_settled(self, group: Sequence[ShapingRow]) -> bool:
        alignments = [row.alignment for row in group]
        return is_settled(alignments, above=self._settings.settled_above, spread_below=self._settings.settled_spread)


def _part_weights(rows: Sequence[ShapingRow], given: Sequence[float]) -> dict[str, float]:
    """The weights of the parts. Alignment's is shared by the criteria that scored any of the rows, by their own weights."""
    aligned, form, intent = given
    own = {name: weight for row in rows for name, weight in row.weights.items() if row.readings.get(name) is not None}
    own = {name: weight for name, weight in own.items() if weight > 0}
    if len(own) < 2:
        return {"alignment": aligned, "format": form, "intent": intent}
    total = sum(own.values())
    return {name: aligned * weight / total for name, weight in own.items()} | {"format": form, "intent": intent}


def _parts(
    rows: Sequence[ShapingRow], intent: Callable[[float], float], weights: Mapping[str, float]
) -> dict[str, list[Value]]:
    """Each part of all rows, None for rows whose judgement failed: they must not move the others' means either."""
    known = [row.alignment is not None for row in rows]
    parts: dict[str, list[Value]] = {}
    for name in weights:
        if name == "format":
            values: list[Value] = [row.format for row in rows]
        elif name == "intent":
            values = [intent(row.penalty) for row in rows]
        elif name == "alignment":
            values = [row.alignment for row in rows]
        else:
            values = [0.0 if row.alignment == 0.0 and not row.readings else row.readings.get(name) for row in rows]
        parts[name] = [value if ok else None for value, ok in zip(values, known, strict=True)]
    return parts


def _cut(rewards: Sequence[Value], groups: Sequence[Sequence[ShapingRow]]) -> list[list[Value]]:
    left = iter(rewards)
    return [[next(left) for _ in group] for group in groups]


def _levelled(rewards: Sequence[Value]) -> list[Value]:
    mean = mean_of(rewards)
    return [None if reward is None else mean for reward in rewards]
