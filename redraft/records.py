"""Records for training and evaluation: JSONL and Parquet files, folders of them, and data sets that `datasets` knows.

    prompts = load_records(["prompts.jsonl"], lambda row, source: text_field(row, "request"), max_bad=0.01).records

A record that cannot be used is named by file and line (in tables: by row, from 1) and counted, so that nothing is dropped
in silence; if there are more than allowed, the whole load is refused. The function that reads one kind of record raises
InputError for a row that it refuses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from redraft.errors import InputError, one_line
from redraft.extras import require

T = TypeVar("T")
Row = Mapping[str, Any]
DATASETS = "datasets:"
"""`datasets:PLACE` or `datasets:PLACE#SPLIT` (`train` by default); PLACE is what `datasets.load_dataset` takes."""

_NAMED = 5
"""How many bad records an error names."""


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used. `file` is a path or a `datasets:` id; `line` counts from 1."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class LoadedRecords(Generic[T]):
    """The records that can be used, in the order of the files, and those that cannot.

    `places`: file or id, and line, of each record.
    """

    records: tuple[T, ...]
    bad: tuple[BadRecord, ...]
    places: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return f"{len(self.records):,} records, {len(self.bad):,} malformed"

    def within(self, max_bad: float) -> LoadedRecords[T]:
        """Itself. Raises InputError if the share of bad records is above `max_bad`, or no others are left."""
        total = len(self.records) + len(self.bad)
        if self.records and len(self.bad) <= max_bad * total:
            return self
        named = "\n".join(f"  {record}" for record in self.bad[:_NAMED])
        more = f"\n  and {len(self.bad) - _NAMED:,} more" if len(self.bad) > _NAMED else ""
        raise InputError(
            f"{len(self.bad):,} of {total:,} records cannot be used, more than the share of {max_bad:g} that is "
            f"allowed:\n{named}{more}"
        )


def load_records(places: Sequence[str | Path], read: Callable[[Row, str], T], max_bad: float) -> LoadedRecords[T]:
    """What `read` makes of each row in `places`. It is called with the row and the file or id that holds it.

    `max_bad`: share of bad records that is allowed. Raises InputError if there are more, if there are no good ones at
    all, or if a place cannot be read.
    """
    records: list[T] = []
    bad: list[BadRecord] = []
    positions: list[tuple[str, int]] = []
    for source, line, row in _all_rows(places):
        try:
            records.append(read(_mapping(row), source))
            positions.append((source, line))
        except InputError as error:
            bad.append(BadRecord(source, line, str(error)))
    if not records and not bad:
        raise InputError(
            f"there are no records in {', '.join(map(str, places)) or 'no files'}; one JSON object per line"
        )
    return LoadedRecords(tuple(records), tuple(bad), tuple(positions)).within(max_bad)


def text_field(row: Row, name: str) -> str:
    """The text in a row's field. Raises InputError if it is missing (or a table's empty cell) or is not text."""
    value = row.get(name)
    if is_missing(value):
        raise InputError(f"field {name!r} is missing; there are {', '.join(sorted(map(str, row))) or 'none'}")
    if not isinstance(value, str):
        raise InputError(f"field {name!r} is not text but {type(value).__name__}")
    return value


def is_missing(value: object) -> bool:
    """Whether a field has no value: it is absent, null, or the NaN that tables have in empty cells."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _all_rows(places: Sequence[str | Path]) -> Iterator[tuple[str, int, object]]:
    for place in places:
        if isinstance(place, str) and place.startswith(DATASETS):
            yield from ((place, line, row) for line, row in _dataset(place))
        else:
            for file in _files(Path(place)):
                yield from ((str(file), line, row) for line, row in _rows(file))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _READERS)
        if not files:
            raise InputError(f"there are no {' or '.join(_READERS)} files in {path}")
        yield from files
    elif path.suffix in _READERS:
        yield path
    else:
        raise InputError(
            f"{path} is neither {' nor '.join(_READERS)}, nor a folder of such files; "
            f"write {DATASETS}PLACE for a data set on the hub"
        )


def _rows(file: Path) -> Iterator[tuple[int, object]]:
    try:
        yield from _READERS[file.suffix](file)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error


def _jsonl(file: Path) -> Iterator[tuple[int, object]]:
    # Read as bytes: one line that is not UTF-8 must not hide the others.
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _json(line.removeprefix(b"\xef\xbb\xbf"))


def _json(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return InputError(f"is not UTF-8 text: {error.reason} at byte {error.start + 1}")
    except (ValueError, RecursionError) as error:
        return InputError(f"is not JSON: {error}")


def _parquet(file: Path) -> Iterator[tuple[int, object]]:
    require("data", f"{file} is a Parquet file", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise InputError(f"{file} is not a Parquet file that can be read: {error}") from error


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, object]]]] = {".jsonl": _jsonl, ".parquet": _parquet}


def _dataset(place: str) -> Iterator[tuple[int, object]]:
    require("data", f"{place} is a dataset", "datasets")
    import datasets

    name, _, split = place.removeprefix(DATASETS).partition("#")
    try:
        table = datasets.load_dataset(name, split=split or "train")
        for column, feature in table.features.items():
            if isinstance(feature, datasets.Image):
                # Pictures stay as they were stored: {"bytes": ..., "path": ...}, as in Parquet files.
                table = table.cast_column(column, datasets.Image(decode=False))
    except Exception as error:
        raise InputError(
            f"{place} cannot be loaded ({type(error).__name__}: {one_line(error)}); give {DATASETS}NAME#SPLIT of one "
            f"that can be reached, or download it and give its files"
        ) from error
    yield from enumerate(table, start=1)


def _mapping(row: object) -> Row:
    if isinstance(row, InputError):
        raise row
    if not isinstance(row, dict):
        raise InputError(f"is a JSON {type(row).__name__}, not an object with fields")
    return row
