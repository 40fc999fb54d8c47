"""Engines: what answers the requests of a batch, each behind the protocol `BatchEngine`.

    engine = open_engine(load_profile("workstation").rewriter.model)

Model libraries load when they are used.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Any, Literal, Protocol

from redraft.chat import ChatModel, ChatReply, ChatRequest, Usage, is_cut_off, with_think_tags
from redraft.errors import BackendError, BadReply, ConfigError, RedraftError, one_line
from redraft.extras import require
from redraft.openai_chat import OpenAIChat
from redraft.profiles import ModelConfig, model_place
from redraft.worker import GATHER_S, Job, Worker


class BatchEngine(ChatModel, Protocol):
    """What answers the requests of a batch: a chat model that wants many of them under way at once."""

    @property
    def window(self) -> int:
        """How many requests it can use at once; more would only wait in it."""
        ...


EngineName = Literal["auto", "server", "transformers", "vllm", "fake"]
ENGINES: tuple[EngineName, ...] = ("auto", "server", "transformers", "vllm", "fake")

MOST = 256
"""Requests under way at a server, unless it pushes back earlier."""


class ChatEngine:
    """Any chat model as an engine."""

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
        await self._chat.aclose()


def open_engine(config: ModelConfig, kind: EngineName = "auto", concurrency: int | None = None) -> BatchEngine:
    """The engine for a profile's rewriter model.

    auto:         what the profile says, a server or transformers in this process.
    server:       begins with the profile's `concurrency` and finds out how much the server takes, up to `concurrency`.
    transformers: continuous batching of `concurrency` rows, the profile's micro_batch by default.
    vllm:         vLLM inside this process (extra `vllm`).
    fake:         no model at all: shows what the batch around it does.

    Raises ConfigError, and ModelMissing if a model folder is not there.
    """
    if kind == "auto":
        kind = "server" if config.kind == "openai" else "transformers"
    if kind == "server":
        if config.server is None:
            raise ConfigError("--engine server: the profile's rewriter has no [server] table; add one with base_url")
        most = concurrency or max(MOST, config.server.slots)
        return ChatEngine(OpenAIChat(config, most=most), most)
    if kind == "fake":
        return FakeEngine(window=concurrency or 1024)
    if kind == "vllm":
        return VllmEngine(config, window=concurrency or 1024)
    from redraft.transformers_chat import TransformersChat

    if concurrency is not None:
        config = config.model_copy(update={"local": config.local.model_copy(update={"micro_batch": concurrency})})
    # Twice the batch: while rows are reviewed others must wait at the model's door.
    return ChatEngine(TransformersChat(config), 2 * config.local.micro_batch)


_PROMPT = re.compile(r"<(user_prompt\w*)>\n(.*)\n</\1>|^(?:Rewrite|Repair): (.*)$", re.DOTALL | re.MULTILINE)
_MOODS = ("in soft morning light", "under a clear sky", "on textured paper", "with a calm background")


class FakeEngine:
    """A BatchEngine that answers with the user's prompt and a few harmless words behind it, chosen by prompt and seed.

    Each answer takes `delay_s` seconds; `requests` counts them. `spoil` is a share of first replies that lack their
    answer, so that a second try is asked for, chosen by the prompt too.
    """

    def __init__(self, *, window: int = 256, delay_s: float = 0.0, spoil: float = 0.0) -> None:
        self.requests = 0
        self._window = window
        self._delay_s = delay_s
        self._spoil = spoil

    @property
    def name(self) -> str:
        return "fake"

    @property
    def window(self) -> int:
        return self._window

    async def __call__(self, request: ChatRequest) -> ChatReply:
        self.requests += 1
        await asyncio.sleep(self._delay_s)
        match = _PROMPT.search(str(request.messages[-1].content))
        prompt = (match[2] or match[3]) if match else "a picture"
        mark = zlib.crc32(prompt.encode("utf-8", "surrogatepass"))
        usage = Usage(len(prompt) // 4, len(prompt) // 4 + 12)
        if request.temperature == 0 and mark % 1000 < 1000 * self._spoil:
            return ChatReply("<think>What matters is", truncated=True, usage=usage, model="fake")
        mood = _MOODS[(mark ^ (request.seed or 0)) % len(_MOODS)]
        text = f"<think>What matters is what was asked.</think><answer>{prompt}, {mood}</answer>"
        return ChatReply(text, usage=usage, model="fake")

    async def aclose(self) -> None:
        pass


ChatCall = Job[ChatRequest, ChatReply]


class VllmEngine:
    """A BatchEngine over vLLM's own scheduler, driven by one thread. `settings` go to `vllm.LLM`, as do the
    profile's own (`local.vllm`).

    The model loads at the first request. `llm` can be given instead of loading a `vllm.LLM`, and `sampling` instead of
    `vllm.SamplingParams`, in tests. Raises ModelMissing and BackendError; BadReply for an empty reply.
    """

    def __init__(
        self, config: ModelConfig, *, window: int = 1024, llm: Any = None, sampling: Any = None, **settings: Any
    ) -> None:
        self._place = model_place(config.model)
        if config.adapter is not None:
            raise ConfigError(
                "--engine vllm takes no adapter; merge it first (docs/small.md) and name the merged folder as `model`, or leave "
                "--engine out"
            )
        self._config = config
        self._window = window
        self._llm = llm
        self._sampling = sampling
        self._settings = settings
        self._worker: Worker[ChatRequest, ChatReply] = Worker(
            config.model, self._answer, size=None, gather_s=GATHER_S, map_error=self._map_error
        )
        self._numbers = count()

    @property
    def name(self) -> str:
        return self._config.model

    @property
    def window(self) -> int:
        return self._window

    async def __call__(self, request: ChatRequest) -> ChatReply:
        return await self._worker.ask(request)

    async def aclose(self) -> None:
        """Lets go of the model once what is under way is done. The engine cannot be used afterwards."""
        await self._worker.aclose()
        self._llm = None

    def _answer(self, calls: Sequence[ChatCall]) -> None:
        """On the worker: answers calls, also calls that arrive meanwhile."""
        running: dict[str, ChatCall] = {}
        while calls or running:
            for call in calls:
                self._add(call, str(next(self._numbers)), running)
            gone = [number for number, call in running.items() if call.abandoned]
            if gone:
                self._llm.llm_engine.abort_request(gone)
                for number in gone:
                    del running[number]
            if running:
                self._step(running)
            calls = self._worker.take()

    def _add(self, call: ChatCall, number: str, running: dict[str, ChatCall]) -> None:
        request = call.request
        try:
            self._load()
            row = self._reader.row(request, self._config.template_args)
            ids = self._reader.tokenizer.encode(row.text, add_special_tokens=False)
            params = self._sampling(
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p if request.temperature > 0 else 1.0,
                seed=None if request.seed is None else request.seed % 2**63,
                stop=list(request.stop),
            )
            self._llm.llm_engine.add_request(number, {"prompt_token_ids": ids}, params)
        except Exception as error:  # noqa: BLE001 - the boundary to vLLM
            call.fail(self._map_error(error))
        else:
            running[number] = call

    def _step(self, running: dict[str, ChatCall]) -> None:
        try:
            outputs = self._llm.llm_engine.step()
        except Exception as error:  # noqa: BLE001 - the boundary to vLLM
            mapped = self._map_error(error)
            for call in running.values():
                call.fail(mapped)
            running.clear()
            return
        for output in outputs:
            if output.finished and (done := running.pop(output.request_id, None)) is not None:
                try:
                    done.settle(self._reply(output))
                except BadReply as error:
                    done.fail(error)

    def _reply(self, output: Any) -> ChatReply:
        made = output.outputs[0]
        if not made.text.strip():
            raise BadReply(f"{self.name} answered: an empty reply")
        usage = Usage(len(output.prompt_token_ids or ()), len(made.token_ids))
        text = with_think_tags(made.text)
        truncated = is_cut_off(made.finish_reason, text)
        return ChatReply(text, truncated=truncated, usage=usage, model=self.name)

    def _load(self) -> None:
        if self._llm is None or self._sampling is None:
            require("vllm", "this engine runs vLLM in this process (--engine server asks a served model)")
            try:
                from vllm import LLM, SamplingParams  # type: ignore[import-not-found]
                from vllm.platforms import current_platform  # type: ignore[import-not-found]
                from vllm.sampling_params import RequestOutputKind  # type: ignore[import-not-found]
            except ImportError as error:
                raise BackendError(
                    f"vLLM cannot be used here ({one_line(error)}); install the extra vllm in an environment of its "
                    "own, or serve the model and use --engine server"
                ) from error
            if self._llm is None:
                local = self._config.local
                settings: dict[str, Any] = {"dtype": local.dtype, "trust_remote_code": local.trust_remote_code}
                if current_platform.is_cpu():
                    # vLLM 0.32 ends on a CPU when the prompt of a seeded request is read in two steps: it turns back
                    # the request's generator, and those of a CPU cannot be ("CPU Generator does not use offset").
                    settings["enable_chunked_prefill"] = False
                self._llm = LLM(model=self._place, **(settings | local.vllm | self._settings))
            if self._sampling is None:
                # As LLM.chat has it: otherwise each step makes an output of every request under way.
                self._sampling = partial(SamplingParams, output_kind=RequestOutputKind.FINAL_ONLY)
        if not hasattr(self, "_reader"):
            from redraft.local_models import LocalModel

            self._reader = LocalModel(self.name, None, self._llm.get_tokenizer(), None, 1 << 30, ())

    def _map_error(self, error: BaseException) -> Exception:
        if isinstance(error, RedraftError):
            return error
        mapped = BackendError(f"{self.name} failed in vLLM ({type(error).__name__}: {one_line(error)})")
        mapped.__cause__ = error
        return mapped
