"""Records for `evaluator.train`: pictures of training prompts, each check of the prompt answered by the oracle.

    python -m mini.judge.write_records --out work/mini/judgements [--generator mini/weights/generator]

Writes PNG files and judgements.jsonl. Pictures are training scenes, three of four left messy as a clumsy generator
would leave them; with --generator, every second one is what that generator drew for the prompt's caption. Of a
picture's checks at most one more is kept that is met than that are not, so that both verdicts are common.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

from mini.judge.questioning import mess
from mini.training import console
from mini.world import oracle
from mini.world.raster import draw
from mini.world.sampling import Rng, sample_pair
from mini.world.wording import Wording, say
from redraft.images import save_png

_BATCH = 64
_MESSY = 0.75


@dataclass(frozen=True)
class Drawn:
    """A prompt and a picture made for it."""

    wording: Wording
    image: Image.Image


def drawn(rng: Rng, count: int, pipeline: Any | None = None, seed: int = 0) -> Iterator[Drawn]:
    """`count` prompts of the training split with pictures; every second one by `pipeline` if there is one."""
    for start in range(0, count, _BATCH):
        pairs = [sample_pair(rng) for _ in range(min(_BATCH, count - start))]
        wordings = [say(rng, spec) for spec, _ in pairs]
        images = [draw(mess(rng, scene) if rng.random() < _MESSY else scene) for _, scene in pairs]
        if pipeline is not None:
            images[::2] = _generated(pipeline, [wording.caption for wording in wordings[::2]], seed + start)
        yield from map(Drawn, wordings, images)


def judged(rng: Rng, one: Drawn) -> list[tuple[str, str, bool]]:
    """(key point, question, whether the oracle sees it met) for checks of the prompt, in order, and about balanced."""
    truths = oracle.answers(one.image, [question for _, question in one.wording.checks])
    answers = [(*check, accept) for check, accept in zip(one.wording.checks, truths, strict=True)]
    met = [index for index, (_, _, accept) in enumerate(answers) if accept]
    spare = len(met) - (len(answers) - len(met)) - 1
    left_out = {int(index) for index in rng.choice(met, size=spare, replace=False)} if spare > 0 else set()
    return [answer for index, answer in enumerate(answers) if index not in left_out]


def write(out: Path, count: int, seed: int, pipeline: Any | None = None) -> tuple[int, int]:
    """Writes `count` pictures and their records to the folder `out`; returns how many records, and how many accept.

    The records file comes last, so that it names no picture that is not there.
    """
    rng = np.random.default_rng((seed, 77))
    lines: list[str] = []
    accepted = 0
    for number, one in enumerate(track(drawn(rng, count, pipeline, seed), total=count, description="pictures")):
        name = f"pictures/{number:06d}.png"
        answers = judged(rng, one)
        save_png(one.image, out / name, {})
        for point, question, accept in answers:
            record = {
                "image": name,
                "request": one.wording.text,
                "key_point": point,
                "question": question,
                "verdict": "accept" if accept else "reject",
            }
            lines.append(json.dumps(record, ensure_ascii=False))
            accepted += accept
    (out / "judgements.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines), accepted


def _generated(pipeline: Any, captions: Sequence[str], seed: int) -> list[Image.Image]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    images: list[Image.Image] = pipeline(list(captions), generator=generator, num_inference_steps=20).images
    return images


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.judge.write_records",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Writes judgements of cut-outs by the oracle.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("work/mini/judgements"), help="folder for pictures and records"
    )
    parser.add_argument("--count", type=int, default=3000, help="pictures")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pictures")
    parser.add_argument(
        "--generator", type=Path, help="folder of a trained generator, which then draws every second picture"
    )
    options = parser.parse_args(argv)
    pipeline = None
    if options.generator is not None:
        from mini.generator.pipeline import CutoutsPipeline

        pipeline = CutoutsPipeline.from_pretrained(options.generator, use_safetensors=True)
        pipeline.set_progress_bar_config(disable=True)
    records, accepted = write(options.out, options.count, options.seed, pipeline)
    console.print(f"{records:,} records, {accepted / records:.0%} of them accept, in {options.out}")


if __name__ == "__main__":
    main()
