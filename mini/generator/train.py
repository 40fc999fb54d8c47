"""Trains the mini generator on canonical captions (about an hour on one core).

python -m mini.generator.train --out mini/weights/generator
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from mini.generator.pipeline import MAX_WORDS, CutoutsPipeline, CutoutsTransformer, build_tokenizer
from mini.training import Trainer, console
from mini.world import codec, oracle, questions
from mini.world.captions import caption
from mini.world.pools import load_pool
from mini.world.sampling import sample_pair, truths
from mini.world.scene import MAX_CUTOUTS

DROP_CAPTION = 0.1
NOISES = 4
"""Noise draws for each caption of a batch: the caption is encoded once for all of them."""


class _Both(nn.Module):
    def __init__(self, text_encoder: BertModel, transformer: CutoutsTransformer) -> None:
        super().__init__()
        self.text_encoder: BertModel = text_encoder
        self.transformer: CutoutsTransformer = transformer


def loss_of(raw: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Cross entropy for the one-hot fields in use, squared error for the lengths in use; both (N, TOKENS, WIDTH)."""
    slots, sheet, word = (
        slice(0, MAX_CUTOUTS),
        slice(codec.SHEET_TOKEN, codec.SHEET_TOKEN + 1),
        slice(codec.WORD_TOKEN, codec.WORD_TOKEN + 1),
    )
    used = clean[:, slots, codec.SHAPE.start] < 0
    worded = clean[:, word, codec.WORD.start] < 0

    def cross_entropy(tokens: slice, field: codec.Field, weight: Tensor | None = None) -> Tensor:
        logits = raw[:, tokens, field.span].flatten(0, 1)
        target = clean[:, tokens, field.span].flatten(0, 1).argmax(-1)
        losses = F.cross_entropy(logits, target, reduction="none")
        return losses.mean() if weight is None else (losses * weight.flatten()).sum() / weight.sum().clamp(min=1)

    error = (raw[..., codec.LENGTHS] - clean[..., codec.LENGTHS]) ** 2
    lengths = (error[:, slots] * used[..., None]).sum() / used.sum().clamp(min=1)
    lengths = lengths + (error[:, word, :2] * worded[..., None]).sum() / worded.sum().clamp(min=1) * 0.2
    parts = {
        "shape": cross_entropy(slots, codec.SHAPE),
        "color": cross_entropy(slots, codec.COLOR, used.float()),
        "fill": cross_entropy(slots, codec.FILL, used.float()),
        "sheet": cross_entropy(sheet, codec.SHEET) * 0.3,
        "word": cross_entropy(word, codec.WORD) * 0.3,
        "lengths": lengths,
    }
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


@torch.no_grad()
def score(pipeline: CutoutsPipeline, count: int, seed: int, guidance: float = 1.5) -> dict[str, float]:
    """Shares right by the oracle, on captions of the training split made from a seed that no pool uses."""
    rng = np.random.default_rng((987_654, seed))
    specs = [sample_pair(rng)[0] for _ in range(count)]
    images = pipeline(
        [caption(s) for s in specs],
        generator=torch.Generator().manual_seed(seed),
        guidance_scale=guidance,
        return_dict=False,
    )[0]
    every, some = 0, []
    for spec, image in zip(specs, images, strict=True):
        scene = oracle.read_scene(image)
        right = [questions.answer(q, scene) for q in truths(spec)]
        every += all(right)
        some += right
    return {"all_right": every / count, "checks_right": float(np.mean(some))}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.generator.train",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Trains the mini generator.",
    )
    parser.add_argument("--out", type=Path, default=Path("mini/weights/generator"), help="folder for the trained model")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("work/mini/generator"),
        help="folder for log.jsonl and the state, from which the same command resumes",
    )
    parser.add_argument(
        "--pool", type=Path, default=Path("work/mini/pool.npz"), help="training scenes; made if the file is missing"
    )
    parser.add_argument("--pool-size", type=int, default=200_000, help="scenes of a pool that has to be made")
    parser.add_argument("--max-steps", type=int, default=2600, help="training steps")
    parser.add_argument("--batch", type=int, default=192, help="scenes per step")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    parser.add_argument("--score-on", type=int, default=300, help="captions on which the finished model is scored")
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer()
    rows, captions = load_pool(options.pool, options.pool_size)
    ids = torch.tensor(
        np.array(tokenizer(captions, padding="max_length", truncation=True, max_length=MAX_WORDS)["input_ids"])
    )
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=384, max_position_embeddings=MAX_WORDS, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    both = _Both(BertModel(config, add_pooling_layer=False), CutoutsTransformer())
    console.print(f"{sum(p.numel() for p in both.parameters()) / 1e6:.2f} M parameters, {len(rows)} scenes")
    empty = torch.zeros(MAX_WORDS, dtype=torch.long)
    empty[0] = tokenizer.cls_token_id

    def step(i: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng((options.seed, i))
        pick = rng.integers(len(rows), size=options.batch)
        clean = torch.from_numpy(codec.to_vectors(rows[pick]))
        tokens = ids[pick].clone()
        tokens[torch.from_numpy(rng.random(options.batch) < DROP_CAPTION)] = empty
        tokens = tokens[:, : int((tokens != 0).sum(1).max())]
        mask = tokens != 0
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return losses(clean, tokens, mask)

    def losses(clean: Tensor, tokens: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        text = both.text_encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        clean = clean.repeat_interleave(NOISES, 0)
        time = torch.sigmoid(torch.randn(len(clean)) * 1.2)
        noisy = torch.lerp(clean, torch.randn_like(clean), time[:, None, None])
        return loss_of(both.transformer(noisy, time, text, mask).float(), clean)

    def averaged() -> CutoutsPipeline:
        # With its unused pooler, which from_pretrained would else report as missing at every start.
        model = _Both(BertModel(config), CutoutsTransformer())
        model.load_state_dict(trainer.average, strict=False)
        model.eval()
        return CutoutsPipeline(
            tokenizer, model.text_encoder, model.transformer, FlowMatchEulerDiscreteScheduler(shift=1.0)
        )

    trainer = Trainer(
        both, step, options.max_steps, options.work, options.lr,
        evaluate=lambda: score(averaged(), 128, 1), evaluate_every=500,
    )  # fmt: skip
    trainer.run()
    averaged().save_pretrained(options.out, safe_serialization=True)
    console.print(f"saved {options.out}: {score(averaged(), options.score_on, 2)}")


if __name__ == "__main__":
    main()
