"""Writes training data of cut-outs for the rewriter's scripts, and an untrained mini model to start from.

    python -m mini.rewriter.write_data

work/mini/sft.jsonl            triplets of the training split: {"request", "thought", "prompt"},
                               a fifth of them repairs, with "before" and "failed"; by a teacher who does not know
                               what the generator draws well (--once, see docs/training.md)
work/mini/prompts.jsonl        prompts of the training split, others than those of the triplets
work/mini/prompts_test.jsonl   prompts that ask for held-out combinations, to measure on
work/mini/untrained            a mini rewriter with its tokenizer and random weights
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mini.rewriter.lessons import lesson, parts_of
from mini.training import console
from mini.world.sampling import Split

_STREAMS = {"sft": 101, "prompts": 102, "test": 103, "corpus": 104}
_REPAIRS = 0.2
"""Share of triplets that repair: the loop asks for repairs, too."""


def triplets(count: int, seed: int = 0, once: float = 0.0) -> list[dict[str, Any]]:
    """SFT triplets of the training split, no prompt twice. `once` as in `mini.rewriter.lessons.lesson`."""
    records: dict[str, dict[str, Any]] = {}
    rng = np.random.default_rng((seed, _STREAMS["sft"]))
    while len(records) < count:
        one = lesson(rng, "train", "repair" if rng.random() < _REPAIRS else "rewrite", once)
        thought, rewrite = parts_of(one.reply)
        if one.task == "repair":
            row: dict[str, Any] = {"request": one.wording.text, "before": one.before, "failed": list(one.failed)}
        else:
            row = {"request": one.prompt.removeprefix("Rewrite: ")}
        records.setdefault(row["request"], {**row, "thought": thought, "prompt": rewrite})
    return list(records.values())


def prompts(count: int, split: Split, seed: int = 0, without: Iterable[str] = ()) -> list[dict[str, str]]:
    """Prompts for RL, or to measure on; none twice, and none of `without`."""
    seen = set(without)
    rng = np.random.default_rng((seed, _STREAMS["prompts" if split == "train" else "test"]))
    rows: list[dict[str, str]] = []
    while len(rows) < count:
        text = lesson(rng, split, "rewrite").prompt.removeprefix("Rewrite: ")
        if text not in seen:
            seen.add(text)
            rows.append({"request": text})
    return rows


def untrained(folder: Path, seed: int = 0, corpus: int = 4000) -> None:
    """Saves a mini rewriter with random weights, and a tokenizer of lessons of all tasks."""
    import torch

    from mini.rewriter.model import build_model, save, train_tokenizer

    rng = np.random.default_rng((seed, _STREAMS["corpus"]))
    texts = [text for sample in (lesson(rng) for _ in range(corpus)) for text in (sample.prompt, sample.reply)]
    tokenizer = train_tokenizer(texts)
    torch.manual_seed(seed)
    save(build_model(tokenizer), tokenizer, folder)


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    console.print(f"{path}: {len(rows):,} records")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.rewriter.write_data",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Writes training data of cut-outs for the rewriter.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("work/mini"), help="folder for triplets, prompts and an untrained model"
    )
    parser.add_argument("--count", type=int, default=20_000, help="triplets")
    parser.add_argument("--prompts", type=int, default=4000, help="requests for GRPO")
    parser.add_argument("--test", type=int, default=500, help="held-out requests")
    parser.add_argument(
        "--once", type=float, default=0.75, help="share of relations that triplets state from one side only"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the data")
    options = parser.parse_args(argv)
    learnt = triplets(options.count, options.seed, options.once)
    known = [row["request"] for row in learnt]
    _write(options.out / "sft.jsonl", learnt)
    _write(options.out / "prompts.jsonl", prompts(options.prompts, "train", options.seed, known))
    _write(options.out / "prompts_test.jsonl", prompts(options.test, "test", options.seed))
    untrained(options.out / "untrained", options.seed)
    console.print(f"{options.out / 'untrained'}: a model to start from")


if __name__ == "__main__":
    main()
