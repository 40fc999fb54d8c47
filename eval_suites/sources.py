"""Reading what users point a suite at: every mistake is named by file, line and field, with where to get the files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from redraft.errors import InputError
from redraft.records import load_records

T = TypeVar("T")
Row = Mapping[str, Any]
_NAMED = 8


def find(place: Path, names: Sequence[str], source: str) -> Path:
    """The file `place`, or the first of `names` (globs) in the folder `place`. Raises InputError with `source`."""
    files = find_all(place, names, source)
    return files[0]


def find_all(place: Path, names: Sequence[str], source: str) -> list[Path]:
    """The file `place`, or all files in the folder `place` that match the first of `names` with any match, sorted."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError(f"there is no file or folder {place}; --data wants {_either(names)}, from {source}")
    for name in names:
        files = sorted(path for path in place.glob(name) if path.is_file())
        if files:
            return files
    inside = sorted(path.name for path in place.iterdir())
    held = ", ".join(inside[:_NAMED]) + (", ..." if len(inside) > _NAMED else "") if inside else "nothing"
    raise InputError(f"{place} holds {held}, but not {_either(names)}; get it from {source}")


def read_records(files: Sequence[Path], read: Callable[[Row], T]) -> tuple[T, ...]:
    """What `read` makes of each row of JSONL and Parquet files. Raises InputError, naming up to five bad rows."""
    return load_records([str(file) for file in files], lambda row, _: read(row), 0.0).records


def read_table(file: Path, read: Callable[[Row], T], delimiter: str = ",") -> tuple[T, ...]:
    """What `read` makes of each row of a CSV or TSV file with a header. Cells that are not there are missing fields."""
    lines = io.StringIO(read_text(file), newline="")  # prompts may hold other line separators than \n
    plain = delimiter != ","  # quotation marks in a TSV are just that
    rows: csv.DictReader[str] = csv.DictReader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
        restkey="(more cells)",
    )

    def numbered() -> Iterator[tuple[str, object]]:
        try:
            for row in rows:
                filled = {name: cell for name, cell in row.items() if cell is not None}
                if "(more cells)" in filled:
                    raise InputError(f"{file}:{rows.line_num}: more cells than the header has; is the separator right?")
                yield f"{file}:{rows.line_num}", filled
        except csv.Error as error:
            raise InputError(f"{file}:{rows.line_num}: {error}") from error

    return _read(file, numbered(), read)


def read_json_list(file: Path, read: Callable[[Row], T]) -> tuple[T, ...]:
    """What `read` makes of each object of a JSON list."""
    data = json_value(file)
    if not isinstance(data, list):
        raise InputError(f"{file} holds a JSON {type(data).__name__}, not a list of objects")
    return _read(file, ((f"{file}, entry {n}", row) for n, row in enumerate(data, start=1)), read)


def read_json_dict(file: Path, read: Callable[[str, Row], T]) -> tuple[T, ...]:
    """What `read` makes of each (key, object) of a JSON object."""
    data = json_value(file)
    if not isinstance(data, dict):
        raise InputError(f"{file} holds a JSON {type(data).__name__}, not an object of objects")
    made: list[T] = []
    for key, value in data.items():
        made += _read(file, [(f"{file}, key {key!r}", value)], partial(read, key))
    return _some(file, tuple(made))


def read_lines(file: Path) -> tuple[str, ...]:
    """The lines of a text file that hold anything, without the blanks around them."""
    return _some(file, tuple(line.strip() for line in read_text(file).split("\n") if line.strip()))


def json_value(file: Path) -> Any:
    """The JSON value in `file`."""
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {error}") from error


def want(row: Row, name: str, kind: type[T]) -> T:
    """The row's field `name`, which must be a `kind` (int is not bool). Raises InputError."""
    value = row.get(name)
    if value is None:
        raise InputError(f"field {name!r} is missing; there are {', '.join(sorted(map(str, row))) or 'none'}")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"field {name!r} is {type(value).__name__}, not {kind.__name__}")
    if isinstance(value, str) and not value.strip():
        raise InputError(f"field {name!r} is empty")
    return value


def want_texts(row: Row, name: str) -> tuple[str, ...]:
    """The row's field `name`, a list of texts; a text that holds such a list as JSON will do."""
    value = row.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise InputError(f"field {name!r} is neither a list nor the JSON of one: {value[:60]!r}") from None
    if value is None:
        want(row, name, list)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"field {name!r} is no list of texts")
    return tuple(value)


def as_int(row: Row, name: str) -> int:
    """The row's field `name` as a whole number, also if a table holds it as text or as 3.0."""
    value = row.get(name)
    if isinstance(value, bool) or value is None:
        return want(row, name, int)
    try:
        number = float(value)
        if number != int(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"field {name!r} is {value!r}, not a whole number") from None
    return int(number)


def sha256(file: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    try:
        with file.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error


def published_notes(
    file: Path, count: int, published: int, *, known: Sequence[str] = (), unit: str = "prompts"
) -> tuple[str, ...]:
    """What tells this file from the published one: how many entries it has, and its hash if one is known."""
    notes = []
    if count != published:
        notes.append(f"{file.name} holds {count:,} {unit}, the published file {published:,}: figures do not compare.")
    elif known and sha256(file) not in known:
        notes.append(f"{file.name} has the published number of {unit}, but is none of the versions known to redraft.")
    return tuple(notes)


def unique(ids: Iterable[str], file: Path) -> None:
    """Raises InputError if an id is there twice."""
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(f"{file}: {', '.join(map(repr, twice[:_NAMED]))} stand there more than once")


def _read(file: Path, rows: Iterable[tuple[str, object]], read: Callable[[Row], T]) -> tuple[T, ...]:
    made = []
    for where, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{where}: is a JSON {type(row).__name__}, not an object with fields")
        try:
            made.append(read(row))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    return _some(file, tuple(made))


def _some(file: Path, made: tuple[T, ...]) -> tuple[T, ...]:
    if not made:
        raise InputError(f"{file} holds no entries")
    return made


def read_text(file: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises InputError."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)
