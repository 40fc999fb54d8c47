"""The work folder of a batch: append-only files of records, from which a killed run is taken up again.

OUT.work/
    settings.json                 what was asked, for people
    records-<share>-<run>.jsonl   one line a prompt: {"key": ..., "status": ..., ...}; synced before it counts as done
    lock-<share>                  keeps a second process out
    index-<share>.sqlite          scratch while a run works

Each run of a share writes a file of its own and never touches an earlier one. A line torn by a kill or a full disk has
no newline, or does not begin and end as a record does, and counts for nothing. Several machines may share a folder, or
their files may be copied into one: a run finds what all of them have made.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import BinaryIO

from redraft.errors import InputError
from redraft.files import sync_folder
from rewriter.batch.index import Index
from rewriter.batch.types import Record, Shard, Status

_HEAD = re.compile(rb'\{"key": "([0-9a-f]{32})", "status": "([a-z]+)", ')
_FILE_BITS = 44
"""A place in the index is the number of a file above these bits, and an offset below."""
_READ = 2048
_FIELDS = tuple(field.name for field in fields(Record) if field.name != "status")
_BATCH = 10_000


class Work:
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

    def __enter__(self) -> Work:
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
