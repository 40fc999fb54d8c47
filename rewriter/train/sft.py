"""Supervised fine-tuning of a rewriter on triplets (prompt, thought, rewrite), with TRL.

    python -m rewriter.train.sft --config FILE.yaml [--max-steps N] [any setting of the file, to override it]
    accelerate launch -m rewriter.train.sft --config FILE.yaml

The YAML file holds the settings of `DataArguments`, of TRL's ModelConfig (model_name_or_path, use_peft, lora_r, ...)
and of its SFTConfig (output_dir, learning_rate, ...). A second run of the same command goes on from the last whole
checkpoint in output_dir; the trained model lies in output_dir itself. Only the reply is learnt, not the request.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from core.errors import ConfigError, RedraftError, printable
from rewriter.styles import load_style
from rewriter.train.data import Loaded, Triplet, load_triplets, sft_rows
from rewriter.train.script import find_model, last_checkpoint, missing, read_settings

console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
_NAMED = 10


@dataclass
class DataArguments:
    """What is learnt."""

    train_files: list[str] = field(default_factory=list, metadata={"help": "JSONL or Parquet files, or folders."})
    eval_files: list[str] = field(default_factory=list, metadata={"help": "The same, to measure the loss on."})
    style: str = field(default="promptenhancer", metadata={"help": "The rewriter style whose templates to train with."})
    thoughts: bool = field(default=True, metadata={"help": "Whether the thoughts are learnt too."})
    max_bad: float = field(default=0.01, metadata={"help": "Share of malformed records that is allowed."})


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` in place of the process's own arguments. Returns the exit code."""
    try:
        train(sys.argv[1:] if argv is None else argv)
    except RedraftError as error:
        console.print(printable(f"error: {error}"))
        return error.exit_code
    return 0


def train(argv: Sequence[str]) -> None:
    """Reads settings and data, trains, saves. Raises ConfigError, InputError, ModelMissing."""
    from trl import ModelConfig, SFTConfig

    settings = read_settings((DataArguments, SFTConfig, ModelConfig), argv, "python -m rewriter.train.sft")
    data, training, model = settings
    if not data.train_files:
        raise ConfigError("train_files is missing; name JSONL or Parquet files of triplets, or folders of them")
    style = load_style(data.style)
    learnt = _told("train_files", load_triplets(data.train_files, max_bad=data.max_bad))
    held_out = None
    if data.eval_files:
        held_out = _told("eval_files", load_triplets(data.eval_files, max_bad=data.max_bad))
    trainer = _trainer(
        find_model(model.model_name_or_path, model.model_revision),
        training,
        model,
        sft_rows(learnt.records, style, thoughts=data.thoughts),
        sft_rows(held_out.records, style, thoughts=data.thoughts) if held_out is not None else None,
    )
    _warn_of_cuts(trainer, training.max_length)
    start = training.resume_from_checkpoint or last_checkpoint(Path(training.output_dir))
    if start:
        console.print(f"going on from {start}")
    trainer.train(resume_from_checkpoint=str(start) if start else None)
    trainer.save_model(training.output_dir)
    console.print(f"saved {training.output_dir} after step {trainer.state.global_step}")


def _trainer(place: str, training: Any, model: Any, rows: list[Any], eval_rows: list[Any] | None) -> Any:
    from datasets import Dataset
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    given = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "use_safetensors": True,  # pickled weights could run code
    }
    training.model_init_kwargs = given | (training.model_init_kwargs or {})
    try:
        return SFTTrainer(
            model=place,
            args=training,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(eval_rows) if eval_rows is not None else None,
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
        )
    except OSError as error:
        raise missing(place, error) from error
    except (ValueError, ImportError) as error:
        raise ConfigError(f"the settings cannot be used: {error}") from error


def _told(name: str, loaded: Loaded[Triplet]) -> Loaded[Triplet]:
    console.print(f"{name}: {loaded}")
    for bad in loaded.bad[:_NAMED]:
        console.print(printable(f"  left out: {bad}"))
    if len(loaded.bad) > _NAMED:
        console.print(f"  left out: {len(loaded.bad) - _NAMED:,} more")
    return loaded


def _warn_of_cuts(trainer: Any, max_length: int | None) -> None:
    """TRL cuts long records without a word, and a reply without its end teaches not to end."""
    if max_length is None or trainer.args.packing:
        return
    cut = sum(len(ids) >= max_length for ids in trainer.train_dataset["input_ids"])
    if cut:
        console.print(f"warning: {cut:,} records reach max_length = {max_length} tokens and may be cut off; raise it")


if __name__ == "__main__":
    raise SystemExit(main())
