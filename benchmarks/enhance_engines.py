"""In process: batches against the usual way, one `model.generate` a prompt, and against the bare engine.

    python benchmarks/enhance_engines.py [--prompts 256] [--batch 128] [--tokens 64] [--loop 24]

All sides run the same tiny random Qwen3 (0.6M parameters) on the same prompts, with the same template, greedily, and
make exactly `--tokens` tokens for each:

- loop: one `model.generate` a prompt, as published inference scripts do; timed on the first `--loop` prompts;
- generate: one `model.generate` on `--batch` left-padded prompts at a time;
- generate_batch: transformers' own continuous batching (paged attention), with a configuration sized for this model;
- bare: our continuous batching, given all prompts at once;
- enhance: the whole of `redraft enhance` around it: reading, template, parsing, guard, records on disk, output.

Prints tokens a second of each, and the ratios. Target: enhance at least 15 times the loop and 0.90 of bare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from core.chat import ChatReply, ChatRequest
from core.local_models import load_local
from core.profiles import LocalConfig, ModelConfig, RewriterConfig
from core.transformers_chat import TransformersChat
from rewriter.batch.engines import ChatEngine
from rewriter.batch.formats import open_source
from rewriter.batch.making import Maker
from rewriter.batch.run import Plan, run_batch, work_path
from rewriter.batch.setup import open_kit, own_columns
from rewriter.batch.types import WHOLE
from rewriter.batch.work import Work
from rewriter.cot import Asking
from rewriter.target import load_target

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINGS = ("fox", "castle", "teapot", "bicycle", "lighthouse", "violin", "robot", "orange tree")
PLACES = ("by the sea", "in an old library", "on a hill at dusk", "under a bridge", "at a night market in the rain")


class EveryReply:
    """The engine with its replies made into good ones: random weights write none, and a second try would double the
    tokens of one side. The guard, which must read each, sees the prompt again with words around it."""

    def __init__(self, inner: TransformersChat) -> None:
        self._inner = inner
        self.tokens = 0

    @property
    def name(self) -> str:
        return self._inner.name

    async def __call__(self, request: ChatRequest) -> ChatReply:
        reply = await self._inner(request)
        self.tokens += reply.usage.completion_tokens
        content = request.messages[-1].content
        assert isinstance(content, str)
        prompt = content.removeprefix("Rewrite: ")
        text = f"<think>What matters is what was asked.</think><answer>{prompt}, in soft light on paper</answer>"
        return ChatReply(text, usage=reply.usage, model=reply.model)


def build(folder: Path) -> None:
    """A Qwen3 of 0.6M parameters and a byte-level tokenizer. Nothing ends a reply before its last token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        [f"Rewrite: a {thing} {place}" for thing in THINGS for place in PLACES],
        trainers.BpeTrainer(vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    bpe.add_tokens([AddedToken(tag, special=False) for tag in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|endoftext|>", eos_token="<|im_end|>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, head_dim=32, max_position_embeddings=1024, tie_word_embeddings=False,
        eos_token_id=None, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    empty = [at for at in range(512) if at < 3 or not tokenizer.decode([at]).strip()]
    model.lm_head.weight.data[empty] = 0  # what ends a reply, or would leave it empty, is never the likeliest
    model.generation_config = GenerationConfig(pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--loop", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    build(folder / "model")
    local = LocalConfig(device="cpu", dtype="float32", micro_batch=options.batch)
    model = ModelConfig(kind="transformers", model=str(folder / "model"), local=local)
    config = RewriterConfig(model=model, style="mini", max_tokens=options.tokens)
    prompts = [f"a {THINGS[i % 8]} number {i} {PLACES[i % 5]}" for i in range(options.prompts)]
    asking = Asking.of(config)
    requests = [asking.first(prompt, 0, 0) for prompt in prompts]
    loaded = load_local(model)
    texts = [loaded.row(request, {}).text for request in requests]
    total = options.prompts * options.tokens
    settings = GenerationConfig(max_new_tokens=options.tokens, min_new_tokens=options.tokens, do_sample=False)

    def loop(some: list[str]) -> None:
        for text in some:
            ids = loaded.tokenizer(text, return_tensors="pt", add_special_tokens=False)
            made = loaded.model.generate(**ids, generation_config=settings)
            loaded.tokenizer.decode(made[0, ids.input_ids.shape[1] :])

    def static() -> None:
        for start in range(0, len(texts), options.batch):
            some = texts[start : start + options.batch]
            ids = loaded.tokenizer(
                some, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
            )
            made = loaded.model.generate(**ids, generation_config=settings)
            loaded.tokenizer.batch_decode(made[:, ids.input_ids.shape[1] :])

    def paged() -> None:
        ids = [loaded.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        blocks = 4 * options.batch + 64
        paging = ContinuousBatchingConfig(page_size=32, num_blocks=blocks, max_batch_tokens=4 * options.batch)
        loaded.model.generate_batch(
            ids, generation_config=settings, continuous_batching_config=paging, progress_bar=False
        )

    async def bare(chat: TransformersChat) -> None:
        await asyncio.gather(*(chat(request) for request in requests))

    chat = TransformersChat(model)
    engine = EveryReply(TransformersChat(model))

    async def whole(run: int) -> None:
        source, out = open_source(str(folder / "prompts.jsonl")), folder / f"out{run}.jsonl"
        target = load_target("generic")
        kit = open_kit(config, target=target, engine=ChatEngine(engine, 2 * options.batch))
        plan = Plan(kit.settings, own_columns(target, thought=False, n=1, scored=False))
        with Work(work_path(out), WHOLE) as work:
            counts = await run_batch(source, out, work, plan, Maker(kit.rewriter, plan.keys), kit.engine.window)
        assert counts.rows == options.prompts

    lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    (folder / "prompts.jsonl").write_text(lines)
    with asyncio.Runner() as runner:
        loop(texts[:2])
        runner.run(bare(chat))
        runner.run(whole(0))
        few = options.loop * options.tokens
        per_s = {"loop": timed(few, lambda: loop(texts[: options.loop]))}
        per_s["generate"] = timed(total, static)
        per_s["generate_batch"] = timed(total, paged)
        per_s["bare"] = timed(total, lambda: runner.run(bare(chat)))
        engine.tokens = 0
        per_s["enhance"] = timed(total, lambda: runner.run(whole(1)))
        assert engine.tokens == total, f"{engine.tokens} tokens were made instead of {total}"
    print(f"{options.prompts} prompts of {options.tokens} new tokens, {options.batch} at once")
    for name, pair in per_s.items():
        told = [f"{name:15}"]
        for at, clock in enumerate(("s", "CPU s")):
            loop_x, bare_x = pair[at] / per_s["loop"][at], pair[at] / per_s["bare"][at]
            told.append(f"{pair[at]:8,.0f} tokens/{clock}  {loop_x:5.1f} x loop  {bare_x:4.2f} x bare")
        print("   ".join(told))


def timed(tokens: int, work: Callable[[], Any]) -> tuple[float, float]:
    """Tokens a second, and a second of CPU time: on a busy machine, with one thread, the latter can be trusted."""
    started = time.perf_counter(), time.process_time()
    work()
    return tokens / (time.perf_counter() - started[0]), tokens / (time.process_time() - started[1])


if __name__ == "__main__":
    main()
