"""Continuous batching: rows join a running batch as they come and leave it when they are done.

All rows share one key-value cache whose right edges are flush. A row that joins is read by itself (together with others
that join) and its part of the cache is padded on the left to the common width; rows that are done, and columns that are
padding for every row left, are cut away. Joining and leaving copy the cache, so they wait until an eighth of the rows
are free, or until nothing runs. A step copies nothing: the cache has room on its right, where transformers' own would
be written anew for each token, which took half of the time on a CPU.

Works for every causal model that keeps a plain cache of keys and values and takes positions; `can_refill` says which. A
row's text does not depend on its company, up to the rounding of batched arithmetic.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from redraft.local_models import cache_argument, cache_of

if TYPE_CHECKING:
    import torch

_JOIN_SHARE = 8
_ROOM = 64
"""Tokens for which a cache gets room at a time."""


class RefillJob(Protocol):
    """What a row is to the batch. `limit`: most tokens; `abandoned` is asked at every step."""

    @property
    def limit(self) -> int: ...

    @property
    def abandoned(self) -> bool: ...

    def ends(self, tokens: list[int]) -> bool:
        """Whether the row is done with these tokens, for a reason of its own (end token, stop string)."""
        ...


Draw = Callable[["torch.Tensor"], "torch.Tensor"]
"""Logits of the last position (rows, vocabulary) to the next token of each row (rows,)."""


@dataclass(eq=False)
class Running:
    """A row in the batch: its prompt's ids and the tokens that it has so far."""

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

    def __init__(self, model: Any, size: int, draw: Callable[[Sequence[Any]], Draw]) -> None:
        self._model = model
        self._takes_cache = cache_argument(model)
        self._size = size
        self._make_draw = draw
        self._rows: list[Running] = []
        self._cache: Any = None
        self._mask: torch.Tensor | None = None
        self._next: torch.Tensor | None = None
        self._done: set[int] = set()
        self._draw: Draw | None = None

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
