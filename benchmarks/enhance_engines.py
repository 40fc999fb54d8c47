"""Engines: batches against the usual way, one `model.generate` a prompt, and against the bare engine.

    python benchmarks/enhance_engines.py [--prompts 512] [--batch 128] [--tokens 64] [--loop 24] [--rounds 3]
                                         [--vllm .venv-vllm/bin/python | --vllm none] [--compile] [--skip SIDE ...]

All sides run the same tiny random Qwen3 (0.6M parameters) on the same prompts, with the same template, greedily, and
make exactly `--tokens` tokens for each:

- loop: one `model.generate` a prompt, as published inference scripts do; on the first `--loop` prompts;
- generate: one `model.generate` on `--batch` left-padded prompts at a time;
- generate_batch: transformers' own continuous batching (paged attention), with a configuration sized for this model;
- bare: our continuous batching in process, given all prompts at once;
- enhance: the whole of `redraft enhance` around it: reading, template, parsing, guard, records on disk, output;
- LLM.chat: vLLM in a process of its own environment (`make vllm-install`), all prompts in one call;
- vllm: the whole of `redraft enhance --engine vllm` in that process, over the same `LLM`;
- calls: a vLLM server, all requests at once by the client that `enhance` uses, nothing else;
- server: the whole of `redraft enhance` over that server.

The sides take turns, `--rounds` times after one for warming up, so that a busy machine is busy for all of them. Prints
tokens a second and a second of CPU time (that of all processes of a side), and the medians of the rounds' ratios with
their extremes. One thread a model. Targets: server 12, enhance 15 and vllm 18 times the loop; vllm 0.90 of LLM.chat.
`--compile` lets vLLM compile its model, which takes minutes at the start.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging

from redraft.chat import ChatModel, ChatReply, ChatRequest
from redraft.local_models import load_local
from redraft.openai_chat import OpenAIChat
from redraft.profiles import LocalConfig, ModelConfig, RewriterConfig, ServerConfig
from redraft.transformers_chat import TransformersChat
from rewriter.batch.engines import ChatEngine, VllmEngine
from rewriter.batch.maker import Maker, open_kit, own_columns
from rewriter.batch.run import BatchPlan, run_batch, work_path
from rewriter.batch.tables import open_source
from rewriter.batch.work import WHOLE, WorkFolder
from rewriter.cot import Asking
from rewriter.target import load_target

ROOT = Path(__file__).parents[1]
VLLM = {
    "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING",
}  # fmt: skip

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINGS = ("fox", "castle", "teapot", "bicycle", "lighthouse", "violin", "robot", "orange tree")
PLACES = ("by the sea", "in an old library", "on a hill at dusk", "under a bridge", "at a night market in the rain")


class EveryReply:
    """The engine with its replies made into good ones: random weights write none, and a second try would double the
    tokens of one side. The guard, which must read each, sees the prompt again with words around it."""

    def __init__(self, inner: ChatModel) -> None:
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
    words = [tokenizer.decode([at]).strip() for at in range(512)]
    empty = [at for at, word in enumerate(words) if at < 3 or not word or "\ufffd" in word]
    # What ends a reply, or would leave it empty (half a character is shown by no server), is never the likeliest.
    model.lm_head.weight.data[empty] = 0
    model.generation_config = GenerationConfig(pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


Side = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--loop", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vllm", default=str(ROOT / ".venv-vllm" / "bin" / "python"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--skip", nargs="*", default=[], metavar="SIDE")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # the process that holds vLLM
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()  # continuous batching warns at each call of a model without an end token
    if options.inside is not None:
        answer(options.inside, options)
        return
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), options)


def config_of(folder: Path, options: argparse.Namespace, server: ServerConfig | None = None) -> RewriterConfig:
    local = LocalConfig(device="cpu", dtype="float32", micro_batch=options.batch)
    if server is not None:
        model = ModelConfig(kind="openai", model="mini-rewriter", server=server)
    else:
        model = ModelConfig(kind="transformers", model=str(folder / "model"), local=local)
    return RewriterConfig(model=model, style="package:mini/rewriter/style", max_tokens=options.tokens)


class Whole:
    """`redraft enhance` over an engine, from file to file; a new output each time."""

    def __init__(self, folder: Path, name: str, config: RewriterConfig, chat: ChatModel, window: int) -> None:
        self._folder, self._name, self._config, self._window = folder, name, config, window
        self._engine = EveryReply(chat)
        self._runs = 0

    async def __call__(self, prompts: int, tokens: int) -> None:
        self._runs += 1
        self._engine.tokens = 0
        source = open_source(str(self._folder / "prompts.jsonl"))
        out = self._folder / f"{self._name}{self._runs}.jsonl"
        target = load_target("generic")
        kit = open_kit(self._config, target=target, engine=ChatEngine(self._engine, self._window))
        plan = BatchPlan(kit.settings, own_columns(target, thought=False, n=1, scored=False))
        with WorkFolder(work_path(out), WHOLE) as work:
            counts = await run_batch(source, out, work, plan, Maker(kit.rewriter, plan.keys), window=kit.engine.window)
        assert counts.rows == prompts
        assert self._engine.tokens == tokens, f"{self._engine.tokens} tokens were made instead of {tokens}"


def measure(folder: Path, options: argparse.Namespace) -> None:
    build(folder / "model")
    config = config_of(folder, options)
    prompts = [f"a {THINGS[i % 8]} number {i} {PLACES[i % 5]}" for i in range(options.prompts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    asking = Asking.of(config)
    requests = [asking.first(prompt, 0, 0) for prompt in prompts]
    loaded = load_local(config.model)
    texts = [loaded.row(request, {}).text for request in requests]
    total = options.prompts * options.tokens
    settings = GenerationConfig(max_new_tokens=options.tokens, min_new_tokens=options.tokens, do_sample=False)

    def loop() -> None:
        for text in texts[: options.loop]:
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
        from transformers import ContinuousBatchingConfig

        ids = [loaded.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        blocks = 4 * options.batch + 64
        paging = ContinuousBatchingConfig(page_size=32, num_blocks=blocks, max_batch_tokens=4 * options.batch)
        loaded.model.generate_batch(
            ids, generation_config=settings, continuous_batching_config=paging, progress_bar=False
        )

    async def all_at_once(chat: ChatModel) -> None:
        replies = await asyncio.gather(*(chat(request) for request in requests))
        assert sum(reply.usage.completion_tokens for reply in replies) == total

    with ExitStack() as exits:
        runner = exits.enter_context(asyncio.Runner())
        chat = TransformersChat(config.model)
        whole = Whole(folder, "here", config, TransformersChat(config.model), 2 * options.batch)
        sides: dict[str, tuple[Side, int, int | None]] = {
            "loop": (loop, options.loop * options.tokens, None),
            "generate": (static, total, None),
            "generate_batch": (paged, total, None),
            "bare": (lambda: runner.run(all_at_once(chat)), total, None),
            "enhance": (lambda: runner.run(whole(options.prompts, total)), total, None),
        }
        if options.vllm != "none":
            inside = exits.enter_context(Inside(folder, options))
            sides["LLM.chat"] = (lambda: inside("LLM.chat"), total, inside.pid)
            sides["vllm"] = (lambda: inside("vllm"), total, inside.pid)
            address, pid = exits.enter_context(serving(folder, options))
            server = config_of(folder, options, ServerConfig(base_url=address, concurrency=256))
            client = OpenAIChat(server.model, most=256)
            served = Whole(folder, "served", server, OpenAIChat(server.model, most=256), 256)
            sides["calls"] = (lambda: runner.run(all_at_once(client)), total, pid)
            sides["server"] = (lambda: runner.run(served(options.prompts, total)), total, pid)
        rounds = []
        for number in range(1 + options.rounds):
            rounds.append({name: timed(*side) for name, side in sides.items() if name not in options.skip})
            print(
                f"round {number}: {', '.join(f'{name} {pair[1]:,.0f}' for name, pair in rounds[-1].items())}",
                file=sys.stderr,
            )
    report(rounds[1:], options)


def timed(work: Side, tokens: int, pid: int | None) -> tuple[float, float]:
    """Tokens a second, and a second of CPU time, of this process and of the tree of `pid`."""
    started = time.perf_counter(), time.process_time() + spent(pid)
    work()
    return tokens / (time.perf_counter() - started[0]), tokens / (time.process_time() + spent(pid) - started[1])


def spent(pid: int | None) -> float:
    if pid is None:
        return 0.0
    first = psutil.Process(pid)
    times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


def report(rounds: list[dict[str, tuple[float, float]]], options: argparse.Namespace) -> None:
    print(
        f"{options.prompts} prompts of {options.tokens} new tokens, {len(rounds)} rounds; medians (extremes of rounds)"
    )
    for name in rounds[0]:
        line = [f"{name:15}"]
        for at, clock in enumerate(("s", "CPU s")):
            per_s = statistics.median(figures[name][at] for figures in rounds)
            line.append(f"{per_s:7,.0f} tokens/{clock}")
            against = [("loop", [figures[name][at] / figures["loop"][at] for figures in rounds])]
            bare = "LLM.chat" if name in ("vllm", "calls", "server") else "bare"
            if bare in rounds[0]:
                against.append((bare, [figures[name][at] / figures[bare][at] for figures in rounds]))
            for other, ratios in against:
                low, mid, high = min(ratios), statistics.median(ratios), max(ratios)
                line.append(f"{mid:5.2f} ({low:.2f} to {high:.2f}) x {other}")
        print("   ".join(line))


class Inside:
    """The process that holds vLLM, in a separate environment. It reads names of sides and answers when each is done."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        flags = ["--tokens", str(options.tokens), "--prompts", str(options.prompts), "--batch", str(options.batch)]
        flags += ["--compile"] if options.compile else []
        self._command = [options.vllm, __file__, "--inside", str(folder), *flags]
        self._log = folder / "inside.log"

    def __enter__(self) -> Inside:
        path = os.pathsep.join([str(ROOT), str(ROOT / "scripts" / "vllm_cpu")])
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env={**os.environ, **VLLM, "PYTHONPATH": path}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.pid = self._process.pid
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(60)

    def __call__(self, side: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(side + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            raise SystemExit(f"the process of vLLM failed:\n{self._log.read_text()[-4000:]}")


def answer(folder: Path, options: argparse.Namespace) -> None:
    """What `Inside` runs: reads names of sides, answers "done" behind each. All else that is printed goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from vllm import LLM, SamplingParams

    llm = LLM(
        model=str(folder / "model"), dtype="float32", max_model_len=512, max_num_seqs=256,
        enforce_eager=not options.compile, enable_chunked_prefill=False, max_num_batched_tokens=4096,
    )  # fmt: skip
    config = config_of(folder, options)
    asking = Asking.of(config)
    prompts = [json.loads(line)["prompt"] for line in (folder / "prompts.jsonl").open()]
    chats = [
        [{"role": turn.role, "content": turn.content} for turn in asking.first(prompt, 0, 0).messages]
        for prompt in prompts
    ]
    params = SamplingParams(max_tokens=options.tokens, temperature=0.0)
    total = options.prompts * options.tokens
    engine = VllmEngine(config.model, llm=llm)
    whole = Whole(folder, "inside", config, engine, engine.window)
    with asyncio.Runner() as runner:
        for side in map(str.strip, sys.stdin):
            if side == "LLM.chat":
                made = llm.chat(chats, params, use_tqdm=False)
                assert sum(len(output.outputs[0].token_ids) for output in made) == total
            else:
                runner.run(whole(options.prompts, total))
            out.write("done\n")
            out.flush()
        runner.run(engine.aclose())


@contextlib.contextmanager
def serving(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """A vLLM server of the model: its address and process."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    environment = {**os.environ, "MODEL": str(folder / "model"), "VENV_VLLM": str(Path(options.vllm).parents[1])}
    flags = ["--no-enforce-eager"] if options.compile else []
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [ROOT / "scripts" / "vllm_cpu" / "serve.sh", "rewriter", str(port), *flags],
            env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until = time.monotonic() + 1800
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the vLLM server did not come up:\n{log.read_text()[-4000:]}")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", process.pid
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main()
