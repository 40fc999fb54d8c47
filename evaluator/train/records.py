"""Judgements to learn from: a picture, a request, one check, accept or reject.

A record has these fields; others are left alone:

    image                     path, relative to the file that holds the record; or bytes, or {"bytes": ..., "path": ...}
                              as in Parquet files and data sets
    request                    what the user wrote
    key_point                 id, name or alias of one of the 24 (`keypoints.toml`); other labels are kept
    question | description    the yes/no question of a checklist, or what the key point means in this request
    verdict                   "accept" or "reject" (also yes/no, true/false, 1/0)
    reason                    why, in a sentence; may be missing

Every picture is decoded once when records are loaded: a damaged one is named before training, not hours into it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evaluator.checklist import MAX_QUESTION
from evaluator.types import Check
from redraft.errors import InputError
from redraft.files import write_atomically
from redraft.images import open_image
from redraft.records import DATASETS, BadRecord, LoadedRecords, Row, is_missing, load_records, text_field

_VERDICTS = {"accept": True, "yes": True, "true": True, "1": True}
_VERDICTS |= {"reject": False, "no": False, "false": False, "0": False}
_MAX_REASON = 1000


@dataclass(frozen=True)
class PictureFile:
    """A picture file and the sha256 of its bytes: two files with equal bytes are one picture."""

    path: Path
    digest: str

    def open(self) -> Image.Image:
        """RGB. Raises InputError."""
        return open_image(self.path)


@dataclass(frozen=True)
class Judgement:
    """One record: `accept` is whether the picture meets `check`."""

    picture: PictureFile
    request: str
    check: Check
    accept: bool
    reason: str = ""


def load_judgements(places: Sequence[str | Path], spool: Path, *, max_bad: float = 0.01) -> LoadedRecords[Judgement]:
    """The judgements in `places` (`redraft.records`) whose pictures can be opened.

    Pictures that lie inside tables are written to the folder `spool`, once each. `max_bad`: share of bad records
    allowed. Raises InputError.
    """
    loaded = load_records(places, _Reader(spool), max_bad)
    pictures = _pictures({draft.image for draft in loaded.records})
    records: list[Judgement] = []
    places_of_records: list[tuple[str, int]] = []
    bad = list(loaded.bad)
    for draft, place in zip(loaded.records, loaded.places, strict=True):
        picture = pictures[draft.image]
        if isinstance(picture, PictureFile):
            records.append(Judgement(picture, draft.request, draft.check, draft.accept, draft.reason))
            places_of_records.append(place)
        else:
            bad.append(BadRecord(*place, picture))
    order = {source: number for number, source in enumerate(dict.fromkeys(record.file for record in bad))}
    bad.sort(key=lambda one: (order[one.file], one.line))
    return LoadedRecords(tuple(records), tuple(bad), tuple(places_of_records)).within(max_bad)


def question_of(description: str) -> str:
    """The question about a key point that is described; a description that is a question already stays as it is."""
    return description if description.endswith(("?", "？")) else f"Is this strictly met: {description}?"


@dataclass(frozen=True)
class _Draft:
    """A record whose picture has not been opened yet."""

    image: Path
    request: str
    check: Check
    accept: bool
    reason: str


class PictureField:
    """Reads the field of a picture: a path beside the file, or bytes, which are written to `spool`."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool

    def __call__(self, value: object, source: str, name: str = "image") -> Path:
        """The path of the picture, which may not be there. Raises InputError."""
        data = value.get("bytes") if isinstance(value, Mapping) else value
        if isinstance(data, bytes):
            return self._spooled(data)
        path = value.get("path") if isinstance(value, Mapping) else value
        if isinstance(path, str) and path:
            # What data sets hold are paths of their own cache, which are absolute.
            return Path(path) if source.startswith(DATASETS) else Path(source).parent / path
        raise InputError(f"field {name!r} is missing or holds no picture; give a path, or bytes")

    def _spooled(self, data: bytes) -> Path:
        path = self._spool / hashlib.sha256(data).hexdigest()
        try:
            if not path.is_file():
                self._spool.mkdir(parents=True, exist_ok=True)
                write_atomically(path, data)
        except OSError as error:
            raise InputError(f"cannot write pictures to {self._spool}: {error.strerror}") from error
        return path


class _Reader:
    """Makes drafts of rows."""

    def __init__(self, spool: Path) -> None:
        self._picture = PictureField(spool)

    def __call__(self, row: Row, source: str) -> _Draft:
        request, key_point = text_field(row, "request").strip(), text_field(row, "key_point").strip()
        if not key_point:
            raise InputError("field 'key_point' is empty")
        reason = "" if is_missing(row.get("reason")) else text_field(row, "reason").strip()
        if len(reason) > _MAX_REASON:
            raise InputError(f"field 'reason' has {len(reason):,} characters; at most {_MAX_REASON:,} are taken")
        check = Check(key_point, read_question(row))
        return _Draft(self._picture(row.get("image"), source), request, check, read_verdict(row.get("verdict")), reason)


def read_question(row: Row) -> str:
    """The question of a row, or that about its description. Raises InputError."""
    described = is_missing(row.get("question"))
    if described and is_missing(row.get("description")):
        raise InputError("fields 'question' and 'description' are both missing; one of them says what to judge")
    text = text_field(row, "description" if described else "question").strip()
    if not 0 < len(text) <= MAX_QUESTION:
        raise InputError(f"a question has 1 to {MAX_QUESTION} characters, not {len(text):,}")
    return question_of(text) if described else text


def read_verdict(value: object) -> bool:
    """Whether a verdict accepts. Raises InputError."""
    verdict = _VERDICTS.get(str(value).strip().casefold())
    if verdict is None:
        raise InputError(f"field 'verdict' is {value!r}; it must be accept or reject")
    return verdict


def _pictures(paths: Iterable[Path]) -> dict[Path, PictureFile | str]:
    """Each path with its picture, or with what is wrong with it."""
    todo = sorted(paths)
    with ThreadPoolExecutor() as pool:  # Pillow decodes without Python's lock
        return dict(zip(todo, pool.map(_look, todo), strict=True))


def _look(path: Path) -> PictureFile | str:
    try:
        open_image(path)
        return PictureFile(path, hashlib.sha256(path.read_bytes()).hexdigest())
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"cannot read the image {path}: {error.strerror}"


@dataclass(frozen=True)
class RecordParts:
    """The reported figures hold for pictures and requests that neither the weights nor the temperature have seen."""

    learn: tuple[Judgement, ...]
    calibrate: tuple[Judgement, ...]
    report: tuple[Judgement, ...]

    def shares(self) -> str | None:
        """What two of the parts have in common, or None."""
        named = {"training": self.learn, "calibration": self.calibrate, "report": self.report}
        pairs = [("training", "calibration"), ("training", "report"), ("calibration", "report")]
        for one, other in pairs:
            ours, theirs = ({key: j for j in named[name] for key in _keys(j)} for name in (one, other))
            both = sorted(ours.keys() & theirs.keys())
            if both:
                example = ours[both[0]]
                what = f"the picture {example.picture.path}" if both[0][0] == "picture" else f"{example.request!r}"
                return f"{len(both):,} pictures and requests are in both the {one} and the {other} part, such as {what}"
        return None


def split(records: Sequence[Judgement], calibrate: float, report: float, seed: int) -> RecordParts:
    """Cuts `records` up by about these shares; records with a picture or a request in common stay together.

    The same records and seed give the same parts, in whatever order they come. Raises InputError for a part that comes
    out empty.
    """
    if not (0 < calibrate < 1 and 0 < report < 1 and calibrate + report < 1):
        raise InputError(f"shares to calibrate ({calibrate:g}) and to report on ({report:g}) must leave some to learn")
    names = _together(records)
    parts: dict[str, list[Judgement]] = {"learn": [], "calibrate": [], "report": []}
    for record, name in zip(records, names, strict=True):
        draw = int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8]) / 2**64
        parts["report" if draw < report else "calibrate" if draw < report + calibrate else "learn"].append(record)
    empty = [name for name, part in parts.items() if not part]
    if empty:
        raise InputError(
            f"of {len(records):,} records with {len(set(names)):,} unrelated requests and pictures none were left to "
            f"{' or to '.join(empty)}; give more records, or files of their own (calibration_files, report_files)"
        )
    return RecordParts(*(tuple(parts[name]) for name in ("learn", "calibrate", "report")))


def _keys(record: Judgement) -> tuple[tuple[str, str], ...]:
    """What a record shares with others. No request at all (a record about a picture alone) is nothing in common."""
    picture = ("picture", record.picture.digest)
    return (picture, ("request", record.request)) if record.request else (picture,)


def _together(records: Sequence[Judgement]) -> list[str]:
    """For each record the name of its group: the least of what the group's records share. By union-find."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def find(key: tuple[str, str]) -> tuple[str, str]:
        root = key
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[key] != root:
            parent[key], key = root, parent[key]
        return root

    for record in records:
        first, *rest = (find(key) for key in _keys(record))
        for other in rest:
            low, high = sorted((first, other))
            parent[high] = low
            first = low
    return ["\0".join(find(_keys(record)[0])) for record in records]
