"""vLLM inside this process: requests join its running batch as they come and leave it as they are done.

Needs the extra `vllm`, in an environment of its own (vLLM pins torch and transformers). What is used of it: LLM's
tokenizer, and `add_request` and `step` of its LLMEngine, which `LLM.chat` is made of too. `LLM.chat` itself answers
only when its last request is done, so that rows of one call would wait for rows of another.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from redraft.chat import ChatReply, ChatRequest, Usage
from redraft.errors import BackendError, BadReply, RedraftError, one_line
from redraft.extras import require
from redraft.local_models import LocalModel
from redraft.profiles import ModelConfig, model_place


@dataclass(eq=False)
class _Job:
    request: ChatRequest
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[ChatReply] = field(init=False)

    def __post_init__(self) -> None:
        self.answer = self.loop.create_future()

    def settle(self, outcome: ChatReply | BaseException) -> None:
        """From any thread; of an answer that nobody waits for any more nothing is heard."""

        def tell() -> None:
            if not self.answer.done():
                if isinstance(outcome, ChatReply):
                    self.answer.set_result(outcome)
                else:
                    self.answer.set_exception(outcome)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(tell)


class VllmEngine:
    """An Engine over vLLM's own scheduler, driven by one thread. `settings` go to `vllm.LLM`, as do the
    profile's own (`local.vllm`).

    The model loads at the first request. `llm` stands in for a loaded `vllm.LLM`, and `sampling` for
    `vllm.SamplingParams`, in tests. Raises ModelMissing and BackendError; BadReply for an empty reply.
    """

    def __init__(
        self, config: ModelConfig, *, window: int = 1024, llm: Any = None, sampling: Any = None, **settings: Any
    ) -> None:
        self._place = model_place(config.model)
        self._config = config
        self._window = window
        self._llm = llm
        self._sampling = sampling
        self._settings = settings
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return self._config.model

    @property
    def window(self) -> int:
        return self._window

    async def __call__(self, request: ChatRequest) -> ChatReply:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="redraft-vllm", daemon=True)
            self._thread.start()
        job = _Job(request, asyncio.get_running_loop())
        self._jobs.put(job)
        return await job.answer

    async def aclose(self) -> None:
        """Lets go of the model once what is under way is done."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = self._llm = None

    def _work(self) -> None:
        running: dict[str, _Job] = {}
        numbers, open_ = count(), True
        while open_ or running:
            try:
                # Waits where there is nothing to do; takes what is there between two steps.
                job = self._jobs.get(block=not running)
            except queue.Empty:
                job = None
            else:
                if job is None:
                    open_ = False
                    continue
                self._add(job, str(next(numbers)), running)
                if not self._jobs.empty():
                    continue
            if running:
                self._step(running)

    def _add(self, job: _Job, number: str, running: dict[str, _Job]) -> None:
        try:
            self._load()
            row = self._reader.row(job.request, self._config.template_args)
            ids = self._reader.tokenizer.encode(row.text, add_special_tokens=False)
            request = job.request
            params = self._sampling(
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p if request.temperature > 0 else 1.0,
                seed=None if request.seed is None else request.seed % 2**63,
                stop=list(request.stop),
            )
            self._llm.llm_engine.add_request(number, {"prompt_token_ids": ids}, params)
        except RedraftError as error:
            job.settle(error)
        except Exception as error:  # noqa: BLE001 - the boundary to vLLM
            job.settle(self._error(error))
        else:
            running[number] = job

    def _step(self, running: dict[str, _Job]) -> None:
        try:
            outputs = self._llm.llm_engine.step()
        except Exception as error:  # noqa: BLE001 - the boundary to vLLM
            for job in running.values():
                job.settle(self._error(error))
            running.clear()
            return
        for output in outputs:
            if output.finished and (done := running.pop(output.request_id, None)) is not None:
                done.settle(self._reply(output))

    def _reply(self, output: Any) -> ChatReply | BadReply:
        made = output.outputs[0]
        if not made.text.strip():
            return BadReply(f"{self.name} answered: an empty reply")
        usage = Usage(len(output.prompt_token_ids or ()), len(made.token_ids))
        return ChatReply(made.text, truncated=made.finish_reason == "length", usage=usage, model=self.name)

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
            self._reader = LocalModel(self.name, None, self._llm.get_tokenizer(), None, 1 << 30, ())

    def _error(self, error: Exception) -> BackendError:
        mapped = BackendError(f"{self.name} failed in vLLM ({type(error).__name__}: {one_line(error)})")
        mapped.__cause__ = error
        return mapped
