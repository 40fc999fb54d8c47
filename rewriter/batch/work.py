"""The work folder of a batch: journals of records, from which a killed run is resumed.

OUT.work/
    settings.json                 the settings, for people to read
    records-<share>-<run>.jsonl   a journal (`redraft.journal`): one entry per request, synced before it counts as done
    lock-<share>                  keeps a second process out
    index-<share>.sqlite          scratch space of a run

Each run of a share writes a journal of its own and never touches an earlier one. Several machines may share a folder, or
their files may be copied into one: a run finds the records of all of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from redraft.errors import InputError
from redraft.journal import Entry, JournalFile, lock, read_entry, read_journal


class Status(StrEnum):
    """What became of a row."""

    REWRITTEN = "rewritten"
    """The prompt is a rewrite. If the first reply was refused, the findings say why."""
    KEPT = "kept"
    """The prompt is the request: no reply could be used, or a judge found the request's own picture better."""
    OUT_OF_SCOPE = "out_of_scope"
    """The prompt is the request, which asks for what the rewriter does not know."""
    FAILED = "failed"
    """The model or server failed on this request. Another run tries it again."""


@dataclass(frozen=True)
class Record:
    """What was made of a request: the entry that a work folder keeps for it.

    candidates: every prompt, if more than one was asked for, with its thought and its negative prompt; `scores` is what the
                selection thought of them.
    tokens:     read and written by the model.
    image:      path of the picture that was drawn, relative to the output, with its `score`; `accepted` and `unchecked` as
                in a run. Only `redraft draw --prompts` draws.
    """

    status: Status
    prompt: str
    seed: int
    negative_prompt: str | None = None
    thought: str = ""
    model: str = ""
    findings: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    candidate_thoughts: tuple[str, ...] = ()
    candidate_negative_prompts: tuple[str | None, ...] = ()
    scores: tuple[float | None, ...] = ()
    tokens: tuple[int, int] = (0, 0)
    image: str = ""
    score: float | None = None
    accepted: bool = False
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 1) of `count` of the requests. A request belongs to the same share wherever it stands."""

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
        """Whether a row without a request, which has no key, belongs to this share."""
        return number % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


WHOLE = Shard()


class Keys:
    """Names of requests under certain settings: 16 bytes, the same in every process and on every machine."""

    def __init__(self, settings: Mapping[str, object], seed: int) -> None:
        text = json.dumps({"settings": settings, "seed": seed}, sort_keys=True, ensure_ascii=False)
        self._salt = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()

    def key(self, request: str) -> bytes:
        return hashlib.blake2b(request.encode(), digest_size=16, key=self._salt).digest()

    @staticmethod
    def seed(key: bytes) -> int:
        """The seed that a request's draws begin with. Each request has its own, so that no two share their draws."""
        return int.from_bytes(key[:4], "big") >> 1


PENDING = -1
_CACHE_KIB = 32 * 1024
_MOST = 500
"""Keys per query; SQLite takes at least 999 parameters."""


class RecordIndex:
    """Key (16 bytes) to place (an integer), on disk, so that memory stays flat however many requests there are.

    It is made anew from the records each time, and never synced. Raises InputError if the disk does not take it.
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
        """The places of the keys that are known."""
        places: dict[bytes, int] = {}
        try:
            for start in range(0, len(keys), _MOST):
                part = keys[start : start + _MOST]
                marks = ",".join("?" * len(part))
                places.update(self._db.execute(f"SELECT key, at FROM place WHERE key IN ({marks})", part))
        except sqlite3.Error as error:
            raise self._error(error) from error
        return places

    def put(self, places: Iterable[tuple[bytes, int]]) -> None:
        """Sets places; a later one replaces an earlier one."""
        try:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO place VALUES (?, ?)", places)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._error(error) from error

    def claim(self, keys: Sequence[bytes]) -> list[int | None]:
        """None for each key that was not there: it is PENDING from then on. For the others their place, or PENDING."""
        known = self.find(keys)
        places: list[int | None] = []
        new: list[tuple[bytes, int]] = []
        for key in keys:
            places.append(known.get(key))
            if key not in known:
                known[key] = PENDING
                new.append((key, PENDING))
        self.put(new)
        return places

    def close(self) -> None:
        self._db.close()
        self._path.unlink(missing_ok=True)

    def _error(self, error: sqlite3.Error) -> InputError:
        return InputError(f"cannot write {self._path}: {error}; free some space, or choose another folder with --work")


_KIND = "enhance"
_FILE_BITS = 44
"""A place in the index is the number of a file above these bits, and an offset below."""
_FIELDS = tuple(field.name for field in fields(Record))
_DRAWN = ("image", "score", "accepted", "unchecked")
_BATCH = 10_000
_ADVICE = "remove the file and run the same command again"


class WorkFolder:
    """The records of a batch. One process at a time works on a share (`lock`). Use it as a context manager.

    Raises InputError if the folder cannot be read or written, for instance because the disk is full: what was written
    before stays, and the next run resumes from there.
    """

    def __init__(self, folder: Path, shard: Shard, *, fresh: bool = False) -> None:
        """`fresh` removes the records of this share, for a run from the start. Those of other shares stay."""
        self.folder = folder
        self._fresh = fresh
        self._shard = shard
        self._files: list[BinaryIO] = []
        self._journal: JournalFile | None = None
        self._journal_number = 0
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> WorkFolder:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._exits.enter_context(lock(self.folder / f"lock-{self._shard}"))
            self.index = RecordIndex(self.folder / f"index-{self._shard}.sqlite")
            self._exits.callback(self.index.close)
            if self._fresh:
                for path in self.folder.glob(f"records-{self._shard}-*.jsonl"):
                    path.unlink()
            for path in sorted(self.folder.glob("records-*.jsonl")):
                self._read(path)
        except OSError as error:
            self._exits.close()
            raise InputError(
                f"cannot write {self.folder}: {error.strerror or error}; mend that and run the same command again"
            ) from error
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def is_earlier(self, place: int) -> bool:
        """Whether an earlier run wrote the record at `place`."""
        return self._journal is None or place >> _FILE_BITS < self._journal_number

    def append(self, records: Sequence[tuple[bytes, Record]]) -> list[tuple[bytes, int]]:
        """Writes and syncs records; returns their places, for the index. May run in another thread."""
        try:
            if self._journal is None:
                self._journal = self._open_journal()
            offsets = self._journal.append([Entry(key.hex(), _value(record)) for key, record in records])
        except InputError as error:
            raise InputError(
                f"{error}; nothing that was finished is lost: mend that and run the same command again"
            ) from error
        number = self._journal_number << _FILE_BITS
        return [(key, number | offset) for (key, _), offset in zip(records, offsets, strict=True)]

    def get(self, place: int) -> Record:
        """The record at `place`. Raises InputError if it cannot be read."""
        file, offset = self._files[place >> _FILE_BITS], place & ((1 << _FILE_BITS) - 1)
        try:
            return parse_record(read_entry(file.fileno(), offset).value)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise InputError(f"{file.name} is damaged at byte {offset} ({error}); {_ADVICE}") from error

    def _read(self, path: Path) -> None:
        """Takes the places of a journal's records into the index; requests that failed are to be tried again."""
        number = len(self._files)
        self._files.append(self._exits.enter_context(path.open("rb")))
        places: list[tuple[bytes, int]] = []
        for entry in read_journal(path, _KIND, advice=_ADVICE):
            if entry.value["status"] != Status.FAILED:
                places.append((bytes.fromhex(str(entry.key)), number << _FILE_BITS | entry.offset))
            if len(places) >= _BATCH:
                self.index.put(places)
                places = []
        self.index.put(places)

    def _open_journal(self) -> JournalFile:
        names = [path.stem.rpartition("-")[2] for path in self.folder.glob(f"records-{self._shard}-*.jsonl")]
        number = max((int(name) for name in names if name.isdigit()), default=0) + 1
        path = self.folder / f"records-{self._shard}-{number:05}.jsonl"
        journal = self._exits.enter_context(JournalFile(path, _KIND, advice=_ADVICE))
        self._journal_number = len(self._files)
        self._files.append(self._exits.enter_context(path.open("rb")))
        return journal


def _value(record: Record) -> dict[str, Any]:
    """What an entry holds of a record; what was drawn only if something was."""
    return {name: getattr(record, name) for name in _FIELDS if record.image or name not in _DRAWN}


def parse_record(value: Mapping[str, Any]) -> Record:
    """The record of an entry. Raises TypeError, KeyError and ValueError if it is none."""
    parts: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
    parts["status"] = Status(parts["status"])
    return Record(**parts)
