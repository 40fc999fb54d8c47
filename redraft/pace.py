"""How many calls a server gets at once: learnt from how it answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Pace:
    """Slots for calls: `start` at first, one more for each answer (twice as many each round trip) until the server
    pushes back; that halves them, and from then on they grow by one a round trip. Never more than `most`.

    Additive increase, multiplicative decrease (Chiu and Jain, 1989) behind a slow start, as TCP does. Calls that were
    under way when the slots were halved say nothing new when they are pushed back too, and do not halve them again.
    Belongs to one event loop; callers get slots in the order in which they came.
    """

    def __init__(self, start: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = float(min(start, most))
        self._most = most
        self._clock = clock
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._probing = True
        self._cut_at = float("-inf")

    @property
    def limit(self) -> int:
        return int(self._limit)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Waits for a slot and holds it. Gives the time of entry, for `pushed_back`."""
        if self._busy >= self.limit or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._busy -= 1  # the slot came with the cancellation
                elif turn in self._waiting:
                    self._waiting.remove(turn)
                self._wake()
                raise
        else:
            self._busy += 1
        try:
            yield self._clock()
        finally:
            self._busy -= 1
            self._wake()

    def answered(self) -> None:
        """A call came back well."""
        self._limit = min(float(self._most), self._limit + (1.0 if self._probing else 1.0 / self._limit))

    def pushed_back(self, begun: float) -> None:
        """A call that began at `begun` was refused for now, or not answered in time."""
        if begun > self._cut_at:
            self._cut_at = self._clock()
            self._limit = max(1.0, self._limit / 2)
        self._probing = False

    def _wake(self) -> None:
        while self._waiting and self._busy < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._busy += 1
                turn.set_result(None)
