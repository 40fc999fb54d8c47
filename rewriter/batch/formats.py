"""Which source a name means."""

from __future__ import annotations

from pathlib import Path

from redraft.errors import InputError
from rewriter.batch.sources import Source, open_csv, open_jsonl, open_text
from rewriter.batch.tables import DatasetSource, ParquetSource


def open_source(name: str, field: str | None = None, split: str = "train") -> Source:
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
