"""Tables of requests, in and out: text, JSON lines, CSV, TSV, Parquet and datasets. Rows stream both ways.

    for row in open_source("prompts.csv").rows():
        print(row.why if isinstance(row, Reject) else row.request)

A row that cannot be used becomes a Reject that says where it is and why; the rows after it are read all the same.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from redraft.chat import is_unicode
from redraft.errors import InputError, one_line, printable
from redraft.extras import require
from redraft.files import open_atomically
from rewriter.request import MAX_CHARS, clean_request

if TYPE_CHECKING:
    import pyarrow

FIELDS = ("request", "prompt", "text", "caption", "Prompt", "TEXT", "original_prompt")
"""Columns that are taken for the request, in this order, if none is named."""
FORMATS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt")
MAX_LINE = 16 * 2**20
"""Longest line or cell that is read, in bytes; a longer one is rejected, so that no file can fill the memory."""
_SHOWN = 200
_BOM = b"\xef\xbb\xbf"
_SAMPLE = 64 * 1024
_ROWS = 1024
"""Rows of Parquet that are read at once."""
_GROUP = 4096
"""Rows of a Parquet row group that is written: so many are held in memory."""
_PREFIX = "input_"


@dataclass(frozen=True)
class InputRow:
    """A row of the input: its columns as they came, and its request, cleaned. `number` counts from 1."""

    number: int
    columns: Mapping[str, object]
    request: str


@dataclass(frozen=True)
class Reject:
    """A row that cannot be used: where it is, why, and how it begins."""

    number: int
    where: str
    why: str
    text: str = ""


RawRow = tuple[int, str, Mapping[str, object] | str]
"""Number, place, and the columns, or why there are none."""


class _BareText(dict[str, object]):
    """A row that is a request and has no columns."""


class InputTable(Protocol):
    """The rows of an input, from the first, each time it is iterated over.

    columns: their names if the format gives them before the rows; None for JSON lines, where each row has its own.
    total:   what `done` counts up to, if it is known.
    """

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...] | None: ...

    @property
    def total(self) -> int | None: ...

    @property
    def done(self) -> int: ...

    def rows(self) -> Iterator[InputRow | Reject]: ...


def open_source(name: str, field: str | None = None, split: str = "train") -> InputTable:
    """The rows of a file (.txt, .jsonl, .ndjson, .csv, .tsv, .parquet), of a dataset on disk, or of one on the hub.

    `field` is the column of the requests; None finds it. Raises InputError.
    """
    path = Path(name)
    suffix = path.suffix.lower()
    if path.is_file():
        match suffix:
            case ".txt":
                return TextTable(path, parse_text, field=None, columns=())
            case ".jsonl" | ".ndjson":
                return TextTable(path, parse_jsonl, field=field, columns=None)
            case ".csv" | ".tsv":
                return _open_csv(path, field)
            case ".parquet":
                return ParquetTable(path, field)
        raise InputError(f"{path}: what is it? Its name must end in .txt, .jsonl, .csv, .tsv or .parquet")
    if not name.strip() or suffix in FORMATS:
        raise InputError(f"there is no file {name!r}")
    return DatasetTable(name, field, split)


def pick_field(columns: Mapping[str, object] | Sequence[str], wanted: str | None, name: str) -> str:
    """The column that holds the requests. Raises InputError if it is not clear which."""
    listed = ", ".join(repr(column) for column in columns) or "no columns"
    if wanted is not None:
        if wanted not in columns:
            raise InputError(f"{name} has no column {wanted!r}; it has {printable(listed)}")
        return wanted
    for field in FIELDS:
        if field in columns:
            return field
    if len(columns) == 1:
        return next(iter(columns))
    raise InputError(f"which column of {name} holds the requests? It has {printable(listed)}; name one with --field")


def read_row(raw: RawRow, field: str) -> InputRow | Reject:
    """A row whose request can be used, or why it cannot."""
    number, where, columns = raw
    if isinstance(columns, str):
        return Reject(number, where, columns)
    if isinstance(columns, _BareText):
        field = "request"
    value = columns.get(field)
    if value is None:
        why = f"the column {field!r} is empty" if field in columns else f"there is no column {field!r}"
        return Reject(number, where, why)
    if not isinstance(value, str):
        why = f"the column {field!r} holds no text but {type(value).__name__}"
        return Reject(number, where, why, _beginning(value))
    if len(value) > 10 * MAX_CHARS:  # not worth a look at every character
        why = f"the request has {len(value):,} characters, more than {MAX_CHARS:,}; shorten it"
        return Reject(number, where, why, _beginning(value))
    try:
        return InputRow(number, {} if isinstance(columns, _BareText) else columns, clean_request(value))
    except InputError as error:
        return Reject(number, where, str(error), _beginning(value))


def _beginning(value: object) -> str:
    return str(value)[:_SHOWN].encode("utf-8", "backslashreplace").decode()


class TextTable:
    """An InputTable over a file that is read line by line. `parse` yields its rows from an open binary file."""

    def __init__(
        self,
        path: Path,
        parse: Callable[[BinaryIO, str], Iterator[RawRow]],
        *,
        field: str | None,
        columns: tuple[str, ...] | None,
    ) -> None:
        self._path = path
        self.name = str(path)
        self._parse = parse
        self.columns = columns
        self.done = 0
        """Bytes read."""
        self._field = field
        with _open_lines(path):
            self.total = path.stat().st_size

    def rows(self) -> Iterator[InputRow | Reject]:
        field = self._field
        with _open_lines(self._path) as file:
            for raw in self._parse(file, self.name):
                self.done = file.tell()
                if field is None and not isinstance(raw[2], str | _BareText):
                    field = pick_field(raw[2], None, self.name)
                yield read_row(raw, field or "")
            self.done = self.total


class _OldMacFile(io.RawIOBase):
    """A file whose lines end in carriage returns alone, read as if they ended in line feeds."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def _open_lines(path: Path) -> Iterator[BinaryIO]:
    """The file, with line feeds at the ends of its lines. Raises InputError if it cannot be read."""
    try:
        with path.open("rb", buffering=0) as raw:
            sample = raw.read(_SAMPLE)
            raw.seek(0)
            old = b"\r" in sample and b"\n" not in sample
            yield io.BufferedReader(_OldMacFile(raw) if old else raw)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _text_lines(file: BinaryIO) -> Iterator[tuple[int, str | None, str]]:
    """(number, text, why there is none) of each line that is not blank. A byte-order mark at the start is dropped."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) >= MAX_LINE and not line.endswith(b"\n"):
            while (more := file.readline(MAX_LINE)) and not more.endswith(b"\n"):
                pass
            yield number, None, f"the line is longer than {MAX_LINE >> 20} MiB"
            continue
        if not line.strip():
            continue
        try:
            yield number, line.decode().rstrip("\r\n"), ""
        except UnicodeDecodeError as error:
            yield number, None, f"it is not UTF-8 text (byte {error.start + 1}: {error.reason})"


def parse_text(file: BinaryIO, name: str) -> Iterator[RawRow]:
    """One request per line; blank lines are skipped."""
    for number, text, why in _text_lines(file):
        yield number, f"line {number}", why if text is None else _BareText(request=text)


def parse_jsonl(file: BinaryIO, name: str) -> Iterator[RawRow]:
    """One JSON object per line, or one string, which is the request. NaN and Infinity, which are no JSON, become null."""
    for number, text, why in _text_lines(file):
        where = f"line {number}"
        if text is None:
            yield number, where, why
            continue
        try:
            value = json.loads(text, parse_constant=lambda _: None)
        except (ValueError, RecursionError) as error:
            yield number, where, f"it is not JSON: {error}"
            continue
        if isinstance(value, str):
            value = _BareText(request=value)
        if not isinstance(value, dict):
            yield number, where, f"it is no JSON object but {type(value).__name__}"
        elif "\\u" in text and not is_unicode(json.dumps(value, ensure_ascii=False)):
            yield number, where, "it holds half a surrogate pair"
        else:
            yield number, where, value


class _CsvLines:
    """Decoded lines for the csv module. Broken bytes are kept as surrogates."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._number = 0
        self._marked: tuple[int, int, str] | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(MAX_LINE)
        if not raw:
            raise StopIteration
        line = (raw.removeprefix(_BOM) if self._number == 0 else raw).decode("utf-8", "surrogateescape")
        self._number += 1
        if self._marked is None:
            self._marked = (self._number, self._file.tell(), line)
        return line

    def mark(self) -> None:
        self._marked = None

    def go_back(self) -> str:
        """The first line since `mark`; the next line that is read is the one after it."""
        assert self._marked is not None
        self._number, at, line = self._marked
        self._file.seek(at)
        return line

    @property
    def first(self) -> int:
        """The number of the first line since `mark`."""
        return self._marked[0] if self._marked else self._number


def parse_csv(delimiter: str) -> Callable[[BinaryIO, str], Iterator[RawRow]]:
    """A header, then rows (RFC 4180: a quoted cell may hold line breaks), numbered from 1 after the header.

    A quotation mark that is never closed, or not followed by a delimiter, spoils its own line only. In TSV, where many
    programs know no quoting, such marks are taken literally.
    """

    def parse(file: BinaryIO, name: str) -> Iterator[RawRow]:
        csv.field_size_limit(MAX_LINE)
        source = _CsvLines(file)
        reader = csv.reader(source, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        number = 0
        while True:
            source.mark()
            why = ""
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                line = source.go_back()
                reader = csv.reader(source, delimiter=delimiter, strict=True)
                cells = line.rstrip("\r\n").split(delimiter)
                why = "" if delimiter == "\t" else f"it cannot be read: {error}"
            if not any(cells) or (header is None and _separator(cells, delimiter)):
                continue
            if header is None:
                header = check_header(cells, name)
                continue
            number += 1
            where = f"row {number}, line {source.first}"
            if not why and len(cells) != len(header):
                why = f"it has {len(cells)} cells, the header has {len(header)}"
            if not why and any(not cell.isascii() and not is_unicode(cell) for cell in cells):
                why = "it is not UTF-8 text"
            yield number, where, why or dict(zip(header, cells, strict=True))

    return parse


def check_header(cells: list[str], name: str) -> list[str]:
    """Raises InputError if two columns share a name (one may have none: pandas' index), or one is not UTF-8."""
    if not all(is_unicode(cell) for cell in cells):
        raise InputError(f"the header of {name} is not UTF-8 text; convert the file")
    if doubled := sorted(cell for cell, count in Counter(cells).items() if count > 1):
        raise InputError(f"the header of {name} has {printable(repr(doubled[0]))} twice; mend it")
    return cells


def _separator(cells: list[str], delimiter: str) -> str:
    """The delimiter that a first line such as "sep=;" names, as spreadsheets write it; "" if it is no such line."""
    line = delimiter.join(cells).strip()
    return line[4:] if len(line) == 5 and line.startswith("sep=") else ""


def _open_csv(path: Path, field: str | None) -> TextTable:
    """Raises InputError if the header cannot be read or has no such field."""
    with _open_lines(path) as file:
        beginning = file.read(MAX_LINE)
    if not beginning.strip():
        raise InputError(f"{path} is empty; its first line must name the columns")
    try:
        delimiter = _find_delimiter(beginning, path, field)
        columns = tuple(check_header(_read_header(beginning, delimiter), str(path)))
    except csv.Error as error:
        raise InputError(f"the header of {path} cannot be read: {error}") from None
    return TextTable(path, parse_csv(delimiter), field=pick_field(columns, field, str(path)), columns=columns)


def _find_delimiter(beginning: bytes, path: Path, field: str | None) -> str:
    """The delimiter that a line "sep=;" names; else the first by which the header has the field, or several columns."""
    own = "\t" if path.suffix.lower() == ".tsv" else ","
    first = beginning.removeprefix(_BOM).lstrip().split(b"\n", 1)[0].decode("utf-8", "replace")
    if separator := _separator([first], own):
        return separator
    headers = {delimiter: _read_header(beginning, delimiter) for delimiter in dict.fromkeys((own, ",", ";", "\t"))}
    wanted = FIELDS if field is None else (field,)
    by_field = [delimiter for delimiter, cells in headers.items() if any(name in cells for name in wanted)]
    several = [delimiter for delimiter, cells in headers.items() if len(cells) > 1]
    return next(iter(by_field or several), own)


def _read_header(beginning: bytes, delimiter: str) -> list[str]:
    """The first row that is neither blank nor a line "sep=;"."""
    rows = csv.reader(_CsvLines(io.BytesIO(beginning)), delimiter=delimiter)
    return next((cells for cells in rows if any(cells) and not _separator(cells, delimiter)), [""])


class ParquetTable:
    """The rows of a Parquet file, a batch of them in memory at a time. `schema` is its Arrow schema."""

    def __init__(self, path: Path, field: str | None) -> None:
        parquet = import_parquet()
        try:
            with parquet.ParquetFile(path) as file:
                self.schema: pyarrow.Schema = file.schema_arrow
                self.total = file.metadata.num_rows
        except Exception as error:
            raise InputError(f"cannot read {path} as Parquet: {one_line(error)}") from error
        self._path = path
        self.name = str(path)
        self.columns: tuple[str, ...] | None = tuple(self.schema.names)
        self._field = pick_field(self.schema.names, field, str(path))
        self.done = 0

    def rows(self) -> Iterator[InputRow | Reject]:
        self.done = 0
        try:
            with import_parquet().ParquetFile(self._path) as file:
                for batch in file.iter_batches(batch_size=_ROWS):
                    for columns in batch.to_pylist():
                        self.done += 1
                        yield read_row((self.done, f"row {self.done}", columns), self._field)
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {one_line(error)}") from error


class DatasetTable:
    """The rows of a dataset on the hub, or of one saved on disk, streamed."""

    def __init__(self, name: str, field: str | None, split: str) -> None:
        self.name = name
        self._dataset = _load_dataset(name, split)
        names: list[str] | None = self._dataset.column_names
        self.columns = None if names is None else tuple(names)
        self._field = field if self.columns is None else pick_field(self.columns, field, name)
        count = getattr(self._dataset, "num_rows", None)  # a streamed dataset has none
        self.total = count if isinstance(count, int) else None
        self.done = 0

    def rows(self) -> Iterator[InputRow | Reject]:
        self.done, field = 0, self._field
        for columns in _iterate(self._dataset, self.name):
            self.done += 1
            if field is None:
                field = pick_field(columns, None, self.name)
            yield read_row((self.done, f"row {self.done}", columns), field)


def import_parquet() -> Any:
    """pyarrow.parquet. Raises MissingExtra if it is not installed."""
    require("data", "this reads or writes Parquet files", "pyarrow")
    import pyarrow.parquet

    return pyarrow.parquet


def _iterate(dataset: Any, name: str) -> Iterator[Mapping[str, object]]:
    try:
        yield from dataset
    except Exception as error:
        raise InputError(f"the dataset {name} cannot be read ({type(error).__name__}: {one_line(error)})") from error


def _load_dataset(name: str, split: str) -> Any:
    require("data", f"{name!r} is no file, so it is taken for a dataset", "datasets")
    import datasets

    try:
        if Path(name).is_dir() and any((Path(name) / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
            saved = datasets.load_from_disk(name)
            return saved[split] if isinstance(saved, dict) else saved
        return datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:
        raise InputError(
            f"{name!r} is no file, and no dataset of that name could be opened ({type(error).__name__}: "
            f"{one_line(error)}); check the path, the name, and --split"
        ) from error


# Out


Result = Mapping[str, object]
"""redraft's columns of a row."""


class TableWriter(Protocol):
    """Takes the rows in order: the input's columns, and redraft's after them."""

    def write(self, columns: Mapping[str, object], result: Result) -> None: ...

    def finish(self) -> None: ...


def kept_names(columns: Sequence[str] | Mapping[str, object], own: Sequence[str]) -> dict[str, str]:
    """What the input's columns are called in the output: `input_NAME` if NAME is one of redraft's own columns."""
    taken = {*columns, *own}
    names = {}
    for column in columns:
        name = column
        if column in own:
            while name in taken:
                name = _PREFIX + name
        names[column] = name
    return names


def join_columns(columns: Mapping[str, object], result: Result) -> dict[str, object]:
    """The row of the output."""
    if columns.keys().isdisjoint(result):
        return {**columns, **result}
    names = kept_names(columns, tuple(result))
    return {**{names[column]: value for column, value in columns.items()}, **result}


class JsonLinesWriter:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, columns: Mapping[str, object], result: Result) -> None:
        row = join_columns(columns, result)
        try:
            line = json.dumps(row, ensure_ascii=False, default=_plain, allow_nan=False)
        except ValueError:
            line = json.dumps(_without_nan(row), ensure_ascii=False, default=_plain)
        self._file.write((line + "\n").encode())

    def finish(self) -> None:
        pass


class TextWriter:
    """The prompts alone, one per line; line breaks inside one become spaces."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, columns: Mapping[str, object], result: Result) -> None:
        self._file.write((" ".join(str(result["prompt"]).split()) + "\n").encode())

    def finish(self) -> None:
        pass


class CsvWriter:
    """`columns`: those of every row. Lists are written as JSON."""

    def __init__(self, file: BinaryIO, columns: tuple[str, ...], own: tuple[str, ...], *, delimiter: str) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text, delimiter=delimiter, lineterminator="\n")
        self._columns, self._own = columns, own
        self._writer.writerow([*kept_names(columns, own).values(), *own])

    def write(self, columns: Mapping[str, object], result: Result) -> None:
        if columns.keys() - set(self._columns):
            raise _new_column(columns, self._columns)
        cells = [columns.get(name) for name in self._columns] + [result[name] for name in self._own]
        self._writer.writerow([_cell(cell) for cell in cells])

    def finish(self) -> None:
        self._text.flush()
        self._text.detach()  # the caller opened the file, and closes it


class ParquetWriter:
    """Row groups of a fixed size. If the input has no schema of its own, that of its first group holds for all."""

    def __init__(self, file: BinaryIO, source: InputTable, own: tuple[str, ...]) -> None:
        self._file = file
        self._own = own
        self._input_schema: Any = source.schema if isinstance(source, ParquetTable) else None
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
                if self._input_schema is None:
                    rows = [dict(columns) for columns, _ in self._rows]
                    self._input_schema = pyarrow.Table.from_pylist(rows).schema
                names = kept_names(self._input_schema.names, self._own)
                kinds = {"seed": pyarrow.int64(), "findings": pyarrow.list_(pyarrow.string())}
                texts = ("candidates", "candidate_thoughts", "candidate_negative_prompts")
                kinds |= dict.fromkeys(texts, kinds["findings"])
                kinds["scores"] = pyarrow.list_(pyarrow.float64())
                self._schema = pyarrow.schema(
                    [
                        *(column.with_name(names[column.name]) for column in self._input_schema),
                        *(pyarrow.field(name, kinds.get(name, pyarrow.string())) for name in self._own),
                    ]
                )
                self._writer = import_parquet().ParquetWriter(self._file, self._schema)
            known = tuple(self._input_schema.names)
            for columns, _ in self._rows:
                if columns.keys() - set(known):
                    raise _new_column(columns, known)
            names = kept_names(known, self._own)
            joined = [
                {**{names[name]: value for name, value in columns.items()}, **result} for columns, result in self._rows
            ]
            self._writer.write_table(pyarrow.Table.from_pylist(joined, schema=self._schema))
        except pyarrow.ArrowException as error:
            raise InputError(f"the rows do not fit one Parquet schema ({one_line(error)}); write .jsonl") from error
        self._rows = []


@contextlib.contextmanager
def open_output(path: Path, source: InputTable, own: tuple[str, ...]) -> Iterator[TableWriter]:
    """The file `path`, which appears when the block ends. Raises InputError if it cannot be written."""
    try:
        with open_atomically(path, alone=True) as file:
            writer = _make_writer(path, file, source, own=own)
            yield writer
            writer.finish()
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; the rewrites are kept: mend that and run the same "
            "command again"
        ) from error


def check_output(path: Path, source: InputTable) -> None:
    """Raises InputError if no output of that name could be written, before any work is done."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: the output's name must end in one of {', '.join(FORMATS)}")
    if suffix in (".csv", ".tsv") and source.columns is None:
        raise InputError(f"the rows of {source.name} each have columns of their own; write .jsonl or .parquet")
    if suffix == ".parquet":
        import_parquet()
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.absolute().parent}; make it first")


def _make_writer(path: Path, file: BinaryIO, source: InputTable, *, own: tuple[str, ...]) -> TableWriter:
    match path.suffix.lower():
        case ".csv":
            return CsvWriter(file, source.columns or (), own, delimiter=",")
        case ".tsv":
            return CsvWriter(file, source.columns or (), own, delimiter="\t")
        case ".parquet":
            return ParquetWriter(file, source, own)
        case ".txt":
            return TextWriter(file)
        case _:
            return JsonLinesWriter(file)


def _new_column(columns: Mapping[str, object], known: tuple[str, ...]) -> InputError:
    new = next(name for name in columns if name not in known)
    return InputError(f"a later row has a column {new!r} that the first ones lack; write .jsonl, where rows may differ")


def _plain(value: object) -> object:
    """What JSON has no type for: bytes as base64, dates and the like as they are printed."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _without_nan(value: object) -> object:
    """NaN and Infinity as null, at any depth."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=_plain) if value else ""
    return _plain(value) if isinstance(value, bytes) else value
