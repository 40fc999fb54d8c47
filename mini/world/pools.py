"""Pools of training scenes with their canonical captions, made once and kept in a work folder.

python -m mini.world.pools --count 200000 --out work/mini/pool.npz
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from mini.world.captions import caption
from mini.world.codec import to_rows
from mini.world.sampling import sample_pair

_CHUNK = 2000


def _chunk(seed: tuple[int, int], size: int) -> tuple[NDArray[np.float32], list[str]]:
    rng = np.random.default_rng(seed)
    pairs = [sample_pair(rng) for _ in range(size)]
    return np.stack([to_rows(scene) for _, scene in pairs]), [caption(spec) for spec, _ in pairs]


def make_pool(count: int, seed: int, out: Path, workers: int = 2) -> None:
    """Writes `rows` (N, TOKENS, ROW) and `captions` (N,) of training scenes to an .npz file.

    N is `count`, rounded up to whole chunks of 2000 if it is more than that. Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"a pool holds at least one scene, not {count}")
    chunks = [(seed, i) for i in range(-(-count // _CHUNK))]
    sizes = [min(_CHUNK, count)] * len(chunks)
    if len(chunks) == 1:
        made = [_chunk(chunks[0], sizes[0])]
    else:
        with ProcessPoolExecutor(workers) as executor:
            made = list(track(executor.map(_chunk, chunks, sizes), total=len(chunks), description="scenes"))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".part.npz")
    np.savez_compressed(
        partial, rows=np.concatenate([r for r, _ in made]), captions=np.array([c for _, cs in made for c in cs])
    )
    partial.replace(out)


def load_pool(path: Path, count: int = 200_000, seed: int = 0) -> tuple[NDArray[np.float32], list[str]]:
    """The pool in `path`, made first if it is missing."""
    if not path.is_file():
        make_pool(count, seed, path)
    with np.load(path) as data:
        return data["rows"], [str(c) for c in data["captions"]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m mini.world.pools",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Makes a pool of training scenes.",
    )
    parser.add_argument("--count", type=int, default=200_000, help="scenes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes")
    parser.add_argument("--out", type=Path, default=Path("work/mini/pool.npz"), help="file for the pool")
    options = parser.parse_args()
    make_pool(options.count, options.seed, options.out)
