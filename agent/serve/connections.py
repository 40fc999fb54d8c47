"""Connections: their headers arrive in time, and there are never more of them than leave room for the work."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.serve.settings import Bounds

_RESERVED = 256
"""Descriptors that are not for connections: databases, journals, pictures and pipes of the turns under way."""


def make_protocol(bounds: Bounds, most: int | None = None) -> type[asyncio.Protocol]:
    """uvicorn's HTTP/1.1 protocol with bounds, for its `http` option. `most` connections, as many as there is room for if
    None.

    A connection that waits (no request of it is being answered) for longer than `bounds.idle_s` is closed, however
    slowly its next headers drip in. If there are too many, the one that has waited longest makes room; if all are at
    work, the new one is closed. How many requests of one client are at work at once is `max_requests` (the guard).
    """
    allowed = most or connection_room()

    class Protocol(H11Protocol):
        waits_since: float | None = None
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()
            if len(self.connections) > allowed:
                # The set of connections is ours alone: ws="none".
                waiting = [other for other in self.connections if isinstance(other, Protocol) and other.waits_since]
                longest = min(waiting, key=lambda other: other.waits_since or 0.0, default=self)
                longest.leave()

        def connection_lost(self, exc: Exception | None) -> None:
            self._rest_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def leave(self) -> None:
            self.connections.discard(self)
            self.transport.abort()

        def _watch(self) -> None:
            """Starts the clock if this connection waits, stops it if it is at work."""
            cycle: Any = self.cycle
            if cycle is not None and not cycle.response_complete:
                self._rest_timer()
            elif self._timer is None and not self.transport.is_closing():
                self.waits_since = self.loop.time()
                self._timer = self.loop.call_later(bounds.idle_s, self.leave)

        def _rest_timer(self) -> None:
            self.waits_since = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Protocol


def connection_room() -> int:
    """How many connections this process may have, once its limit of descriptors is raised as far as it may be."""
    try:
        import resource
    except ImportError:  # Windows
        return 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(soft - _RESERVED, soft // 2)
