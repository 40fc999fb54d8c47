"""Figures of the mini editor by the oracle, on edits made from seeds that no pool uses: was the instruction followed,
and was the rest kept.

python -m mini.editor.figures --editor mini/weights/editor --count 300
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from mini.editor.layout import EditCase
from mini.editor.pipeline import LAYOUTS, CutoutsEditPipeline
from mini.editor.sampling import MAX_OPS, sample_edit
from mini.editor.truth import kept, ops_followed
from mini.editor.wording import say_edit
from mini.world import oracle
from mini.world.raster import draw
from mini.world.sampling import Split

Wording = Literal["human", "canonical"]
_SEED = 555_001
_BATCH = 100


@dataclass(frozen=True)
class Share:
    """`right` of `of`, with a 95% interval (Wilson 1927)."""

    right: int
    of: int

    @property
    def share(self) -> float:
        return self.right / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        z, n, p = 1.96, self.of, self.share
        middle, half = p + z * z / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:.3f} ({low:.3f} to {high:.3f}) of {self.of}"


@dataclass(frozen=True)
class EditExample:
    """An edit to be asked for: its case, its source picture, and the instruction."""

    case: EditCase
    source: Image.Image
    prompt: str


def sample_examples(count: int, seed: int, split: Split, wording: Wording) -> list[EditExample]:
    """The same edits for the same seed and split, in either wording."""
    rng = np.random.default_rng((_SEED, seed))
    made = []
    for _ in range(count):
        case = sample_edit(rng, split)
        said = say_edit(rng, case.spec, case.before)
        made.append(EditExample(case, draw(case.before), said.text if wording == "human" else said.canonical))
    return made


def figures(
    pipeline: CutoutsEditPipeline,
    count: int,
    seed: int,
    split: Split = "test",
    wording: Wording = "human",
    layouts: int = LAYOUTS,
) -> dict[str, Share]:
    """Shares of edits that are "followed", "kept" and "both"; of edits with n changes that are both ("both, n"); of
    changes that were done, by kind."""
    counts: dict[str, list[bool]] = defaultdict(list)
    examples = sample_examples(count, seed, split, wording)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, _BATCH):
        part = examples[start : start + _BATCH]
        sources = [item.source for item in part]
        prompts = [item.prompt for item in part]
        drawn = pipeline(prompts, sources, generator=generator, layouts=layouts, return_dict=False)[0]
        for item, picture in zip(part, drawn, strict=True):
            spec = item.case.spec
            before, after = oracle.read_scene(item.source), oracle.read_scene(picture)
            done, stayed = ops_followed(spec, before, after), kept(spec, before, after)
            counts["followed"].append(all(done))
            counts["kept"].append(stayed)
            counts["both"].append(all(done) and stayed)
            counts[f"both, {len(done)}"].append(all(done) and stayed)
            for op, right in zip(spec.ops, done, strict=True):
                counts[op.kind].append(right)
    order = ["followed", "kept", "both", *(f"both, {n + 1}" for n in range(MAX_OPS))]
    names = [*order, *sorted(set(counts) - set(order))]
    return {name: Share(sum(counts[name]), len(counts[name])) for name in names}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.editor.figures",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Figures of the mini editor by the oracle.",
    )
    parser.add_argument("--editor", type=Path, default=Path("mini/weights/editor"), help="folder of the trained editor")
    parser.add_argument("--count", type=int, default=300, help="edits")
    parser.add_argument("--seed", type=int, default=0, help="seed of the edits and results")
    parser.add_argument("--split", choices=("train", "test"), default="test", help="split that the edits are from")
    parser.add_argument(
        "--layouts", type=int, default=LAYOUTS, help="layouts denoised for each result; the least crowded is drawn"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args(argv)
    pipeline = CutoutsEditPipeline.from_pretrained(options.editor, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    found = {
        wording: figures(pipeline, options.count, options.seed, options.split, wording, options.layouts)
        for wording in ("canonical", "human")
    }
    table = Table("", "canonical language", "people's words", title=f"{options.count} edits, split {options.split}")
    for name in found["human"]:
        table.add_row(name, str(found["canonical"][name]), str(found["human"][name]))
    Console().print(table)
    if options.out is not None:
        record = {wording: {name: asdict(share) for name, share in shares.items()} for wording, shares in found.items()}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
