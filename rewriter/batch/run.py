"""A batch from end to end: rewrite what is not done yet, then put everything into the order of the input.

    source -> key of (request, settings) -> not yet done? -> engine, review -> records in the work folder
    source again, with the records by key -> OUT, and OUT.rejects.jsonl for rows that cannot be used

The first pass may be killed at any moment: the next run finds what was written. The second pass writes each file in one
step. Memory holds the requests under way, the index's cache and one row: it does not grow with the input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from redraft.errors import BackendError, InputError, ModelMissing, ServerError
from redraft.files import open_atomically, write_atomically
from rewriter.batch.maker import failed_record, make_result
from rewriter.batch.tables import InputRow, InputTable, Reject, open_output
from rewriter.batch.work import PENDING, WHOLE, Keys, Record, Shard, Status, WorkFolder

_CHUNK = 512
"""Rows that are looked up together."""
_FLUSH_ROWS = 1024
FLUSH_S = 1.0
"""A kill loses at most this many records, or seconds of work, and what was under way."""
_STREAK = 20
"""After this many failures in a row the server counts as down."""


class RecordMaker(Protocol):
    """Makes the record of a request, whose key it gets. Raises BackendError if a model or server failed."""

    async def __call__(self, request: str, key: bytes) -> Record: ...


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is to do, besides the models.

    settings: everything that shapes a rewrite, as plain values; together with the seed it names the records.
    own:      redraft's own columns of the output, in order; "request" is the first.
    phase:    what is being done to the requests, for the user to read.
    """

    settings: Mapping[str, object]
    own: tuple[str, ...]
    seed: int = 0
    shard: Shard = WHOLE
    limit: int | None = None
    phase: str = "rewriting"

    @property
    def keys(self) -> Keys:
        return Keys(self.settings, self.seed)


@dataclass
class Counts:
    """How far a batch is, with its share of the input."""

    phase: str = "rewriting"
    rows: int = 0
    rejects: int = 0
    first_reject: str = ""
    reused: int = 0
    """Rows that an earlier run had done."""
    requests: int = 0
    """Different requests that are left to this run."""
    made: Counter[Status] = field(default_factory=Counter)
    """Requests that this run did, by status."""
    statuses: Counter[Status] = field(default_factory=Counter)
    """Rows of the output, by status."""
    tokens: int = 0
    """Tokens written by the model in this run."""
    seconds: float = 0.0
    error: str = ""
    """The last failure."""

    @property
    def done(self) -> int:
        return sum(self.made.values())


Notify = Callable[[Counts], None]


def rejects_path(out: Path) -> Path:
    return out.with_name(out.name + ".rejects.jsonl")


def work_path(out: Path) -> Path:
    return out.with_name(out.name + ".work")


async def run_batch(
    source: InputTable,
    out: Path,
    work: WorkFolder,
    plan: BatchPlan,
    maker: RecordMaker,
    *,
    window: int,
    notify: Notify = lambda _: None,
    flush_s: float = FLUSH_S,
) -> Counts:
    """Rewrites all requests of the share, `window` at once, and writes `out`. Records are written at least every `flush_s`
    seconds, and `notify` is called.

    Raises BackendError if the model or server is down, and InputError if a file cannot be read or written; either way
    the next run resumes from there. Single rows on which the model failed are in the output with status "failed".
    """
    counts = Counts(phase=plan.phase)
    started = time.monotonic()
    _write_settings(work.folder, plan)
    sink = _Sink(work, counts, notify=notify, flush_s=flush_s)
    todo = unfinished(source, work, plan, counts=counts)
    await _rewrite(todo, maker, sink, window=window, counts=counts)
    counts.seconds = time.monotonic() - started
    if counts.first_reject and not counts.rows and plan.shard.count == 1:
        raise InputError(f"no row of {source.name} can be used; the first: {counts.first_reject}")
    counts.phase = "writing"
    merge(source, out, work, plan=plan, counts=counts, notify=notify)
    counts.seconds = time.monotonic() - started
    return counts


async def _rewrite(
    todo: Iterator[tuple[bytes, str]], maker: RecordMaker, sink: _Sink, *, window: int, counts: Counts
) -> None:
    streak = _Streak()

    async def serve() -> None:
        for key, request in todo:  # one iterator for all: each takes the next when it is free
            try:
                record = await maker(request, key)
            except ModelMissing:
                raise
            except BackendError as error:
                counts.error = str(error)
                record = failed_record(request, Keys.seed(key), error)
                streak.failed(error)
            else:
                streak.succeeded()
            await sink.put(key, record)

    ended = asyncio.Event()
    timer = asyncio.create_task(sink.keep_time(ended))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(window):
                group.create_task(serve())
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    finally:
        # After Ctrl-C and errors, too, what was made is kept.
        ended.set()
        await timer
        await sink.flush()


def unfinished(source: InputTable, work: WorkFolder, plan: BatchPlan, *, counts: Counts) -> Iterator[tuple[bytes, str]]:
    """The requests of the share that have no record yet, each once, with their keys, in the order of the input."""
    keys, requests = plan.keys, _requests(source, plan, counts)
    while chunk := list(islice(requests, _CHUNK)):
        named = [(keys.key(request), request) for request in chunk]
        owned = [(key, request) for key, request in named if plan.shard.owns(key)]
        places = work.index.claim([key for key, _ in owned])
        counts.rows += len(owned)
        counts.requests += places.count(None)
        counts.reused += sum(at is not None and at != PENDING and work.is_earlier(at) for at in places)
        yield from (pair for pair, at in zip(owned, places, strict=True) if at is None)


def _requests(source: InputTable, plan: BatchPlan, counts: Counts) -> Iterator[str]:
    for row in islice(source.rows(), plan.limit):
        if isinstance(row, InputRow):
            yield row.request
        elif plan.shard.owns_reject(row.number):
            counts.rejects += 1
            counts.first_reject = counts.first_reject or f"{row.where}: {row.why}"


def merge(
    source: InputTable,
    out: Path,
    work: WorkFolder,
    *,
    plan: BatchPlan,
    counts: Counts,
    notify: Notify = lambda _: None,
) -> None:
    """Writes the output in the order of the input, and the rejects beside it. Raises InputError."""
    keys = plan.keys
    counts.rows = counts.rejects = 0
    counts.statuses.clear()
    with contextlib.ExitStack() as exits:
        writer = exits.enter_context(open_output(out, source, plan.own))
        rejects = exits.enter_context(_Rejects(rejects_path(out)))
        for number, row in enumerate(islice(source.rows(), plan.limit), start=1):
            if isinstance(row, Reject):
                if plan.shard.owns_reject(row.number):
                    counts.rejects += 1
                    rejects.write(row)
            elif plan.shard.owns(key := keys.key(row.request)):
                record = _find_record(work, key, row)
                counts.rows += 1
                counts.statuses[record.status] += 1
                writer.write(row.columns, make_result(row.request, record, plan.own))
            if number % _CHUNK == 0:
                notify(counts)
    notify(counts)


def _find_record(work: WorkFolder, key: bytes, row: InputRow) -> Record:
    place = work.index.find([key]).get(key, PENDING)
    if place == PENDING:
        raise InputError(
            f"row {row.number} was not there before; leave the input alone while redraft works, and run it again"
        )
    return work.get(place)


class _Rejects:
    """The file of the rows that cannot be used. If there are none, the file of an earlier run is removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._exits = contextlib.ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Rejects:
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self._exits.__exit__(*error)
            if self._file is None and error[0] is None:
                self._path.unlink(missing_ok=True)
        except OSError as failure:
            raise self._error(failure) from failure

    def write(self, reject: Reject) -> None:
        try:
            if self._file is None:
                self._file = self._exits.enter_context(open_atomically(self._path, alone=True))
            value = {"row": reject.number, "where": reject.where, "why": reject.why, "text": reject.text}
            self._file.write((json.dumps(value, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> InputError:
        return InputError(
            f"cannot write {self._path}: {error.strerror or error}; mend that and run the same command again"
        )


class _Sink:
    """Gathers records and writes them in groups, each synced once."""

    def __init__(self, work: WorkFolder, counts: Counts, *, notify: Notify, flush_s: float) -> None:
        self._work = work
        self._flush_s = flush_s
        self._counts = counts
        self._notify = notify
        self._records: list[tuple[bytes, Record]] = []
        self._lock = asyncio.Lock()
        self._writing: set[asyncio.Task[None]] = set()

    async def put(self, key: bytes, record: Record) -> None:
        self._records.append((key, record))
        if len(self._records) >= _FLUSH_ROWS:
            await self.flush()

    async def keep_time(self, ended: asyncio.Event) -> None:
        """Flushes every `flush_s` seconds, until `ended`."""
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), self._flush_s)
            await self.flush()

    async def flush(self) -> None:
        """Returns when everything that was put before is written. Writing goes on if the caller is cancelled, since half
        of it would be a record on disk that the index does not know."""
        writing = asyncio.create_task(self._write())
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.shield(writing)

    async def _write(self) -> None:
        async with self._lock:
            records, self._records = self._records, []
            if records:
                self._work.index.put(await asyncio.to_thread(self._work.append, records))
                for _, record in records:
                    self._counts.made[record.status] += 1
                    self._counts.tokens += record.tokens[1]
            self._notify(self._counts)


class _Streak:
    """Failures in a row. Ends the batch if the server is down rather than busy, or the model never works."""

    def __init__(self) -> None:
        self._row: list[bool] = []
        self._ever = False

    def succeeded(self) -> None:
        self._row.clear()
        self._ever = True

    def failed(self, error: BackendError) -> None:
        """Raises `error`, with what to do, once it is clear that the next requests would fail too."""
        self._row.append(isinstance(error, ServerError))
        if len(self._row) >= _STREAK and (all(self._row) or not self._ever):
            raise type(error)(f"{error}\n{_STREAK} requests in a row failed; what was finished is kept")


def _write_settings(folder: Path, plan: BatchPlan) -> None:
    text = json.dumps({"settings": plan.settings, "seed": plan.seed}, ensure_ascii=False, indent=2) + "\n"
    try:
        write_atomically(folder / "settings.json", text.encode())
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; choose another folder with --work") from error


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
