"""Writing results: JSON lines, CSV, TSV, Parquet, or bare text; each appears whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from redraft.errors import InputError, one_line
from redraft.files import open_atomically
from rewriter.batch.tables import ParquetSource, arrow_parquet

LISTS = ("findings", "candidates", "scores")
_PREFIX = "redraft_"
_GROUP = 4096
"""Rows of a Parquet row group: what is held in memory."""

Result = Mapping[str, object]


class Writer(Protocol):
    """Takes the rows in order: the input's columns, and redraft's own behind them."""

    def write(self, columns: Mapping[str, object], result: Result) -> None: ...

    def finish(self) -> None: ...


def own_name(name: str, taken: Mapping[str, object] | tuple[str, ...]) -> str:
    """`name`, or `redraft_name` where the input has such a column, which is kept as it is."""
    while name in taken:
        name = _PREFIX + name
    return name


def joined(columns: Mapping[str, object], result: Result) -> dict[str, object]:
    row = dict(columns)
    for name, value in result.items():
        row[own_name(name, columns)] = value
    return row


class JsonLines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, columns: Mapping[str, object], result: Result) -> None:
        self._file.write((json.dumps(joined(columns, result), ensure_ascii=False, default=_plain) + "\n").encode())

    def finish(self) -> None:
        pass


class Text:
    """The rewrites alone, one a line; line breaks inside one become spaces."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, columns: Mapping[str, object], result: Result) -> None:
        self._file.write((" ".join(str(result["rewrite"]).split()) + "\n").encode())

    def finish(self) -> None:
        pass


class Csv:
    """`names`: the columns of every row. Lists are written as JSON."""

    def __init__(self, file: BinaryIO, columns: tuple[str, ...], own: tuple[str, ...], delimiter: str) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text, delimiter=delimiter, lineterminator="\n")
        self._columns, self._own = columns, own
        self._writer.writerow([*columns, *(own_name(name, columns) for name in own)])

    def write(self, columns: Mapping[str, object], result: Result) -> None:
        if columns.keys() - set(self._columns):
            raise _new_column(columns, self._columns)
        cells = [columns.get(name) for name in self._columns] + [result[name] for name in self._own]
        self._writer.writerow([_cell(cell) for cell in cells])

    def finish(self) -> None:
        self._text.flush()
        self._text.detach()  # the file belongs to whoever opened it


class Parquet:
    """Row groups of a fixed size. Where the input has no schema of its own, that of its first group is kept to."""

    def __init__(self, file: BinaryIO, source: object, own: tuple[str, ...]) -> None:
        self._file = file
        self._own = own
        self._inner: Any = source.schema if isinstance(source, ParquetSource) else None
        self._rows: list[tuple[Mapping[str, object], Result]] = []
        self._writer: Any = None
        self._schema: Any = None

    def write(self, columns: Mapping[str, object], result: Result) -> None:
        self._rows.append((columns, result))
        if len(self._rows) >= _GROUP:
            self._flush()

    def finish(self) -> None:
        if self._rows or self._writer is None:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow

        try:
            if self._writer is None:
                if self._inner is None:
                    self._inner = pyarrow.Table.from_pylist([dict(columns) for columns, _ in self._rows]).schema
                kinds = {"seed": pyarrow.int64(), "findings": pyarrow.list_(pyarrow.string())}
                kinds |= {"candidates": pyarrow.list_(pyarrow.string()), "scores": pyarrow.list_(pyarrow.float64())}
                names = tuple(self._inner.names)
                fields = [pyarrow.field(own_name(n, names), kinds.get(n, pyarrow.string())) for n in self._own]
                self._schema = pyarrow.schema([*self._inner, *fields])
                self._writer = arrow_parquet().ParquetWriter(self._file, self._schema)
            known = tuple(self._inner.names)
            for columns, _ in self._rows:
                if columns.keys() - set(known):
                    raise _new_column(columns, known)
            rows = [{**columns, **{own_name(n, known): v for n, v in result.items()}} for columns, result in self._rows]
            self._writer.write_table(pyarrow.Table.from_pylist(rows, schema=self._schema))
        except pyarrow.ArrowException as error:
            raise InputError(f"the rows do not fit one Parquet schema ({one_line(error)}); write .jsonl") from error
        self._rows = []


FORMATS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt")


@contextlib.contextmanager
def open_output(path: Path, source: Any, own: tuple[str, ...]) -> Iterator[Writer]:
    """The file `path`, which appears when the block ends. Raises InputError where it cannot be written."""
    try:
        with open_atomically(path, alone=True) as file:
            writer = _writer(path, file, source, own)
            yield writer
            writer.finish()
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; the rewrites are kept: mend that and run the same "
            "command again"
        ) from error


def check_output(path: Path, source: Any) -> None:
    """Raises InputError where no output of that name could be written, before any work is done."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: the output's name must end in one of {', '.join(FORMATS)}")
    if suffix in (".csv", ".tsv") and source.columns is None:
        raise InputError(f"the rows of {source.name} each have columns of their own; write .jsonl or .parquet")
    if suffix == ".parquet":
        arrow_parquet()
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.absolute().parent}; make it first")


def _writer(path: Path, file: BinaryIO, source: Any, own: tuple[str, ...]) -> Writer:
    match path.suffix.lower():
        case ".csv":
            return Csv(file, source.columns, own, ",")
        case ".tsv":
            return Csv(file, source.columns, own, "\t")
        case ".parquet":
            return Parquet(file, source, own)
        case ".txt":
            return Text(file)
        case _:
            return JsonLines(file)


def _new_column(columns: Mapping[str, object], known: tuple[str, ...]) -> InputError:
    new = next(name for name in columns if name not in known)
    return InputError(f"a later row has a column {new!r} that the first ones lack; write .jsonl, where rows may differ")


def _plain(value: object) -> object:
    """What JSON has no word for: bytes as base64, dates and the like as they are printed."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=_plain) if value else ""
    return _plain(value) if isinstance(value, bytes) else value
