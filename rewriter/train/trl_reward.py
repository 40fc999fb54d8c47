"""The reward as TRL calls it: `f(prompts, completions, completion_ids, **columns) -> list[float | None]`.

One function gives the whole reward, rather than one function for each part: then a failed judgement has no reward at all,
and TRL leaves that rewrite out of its group's mean and gives it no advantage. (With several functions, it would add up
those that did not fail, and the rewrite would rank low for a fault of the judge.) The parts are logged.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from PIL import Image

from redraft.profiles import load_profile
from redraft.training import setting
from rewriter.target import AnyForm
from rewriter.train.data import Chat
from rewriter.train.image_reward import RewardArguments, RewardSample, RewardSource, ScoredSample, Scores, Wish
from rewriter.train.reward_server import RemoteArguments, open_source
from rewriter.train.rewards import Shaped, Shaper, ShapingArguments, ShapingRow, Value, failures

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


@dataclass(frozen=True)
class RatedSample:
    """One reply of the last batch: the sample, its scores, and the reward that TRL got."""

    sample: RewardSample
    scored: ScoredSample
    final: Value


@dataclass
class SampleArguments:
    """The pages that show how training goes, and how its loss is made."""

    sample_every: int = setting(50, "Steps between sample pages in output_dir/samples; 0 for none.")
    sample_count: int = setting(6, "Requests on a page.")
    lean: bool = setting(False, "Make the loss in the way that is fast on a CPU (`rewriter.train.lean`).")


class RewriteReward:
    """The reward function for GRPOTrainer.

    `ends` holds the token ids that end a reply: a reply that does not end in one of them was cut off. They are known, and
    set, once the trainer is made; while `ends` is empty no reply counts as cut off. `opening` is what the chat template
    has already written of the reply ("<think>"), which completions therefore lack.

    Calls raise BackendError if too many judgements failed, ModelMissing and ServerError.
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
        self._previous_start: float | None = None
        self._previous_seconds = 0.0

    def __call__(
        self,
        prompts: Sequence[Chat],
        completions: Sequence[Chat],
        completion_ids: Sequence[Sequence[int]],
        *,
        request: Sequence[str],
        task: Sequence[str] | None = None,
        form: Sequence[AnyForm] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **_: object,
    ) -> list[Value]:
        start = time.perf_counter()
        forms: Sequence[AnyForm] = form or ["any"] * len(request)
        samples = [
            RewardSample(text, self._opening + completion[0]["content"], self._is_cut_off(ids), shape)
            for text, completion, ids, shape in zip(request, completions, completion_ids, forms, strict=True)
        ]
        scores = self._runner.run(self._source(samples))
        tasks = task or [""] * len(samples)
        rows = [_shaping_row(*row, scores.weights) for row in zip(samples, scores.samples, tasks, strict=True)]
        shaped, rewards = self._shape(rows)
        self.last = tuple(RatedSample(*row) for row in zip(samples, scores.samples, rewards, strict=True))
        if log_metric is not None:
            metrics = _metrics(self.last, scores)
            if shaped is not None:
                metrics["settled"] = shaped.settled / max(1, shaped.groups)
            tokens = sum(map(len, completion_ids))
            metrics |= {"tokens": float(tokens), **_peak_memory()}
            if self._previous_start is not None:
                metrics["wait_share"] = self._previous_seconds / (start - self._previous_start)
                metrics["tokens_per_s"] = tokens / (start - self._previous_start)
            for name, value in metrics.items():
                log_metric(f"reward/{name}", value)
        if log_extra is not None:
            _log_columns(self.last, log_extra)
        self._previous_start, self._previous_seconds = start, time.perf_counter() - start
        return rewards

    def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]:
        """The pictures that the wishes were first judged by. Raises BackendError."""
        return self._runner.run(self._source.draw(wishes))

    def close(self) -> None:
        """Lets go of the models."""
        self._source.close()
        self._runner.close()

    def _is_cut_off(self, ids: Sequence[int]) -> bool:
        return bool(self.ends) and (len(ids) == 0 or int(ids[-1]) not in self.ends)

    def _shape(self, rows: Sequence[ShapingRow]) -> tuple[Shaped | None, list[Value]]:
        """Shapes the rows of all processes together, and takes this process's own out again, as TRL does."""
        if self._shaper.is_plain:
            return None, [row.reward for row in rows]
        from accelerate import PartialState
        from accelerate.utils import gather_object

        shaped = self._shaper(gather_object(list(rows)))
        start = PartialState().process_index * len(rows)
        return shaped, list(shaped.rewards[start : start + len(rows)])


@functools.cache
def _shared() -> RewriteReward:
    """The reward that `rewrite_reward` asks. Raises ConfigError."""
    address = os.environ.get("REDRAFT_REWARD_URL")
    remote = RemoteArguments(reward_url=address)
    args = RewardArguments(profile=None if address else os.environ.get("REDRAFT_PROFILE", "mini"))
    profile = load_profile(args.profile or "mini")
    source = open_source(args, remote, profile.rewriter.style, profile.rewriter.target)
    return RewriteReward(source, Shaper(ShapingArguments()))


def rewrite_reward(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    *,
    request: Sequence[str] | None = None,
    **columns: Any,
) -> list[Value]:
    """The reward by name, for trainers of others:

        REDRAFT_PROFILE=mini trl grpo --reward_funcs rewriter.train.trl_reward.rewrite_reward ...

    The profile is named by REDRAFT_PROFILE, or a reward server by REDRAFT_REWARD_URL. The column `request` has the users'
    requests; without it a prompt's last user message is the request. Completions are texts or chats.
    """
    requests = request or [_last_words(prompt) for prompt in prompts]
    chats = [[{"role": "assistant", "content": text}] if isinstance(text, str) else text for text in completions]
    ids = completion_ids or [[0]] * len(chats)
    return _shared()([], chats, ids, request=requests, **columns)


def _last_words(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    return next(str(message["content"]) for message in reversed(prompt) if message["role"] == "user")


def _shaping_row(sample: RewardSample, scored: ScoredSample, task: str, weights: Mapping[str, float]) -> ShapingRow:
    return ShapingRow(
        request=sample.request,
        task=task,
        reward=scored.reward,
        alignment=scored.alignment,
        format=scored.format,
        penalty=scored.penalty,
        certainty=scored.certainty,
        readings=scored.readings,
        weights=weights,
    )


def _peak_memory() -> dict[str, float]:
    """The most memory that this process has held so far, in GB (10^9 bytes): of this machine, and of its GPU if it has one."""
    import torch

    peak = {}
    if resource is not None:
        unit = 1 if sys.platform == "darwin" else 1024
        peak["host_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    if torch.cuda.is_available():
        peak["gpu_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return peak


def _metrics(rated: Sequence[RatedSample], scores: Scores) -> dict[str, float]:
    """Means over the batch, shares in 0..1, lengths in characters, seconds."""
    scored = [sample.scored for sample in rated]
    columns: dict[str, Sequence[Value]] = {
        "total": [s.reward for s in scored],
        "alignment": [s.alignment for s in scored],
        "format": [s.format for s in scored],
        "penalty": [s.penalty for s in scored],
        "certainty": [s.certainty for s in scored],
        "unreadable": [float(s.prompt is None) for s in scored],
        "cut_off": [float(s.sample.truncated) for s in rated],
        "prompt_chars": [float(len(s.prompt)) for s in scored if s.prompt is not None],
        "thought_chars": [float(len(s.thought)) for s in scored],
    }
    criteria = dict.fromkeys(name for s in scored for name in s.readings)
    columns |= {f"criterion_{name}": [s.readings.get(name) for s in scored] for name in criteria}
    columns |= {f"text_{name}": [s.terms[name] for s in scored] for name in (scored[0].terms if scored else ())}
    known = {name: [value for value in values if value is not None] for name, values in columns.items()}
    seconds = {"draw_s": scores.draw_s, "judge_s": scores.judge_s, "wall_s": scores.wall_s}
    shares = {
        "failed": scores.failed / max(1, scores.judgements),
        "cached": scores.cached / max(1, scores.judgements),
        "unscored": failures([s.reward for s in scored]) / max(1, len(scored)),
    }
    return {name: fmean(values) for name, values in known.items() if values} | seconds | shares


def _log_columns(rated: Sequence[RatedSample], log_extra: Callable[[str, list[Any]], None]) -> None:
    """For TRL's table of completions (`log_completions`)."""
    log_extra("request", [row.sample.request for row in rated])
    log_extra("rewrite", [row.scored.prompt or "" for row in rated])
    log_extra("alignment", [row.scored.alignment for row in rated])
    for name in dict.fromkeys(name for row in rated for name in row.scored.readings):
        log_extra(name, [row.scored.readings.get(name) for row in rated])
    log_extra("format", [row.scored.format for row in rated])
    log_extra("findings", ["; ".join(row.scored.findings) for row in rated])
