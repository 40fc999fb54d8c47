"""Engines: what answers the requests of a batch, each behind the protocol `Engine`. Model libraries load when used."""

from __future__ import annotations

from typing import Literal

from redraft.chat import ChatModel, ChatReply, ChatRequest, OpenAIChat
from redraft.errors import ConfigError
from redraft.profiles import ModelConfig
from rewriter.batch.types import Engine

EngineName = Literal["auto", "server", "transformers", "vllm", "fake"]
ENGINES: tuple[EngineName, ...] = ("auto", "server", "transformers", "vllm", "fake")

MOST = 256
"""Requests under way at a server, where the server does not push back earlier."""


class ChatEngine:
    """Any chat model as an engine of a window of its own."""

    def __init__(self, chat: ChatModel, window: int) -> None:
        self._chat = chat
        self._window = window

    @property
    def name(self) -> str:
        return self._chat.name

    @property
    def window(self) -> int:
        return self._window

    async def __call__(self, request: ChatRequest) -> ChatReply:
        return await self._chat(request)

    async def aclose(self) -> None:
        close = getattr(self._chat, "aclose", None)
        if close is not None:
            await close()


def open_engine(config: ModelConfig, kind: EngineName = "auto", concurrency: int | None = None) -> Engine:
    """The engine for a profile's rewriter model.

    auto:         what the profile says, a server or transformers in this process.
    server:       begins with the profile's `concurrency` and finds out how much the server takes, up to `concurrency`.
    transformers: continuous batching of `concurrency` rows, the profile's micro_batch by default.
    vllm:         vLLM inside this process (extra `vllm`).
    fake:         no model at all: shows what the batch around it does.

    Raises ConfigError, and ModelMissing where a model folder is not there.
    """
    if kind == "auto":
        kind = "server" if config.kind == "openai" else "transformers"
    if kind == "server":
        if config.server is None:
            raise ConfigError("--engine server: the profile's rewriter has no [server] table; add one with base_url")
        most = concurrency or max(MOST, config.server.concurrency)
        return ChatEngine(OpenAIChat(config, most=most), most)
    if kind == "fake":
        from rewriter.batch.fakes import FakeEngine

        return FakeEngine(window=concurrency or 1024)
    if kind == "vllm":
        from rewriter.batch.vllm_engine import VllmEngine

        return VllmEngine(config, window=concurrency or 1024)
    from redraft.transformers_chat import TransformersChat

    if concurrency is not None:
        config = config.model_copy(update={"local": config.local.model_copy(update={"micro_batch": concurrency})})
    # Twice the batch: while rows are reviewed others must wait at the model's door.
    return ChatEngine(TransformersChat(config), 2 * config.local.micro_batch)
