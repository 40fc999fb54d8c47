"""Trains a head that tells real pictures from drawn ones, on the features of an embedder: Adv-GRPO's discriminator, offline.

    python -m evaluator.train.detector REAL DRAWN OUT --embedder evaluator.criteria.embedders:TransformersEmbedder \\
        --set model=facebook/dinov2-base

REAL and DRAWN are folders of pictures; one in five of each is held out. OUT gets detector.safetensors, which the criterion
`detector` reads, and report.json with the area under the ROC curve on what was held out. Adv-GRPO goes on training its head
while the generator learns; a frozen generator does not learn, so here it is trained once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluator.criteria.detector import Head
from evaluator.criteria.likeness import Embedder, Embedding, open_embedder
from redraft.errors import InputError
from redraft.images import open_image
from redraft.statistics import area_under_curve
from redraft.training import console, run

_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}
_FEWEST = 10
_PATCHES = 64
"""Patches of a picture to learn from, drawn by lot (Adv-GRPO)."""
_BATCH = 32


def embed_folder(folder: Path, embedder: Embedder) -> list[Embedding]:
    """The embeddings of a folder's pictures, in the order of their names. Raises InputError for too few."""
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in _ENDINGS)
    made: list[Embedding] = []
    for start in range(0, len(files), _BATCH):
        images = [open_image(file) for file in files[start : start + _BATCH]]
        made += [each for each in embedder(images) if each is not None]
    if len(made) < _FEWEST:
        raise InputError(f"{folder} has {len(made)} pictures that the embedder can read; give at least {_FEWEST}")
    return made


def train_head(real: Sequence[Embedding], drawn: Sequence[Embedding], *, decay: float = 1e-3, seed: int = 0) -> Head:
    """A head whose P(real) is high for `real` and low for `drawn`: logistic regressions with an L2 penalty, the two classes
    weighing the same."""
    rng = np.random.default_rng(seed)
    whole = _fit(np.stack([each.whole for each in real]), np.stack([each.whole for each in drawn]), decay)
    patches = [_some_patches(each, rng) for each in (*real, *drawn)]
    known = [each for each in patches if each is not None]
    if len(known) < len(patches):
        return Head(whole)
    return Head(whole, _fit(np.concatenate(known[: len(real)]), np.concatenate(known[len(real) :]), decay))


def _some_patches(embedding: Embedding, rng: np.random.Generator) -> NDArray[np.float32] | None:
    if embedding.patches is None:
        return None
    rows = embedding.patches.reshape(-1, embedding.patches.shape[-1])
    return np.asarray(rows[rng.permutation(len(rows))[:_PATCHES]], dtype=np.float32)


def _fit(real: NDArray[np.float32], drawn: NDArray[np.float32], decay: float) -> tuple[NDArray[np.float32], float]:
    """Weights and bias for features as they are; they are fitted on features of mean 0 and deviation 1."""
    import torch
    import torch.nn.functional as F

    both = np.concatenate([real, drawn]).astype(np.float64)
    mean, spread = both.mean(axis=0), both.std(axis=0) + 1e-6
    features = torch.from_numpy((both - mean) / spread)
    labels = torch.cat([torch.ones(len(real)), torch.zeros(len(drawn))]).double()
    weigh = torch.where(labels > 0.5, 0.5 / len(real), 0.5 / len(drawn))
    fitted = torch.zeros(features.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([fitted], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = features @ fitted[:-1] + fitted[-1]
        losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        value = (losses * weigh).sum() + decay * fitted[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # torch does not type it
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    scaled = fitted.detach().numpy()
    weights = scaled[:-1] / spread
    return weights.astype(np.float32), float(scaled[-1] - mean @ weights)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluator.train.detector",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Trains a head that tells real pictures from drawn ones.",
    )
    parser.add_argument("real", type=Path, help="folder of real pictures")
    parser.add_argument("drawn", type=Path, help="folder of drawn pictures")
    parser.add_argument("out", type=Path, help="folder for the head")
    parser.add_argument(
        "--embedder", default="evaluator.criteria.embedders:TransformersEmbedder", help="dotted path of its class"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the embedder")
    parser.add_argument("--decay", type=float, default=1e-3, help="weight of the L2 penalty")
    parser.add_argument("--seed", type=int, default=0, help="which pictures are held out")
    options = parser.parse_args(list(argv))
    embedder = open_embedder(options.embedder, dict(pair.partition("=")[::2] for pair in options.set))
    rng = np.random.default_rng(options.seed)
    learnt: list[list[Embedding]] = []
    held: list[list[Embedding]] = []
    for folder in (options.real, options.drawn):
        made = embed_folder(folder, embedder)
        order = rng.permutation(len(made))
        away = len(made) // 5
        held.append([made[at] for at in order[:away]])
        learnt.append([made[at] for at in order[away:]])
    head = train_head(*learnt, decay=options.decay, seed=options.seed)
    head.save(options.out)
    real, drawn = ([head.read(each) for each in side] for side in held)
    report = {
        "area_under_curve": area_under_curve(real, drawn),
        "held_out_real": len(real),
        "held_out_drawn": len(drawn),
        "learnt": len(learnt[0]) + len(learnt[1]),
    }
    (options.out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console.print(f"{options.out}: area under the ROC curve {report['area_under_curve']:.3f} on what was held out")


if __name__ == "__main__":
    raise SystemExit(main())
