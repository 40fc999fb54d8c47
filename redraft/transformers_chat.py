"""A chat model in this process. Calls are answered together, in a running batch, each as if it were alone.

Rows join the batch as they come and leave it when they are done. All rows share one key-value cache whose right edges are
flush. A row that joins is read by itself (together with others that join) and its part of the cache is padded on the
left to the common width; rows that are done, and columns that are padding for every row left, are cut away. Joining and
leaving copy the cache, so they wait until an eighth of the rows are free, or until nothing runs. A step copies nothing:
the cache has room on its right, where transformers' own would be written anew for each token, which took half of the
time on a CPU.

A batch runs like this for every causal model that keeps a plain cache of keys and values and takes positions;
`can_refill` says which. A row's text does not depend on its company, up to the rounding of batched arithmetic.
"""

from __future__ import annotations

import inspect
import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from redraft.chat import ChatReply, ChatRequest, Usage, add_logs, with_think_tags
from redraft.errors import BackendError, BadReply, RedraftError
from redraft.extras import require
from redraft.json_replies import json_in
from redraft.local_models import LocalModel, Row, cache_argument, cache_of, share_local
from redraft.profiles import ModelConfig
from redraft.spans import trace_chat
from redraft.worker import GATHER_S, Job, Worker

if TYPE_CHECKING:
    import torch

_JOIN_SHARE = 8
"""Part of the rows that has to be free before others join."""
_ROOM = 64
"""Tokens for which a cache gets room at a time."""


DrawTokens = Callable[["torch.Tensor"], "torch.Tensor"]
"""Logits of the last position (rows, vocabulary) to the next token of each row (rows,)."""


@dataclass(eq=False)
class Running:
    """A row in the batch: its prompt's ids and the tokens that it has so far. Of `job` a batch reads `limit` (most
    tokens), and at every step `abandoned` and `ends(tokens)`."""

    job: Any
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)


def can_refill(model: Any) -> bool:
    """Whether the model keeps a plain cache and takes positions. Sliding windows, recurrent states and the like do not
    let rows be moved."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    takes = inspect.signature(model.forward).parameters
    if not {"position_ids", cache_argument(model), "attention_mask", "logits_to_keep"} <= takes.keys():
        return False
    if getattr(model, "_is_stateful", False) or model.config.is_encoder_decoder:
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) is DynamicLayer for layer in layers)


class Refill:
    """A running batch of at most `size` rows. `draw` makes the drawing function for the rows that are in it, whenever
    they change. Use it from one thread, inside `torch.inference_mode()`."""

    def __init__(self, model: Any, size: int, draw: Callable[[Sequence[Any]], DrawTokens]) -> None:
        self._model = model
        self._takes_cache = cache_argument(model)
        self._size = size
        self._make_draw = draw
        self._rows: list[Running] = []
        self._cache: Any = None
        self._mask: torch.Tensor | None = None
        self._next: torch.Tensor | None = None
        self._done: set[int] = set()
        self._draw: DrawTokens | None = None

    @property
    def running(self) -> int:
        return len(self._rows) - len(self._done)

    def wants(self, waiting: int) -> int:
        """How many of `waiting` rows should join now."""
        free = self._size - self.running
        worth = min(waiting, max(1, self._size // _JOIN_SHARE))
        return min(free, waiting) if self.running == 0 or free >= worth else 0

    def join(self, rows: Sequence[Running]) -> list[Running]:
        """Reads the prompts of `rows` and draws their first tokens. Gives those that are done with it."""
        import torch

        if not rows:
            return []
        width = max(len(row.prompt) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[at, width - len(row.prompt) :] = 1
        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        made = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        first = self._make_draw([row.job for row in rows])(made.logits[:, -1])
        self._arrange((cache_of(made), mask, first))
        self._rows.extend(rows)
        self._draw = self._make_draw([row.job for row in self._rows])
        return self._take(first.tolist(), range(len(self._rows) - len(rows), len(self._rows)))

    def step(self) -> list[Running]:
        """One token for every row. Gives the rows that are done with it."""
        import torch

        if 2 * len(self._done) >= len(self._rows):
            self._drop()
            self._draw = self._make_draw([row.job for row in self._rows])
        assert self._mask is not None
        assert self._next is not None
        assert self._draw is not None
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._rows), 1)], dim=1)
        made = self._model(
            input_ids=self._next[:, None],
            attention_mask=self._mask,
            position_ids=self._mask.sum(-1, keepdim=True) - 1,
            use_cache=True,
            logits_to_keep=1,
            **{self._takes_cache: self._cache},
        )
        self._cache = cache_of(made)
        self._next = self._draw(made.logits[:, -1])
        left = [at for at in range(len(self._rows)) if at not in self._done]
        tokens = self._next.tolist()
        return self._take([tokens[at] for at in left], left)

    def leave(self) -> list[Running]:
        """Empties the batch, after a fault; gives the rows that were not done."""
        rows = [row for at, row in enumerate(self._rows) if at not in self._done]
        self._rows, self._done = [], set()
        self._cache = self._mask = self._next = None
        return rows

    def _take(self, tokens: Sequence[int], places: Sequence[int]) -> list[Running]:
        finished = []
        for token, at in zip(tokens, places, strict=True):
            row = self._rows[at]
            row.tokens.append(token)
            if len(row.tokens) >= row.job.limit or row.job.abandoned or row.job.ends(row.tokens):
                self._done.add(at)
                finished.append(row)
        if self.running == 0:
            self.leave()
        return finished

    def _drop(self) -> None:
        """Cuts away the rows that are done."""
        if self._done:
            self._arrange(None)

    def _arrange(self, new: tuple[Any, torch.Tensor, torch.Tensor] | None) -> None:
        """Cuts away rows that are done and columns that nobody left needs, and puts new rows (cache, mask, first
        tokens) below those that run, all flush right."""
        import torch
        from torch.nn.functional import pad

        left = [at for at in range(len(self._rows)) if at not in self._done]
        self._rows, self._done = [self._rows[at] for at in left], set()
        old: tuple[Any, torch.Tensor, torch.Tensor] | None = None
        start = 0
        if left:
            assert self._mask is not None
            assert self._next is not None
            index = torch.tensor(left, device=self._mask.device)
            mask = self._mask[index]
            start = int(mask.any(0).int().argmax())
            old = (self._cache, mask[:, start:], self._next[index])
        blocks = [block for block in (old, new) if block is not None]
        width = max(block[1].shape[1] for block in blocks)
        self._mask = torch.cat([pad(mask, (width - mask.shape[1], 0)) for _, mask, _ in blocks])
        self._next = torch.cat([first for _, _, first in blocks])
        count = len(self._mask)
        layers = []
        for number in range(len(blocks[0][0].layers)):
            parts = []
            if old is not None:
                layer = self._cache.layers[number]
                parts.append((layer.keys[index, :, start:], layer.values[index, :, start:]))
            if new is not None:
                layer = new[0].layers[number]
                parts.append((layer.keys, layer.values))
            layers.append(_roomy(parts, count, width))
        self._cache = blocks[0][0]
        self._cache.layers = layers


@cache
def _room() -> Any:
    """The class of a cache layer with room on its right: (rows, heads, columns, head width) for keys and values."""
    from transformers.cache_utils import DynamicLayer

    class Roomy(DynamicLayer):
        rooms: dict[str, torch.Tensor]

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """As DynamicLayer has it, but written into the room."""
            at = self.keys.shape[2]
            end = at + key_states.shape[2]
            for name, states in (("keys", key_states), ("values", value_states)):
                room = self.rooms[name]
                if end > room.shape[2]:
                    room = room.new_zeros(*room.shape[:2], end + _ROOM, room.shape[3])
                    room[:, :, :at] = self.rooms[name][:, :, :at]
                    self.rooms[name] = room
                room[:, :, at:end] = states
                setattr(self, name, room[:, :, :end])
            return self.keys, self.values

    return Roomy


def _roomy(parts: Sequence[tuple[torch.Tensor, torch.Tensor]], rows: int, width: int) -> Any:
    """A cache layer that holds the parts, pairs of keys and values, one below the other and flush right in `width`
    columns."""
    layer = _room()()
    layer.lazy_initialization(*parts[0])
    layer.rooms = {}
    for name, kind in (("keys", 0), ("values", 1)):
        sample = parts[0][kind]
        room = sample.new_zeros(rows, sample.shape[1], width + _ROOM, sample.shape[3])
        row = 0
        for part in parts:
            states = part[kind]
            room[row : row + len(states), :, width - states.shape[2] : width] = states
            row += len(states)
        layer.rooms[name] = room
        setattr(layer, name, room[:, :, :width])
    return layer


ChatCall = Job[ChatRequest, ChatReply]


@dataclass(eq=False)
class ChatJob:
    """A call as a row of a batch. `limit`: most tokens of the reply. `stopped`: after how many tokens a stop string was
    complete, 0 if none was."""

    call: ChatCall
    model: LocalModel
    row: Row
    limit: int = 0
    stopped: int = 0

    @property
    def request(self) -> ChatRequest:
        return self.call.request

    @property
    def abandoned(self) -> bool:
        return self.call.abandoned

    @cached_property
    def generator(self) -> torch.Generator:
        """The row's own: what it draws depends on neither its company nor the device."""
        import torch

        seed = self.request.seed
        return torch.Generator().manual_seed(random.getrandbits(63) if seed is None else seed % 2**63)

    def ends(self, tokens: list[int]) -> bool:
        """Whether the reply is complete with these tokens, or a stop string."""
        if tokens[-1] in self.model.eos:
            return True
        if self.request.stop and not self.stopped and len(tokens) <= self.limit:
            # A stop string of n bytes spans at most n tokens.
            span = max(len(stop.encode("utf-8", "replace")) for stop in self.request.stop) + 1
            tail = self.model.tokenizer.decode(tokens[-span:])
            self.stopped = len(tokens) if any(stop in tail for stop in self.request.stop) else 0
        return bool(self.stopped)


class TransformersChat:
    """A ChatModel of any causal or image-text-to-text class of transformers, run in one worker thread.

    The model loads at the first call. A batch of at most `local.micro_batch` rows runs; requests that arrive meanwhile
    join it when others have finished (`Refill`), or, if a model or a request with pictures does not allow
    that, make up the next batch. Each row has its own temperature, top_p, seed, stop strings and length; what is
    sampled depends on the row's own seed and not on its company, up to the rounding of batched arithmetic (about 1e-6
    in float32: a token may flip once in a very long while; half precisions flip sooner).

    A `schema` is not forced on the model, only checked: the prompt has to ask for JSON. `choices` are read over the
    whole vocabulary. One instance may serve several event loops and threads.

    Raises ModelMissing and BackendError; BadReply for an empty reply, or one that is not JSON if a schema is given.
    """

    def __init__(self, config: ModelConfig) -> None:
        require("local", "this profile runs a language model in this process")
        config.check_places()  # a missing folder is reported now, not after the first prompt
        self._config = config
        self._worker: Worker[ChatRequest, ChatReply] = Worker(
            config.title, self._answer, size=None, gather_s=GATHER_S, map_error=self._map_error
        )
        self._model: LocalModel | None = None
        self._batch: Refill | None = None

    @property
    def name(self) -> str:
        return self._config.title

    @trace_chat("transformers")
    async def __call__(self, request: ChatRequest) -> ChatReply:
        # If the caller is cancelled, the batch continues without it, or stops if no caller is left.
        return await self._worker.ask(request)

    async def aclose(self) -> None:
        """Lets go of the model, once the batch under way is done. The instance cannot be used afterwards."""
        await self._worker.aclose()
        self._model = self._batch = None

    def _answer(self, calls: Sequence[ChatCall]) -> None:
        """On the worker: answers calls, also calls that arrive meanwhile."""
        texts: deque[Running] = deque()
        try:
            while calls or texts or (self._batch is not None and self._batch.running):
                if self._ensure_loaded(calls):
                    assert self._model is not None
                    with self._model.lock:
                        self._sort(calls, texts)
                        self._turn(texts)
                calls = self._worker.take()
        except BaseException:
            if self._batch is not None:
                self._batch.leave()
            raise

    def _ensure_loaded(self, calls: Sequence[ChatCall]) -> bool:
        """Loads the model unless it is there, and says whether it is; if that fails, so do the calls."""
        if self._model is None:
            try:
                self._model = share_local(self._config)
                self._batch = self._running_batch(self._model)
            except Exception as error:  # noqa: BLE001 - the boundary to transformers and torch
                self._fail(calls, error)
        return self._model is not None

    def _sort(self, calls: Sequence[ChatCall], texts: deque[Running]) -> None:
        """Puts replies that can join the running batch into `texts`, and answers all else."""
        groups: dict[tuple[bool, int], list[ChatJob]] = defaultdict(list)
        for call in calls:
            assert self._model is not None
            try:
                job = ChatJob(call, self._model, self._model.row(call.request, self._config.template_args))
                if self._batch is not None and not call.request.choices:
                    texts.append(_read(self._model, job))
                    continue
            except RedraftError as error:
                call.fail(error)
                continue
            # Rows of one batch have equally many pictures, which is all that some processors can do.
            groups[bool(call.request.choices), len(job.row.images)].append(job)
        size = self._config.local.micro_batch
        for (choosing, _), group in groups.items():
            for batch in (group[start : start + size] for start in range(0, len(group), size)):
                assert self._model is not None
                try:
                    (_choose if choosing else _generate)(self._model, batch)
                except Exception as error:  # noqa: BLE001 - the boundary to transformers and torch
                    self._fail([job.call for job in batch], error)

    def _running_batch(self, model: LocalModel) -> Refill | None:
        """None if the model has no plain cache, or reads pictures: then batches are made and ended together."""
        if model.processor is not None or not can_refill(model.model):
            return None
        return Refill(model.model, self._config.local.micro_batch, _drawing)

    def _turn(self, texts: deque[Running]) -> None:
        """Lets rows join, then makes one token for all of them."""
        import torch

        if self._batch is None or not (texts or self._batch.running):
            return
        joining: list[Running] = []
        try:
            with torch.inference_mode():
                joining = [texts.popleft() for _ in range(self._batch.wants(len(texts)))]
                joining = [row for row in joining if not row.job.abandoned]
                done = self._batch.join(joining) if joining else []
                joining = []
                done += self._batch.step() if self._batch.running else []
        except Exception as error:  # noqa: BLE001 - the boundary to transformers and torch
            self._fail([row.job.call for row in [*self._batch.leave(), *joining]], error)
            return
        for row in done:
            if not row.job.abandoned:
                _settle(row.job, row.tokens, len(row.prompt))

    def _fail(self, calls: Sequence[ChatCall], error: BaseException) -> None:
        mapped = self._map_error(error)
        for call in calls:
            call.fail(mapped)

    def _map_error(self, error: BaseException) -> Exception:
        if isinstance(error, RedraftError):
            return error
        words = " ".join(str(error).split())[:300]
        mend = "; lower micro_batch in the profile" if "out of memory" in words else ""
        mapped = BackendError(f"{self.name} failed ({type(error).__name__}: {words}){mend}")
        mapped.__cause__ = error
        return mapped


def _settle(job: ChatJob, tokens: list[int], prompt_tokens: int) -> None:
    try:
        job.call.settle(_reply(job, tokens, prompt_tokens))
    except BadReply as error:
        job.call.fail(error)


def _read(model: LocalModel, job: ChatJob) -> Running:
    """A row for the running batch. Raises BackendError if its prompt is too long."""
    ids = model.tokenizer(job.row.text, add_special_tokens=False, return_token_type_ids=False)["input_ids"]
    if len(ids) >= model.context:
        raise BackendError(_too_long(model, len(ids)))
    job.limit = min(job.request.max_tokens, model.context - len(ids))
    return Running(job, ids)


def _too_long(model: LocalModel, tokens: int) -> str:
    return f"the prompt has {tokens} tokens, {model.name} takes {model.context - 1}; shorten it"


def _fitting(model: LocalModel, jobs: Sequence[ChatJob]) -> tuple[list[ChatJob], dict[str, torch.Tensor], list[int]]:
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
                job.call.fail(BackendError(_too_long(model, length)))
        kept = [job for job, fit in zip(kept, fits, strict=True) if fit]
    return [], {}, []


def _generate(model: LocalModel, jobs: Sequence[ChatJob]) -> None:
    import torch
    from transformers import GenerationConfig

    jobs, inputs, lengths = _fitting(model, jobs)
    if not jobs:
        return
    width = inputs["input_ids"].shape[1]
    for job, length in zip(jobs, lengths, strict=True):
        job.limit = min(job.request.max_tokens, model.context - length)
    with torch.inference_mode():
        made = model.model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=max(job.limit for job in jobs), do_sample=False, use_cache=True
            ),
            logits_processor=[_DrawRows(jobs)],
            stopping_criteria=[_Ends(jobs, width)],
        )
    for job, length, tokens in zip(jobs, lengths, made[:, width:].tolist(), strict=True):
        _settle(job, tokens[: job.stopped or job.limit], length)


def _reply(job: ChatJob, tokens: list[int], prompt_tokens: int) -> ChatReply:
    model, request = job.model, job.request
    count = next((index for index, token in enumerate(tokens) if token in model.eos), None)
    truncated = count is None and not job.stopped
    text = model.decode(tokens[:count])
    text = text[: min((at for stop in request.stop if (at := text.find(stop)) >= 0), default=len(text))]
    text = with_think_tags(text)
    answered = f"{model.name} answered"
    if not text.strip():
        raise BadReply(f"{answered}: an empty reply")
    if request.schema is not None:
        try:
            text = json_in(text, truncated=truncated)
        except ValueError as error:
            raise BadReply(f"{answered}: {error}") from None
    usage = Usage(prompt_tokens, len(tokens) if count is None else count + 1)
    return ChatReply(text, truncated=truncated, usage=usage, model=model.name)


def _choose(model: LocalModel, jobs: Sequence[ChatJob]) -> None:
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
            job.call.fail(error)
            continue
        logprobs = {choice: add_logs(row[list(tokens)].tolist()) for choice, tokens in ids.items()}
        likeliest = str(model.tokenizer.decode([int(row.argmax())]))
        job.call.settle(ChatReply(likeliest, usage=Usage(length, 1), model=model.name, logprobs=logprobs))


class _DrawRows:
    """A logits processor that leaves each row one token: greedy rows their likeliest by doing nothing, sampled rows
    one drawn from the row's own generator, by inverting the distribution function at one uniform number a step."""

    def __init__(self, jobs: Sequence[ChatJob]) -> None:
        import torch

        self._rows = [index for index, job in enumerate(jobs) if job.request.temperature > 0]
        sampled = [jobs[index] for index in self._rows]
        self._temperatures = torch.tensor([job.request.temperature for job in sampled])[:, None]
        self._top_ps = torch.tensor([job.request.top_p for job in sampled])[:, None]
        self._generators = [job.generator for job in sampled]

    def __call__(self, input_ids: torch.Tensor | None, scores: torch.Tensor) -> torch.Tensor:
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


def _drawing(jobs: Sequence[ChatJob]) -> DrawTokens:
    """The same for a running batch: logits to tokens."""
    draw = _DrawRows(jobs)
    return lambda logits: draw(None, logits.float()).argmax(-1)


class _Ends:
    """A stopping criterion for each row: its own length and stop strings, and that nobody waits for it any more."""

    def __init__(self, jobs: Sequence[ChatJob], width: int) -> None:
        self._jobs = jobs
        self._width = width

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        import torch

        count = input_ids.shape[1] - self._width
        rows = input_ids[:, self._width :].tolist() if any(job.request.stop for job in self._jobs) else None
        done = [
            job.abandoned or count >= job.limit or (rows is not None and job.ends(rows[at]))
            for at, job in enumerate(self._jobs)
        ]
        return torch.tensor(done, device=input_ids.device)
