"""Where each prompt's record lies: an index on disk, so that memory stays flat however many prompts there are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from redraft.errors import InputError

PENDING = -1
_CACHE_KIB = 32 * 1024
_MOST = 500
"""Keys in one question; SQLite takes at least 999 parameters."""


class Index:
    """Key (16 bytes) to place (an integer). Scratch: it is made anew from the records each time, and never synced.

    Raises InputError where the disk does not take it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        for old in path.parent.glob(f"{path.name}*"):
            old.unlink(missing_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for pragma in (
                "journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", "temp_store=MEMORY",
                f"cache_size=-{_CACHE_KIB}",
            ):  # fmt: skip
                self._db.execute(f"PRAGMA {pragma}")
            self._db.execute("CREATE TABLE place (key BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID")
        except sqlite3.Error as error:
            raise self._error(error) from error

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The places of those keys that are known."""
        found: dict[bytes, int] = {}
        try:
            for start in range(0, len(keys), _MOST):
                some = keys[start : start + _MOST]
                marks = ",".join("?" * len(some))
                found.update(self._db.execute(f"SELECT key, at FROM place WHERE key IN ({marks})", some))
        except sqlite3.Error as error:
            raise self._error(error) from error
        return found

    def put(self, places: Iterable[tuple[bytes, int]]) -> None:
        """Sets places; a later one replaces an earlier one."""
        try:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO place VALUES (?, ?)", places)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._error(error) from error

    def claim(self, keys: Sequence[bytes]) -> list[int | None]:
        """None for each key that nobody had: it is PENDING from then on. For the others their place, or PENDING."""
        known = self.find(keys)
        found: list[int | None] = []
        new: list[tuple[bytes, int]] = []
        for key in keys:
            found.append(known.get(key))
            if key not in known:
                known[key] = PENDING
                new.append((key, PENDING))
        self.put(new)
        return found

    def close(self) -> None:
        self._db.close()
        self._path.unlink(missing_ok=True)

    def _error(self, error: sqlite3.Error) -> InputError:
        return InputError(f"cannot write {self._path}: {error}; free some space, or choose another folder with --work")
