"""Tables of prompts, in and out: text, JSON lines, CSV, TSV, Parquet and datasets. Rows stream both ways.

A row that cannot be used becomes a Reject that says where it is and why; the rows after it are read all the same.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from redraft.chat import is_unicode
from redraft.errors import InputError, one_line, printable
from redraft.extras import require
from redraft.files import open_atomically
from rewriter.request import MAX_CHARS, clean_request


@dataclass(frozen=True)
class InputRow:
    """A row of the input: its columns as they came, and its prompt, cleaned. `number` counts from 1."""

    number: int
    columns: Mapping[str, object]
    request: str


@dataclass(frozen=True)
class Reject:
    """A row that cannot be used: where it stands, why, and how it begins."""

    number: int
    where: str
    why: str
    text: str = ""


FIELDS = ("prompt", "text", "caption", "Prompt", "TEXT", "original_prompt")
"""Columns that are taken for the prompt, in this order, where none is named."""
MAX_LINE = 16 * 2**20
"""Longest line or cell that is read, in bytes; what is longer is rejected, so that no file can fill the memory."""
_SHOWN = 200

Raw = tuple[int, str, Mapping[str, object] | str]
"""Number, where it stands, and its columns, or why there are none."""


class InputTable(Protocol):
    """The rows of an input, from the first, each time it is iterated over.

    columns: their names where the format tells before the rows; None for JSON lines, where each row has its own.
    total:   what `done` counts up to, where it is known.
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


def pick_field(columns: Mapping[str, object] | tuple[str, ...], wanted: str | None, name: str) -> str:
    """The column that holds the prompts. Raises InputError where it cannot be told."""
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
    raise InputError(f"which column of {name} holds the prompts? It has {printable(listed)}; name one with --field")


def row_of(raw: Raw, field: str) -> InputRow | Reject:
    """A row whose prompt can be used, or why it cannot."""
    number, where, columns = raw
    if isinstance(columns, str):
        return Reject(number, where, columns)
    value = columns.get(field)
    if value is None:
        why = f"the column {field!r} is empty" if field in columns else f"there is no column {field!r}"
        return Reject(number, where, why)
    if not isinstance(value, str):
        return Reject(number, where, f"the column {field!r} holds no text but {type(value).__name__}", _begin(value))
    if len(value) > 10 * MAX_CHARS:  # not worth a look at every character
        why = f"the request has {len(value):,} characters, more than {MAX_CHARS:,}; shorten it"
        return Reject(number, where, why, _begin(value))
    try:
        return InputRow(number, columns, clean_request(value))
    except InputError as error:
        return Reject(number, where, str(error), _begin(value))


def _begin(value: object) -> str:
    return str(value)[:_SHOWN].encode("utf-8", "backslashreplace").decode()


class FileSource:
    """A InputTable over a file that is read line by line. `parse` yields what stands in it, from an open binary file."""

    def __init__(
        self,
        path: Path,
        parse: Callable[[BinaryIO, str], Iterator[Raw]],
        field: str | None,
        columns: tuple[str, ...] | None,
    ) -> None:
        self._path = path
        self._parse = parse
        self._columns = columns
        self._done = 0
        self._field = field
        try:
            self._total = path.stat().st_size
            with path.open("rb"):
                pass
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error

    @property
    def name(self) -> str:
        return str(self._path)

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self._columns

    @property
    def total(self) -> int | None:
        return self._total

    @property
    def done(self) -> int:
        """Bytes read."""
        return self._done

    def rows(self) -> Iterator[InputRow | Reject]:
        field = self._field
        try:
            with self._path.open("rb") as file:
                for raw in self._parse(file, self.name):
                    self._done = file.tell()
                    if field is None and not isinstance(raw[2], str):
                        field = pick_field(raw[2], None, self.name)
                    yield row_of(raw, field or "")
                self._done = self._total
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror or error}") from error


def lines(file: BinaryIO) -> Iterator[tuple[int, str | None, str]]:
    """(number, text, why not) of each line that is not blank. A byte-order mark at the start is dropped."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
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


def parse_text(file: BinaryIO, name: str) -> Iterator[Raw]:
    """One prompt a line; blank lines are skipped."""
    for number, text, why in lines(file):
        yield number, f"line {number}", why if text is None else {"prompt": text}


def parse_jsonl(file: BinaryIO, name: str) -> Iterator[Raw]:
    """One JSON object a line, or one string, which is the prompt."""
    for number, text, why in lines(file):
        where = f"line {number}"
        if text is None:
            yield number, where, why
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield number, where, f"it is not JSON: {error}"
            continue
        if isinstance(value, str):
            value = {"prompt": value}
        if not isinstance(value, dict):
            yield number, where, f"it is no JSON object but {type(value).__name__}"
        elif "\\u" in text and not is_unicode(json.dumps(value, ensure_ascii=False)):
            yield number, where, "it holds half a surrogate pair"
        else:
            yield number, where, value


class _Lines:
    """Decoded lines for the csv module. Broken bytes are kept apart as surrogates. `again` goes back to behind the
    first line that was read since `mark`."""

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
        line = (raw.removeprefix(b"\xef\xbb\xbf") if self._number == 0 else raw).decode("utf-8", "surrogateescape")
        self._number += 1
        if self._marked is None:
            self._marked = (self._number, self._file.tell(), line)
        return line

    def mark(self) -> None:
        self._marked = None

    def again(self) -> tuple[int, str]:
        """Number and text of the first line since `mark`; the next line is the one behind it."""
        assert self._marked is not None
        self._number, at, line = self._marked
        self._file.seek(at)
        return self._number, line

    @property
    def first(self) -> int:
        return self._marked[0] if self._marked else self._number


def parse_csv(delimiter: str) -> Callable[[BinaryIO, str], Iterator[Raw]]:
    """A header, then rows (RFC 4180: a quoted cell may hold line breaks), numbered from 1 behind the header.

    A quotation mark that is never closed, or not followed by a delimiter, spoils its own line only. In TSV, where many
    programs know no quoting, such marks are taken as they stand.
    """

    def parse(file: BinaryIO, name: str) -> Iterator[Raw]:
        csv.field_size_limit(MAX_LINE)
        source = _Lines(file)
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
                _, line = source.again()
                reader = csv.reader(source, delimiter=delimiter, strict=True)
                cells = line.rstrip("\r\n").split(delimiter)
                why = "" if delimiter == "\t" else f"it cannot be read: {error}"
            if not any(cells):
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
    """Raises InputError where columns have no name, the same name, or none in UTF-8."""
    if not all(is_unicode(cell) for cell in cells):
        raise InputError(f"the header of {name} is not UTF-8 text; convert the file")
    doubled = sorted({cell for cell in cells if cells.count(cell) > 1 or not cell.strip()})
    if doubled:
        raise InputError(f"the header of {name} has {printable(repr(doubled[0]))} twice or without a name; mend it")
    return cells


def open_text(path: Path, field: str | None) -> FileSource:
    return FileSource(path, parse_text, "prompt", ("prompt",))


def open_jsonl(path: Path, field: str | None) -> FileSource:
    return FileSource(path, parse_jsonl, field, None)


def open_csv(path: Path, field: str | None, delimiter: str = ",") -> FileSource:
    """Raises InputError where the header cannot be read or has no such field."""
    try:
        with path.open("rb") as file:
            first = next(csv.reader(_Lines(io.BytesIO(file.read(MAX_LINE))), delimiter=delimiter), None)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(f"the header of {path} cannot be read: {error}") from None
    if not first:
        raise InputError(f"{path} is empty; its first line must name the columns")
    columns = tuple(check_header(first, str(path)))
    return FileSource(path, parse_csv(delimiter), pick_field(columns, field, str(path)), columns)


if TYPE_CHECKING:
    import pyarrow

_ROWS = 1024


class ParquetSource:
    """The rows of a Parquet file, a batch of them in memory at a time. `schema` is its Arrow schema."""

    def __init__(self, path: Path, field: str | None) -> None:
        parquet = arrow_parquet()
        try:
            with parquet.ParquetFile(path) as file:
                self.schema: pyarrow.Schema = file.schema_arrow
                self._total: int = file.metadata.num_rows
        except Exception as error:
            raise InputError(f"cannot read {path} as Parquet: {one_line(error)}") from error
        self._path = path
        self._field = pick_field(tuple(self.schema.names), field, str(path))
        self._done = 0

    @property
    def name(self) -> str:
        return str(self._path)

    @property
    def columns(self) -> tuple[str, ...] | None:
        return tuple(self.schema.names)

    @property
    def total(self) -> int | None:
        return self._total

    @property
    def done(self) -> int:
        return self._done

    def rows(self) -> Iterator[InputRow | Reject]:
        self._done = 0
        try:
            with arrow_parquet().ParquetFile(self._path) as file:
                for batch in file.iter_batches(batch_size=_ROWS):
                    for columns in batch.to_pylist():
                        self._done += 1
                        yield row_of((self._done, f"row {self._done}", columns), self._field)
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {one_line(error)}") from error


class DatasetSource:
    """The rows of a dataset on the hub, or of one saved on disk, streamed."""

    def __init__(self, name: str, field: str | None, split: str) -> None:
        self._name = name
        self._split = split
        self._dataset = _load(name, split)
        names: list[str] | None = self._dataset.column_names
        self._columns = None if names is None else tuple(names)
        self._field = field if self._columns is None else pick_field(self._columns, field, name)
        info = getattr(self._dataset, "num_rows", None)
        self._total = info if isinstance(info, int) else None
        self._done = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self._columns

    @property
    def total(self) -> int | None:
        return self._total

    @property
    def done(self) -> int:
        return self._done

    def rows(self) -> Iterator[InputRow | Reject]:
        self._done, field = 0, self._field
        for columns in _guarded(self._dataset, self._name):
            self._done += 1
            if field is None:
                field = pick_field(columns, None, self._name)
            yield row_of((self._done, f"row {self._done}", columns), field)


def arrow_parquet() -> Any:
    """pyarrow.parquet. Raises MissingExtra if it is not installed."""
    require("data", "this reads or writes Parquet files", "pyarrow")
    import pyarrow.parquet

    return pyarrow.parquet


def _guarded(dataset: Any, name: str) -> Iterator[Mapping[str, object]]:
    try:
        yield from dataset
    except Exception as error:
        raise InputError(f"the dataset {name} cannot be read ({type(error).__name__}: {one_line(error)})") from error


def _load(name: str, split: str) -> Any:
    require("data", f"{name!r} is no file, so it is taken for a dataset", "datasets")
    import datasets

    try:
        if Path(name).is_dir() and any((Path(name) / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
            found = datasets.load_from_disk(name)
            return found[split] if isinstance(found, dict) else found
        return datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:
        raise InputError(
            f"{name!r} is no file, and no dataset of that name could be opened ({type(error).__name__}: "
            f"{one_line(error)}); check the path, the name, and --split"
        ) from error


def open_source(name: str, field: str | None = None, split: str = "train") -> InputTable:
    """The rows of a file (.txt, .jsonl, .ndjson, .csv, .tsv, .parquet), of a dataset on disk, or of one on the hub.

    `field` is the column of the prompts; None finds it. Raises InputError.
    """
    path = Path(name)
    if path.is_file():
        match path.suffix.lower():
            case ".txt":
                return open_text(path, field)
            case ".jsonl" | ".ndjson":
                return open_jsonl(path, field)
            case ".csv":
                return open_csv(path, field)
            case ".tsv":
                return open_csv(path, field, "\t")
            case ".parquet":
                return ParquetSource(path, field)
        raise InputError(f"{path}: what is it? Its name must end in .txt, .jsonl, .csv, .tsv or .parquet")
    if not name.strip() or path.suffix.lower() in (".txt", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"):
        raise InputError(f"there is no file {name!r}")
    return DatasetSource(name, field, split)


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
    """InputRow groups of a fixed size. Where the input has no schema of its own, that of its first group is kept to."""

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
