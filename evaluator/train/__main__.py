"""Fine-tunes a vision-language model as a judge, calibrates it and reports on it.

    python -m evaluator.train --config FILE.yaml [--max_steps N] [any setting of the file, to override it]
    accelerate launch -m evaluator.train --config FILE.yaml

The YAML file holds the settings of `script.JudgeArguments`, of transformers' TrainingArguments (output_dir,
learning_rate, ...) and of TRL's ModelConfig (model_name_or_path, use_peft, lora_r, ...). In output_dir lie the weights
with their processor, report.json, report.md, and judge.toml, the [judge] table of a profile. A second run of the same
command goes on from the last whole checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from core.errors import RedraftError, printable
from evaluator.train.script import console, train


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` in place of the process's own arguments. Returns the exit code."""
    try:
        train(sys.argv[1:] if argv is None else argv)
    except RedraftError as error:
        console.print(printable(f"error: {error}"))
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
