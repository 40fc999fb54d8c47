"""Scenes that the trained generator draws for training captions: what the judge will really have to look at.

python -m mini.generator.generated --out work/mini/generated.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from mini.generator.pipeline import CutoutsPipeline
from mini.training import console
from mini.world import codec
from mini.world.pools import load_pool

_BATCH = 128


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m mini.generator.generated",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Draws training captions with the mini generator.",
    )
    parser.add_argument(
        "--generator", type=Path, default=Path("mini/weights/generator"), help="folder of the trained generator"
    )
    parser.add_argument(
        "--pool", type=Path, default=Path("work/mini/pool.npz"), help="training scenes whose captions are drawn"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("work/mini/generated.npz"), help="file for the scenes that it draws"
    )
    parser.add_argument("--count", type=int, default=8000, help="captions to draw")
    parser.add_argument("--seed", type=int, default=0, help="seed of captions and pictures")
    options = parser.parse_args(argv)
    _, captions = load_pool(options.pool)
    pipeline = CutoutsPipeline.from_pretrained(options.generator, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    rng = np.random.default_rng((options.seed, 55))
    generator = torch.Generator().manual_seed(options.seed)
    rows: list[codec.Floats] = []
    for _ in track(range(-(-options.count // _BATCH)), description="drawing"):
        chosen = [captions[int(i)] for i in rng.integers(len(captions), size=_BATCH)]
        vectors = pipeline(chosen, generator=generator, num_inference_steps=20, output_type="latent").images
        rows.extend(codec.to_rows(scene) for scene in codec.to_scenes(vectors.numpy()))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, rows=np.stack(rows))
    console.print(f"{len(rows)} scenes in {options.out}")


if __name__ == "__main__":
    main()
