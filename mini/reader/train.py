"""Trains the mini reader (about half an hour on one core).

    python -m mini.reader.data --seed 0 --count 7000 --out work/mini/reader/0.npz      # and seed 1: pictures to learn from
    python -m mini.reader.train --data work/mini/reader --out mini/weights/reader

The end of the last file is held out: on it the trained reader is measured, and the probabilities of its peaks are fitted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mini.reader.answering import KINDS, Thing
from mini.reader.data import MOST
from mini.reader.model import GRID, RADIUS, RADIUS_SCALE, Maps, SceneNet, read_maps, to_input
from mini.training import Trainer, console
from mini.world.scene import COLORS

_SPREAD = 0.7
"""Of the bump around a middle, in cells."""
_COLORS = tuple(COLORS)


def lossy_maps(raw: Tensor, labels: NDArray[np.float32]) -> dict[str, Tensor]:
    """The losses of raw maps (B, channels, GRID, GRID) against labels (B, MOST + 2, ROW)."""
    maps = Maps.of(raw)
    cuts = labels[:, :MOST]
    picture, row = np.nonzero(cuts[..., 3] >= 0)
    x, y, radius, kind, color, fill = (cuts[picture, row, n] for n in range(6))
    across, down = _cells(x), _cells(y)
    heat = _bumps((len(labels), len(COLORS)), (picture, color.astype(int)), x, y)
    at = [torch.from_numpy(np.asarray(n).astype(np.int64)) for n in (picture, color, down, across)]
    kinds = maps.kinds.permute(0, 1, 3, 4, 2)[tuple(at)]
    fills = maps.fills.permute(0, 1, 3, 4, 2)[tuple(at)]
    lengths = maps.lengths.permute(0, 1, 3, 4, 2)[tuple(at)]
    wanted = np.stack([x * GRID - across - 0.5, y * GRID - down - 0.5, (radius - RADIUS) / RADIUS_SCALE], -1)
    word = labels[:, MOST + 1]
    printed = np.flatnonzero(word[:, 2] > 0)
    word_heat = _bumps((len(labels),), (printed,), word[printed, 0], word[printed, 1])
    losses = {
        "middles": _focal(maps.middles, heat),
        "kinds": F.cross_entropy(kinds, torch.from_numpy(kind.astype(np.int64))),
        "fills": F.cross_entropy(fills, torch.from_numpy(fill.astype(np.int64))),
        "lengths": _off(lengths[:, :2], lengths[:, 3:4], wanted[:, :2])
        + _off(lengths[:, 2:3], lengths[:, 4:], wanted[:, 2:]),
        "sheets": F.cross_entropy(maps.sheets, torch.from_numpy(labels[:, MOST, 0].astype(np.int64))) * 0.2,
        "words": _focal(maps.word_middles, word_heat),
    }
    if len(printed):
        cell_x, cell_y = _cells(word[printed, 0]), _cells(word[printed, 1])
        offsets = maps.word_offsets[printed, :, cell_y, cell_x]
        aims = np.stack([word[printed, 0] * GRID - cell_x - 0.5, word[printed, 1] * GRID - cell_y - 0.5], -1)
        losses["words"] = losses["words"] + F.smooth_l1_loss(
            offsets, torch.from_numpy(aims.astype(np.float32)), beta=0.1
        )
        known = word[printed, 3] >= 0
        if known.any():
            texts = maps.texts[printed, :, cell_y, cell_x][torch.from_numpy(known)]
            losses["texts"] = F.cross_entropy(texts, torch.from_numpy(word[printed, 3][known].astype(np.int64)))
    return {"loss": torch.stack(list(losses.values())).sum(), **losses}


def _off(values: Tensor, logs: Tensor, wanted: NDArray[np.float32]) -> Tensor:
    """The loss of values (N, k) with the logarithm (N, 1) of how far off they are: that of a Laplace distribution, each row
    times its own scale (beta-NLL of Seitzer et al. 2022), so that rows which are seen well do not outweigh all others."""
    logs = logs.clamp(-6, 2)
    error = (values - torch.from_numpy(wanted.astype(np.float32))).abs()
    return (logs.exp().detach() * (error / logs.exp() + logs)).mean() * 2


def _cells(at: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.clip((at * GRID).astype(np.int64), 0, GRID - 1)


def _bumps(
    shape: tuple[int, ...], which: tuple[NDArray[np.int64], ...], x: NDArray[np.float32], y: NDArray[np.float32]
) -> Tensor:
    """(*shape, GRID, GRID): 1 at middles, falling off as a Gaussian."""
    heat = np.zeros((*shape, GRID, GRID), dtype=np.float32)
    cells = np.arange(GRID)
    for index, across, down in zip(zip(*which, strict=True), _cells(x), _cells(y), strict=True):
        bump = np.exp(-((cells - across)[None] ** 2 + (cells - down)[:, None] ** 2) / (2 * _SPREAD**2))
        np.maximum(heat[index], bump, out=heat[index])
    return torch.from_numpy(heat)


def _focal(logits: Tensor, heat: Tensor) -> Tensor:
    """The penalty-reduced focal loss of Objects as Points, eq. 1, with alpha 2 and beta 4, over the number of middles."""
    chance = logits.sigmoid()
    middle = heat >= 0.999
    there = F.logsigmoid(logits) * (1 - chance) ** 2
    nothing = F.logsigmoid(-logits) * chance**2 * (1 - heat) ** 4
    return -torch.where(middle, there, nothing).sum() / middle.sum().clamp(min=1)


@torch.no_grad()
def measure(net: SceneNet, pixels: NDArray[np.uint8], labels: NDArray[np.float32]) -> dict[str, float]:
    """On pictures that were not learnt from: shares of cut-outs that were seen, and rightly in kind and pattern; things seen
    that are not there, each; pictures in which all is right; and how far places and radii are off (mean), and how far the
    reader says they are."""
    net.eval()
    seen = kinds = fills = total = false = whole = words = printed = 0
    off: list[tuple[float, float, float, float]] = []
    peaks: list[tuple[float, bool]] = []
    for start in range(0, len(pixels), 64):
        part = slice(start, start + 64)
        for made, label in zip(read_maps(Maps.of(net(to_input(pixels[part])))), labels[part], strict=True):
            rows = label[:MOST][label[:MOST, 3] >= 0]
            left: list[Thing] = [thing for thing in made.things if thing.there >= 0.5]
            peaks += [(thing.there, any(_is_at(thing, row) for row in rows)) for thing in made.things]
            right = True
            for row in rows:
                x, y, radius, kind, _, fill = row
                near = [thing for thing in left if _is_at(thing, row)]
                total += 1
                if not near:
                    right = False
                    continue
                thing = min(near, key=lambda t: abs(t.x - x) + abs(t.y - y))
                left.remove(thing)
                seen += 1
                kinds += int(thing.kinds.argmax()) == int(kind)
                fills += int(thing.fills.argmax()) == int(fill)
                right &= int(thing.kinds.argmax()) == int(kind)
                if KINDS[int(kind)] != "unknown":
                    off.append((abs(thing.x - x), abs(thing.radius - radius), thing.place_off, thing.radius_off))
            false += len(left)
            whole += right and not left
            if label[MOST + 1, 3] >= 0:
                printed += 1
                words += made.word is not None and int(made.word[1].argmax()) == int(label[MOST + 1, 3])
    net.train()
    place_off, radius_off, place_off_said, radius_off_said = np.mean(off or [(0.0,) * 4], 0).tolist()
    slope, intercept = fit_there([chance for chance, _ in peaks], [real for _, real in peaks])
    return {
        "seen": seen / total,
        "kinds": kinds / max(seen, 1),
        "fills": fills / max(seen, 1),
        "false": false / len(pixels),
        "whole": whole / len(pixels),
        "words": words / max(printed, 1),
        "place_off": place_off,
        "place_off_said": place_off_said,
        "radius_off": radius_off,
        "radius_off_said": radius_off_said,
        "there_slope": slope,
        "there_intercept": intercept,
    }


def _is_at(thing: Thing, row: NDArray[np.float32]) -> bool:
    """Whether a thing has the colour and the place of a cut-out, a row of labels."""
    return thing.color == _COLORS[int(row[4])] and max(abs(thing.x - row[0]), abs(thing.y - row[1])) < 0.05


def fit_there(chances: Sequence[float], real: Sequence[bool]) -> tuple[float, float]:
    """Slope and intercept of the logit of a peak that make it likeliest which peaks are real (Platt 1999), with a little
    weight on leaving them as they are; (1, 0) if there is nothing to learn from."""
    if len(set(real)) < 2:
        return 1.0, 0.0
    logits = torch.logit(torch.tensor(chances, dtype=torch.float64).clamp(1e-4, 1 - 1e-4))
    wanted = torch.tensor(real, dtype=torch.float64)
    fitted = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([fitted], max_iter=100)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(fitted[0] * logits + fitted[1], wanted)
        value = value + 1e-3 * ((fitted[0] - 1) ** 2 + fitted[1] ** 2)
        value.backward()  # type: ignore[no-untyped-call]  # torch does not type it
        return value

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    slope, intercept = fitted.tolist()
    return slope, intercept


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.reader.train",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Trains the mini reader.",
    )
    parser.add_argument(
        "--data", type=Path, default=Path("work/mini/reader"), help="folder of mini.reader.data's files"
    )
    parser.add_argument("--out", type=Path, default=Path("mini/weights/reader"), help="folder for the trained model")
    parser.add_argument("--work", type=Path, default=Path("work/mini/reader/run"), help="folder for log and state")
    parser.add_argument("--max-steps", type=int, default=1800, help="steps of the learning rate's schedule")
    parser.add_argument("--batch", type=int, default=32, help="pictures per step")
    parser.add_argument("--held-out", type=int, default=600, help="pictures to measure on, from the last file")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    pixels, labels = [], []
    for path in sorted(options.data.glob("*.npz")):
        with np.load(path) as data:
            pixels.append(data["pixels"])
            labels.append(data["labels"])
    all_pixels, all_labels = np.concatenate(pixels), np.concatenate(labels)
    learnt = len(all_pixels) - options.held_out
    net = SceneNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own stub
    console.print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters, {learnt} pictures")

    def step(i: int) -> Mapping[str, Tensor]:
        chosen = np.random.default_rng((options.seed, i)).integers(learnt, size=options.batch)
        images = to_input(all_pixels[chosen]).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            raw = net(images)
        return lossy_maps(raw, all_labels[chosen])

    def evaluate() -> Mapping[str, float]:
        return measure(net, all_pixels[learnt:], all_labels[learnt:])

    trainer = Trainer(
        net, step, options.max_steps, options.work, 2e-3, warmup=100, ema=0.995, evaluate=evaluate, evaluate_every=500
    )  # fmt: skip
    trainer.run()
    net.load_state_dict(trainer.average)
    figures = evaluate()
    options.out.mkdir(parents=True, exist_ok=True)
    from safetensors.torch import save_file

    save_file(
        {name: value.half().contiguous() for name, value in net.state_dict().items()}, options.out / "model.safetensors"
    )
    record = {"seed": options.seed, "steps": options.max_steps, "pictures": learnt, **figures}
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(f"saved {options.out}: {figures}")


if __name__ == "__main__":
    main()
