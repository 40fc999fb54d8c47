"""A chat model in this process. Calls that arrive together are answered in one batch, each as if it were alone."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.chat import ChatReply, ChatRequest, Usage
from core.choices import add_logs
from core.errors import BackendError, BadReply, RedraftError
from core.local_models import LocalModel, Row, load_local
from core.profiles import ModelConfig, model_place
from core.wire import json_in

if TYPE_CHECKING:
    import torch

_GATHER_S = 0.003
"""How long the worker waits for companions of the first request; asyncio.gather sends its calls well within it."""


@dataclass(eq=False)
class _Job:
    request: ChatRequest
    answer: Future[ChatReply] = field(default_factory=Future)
    abandoned: bool = False
    row: Row = field(init=False)


class TransformersChat:
    """A ChatModel of any causal or image-text-to-text class of transformers, run in one worker thread.

    The model loads at the first call. Requests that arrive while a batch runs make up the next ones, of at most
    `local.micro_batch` rows. Each row has its own temperature, top_p, seed, stop strings and length; what is sampled
    depends on the row's own seed and not on its company, up to the rounding of batched arithmetic (about 1e-6 in
    float32: a token may flip once in a very long while; half precisions flip sooner).

    A `schema` is not forced on the model, only checked: the prompt has to ask for JSON. `choices` are read over the
    whole vocabulary. One instance may serve several event loops and threads.

    Raises ModelMissing and BackendError; BadReply for an empty reply, or one that is not JSON where a schema is given.
    """

    def __init__(self, config: ModelConfig) -> None:
        model_place(config.model)  # a folder that is not there is told at once, not after the first prompt
        self._config = config
        self._waiting: list[_Job] = []
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="redraft-chat")
        self._model: LocalModel | None = None

    @property
    def name(self) -> str:
        return self._config.model

    async def __call__(self, request: ChatRequest) -> ChatReply:
        job = _Job(request)
        with self._lock:
            self._waiting.append(job)
        self._worker.submit(self._answer_waiting)
        try:
            return await asyncio.wrap_future(job.answer)
        except asyncio.CancelledError:
            job.abandoned = True  # the batch goes on without it, or stops where nobody is left
            raise

    async def aclose(self) -> None:
        """Lets go of the model, once the batch under way is done. The instance cannot be used afterwards."""
        await asyncio.to_thread(self._worker.shutdown)
        self._model = None

    def _answer_waiting(self) -> None:
        if not self._waiting:
            return  # the call before took them all
        time.sleep(_GATHER_S)
        with self._lock:
            jobs, self._waiting = self._waiting, []
        jobs = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
        try:
            self._answer(jobs)
        except BaseException as error:  # noqa: BLE001 - whatever happens, somebody waits for an answer
            self._fail(jobs, error)

    def _answer(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        if self._model is None:
            self._model = load_local(self._config)
        groups: dict[tuple[bool, int], list[_Job]] = defaultdict(list)
        for job in jobs:
            try:
                job.row = self._model.row(job.request, self._config.template_args)
            except RedraftError as error:
                job.answer.set_exception(error)
                continue
            # Rows of one batch have equally many pictures, which is all that some processors can do.
            groups[bool(job.request.choices), len(job.row.images)].append(job)
        size = self._config.local.micro_batch
        for (choosing, _), group in groups.items():
            for batch in (group[start : start + size] for start in range(0, len(group), size)):
                try:
                    (_choose if choosing else _generate)(self._model, batch)
                except Exception as error:  # noqa: BLE001 - the boundary to transformers and torch
                    self._fail(batch, error)

    def _fail(self, jobs: Sequence[_Job], error: BaseException) -> None:
        if not isinstance(error, RedraftError):
            words = " ".join(str(error).split())[:300]
            mend = "; lower micro_batch in the profile" if "out of memory" in words else ""
            mapped = BackendError(f"{self.name} failed ({type(error).__name__}: {words}){mend}")
            mapped.__cause__ = error
            error = mapped
        for job in jobs:
            if not job.answer.done():
                job.answer.set_exception(error)


def _fitting(model: LocalModel, jobs: Sequence[_Job]) -> tuple[list[_Job], dict[str, torch.Tensor], list[int]]:
    """The jobs whose prompts the model can take, their inputs, and how many tokens each prompt has."""
    kept = [job for job in jobs if not job.abandoned]
    while kept:
        inputs = model.inputs([job.row for job in kept])
        lengths: list[int] = inputs["attention_mask"].sum(1).tolist()
        fits = [length < model.context for length in lengths]
        if all(fits):
            return kept, inputs, lengths
        for job, length, fit in zip(kept, lengths, fits, strict=True):
            if not fit:
                said = f"the prompt has {length} tokens, {model.name} takes {model.context - 1}; shorten it"
                job.answer.set_exception(BackendError(said))
        kept = [job for job, fit in zip(kept, fits, strict=True) if fit]
    return [], {}, []


def _generate(model: LocalModel, jobs: Sequence[_Job]) -> None:
    import torch
    from transformers import GenerationConfig

    jobs, inputs, lengths = _fitting(model, jobs)
    if not jobs:
        return
    width = inputs["input_ids"].shape[1]
    limits = [min(job.request.max_tokens, model.context - n) for job, n in zip(jobs, lengths, strict=True)]
    ends = _Ends(model, jobs, limits, width)
    with torch.inference_mode():
        made = model.model.generate(
            **inputs,
            generation_config=GenerationConfig(max_new_tokens=max(limits), do_sample=False, use_cache=True),
            logits_processor=[_Draw([job.request for job in jobs])],
            stopping_criteria=[ends],
        )
    rows = zip(jobs, limits, ends.stopped, lengths, made[:, width:].tolist(), strict=True)
    for job, limit, stopped, length, tokens in rows:
        try:
            job.answer.set_result(_reply(model, job.request, tokens[: stopped or limit], length, bool(stopped)))
        except BadReply as error:
            job.answer.set_exception(error)


def _reply(model: LocalModel, request: ChatRequest, tokens: list[int], prompt_tokens: int, stopped: bool) -> ChatReply:
    count = next((index for index, token in enumerate(tokens) if token in model.eos), None)
    truncated = count is None and not stopped
    text = str(model.tokenizer.decode(tokens[:count], skip_special_tokens=True, clean_up_tokenization_spaces=False))
    text = text[: min((at for stop in request.stop if (at := text.find(stop)) >= 0), default=len(text))]
    said = f"{model.name} answered"
    if not text.strip():
        raise BadReply(f"{said}: an empty reply")
    if request.schema is not None:
        try:
            text = json_in(text.rpartition("</think>")[2], truncated=truncated)
        except ValueError as error:
            raise BadReply(f"{said}: {error}") from None
    usage = Usage(prompt_tokens, len(tokens) if count is None else count + 1)
    return ChatReply(text, truncated=truncated, usage=usage, model=model.name)


def _choose(model: LocalModel, jobs: Sequence[_Job]) -> None:
    import torch
    from transformers import GenerationConfig

    jobs, inputs, lengths = _fitting(model, jobs)
    if not jobs:
        return
    once = GenerationConfig(max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_logits=True)
    with torch.inference_mode():
        # Through generate for one token: it knows the positions of padded rows for every kind of model.
        logits = model.model.generate(**inputs, generation_config=once).logits[0]
        logs = logits.float().log_softmax(-1).cpu()
    for job, length, row in zip(jobs, lengths, logs, strict=True):
        try:
            ids = model.choice_ids(job.request.choices)
        except BackendError as error:
            job.answer.set_exception(error)
            continue
        found = {choice: add_logs(row[list(tokens)].tolist()) for choice, tokens in ids.items()}
        said = str(model.tokenizer.decode([int(row.argmax())]))
        job.answer.set_result(ChatReply(said, usage=Usage(length, 1), model=model.name, logprobs=found))


class _Draw:
    """A logits processor that leaves each row one token: greedy rows their likeliest by doing nothing, sampled rows
    one drawn from the row's own generator, by inverting the distribution function at one uniform number a step. The
    numbers a row gets do not depend on the other rows, nor on the device."""

    def __init__(self, requests: Sequence[ChatRequest]) -> None:
        import torch

        self._rows = [index for index, request in enumerate(requests) if request.temperature > 0]
        sampled = [requests[index] for index in self._rows]
        self._temperatures = torch.tensor([request.temperature for request in sampled])[:, None]
        self._top_ps = torch.tensor([request.top_p for request in sampled])[:, None]
        self._generators = [
            torch.Generator().manual_seed(random.getrandbits(63) if r.seed is None else r.seed % 2**63) for r in sampled
        ]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        if not self._rows:
            return scores
        device = scores.device
        probs = (scores[self._rows].float() / self._temperatures.to(device)).softmax(-1)
        probs, order = probs.sort(dim=-1, descending=True, stable=True)
        # Nucleus: the likeliest tokens until top_p is reached, the one that reaches it included.
        kept = probs.cumsum(-1) - probs < self._top_ps.to(device)
        totals = (probs * kept).double().cumsum(-1)
        uniform = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in self._generators]).to(device)
        picked = torch.searchsorted(totals, uniform * totals[:, -1:], right=True)
        picked = picked.minimum(kept.sum(-1, keepdim=True) - 1)
        drawn = torch.full_like(scores[self._rows], -torch.inf).scatter(-1, order.gather(-1, picked), 0.0)
        scores = scores.clone()
        scores[self._rows] = drawn
        return scores


class _Ends:
    """A stopping criterion for each row: its own length, its stop strings, and that nobody waits for it any more.

    `stopped`: after how many tokens a row's stop string was complete, 0 where none was.
    """

    def __init__(self, model: LocalModel, jobs: Sequence[_Job], limits: Sequence[int], width: int) -> None:
        self._model = model
        self._jobs = jobs
        self._limits = limits
        self._width = width
        self.stopped = [0] * len(jobs)

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        import torch

        count = input_ids.shape[1] - self._width
        done = []
        for index, (job, limit) in enumerate(zip(self._jobs, self._limits, strict=True)):
            if job.request.stop and not self.stopped[index] and count <= limit:
                # A stop string of n bytes spans at most n tokens.
                span = min(count, max(len(stop.encode("utf-8", "replace")) for stop in job.request.stop) + 1)
                tail = self._model.tokenizer.decode(input_ids[index, -span:])
                self.stopped[index] = count if any(stop in tail for stop in job.request.stop) else 0
            done.append(bool(self.stopped[index]) or count >= limit or job.abandoned)
        return torch.tensor(done, device=input_ids.device)
