"""Drawing for a suite: batches of a fixed make-up, each picture once, all of them kept by the hash of their bytes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from agent.models import Models
from agent.types import stable_key
from editors.backend import ImageTask, render
from redraft.errors import BackendError
from redraft.journal import Journal
from redraft.store import ImageStore

PATIENCE = 3
"""So many batches in a row that fail end the run: a server that is gone does not come back by being asked."""


@dataclass(frozen=True)
class Draw:
    """One picture to draw."""

    prompt: str
    seed: int
    negative_prompt: str | None = None

    @property
    def key(self) -> str:
        return stable_key({"prompt": self.prompt, "seed": self.seed, "negative_prompt": self.negative_prompt})


def seed_of(seed: int, prompt: str, k: int) -> int:
    """Seed in [0, 2**31) of the k-th picture of a prompt: the same in every condition, so that they can be paired."""
    digest = hashlib.sha256(f"{seed}:{k}:{prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Easel:
    """Draws lists of pictures. A batch is in the journal whole or not at all, and is drawn again with the same make-up:
    a picture may differ in its last bits with its batch."""

    def __init__(self, models: Models, journal: Journal, store: ImageStore) -> None:
        self._models, self._journal, self._store = models, journal, store
        self._pictures: dict[str, asyncio.Future[str]] = {}
        self._failures = 0

    def promise(self, draws: Sequence[Draw]) -> list[Draw]:
        """Takes on what nobody has taken on yet, and returns it in order, for `work`."""
        loop = asyncio.get_running_loop()
        mine = [draw for draw in dict.fromkeys(draws) if draw.key not in self._pictures]
        for draw in mine:
            self._pictures[draw.key] = loop.create_future()
        return mine

    async def picture(self, draw: Draw) -> str:
        """The picture's hash, once it is drawn. Raises BackendError where it could not be."""
        return await asyncio.shield(self._pictures[draw.key])

    async def work(self, mine: Sequence[Draw]) -> None:
        """Draws what `promise` returned. Raises BackendError when PATIENCE batches in a row have failed."""
        size = self._models.batch_size
        for start in range(0, len(mine), size):
            batch = mine[start : start + size]
            known = [self._journal.get(("picture", draw.key)) for draw in batch]
            if all(value is not None and value in self._store for value in known):
                for draw, value in zip(batch, known, strict=True):
                    self._pictures[draw.key].set_result(str(value))
                continue
            started = time.monotonic()
            loop = asyncio.get_running_loop()
            try:
                hashes = await loop.run_in_executor(self._models.renderer, self._draw, batch)
            except BackendError as error:
                self._give_up(batch, error)
                self._failures += 1
                if self._failures >= PATIENCE:
                    self._give_up(mine[start + size :], error)
                    raise
                continue
            self._failures = 0
            made = {("picture", draw.key): value for draw, value in zip(batch, hashes, strict=True)}
            self._journal.put_all(made, seconds=time.monotonic() - started)
            for draw, value in zip(batch, hashes, strict=True):
                self._pictures[draw.key].set_result(value)

    def _draw(self, batch: Sequence[Draw]) -> list[str]:
        tasks = [ImageTask(draw.prompt, draw.seed, negative_prompt=draw.negative_prompt) for draw in batch]
        return [self._store.put(picture) for picture in render(self._models.generator, tasks)]

    def _give_up(self, draws: Sequence[Draw], error: BackendError) -> None:
        for draw in draws:
            future = self._pictures[draw.key]
            future.set_exception(error)
            future.exception()  # nobody may be waiting for it
