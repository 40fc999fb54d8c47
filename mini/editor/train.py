"""Trains the mini editor on instructions in the canonical language and in people's (about 50 minutes on one core).

python -m mini.editor.train --out mini/weights/editor
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mini.editor.figures import figures
from mini.editor.pipeline import MAX_PIECES, CutoutsEditPipeline, CutoutsEditTransformer
from mini.editor.pools import load_edit_pool
from mini.generator.pipeline import CutoutsTransformer
from mini.training import Trainer, console
from mini.world import codec
from mini.world.scene import MAX_CUTOUTS

VOCABULARY, LEARNT_FROM = 800, 20_000
"""Pieces of words, and the instructions in either language that they are learnt from."""
CANONICAL, NOTHING = 0.35, 0.04
"""Shares of a batch whose instruction is in the canonical language, and that have none and stay as they are."""
NOISES = 2
"""Noise draws for each instruction of a batch: it is encoded once for all of them."""
NOISIER = 1.2
"""Mean of the logit of the time. Where there is little noise the answer can be seen, and nothing is learnt of the
words: with a mean of 0, as the generator has it, that would be half of the batch."""
PLACES_FROM, FINER = 2100, -0.4
"""From this step on, when the words are known, one noise draw of each instruction has this mean: a free place for what
is added or moved is found where little noise is left."""
PARTS = 4
CHANGED = 4.0
"""Weight of a field that the edit changes; one that it does not has weight 1."""
LENGTHS = 0.5


class _Both(nn.Module):
    def __init__(self, text_encoder: BertModel, transformer: CutoutsEditTransformer) -> None:
        super().__init__()
        self.text_encoder: BertModel = text_encoder
        self.transformer: CutoutsEditTransformer = transformer


def train_tokenizer(texts: Iterable[str], size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Pieces of words, learnt from instructions: a misspelt word is still some of its pieces. Case is lost."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.Sequence(
        [normalizers.Replace("“", '"'), normalizers.Replace("”", '"'), normalizers.Lowercase()]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=["[PAD]", "[UNK]", "[CLS]"],
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", model_max_length=MAX_PIECES
    )


def _kept_tokenizer(folder: Path, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The training's tokenizer: learnt once, since learning it again gives other pieces (ties fall as they may)."""
    if not (folder / "tokenizer.json").is_file():
        train_tokenizer(texts).save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def _ids(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=MAX_PIECES)["input_ids"]
    return torch.tensor(np.array(ids, dtype=np.int16))


def edit_loss(raw: Tensor, clean: Tensor, source: Tensor) -> dict[str, Tensor]:
    """Mean over samples of the sum over fields: cross entropy of one-hot fields, squared error of lengths, in the
    tokens that use them; all (N, TOKENS, WIDTH)."""
    n = len(raw)
    slots, sheet, word = (
        slice(0, MAX_CUTOUTS),
        slice(codec.SHEET_TOKEN, codec.SHEET_TOKEN + 1),
        slice(codec.WORD_TOKEN, codec.WORD_TOKEN + 1),
    )
    used = (clean[:, slots, codec.SHAPE.start] < 0).float()
    worded = (clean[:, word, codec.WORD.start] < 0).float()

    def cross_entropy(tokens: slice, field: codec.Field, use: Tensor | None = None) -> Tensor:
        logits = raw[:, tokens, field.span].flatten(0, 1)
        target = clean[:, tokens, field.span].flatten(0, 1).argmax(-1)
        changed = target != source[:, tokens, field.span].flatten(0, 1).argmax(-1)
        weight = torch.where(changed, CHANGED, 1.0)
        losses = F.cross_entropy(logits, target, reduction="none") * weight
        return (losses if use is None else losses * use.flatten()).sum() / n

    error = (raw[..., codec.LENGTHS] - clean[..., codec.LENGTHS]) ** 2
    lengths = (error[:, slots] * used[..., None]).sum() + (error[:, word, :2] * worded[..., None]).sum()
    parts = {
        "shape": cross_entropy(slots, codec.SHAPE),
        "color": cross_entropy(slots, codec.COLOR, used),
        "fill": cross_entropy(slots, codec.FILL, used),
        "sheet": cross_entropy(sheet, codec.SHEET),
        "word": cross_entropy(word, codec.WORD),
        "lengths": lengths / n * LENGTHS,
    }
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def start_blocks(editor: CutoutsEditTransformer, generator: Path) -> None:
    """Starts the editor from what the trained generator knows of scenes: all but the source, the gate and the text."""
    trained = CutoutsTransformer.from_pretrained(generator / "transformer", use_safetensors=True).state_dict()
    of_text = (".q.", ".kv.", ".cross.")
    kept = {name: value for name, value in trained.items() if not any(part in name for part in of_text)}
    editor.load_state_dict(kept, strict=False)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.editor.train",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Trains the mini editor.",
    )
    parser.add_argument("--out", type=Path, default=Path("mini/weights/editor"), help="folder for the trained model")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("work/mini/editor"),
        help="folder for log.jsonl and the state, from which the same command resumes",
    )
    parser.add_argument(
        "--pool", type=Path, default=Path("work/mini/edits.npz"), help="training edits; made if the file is missing"
    )
    parser.add_argument(
        "--scenes", type=Path, default=Path("work/mini/pool.npz"), help="training scenes that the edits are made of"
    )
    parser.add_argument(
        "--generator",
        type=Path,
        default=Path("mini/weights/generator"),
        help="generator whose blocks the editor starts from",
    )
    parser.add_argument("--max-steps", type=int, default=3100, help="training steps")
    parser.add_argument("--batch", type=int, default=256, help="edits per step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    parser.add_argument("--score-on", type=int, default=300, help="edits on which the finished model is scored")
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    pool = load_edit_pool(options.pool, options.scenes)
    tokenizer = _kept_tokenizer(
        options.work,
        (text for pair in zip(pool.said[:LEARNT_FROM], pool.canonical[:LEARNT_FROM], strict=False) for text in pair),
    )
    ids = (_ids(tokenizer, pool.said), _ids(tokenizer, pool.canonical), _ids(tokenizer, [""]))
    # Eager: the fused kernel's backward pass is three times slower on a CPU, over so few pieces.
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=384, max_position_embeddings=MAX_PIECES, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    both = _Both(BertModel(config, add_pooling_layer=False), CutoutsEditTransformer())
    start_blocks(both.transformer, options.generator)
    edits = len(pool.before)
    console.print(f"{sum(p.numel() for p in both.parameters()) / 1e6:.2f} M parameters, {edits} edits")

    def step(i: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng((options.seed, i))
        pick = rng.integers(edits, size=options.batch)
        saying = pick + edits * rng.integers(len(pool.said) // edits, size=options.batch)
        source = torch.from_numpy(codec.to_vectors(pool.before[pick]))
        clean = torch.from_numpy(codec.to_vectors(pool.after[pick]))
        said, canonical, nothing = ids
        which = torch.from_numpy(rng.random(options.batch))[:, None]
        still = which >= 1 - NOTHING
        tokens = torch.where(still, nothing, torch.where(which < CANONICAL, canonical[pick], said[saying])).long()
        clean = torch.where(still[..., None], source, clean)
        # Short instructions beside short ones, or half of what is computed would be padding.
        parts = (tokens != 0).sum(1).argsort().chunk(PARTS)
        means = torch.tensor([NOISIER] * (NOISES - 1) + [NOISIER if i < PLACES_FROM else FINER])
        found = [losses(source[part], clean[part], tokens[part], means) for part in parts]
        return {name: torch.stack([each[name] for each in found]).mean() for name in found[0]}

    def losses(source: Tensor, clean: Tensor, tokens: Tensor, means: Tensor) -> Mapping[str, Tensor]:
        tokens = tokens[:, : int((tokens != 0).sum(1).max())]
        source, clean = source.repeat_interleave(NOISES, 0), clean.repeat_interleave(NOISES, 0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            text = both.text_encoder(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
            time = torch.sigmoid(torch.randn(len(clean)) * 1.2 + means.repeat(len(clean) // NOISES))
            noisy = torch.lerp(clean, torch.randn_like(clean), time[:, None, None])
            raw = both.transformer(noisy, time, source, text, tokens != 0)
        return edit_loss(raw.float(), clean, source)

    def averaged() -> CutoutsEditPipeline:
        # With its unused pooler, which from_pretrained would else report as missing at every start.
        model = _Both(BertModel(config), CutoutsEditTransformer())
        model.load_state_dict(trainer.average, strict=False)
        model.eval()
        pipeline = CutoutsEditPipeline(
            tokenizer, model.text_encoder, model.transformer, FlowMatchEulerDiscreteScheduler(shift=1.0)
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def score(count: int, seed: int) -> dict[str, float]:
        shares = figures(averaged(), count, seed, split="train", wording="human")
        return {name: shares[name].share for name in ("followed", "kept", "both")}

    trainer = Trainer(
        both, step, options.max_steps, options.work, options.lr,
        evaluate=lambda: score(100, 1), evaluate_every=250, muon=True,
    )  # fmt: skip
    trainer.run()
    averaged().save_pretrained(options.out, safe_serialization=True)
    console.print(f"saved {options.out}: {score(options.score_on, 2)}")


if __name__ == "__main__":
    main()
