"""GRPO of a rewriter against the pictures that its rewrites make, with TRL.

    python -m rewriter.train.grpo --config FILE.yaml [--max-steps N] [any setting of the file, to override it]
    accelerate launch -m rewriter.train.grpo --config FILE.yaml

The YAML file (or the name of a recipe) holds the settings of `DataArguments`, `RewardArguments`, `RemoteArguments`,
`TextArguments`, `ShapingArguments` and `SampleArguments`, of TRL's ModelConfig (model_name_or_path, use_peft, ...) and of its
GRPOConfig (output_dir, num_generations, beta, use_vllm, ...). A second run of the same command resumes from the last whole
checkpoint in output_dir; the trained model goes to output_dir itself, and sample pages to output_dir/samples. If
model_name_or_path is a folder with an adapter, as SFT leaves it, that adapter is trained on.

TRL turns rewards into advantages within each request's group (`scale_rewards: group`, the paper's way), or as its other
settings say. Its `reward_weights` and `multi_objective_aggregation` are for several reward functions; here one function
gives the whole reward, and `combine` and `part_weights` are for its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redraft.errors import ConfigError
from redraft.profiles import load_profile
from redraft.training import checkpoint_for, missing_model, report_loaded, run, train_and_save
from rewriter.cot import infer_target
from rewriter.target import Target
from rewriter.train.data import DataArguments, load_requests, make_reply, rl_rows, style_and_rules
from rewriter.train.image_reward import RewardArguments
from rewriter.train.reward_server import RemoteArguments, open_source
from rewriter.train.rewards import Shaper, ShapingArguments
from rewriter.train.script import (
    check_template,
    make_trainer,
    settings_of,
    tokenizer_place,
)
from rewriter.train.text_reward import TextArguments, TextReward, parse_terms
from rewriter.train.trl_reward import RewriteReward, SampleArguments


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(train, argv)


def train(argv: Sequence[str]) -> None:
    """Reads settings and data, opens the reward, trains, saves.

    Raises ConfigError, InputError, ModelMissing, and BackendError if too many judgements failed.
    """
    from trl import GRPOConfig, ModelConfig

    kinds = (
        DataArguments,
        RewardArguments,
        RemoteArguments,
        TextArguments,
        ShapingArguments,
        SampleArguments,
        GRPOConfig,
        ModelConfig,
    )
    data, rewarding, remote, text, shaping, samples, training, model = settings_of(
        kinds, argv, "python -m rewriter.train.grpo"
    )
    if not data.train_files:
        raise ConfigError("train_files is missing; name JSONL or Parquet files of requests, or folders of them")
    _check_together(shaping, training)
    target: str | Target | None = data.target
    if target is None and rewarding.profile is not None:
        profile = load_profile(rewarding.profile)
        target = infer_target(profile.rewriter.model_copy(update={"style": data.style}), profile.generator)
    style, rules = style_and_rules(data.style, target)
    records = report_loaded("train_files", load_requests(data.train_files, max_bad=data.max_bad))
    held_out = None
    if data.eval_files:
        held_out = report_loaded("eval_files", load_requests(data.eval_files, max_bad=data.max_bad))
    place = tokenizer_place(model.model_name_or_path, model.model_revision)
    rows = rl_rows(records.records, style)
    shaper = Shaper(shaping)
    drawn = rewarding.profile is not None or remote.reward_url is not None or not text.text_rewards
    source = open_source(rewarding, remote, data.style, target) if drawn else None
    if source is None and not shaper.is_plain:
        raise ConfigError("without pictures a reward has no parts to shape: leave combine and its like out")
    if text.text_rewards:
        source = TextReward(parse_terms(text.text_rewards), rules, source)
    assert source is not None, "there are pictures or text terms"
    reward = RewriteReward(
        source,
        shaper,
        opening=_opening(place, model, rows[0], training),
    )
    try:
        trainer = make_trainer(
            _trainer_kind(samples.lean),
            training,
            model,
            rows,
            rl_rows(held_out.records, style) if held_out is not None else None,
            reward_funcs=reward,
        )
        # TRL tells a finished reply from one that was cut off in the same way.
        tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
        reward.ends = frozenset([*trainer.eos_token_ids, tokenizer.pad_token_id])
        start = checkpoint_for(training)
        _add_callbacks(trainer, reward, shaper, samples, start)
        train_and_save(trainer, start)
    finally:
        reward.close()


def _check_together(shaping: ShapingArguments, training: Any) -> None:
    """Refuses settings of ours and TRL's that would undo each other. Raises ConfigError."""
    if training.reward_weights is not None or training.multi_objective_aggregation != "sum_then_normalize":
        raise ConfigError(
            "reward_weights and multi_objective_aggregation are for several reward functions; here one gives the whole "
            "reward: set combine and part_weights instead"
        )
    if shaping.task_ema and training.scale_rewards != "none":
        raise ConfigError("task_ema normalises rewards itself: set scale_rewards: none, or TRL would do it once more")


def _opening(place: str, model: Any, row: dict[str, Any], training: Any) -> str:
    """What the chat template already writes of the reply: templates of models that always think open the thought."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=model.model_revision)
        text = tokenizer.apply_chat_template(
            row["prompt"], tokenize=False, add_generation_prompt=True, **(training.chat_template_kwargs or {})
        )
        reply = make_reply("What matters.", "A picture.")
        check_template(tokenizer, row["prompt"], reply, **(training.chat_template_kwargs or {}))
    except OSError as error:
        raise missing_model(place, error) from error
    except ValueError as error:
        raise ConfigError(f"the tokenizer in {place} cannot be used: {error}") from error
    return "<think>" if str(text).rstrip().endswith("<think>") else ""


def _trainer_kind(lean: bool) -> Any:
    from trl import GRPOTrainer

    if not lean:
        return GRPOTrainer
    from rewriter.train.lean import LeanGRPOTrainer

    return LeanGRPOTrainer


def _add_callbacks(
    trainer: Any, reward: RewriteReward, shaper: Shaper, samples: SampleArguments, start: Path | None
) -> None:
    from rewriter.train.pages import SamplePages, ShaperState

    trainer.add_callback(ShaperState(shaper, start))
    if samples.sample_every > 0:
        folder = Path(trainer.args.output_dir) / "samples"
        trainer.add_callback(SamplePages(reward, folder, every=samples.sample_every, count=samples.sample_count))


if __name__ == "__main__":
    raise SystemExit(main())
