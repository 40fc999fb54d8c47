"""The words of the reward: what is scored, what comes of it, and where trainers get it from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from PIL import Image

from redraft.errors import BackendError
from rewriter.train.rewards import Reward


@dataclass(frozen=True)
class RewardSettings:
    """How a reward is made. The paper names neither weights nor seeds: these are choices.

    `size` is (width, height) of the pictures; None leaves it to the generator.
    """

    seeds: int = 1
    """Pictures drawn from each rewrite."""
    seed: int = 0
    passes: int = 1
    """Times that each picture is judged; the reward is their mean."""
    batch_size: int = 4
    """Pictures in one call of the generator."""
    ahead: int = 2
    """Batches that may be drawn and wait for the judge."""
    judging: int = 8
    """Pictures being judged, and checklists being made, at once."""
    size: tuple[int, int] | None = None
    format_weight: float = 0.1
    penalty_each: float = 0.1
    penalty_most: float = 0.5
    max_failed: float = 0.2
    """Above this share of failed judgements in a call, the call fails."""

    def __post_init__(self) -> None:
        if min(self.seeds, self.passes, self.batch_size, self.ahead, self.judging) < 1:
            raise ValueError("seeds, passes, batch_size, ahead and judging must each be at least 1")
        if not 0 <= self.max_failed <= 1:
            raise ValueError(f"max_failed is a share between 0 and 1, not {self.max_failed}")


@dataclass(frozen=True)
class Sample:
    """A reply of the rewriter to the user's prompt. `truncated` is True where it was cut off at its token limit."""

    prompt: str
    reply: str
    truncated: bool = False


@dataclass(frozen=True)
class Scored:
    """A sample's reward and its parts. `reward` and `alignment` are None where all its judgements failed.

    `penalty` is what was taken off for `findings`, which the intent guard (or the parser) had to say. `certainty` in
    (0, 1] tells how well the passes of the judge agree (`uncertainty_weight`, the mean over checks and pictures).
    `pictures` were wanted of it, `failed` of them have no judgement.
    """

    reward: Reward
    alignment: Reward
    format: float
    rewrite: str | None
    thought: str = ""
    negative: str | None = None
    penalty: float = 0.0
    certainty: float = 1.0
    findings: tuple[str, ...] = ()
    pictures: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Scores:
    """The rewards of one call, in the order of its samples, and what they cost.

    `judgements` counts distinct pictures wanted, of which `failed` could not be drawn or judged and `cached` were known
    already. `reasons` has each reason for failure once. `draw_s` and `judge_s` are the seconds in which a picture was
    being drawn, and in which one was being judged; with overlap they come to more than `wall_s`.
    """

    samples: tuple[Scored, ...]
    judgements: int
    failed: int
    cached: int
    reasons: tuple[str, ...]
    draw_s: float
    judge_s: float
    wall_s: float


class Wish(NamedTuple):
    """A picture to look at: the user's prompt, the rewrite, and the negative prompt that goes with it."""

    prompt: str
    rewrite: str
    negative: str | None = None


class RewardSource(Protocol):
    """What trainers get rewards from: models in this process (`ImageReward`) or a server (`reward_client`).

    `draw` gives the picture that each rewrite was first judged by, for people to look at; None where it cannot be
    drawn. Both raise BackendError.
    """

    async def __call__(self, samples: Sequence[Sample]) -> Scores: ...

    async def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]: ...

    def close(self) -> None: ...


def too_many_failed(failed: int, total: int, allowed: float, last: str) -> BackendError:
    """The error for a step of which more than the share `allowed` failed."""
    return BackendError(
        f"{failed} of {total} judgements of this step failed, more than the share of {allowed:g} that max_failed "
        f"allows; mend the cause or raise max_failed. The last: {last}"
    )
