"""Pools of training edits, made once and kept in a work folder: rows before and after, the instruction in the canonical
language, and as a person would give it.

python -m mini.editor.pools --scenes work/mini/pool.npz --out work/mini/edits.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from mini.editor.sampling import sample_edit
from mini.editor.wording import say_edit
from mini.world import codec
from mini.world.pools import load_pool

_CHUNK = 2000
SAYINGS = 3
"""Ways in which each edit is asked for: words are cheaper to draw than edits."""


@dataclass(frozen=True)
class EditPool:
    """`before` and `after`: rows (N, TOKENS, ROW), slot by slot; N instructions in the canonical language, and
    `SAYINGS` N as people give them: those of edit i are at i, i + N, i + 2 N."""

    before: codec.Floats
    after: codec.Floats
    canonical: list[str]
    said: list[str]


def _chunk(seed: tuple[int, int], scenes: codec.Floats) -> EditPool:
    rng = np.random.default_rng(seed)
    cases = [sample_edit(rng, scene=codec.from_rows(row)) for row in scenes]
    rows = [case.rows() for case in cases]
    return EditPool(
        before=np.stack([before for before, _ in rows]),
        after=np.stack([after for _, after in rows]),
        canonical=[str(case.spec) for case in cases],
        said=[say_edit(rng, case.spec, case.before).text for _ in range(SAYINGS) for case in cases],
    )


def make_edit_pool(scenes: codec.Floats, seed: int, out: Path, workers: int = 2) -> None:
    """Writes one training edit for each scene (rows (N, TOKENS, ROW)) to an .npz file. Raises ValueError for none."""
    if not len(scenes):
        raise ValueError("a pool of edits needs at least one scene")
    parts = [scenes[start : start + _CHUNK] for start in range(0, len(scenes), _CHUNK)]
    seeds = [(seed, i) for i in range(len(parts))]
    if len(parts) == 1 or workers == 1:
        made = [_chunk(*chunk) for chunk in track(list(zip(seeds, parts, strict=True)), "edits")]
    else:
        with ProcessPoolExecutor(workers) as executor:
            made = list(track(executor.map(_chunk, seeds, parts), total=len(parts), description="edits"))
    wordings = [
        text for i in range(SAYINGS) for part in made for text in part.said[i * len(part.before) :][: len(part.before)]
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".part.npz")
    np.savez_compressed(
        partial,
        before=np.concatenate([part.before for part in made]),
        after=np.concatenate([part.after for part in made]),
        canonical=np.array([text for part in made for text in part.canonical]),
        said=np.array(wordings),
    )
    partial.replace(out)


def load_edit_pool(path: Path, scenes: Path, workers: int = 2) -> EditPool:
    """The pool in `path`, made first if it is missing, of the generator's training scenes in `scenes`."""
    if not path.is_file():
        make_edit_pool(load_pool(scenes)[0], 0, path, workers)
    with np.load(path) as data:
        texts = ([str(text) for text in data[name]] for name in ("canonical", "said"))
        return EditPool(data["before"], data["after"], *texts)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.editor.pools",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Makes a pool of training edits.",
    )
    parser.add_argument("--scenes", type=Path, default=Path("work/mini/pool.npz"), help="training scenes to edit")
    parser.add_argument("--count", type=int, help="use only this many scenes, from the first")
    parser.add_argument("--seed", type=int, default=0, help="seed of the edits")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=Path("work/mini/edits.npz"), help="file for the pool")
    options = parser.parse_args(argv)
    make_edit_pool(load_pool(options.scenes)[0][: options.count], options.seed, options.out, options.workers)


if __name__ == "__main__":
    main()
