"""Supervised fine-tuning of a rewriter on triplets (request, thought, prompt), with TRL.

    python -m rewriter.train.sft --config FILE.yaml [--max-steps N] [any setting of the file, to override it]
    accelerate launch -m rewriter.train.sft --config FILE.yaml

The YAML file (or the name of a recipe) holds the settings of `DataArguments` and `ThoughtArguments`, of TRL's
ModelConfig (model_name_or_path, use_peft, lora_r, ...) and of its SFTConfig (output_dir, learning_rate, ...). A second
run of the same command resumes from the last whole checkpoint in output_dir; the trained model goes to output_dir
itself. Only the reply is learnt, not the request. If model_name_or_path is a folder with an adapter, that adapter is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redraft.errors import ConfigError
from redraft.training import (
    checkpoint_for,
    console,
    find_model,
    naming_mistakes,
    report_loaded,
    run,
    setting,
    train_and_save,
)
from rewriter.train.data import DataArguments, load_triplets, sft_rows, style_and_rules
from rewriter.train.script import check_template, make_trainer, settings_of


@dataclass
class ThoughtArguments:
    """What of the records is learnt, and how."""

    thoughts: bool = setting(True, "Whether to train on the thoughts too.")
    muon: bool = setting(False, "Train the layers' matrices with Muon; for models with random weights.")
    lean: bool = setting(False, "Make the loss in the way that is fast on a CPU (`rewriter.train.lean`).")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(train, argv)


def train(argv: Sequence[str]) -> None:
    """Reads settings and data, trains, saves. Raises ConfigError, InputError, ModelMissing."""
    from trl import ModelConfig, SFTConfig

    kinds = (DataArguments, ThoughtArguments, SFTConfig, ModelConfig)
    data, what, training, model = settings_of(kinds, argv, "python -m rewriter.train.sft")
    if not data.train_files:
        raise ConfigError("train_files is missing; name JSONL or Parquet files of triplets, or folders of them")
    style, _ = style_and_rules(data.style, data.target)
    triplets = report_loaded("train_files", load_triplets(data.train_files, max_bad=data.max_bad))
    held_out = None
    if data.eval_files:
        held_out = report_loaded("eval_files", load_triplets(data.eval_files, max_bad=data.max_bad))
    rows = sft_rows(triplets.records, style, thoughts=what.thoughts)
    trainer = make_trainer(
        _trainer_kind(what),
        training,
        model,
        rows,
        sft_rows(held_out.records, style, thoughts=what.thoughts) if held_out is not None else None,
        **({"optimizer_cls_and_kwargs": _muon(training, model)} if what.muon else {}),
    )
    check_template(trainer.processing_class, rows[0]["prompt"], rows[0]["completion"][0]["content"])
    _warn_of_cuts(trainer, training.max_length, len(triplets.records))
    train_and_save(trainer, checkpoint_for(training))


def _trainer_kind(what: ThoughtArguments) -> Any:
    from trl import SFTTrainer

    if not what.lean:
        return SFTTrainer
    from rewriter.train.lean import LeanSFTTrainer

    return LeanSFTTrainer


def _muon(training: Any, model: Any) -> tuple[type[Any], dict[str, Any]]:
    from transformers import AutoConfig

    from rewriter.train.muon import MuonWithAdamW

    place = find_model(model.model_name_or_path, model.model_revision)
    with naming_mistakes(place):
        config = AutoConfig.from_pretrained(place)
    betas = (training.adam_beta1, training.adam_beta2)
    settings = {"lr": training.learning_rate, "betas": betas, "eps": training.adam_epsilon}
    return MuonWithAdamW, {**settings, "vocabulary": config.get_text_config().vocab_size}


def _warn_of_cuts(trainer: Any, max_length: int | None, wanted: int) -> None:
    """TRL silently truncates long records, and drops those whose reply is cut off whole; a reply without its end teaches
    not to end. Raises ConfigError if nothing is left at all."""
    if max_length is None or trainer.args.packing:
        return
    left = len(trainer.train_dataset)
    if left == 0:
        raise ConfigError(f"every request alone has max_length = {max_length} tokens or more; raise it")
    cut = wanted - left + sum(len(ids) >= max_length for ids in trainer.train_dataset["input_ids"])
    if cut:
        console.print(f"warning: {cut:,} records reach max_length = {max_length} tokens and are cut off; raise it")


if __name__ == "__main__":
    raise SystemExit(main())
