"""Events of sessions, from those who work on turns to those who follow them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from agent.serve.database import Database
from agent.serve.wire import ServerEvent

BEAT_S = 15.0
_ROOM = 256
"""Events that wait for a slow listener; beyond that it reads them from the database again."""


class _Listener:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[ServerEvent | None] = asyncio.Queue(_ROOM)

    def tell(self, event: ServerEvent) -> None:
        if self.queue.full():
            return  # kept ones are read from the database, the others are not missed
        self.queue.put_nowait(event)

    def end(self) -> None:
        while self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Broker:
    """`poll_s`: how often listeners look for events of other servers; None where there are none.

    All methods belong to one event loop.
    """

    def __init__(self, database: Database, poll_s: float | None) -> None:
        self._database = database
        self._poll_s = poll_s
        self._listeners: defaultdict[str, set[_Listener]] = defaultdict(set)
        self._closed = False

    async def tell(
        self, session: str, turn: int, key: str, name: str, data: Mapping[str, Any], *, ends: str | None = None
    ) -> None:
        """Keeps an event, then sends it. One that was kept before under this key is not sent again. `ends`: the id of
        the turn that is over with it."""
        seq = await self._database.add_event(session, turn, key, name, data, ends=ends)
        if seq is not None:
            self._send(session, ServerEvent(id=seq, event=name, data={"turn": turn, **data}))

    def whisper(self, session: str, turn: int, name: str, data: Mapping[str, Any]) -> None:
        """Sends an event to those who listen now, and keeps nothing."""
        self._send(session, ServerEvent(id=None, event=name, data={"turn": turn, **data}))

    def end(self, session: str) -> None:
        """The session is gone."""
        self.whisper(session, 0, "deleted", {})
        for listener in self._listeners.get(session, ()):
            listener.end()

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.end()

    def listeners(self) -> int:
        return sum(map(len, self._listeners.values()))

    async def follow(self, session: str, after: int) -> AsyncGenerator[ServerEvent | None]:
        """The session's events behind the one numbered `after`, for as long as the server runs and the session is
        there. None: nothing has happened for a while."""
        listener = _Listener()
        self._listeners[session].add(listener)
        try:
            last = after
            quiet = 0.0
            while not self._closed:
                # From here on nothing is missed: what comes meanwhile is in the listener's queue.
                for row in await self._database.events(session, last):
                    last, quiet = row.seq, 0.0
                    yield ServerEvent(id=row.seq, event=row.name, data={"turn": row.turn, **row.data})
                while True:
                    wait_s = BEAT_S if self._poll_s is None else self._poll_s
                    try:
                        event = await asyncio.wait_for(listener.queue.get(), wait_s)
                    except TimeoutError:
                        quiet += wait_s
                        if quiet >= BEAT_S:
                            quiet = 0.0
                            yield None
                        break
                    if event is None:
                        return
                    if event.id is None:
                        yield event
                    elif event.id == last + 1:
                        last, quiet = event.id, 0.0
                        yield event
                    elif event.id > last:
                        break  # some are missing
        finally:
            self._listeners[session].discard(listener)
            if not self._listeners[session]:
                del self._listeners[session]

    def _send(self, session: str, event: ServerEvent) -> None:
        for listener in self._listeners.get(session, ()):
            listener.tell(event)
