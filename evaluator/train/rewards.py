"""Verifiable rewards for judges that think before they answer, as pure functions of a reply and what is known of its task.

    reply = read_reasoned("<think>The star is red.</think><answer>yes</answer>")
    reward_accuracy(reply, "yes") + 0.1 * reward_format(reply)         # 1.1

A reward is in [0, 1] unless its docstring says otherwise. Each names the paper whose rule it is; numbers that a paper
leaves open are said to be ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance

Box = tuple[float, float, float, float]
_NUMBER = re.compile(r"[+-]?\d{1,6}(?:\.\d{1,6})?")


@dataclass(frozen=True)
class ReasonedReply:
    """A reply in parts. `is_formed`: it is `<think>…</think><answer>…</answer>`, perhaps after `<description>…</description>`,
    and nothing else."""

    text: str
    thought: str = ""
    answer: str = ""
    description: str = ""
    is_formed: bool = False


def read_reasoned(text: str) -> ReasonedReply:
    """The parts of a reply; without an answer tag, the answer is the whole of a reply that has no tags at all, in lower
    case and without the marks around it.

    >>> read_reasoned("<think>Two.</think><answer> Yes. </answer>").answer
    'yes'
    """
    rest = text.strip()
    description, rest, described = _take(rest, "description")
    thought, rest, thinks = _take(rest, "think")
    answer, rest, answers = _take(rest, "answer")
    formed = thinks and answers and not rest and (described or "<description>" not in text)
    if not answers:
        answer = rest if "<" not in text else ""
    return ReasonedReply(text.strip(), thought, answer.strip(" \t\n.!\"'*`").casefold(), description, formed)


def _take(text: str, tag: str) -> tuple[str, str, bool]:
    """What is inside a tag at the beginning of `text`, what follows it, and whether it is there."""
    opens, closes = f"<{tag}>", f"</{tag}>"
    if not text.startswith(opens):
        return "", text, False
    inside, found, rest = text.removeprefix(opens).partition(closes)
    return (inside.strip(), rest.lstrip(), True) if found else ("", text, False)


def read_number(answer: str) -> float | None:
    """The number that an answer is; None if it is anything else."""
    return float(answer) if _NUMBER.fullmatch(answer) else None


def reward_format(reply: ReasonedReply) -> float:
    """1 if the reply has the form that was asked for, with a thought and an answer that are not empty."""
    return float(reply.is_formed and bool(reply.thought) and bool(reply.answer))


def reward_accuracy(reply: ReasonedReply, truth: str) -> float:
    """1 if the answer is the true one."""
    return float(reply.answer == truth.casefold())


def reward_no_thinking(reply: ReasonedReply, truth: str) -> float:
    """CLS-RL's no-thinking rule: 1 if the whole reply is the true answer, and nothing else."""
    return float(reply.text.strip(" \t\n.").casefold() == truth.casefold())


def reward_score(reply: ReasonedReply, truth: float, within: float = 0.35) -> float:
    """Q-Insight's rule for a score: 1 if the answer is a number less than `within` from the true one."""
    value = read_number(reply.answer)
    return float(value is not None and abs(value - truth) < within)


def reward_degradation(kind: str, severity: str, true_kind: str, true_severity: str) -> float:
    """Q-Insight's rule for a degradation: 0.25 for its kind, and 0.75 more if the severity is right too."""
    if kind.casefold() != true_kind.casefold():
        return 0.0
    return 0.25 + 0.75 * (severity.casefold() == true_severity.casefold())


def fidelity(
    scores: Sequence[float], others: Sequence[Sequence[float]], truth: float, true: Sequence[float]
) -> list[float]:
    """VisualQuality-R1's Thurstone fidelity: for each of the K scores that a picture got in its group, how well they order it
    against the other pictures of the batch.

        p(q, j) = Phi((q - mean_j) / sqrt(var_i + var_j + 1e-6))
        reward  = mean over j of sqrt(p p*) + sqrt((1 - p)(1 - p*)),    p* = 1, 0.5 or 0 by the true scores

    `others`: the scores of each other picture j; `truth` and `true`: the true score of the picture, and of the others.
    Variances are those of the K scores (population). Raises ValueError if there are no other pictures.
    """
    if not others or len(others) != len(true):
        raise ValueError(f"{len(others)} other pictures with {len(true)} true scores")
    own = pvariance(scores)
    rewards = []
    for score in scores:
        each = []
        for group, value in zip(others, true, strict=True):
            z = (score - fmean(group)) / math.sqrt(own + pvariance(group) + 1e-6)
            p = 0.5 * (1 + math.erf(z / math.sqrt(2)))
            wanted = 1.0 if truth > value else 0.5 if truth == value else 0.0
            each.append(math.sqrt(p * wanted) + math.sqrt((1 - p) * (1 - wanted)))
        rewards.append(fmean(each))
    return rewards


def reward_listener(p_true: float | None) -> float | None:
    """Listener-rewarded thinking: the probability that a frozen second model, who sees the picture and reads the thought,
    gives to the true answer. None if it could not be asked. The paper's mix is format + 0.5 accuracy + 0.5 listener (from
    notes; not confirmed in the paper itself)."""
    return None if p_true is None else min(1.0, max(0.0, p_true))


def caption_utility(answers: Sequence[str], truths: Sequence[str]) -> float:
    """CapRL: the share of questions that a reader answers rightly from the description alone. Raises ValueError without
    questions."""
    if not truths or len(answers) != len(truths):
        raise ValueError(f"{len(answers)} answers to {len(truths)} questions")
    return fmean(float(a.casefold() == t.casefold()) for a, t in zip(answers, truths, strict=True))


def confidence_gain(rewards: Sequence[float], factor: float = 0.5) -> float:
    """VR-Thinker: `factor` times the sum of the gains from look to look, which is factor * (last - first). Can be negative."""
    return factor * (rewards[-1] - rewards[0]) if rewards else 0.0


def exploration_bonus(reward: float, looks: int, target: float = 1.0) -> float:
    """VR-Thinker: max(target - reward, 0) for replies that looked more than once, else 0."""
    return max(target - reward, 0.0) if looks > 1 else 0.0


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common) if areas > common else 0.0


def reward_regions(boxes: Sequence[Box], true: Sequence[Box]) -> float:
    """ImageDoctor's region reward: the mean over the true boxes of the best overlap with one of the reply's, times the share
    of the reply's boxes that are the best of some true one (so that boxes everywhere earn nothing; the second factor is
    ours). 1 if there are none on either side."""
    if not boxes or not true:
        return float(not boxes and not true)
    best = [max(range(len(boxes)), key=lambda n: overlap(boxes[n], box)) for box in true]
    found = fmean(overlap(boxes[n], box) for n, box in zip(best, true, strict=True))
    return found * len(set(best)) / len(boxes)


def reward_labels(labels: Sequence[tuple[str, str]], true: Sequence[tuple[str, str]]) -> float:
    """MagicMirror's labels on two levels: F1 over labels, where a label with the right first level alone counts half. 1 if
    both are empty (a picture without artifacts). The halves are ours; the paper's weights were not found."""
    if not labels or not true:
        return float(not labels and not true)

    def matched(one: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]]) -> float:
        return fmean(max(1.0 if a == b else 0.5 if a[0] == b[0] else 0.0 for b in other) for a in one)

    precision, recall = matched(labels, true), matched(true, labels)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def rank_weight(gain: float, other_gain: float, rank: int, other_rank: int) -> float:
    """RankDPO's weight of a pair: |G_i - G_j| * |1 / log(1 + r_i) - 1 / log(1 + r_j)|, ranks from 1 (natural logarithm).

    From memory of the paper, not confirmed in its text. Raises ValueError for ranks below 1.
    """
    if min(rank, other_rank) < 1:
        raise ValueError("ranks begin at 1")
    return abs(gain - other_gain) * abs(1 / math.log(1 + rank) - 1 / math.log(1 + other_rank))
