"""Training records: SFT triplets and RL prompts from JSONL and Parquet files, and what TRL is given of them.

A triplet is {"prompt": what the user wrote, "thought": ..., "rewrite": ...}; an RL prompt is {"prompt": ...}. Further
fields are kept. Records that cannot be used are named by file and line (in Parquet: row, from 1) and counted, so that
none is dropped silently; more of them than allowed refuse the whole load. What TRL sees is made with the rewriter's own
templates (`rewriter.styles`) and checked with its own parser (`rewriter.parse`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from core.errors import InputError
from rewriter.limits import clean_prompt
from rewriter.parse import parse_reply
from rewriter.styles import Style

T = TypeVar("T")
Row = Mapping[str, Any]
Chat = list[dict[str, str]]
_NAMED = 5
"""How many bad records an error names."""


@dataclass(frozen=True)
class Triplet:
    """What the user wrote, what the rewriter is to think ("" for nothing), and the prompt it is to answer with."""

    prompt: str
    thought: str
    rewrite: str
    extra: Row = field(default_factory=dict)


@dataclass(frozen=True)
class RLPrompt:
    """What the user wrote."""

    prompt: str
    extra: Row = field(default_factory=dict)


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used. `line` counts from 1."""

    file: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """The records that can be used, in the order of the files, and those that cannot."""

    records: tuple[T, ...]
    bad: tuple[BadRecord, ...]

    def __str__(self) -> str:
        return f"{len(self.records):,} records, {len(self.bad):,} malformed"


def load_triplets(paths: Sequence[str | Path], *, max_bad: float = 0.01) -> Loaded[Triplet]:
    """SFT triplets from `paths`: .jsonl or .parquet files, or folders of them. `max_bad`: share of bad records allowed.

    A triplet is bad, too, where the rewriter's parser would not read its rewrite back from a reply: tags inside it, or
    quotes around the whole, would teach replies that come out otherwise. Raises InputError.
    """
    return _load(paths, _triplet, max_bad)


def load_prompts(paths: Sequence[str | Path], *, max_bad: float = 0.01) -> Loaded[RLPrompt]:
    """RL prompts, else as `load_triplets`. Raises InputError."""
    return _load(paths, _rl_prompt, max_bad)


def reply_of(thought: str, rewrite: str) -> str:
    """The reply that `rewriter.parse.parse_reply` takes apart into these; without a thought only the answer."""
    return f"<think>{thought}</think><answer>{rewrite}</answer>" if thought else f"<answer>{rewrite}</answer>"


def asked(style: Style, prompt: str) -> Chat:
    """The rewriter's own conversation for `prompt`, as TRL and chat templates want it."""
    return [{"role": message.role, "content": _text(message.content)} for message in style.ask(prompt)]


def sft_rows(triplets: Sequence[Triplet], style: Style, *, thoughts: bool = True) -> list[dict[str, Chat]]:
    """TRL's conversational prompt-completion rows, of whose tokens SFTTrainer learns the completion's alone.
    `thoughts=False` leaves the thoughts out (the ablation "SFT without thought")."""
    return [
        {
            "prompt": asked(style, one.prompt),
            "completion": [
                {"role": "assistant", "content": reply_of(one.thought if thoughts else "", one.rewrite)},
            ],
        }
        for one in triplets
    ]


def rl_rows(prompts: Sequence[RLPrompt], style: Style) -> list[dict[str, Any]]:
    """TRL's conversational prompt-only rows; the column `user_prompt` is what the reward judges against."""
    return [{"prompt": asked(style, one.prompt), "user_prompt": one.prompt} for one in prompts]


def _text(content: object) -> str:
    assert isinstance(content, str), "rewriter templates hold no pictures"
    return content


def _load(paths: Sequence[str | Path], read: Callable[[Row], T], max_bad: float) -> Loaded[T]:
    records: list[T] = []
    bad: list[BadRecord] = []
    for file in _files(paths):
        for line, row in _rows(file):
            try:
                records.append(read(_mapping(row)))
            except InputError as error:
                bad.append(BadRecord(file, line, str(error)))
    total = len(records) + len(bad)
    if total == 0:
        raise InputError(f"there are no records in {', '.join(map(str, paths)) or 'no files'}; one JSON object a line")
    if not records or len(bad) > max_bad * total:
        named = "\n".join(f"  {one}" for one in bad[:_NAMED])
        more = f"\n  and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        raise InputError(
            f"{len(bad):,} of {total:,} records cannot be used, more than the share of {max_bad:g} that is allowed:\n"
            f"{named}{more}"
        )
    return Loaded(tuple(records), tuple(bad))


def _files(paths: Sequence[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix in _READERS)
            if not found:
                raise InputError(f"there are no {' or '.join(_READERS)} files in {path}")
            yield from found
        elif path.suffix in _READERS:
            yield path
        else:
            raise InputError(f"{path} is neither {' nor '.join(_READERS)}, nor a folder of such files")


def _rows(file: Path) -> Iterator[tuple[int, object]]:
    try:
        yield from _READERS[file.suffix](file)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error


def _jsonl(file: Path) -> Iterator[tuple[int, object]]:
    # Read as bytes: one line that is no UTF-8 must not hide the others.
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
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"reading {file} needs pyarrow; pip install 'redraft[train]'") from error
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


def _mapping(row: object) -> Row:
    if isinstance(row, InputError):
        raise row
    if not isinstance(row, dict):
        raise InputError(f"is a JSON {type(row).__name__}, not an object with fields")
    return row


def _triplet(row: Row) -> Triplet:
    prompt, rewrite = clean_prompt(_field(row, "prompt")), _field(row, "rewrite").strip()
    # Missing is an empty thought, as in data made without thoughts; a thought that is no text is a mistake.
    thought = _field(row, "thought").strip() if row.get("thought") is not None else ""
    if not rewrite:
        raise InputError("field 'rewrite' is empty")
    parsed = parse_reply(reply_of(thought, rewrite))
    if parsed.prompt is None:
        raise InputError(f"the rewriter could not read this rewrite and thought in a reply: {parsed.problem}")
    if (parsed.prompt, parsed.thought) != (rewrite, thought):
        what, told = ("rewrite", parsed.prompt) if parsed.prompt != rewrite else ("thought", parsed.thought)
        raise InputError(f"the rewriter would read another {what} from a reply ({_short(told)}); take markup out of it")
    return Triplet(prompt, thought, rewrite, _extra(row, {"prompt", "thought", "rewrite"}))


def _rl_prompt(row: Row) -> RLPrompt:
    return RLPrompt(clean_prompt(_field(row, "prompt")), _extra(row, {"prompt"}))


def _field(row: Row, name: str) -> str:
    value = row.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise InputError(f"field {name!r} is missing; there are {', '.join(sorted(map(str, row))) or 'none'}")
    if not isinstance(value, str):
        raise InputError(f"field {name!r} is not text but {type(value).__name__}")
    return value


def _extra(row: Row, known: set[str]) -> Row:
    return {name: value for name, value in row.items() if name not in known}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
