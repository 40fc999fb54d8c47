"""Journals: what finished work made, kept so that no piece of it is ever paid for twice.

    with Journal(Path("work.jsonl"), "rewrites") as journal:
        text = journal.once("two red stars", lambda: ask_model("two red stars"))     # asks the model
        text = journal.once("two red stars", lambda: ask_model("two red stars"))     # reads the journal

The file is JSON lines. The first line names the kind of the journal and its version; every other one is an entry:

    {"crc": "1c291ca3", "key": ["report", "ab12"], "value": {...}, "seconds": 0.25}

An entry is on the disk (fsync) before it counts. A process can be killed at any moment: the half line that it may leave
at the end is cut off when the journal is opened again, and so is a group of entries that belong together if the group
is not whole. Any other line that does not match its checksum is an error, which names the line; `salvage` keeps the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, NamedTuple, Self

from redraft.errors import InputError
from redraft.files import NO_LINK, sync_folder, write_atomically

Key = str | tuple[str, ...]
"""What an entry is about. A tuple begins with a kind of entries."""

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK | getattr(os, "O_BINARY", 0)  # Windows would write "\r\n"
_START = b'{"crc": "'
_to_json = json.JSONEncoder(ensure_ascii=False).encode
_CRC_END = len(_START) + 8
"""Where the checksum ends. It is taken over all that follows it in the line."""


class Occupied(InputError):  # noqa: N818
    """Another process works here."""


class DamagedJournal(InputError):  # noqa: N818
    """A line of the file is not what was written. `salvage` keeps the others."""


class OtherJournal(InputError):  # noqa: N818
    """The file is a journal of another kind or version, was begun with other settings, or is no journal at all."""

    def __init__(self, message: str, changed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.changed = changed
        """Dotted names of the settings that differ."""


class Entry(NamedTuple):
    key: Key
    value: Any
    """A JSON value."""
    seconds: float = 0.0
    """How long it took to make."""
    offset: int = 0
    """Where its line begins in the file, in bytes."""

    @property
    def kind(self) -> str:
        return self.key if isinstance(self.key, str) else self.key[0]


class JournalFile:
    """A journal on disk, of which nothing is held in memory: for callers that have an index of their own.

    kind:    what the journal is of, such as "run". A file of another kind or `version` is refused.
    about:   settings that all entries depend on, as JSON. A file that was begun with others is refused.
    advice:  the end of every error message about the file's content: what the user can do.
    shared:  several processes may write, one at a time. If False, a second process gets `Occupied`. (On systems without
             `fcntl`, nothing is kept out.)

    Raises OtherJournal, Occupied, and InputError if the file is damaged or cannot be written. Threads may share one.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        *,
        version: int = 1,
        about: Mapping[str, Any] | None = None,
        advice: str = "delete it to begin anew",
        shared: bool = False,
    ) -> None:
        self.path = path
        self._head = _Head(path, kind, version, None if about is None else json.loads(json.dumps(about)), advice)
        self._shared = shared
        self._end = 0
        """Up to here the file has been read or written by us."""
        self._lines = 0
        self._named = path.exists()
        """Whether the file's name is on the disk."""
        self._mutex = threading.RLock()
        self._turns = 0
        self._handle = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, _APPEND, 0o644)
            if not shared:
                _lock(self._handle, path)
        except OSError as error:
            raise self._unusable(error) from error
        except Occupied:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and frees its lock. A second call does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def load(self) -> Iterator[Entry]:
        """The entries that were not loaded or appended before, in order of writing. Before a non-empty file is appended
        to, it has to be loaded to its end."""
        with self._mutex, self._turn():
            try:
                if os.fstat(self._handle).st_size == self._end:
                    return
                for end, lines, entries in _scan(self._head, self._end, self._lines):
                    self._end, self._lines = end, lines
                    yield from entries
                if os.fstat(self._handle).st_size > self._end:
                    os.ftruncate(self._handle, self._end)
            except OSError as error:
                raise self._unusable(error) from error

    def append(self, entries: Iterable[Entry], *, together: bool = False, sync: bool = True) -> list[int]:
        """Writes entries and returns their offsets. `together`: after a kill, either all of them are there or none.
        Without `sync`, they survive a kill but not a loss of power, until something else is synced."""
        with self._mutex, self._turn():
            if self._shared:
                self._catch_up()
            waiting = list(entries)
            if not waiting and (self._end or self._head.about is None):
                return []  # settings are written at once: they say what the file is for
            data = [] if self._end else [self._head.line()]
            offsets, end = [], self._end + sum(map(len, data))
            for left, entry in zip(range(len(waiting) - 1, -1, -1), waiting, strict=True):
                data.append(_entry_line(entry, more=together and left > 0))
                offsets.append(end)
                end += len(data[-1])
            try:
                self._write(b"".join(data), sync)
                if sync and not self._named:
                    sync_folder(self.path.parent)
                    self._named = True
            except BaseException as error:  # Ctrl-C and a full disk leave no half line for the next entry to follow
                with contextlib.suppress(OSError):
                    os.ftruncate(self._handle, self._end)
                if isinstance(error, OSError):
                    raise self._unusable(error) from error
                raise
            self._end, self._lines = end, self._lines + len(data)
        return offsets

    def _write(self, data: bytes, sync: bool) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
        if sync:
            os.fsync(self._handle)

    def _catch_up(self) -> None:
        for _ in self.load():
            pass

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Holds the file while it is read or written, if other processes share it."""
        if not self._shared or fcntl is None:
            yield
            return
        if not self._turns:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        self._turns += 1
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns:
                fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _unusable(self, error: OSError) -> InputError:
        return InputError(f"cannot write {self.path}: {_reason(error)}")


class Journal(JournalFile):
    """A journal of which the entries are also held in memory. Takes what `JournalFile` takes.

    Iteration gives all entries in the order of writing, also those that were replaced later.
    """

    def __init__(self, path: Path, kind: str, **options: Any) -> None:
        super().__init__(path, kind, **options)
        self._entries: list[Entry] = []
        self._latest: dict[Key, Entry] = {}
        self._under_way: dict[Key, Future[Any]] = {}
        try:
            self._catch_up()
            if self._head.about is not None:
                self.append([])
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def __contains__(self, key: Key) -> bool:
        return self._find(key) is not None

    def get(self, key: Key) -> Any | None:
        """The latest value of `key`. None if there is none (or if that is the value: see `in`)."""
        entry = self._find(key)
        return None if entry is None else entry.value

    def values(self, kind: str) -> list[Any]:
        """The latest values of all keys that begin with `kind`, in the order in which the keys first came."""
        return [entry.value for entry in self._latest.values() if entry.kind == kind]

    def seconds(self) -> dict[str, float]:
        """How long all entries of a kind took to make, over all processes that made them."""
        total: dict[str, float] = {}
        for entry in self._entries:
            total[entry.kind] = total.get(entry.kind, 0.0) + entry.seconds
        return total

    def put(self, key: Key, value: Any, *, seconds: float = 0.0, sync: bool = True) -> None:
        """Writes an entry. It replaces an earlier one of the same key."""
        self.put_all({key: value}, seconds=seconds, sync=sync)

    def put_all(self, values: Mapping[Any, Any], *, seconds: float = 0.0, sync: bool = True) -> None:
        """Writes what was made together: after a kill all of it is there, or nothing. `seconds` is for all of it."""
        share = round(seconds / max(1, len(values)), 6)
        entries = [Entry(key, value, share) for key, value in values.items()]
        with self._mutex:
            offsets = self.append(entries, together=True, sync=sync)
            for entry, offset in zip(entries, offsets, strict=True):
                self._take(entry._replace(offset=offset))

    def once(self, key: Key, make: Callable[[], Any], *, again: bool = False) -> Any:
        """The value of `key`: from the journal, from another thread that is making it, or else made now and written.

        `again` makes it anew although the journal has it.
        """
        while True:
            entry, future, mine = self._begin(key, again)
            if entry is not None:
                return entry.value
            if mine:
                with self._making(key, future) as finish:
                    return finish(make())
            try:
                return future.result()
            except CancelledError:  # the caller that was making it was cancelled
                continue

    async def aonce(self, key: Key, make: Callable[[], Awaitable[Any]], *, again: bool = False) -> Any:
        """`once` for coroutines: callers that ask for the same key at the same time share one call of `make`."""
        while True:
            entry, future, mine = self._begin(key, again)
            if entry is not None:
                return entry.value
            if mine:
                with self._making(key, future) as finish:
                    return finish(await make())
            try:
                return await asyncio.shield(asyncio.wrap_future(future))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not future.cancelled() or (task is not None and task.cancelling()):
                    raise

    def _begin(self, key: Key, again: bool) -> tuple[Entry | None, Future[Any], bool]:
        """The entry, the future of the call that makes it, and whether that is this call."""
        with self._mutex:
            future = self._under_way.get(key)
            entry = None if again else self._find(key)
            if future is not None or entry is not None:
                return entry, future or Future(), False
            future = self._under_way[key] = Future()
            return None, future, True

    @contextlib.contextmanager
    def _making(self, key: Key, future: Future[Any]) -> Iterator[Callable[[Any], Any]]:
        started = time.monotonic()

        def finish(value: Any) -> Any:
            self.put(key, value, seconds=time.monotonic() - started)
            future.set_result(value)
            return value

        try:
            yield finish
        except BaseException as error:
            future.set_exception(error) if isinstance(error, Exception) else future.cancel()
            raise
        finally:
            with self._mutex:
                del self._under_way[key]

    def _find(self, key: Key) -> Entry | None:
        entry = self._latest.get(key)
        if entry is None and self._shared:
            self._catch_up()
            entry = self._latest.get(key)
        return entry

    def _catch_up(self) -> None:
        with self._mutex:
            for entry in self.load():
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._latest[entry.key] = entry


def read_journal(
    path: Path, kind: str, *, version: int = 1, advice: str = "delete it to begin anew"
) -> Iterator[Entry]:
    """The entries of a file that another process may be writing: without a lock, and nothing is cut off. Raises
    OtherJournal, InputError."""
    for _, _, entries in _scan(_Head(path, kind, version, None, advice), 0, 0):
        yield from entries


def read_undamaged(path: Path, kind: str, *, version: int = 1) -> Iterator[Entry | None]:
    """The entries of a file with damaged lines, and None for each of these. Groups of entries that belong together are
    taken apart, and a half line at the end is passed over. Raises OtherJournal if no line is whole or the file is of another
    kind or version, InputError if it cannot be read."""
    head = _Head(path, kind, version, None, "it cannot be mended")
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise InputError(f"cannot read {path}: {_reason(error)}") from error
    at, whole = 0, 0
    for number, line in enumerate(lines):
        entry = None
        with contextlib.suppress(ValueError, KeyError, TypeError):
            fields = _parse_line(line + b"\n")
            whole += 1
            if number == 0:
                head.check(fields)
            else:
                entry = _as_entry(fields, at)
        if number > 0 or not whole:
            yield entry
        at += len(line) + 1
    if not whole:
        raise head.foreign()


def rewrite(path: Path, kind: str, entries: Iterable[Entry], *, version: int = 1) -> None:
    """Writes a damaged journal anew, with these entries. The file as it was is kept beside it, with ".damaged" behind its
    name. Raises InputError if that cannot be written. Nobody else may write to the file meanwhile."""
    head = _Head(path, kind, version, None, "it cannot be mended")
    try:
        write_atomically(path.with_name(f"{path.name}.damaged"), path.read_bytes())
        write_atomically(path, b"".join([head.line(), *(_entry_line(entry, more=False) for entry in entries)]))
    except OSError as error:
        raise InputError(f"cannot mend {path}: {error.strerror or error}") from error


def salvage(path: Path, kind: str, *, version: int = 1) -> int:
    """Leaves the lines out that are damaged, for journals whose entries stand each for itself, and returns how many there
    were. Raises what `read_undamaged` and `rewrite` raise. Nobody may have it open."""
    lines = list(read_undamaged(path, kind, version=version))
    whole = [entry for entry in lines if entry is not None]
    rewrite(path, kind, whole, version=version)
    return len(lines) - len(whole)


def read_entry(handle: int, offset: int, *, guess: int = 2048) -> Entry:
    """The entry that begins at `offset` of an open file. Raises ValueError if there is none, or it is damaged."""
    while True:
        data = os.pread(handle, guess, offset)
        end = data.find(b"\n")
        if end >= 0 or len(data) < guess:
            break
        guess *= 8
    return _as_entry(_parse_line(data[: end + 1]), offset)


@contextlib.contextmanager
def lock(path: Path, place: Path | None = None) -> Iterator[None]:
    """Keeps other processes out of `place` (the folder of `path` if None) by a lock on the file `path`, which is made.
    The system frees it however this process ends. Raises Occupied if another process holds it, InputError if the file
    cannot be written. On systems without `fcntl` nothing is kept out."""
    place = place or path.parent
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o644)
    except OSError as error:
        raise InputError(f"cannot write to {place}: {_reason(error)}") from error
    try:
        _lock(handle, place)
        yield
    finally:
        os.close(handle)


def differences(old: Any, new: Any, at: str = "") -> tuple[str, ...]:
    """Dotted names of the leaves in which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        return tuple(leaf for n in names for leaf in differences(old.get(n), new.get(n), f"{at}.{n}" if at else n))
    return () if old == new else (at or "all of it",)


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def _reason(error: OSError) -> str:
    return (
        "it is a symbolic link, which is not followed" if error.errno == errno.ELOOP else error.strerror or str(error)
    )


def _lock(handle: int, place: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Occupied(f"another process works on {place}; wait for it or stop it") from None


class _Head(NamedTuple):
    """What the first line of a file has to say."""

    path: Path
    kind: str
    version: int
    about: Any
    advice: str

    def line(self) -> bytes:
        fields = {"journal": self.kind, "version": self.version}
        return _as_line(fields if self.about is None else {**fields, "about": self.about})

    def check(self, fields: Mapping[str, Any]) -> None:
        """Raises OtherJournal if `fields` are not those of this head."""
        kind, version = fields.get("journal"), fields.get("version")
        if kind != self.kind:
            raise OtherJournal(f"{self.path} is no journal of the kind {self.kind!r}; {self.advice}")
        if version != self.version:
            raise OtherJournal(
                f"{self.path} is of another version of redraft (its version is {version}, this one reads "
                f"{self.version}); {self.advice}"
            )
        changed = () if self.about is None else differences(fields.get("about"), self.about)
        if changed:
            names = ", ".join(changed[:5])
            raise OtherJournal(f"{self.path} was begun with other settings ({names}); {self.advice}", changed)

    def foreign(self) -> OtherJournal:
        return OtherJournal(f"{self.path} is no journal, or one of another version of redraft; {self.advice}")


def _scan(head: _Head, start: int, number: int) -> Iterator[tuple[int, int, list[Entry]]]:
    """Whole groups of entries from `start` on, which is behind `number` lines: where each ends, the number of lines up
    to there, and the entries. What follows the last whole group is passed over."""
    try:
        file = head.path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {head.path}: {error.strerror}") from error
    with file:
        file.seek(start)
        group: list[Entry] = []
        at = start
        for line in file:
            number += 1
            if at == 0 and not (line.startswith(_START) or _START.startswith(line) or not line.strip(b"\0")):
                raise head.foreign()
            if not line.endswith(b"\n"):
                return
            try:
                fields = _parse_line(line)
                if at > 0:
                    group.append(_as_entry(fields, at))
            except (ValueError, KeyError, TypeError) as error:
                raise DamagedJournal(f"{head.path}, line {number}, is damaged ({error}); {head.advice}") from error
            if at == 0:
                head.check(fields)
            at += len(line)
            if "more" not in fields:
                yield at, number, group
                group = []


def _as_line(fields: Mapping[str, Any]) -> bytes:
    # surrogatepass: half of an emoji may come from a file or a model, and json reads it back.
    rest = b'", ' + _to_json(fields).encode("utf-8", "surrogatepass")[1:]
    return b"%b%08x%b\n" % (_START, zlib.crc32(rest), rest)


def _entry_line(entry: Entry, more: bool) -> bytes:
    fields = {"key": entry.key, "value": entry.value}
    if entry.seconds:
        fields["seconds"] = entry.seconds
    return _as_line({**fields, "more": True} if more else fields)


def _parse_line(line: bytes) -> dict[str, Any]:
    """Raises ValueError if the line is not whole."""
    rest = line[_CRC_END:-1]
    if not line.startswith(_START) or line[len(_START) : _CRC_END] != b"%08x" % zlib.crc32(rest):
        raise ValueError("its checksum does not fit")
    fields: dict[str, Any] = json.loads("{" + rest[3:].decode("utf-8", "surrogatepass"))
    return fields


def _as_entry(fields: Mapping[str, Any], offset: int) -> Entry:
    key = fields["key"]
    return Entry(tuple(key) if isinstance(key, list) else key, fields["value"], fields.get("seconds", 0.0), offset)
