"""Records for `evaluator.train`: pictures of training prompts, each check of the prompt answered by the oracle.

    python -m mini.judge.write_records --out work/mini/judgements [--generator mini/weights/generator]

Writes PNG files and judgements.jsonl. Pictures are training scenes, three of four left messy as a clumsy generator
would leave them; with --generator, every second one is what that generator drew for the prompt's caption, or all of them
(--all-drawn). Of a picture's checks at most one more is kept that is met than that are not, so that both verdicts are common:
a picture without a "reject" is right. --photographed spoils the pictures after the oracle has seen them, as a bad photograph
of the sheets would be: the judge has never seen such. Then clean/ has them as they were, and

    python -m mini.judge.write_records --relabel EXPORTED.jsonl --out FOLDER

writes the records in EXPORTED.jsonl, which were made of FOLDER's pictures, with the oracle's verdicts to relabelled.jsonl;
--count-right EXPORTED.jsonl counts the exported pictures that are right.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from rich.progress import track

from mini.judge.questioning import mess
from mini.training import console
from mini.world import oracle
from mini.world.raster import draw
from mini.world.sampling import Rng, Split, sample_pair
from mini.world.wording import Wording, say
from redraft.images import save_png
from redraft.statistics import Interval, bootstrap, mean

_BATCH = 64
_MESSY = 0.75


@dataclass(frozen=True)
class Drawn:
    """A prompt and a picture made for it."""

    wording: Wording
    image: Image.Image


def drawn(
    rng: Rng, count: int, pipeline: Any | None = None, seed: int = 0, *, split: Split = "train", every: int = 2
) -> Iterator[Drawn]:
    """`count` prompts of a split with pictures; each `every`-th one by `pipeline` if there is one."""
    for start in range(0, count, _BATCH):
        pairs = [sample_pair(rng, split) for _ in range(min(_BATCH, count - start))]
        wordings = [say(rng, spec) for spec, _ in pairs]
        images = [draw(mess(rng, scene) if rng.random() < _MESSY else scene) for _, scene in pairs]
        if pipeline is not None:
            images[::every] = _generated(pipeline, [wording.caption for wording in wordings[::every]], seed + start)
        yield from map(Drawn, wordings, images)


def photograph(rng: Rng, image: Image.Image, strength: float = 1.0) -> Image.Image:
    """The picture as a bad photograph of it: turned by up to 6 degrees, dim, in warm light, out of focus and noisy, all of it
    times `strength` from 0 to 1."""
    corner = image.getpixel((2, 2))
    turned = image.rotate(float(rng.uniform(-6, 6)) * strength, Image.Resampling.BICUBIC, fillcolor=corner)
    blurred = turned.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.5)) * strength * image.width / 128))
    warmth = np.array([1.0, 0.9, 0.75]) ** (rng.uniform(0, 1) * strength)
    light = warmth * (1 - (1 - rng.uniform(0.55, 0.9)) * strength)
    pixels = np.asarray(blurred, dtype=np.float64) * light + rng.normal(0, 10 * strength, (*blurred.size[::-1], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def judged(rng: Rng, one: Drawn) -> list[tuple[str, str, bool]]:
    """(key point, question, whether the oracle sees it met) for checks of the prompt, in order, and about balanced."""
    truths = oracle.answers(one.image, [question for _, question in one.wording.checks])
    answers = [(*check, accept) for check, accept in zip(one.wording.checks, truths, strict=True)]
    met = [index for index, (_, _, accept) in enumerate(answers) if accept]
    spare = len(met) - (len(answers) - len(met)) - 1
    left_out = {int(index) for index in rng.choice(met, size=spare, replace=False)} if spare > 0 else set()
    return [answer for index, answer in enumerate(answers) if index not in left_out]


def write(
    out: Path,
    count: int,
    seed: int,
    pipeline: Any | None = None,
    *,
    split: Split = "train",
    every: int = 2,
    photographed: float = 0.0,
) -> tuple[int, int]:
    """Writes `count` pictures and their records to the folder `out`; returns how many records, and how many accept.

    The records file comes last, so that it names no picture that is not there.
    """
    rng = np.random.default_rng((seed, 77))
    lines: list[str] = []
    accepted = 0
    made = drawn(rng, count, pipeline, seed, split=split, every=every)
    for number, one in enumerate(track(made, total=count, description="pictures")):
        name = f"pictures/{number:06d}.png"
        answers = judged(rng, one)
        save_png(photograph(rng, one.image, photographed) if photographed else one.image, out / name, {})
        if photographed:
            save_png(one.image, out / "clean" / f"{number:06d}.png", {})
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


def write_pairs(out: Path) -> int:
    """Writes pairs.jsonl beside the records in `out`, for `redraft eval pairs`: two pictures of which the oracle answers one
    question with yes and with no, each record in one pair at most; returns how many."""
    sides: dict[str, tuple[list[str], list[str]]] = {}
    for line in (out / "judgements.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        sides.setdefault(record["question"], ([], []))[record["verdict"] == "reject"].append(record["image"])
    rows = [
        {"prompt": question, "question": question, "chosen": better, "rejected": worse}
        for question, (met, missed) in sides.items()
        for better, worse in zip(met, missed, strict=False)
    ]
    (out / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def count_right(exported: Path, out: Path) -> Interval:
    """The share of rows in `exported`, such as curated ones, whose picture of `out` is right: the oracle rejects no check."""
    names = _names_by_digest(out)
    records = map(json.loads, (out / "judgements.jsonl").read_text(encoding="utf-8").splitlines())
    wrong = {Path(record["image"]).name for record in records if record["verdict"] == "reject"}
    rows = map(json.loads, exported.read_text(encoding="utf-8").splitlines())
    return bootstrap(mean, [float(names[Path(row["image"]).stem] not in wrong) for row in rows])


def _names_by_digest(out: Path) -> dict[str, str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in (out / "pictures").iterdir()}


def relabel(exported: Path, out: Path) -> tuple[int, int]:
    """Writes records that were exported of the pictures in `out` with the oracle's verdicts, to `out`/relabelled.jsonl, with
    paths that are right there; returns how many records, and on how many both agree."""
    clean = out / "clean" if (out / "clean").is_dir() else out / "pictures"
    names = _names_by_digest(out)
    lines, agreed = [], 0
    for line in exported.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        name = names[Path(record["image"]).stem]
        with Image.open(clean / name) as image:
            [accept] = oracle.answers(image.convert("RGB"), [record["question"]])
        verdict = "accept" if accept else "reject"
        agreed += verdict == record["verdict"]
        lines.append(json.dumps({**record, "image": f"pictures/{name}", "verdict": verdict}, ensure_ascii=False))
    (out / "relabelled.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines), agreed


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
    parser.add_argument("--all-drawn", action="store_true", help="let the generator draw every picture")
    parser.add_argument(
        "--split", choices=("train", "test"), default="train", help="test: each prompt has a held-out relation"
    )
    parser.add_argument(
        "--photographed", type=float, default=0.0, metavar="0..1", help="spoil the pictures as a bad photograph would"
    )
    parser.add_argument(
        "--count-right", type=Path, help="exported rows of the pictures in --out, to count by the oracle"
    )
    parser.add_argument("--pairs", action="store_true", help="also write pairs.jsonl, for `redraft eval pairs`")
    parser.add_argument(
        "--relabel", type=Path, help="exported records of the pictures in --out, to label by the oracle"
    )
    options = parser.parse_args(argv)
    if options.count_right is not None:
        console.print(f"right by the oracle: {count_right(options.count_right, options.out)}")
        return
    if options.relabel is not None:
        records, agreed = relabel(options.relabel, options.out)
        console.print(
            f"{records:,} records; the oracle agrees on {agreed / records:.1%}: {options.out / 'relabelled.jsonl'}"
        )
        return
    pipeline = None
    if options.generator is not None:
        from mini.generator.pipeline import CutoutsPipeline

        pipeline = CutoutsPipeline.from_pretrained(options.generator, use_safetensors=True)
        pipeline.set_progress_bar_config(disable=True)
    records, accepted = write(
        options.out,
        options.count,
        options.seed,
        pipeline,
        split=options.split,
        every=1 if options.all_drawn else 2,
        photographed=options.photographed,
    )
    if options.pairs:
        console.print(f"{write_pairs(options.out):,} pairs")
    console.print(f"{records:,} records, {accepted / records:.0%} of them accept, in {options.out}")


if __name__ == "__main__":
    main()
