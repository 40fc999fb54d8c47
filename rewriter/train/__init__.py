"""Training of a rewriter: triplets from a teacher, supervised fine-tuning, then GRPO against the pictures.

    >>> from rewriter.train import make_reply
    >>> make_reply("three, not two", "Three red apples.")
    '<think>three, not two</think><answer>Three red apples.</answer>'

    python -m rewriter.train.teach requests.txt triplets.jsonl --model NAME --base-url http://HOST:8000/v1
    python -m rewriter.train.sft --config package:mini/rewriter/sft.yaml
    python -m rewriter.train.undecided requests.jsonl undecided.jsonl --model FOLDER --style STYLE
    python -m rewriter.train.grpo --config package:mini/rewriter/grpo.yaml
    python -m rewriter.train.dpo --config FILE --train_files pairs.jsonl
    python -m rewriter.train.gepa --profile remote --train_files requests.jsonl --output_dir my_style
    python -m rewriter.train.reward_server --config reward_server

`image_reward` is the reward, `rewards` its formulas, `trl_reward` what TRL calls. docs/training.md tells the whole story.

Importing this imports nothing else: a name is looked up when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redraft.lazy import find_lazily

if TYPE_CHECKING:
    from rewriter.train.data import RLRequest, Triplet, load_requests, load_triplets, make_reply
    from rewriter.train.image_reward import (
        ImageReward,
        RewardSample,
        RewardSettings,
        RewardSource,
        Scores,
        open_image_reward,
    )
    from rewriter.train.reward_server import RemoteReward, RewardServer
    from rewriter.train.rewards import Shaper
    from rewriter.train.trl_reward import RewriteReward

__all__ = [
    "ImageReward",
    "RLRequest",
    "RemoteReward",
    "RewardSample",
    "RewardServer",
    "RewardSettings",
    "RewardSource",
    "RewriteReward",
    "Scores",
    "Shaper",
    "Triplet",
    "load_requests",
    "load_triplets",
    "make_reply",
    "open_image_reward",
]

__getattr__ = find_lazily(
    __name__,
    {
        "rewriter.train.data": ("RLRequest", "Triplet", "load_requests", "load_triplets", "make_reply"),
        "rewriter.train.image_reward": (
            "ImageReward",
            "RewardSample",
            "RewardSettings",
            "RewardSource",
            "Scores",
            "open_image_reward",
        ),
        "rewriter.train.reward_server": ("RemoteReward", "RewardServer"),
        "rewriter.train.rewards": ("Shaper",),
        "rewriter.train.trl_reward": ("RewriteReward",),
    },
)
