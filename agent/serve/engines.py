"""The databases that can stand under a server: SQLite for one server, PostgreSQL for several.

Both make their tables when they are opened, run work as transactions in threads of their own, and raise our errors.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agent.serve.tables import SCHEMA
from redraft.errors import BackendError, ConfigError, one_line

T = TypeVar("T")


class Connection(Protocol):
    """What sqlite3 and psycopg have in common."""

    def execute(self, sql: str, parameters: Sequence[object] = ...) -> Any: ...


class Engine(Protocol):
    """`skip_locked`: what a SELECT ends with that leaves out rows another server is changing."""

    threads: ThreadPoolExecutor
    skip_locked: str

    def transaction(self, work: Callable[[Connection], T]) -> T: ...

    def close(self) -> None: ...


class Sqlite:
    """One connection, in one thread. A commit is in the system's hands when it returns: a process that is killed loses
    nothing, a machine that loses its power the last moments."""

    skip_locked = ""

    def __init__(self, path: Path) -> None:
        self.threads = ThreadPoolExecutor(1, thread_name_prefix="redraft-database")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=30)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"cannot use {path}: {one_line(error)}; choose another folder with --data") from error
        self._lock = threading.Lock()

    def transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._lock, self._connection:
                return work(self._connection)
        except sqlite3.Error as error:
            raise BackendError(f"the server's database failed: {one_line(error)}") from error

    def close(self) -> None:
        self.threads.shutdown()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


class Postgres:
    """A pool of connections. Errors never show the URL: it may hold a password."""

    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str, *, connections: int = 8) -> None:
        try:
            import psycopg
            from psycopg_pool import ConnectionPool, PoolTimeout
        except ImportError as error:
            raise ConfigError(f"{error}; install redraft[postgres]") from error
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
            raise BackendError(f"the server's database failed: {type(error).__name__}") from error

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
    """Keeps a second server with SQLite off the same folder. Raises ConfigError where there is one."""
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another server works in {data}; stop it, choose another --data, or let both use PostgreSQL "
                "(REDRAFT_DATABASE_URL)"
            ) from None
        yield
