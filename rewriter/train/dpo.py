"""DPO of a rewriter on pairs of prompts whose pictures were judged, with TRL.

    redraft export preferences runs pairs.jsonl
    python -m rewriter.train.dpo --config FILE.yaml --train_files pairs.jsonl [any setting of the file, to override it]

A record is a row of `redraft export preferences`: `request`, `chosen_prompt` and `rejected_prompt`, with `chosen_thought` and
`rejected_thought` if there were any. The YAML file holds the settings of `DataArguments` and `PairArguments`, of TRL's
ModelConfig and of its DPOConfig (output_dir, beta, ...). A second run resumes from the last whole checkpoint.

A pair teaches which of two replies is better, so both must be replies: pairs with the request itself on one side, which was
drawn as it was typed, are left out unless `typed: true`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redraft.errors import ConfigError, InputError
from redraft.records import Row, is_missing, load_records, text_field
from redraft.training import (
    checkpoint_for,
    console,
    find_model,
    naming_mistakes,
    report_loaded,
    run,
    set_model_kwargs,
    setting,
    train_and_save,
)
from rewriter.styles import Style
from rewriter.train.data import Chat, DataArguments, Triplet, as_triplet, make_chat, make_reply, style_and_rules
from rewriter.train.script import check_template, settings_of


@dataclass
class PairArguments:
    """Which pairs are learnt from."""

    least_margin: float = setting(0.0, "Pairs whose scores differ by less are left out.")
    typed: bool = setting(False, "Whether pairs with the request itself as one of the prompts are learnt from.")


@dataclass(frozen=True)
class PreferencePair:
    """Two rewrites of one request; the picture of `chosen` scored higher, by `margin`."""

    chosen: Triplet
    rejected: Triplet
    margin: float

    @property
    def has_typed(self) -> bool:
        """Whether one of the prompts is the request itself."""
        return self.chosen.request in (self.chosen.prompt, self.rejected.prompt)


def read_pair(row: Row, source: str = "") -> PreferencePair:
    """A pair from a row of `redraft export preferences`. Raises InputError."""
    request = text_field(row, "request")

    def side(name: str) -> Triplet:
        thought = "" if is_missing(row.get(f"{name}_thought")) else text_field(row, f"{name}_thought")
        return as_triplet(request, thought, text_field(row, f"{name}_prompt"))

    margin = row.get("margin", 0.0)
    if not isinstance(margin, int | float) or isinstance(margin, bool) or not 0 <= margin <= 1:
        raise InputError(f"field 'margin' is {margin!r}; it must be a number from 0 to 1")
    pair = PreferencePair(side("chosen"), side("rejected"), float(margin))
    if pair.chosen.prompt == pair.rejected.prompt:
        raise InputError("both prompts are the same: their pictures differ by their seeds alone")
    return pair


def dpo_rows(pairs: Sequence[PreferencePair], style: Style) -> list[dict[str, Chat]]:
    """TRL's conversational preference rows, with the style's own words as the prompt."""
    return [
        {
            "prompt": make_chat(style, pair.chosen.request),
            "chosen": [{"role": "assistant", "content": make_reply(pair.chosen.thought, pair.chosen.prompt)}],
            "rejected": [{"role": "assistant", "content": make_reply(pair.rejected.thought, pair.rejected.prompt)}],
        }
        for pair in pairs
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(train, argv)


def train(argv: Sequence[str]) -> None:
    """Reads settings and pairs, trains, saves. Raises ConfigError, InputError, ModelMissing."""
    from trl import DPOConfig, ModelConfig

    kinds = (DataArguments, PairArguments, DPOConfig, ModelConfig)
    data, choice, training, model = settings_of(kinds, argv, "python -m rewriter.train.dpo")
    if not data.train_files:
        raise ConfigError("train_files is missing; make it by `redraft export preferences RUNS pairs.jsonl`")
    style, _ = style_and_rules(data.style, data.target)
    # Pairs of one prompt with two seeds are no mistake of the file: they are counted, and do not count against max_bad.
    loaded = report_loaded("train_files", load_records(data.train_files, read_pair, max_bad=1.0))
    pairs = [p for p in loaded.records if p.margin >= choice.least_margin and (choice.typed or not p.has_typed)]
    console.print(f"{len(pairs):,} pairs of rewrites to learn from, of {len(loaded.records):,}")
    if not pairs:
        raise InputError("no pair is left to learn from; draw with several rewrites a round, or set typed: true")
    place = find_model(model.model_name_or_path, model.model_revision)
    rows = dpo_rows(pairs, style)
    trainer = _make_trainer(place, training, model, rows)
    check_template(trainer.processing_class, rows[0]["prompt"], rows[0]["chosen"][0]["content"])
    train_and_save(trainer, checkpoint_for(training))


def _make_trainer(place: str, training: Any, model: Any, rows: list[dict[str, Chat]]) -> Any:
    from datasets import Dataset
    from trl import DPOTrainer, get_peft_config, get_quantization_config

    set_model_kwargs(training, model)
    with naming_mistakes(place):
        return DPOTrainer(
            model=place,
            args=training,
            train_dataset=Dataset.from_list(rows),
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
        )


if __name__ == "__main__":
    raise SystemExit(main())
