"""Trains the mini judge in two stages (about an hour and a half on one core).

    python -m mini.judge.train --out mini/weights/judge

look: the vision tower learns what lies in each patch (thing, colour, fill, word) and where the middle of that thing is,
which tells it far more per picture than yes or no. ask: the language model learns to answer, while the tower stays as
it is. Twelve questions share one picture, packed into one sequence in which each sees the picture and itself alone.
Four helps get it off the ground, since whether a red star is there cannot be told from the picture or the question
alone: patches are to look like the words for what lies in them; a third of the questions are open ("colour stars":
"red"); the attention of nouns, values and relations is supervised; and from the last word of each noun phrase a
throw-away head must read how many it names and where they lie.

PictureSource are training scenes as they are, scenes left messy, and, where `--generated` names a file of them, the
generator's own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface

from mini.judge.asking import JudgeWithHeads, measure, packed_attention, start_projector
from mini.judge.looking import PatchBatch, PictureSource, VisionWithHeads, patch_batch, pictures
from mini.judge.model import build_model, save
from mini.judge.packing import question_batch
from mini.training import Trainer, console
from mini.world.pools import load_pool
from mini.world.scene import Scene

ASKED_AGAIN = 3


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.judge.train",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Trains the mini judge.",
    )
    parser.add_argument("--out", type=Path, default=Path("mini/weights/judge"), help="folder for the trained model")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("work/mini/judge"),
        help="folder for log.jsonl and the state, from which the same command resumes",
    )
    parser.add_argument(
        "--pool", type=Path, default=Path("work/mini/pool.npz"), help="training scenes; made if the file is missing"
    )
    parser.add_argument("--pool-size", type=int, default=200_000, help="scenes of a pool that has to be made")
    parser.add_argument(
        "--generated", type=Path, help="scenes that the generator drew: an .npz of mini.generator.generated"
    )
    parser.add_argument(
        "--look-steps", type=int, default=5500, help="steps of the first stage, which learns what is in each patch"
    )
    parser.add_argument(
        "--max-steps", type=int, default=5500, help="steps of the second stage, which learns to answer questions"
    )
    parser.add_argument("--batch", type=int, default=32, help="pictures per step")
    parser.add_argument(
        "--measure-batches", type=int, default=40, help="batches on which the finished model is measured"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    rows, _ = load_pool(options.pool, options.pool_size)
    generated = None
    if options.generated is not None:
        with np.load(options.generated) as data:
            generated = data["rows"]
    AttentionInterface.register("packed", packed_attention)
    model = build_model()
    console.print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")

    look = VisionWithHeads(model)
    plain = PictureSource(rows, None, messy=0.5)

    def look_step(i: int) -> Mapping[str, Tensor]:
        drawn, _, images = pictures(np.random.default_rng((options.seed, 1, i)), plain, 2 * options.batch, False)
        return look.losses(images, patch_batch(drawn))

    looking = Trainer(look, look_step, options.look_steps, options.work / "look", 1e-3, ema=0.99)
    looking.run()
    look.load_state_dict(looking.average)

    start_projector(model, look.heads)
    whole = JudgeWithHeads(model)
    source = PictureSource(rows, generated, messy=0.5)

    seen: dict[int, tuple[list[Scene], Tensor, PatchBatch]] = {}

    def ask_step(i: int) -> Mapping[str, Tensor]:
        # Drawing, reading and looking take as long as answering: each picture is asked about in several steps.
        turn = i // ASKED_AGAIN
        if turn not in seen:
            drawn, read, images = pictures(np.random.default_rng((options.seed, 2, turn)), source, options.batch, True)
            seen.clear()
            seen[turn] = (read, whole.look(images), patch_batch(drawn))
        scenes, features, labels = seen[turn]
        return whole.losses(features, question_batch(np.random.default_rng((options.seed, 4, i)), scenes), labels)

    def evaluate() -> Mapping[str, float]:
        figures = measure(whole, source, options.seed, batches=6)
        return {"accuracy": figures.accuracy, **figures.kinds, "mass_of_nonsense": figures.mass_of_nonsense}

    trainer = Trainer(
        whole, ask_step, options.max_steps, options.work / "ask", 1e-3,
        warmup=100, ema=0.995, evaluate=evaluate, evaluate_every=250,
    )  # fmt: skip
    trainer.run()
    whole.load_state_dict(trainer.average)
    figures = measure(whole, source, options.seed, options.measure_batches)
    save(whole.judge, options.out)
    record = {"seed": options.seed, "steps": [options.look_steps, options.max_steps], **asdict(figures)}
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(f"saved {options.out}: {figures}")


if __name__ == "__main__":
    main()
