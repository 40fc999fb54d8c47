"""The settings of the training scripts, beside those of TRL and transformers: keys of their YAML files and options."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from redraft.errors import ConfigError


def _check_choices(args: Any) -> None:
    """argparse checks what stands on the command line, but not what stands in a YAML file. Raises ValueError."""
    for name, kind in get_type_hints(type(args)).items():
        value = getattr(args, name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise ValueError(f"{name} is {value!r}, and may be {', '.join(map(str, get_args(kind)))}")


def _told(default: Any, told: str) -> Any:
    return field(default=default, metadata={"help": told})


@dataclass
class DataArguments:
    """What is learnt from."""

    train_files: list[str] = field(
        default_factory=list, metadata={"help": "JSONL or Parquet files, folders of them, or `datasets:NAME#SPLIT`."}
    )
    eval_files: list[str] = field(default_factory=list, metadata={"help": "The same, to measure on."})
    style: str = _told("promptenhancer", "The rewriter style whose templates to train with.")
    target: str | None = _told(None, "Image model the prompts are for: a name from rewriter/targets or a TOML file.")
    max_bad: float = _told(0.01, "Share of malformed records that is allowed.")


@dataclass
class RewardArguments:
    """How rewrites are drawn and judged: for GRPO in one process, and for the reward server."""

    profile: str | None = _told(None, "Profile (name or TOML file) whose generator, checklist model and judge reward.")
    aggregation: Literal["profile", "group_mean", "mean", "min", "geometric_mean"] = _told(
        "profile", "How checks make a score: as the profile says, or mean of key-point groups (the paper's), mean, ..."
    )
    images_per_rewrite: int = _told(1, "Pictures, of different seeds, over which a rewrite's score is averaged.")
    reward_seed: int = _told(0, "Seeds of pictures follow from this and from the user's prompt.")
    format_weight: float = _told(0.1, "Weight of the format term (0, 0.5 or 1).")
    penalty_each: float = _told(0.1, "Taken off for each finding of the intent guard.")
    penalty_most: float = _told(0.5, "At most this is taken off, and for a reply that cannot be read just this.")
    judge_passes: int = _told(1, "Times each picture is judged (from the second on re-encoded); 2 for doubt_weight.")
    reward_cache: str | None = _told(None, "SQLite file that keeps scores from run to run; none: in memory.")

    def __post_init__(self) -> None:
        _check_choices(self)


@dataclass
class RemoteArguments:
    """Where rewards come from, if not from models in this process."""

    reward_url: str | None = _told(None, "Address of a reward server, in place of `profile`.")
    reward_token_env: str | None = _told(None, "NAME of the environment variable with the server's token.")
    reward_timeout_s: float = _told(1800.0, "How long one step's rewards may take.")
    max_failed: float = _told(0.2, "Above this share of failed judgements in a step, training stops.")


@dataclass
class ShapingArguments:
    """What becomes of rewards before TRL makes advantages of them. The defaults leave them alone, as in the paper.

    Applied in this order; each formula is in rewriter/train/rewards.py, with its source.
    """

    combine: Literal["sum", "normalise_then_sum", "log_tamed"] = _told(
        "sum", "How alignment, format and intent become one: their sum, or with part_weights GDPO's or PaCo-RL's way."
    )
    part_weights: list[float] = field(
        default_factory=lambda: [1.0, 0.1, 0.5],
        metadata={"help": "Weights of alignment, format and intent for every `combine` but sum."},
    )
    log_tame_above: str = _told("mean", "log_tamed: `mean`, `median` or a number; parts that spread more are tamed.")
    doubt_weight: bool = _told(False, "Draw rewards to their group's mean by exp(-disagreement) (after Ctrl-U).")
    win_rate: bool = _told(False, "Put each reward's share of won comparisons in its group in its place (Pref-GRPO).")
    win_margin: float = _told(0.0, "Rewards no farther apart than this are a tie.")
    skip_settled: bool = _told(False, "Learn nothing from groups that are good and alike (Edit-R1).")
    settled_above: float = _told(0.9, "A settled group's mean alignment is above this,")
    settled_spread: float = _told(0.05, "and its standard deviation below this.")
    task_ema: bool = _told(False, "Normalise by a moving deviation of the record's `task` (EMA-GRPO).")
    task_decay: float = _told(0.99, "How much of the moving averages is kept from step to step.")

    def __post_init__(self) -> None:
        _check_choices(self)
        if len(self.part_weights) != 3:
            raise ValueError(f"part_weights needs three numbers (alignment, format, intent), not {self.part_weights}")
        if self.log_tame_above not in ("mean", "median"):
            float(self.log_tame_above)


@dataclass
class SampleArguments:
    """The pages that show how training goes."""

    sample_every: int = _told(50, "Steps between sample pages in output_dir/samples; 0 for none.")
    sample_count: int = _told(6, "Prompts on a page.")


def only_here(args: RewardArguments) -> None:
    """Refuses settings that a reward server decides. Raises ConfigError."""
    plain = RewardArguments()
    changed = [f.name for f in fields(args) if getattr(args, f.name) != getattr(plain, f.name)]
    if changed:
        raise ConfigError(f"with reward_url, the reward server decides {', '.join(changed)}; set it there, not here")
