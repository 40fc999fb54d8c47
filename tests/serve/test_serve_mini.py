"""The mini models behind a server: conversations share their batches, and a killed server loses nothing."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from agent.models import open_models
from agent.serve.metrics import Metrics
from agent.serve.models import Served
from editors.backend import ImageBackend, ImageTask, Mode, StepCallback
from evaluator.local_judge import Questions, TransformersJudge, YesNo
from evaluator.reward import checks_reward
from redraft.chat import ChatModel
from redraft.profiles import ModelConfig, load_profile
from redraft.transformers_chat import TransformersChat
from tests.serve.conftest import Start, follow
from tests.serve.processes import Process, begin, free_port, nothing_lost
from tests.serve.test_serve_queue import until

pytestmark = pytest.mark.integration
WORDS = [
    "two little scarlet stars over a big blue disc", "a green ring left of a red heart, on cream paper",
    "three yellow moons and no stars", "a purple square with dots under a white cross", "one big orange star",
    "two blue hearts above a green triangle", "a red circle right of a red square", "four small black rings",
]  # fmt: skip


class Counting(ImageBackend):
    """Draws with another backend when it is let, and keeps how many pictures each of its calls drew."""

    def __init__(self, backend: ImageBackend) -> None:
        self.calls: list[int] = []
        self.let = threading.Event()
        self._backend = backend

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def modes(self) -> frozenset[Mode]:
        return self._backend.modes

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        assert self.let.wait(250)
        self.calls.append(len(tasks))
        return self._backend.render(tasks, on_step)


class CountingJudge(TransformersJudge):
    """Keeps how many pictures were judged together."""

    def __init__(self, judge: TransformersJudge) -> None:
        super().__init__(judge._config)
        self.batches: list[int] = []

    def _answer(self, pictures: Sequence[Questions]) -> list[list[YesNo]]:
        self.batches.append(len(pictures))
        return super()._answer(pictures)


class CountingChat(TransformersChat):
    """Keeps how many rows its running batch had."""

    most = 0

    def _turn(self, texts) -> None:  # type: ignore[no-untyped-def]
        super()._turn(texts)
        self.most = max(self.most, 0 if self._batch is None else self._batch.running)


async def test_conversations_share_the_batches_of_all_three_models(start: Start) -> None:
    profile = load_profile("mini").model_copy(update={"editor": None})  # whose pictures would not be counted
    chats: list[CountingChat] = []
    counted: list[tuple[Counting, CountingJudge]] = []
    made: list[Served] = []

    def chat(config: ModelConfig) -> ChatModel:
        chats.append(CountingChat(config))
        return chats[-1]

    def models(metrics: Metrics) -> list[Served]:
        models = open_models(profile, chat)
        backend, judge = Counting(models.generator), CountingJudge(TransformersJudge(profile.judge))
        counted.append((backend, judge))
        models = replace(models, generator=backend, judge=judge, reward=checks_reward(judge))
        made.append(Served.of("mini", models, profile.limits, metrics, profile=profile))
        return made

    async with start(models) as server:
        [(backend, judge)], [served] = counted, made
        ids = await begin(server.http, WORDS, limits={"max_rounds": 2})
        await until(lambda: served.waiting() >= len(WORDS) - 1)  # all but the one that is drawn first
        backend.let.set()
        ends = await asyncio.gather(*(server.follow(id) for id in ids))
    assert all(events[-1]["event"] == "replied" and not events[-1]["entry"]["error"] for events in ends)
    drawn = sum(1 for events in ends for event in events if event["event"] == "image")
    assert sum(backend.calls) == drawn
    assert max(backend.calls) > profile.limits.images_per_round, "pictures of more than one conversation in one call"
    assert max(judge.batches) > profile.limits.images_per_round
    assert max(chat.most for chat in chats) > 1


@pytest.mark.slow
async def test_nothing_is_lost_when_the_real_server_is_killed_under_load(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "agent.cli", "serve", "--port", str(port), "--data", str(tmp_path / "data")]
    with Process(command, port, tmp_path / "log") as server:
        async with server.client() as http:
            ids = await begin(http, WORDS, seed=5)
            await follow(http, ids[0], until=("image",))
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        server.start()
        async with server.client() as http:
            await nothing_lost(http, ids, WORDS)
        assert server.end(signal.SIGTERM) == 0
    assert "star" not in (tmp_path / "log").read_text(), "no prompts in the log"
