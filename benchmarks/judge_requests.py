"""What the checks of one picture cost a judge's server: the picture sent once and named by its hash (uuid), and its checks in one
request if the server has a batch route, against a request with the whole picture for each check, as it was.

    scripts/vllm_cpu/serve.sh judge                     # or any vLLM with a vision-language model
    python benchmarks/judge_requests.py [--base-url http://127.0.0.1:8001/v1] [--model mini-judge] [--checks 24]
                                        [--sizes 1024 2048] [--repeats 2]

Prints, for each size, the bytes of the pictures sent, the wall seconds (the best of `repeats`) and the largest difference of
the probabilities. Pictures are noise, which PNG cannot make smaller: the worst case for the wire, and near a photograph's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from evaluator.server_judge import ServerJudge
from evaluator.types import Check, Verdict
from redraft.chat import Message
from redraft.openai_chat import OpenAIChat, encode_messages
from redraft.profiles import JudgeConfig, ModelConfig, ServerConfig

SHAPES = ("star", "circle", "square", "triangle", "heart", "moon")
COLOURS = ("red", "blue", "green", "yellow")


class Counting(OpenAIChat):
    """Counts the bytes of the messages that it sends."""

    sent = 0

    async def _chat(
        self, messages: list[dict[str, object]], body: Mapping[str, object], affinity: str | None = None
    ) -> dict[str, object]:
        self.sent += len(json.dumps(messages))
        return await super()._chat(messages, body, affinity)

    async def _post_batch(
        self, wire: list[list[dict[str, object]]], body: Mapping[str, object], affinity: str
    ) -> object:
        self.sent += len(json.dumps(wire))
        return await super()._post_batch(wire, body, affinity)


class WholePictures(Counting):
    """Encodes and sends the picture with each request."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._batches = False

    async def _send(
        self, messages: Sequence[Message], body: Mapping[str, object], *, whole: bool = False
    ) -> dict[str, object]:
        return await self._chat(await asyncio.to_thread(encode_messages, messages), body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://127.0.0.1:8001/v1")
    parser.add_argument("--model", default="mini-judge")
    parser.add_argument("--checks", type=int, default=24)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    server = ServerConfig(base_url=options.base_url, timeout_s=600, concurrency=8)
    config = ModelConfig(kind="openai", model=options.model, server=server)
    asyncio.run(compare(config, options.checks, options.sizes, options.repeats))


async def compare(config: ModelConfig, count: int, sizes: Sequence[int], repeats: int) -> None:
    rng = np.random.default_rng(0)
    checks = [
        Check("entity_layout", f"Is the {COLOURS[at % 4]} {SHAPES[at % 6]} number {at} to the left of the heart?")
        for at in range(count)
    ]
    judging = JudgeConfig(model=config, min_label_mass=0.0)
    for size in sizes:
        figures: dict[type[Counting], tuple[float, float, list[Verdict]]] = {}
        for kind in (WholePictures, Counting):
            best, sent, answers = float("inf"), 0.0, []
            for _ in range(repeats):
                chat = kind(config)
                judge = ServerJudge(chat, judging)
                warm = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
                await judge(warm, "", checks[:1])  # what the server can do is known from here on
                chat.sent = 0
                image = Image.fromarray(np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8))
                started = time.perf_counter()
                answers = await judge(image, "", checks)
                best, sent = min(best, time.perf_counter() - started), float(chat.sent)
                await chat.aclose()
            figures[kind] = (best, sent, answers)
        (old_s, old_bytes, old), (new_s, new_bytes, new) = figures[WholePictures], figures[Counting]
        pairs = [
            (a.probability, b.probability)
            for a, b in zip(old, new, strict=True)
            if a.probability is not None and b.probability is not None
        ]
        apart = max((abs(a - b) for a, b in pairs), default=float("nan"))
        print(
            f"{size} x {size}, {count} checks: {old_bytes / 1e6:.1f} MB -> {new_bytes / 1e6:.2f} MB "
            f"({old_bytes / new_bytes:.1f}x); {old_s:.2f} s -> {new_s:.2f} s ({old_s / new_s:.1f}x); "
            f"{len(pairs)} probabilities, at most {apart:.1e} apart",
            flush=True,
        )


if __name__ == "__main__":
    main()
