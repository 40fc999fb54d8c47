"""DPO of a rewriter on pairs of rewrites of which one was rated higher, with TRL.

    redraft export preferences runs pairs.jsonl
    redraft enhance requests.jsonl pairs.jsonl --n 8 --thought --judge --images 2
    redraft enhance requests.jsonl pairs.jsonl --n 6 --thought --select rewriter.train.text_reward:rate_candidates
    python -m rewriter.train.dpo --config FILE.yaml --train_files pairs.jsonl [any setting of the file, to override it]

A record is a row of `redraft export preferences`, whose pictures were judged: `request`, `chosen_prompt` and `rejected_prompt`,
with `chosen_thought`, `chosen_negative_prompt` and the like if there were any. Or it is a row of `redraft enhance` with
`candidates`, their `scores` and perhaps `candidate_thoughts` and `candidate_negative_prompts`: the pairs are the best and the
worst of them, the second best and the second worst, and so on, as many as `pairs` says (the ranked synthetic pairs of RankDPO).
The YAML file holds the settings of `DataArguments` and `PairArguments`, of TRL's ModelConfig (a folder with an adapter is
trained on) and of its DPOConfig (output_dir, beta, ...). A second run resumes from the last whole checkpoint.

A pair teaches which of two replies is better, so both must be replies: pairs with the request itself on one side, which was
drawn as it was typed, are left out unless `typed: true`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import itemgetter

from pydantic import BaseModel, ValidationError

from redraft.errors import ConfigError, InputError
from redraft.records import Row, is_missing, load_records, text_field
from redraft.training import (
    checkpoint_for,
    console,
    report_loaded,
    run,
    setting,
    train_and_save,
)
from rewriter.styles import Style
from rewriter.train.data import (
    Chat,
    DataArguments,
    Triplet,
    as_triplet,
    join_negative,
    make_chat,
    make_reply,
    style_and_rules,
)
from rewriter.train.script import check_template, first_mistake, make_trainer, settings_of


@dataclass
class PairArguments:
    """Which pairs are learnt from."""

    least_margin: float = setting(0.0, "Pairs whose scores differ by less are left out.")
    pairs: int = setting(
        1, "Most pairs from the candidates of one request: best and worst, second best and second worst, ..."
    )
    typed: bool = setting(False, "Whether pairs with the request itself as one of the prompts are learnt from.")

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"pairs must be at least 1, not {self.pairs}")


@dataclass(frozen=True)
class PreferencePair:
    """Two rewrites of one request; `chosen`, or its picture, scored higher, by `margin`."""

    chosen: Triplet
    rejected: Triplet
    margin: float

    @property
    def has_typed(self) -> bool:
        """Whether one of the prompts is the request itself."""
        return self.chosen.request in (self.chosen.prompt, self.rejected.prompt)


def read_pairs(row: Row, source: str = "", *, most: int = 1) -> tuple[PreferencePair, ...]:
    """The pair of a row of `redraft export preferences`, or at most `most` of a row of `redraft enhance` with scored
    candidates, the one with the largest margin first. Raises InputError."""
    request = text_field(row, "request")
    if "candidates" in row:
        return tuple(islice(_outermost_pairs(request, row), most))

    def side(name: str) -> Triplet:
        thought, negative = (
            "" if is_missing(row.get(field)) else text_field(row, field)
            for field in (f"{name}_thought", f"{name}_negative_prompt")
        )
        return as_triplet(request, thought, join_negative(text_field(row, f"{name}_prompt"), negative))

    margin = row.get("margin", 0.0)
    if not isinstance(margin, int | float) or isinstance(margin, bool) or not 0 <= margin <= 1:
        raise InputError(f"field 'margin' is {margin!r}; it must be a number from 0 to 1")
    pair = PreferencePair(side("chosen"), side("rejected"), float(margin))
    if pair.chosen.prompt == pair.rejected.prompt:
        raise InputError("both prompts are the same: their pictures differ by their seeds alone")
    return (pair,)


class _Candidates(BaseModel):
    candidates: list[str]
    scores: list[float | None]
    candidate_thoughts: list[str] = []
    candidate_negative_prompts: list[str | None] = []


def _outermost_pairs(request: str, row: Row) -> Iterator[PreferencePair]:
    """The best and the worst candidate, then the second best and the second worst, as long as their scores differ."""
    try:
        read = _Candidates.model_validate(row)
    except ValidationError as error:
        raise InputError(
            f"{first_mistake(error)}; have candidates scored by `redraft enhance --select` or `--judge`"
        ) from error
    thoughts = read.candidate_thoughts or [""] * len(read.candidates)
    negatives = read.candidate_negative_prompts or [None] * len(read.candidates)
    # With --judge the request's own picture is scored too, after the candidates'.
    rows = zip(read.scores, thoughts, map(join_negative, read.candidates, negatives), strict=False)
    known = ((score, as_triplet(request, *texts)) for score, *texts in rows if score is not None)
    scored = sorted(known, key=itemgetter(0))
    if len(scored) < 2 or scored[0][0] == scored[-1][0]:
        raise InputError("no two candidates have different scores")
    for at in range(len(scored) // 2):
        (worse, rejected), (better, chosen) = scored[at], scored[-1 - at]
        if better > worse:
            yield PreferencePair(chosen, rejected, better - worse)


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
    from trl import DPOConfig, DPOTrainer, ModelConfig

    kinds = (DataArguments, PairArguments, DPOConfig, ModelConfig)
    data, choice, training, model = settings_of(kinds, argv, "python -m rewriter.train.dpo")
    if not data.train_files:
        raise ConfigError(
            "train_files is missing; make it by `redraft export preferences RUNS pairs.jsonl`, or by `redraft enhance --n 6 "
            "--thought --select SCORER`"
        )
    style, _ = style_and_rules(data.style, data.target)
    # Pairs of one prompt with two seeds are no mistake of the file: they are counted, and do not count against max_bad.
    read = partial(read_pairs, most=choice.pairs)
    loaded = report_loaded("train_files", load_records(data.train_files, read, max_bad=1.0))
    made = [pair for of_row in loaded.records for pair in of_row]
    pairs = [p for p in made if p.margin >= choice.least_margin and (choice.typed or not p.has_typed)]
    console.print(f"{len(pairs):,} pairs of rewrites to learn from, of {len(made):,}")
    if not pairs:
        raise InputError("no pair is left to learn from; draw with several rewrites a round, or set typed: true")
    rows = dpo_rows(pairs, style)
    trainer = make_trainer(DPOTrainer, training, model, rows)
    check_template(trainer.processing_class, rows[0]["prompt"], rows[0]["chosen"][0]["content"])
    train_and_save(trainer, checkpoint_for(training))


if __name__ == "__main__":
    raise SystemExit(main())
