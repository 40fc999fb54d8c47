"""Trains the mini rewriter by supervised fine-tuning on lessons (about an hour on one core).

python -m mini.rewriter.train

With --once 0.75 the teacher knows the language, but not the generator: it tells three of four relations from one side
only. That is where GRPO starts from (docs/training.md):

python -m mini.rewriter.train --once 0.75 --max-steps 1200 --work work/mini/rewriter_once --out work/mini/sft
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from mini.rewriter.lessons import Lesson, lesson
from mini.rewriter.model import build_model, save, train_tokenizer
from mini.training import Trainer, console

SORTED = 4
"""Batches made at once and sorted by length, so that little is padding."""
ROUNDED = 32
"""Lengths of batches are multiples of this: with every length there is, memory that was freed hardly fits again, and
the process grew to eleven gigabytes."""


def encode(tokenizer: PreTrainedTokenizerFast, one: Lesson, thoughts: bool = True) -> tuple[list[int], int]:
    """Token ids of the whole chat, and how many of them the user's turn takes."""
    turn = [{"role": "user", "content": one.prompt}]
    prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    reply = one.reply if thoughts else one.reply.partition("</think>")[2] or one.reply  # checklists have no thought
    tail = tokenizer(reply, add_special_tokens=False)["input_ids"]
    return [*head, *tail, tokenizer.eos_token_id], len(head)


@torch.no_grad()
def exact(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> dict[str, float]:
    """Share of replies that are right to the letter, per task, greedily, on the test split (held-out combinations)."""
    model.eval()
    rng = np.random.default_rng((31_337, seed))
    scores: dict[str, float] = {}
    for task in ("rewrite", "checklist", "repair"):
        lessons = [lesson(rng, "test", task) for _ in range(count)]
        turns = [[{"role": "user", "content": sample.prompt}] for sample in lessons]
        texts = [tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in turns]
        batch = tokenizer(
            texts, padding=True, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False
        )
        out = model.generate(**batch, max_new_tokens=220, do_sample=False)[:, batch["input_ids"].shape[1] :]
        replies = tokenizer.batch_decode(out, skip_special_tokens=True)
        # A thought may be put in other words; what is drawn is the answer.
        right = [
            reply.split("<answer>")[-1] == one.reply.split("<answer>")[-1]
            for reply, one in zip(replies, lessons, strict=True)
        ]
        scores[f"exact_{task}"] = float(np.mean(right))
    model.train()
    return scores


def _tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """The run's tokenizer: made once, so that a run which goes on after a change to the lessons keeps its tokens."""
    if not (folder / "tokenizer.json").is_file():
        rng = np.random.default_rng((seed, 7))
        corpus = [text for sample in (lesson(rng) for _ in range(4000)) for text in (sample.prompt, sample.reply)]
        train_tokenizer(corpus).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.rewriter.train",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Trains the mini rewriter.",
    )
    parser.add_argument("--out", type=Path, default=Path("mini/weights/rewriter"), help="folder for the trained model")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("work/mini/rewriter"),
        help="folder for log.jsonl and the state, from which the same command resumes",
    )
    parser.add_argument("--max-steps", type=int, default=2400, help="training steps")
    parser.add_argument("--batch", type=int, default=48, help="lessons per step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument(
        "--muon", action=argparse.BooleanOptionalAction, default=True, help="train the layers' matrices with Muon"
    )
    parser.add_argument("--thoughts", action=argparse.BooleanOptionalAction, default=True, help="train on thoughts too")
    parser.add_argument(
        "--once", type=float, default=0.0, help="share of relations that lessons state from one side only"
    )
    parser.add_argument(
        "--stop-at", type=int, help="stop after this step of --max-steps; the same command without it continues"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and lessons")
    parser.add_argument(
        "--score-on", type=int, default=100, help="lessons of each task on which the finished model is scored"
    )
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    tokenizer = _tokenizer(options.work / "tokenizer", options.seed)
    model = build_model(tokenizer)
    model.set_attn_implementation("eager")  # bfloat16 products; the fused kernel's backward pass is slower on a CPU
    console.print(f"{model.num_parameters() / 1e6:.2f} M parameters, {len(tokenizer)} tokens")
    queue: list[list[tuple[list[int], int]]] = []

    def refill(i: int) -> None:
        rng = np.random.default_rng((options.seed, 8, i))
        lessons = (lesson(rng, once=options.once) for _ in range(options.batch * SORTED))
        many = [encode(tokenizer, sample, options.thoughts) for sample in lessons]
        many.sort(key=lambda pair: len(pair[0]))
        chunks = [many[k * options.batch : (k + 1) * options.batch] for k in range(SORTED)]
        queue.extend(chunks[int(k)] for k in rng.permutation(SORTED))

    def step(i: int) -> Mapping[str, Tensor]:
        if not queue:
            refill(i)
        batch = queue.pop()
        length = -(-max(len(ids) for ids, _ in batch) // ROUNDED) * ROUNDED
        ids = torch.full((len(batch), length), tokenizer.pad_token_id)
        learn = torch.zeros(len(batch), length, dtype=torch.bool)
        for row, (tokens, head) in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            learn[row, head : len(tokens)] = True
        with torch.autocast("cpu", dtype=torch.bfloat16):
            # Padding stands on the right, where a causal model does not see it.
            hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state[learn[:, 1:]]
            logits = model.lm_head(hidden)
        target = ids[:, 1:][learn[:, 1:]]
        loss = F.cross_entropy(logits.float(), target)
        return {"loss": loss, "right": (logits.argmax(-1) == target).float().mean()}

    def averaged() -> Qwen3ForCausalLM:
        copy = build_model(tokenizer)
        copy.load_state_dict(trainer.average)
        return copy

    trainer = Trainer(
        model, step, options.max_steps, options.work, options.lr, warmup=100, ema=0.998, muon=options.muon,
        evaluate=lambda: exact(averaged(), tokenizer, 32, 1), evaluate_every=400, stop_at=options.stop_at,
    )  # fmt: skip
    trainer.run()
    save(averaged(), tokenizer, options.out)
    console.print(f"saved {options.out}: {exact(averaged(), tokenizer, options.score_on, 2)}")


if __name__ == "__main__":
    main()
