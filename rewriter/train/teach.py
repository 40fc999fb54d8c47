"""SFT triplets from prompts or pictures, by a teacher behind any OpenAI-compatible server.

    python -m rewriter.train.teach IN OUT.jsonl --model NAME --base-url http://host:8000/v1

IN: a .txt file with one prompt a line; .jsonl or .parquet files or `datasets:NAME#SPLIT` with a field `prompt`, or
`image` (a path, beside the file where it is relative), or both; or a folder of pictures. OUT gets the triplets, one a
line as they come; what the filters refuse goes with its reason to OUT.rejected.jsonl. The same command again goes on
where it was: only sources that are in neither file are asked about, those that a server failed on among them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from redraft.chat import ChatModel, OpenAIChat
from redraft.errors import BackendError, ConfigError, InputError
from redraft.images import open_image
from redraft.profiles import ModelConfig, ServerConfig
from redraft.records import DATASETS, Row, is_missing, load_records, text_field
from rewriter.request import clean_request
from rewriter.train.data import Triplet
from rewriter.train.opening import style_and_rules
from rewriter.train.script import append_rows, at_least_one, console, first_mistake, run, told
from rewriter.train.teacher import Rejected, Source, Teacher, TeachSettings, key_of, reasons

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Item:
    """A source that is not opened yet: what it says, and where its picture is."""

    key: str
    prompt: str | None
    picture: Path | None

    def open(self) -> Source:
        """Raises InputError for a picture that cannot be opened."""
        return Source(self.key, self.prompt, None if self.picture is None else open_image(self.picture))


@dataclass
class Tally:
    """How a run went."""

    kept: int = 0
    rejected: list[str] = field(default_factory=list)
    """The reasons."""
    failed: int = 0
    failed_in_a_row: int = 0
    last: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` in place of the process's own arguments. Returns the exit code."""
    return run(teach, argv)


def teach(argv: Sequence[str]) -> None:
    """Asks the teacher about every source that is not done. Raises ConfigError, InputError, BackendError."""
    options = _parser().parse_args(argv)
    items = list({item.key: item for item in read_items(options.source, options.max_bad)}.values())
    if options.limit is not None:
        items = items[: options.limit]
    style, rules = style_and_rules(options.style, options.target)
    settings = TeachSettings(
        options.rewrites, options.temperature, options.max_tokens, options.thought_chars, options.seed
    )
    chat = _chat(options, options.model)
    critic = None if options.no_critic else chat if options.critic is None else _chat(options, options.critic)
    teacher = Teacher(chat, critic, style, rules, settings)
    refused = options.out.with_name(options.out.name + ".rejected.jsonl")
    done = done_in(options.out) | done_in(refused)
    left = [item for item in items if item.key not in done]
    console.print(f"{len(items):,} sources, {len(items) - len(left):,} of them done before")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a", encoding="utf-8") as out, refused.open("a", encoding="utf-8") as bin_:
        tally = asyncio.run(teach_all(teacher, left, out, bin_, chat.name, options.concurrency, options.patience))
    why = ", ".join(f"{name} {count:,}" for name, count in reasons(tally.rejected).items())
    console.print(f"{tally.kept:,} triplets, {len(tally.rejected):,} rejected{f' ({why})' if why else ''}")
    if tally.failed:
        raise BackendError(
            f"{tally.failed:,} of {len(left):,} sources could not be asked about; the same command tries them again. "
            f"The last: {tally.last}"
        )


async def teach_all(
    teacher: Teacher,
    items: Sequence[Item],
    out: TextIO,
    bin_: TextIO,
    name: str,
    concurrency: int,
    patience: int,
) -> Tally:
    """Writes triplets to `out` and refusals to `bin_` as they come; `name` is the teacher's. Stops early where
    `patience` sources in a row failed: the server is away."""
    tally, left = Tally(), iter(items)

    async def work() -> None:
        for item in left:
            if tally.failed_in_a_row >= patience:
                return
            try:
                source = await asyncio.to_thread(item.open)
                answers = await teacher(source)
            except InputError as error:
                answers = [Rejected(item.prompt or "", f"picture: {error}")]
            except BackendError as error:
                tally.failed += 1
                tally.failed_in_a_row += 1
                tally.last = str(error)
                continue
            tally.failed_in_a_row = 0
            triplets = [one for one in answers if isinstance(one, Triplet)]
            append_rows(out, [{**_fields(one), "source": item.key, "teacher": name} for one in triplets])
            refusals = [one for one in answers if isinstance(one, Rejected)]
            append_rows(bin_, [{"prompt": one.prompt, "reason": one.reason, "source": item.key} for one in refusals])
            tally.kept += len(triplets)
            tally.rejected += [one.reason for one in refusals]

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return tally


def read_items(place: str, max_bad: float) -> Iterator[Item]:
    """The sources in `place`. Raises InputError."""
    path = Path(place)
    if not place.startswith(DATASETS) and path.is_dir():
        pictures = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES)
        if pictures:
            yield from (_item(None, picture) for picture in pictures)
            return
    if path.suffix == ".txt":
        yield from (_item(clean_request(line), None) for line in _lines(path))
        return
    yield from told(place, load_records([place], _read, max_bad)).records


def done_in(path: Path) -> set[str]:
    """The keys of the sources that the lines of a file are about. A last line that a kill cut off is taken away."""
    if not path.exists():
        return set()
    try:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)
        rows = [json.loads(line) for line in data[:whole].splitlines()]
        return {row["source"] for row in rows}
    except OSError as error:
        raise InputError(f"cannot go on with {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} was not written by this script ({error}); name another OUT") from error


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start + 1}") from error


def _read(row: Row, source: str) -> Item:
    image = None
    if not is_missing(row.get("image")):
        image = Path(source).parent / text_field(row, "image")
    if image is not None and is_missing(row.get("prompt")):
        return _item(None, image)
    return _item(clean_request(text_field(row, "prompt")), image)


def _item(prompt: str | None, picture: Path | None) -> Item:
    # By its path and size: hashing a million pictures before the first is asked about would take hours.
    try:
        mark = b"" if picture is None else f"{picture.name}\0{picture.stat().st_size}".encode("utf-8", "surrogatepass")
    except OSError as error:
        raise InputError(f"cannot read the picture {picture}: {error.strerror}") from error
    return Item(key_of(prompt, mark), prompt, picture)


def _fields(triplet: Triplet) -> dict[str, str]:
    return {"prompt": triplet.prompt, "thought": triplet.thought, "rewrite": triplet.rewrite}


def _chat(options: argparse.Namespace, model: str) -> ChatModel:
    try:
        server = ServerConfig(
            base_url=options.base_url,
            api_key_env=options.api_key_env,
            timeout_s=options.timeout,
            concurrency=options.concurrency,
        )
        return OpenAIChat(ModelConfig(kind="openai", model=model, server=server))
    except ValidationError as error:
        raise ConfigError(first_mistake(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rewriter.train.teach", description="Makes SFT triplets from prompts or pictures with a teacher."
    )
    parser.add_argument("source", metavar="IN", help="prompts (.txt, .jsonl, .parquet, datasets:...) or pictures")
    parser.add_argument("out", metavar="OUT", type=Path, help="the .jsonl file of triplets, which is gone on with")
    parser.add_argument("--model", required=True, help="the teacher, as its server calls it")
    parser.add_argument("--base-url", required=True, help="the server, such as http://host:8000/v1")
    parser.add_argument("--api-key-env", help="NAME of the environment variable that holds the API key")
    parser.add_argument("--critic", help="another model behind the same server for the last filter")
    parser.add_argument("--no-critic", action="store_true", help="leave the last filter out")
    parser.add_argument("--style", default="promptenhancer", help="the student's style: its templates are asked with")
    parser.add_argument("--target", help="image model the rewrites are for: a name from rewriter/targets or a file")
    parser.add_argument("--rewrites", type=at_least_one, default=1, help="answers asked for of each source")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-tokens", type=at_least_one, default=1024)
    parser.add_argument("--thought-chars", type=at_least_one, default=1600, help="longest thought that is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=at_least_one, help="only the first so many sources")
    parser.add_argument("--concurrency", type=at_least_one, default=8, help="sources asked about at once")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one reply")
    parser.add_argument("--patience", type=at_least_one, default=10, help="failures in a row after which to stop")
    parser.add_argument("--max-bad", type=float, default=0.01, help="share of malformed records that is allowed")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
