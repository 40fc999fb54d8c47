"""What an evaluation has already paid for, in a folder that one process at a time may use.

    OUT/settings.json      what the run is: suite, data and their hashes, profile, conditions
    OUT/state/book.jsonl   every finished piece of work, keyed by its question
    OUT/state/images/      pictures by the hash of their bytes

A killed run goes on from its book. Pieces are keyed by content, so equal prompts, pictures and questions are paid for
once, whatever item or condition asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from redraft.errors import InputError
from redraft.files import write_atomically

Key = tuple[str, str]
"""(kind of work, what it is about)."""


class Book:
    """Finished work by key: JSON values in an append-only file. A line torn by a kill is cut off on opening."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values: dict[Key, Any] = {}
        self.seconds: dict[str, float] = {}
        """By kind: time that the pieces took, kept over restarts."""
        self._under_way: dict[Key, asyncio.Future[Any]] = {}
        for number, line in enumerate(_whole_lines(path), start=1):
            try:
                entry = json.loads(line)
                self._take(entry["kind"], entry["key"], entry["value"], entry["seconds"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}, line {number}, cannot be read ({error}); use another --out") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def close(self) -> None:
        self._file.close()

    def get(self, kind: str, key: str) -> Any | None:
        return self._values.get((kind, key))

    def values(self, kind: str) -> list[Any]:
        """Every value of a kind, in the order in which their keys first came."""
        return [value for (have, _), value in self._values.items() if have == kind]

    def put(self, kind: str, values: Mapping[str, Any], seconds: float) -> None:
        """Notes pieces that were made together, all or none of them after a kill."""
        share = round(seconds / max(1, len(values)), 6)
        lines = [{"kind": kind, "key": key, "value": value, "seconds": share} for key, value in values.items()]
        try:
            self._file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error
        for line in lines:
            self._take(kind, str(line["key"]), line["value"], share)

    async def once(self, kind: str, key: str, make: Callable[[], Awaitable[Any]], *, again: bool = False) -> Any:
        """The value of a piece of work: from the book, from whoever is at it, or else made now and noted.

        `again` makes it anew although the book has it.
        """
        at = (kind, key)
        if at in self._values and not again:
            return self._values[at]
        if at in self._under_way:
            return await asyncio.shield(self._under_way[at])
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._under_way[at] = future
        started = time.monotonic()
        try:
            value = await make()
            self.put(kind, {key: value}, time.monotonic() - started)
            future.set_result(value)
        except BaseException as error:
            future.set_exception(error) if isinstance(error, Exception) else future.cancel()
            if not future.cancelled():
                future.exception()  # somebody has looked: this coroutine raises it
            raise
        finally:
            del self._under_way[at]
        return value

    def _take(self, kind: str, key: str, value: Any, seconds: float) -> None:
        self._values[kind, key] = value
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds


def _whole_lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    try:
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            os.truncate(path, end)
    except OSError as error:
        raise InputError(f"cannot use {path}: {error.strerror}") from error
    return data[:end].split(b"\n")[:-1]


@contextlib.contextmanager
def opened(out: Path, settings: Mapping[str, Any]) -> Iterator[Book]:
    """The book in the folder `out`, begun with `settings` or gone on with under the same ones.

    Raises InputError where another process uses the folder, where it was begun with other settings (a changed data file
    among them), or where it cannot be written.
    """
    try:
        (out / "state").mkdir(parents=True, exist_ok=True)
        lock = os.open(out / "state" / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror}; choose another --out") from error
    try:
        _lock(lock, out)
        _same_settings(out, settings)
        book = Book(out / "state" / "book.jsonl")
        try:
            yield book
        finally:
            book.close()
    finally:
        os.close(lock)


def _lock(handle: int, out: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such thing on Windows: two runs in one folder are not kept apart there
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"another evaluation is at work in {out}; wait for it, or choose another --out") from None


def _same_settings(out: Path, settings: Mapping[str, Any]) -> None:
    path = out / "settings.json"
    wanted = json.loads(json.dumps(settings))
    if not path.exists():
        write_atomically(path, (json.dumps(wanted, indent=2, ensure_ascii=False) + "\n").encode())
        return
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); choose another --out") from error
    if begun == wanted:
        return
    changed = differences(begun, wanted)
    files = [name.removeprefix("data.") for name in changed if name.startswith("data.")]
    what = f"{', '.join(files)} changed since" if files else f"other settings ({', '.join(changed[:5])}) belong to"
    raise InputError(f"{what} the run in {out} began; choose another --out, or put back what it was begun with")


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Dotted names of the leaves in which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        names: Sequence[str] = sorted({*old, *new})
        inner = (differences(old.get(n), new.get(n), f"{at}.{n}" if at else n) for n in names)
        return [name for found in inner for name in found]
    return [] if old == new else [at or "all of it"]
