"""The work folder of a batch: append-only files of records, from which a killed run is resumed.

OUT.work/
    settings.json                 the settings, for people to read
    records-<share>-<run>.jsonl   one line per prompt: {"key": ..., "status": ..., ...}; synced before it counts as done
    lock-<share>                  keeps a second process out
    index-<share>.sqlite          scratch space of a run

Each run of a share writes a file of its own and never touches an earlier one. A line that a kill or a full disk tore has
no newline, or does not begin and end like a record, and is ignored. Several machines may share a folder, or their files
may be copied into one: a run finds the records of all of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from redraft.errors import InputError
from redraft.files import sync_folder


class Status(StrEnum):
    """What became of a row."""

    REWRITTEN = "rewritten"
    """The rewrite passed as it came."""
    REPAIRED = "repaired"
    """The first reply was refused; the second, told why, passed."""
    KEPT = "kept"
    """The user's own prompt stands: no reply could be used, or a judge found the original's picture better."""
    FAILED = "failed"
    """The model or server failed on this prompt. Another run tries it again."""


@dataclass(frozen=True)
class Record:
    """What was made of a prompt: the line that a work folder keeps for it.

    `candidates` holds every rewrite where more than one was asked for, and `scores` what the selection thought of them.
    """

    status: Status
    rewrite: str
    seed: int
    negative_prompt: str | None = None
    thought: str = ""
    model: str = ""
    findings: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    scores: tuple[float | None, ...] = ()
    tokens: tuple[int, int] = (0, 0)
    """Read and written by the model."""


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 1) of `count` of the prompts. A prompt belongs to the same share wherever it stands."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads "i/n". Raises InputError."""
        match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"--shard {text!r}: write i/n with i from 1 to n, such as 2/8")
        return cls(int(match[1]), int(match[2]))

    def owns(self, key: bytes) -> bool:
        return self.count == 1 or int.from_bytes(key[-4:], "big") % self.count == self.index - 1

    def owns_reject(self, number: int) -> bool:
        """A row without a prompt belongs somewhere too."""
        return number % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


WHOLE = Shard()


class Keys:
    """Names of prompts under certain settings: 16 bytes, the same in every process and on every machine."""

    def __init__(self, settings: Mapping[str, object], seed: int) -> None:
        text = json.dumps({"settings": settings, "seed": seed}, sort_keys=True, ensure_ascii=False)
        self._salt = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()

    def key(self, prompt: str) -> bytes:
        return hashlib.blake2b(prompt.encode(), digest_size=16, key=self._salt).digest()

    @staticmethod
    def seed(key: bytes) -> int:
        """The seed that a prompt's requests begin with: of its own, so that no two prompts share their draws."""
        return int.from_bytes(key[:4], "big") >> 1


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


_HEAD = re.compile(rb'\{"key": "([0-9a-f]{32})", "status": "([a-z]+)", ')
_FILE_BITS = 44
"""A place in the index is the number of a file above these bits, and an offset below."""
_READ = 2048
_FIELDS = tuple(field.name for field in fields(Record) if field.name != "status")
_BATCH = 10_000


class WorkFolder:
    """The records of a batch. One process at a time works on a share (`lock`). Use it as a context manager.

    Raises InputError where the folder cannot be read or written, the disk being full for instance: what was written
    before stays, and the next run goes on from there.
    """

    def __init__(self, folder: Path, shard: Shard, *, fresh: bool = False) -> None:
        """`fresh` removes the records of this share, for a run from the start. Those of other shares stay."""
        self.folder = folder
        self._fresh = fresh
        self._shard = shard
        self._files: list[BinaryIO] = []
        self._own: BinaryIO | None = None
        self._own_number = 0
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> WorkFolder:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._exits.enter_context(_locked(self.folder / f"lock-{self._shard}"))
            self.index = Index(self.folder / f"index-{self._shard}.sqlite")
            self._exits.callback(self.index.close)
            if self._fresh:
                for path in self.folder.glob(f"records-{self._shard}-*.jsonl"):
                    path.unlink()
            for path in sorted(self.folder.glob("records-*.jsonl")):
                self._read(path)
        except OSError as error:
            self._exits.close()
            raise self._error(error, self.folder) from error
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def is_earlier(self, place: int) -> bool:
        """Whether an earlier run wrote the record at `place`."""
        return self._own is None or place >> _FILE_BITS < self._own_number

    def append(self, records: Sequence[tuple[bytes, Record]]) -> list[tuple[bytes, int]]:
        """Writes and syncs records; gives their places, to be told to the index. May run in another thread."""
        if self._own is None:
            self._own = self._open_own()
        file, places, lines = self._own, [], []
        at = file.tell()
        for key, record in records:
            line = _line(key, record)
            places.append((key, self._own_number << _FILE_BITS | at))
            lines.append(line)
            at += len(line)
        data = memoryview(b"".join(lines))
        try:
            while data:
                data = data[os.write(file.fileno(), data) :]
            file.seek(at)
            os.fsync(file.fileno())
        except OSError as error:
            raise self._error(error, Path(file.name)) from error
        return places

    def get(self, place: int) -> dict[str, object]:
        """The record at `place`, as it lies in its file. Raises InputError where it cannot be read."""
        file, at = self._files[place >> _FILE_BITS], place & ((1 << _FILE_BITS) - 1)
        size, line = _READ, b""
        while True:
            line = os.pread(file.fileno(), size, at)
            end = line.find(b"\n")
            if end >= 0 or len(line) < size:
                break
            size *= 8
        try:
            if end < 0:
                raise ValueError("it is cut off")
            value: dict[str, object] = json.loads(line[:end])
        except ValueError as error:
            raise InputError(
                f"{file.name} is damaged at byte {at} ({error}); remove the file and run the same command again"
            ) from None
        return value

    def _read(self, path: Path) -> None:
        """Takes the places of a file's whole records into the index; those that failed are to be tried again."""
        file = self._exits.enter_context(path.open("rb"))
        number = len(self._files)
        self._files.append(file)
        found: list[tuple[bytes, int]] = []
        at = 0
        for line in file:
            head = _HEAD.match(line)
            if head and line.endswith(b"}\n") and head[2] != b"failed":
                found.append((bytes.fromhex(head[1].decode()), number << _FILE_BITS | at))
            at += len(line)
            if len(found) >= _BATCH:
                self.index.put(found)
                found = []
        self.index.put(found)

    def _open_own(self) -> BinaryIO:
        taken = [path.stem.rpartition("-")[2] for path in self.folder.glob(f"records-{self._shard}-*.jsonl")]
        number = max((int(name) for name in taken if name.isdigit()), default=0) + 1
        path = self.folder / f"records-{self._shard}-{number:05}.jsonl"
        try:
            file = self._exits.enter_context(path.open("x+b", buffering=0))
            sync_folder(self.folder)
        except OSError as error:
            raise self._error(error, path) from error
        self._own_number = len(self._files)
        self._files.append(file)
        return file

    @staticmethod
    def _error(error: OSError, path: Path) -> InputError:
        return InputError(
            f"cannot write {path}: {error.strerror or error}; nothing that was finished is lost: mend that and run the "
            "same command again"
        )


def _line(key: bytes, record: Record) -> bytes:
    value = {"key": key.hex(), "status": record.status, **{name: getattr(record, name) for name in _FIELDS}}
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def parse_record(value: dict[str, object]) -> Record:
    """The record of a line. Raises TypeError and ValueError where it is none."""
    known = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items() if name != "key"}
    known["status"] = Status(str(known["status"]))
    return Record(**known)  # type: ignore[arg-type]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Freed by the system however this process ends. On systems without `fcntl` nothing is kept out."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is working in {path.parent}; wait for it or stop it") from None
        yield
