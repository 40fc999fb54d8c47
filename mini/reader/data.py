"""Pictures to learn to describe, with what the oracle reads in them: training scenes, messes made of them, and the generator's.

    python -m mini.reader.data --out work/mini/reader/0.npz --seed 0 --count 6000

Half of the pictures are the generator's own for captions of training scenes, a third messes, the rest scenes as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from mini.judge.questioning import mess
from mini.reader.answering import KINDS
from mini.reader.model import to_pixels
from mini.training import console
from mini.world import codec, oracle
from mini.world.captions import caption, caption_unaware
from mini.world.raster import draw
from mini.world.sampling import sample_pair
from mini.world.scene import COLORS, FILLS, SHEETS, WORDS, Scene

MOST = 14
"""Cut-outs of a row; a picture with more pieces is left out."""
ROW = 6
_BATCH = 64
_COLORS, _SHEETS = tuple(COLORS), tuple(SHEETS)


def to_labels(scene: Scene) -> NDArray[np.float32] | None:
    """(MOST + 2, ROW): each cut-out's x, y, radius, kind, colour, fill, kind -1 if there is none; then the sheet, and the word
    with x, y and its number, -1 if there is none or it is unknown. None if there are too many."""
    if len(scene.cutouts) > MOST:
        return None
    rows = np.full((MOST + 2, ROW), -1, dtype=np.float32)
    for row, cut in zip(rows, scene.cutouts, strict=False):
        row[:] = (
            cut.x, cut.y, cut.radius, KINDS.index(cut.shape), _COLORS.index(cut.color), FILLS.index(cut.fill)
        )  # fmt: skip
    rows[MOST, 0] = _SHEETS.index(scene.sheet)
    if scene.word is not None:
        known = WORDS.index(scene.word.text) if scene.word.text in WORDS else -1
        rows[MOST + 1, :4] = (scene.word.x, scene.word.y, 1, known)
    return rows


def make(count: int, seed: int, generator: Path) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """So many pictures (SIDE, SIDE, 3) with their labels, of training scenes alone."""
    from mini.generator.pipeline import CutoutsPipeline

    rng = np.random.default_rng((seed, 909))
    pipeline = CutoutsPipeline.from_pretrained(generator, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(seed)
    for start in range(0, count, _BATCH):
        pairs = [sample_pair(rng) for _ in range(min(_BATCH, count - start))]
        half = len(pairs) // 2
        captions = [
            caption(spec) if rng.random() < 0.7 else caption_unaware(rng, spec, 0.75) for spec, _ in pairs[:half]
        ]
        scenes: list[tuple[Scene, bool]] = []
        if captions:
            vectors = pipeline(captions, generator=noise, num_inference_steps=16, output_type="latent").images
            scenes += [(scene, False) for scene in codec.to_scenes(vectors.numpy())]
        scenes += [(scene, True) if rng.random() < 0.33 else (mess(rng, scene), False) for _, scene in pairs[half:]]
        for scene, exact in scenes:
            image = draw(scene)
            labels = to_labels(scene if exact else oracle.read_scene(image))
            if labels is not None:
                yield to_pixels([image])[0], labels


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.reader.data",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Draws pictures for the mini reader to learn from.",
    )
    parser.add_argument("--out", type=Path, default=Path("work/mini/reader/0.npz"), help="file for the pictures")
    parser.add_argument("--count", type=int, default=12_000, help="pictures")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes and pictures")
    parser.add_argument("--generator", type=Path, default=Path("mini/weights/generator"), help="the trained generator")
    options = parser.parse_args(argv)
    made = list(track(make(options.count, options.seed, options.generator), total=options.count, description="drawing"))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out, pixels=np.stack([pixels for pixels, _ in made]), labels=np.stack([labels for _, labels in made])
    )
    console.print(f"{len(made)} pictures in {options.out}")


if __name__ == "__main__":
    main()
