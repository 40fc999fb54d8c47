"""What a server has to remember: conversations and their logs, turns, events, runs; on SQLite or PostgreSQL.

Pictures and run folders are files (see `agent.serve.files`). A turn is a row before anything is done for it, and the
server that works on it holds a lease; a turn whose lease ran out is continued by the first server that sees it.

Texts have their checksum behind them, and a row that is not what was written costs what it held: a record stands as a
damaged one in its conversation (`agent.chat.journal`), an event as one that says so. A SQLite file that is damaged as a file is
copied, row by row, when the server starts.

The SQL is the part that both databases share; statements are written with `?`. Calls run in
threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agent.chat.journal import DAMAGED, LogUnavailable
from agent.serve.errors import Busy, NotFound, TooMany
from agent.serve.metrics import log
from redraft.errors import ConfigError, one_line
from redraft.extras import require
from redraft.images import is_digest
from redraft.journal import Occupied, lock

T = TypeVar("T")
LEASE_S = 20.0
"""How long a server that is gone keeps its turns; held ones are renewed every quarter of it."""
_CONVERSATION = (
    "SELECT s.id, s.client, s.title, s.profile, s.parent, s.created, s.updated, s.turns, s.thumb, s.last_event, "
    "EXISTS (SELECT 1 FROM redraft_turns t WHERE t.conversation = s.id) FROM redraft_conversations s"
)
_ADD_RECORD = "INSERT INTO redraft_records (conversation, number, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_ADD_EVENT = "INSERT INTO redraft_events (conversation, seq, turn, key, name, data) VALUES (?, ?, ?, ?, ?, ?)"
_TEXTS = ("SELECT record FROM redraft_records", "SELECT data FROM redraft_events")
"""What mentions pictures, by their hashes."""
_MOST_MISSING = 10_000
"""So many rows in succession may be lost before no more are looked for."""
_MOST_PADDED = 2**40
_DIGEST = re.compile(r'"([0-9a-f]{64})"')
_TURN = "SELECT id, conversation, client, number, body, cancelled FROM redraft_turns"


class Database:
    """Raises LogUnavailable if the database cannot be used at the moment; then nothing was written, unless the answer to
    a commit was lost."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._watched: dict[str, tuple[tuple[str | None, int], float]] = {}
        """Turns of other servers: holder and beat when last seen, and since when these are the same."""

    async def _do(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._engine.threads, self._engine.transaction, work)

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.close)

    async def ping(self) -> None:
        await self._do(lambda c: c.execute("SELECT 1").fetchone())

    # Conversations

    async def add_conversation(self, id: str, client: str, title: str, profile: str, parent: str | None) -> None:
        """Does nothing if it is there."""
        now = _now()
        sql = (
            "INSERT INTO redraft_conversations (id, client, title, profile, parent, created, updated) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        )
        await self._do(lambda c: c.execute(sql, (id, client, title, profile, parent, now, now)))

    async def conversation(self, client: str, id: str) -> ConversationRow | None:
        sql = f"{_CONVERSATION} WHERE s.client = ? AND s.id = ?"
        row = await self._do(lambda c: c.execute(sql, (client, id)).fetchone())
        return None if row is None else _conversation(row)

    async def has_conversation(self, id: str) -> bool:
        sql = "SELECT 1 FROM redraft_conversations WHERE id = ?"
        return await self._do(lambda c: c.execute(sql, (id,)).fetchone() is not None)

    async def conversations(self, client: str) -> list[ConversationRow]:
        sql = f"{_CONVERSATION} WHERE s.client = ? ORDER BY s.updated DESC, s.id"
        return [_conversation(row) for row in await self._do(lambda c: c.execute(sql, (client,)).fetchall())]

    async def change_conversation(
        self, id: str, *, title: str | None = None, turns: int = 0, thumb: str | None = None
    ) -> None:
        """Changes what is not None; `turns` only ever grows."""

        def work(c: Connection) -> None:
            c.execute(
                "UPDATE redraft_conversations SET title = COALESCE(?, title), thumb = COALESCE(?, thumb), "
                "turns = CASE WHEN turns < ? THEN ? ELSE turns END, updated = ? WHERE id = ?",
                (title, thumb, turns, turns, _now(), id),
            )

        await self._do(work)

    async def delete_conversation(self, client: str, id: str) -> None:
        """Deletes it with its events, runs and records, in one moment in which it has no turn. The hashes of
        the pictures that it mentions are left over (`leftovers`). Raises Busy, NotFound."""

        def work(c: Connection) -> None:
            # The conversation's row is the lock: no turn is accepted meanwhile.
            locked = "UPDATE redraft_conversations SET last_event = last_event WHERE id = ? AND client = ?"
            if not c.execute(locked, (id, client)).rowcount:
                raise NotFound(f"there is no conversation {id!r}")
            if c.execute("SELECT 1 FROM redraft_turns WHERE conversation = ?", (id,)).fetchone() is not None:
                raise Busy("a turn is under way; cancel it first")
            shown: set[str] = set()
            for sql in _TEXTS:
                for (text,) in c.execute(f"{sql} WHERE conversation = ?", (id,)).fetchall():
                    shown.update(_DIGEST.findall(str(text)))
            for digest in shown:
                sql = "INSERT INTO redraft_leftovers (client, image) VALUES (?, ?) ON CONFLICT DO NOTHING"
                c.execute(sql, (client, digest))
            for table in ("redraft_events", "redraft_runs", "redraft_records"):
                c.execute(f"DELETE FROM {table} WHERE conversation = ?", (id,))
            c.execute("DELETE FROM redraft_conversations WHERE id = ?", (id,))

        await self._do(work)

    async def leftover_clients(self) -> list[str]:
        """The clients that have pictures of deleted conversations."""
        rows = await self._do(lambda c: c.execute("SELECT DISTINCT client FROM redraft_leftovers").fetchall())
        return [str(client) for (client,) in rows]

    async def leftovers(self, client: str) -> tuple[set[str], list[str]] | None:
        """The pictures of the client's deleted conversations that no other of its conversations mentions, and the
        folders of its runs, which may have them too. None while a turn of the client is under way."""

        def work(c: Connection) -> tuple[set[str], list[str]] | None:
            if c.execute("SELECT 1 FROM redraft_turns WHERE client = ?", (client,)).fetchone() is not None:
                return None
            rows = c.execute("SELECT image FROM redraft_leftovers WHERE client = ?", (client,)).fetchall()
            left = {image for (image,) in rows if isinstance(image, str) and is_digest(image)}
            for sql in _TEXTS if left else ():
                own = "WHERE conversation IN (SELECT id FROM redraft_conversations WHERE client = ?)"
                for (text,) in c.execute(f"{sql} {own}", (client,)):
                    left.difference_update(_DIGEST.findall(str(text)))
            runs = c.execute("SELECT folder FROM redraft_runs WHERE client = ?", (client,)).fetchall() if left else ()
            return left, [str(folder) for (folder,) in runs]

        return await self._do(work)

    async def forget_leftovers(self, client: str, images: Iterable[str] | None = None) -> None:
        """Says that these pictures of deleted conversations (None: all) are gone, or are wanted again."""

        def work(c: Connection) -> None:
            if images is None:
                c.execute("DELETE FROM redraft_leftovers WHERE client = ?", (client,))
            for image in images or ():
                c.execute("DELETE FROM redraft_leftovers WHERE client = ? AND image = ?", (client, image))

        await self._do(work)

    # Records of conversations

    def log(self, conversation: str) -> DatabaseLog:
        """The log of a conversation."""
        return DatabaseLog(self, conversation)

    async def records(self, conversation: str) -> list[dict[str, Any]]:
        """Those that are damaged as `{"is": "damaged"}`."""
        return await self._do(lambda c: _read_records(c, conversation))

    async def add_record(self, conversation: str, number: int, record: Mapping[str, Any]) -> bool:
        """False if there is a record of that number already."""
        values = (conversation, number, _dump(record))
        return bool(await self._do(lambda c: c.execute(_ADD_RECORD, values).rowcount))

    # Turns

    async def accept_turn(
        self, turn: TurnRow, record: Mapping[str, Any], number: int, *, event: EventRow, key: str, title: str,
        owner: str, most: int,
    ) -> int:  # fmt: skip
        """Accepts a turn, all of it or nothing: its row, its `record` with that number, its first event (whose own
        number is given out here), and a title for a conversation without one. The number of the event.

        Raises NotFound; Busy if the conversation has a turn; TooMany if the client has `most`; Occupied if there is a
        record of that number already, so that the turn was made for a conversation that stood otherwise.
        """

        def work(c: Connection) -> int:
            # The conversation's row is the lock, as in `add_event` and `delete_conversation`.
            row = c.execute(
                "UPDATE redraft_conversations SET last_event = last_event + 1, updated = ?, "
                "title = CASE WHEN title = '' THEN ? ELSE title END WHERE id = ? AND client = ? RETURNING last_event",
                (_now(), title, turn.conversation, turn.client),
            ).fetchone()
            if row is None:
                raise NotFound(f"there is no conversation {turn.conversation!r}")
            sql = "SELECT COUNT(*) FROM redraft_turns WHERE client = ?"
            if c.execute(sql, (turn.client,)).fetchone()[0] >= most:
                raise TooMany("as many of your turns are under way as may be; wait for one")
            added = c.execute(
                "INSERT INTO redraft_turns (id, conversation, client, number, body, owner) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (turn.id, turn.conversation, turn.client, turn.number, _dump(turn.body), owner),
            ).rowcount
            if not added:
                raise Busy("a turn is under way; wait for it, or cancel it")
            if not c.execute(_ADD_RECORD, (turn.conversation, number, _dump(record))).rowcount:
                raise Occupied("the conversation has changed meanwhile; try again")
            c.execute(_ADD_EVENT, (turn.conversation, row[0], turn.number, key, event.name, _dump(event.data)))
            return int(row[0])

        return await self._do(work)

    async def stand(self, client: str, id: str) -> tuple[ConversationRow, list[dict[str, Any]], TurnRow | None] | None:
        """How a conversation stands: its row, its records, and the turn under way, all of one moment (on PostgreSQL the
        row may be older than the rest, never younger)."""

        def work(c: Connection) -> tuple[ConversationRow, list[dict[str, Any]], TurnRow | None] | None:
            row = c.execute(f"{_CONVERSATION} WHERE s.client = ? AND s.id = ?", (client, id)).fetchone()
            if row is None:
                return None
            records = _read_records(c, id)
            turn = c.execute(f"{_TURN} WHERE conversation = ?", (id,)).fetchone()
            return _conversation(row), records, None if turn is None else _turn(turn)

        return await self._do(work)

    async def replies(self, client: str, most: int) -> list[tuple[str, str, str]]:
        """The latest replies in a client's conversations: (conversation, its title, the data of the event for `load_text`), from
        the latest changed conversation on."""
        sql = """SELECT s.id, s.title, e.data FROM redraft_events e JOIN redraft_conversations s ON s.id = e.conversation
            WHERE s.client = ? AND e.name = 'replied' ORDER BY s.updated DESC, s.id, e.seq DESC LIMIT ?"""
        rows = await self._do(lambda c: c.execute(sql, (client, most)).fetchall())
        return [(id, _text(title), data) for id, title, data in rows]

    async def turn(self, id: str) -> TurnRow | None:
        """A turn under way; None once it has ended."""
        row = await self._do(lambda c: c.execute(f"{_TURN} WHERE id = ?", (id,)).fetchone())
        return None if row is None else _turn(row)

    async def claim_turns(self, owner: str, *, everything: bool = False) -> list[TurnRow]:
        """Takes over the turns that no living server holds, and returns them. `everything`: also those that are held,
        if no other server can be there.

        A server that lives changes `beat` with every renewal. One whose beat has stood still for LEASE_S, on the
        monotonic clock of the server that watches it, is gone: no time of another machine is ever looked at.
        """

        def work(c: Connection) -> list[TurnRow]:
            now, watched, claimed = self._clock(), {}, []
            for id, holder, beat in c.execute("SELECT id, owner, beat FROM redraft_turns").fetchall():
                if holder == owner:
                    continue
                state, since = self._watched.get(id, (None, now))
                since = since if state == (holder, beat) else now
                watched[id] = ((holder, beat), since)
                if not everything and holder is not None and now - since <= LEASE_S:
                    continue
                claimed += c.execute(
                    "UPDATE redraft_turns SET owner = ?, beat = beat + 1 "
                    "WHERE id = ? AND COALESCE(owner, '') = ? AND beat = ? "
                    "RETURNING id, conversation, client, number, body, cancelled",
                    (owner, id, holder or "", beat),  # of two servers that see the same, one gets it
                ).fetchall()
            self._watched = watched
            return [_turn(row) for row in claimed]

        return await self._do(work)

    async def renew(self, owner: str) -> dict[str, bool]:
        """Holds on to this server's turns: their ids, and whether they were cancelled, elsewhere perhaps."""

        def work(c: Connection) -> dict[str, bool]:
            sql = "UPDATE redraft_turns SET beat = beat + 1 WHERE owner = ? RETURNING id, cancelled"
            return {id: bool(cancelled) for id, cancelled in c.execute(sql, (owner,)).fetchall()}

        return await self._do(work)

    async def release(self, owner: str) -> None:
        """Lets go of this server's turns, for others to take up at once."""
        await self._do(lambda c: c.execute("UPDATE redraft_turns SET owner = NULL WHERE owner = ?", (owner,)))

    async def cancel(self, conversation: str) -> bool:
        sql = "UPDATE redraft_turns SET cancelled = 1 WHERE conversation = ?"
        return bool(await self._do(lambda c: c.execute(sql, (conversation,)).rowcount))

    async def end_turn(self, id: str) -> None:
        await self._do(lambda c: c.execute("DELETE FROM redraft_turns WHERE id = ?", (id,)))

    # Events

    async def add_event(
        self, conversation: str, turn: int, key: str, name: str, data: Mapping[str, Any], *, ends: str | None = None
    ) -> int | None:
        """The event's number in its conversation; None if the turn has one of that key, or there is no conversation.
        The turn that it `ends`, by its id, is over in the same moment."""
        text = _dump(data)

        def work(c: Connection) -> int | None:
            if ends is not None:
                c.execute("DELETE FROM redraft_turns WHERE id = ?", (ends,))
            # The conversation's row is the lock: numbers are given out in the order in which events can be read.
            row = c.execute(
                "UPDATE redraft_conversations SET last_event = last_event + 1 WHERE id = ? AND NOT EXISTS "
                "(SELECT 1 FROM redraft_events WHERE conversation = ? AND turn = ? AND key = ?) RETURNING last_event",
                (conversation, conversation, turn, key),
            ).fetchone()
            if row is None:
                return None
            added = c.execute(
                f"{_ADD_EVENT} ON CONFLICT DO NOTHING",  # another server may have added it since
                (conversation, row[0], turn, key, name, text),
            ).rowcount
            return int(row[0]) if added else None

        return await self._do(work)

    async def events(self, conversation: str, after: int, most: int = 500) -> list[EventRow]:
        sql = "SELECT seq, turn, name, data FROM redraft_events WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?"
        rows = await self._do(lambda c: c.execute(sql, (conversation, after, most)).fetchall())
        return [_event(*row) for row in rows]

    # Runs

    async def add_run(self, id: str, client: str, conversation: str | None, folder: str) -> None:
        def work(c: Connection) -> None:
            c.execute(
                "INSERT INTO redraft_runs (id, client, conversation, folder, created) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (id, client, conversation, folder, _now()),
            )

        await self._do(work)

    async def run_folder(self, client: str, id: str) -> str | None:
        sql = "SELECT folder FROM redraft_runs WHERE client = ? AND id = ?"
        row = await self._do(lambda c: c.execute(sql, (client, id)).fetchone())
        return None if row is None else str(row[0])


def _conversation(row: Sequence[Any]) -> ConversationRow:
    """SQLite keeps values of any type in any column."""
    id, client, title, profile, parent, created, updated, turns, thumb, last_event, working = row
    return ConversationRow(
        id=_text(id), client=_text(client), title=_text(title), profile=_text(profile), parent=_text(parent) or None,
        created=_text(created), updated=_text(updated), turns=_whole_number(turns), thumb=_text(thumb) or None,
        last_event=_whole_number(last_event), working=bool(working),
    )  # fmt: skip


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _turn(row: Sequence[Any]) -> TurnRow:
    id, conversation, client, number, text, cancelled = row
    body = {"request": DAMAGED, "answers": False} | (load_text(text) or {})
    return TurnRow(id, str(conversation), str(client), _whole_number(number), body, bool(cancelled))


def _event(seq: int, turn: object, name: object, text: object) -> EventRow:
    data = load_text(text)
    if data is not None:
        return EventRow(seq, _whole_number(turn), str(name), data)
    if name in ("replied", "clarify", "failed"):  # whoever waits for the end of the turn has to hear of one
        return EventRow(seq, _whole_number(turn), "failed", {"error": "what was said of this turn's end is damaged"})
    return EventRow(seq, _whole_number(turn), "damaged", {})


def _read_records(c: Connection, conversation: str) -> list[dict[str, Any]]:
    """The records of a conversation, with damaged ones in the place of those that cannot be read or are not there. If turns that
    have events have no record, the last one says so: their numbers are not given out again."""
    # First, since a turn that is accepted meanwhile may be in what is read then.
    [latest] = c.execute("SELECT MAX(turn) FROM redraft_events WHERE conversation = ?", (conversation,)).fetchone()
    sql = "SELECT number, record FROM redraft_records WHERE conversation = ? ORDER BY number"
    records: list[dict[str, Any]] = []
    known = 0
    for number, text in c.execute(sql, (conversation,)).fetchall():
        if not isinstance(number, int) or not len(records) <= number < len(records) + _MOST_MISSING:
            continue
        records += [{"is": "damaged"} for _ in range(number - len(records))]
        record = load_text(text) or {"is": "damaged"}
        records.append(record)
        said = record.get("entry") or record.get("state") or record
        known = max(known, _whole_number(said.get("turn")))
    if known < _whole_number(latest) < known + _MOST_MISSING:
        if not records or records[-1].get("is") != "damaged":
            records.append({"is": "damaged"})
        records[-1]["turn"] = latest
    return records


def _dump(value: object) -> str:
    # PostgreSQL takes no NUL in text, not even an escaped one once it reads it as JSON.
    text = json.dumps(value, ensure_ascii=False).replace("\\u0000", "\\ufffd").encode("utf-8", "replace").decode()
    return f"{text}\n{zlib.crc32(text.encode()):08x}"


def load_text(text: object) -> dict[str, Any] | None:
    """The JSON object of a row's text; None if it is not what was written. Rows of earlier versions have no checksum."""
    if not isinstance(text, str):
        return None
    whole, end, checksum = text.rpartition("\n")
    if end and checksum != f"{zlib.crc32(whole.encode('utf-8', 'surrogatepass')):08x}":
        return None
    try:
        value = json.loads(whole if end else text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Connection(Protocol):
    """What sqlite3 and psycopg have in common."""

    def execute(self, sql: str, parameters: Sequence[object] = ...) -> Any: ...


class Engine(Protocol):
    threads: ThreadPoolExecutor

    def transaction(self, work: Callable[[Connection], T]) -> T: ...

    def close(self) -> None: ...


class Sqlite:
    """One connection, in one thread. A commit is in the system's hands when it returns: a process that is killed loses
    nothing, a machine that loses its power the last moments.

    A file that is damaged is mended first: what can be read of it is kept, and the file as it was is beside it, with ".damaged"
    behind its name."""

    def __init__(self, path: Path) -> None:
        self.threads = ThreadPoolExecutor(1, thread_name_prefix="redraft-database")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and not path.stat().st_size and any(path.parent.glob("clients/*/conversations/*/")):
                raise ConfigError(
                    f"{path} is empty, and there are conversations; bring a copy of it back, or delete it to begin anew"
                )
            self._connection = _connect(path)
            if _is_damaged(self._connection):
                self._connection.close()
                _mend(path)
                self._connection = _connect(path)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(SCHEMA)
            with self._connection:
                for statement in _AT_START:
                    self._connection.execute(statement)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise ConfigError(f"cannot use {path}: {one_line(error)}; choose another folder with --data") from error
            raise ConfigError(
                f"{path} is damaged, and nothing of it can be read ({one_line(error)}); bring a copy of it back, or move it "
                "away to begin anew"
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"cannot use {path}: {one_line(error)}; choose another folder with --data") from error
        self._lock = threading.Lock()

    def transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._lock, self._connection:
                return work(self._connection)
        except sqlite3.Error as error:
            raise LogUnavailable(f"the server's database failed: {one_line(error)}") from error

    def close(self) -> None:
        self.threads.shutdown()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")  # damaged text is text
    return connection


def _is_damaged(connection: sqlite3.Connection) -> bool:
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT:
            return True
        raise


def _mend(path: Path) -> None:
    """Puts a copy of all rows that can be read in the place of a damaged file. Raises sqlite3.Error, OSError."""
    for end in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{path}{end}", f"{path}.damaged{end}")
    copy = path.with_name(f"{path.name}.mended")
    copy.unlink(missing_ok=True)
    _pad(path)
    rows = {}
    with contextlib.closing(_connect(copy)) as mended, contextlib.closing(_connect(path)) as damaged:
        damaged.execute("SELECT name FROM sqlite_master").fetchall()  # if it cannot be read, nothing can
        mended.executescript(SCHEMA)
        for table in re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", SCHEMA):
            before = mended.total_changes
            for row in _readable_rows(damaged, table):
                with contextlib.suppress(sqlite3.IntegrityError):  # a value that must be there is not
                    mended.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            rows[table.removeprefix("redraft_")] = mended.total_changes - before
        mended.execute(_LOST_CONVERSATIONS)
        mended.commit()
    for end in ("-wal", "-shm"):  # they are of the other file
        path.with_name(f"{path.name}{end}").unlink(missing_ok=True)
    os.replace(copy, path)
    log("database mended", **rows)


def _pad(path: Path) -> None:
    """Brings a file that was cut to its length, since SQLite reads nothing of it otherwise."""
    with path.open("r+b") as file:
        head = file.read(32)
        page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
        length = (65536 if page == 1 else page) * pages
        if file.seek(0, os.SEEK_END) < length <= _MOST_PADDED:
            file.truncate(length)


def _readable_rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, in the order in which they were written, but for those on pages that cannot be read."""
    after, failures = 0, 0
    while failures < _MOST_MISSING:
        try:
            sql = f"SELECT rowid, * FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid"
            for row in connection.execute(sql, (after,)):
                after, failures = row[0], 0
                yield row[1:]
            return
        except sqlite3.DatabaseError:  # the page of the next row: those behind it may be whole
            after, failures = after + 1, failures + 1


class Postgres:
    """A pool of connections. Errors never show the URL: it may hold a password."""

    def __init__(self, url: str, *, connections: int = 8) -> None:
        require("postgres", "REDRAFT_DATABASE_URL is set")
        import psycopg
        from psycopg_pool import ConnectionPool, PoolTimeout

        self._faults: tuple[type[Exception], ...] = (psycopg.Error, PoolTimeout)
        self.threads = ThreadPoolExecutor(connections, thread_name_prefix="redraft-database")
        self._pool = ConnectionPool(url, min_size=1, max_size=connections, open=False, timeout=15)
        try:
            self._pool.open(wait=True, timeout=15)
            with self._pool.connection() as connection:
                # Two servers that start at once would both find no table and both make one.
                connection.execute("SELECT pg_advisory_xact_lock(7264661)")
                for statement in filter(str.strip, SCHEMA.split(";")):
                    connection.execute(statement)
        except self._faults as error:
            self._pool.close()
            raise ConfigError(
                f"cannot use the database of REDRAFT_DATABASE_URL ({type(error).__name__}); is it running, and do its "
                "name, user and password fit?"
            ) from error

    def transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._pool.connection() as connection:
                return work(_Questions(connection))
        except self._faults as error:
            raise LogUnavailable(f"the server's database failed: {type(error).__name__}") from error

    def close(self) -> None:
        self.threads.shutdown()
        self._pool.close()


class _Questions:
    """A psycopg connection that takes `?` for its parameters."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        return self._connection.execute(sql.replace("?", "%s"), parameters)


@contextlib.contextmanager
def sole_server(data: Path) -> Iterator[None]:
    """Keeps a second server with SQLite off the same folder. Raises ConfigError if there is one, or if the folder
    cannot be written."""
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use {data}: {error.strerror}; choose another folder with --data") from error
    with contextlib.ExitStack() as exits:
        try:
            exits.enter_context(lock(data / "lock"))
        except Occupied:
            raise ConfigError(
                f"another server works in {data}; stop it, choose another --data, or let both use PostgreSQL "
                "(REDRAFT_DATABASE_URL)"
            ) from None
        yield


SCHEMA = """
CREATE TABLE IF NOT EXISTS redraft_conversations (
  id TEXT PRIMARY KEY, client TEXT NOT NULL, title TEXT NOT NULL, profile TEXT NOT NULL, parent TEXT,
  created TEXT NOT NULL, updated TEXT NOT NULL, turns INTEGER NOT NULL DEFAULT 0, thumb TEXT,
  last_event INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS redraft_records (
  conversation TEXT NOT NULL, number INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (conversation, number));
CREATE INDEX IF NOT EXISTS redraft_conversations_client ON redraft_conversations (client, updated);
CREATE TABLE IF NOT EXISTS redraft_turns (
  id TEXT PRIMARY KEY, conversation TEXT NOT NULL, client TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
  owner TEXT, beat INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0, UNIQUE (conversation));
CREATE TABLE IF NOT EXISTS redraft_events (
  conversation TEXT NOT NULL, seq INTEGER NOT NULL, turn INTEGER NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL,
  data TEXT NOT NULL, PRIMARY KEY (conversation, seq), UNIQUE (conversation, turn, key));
CREATE TABLE IF NOT EXISTS redraft_runs (
  id TEXT PRIMARY KEY, client TEXT NOT NULL, conversation TEXT, folder TEXT NOT NULL, created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS redraft_leftovers (client TEXT NOT NULL, image TEXT NOT NULL, PRIMARY KEY (client, image));
CREATE INDEX IF NOT EXISTS redraft_runs_conversation ON redraft_runs (conversation);
"""


_LOST_CONVERSATIONS = """
INSERT OR IGNORE INTO redraft_conversations (id, client, title, profile, created, updated)
  SELECT conversation, MAX(client), '', '', MIN(created), MAX(created) FROM redraft_runs
  WHERE conversation IN (SELECT conversation FROM redraft_records) GROUP BY conversation
"""
"""Conversations whose own rows are lost: their runs say whose they are."""
_AT_START = (
    "UPDATE redraft_turns SET owner = NULL, beat = 0",  # nobody else is there (`sole_server`)
    f"DELETE FROM redraft_events WHERE typeof(seq) <> 'integer' OR seq NOT BETWEEN 1 AND {2**53}",
    f"""UPDATE redraft_conversations SET last_event = events.latest, turns = events.turns FROM (
      SELECT conversation, MAX(seq) AS latest, MAX(turn) AS turns FROM redraft_events GROUP BY conversation) AS events
    WHERE events.conversation = id AND (typeof(last_event) <> 'integer'
      OR last_event NOT BETWEEN latest AND latest + {_MOST_MISSING})""",
)
"""Also brings numbers that are given out to what was given out already, should a row be damaged."""


@dataclass(frozen=True)
class ConversationRow:
    id: str
    client: str
    title: str
    profile: str
    parent: str | None
    created: str
    updated: str
    turns: int
    thumb: str | None
    last_event: int
    working: bool | int


@dataclass(frozen=True)
class TurnRow:
    """A turn that was accepted and is not finished. `body`: the `request`, and whether it `answers` a question;
    `number`: the turn's number in the conversation."""

    id: str
    conversation: str
    client: str
    number: int
    body: dict[str, Any]
    cancelled: bool


@dataclass(frozen=True)
class EventRow:
    seq: int
    turn: int
    name: str
    data: dict[str, Any]


class DatabaseLog:
    """The log of a conversation in the database (`agent.chat.journal.ConversationLog`). Nobody is kept out: of two
    servers that work on one turn, the second to write a record gets Occupied, and reads what the first has written."""

    def __init__(self, database: Database, conversation: str) -> None:
        self._database = database
        self._conversation = conversation

    def hold(self) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    async def read(self) -> list[Mapping[str, Any]]:
        return list(await self._database.records(self._conversation))

    async def append(self, number: int, record: Mapping[str, Any]) -> None:
        if not await self._database.add_record(self._conversation, number, record):
            raise Occupied("another server works on this conversation; wait for it")
