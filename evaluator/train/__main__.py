"""Fine-tunes a vision-language model as a judge, calibrates it and reports on it.

    python -m evaluator.train --config FILE.yaml [--max_steps N] [any setting of the file, to override it]
    accelerate launch -m evaluator.train --config FILE.yaml

or --config NAME for a recipe that comes with the package: qwen2_5_vl_7b, qwen3_vl_8b.

The YAML file holds the settings of `script.JudgeArguments`, of transformers' TrainingArguments (output_dir,
learning_rate, ...) and of TRL's ModelConfig (model_name_or_path, use_peft, lora_r, ...). In output_dir lie the weights
with their processor, report.json, report.md, and judge.toml, the [judge] table of a profile. A second run of the same
command resumes from the last complete checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from evaluator.train.script import train
from redraft.training import run


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
