"""What a server has to remember, and asks again: sessions, turns, events, runs (their rows: `agent.serve.tables`).

Pictures and run folders are files (see `agent.serve.places`). A turn is a row before anything is done for it, and the
server that works on it holds a lease; a turn whose lease ran out is taken up by whichever server sees it first.

The SQL is the part that both databases of `agent.serve.engines` share; statements are written with `?`. Calls run in
threads.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from agent.serve.engines import Connection, Engine
from agent.serve.tables import EventRow, SessionRow, TurnRow

T = TypeVar("T")
LEASE_S = 20.0
"""How long a server that is gone keeps its turns; held ones are renewed every quarter of it."""
_SESSION = (
    "SELECT s.id, s.client, s.title, s.profile, s.parent, s.created, s.updated, s.turns, s.thumb, s.last_event, "
    "EXISTS (SELECT 1 FROM redraft_turns t WHERE t.session = s.id) FROM redraft_sessions s"
)
_TURN = "SELECT id, session, client, number, body, cancelled FROM redraft_turns"


class Database:
    """Raises BackendError where the database cannot be used."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _do(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._engine.threads, self._engine.transaction, work)

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.close)

    async def ping(self) -> None:
        await self._do(lambda c: c.execute("SELECT 1").fetchone())

    # Sessions

    async def add_session(self, id: str, client: str, title: str, profile: str, parent: str | None, most: int) -> bool:
        """False where the client has `most` sessions already; nothing where it has this one."""

        def work(c: Connection) -> bool:
            if c.execute("SELECT 1 FROM redraft_sessions WHERE id = ?", (id,)).fetchone() is not None:
                return True
            [count] = c.execute("SELECT COUNT(*) FROM redraft_sessions WHERE client = ?", (client,)).fetchone()
            if count >= most:
                return False
            now = _now()
            c.execute(
                "INSERT INTO redraft_sessions (id, client, title, profile, parent, created, updated) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (id, client, title, profile, parent, now, now),
            )
            return True

        return await self._do(work)

    async def session(self, client: str, id: str) -> SessionRow | None:
        sql = f"{_SESSION} WHERE s.client = ? AND s.id = ?"
        row = await self._do(lambda c: c.execute(sql, (client, id)).fetchone())
        return None if row is None else _session(row)

    async def sessions(self, client: str) -> list[SessionRow]:
        sql = f"{_SESSION} WHERE s.client = ? ORDER BY s.updated DESC, s.id"
        return [_session(row) for row in await self._do(lambda c: c.execute(sql, (client,)).fetchall())]

    async def change_session(
        self, id: str, *, title: str | None = None, turns: int = 0, thumb: str | None = None
    ) -> None:
        """Changes what is given; `turns` only ever grows."""

        def work(c: Connection) -> None:
            c.execute(
                "UPDATE redraft_sessions SET title = COALESCE(?, title), thumb = COALESCE(?, thumb), "
                "turns = CASE WHEN turns < ? THEN ? ELSE turns END, updated = ? WHERE id = ?",
                (title, thumb, turns, turns, _now(), id),
            )

        await self._do(work)

    async def delete_session(self, id: str) -> list[str]:
        """Deletes it with its turns, events and runs; the folders of its runs."""

        def work(c: Connection) -> list[str]:
            folders = c.execute("SELECT folder FROM redraft_runs WHERE session = ?", (id,)).fetchall()
            for table in ("redraft_turns", "redraft_events", "redraft_runs"):
                c.execute(f"DELETE FROM {table} WHERE session = ?", (id,))
            c.execute("DELETE FROM redraft_sessions WHERE id = ?", (id,))
            return [folder for (folder,) in folders]

        return await self._do(work)

    # Turns

    async def add_turn(self, turn: TurnRow, owner: str, most: int) -> str:
        """ "" where it was added; else "busy" (the session has one) or "many" (the client has `most`)."""

        def work(c: Connection) -> str:
            sql = "SELECT COUNT(*) FROM redraft_turns WHERE client = ?"
            if c.execute(sql, (turn.client,)).fetchone()[0] >= most:
                return "many"
            added = c.execute(
                "INSERT INTO redraft_turns (id, session, client, number, body, owner, lease) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (turn.id, turn.session, turn.client, turn.number, _dump(turn.body), owner, time.time() + LEASE_S),
            ).rowcount
            return "" if added else "busy"

        return await self._do(work)

    async def set_turn(self, id: str, number: int, body: Mapping[str, Any]) -> None:
        """Says what a turn is that was added with number 0, which kept its place."""
        sql = "UPDATE redraft_turns SET number = ?, body = ? WHERE id = ?"
        await self._do(lambda c: c.execute(sql, (number, _dump(body), id)))

    async def turn_of(self, session: str) -> TurnRow | None:
        """The turn under way in a session."""
        row = await self._do(lambda c: c.execute(f"{_TURN} WHERE session = ?", (session,)).fetchone())
        return None if row is None else _turn(row)

    async def claim_turns(self, owner: str, *, everything: bool = False) -> list[TurnRow]:
        """Makes the turns that no living server holds this one's, and gives them; `everything`: those that are held as
        well, where no other server can be there."""

        def work(c: Connection) -> list[TurnRow]:
            now = time.time()
            rows = c.execute(
                f"UPDATE redraft_turns SET owner = ?, lease = ? WHERE id IN (SELECT id FROM redraft_turns "
                f"WHERE lease < ?{self._engine.skip_locked}) AND lease < ? "
                "RETURNING id, session, client, number, body, cancelled",
                (owner, now + LEASE_S, *(2 * (now + 1e9 if everything else now,))),
            ).fetchall()
            return [_turn(row) for row in rows]

        return await self._do(work)

    async def renew(self, owner: str) -> dict[str, bool]:
        """Holds on to this server's turns: their ids, and whether they were cancelled, elsewhere perhaps."""

        def work(c: Connection) -> dict[str, bool]:
            sql = "UPDATE redraft_turns SET lease = ? WHERE owner = ? RETURNING id, cancelled"
            rows = c.execute(sql, (time.time() + LEASE_S, owner)).fetchall()
            return {id: bool(cancelled) for id, cancelled in rows}

        return await self._do(work)

    async def release(self, owner: str) -> None:
        """Lets go of this server's turns, for others to take up at once."""
        await self._do(
            lambda c: c.execute("UPDATE redraft_turns SET owner = NULL, lease = 0 WHERE owner = ?", (owner,))
        )

    async def cancel(self, session: str) -> bool:
        sql = "UPDATE redraft_turns SET cancelled = 1 WHERE session = ?"
        return bool(await self._do(lambda c: c.execute(sql, (session,)).rowcount))

    async def end_turn(self, id: str) -> None:
        await self._do(lambda c: c.execute("DELETE FROM redraft_turns WHERE id = ?", (id,)))

    # Events

    async def add_event(
        self, session: str, turn: int, key: str, name: str, data: Mapping[str, Any], *, ends: str | None = None
    ) -> int | None:
        """The event's number in its session; None where there is one of that key in the turn already, or no session.
        The turn that it `ends`, by its id, is over in the same moment."""
        text = _dump(data)

        def work(c: Connection) -> int | None:
            if ends is not None:
                c.execute("DELETE FROM redraft_turns WHERE id = ?", (ends,))
            # The session's row is the lock: numbers are given out in the order in which events can be read.
            row = c.execute(
                "UPDATE redraft_sessions SET last_event = last_event + 1 WHERE id = ? AND NOT EXISTS "
                "(SELECT 1 FROM redraft_events WHERE session = ? AND turn = ? AND key = ?) RETURNING last_event",
                (session, session, turn, key),
            ).fetchone()
            if row is None:
                return None
            added = c.execute(
                "INSERT INTO redraft_events (session, seq, turn, key, name, data) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",  # another server may have told it since
                (session, row[0], turn, key, name, text),
            ).rowcount
            return int(row[0]) if added else None

        return await self._do(work)

    async def events(self, session: str, after: int, most: int = 500) -> list[EventRow]:
        sql = "SELECT seq, turn, name, data FROM redraft_events WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?"
        rows = await self._do(lambda c: c.execute(sql, (session, after, most)).fetchall())
        return [EventRow(seq, turn, name, json.loads(data)) for seq, turn, name, data in rows]

    # Runs

    async def add_run(self, id: str, client: str, session: str | None, folder: str) -> None:
        def work(c: Connection) -> None:
            c.execute(
                "INSERT INTO redraft_runs (id, client, session, folder, created) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (id, client, session, folder, _now()),
            )

        await self._do(work)

    async def run_folder(self, client: str, id: str) -> str | None:
        sql = "SELECT folder FROM redraft_runs WHERE client = ? AND id = ?"
        row = await self._do(lambda c: c.execute(sql, (client, id)).fetchone())
        return None if row is None else str(row[0])


def _session(row: Sequence[Any]) -> SessionRow:
    return SessionRow(*row)


def _turn(row: Sequence[Any]) -> TurnRow:
    id, session, client, number, body, cancelled = row
    return TurnRow(id, session, client, number, json.loads(body), bool(cancelled))


def _dump(value: object) -> str:
    # PostgreSQL takes no NUL in text, not even an escaped one once it reads it as JSON.
    return json.dumps(value, ensure_ascii=False).replace("\\u0000", "\\ufffd").encode("utf-8", "replace").decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
