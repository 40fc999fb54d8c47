"""Pictures with texts, from anywhere, judged by a profile and then exported as if they were the pictures of runs.

    judge = TextPictureJudge(make_checklist, reward, profile.limits)
    for run in judge_pictures(find_pictures(Path("photos")), judge, Journal(...)):
        ...                               # one "run" for each text: all pictures that have it, with their reports

A source is a folder in which each picture has a text file of its name beside it (cat.jpg, cat.txt), a folder with a
metadata.jsonl, or such a JSON Lines or Parquet file: a row has `image` or `file_name`, and `request`, `text` or `caption`. What
has been judged is kept in a journal, so that an export that was interrupted, or is run again with another --share, judges
nothing twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from agent.decide import acceptable
from agent.export import FinishedRun
from evaluator.reward import Reward, case_of
from evaluator.types import ChecklistMaker, Report, RequestChecks
from redraft.coroutines import run_coroutine
from redraft.errors import InputError, one_line
from redraft.images import open_image
from redraft.journal import Journal
from redraft.limits import Limits
from redraft.records import Row, is_missing, load_records, text_field
from rewriter.request import clean_request

METADATA = "metadata.jsonl"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_AT_ONCE = 16
"""Pictures that are in memory, and with the judge, at one time."""
_REPORT = TypeAdapter(Report)
_CHECKS = TypeAdapter(RequestChecks)


@dataclass(frozen=True)
class TextPicture:
    """A picture file and the text that it should show."""

    path: Path
    text: str


def find_pictures(source: Path) -> tuple[TextPicture, ...]:
    """The pictures of a source, each pair of picture and text once. Raises InputError, which names bad rows by file and line."""
    if source.is_dir() and not (source / METADATA).is_file():
        return _find_beside(source)
    file = source / METADATA if source.is_dir() else source
    loaded = load_records([str(file)], lambda row, _: _read_row(row, file.parent), 0.0)
    return tuple(dict.fromkeys(loaded.records))


def _find_beside(folder: Path) -> tuple[TextPicture, ...]:
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES]
    texts = [(path, path.with_suffix(".txt")) for path in pictures]
    try:
        found = tuple(TextPicture(path, text.read_text(encoding="utf-8")) for path, text in texts if text.is_file())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder}: a text beside a picture cannot be read: {one_line(error)}") from error
    if not found:
        raise InputError(
            f"{folder} holds {len(pictures):,} pictures, but no texts to judge them by; put NAME.txt beside NAME.png, or a "
            f'{METADATA} with a line {{"file_name": …, "text": …}} for each picture'
        )
    return found


def _read_row(row: Row, folder: Path) -> TextPicture:
    file = next((name for name in ("image", "file_name") if not is_missing(row.get(name))), "image")
    text = next((name for name in ("request", "text", "caption") if not is_missing(row.get(name))), "text")
    return TextPicture(folder / text_field(row, file), text_field(row, text))


@dataclass(frozen=True)
class TextPictureJudge:
    """What judges: the checklist of a text is made once, and each of its pictures is scored by the reward."""

    make_checklist: ChecklistMaker
    reward: Reward
    limits: Limits


class PictureFiles:
    """Files by the hash of their bytes: what an export copies pictures from."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}

    def add(self, path: Path) -> str:
        """Its digest. Raises InputError if it cannot be read."""
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"cannot read the picture {path}: {error.strerror}") from error
        self._paths[digest] = path
        return digest

    def path(self, digest: str) -> Path:
        return self._paths[digest]


def judge_pictures(
    pictures: Sequence[TextPicture], judge: TextPictureJudge, journal: Journal, skipped: dict[str, str]
) -> Iterator[FinishedRun]:
    """A run for each text, in the order in which texts come first. Pictures that cannot be opened, and texts that cannot be a
    request, go to `skipped`. Raises BackendError if a model cannot be reached: what was judged before is kept."""
    groups: dict[str, list[Path]] = {}
    for picture in pictures:
        groups.setdefault(picture.text, []).append(picture.path)
    todo = list(groups.items())
    for start in range(0, len(todo), _AT_ONCE):
        yield from run_coroutine(_judge_some(todo[start : start + _AT_ONCE], judge, journal, skipped))


async def _judge_some(
    groups: Sequence[tuple[str, Sequence[Path]]], judge: TextPictureJudge, journal: Journal, skipped: dict[str, str]
) -> list[FinishedRun]:
    gate = asyncio.Semaphore(_AT_ONCE)
    runs = await asyncio.gather(*(_judge_text(text, paths, judge, journal, skipped, gate) for text, paths in groups))
    return [run for run in runs if run is not None]


async def _judge_text(
    text: str,
    paths: Sequence[Path],
    judge: TextPictureJudge,
    journal: Journal,
    skipped: dict[str, str],
    gate: asyncio.Semaphore,
) -> FinishedRun | None:
    try:
        request = clean_request(text)
    except InputError as error:
        skipped[str(paths[0])] = str(error)
        return None

    async def list_checks() -> Any:
        async with gate:
            return _CHECKS.dump_python(await judge.make_checklist(request), mode="json")

    case = case_of(request, _CHECKS.validate_python(await journal.aonce(("checks", request), list_checks)))
    store = PictureFiles()

    async def report_on(path: Path) -> tuple[str, Report] | None:
        try:
            digest = store.add(path)

            async def score() -> Any:
                async with gate:
                    image = await asyncio.to_thread(open_image, path)
                    return _REPORT.dump_python(await judge.reward.judge(image, case), mode="json")

            return digest, _REPORT.validate_python(await journal.aonce(("report", digest, request), score))
        except InputError as error:
            skipped[str(path)] = str(error)
            return None

    judged = [one for one in await asyncio.gather(*map(report_on, paths)) if one is not None]
    scored = [at for at, (_, report) in enumerate(judged) if report.score is not None]
    best = max(scored, key=lambda at: judged[at][1].score or 0.0, default=None)
    accepted = best is not None and acceptable(judged[best][1], judge.limits)
    attempts = [
        {
            "number": number,
            "kind": "generate",
            "prompt": request,
            "seed": None,
            "parent": None,
            "score": report.score,
            "sha256": digest,
            "report": _REPORT.dump_python(report, mode="json"),
        }
        for number, (digest, report) in enumerate(judged, start=1)
    ]
    record = {
        "request": request,
        "attempts": attempts,
        "rounds": [],
        "best": None if best is None else best + 1,
        "stop": "accepted" if accepted else "judged",
        "unchecked": list(case.unchecked),
    }
    return FinishedRun(paths[0].name, record, store)
