"""The reward as TRL calls it: `f(prompts, completions, completion_ids, **columns) -> list[float | None]`.

One function gives the whole reward, not one for each part: a failed judgement has then no reward at all, and TRL leaves
such a rewrite out of its group's mean and gives it no advantage. (Of several functions it would add up those that did
not fail, and the rewrite would rank low for a fault of the judge.) The parts are logged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from PIL import Image

from rewriter.train.data import Chat
from rewriter.train.image_reward import RewardSample, RewardSource, ScoredSample, Scores, Wish
from rewriter.train.rewards import Reward, Shaped, Shaper, ShapingRow, failures


@dataclass(frozen=True)
class RatedSample:
    """One rewrite of the last batch: what it was asked, what came of it, and the reward that TRL was given."""

    sample: RewardSample
    scored: ScoredSample
    given: Reward


class RewriteReward:
    """The reward function for GRPOTrainer.

    `ends` holds the token ids that end a reply: one without them at its end was cut off. They are known once the
    trainer is made, so they are set then; empty, no reply counts as cut off. `opening` is what the chat template has
    already written of the reply ("<think>"), which completions therefore lack.

    Calls raise BackendError where too many judgements failed, ModelMissing and ServerError.
    """

    def __init__(self, source: RewardSource, shaper: Shaper, *, opening: str = "") -> None:
        self.__name__ = "rewrite"  # TRL logs rewards/rewrite/mean
        self.ends: frozenset[int] = frozenset()
        self.last: tuple[RatedSample, ...] = ()
        """This process's last batch, for the sample pages."""
        self._source = source
        self._shaper = shaper
        self._opening = opening
        self._runner = asyncio.Runner()
        self._last_began: float | None = None
        self._last_took = 0.0

    def __call__(
        self,
        prompts: Sequence[Chat],
        completions: Sequence[Chat],
        completion_ids: Sequence[Sequence[int]],
        *,
        user_prompt: Sequence[str],
        task: Sequence[str] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **_: object,
    ) -> list[Reward]:
        began = time.perf_counter()
        samples = [
            RewardSample(prompt, self._opening + completion[0]["content"], self._is_cut_off(ids))
            for prompt, completion, ids in zip(user_prompt, completions, completion_ids, strict=True)
        ]
        scores = self._runner.run(self._source(samples))
        rows = [_row(s, one, t) for s, one, t in zip(samples, scores.samples, task or [""] * len(samples), strict=True)]
        shaped, given = self._shaped(rows)
        self.last = tuple(RatedSample(*one) for one in zip(samples, scores.samples, given, strict=True))
        if log_metric is not None:
            for name, value in (_metrics(self.last, scores) | _shape_metrics(shaped)).items():
                log_metric(f"reward/{name}", value)
            if self._last_began is not None:
                log_metric("reward/wait_share", self._last_took / (began - self._last_began))
        if log_extra is not None:
            _log_columns(self.last, log_extra)
        self._last_began, self._last_took = began, time.perf_counter() - began
        return given

    def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]:
        """The pictures that the wishes were first judged by. Raises BackendError."""
        return self._runner.run(self._source.draw(wishes))

    def close(self) -> None:
        """Lets go of the models."""
        self._source.close()
        self._runner.close()

    def _is_cut_off(self, ids: Sequence[int]) -> bool:
        return bool(self.ends) and (len(ids) == 0 or int(ids[-1]) not in self.ends)

    def _shaped(self, rows: Sequence[ShapingRow]) -> tuple[Shaped | None, list[Reward]]:
        """Shapes the rows of all processes together, and takes this process's own out again, as TRL does."""
        if self._shaper.is_plain:
            return None, [row.reward for row in rows]
        from accelerate import PartialState
        from accelerate.utils import gather_object

        shaped = self._shaper(gather_object(list(rows)))
        start = PartialState().process_index * len(rows)
        return shaped, list(shaped.rewards[start : start + len(rows)])


def _row(sample: RewardSample, one: ScoredSample, task: str) -> ShapingRow:
    return ShapingRow(sample.prompt, task, one.reward, one.alignment, one.format, one.penalty, one.certainty)


def _metrics(rated: Sequence[RatedSample], scores: Scores) -> dict[str, float]:
    """Means over the batch, shares in 0..1, lengths in characters, seconds."""
    scored = [one.scored for one in rated]
    means: dict[str, Sequence[Reward]] = {
        "total": [one.reward for one in scored],
        "alignment": [one.alignment for one in scored],
        "format": [one.format for one in scored],
        "penalty": [one.penalty for one in scored],
        "certainty": [one.certainty for one in scored],
        "unreadable": [float(one.rewrite is None) for one in scored],
        "cut_off": [float(one.sample.truncated) for one in rated],
        "rewrite_chars": [float(len(one.rewrite)) for one in scored if one.rewrite is not None],
        "thought_chars": [float(len(one.thought)) for one in scored],
    }
    known = {name: [value for value in values if value is not None] for name, values in means.items()}
    seconds = {"draw_s": scores.draw_s, "judge_s": scores.judge_s, "wall_s": scores.wall_s}
    shares = {
        "failed": scores.failed / max(1, scores.judgements),
        "cached": scores.cached / max(1, scores.judgements),
        "unscored": failures([one.reward for one in scored]) / max(1, len(scored)),
    }
    return {name: fmean(values) for name, values in known.items() if values} | seconds | shares


def _shape_metrics(shaped: Shaped | None) -> dict[str, float]:
    return {} if shaped is None else {"settled": shaped.settled / max(1, shaped.groups)}


def _log_columns(rated: Sequence[RatedSample], log_extra: Callable[[str, list[Any]], None]) -> None:
    """For TRL's table of completions (`log_completions`)."""
    log_extra("user_prompt", [one.sample.prompt for one in rated])
    log_extra("rewrite", [one.scored.rewrite or "" for one in rated])
    log_extra("alignment", [one.scored.alignment for one in rated])
    log_extra("format", [one.scored.format for one in rated])
    log_extra("findings", ["; ".join(one.scored.findings) for one in rated])
