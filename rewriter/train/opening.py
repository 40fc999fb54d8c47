"""From settings to a source of rewards: the generator, checklist model and judge of a profile, or a reward server."""

from __future__ import annotations

import os
from pathlib import Path

from editors.models import open_backend
from evaluator.align import open_evaluator
from redraft.errors import ConfigError
from redraft.profiles import EvaluatorConfig, Profile, load_profile
from rewriter.reply import Rules
from rewriter.styles import Style, load_style
from rewriter.target import load_target
from rewriter.train.arguments import RemoteArguments, RewardArguments, only_here
from rewriter.train.image_reward import ImageReward
from rewriter.train.reward_cache import RewardCache
from rewriter.train.reward_types import RewardSettings, RewardSource


def open_source(args: RewardArguments, remote: RemoteArguments, style: str, target: str | None) -> RewardSource:
    """What the trainer gets rewards from. Models load, and servers are asked, at the first call.

    Raises ConfigError for settings that contradict each other, and as `open_reward`.
    """
    if remote.reward_url is None:
        return open_reward(args, style, target, max_failed=remote.max_failed)
    only_here(args)
    from rewriter.train.reward_client import RemoteReward

    return RemoteReward(
        remote.reward_url,
        token_env=remote.reward_token_env,
        timeout_s=remote.reward_timeout_s,
        max_failed=remote.max_failed,
    )


def open_reward(
    args: RewardArguments, style: str | None = None, target: str | None = None, *, max_failed: float
) -> ImageReward:
    """The reward in this process. `style` and `target` tell what rewrites are held against; None: as the profile says.

    Raises ConfigError, and ModelMissing where weights are not in their place.
    """
    if args.profile is None:
        raise ConfigError("profile is missing: it names the generator and the judge (or set reward_url to a server)")
    profile = _on_own_device(load_profile(args.profile))
    if args.aggregation != "profile":
        profile = profile.model_copy(update={"evaluator": EvaluatorConfig(aggregation=args.aggregation)})
    try:
        settings = RewardSettings(
            seeds=args.images_per_rewrite,
            seed=args.reward_seed,
            passes=args.judge_passes,
            batch_size=profile.generator.batch_size,
            judging=_at_once(profile),
            format_weight=args.format_weight,
            penalty_each=args.penalty_each,
            penalty_most=args.penalty_most,
            max_failed=max_failed,
        )
    except ValueError as error:
        raise ConfigError(f"the reward's settings cannot be used: {error}") from error
    _, rules = style_and_rules(style or profile.rewriter.style, target or profile.rewriter.target)
    _, evaluator = open_evaluator(profile)
    cache = RewardCache(Path(args.reward_cache)) if args.reward_cache else None
    return ImageReward(open_backend(profile.generator), evaluator, rules, settings, cache=cache)


def style_and_rules(style: str, target: str | None) -> tuple[Style, Rules]:
    """How the rewriter is asked for this target, and what its replies are held against: as in use (`rewriter.cot`).

    Raises ConfigError.
    """
    wanted = load_target(target) if target is not None else None
    loaded = load_style(style)
    if wanted is not None:
        loaded = loaded.with_notes(wanted.notes)
    return loaded, Rules.of(loaded.settings.guard, wanted)


def _at_once(profile: Profile) -> int:
    """Pictures being judged at once: what the judge can take in one batch, and one batch waiting behind it."""
    judge = profile.judge.model
    return judge.server.concurrency if judge.server is not None else 2 * judge.local.micro_batch


def _on_own_device(profile: Profile) -> Profile:
    """With several training processes on one machine, each process's reward models on its own GPU.

    The models run in threads of their own, where "cuda" would mean the first GPU in every process.
    """
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or int(os.environ.get("LOCAL_WORLD_SIZE", "1")) == 1:
        return profile
    import torch

    if not torch.cuda.is_available():
        return profile
    return placed(profile, f"cuda:{int(rank)}")


def placed(profile: Profile, device: str) -> Profile:
    """`profile` with every model of this process whose device is "auto" or "cuda" on `device`."""

    def put(data: object) -> object:
        if isinstance(data, dict):
            moved = {"device": device} if data.get("device") in ("auto", "cuda") else {}
            return {key: put(value) for key, value in data.items()} | moved
        return data

    return Profile.model_validate(put(profile.model_dump()))
