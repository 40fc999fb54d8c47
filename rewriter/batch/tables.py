"""Parquet files and datasets, as sources; needs pyarrow or datasets (extra `train`), which load when they are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.errors import InputError, one_line
from redraft.extras import require
from rewriter.batch.sources import pick_field, row_of
from rewriter.batch.types import Reject, Row

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

    def rows(self) -> Iterator[Row | Reject]:
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

    def rows(self) -> Iterator[Row | Reject]:
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
