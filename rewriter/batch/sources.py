"""Reading rows: text, JSON lines, CSV and TSV here; Parquet and datasets in `tables`. Everything streams.

A row that cannot be used becomes a Reject that says where it stands and why; the rows behind it go on.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from redraft.errors import InputError, printable
from redraft.wire import is_unicode
from rewriter.batch.types import Reject, Row
from rewriter.request import MAX_CHARS, clean_request

FIELDS = ("prompt", "text", "caption", "Prompt", "TEXT", "original_prompt")
"""Columns that are taken for the prompt, in this order, where none is named."""
MAX_LINE = 16 * 2**20
"""Longest line or cell that is read, in bytes; what is longer is rejected, so that no file can fill the memory."""
_SHOWN = 200

Raw = tuple[int, str, Mapping[str, object] | str]
"""Number, where it stands, and its columns, or why there are none."""


class Source(Protocol):
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

    def rows(self) -> Iterator[Row | Reject]: ...


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


def row_of(raw: Raw, field: str) -> Row | Reject:
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
        return Row(number, columns, clean_request(value))
    except InputError as error:
        return Reject(number, where, str(error), _begin(value))


def _begin(value: object) -> str:
    return str(value)[:_SHOWN].encode("utf-8", "backslashreplace").decode()


class FileSource:
    """A Source over a file that is read line by line. `parse` yields what stands in it, from an open binary file."""

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

    def rows(self) -> Iterator[Row | Reject]:
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
