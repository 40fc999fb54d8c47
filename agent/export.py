"""`redraft export`: training data out of runs and conversations, as JSON lines or Parquet with a dataset card.

    exported = export_runs("preferences", Path("runs"), Path("preferences"))
    print(exported.rows, exported.skipped)

Nothing is exported unless this is called: rows hold what users wrote and the pictures that came of it. Kinds:

preferences   pairs of prompts and pictures of one request, the better first (HPD, Pick-a-Pic, RankDPO, TRL's DPO)
implicit      what users of `redraft chat` did with pictures: accepted, edited further, undone (Social Reward, D3PO)
records       picture, check, verdict: what `python -m evaluator.train` learns from
curated       the best picture of each request, and of these the best share (Compress & Align's filter)
edits         source, result and instruction, in the columns of HumanEdit

With a profile, the source is no runs but pictures with texts from anywhere, which that profile judges first (`agent.judged`):

    export_judged("curated", Path("photos"), Path("best"), load_profile("mini"), ExportOptions(share=0.3))

Runs are read one after the other, so that a million of them fit; pictures are copied once, under their hash. An export
that was interrupted is run again: pictures that are there are not copied again, and the table appears when it is whole.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from agent.chat.journal import FileLog, fold_records
from agent.chat.values import Picture, TurnEntry
from agent.runfolder import RunFolder
from redraft.coroutines import run_coroutine
from redraft.errors import InputError, one_line
from redraft.extras import require
from redraft.files import open_atomically, write_atomically
from redraft.images import ImageStore, is_digest
from redraft.journal import Journal

if TYPE_CHECKING:
    from agent.judged import TextPictureJudge
    from redraft.profiles import Profile

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".parquet")
LOG = "conversation.jsonl"
_PICTURES = ("image", "chosen_image", "rejected_image", "INPUT_IMG", "OUTPUT_IMG", "against")
"""The columns of pictures."""
_GROUP = 256
"""Rows of a Parquet row group: so many pictures are in memory at once."""


@dataclass(frozen=True)
class ExportOptions:
    """margin: two pictures whose scores differ by less are a tie, and no pair. sure: a verdict is a record if its
    P(yes) is at least this, or at most one minus this. share: how much of the best is curated; accept_at: the lowest score
    that is."""

    margin: float = 0.02
    sure: float = 0.8
    share: float = 1.0
    accept_at: float = 0.0


@dataclass(frozen=True)
class Exported:
    """What was written. `skipped`: why runs were left out, by their folder."""

    kind: str
    out: Path
    rows: int
    runs: int
    skipped: Mapping[str, str] = field(default_factory=dict)


class PictureStore(Protocol):
    """Where the pictures of a run lie."""

    def path(self, digest: str) -> Path: ...


class PictureFolder:
    """The folder `images` of an export; pictures are named by their hash, and copied once, when a row with them is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._wanted: dict[str, Path] = {}

    def add(self, store: PictureStore, digest: str) -> str:
        """The path that a picture will have, relative to the folder of the table. Raises InputError if it is gone."""
        if not is_digest(digest):  # a record may be anybody's, and the digest becomes a path
            raise InputError("its record names a picture by something that is no hash")
        source = store.path(digest)
        name = f"{self.folder.name}/{digest}{source.suffix}"
        if not source.is_file() and not (self.folder.parent / name).is_file():
            raise InputError(f"the picture {digest[:12]} is gone from its store")
        self._wanted[name] = source
        return name

    def copy(self, row: Row) -> None:
        """Copies the pictures of a row that are not there yet."""
        for name in (row[column] for column in _PICTURES if row.get(column) is not None):
            source, place = self._wanted.pop(name, None), self.folder.parent / name
            if source is not None and not place.is_file():
                self.folder.mkdir(parents=True, exist_ok=True)
                with open_atomically(place) as file, source.open("rb") as data:
                    shutil.copyfileobj(data, file)


@dataclass(frozen=True)
class FinishedRun:
    """A run's record and its pictures."""

    name: str
    record: Mapping[str, Any]
    store: PictureStore

    @property
    def request(self) -> str:
        return str(self.record["request"])

    def attempts(self) -> list[Mapping[str, Any]]:
        """Those with a score, without drafts."""
        return [a for a in self.record["attempts"] if a["score"] is not None and not a.get("draft")]

    def said_with(self, prompt: str, name: Literal["thought", "negative_prompt"]) -> str:
        """The `thought` or the `negative_prompt` that the rewriter gave with a prompt; "" for the request itself."""
        rewrites = (rewrite for number in self.record["rounds"] for rewrite in number["rewrites"])
        return next((str(r.get(name) or "") for r in rewrites if r["prompt"] == prompt), "")


RowMaker = Callable[[FinishedRun, PictureFolder, ExportOptions], Iterator[Row]]


def make_preferences(run: FinishedRun, pictures: PictureFolder, options: ExportOptions) -> Iterator[Row]:
    """A row for each two pictures whose scores differ by the margin: the better as `chosen`, with both ranks (1 is the best
    of the run, ties share a rank), so that rank weights can be computed (RankDPO)."""
    attempts = sorted((a for a in run.attempts() if a["kind"] == "generate"), key=lambda a: -a["score"])
    ranks = [1 + sum(other["score"] - a["score"] >= options.margin for other in attempts) for a in attempts]
    for (better, rank), (worse, other_rank) in combinations(zip(attempts, ranks, strict=True), 2):
        if better["score"] - worse["score"] < options.margin:
            continue
        row: Row = {"request": run.request, "margin": better["score"] - worse["score"]}
        for side, attempt, place in (("chosen", better, rank), ("rejected", worse, other_rank)):
            row |= {
                f"{side}_image": pictures.add(run.store, attempt["sha256"]),
                f"{side}_prompt": attempt["prompt"],
                f"{side}_thought": run.said_with(attempt["prompt"], "thought"),
                f"{side}_negative_prompt": run.said_with(attempt["prompt"], "negative_prompt"),
                f"{side}_score": attempt["score"],
                f"{side}_rank": place,
            }
        yield row | {"pictures": len(attempts), "run": run.name}


def make_records(run: FinishedRun, pictures: PictureFolder, options: ExportOptions) -> Iterator[Row]:
    """A row for each verdict that is sure enough. If a check of a picture has several verdicts, they must agree."""
    for attempt in run.attempts():
        if attempt["kind"] != "generate":
            continue  # checks of an edit may speak of the source
        answers: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for verdict in attempt["report"]["verdicts"]:
            if verdict["outcome"] == "scored":
                check = verdict["check"]
                answers.setdefault((check["key_point"], check["question"]), []).append(verdict)
        for (key_point, question), verdicts in answers.items():
            sides = {_sure_side(verdict, options.sure) for verdict in verdicts}
            if len(sides) == 1 and None not in sides:
                yield {
                    "image": pictures.add(run.store, attempt["sha256"]),
                    "request": run.request,
                    "key_point": key_point,
                    "question": question,
                    "verdict": sides.pop(),
                    # Of looks that differ the reason says so, which is no reason for the verdict.
                    "reason": "" if verdicts[0].get("spread") else str(verdicts[0].get("reason") or ""),
                    "p": verdicts[0]["probability"],
                    "by": ", ".join(dict.fromkeys(str(v.get("by") or "judge") for v in verdicts)),
                    "run": run.name,
                }


def _sure_side(verdict: Mapping[str, Any], sure: float) -> Literal["accept", "reject"] | None:
    """The verdict of which a judge is sure, if it is. Of several looks (`Verdict.spread`) all must be sure of an "accept"."""
    p = float(verdict["probability"])
    return "accept" if p - verdict.get("spread", 0.0) >= sure else "reject" if p <= 1 - sure else None


def make_curated(run: FinishedRun, pictures: PictureFolder, options: ExportOptions) -> Iterator[Row]:
    """The best picture of the run, if it is good enough."""
    best = run.record.get("best")
    if best is None:
        return
    attempt = run.record["attempts"][best - 1]
    if attempt["score"] is None or attempt["score"] < options.accept_at:
        return
    yield {
        "image": pictures.add(run.store, attempt["sha256"]),
        "text": run.request,
        "request": run.request,
        "prompt": attempt["prompt"],
        "score": attempt["score"],
        "accepted": run.record["stop"] == "accepted",
        "unchecked": list(run.record.get("unchecked", [])),
        "seed": attempt["seed"],
        "run": run.name,
    }


def make_edits(run: FinishedRun, pictures: PictureFolder, options: ExportOptions) -> Iterator[Row]:
    """A row for each judged edit, in HumanEdit's columns, with the judge's score and answers."""
    for attempt in run.attempts():
        if attempt["kind"] != "edit" or attempt["parent"] is None:
            continue
        yield {
            "IMAGE_ID": f"{run.name}-{attempt['number']}",
            "EDITING_TYPE": "",
            "EDITING_INSTRUCTION": attempt["prompt"],
            "OUTPUT_DESCRIPTION": "",
            "INPUT_IMG": pictures.add(run.store, attempt["parent"]),
            "OUTPUT_IMG": pictures.add(run.store, attempt["sha256"]),
            "request": run.request,
            "score": attempt["score"],
            "seed": attempt["seed"],
            "run": run.name,
        }


def make_implicit(home: Path, pictures: PictureFolder) -> Iterator[Row]:
    """What users did with the pictures of one conversation: a row for each picture that somebody reacted to.

    `signal`: accepted, saved, edited_further (it was good enough to go on from), undone. `preferred`: whether that speaks for it.
    `against`: the picture that an undo went back to. A picture that was undone and later accepted counts as accepted.
    """
    log = FileLog(home / LOG)
    state = fold_records(run_coroutine(log.read()))
    store = ImageStore(home.parent / "images")
    signals = _read_signals(state.entries, state.pictures)
    for picture in state.pictures:
        if picture.number in signals:
            signal, other = signals[picture.number]
            yield {
                "image": pictures.add(store, picture.image),
                "request": state.origin(picture),
                "signal": signal,
                "preferred": signal != "undone",
                "against": None if other is None else pictures.add(store, state.picture(other).image),
                "score": picture.score,
                "conversation": home.name,
                "picture": picture.number,
            }


def _read_signals(entries: Sequence[TurnEntry], pictures: Sequence[Picture]) -> dict[int, tuple[str, int | None]]:
    """Number of a picture to what was done with it, the strongest of undone < edited_further < saved < accepted. What the
    judge accepted is no signal: only what the user did."""
    undone: dict[int, tuple[str, int | None]] = {}
    taken: dict[str, dict[int, tuple[str, int | None]]] = {"save": {}, "accept": {}}
    current = 0
    for entry in entries:
        if entry.kind == "undo" and current and entry.current != current and not entry.error:
            undone[current] = ("undone", entry.current or None)
        if entry.kind == "redo" and not entry.error:
            undone.pop(entry.current, None)
        if entry.kind in taken and not entry.error and entry.current:
            for number in entry.pictures or (entry.current,):
                taken[entry.kind][number] = ("accepted" if entry.kind == "accept" else "saved", None)
        current = entry.current
    parents = {p.parent for p in pictures if p.parent is not None}
    further = {p.number: ("edited_further", None) for p in pictures if p.number in parents and p.made != "given"}
    return undone | further | taken["save"] | taken["accept"]


MAKERS: Mapping[str, RowMaker] = {
    "preferences": make_preferences,
    "records": make_records,
    "curated": make_curated,
    "edits": make_edits,
}
KINDS = ("preferences", "implicit", "records", "curated", "edits")
JUDGED_KINDS = ("preferences", "records", "curated")
"""What can be made of pictures with texts that no run drew."""


def export_runs(kind: str, runs: Path, out: Path, options: ExportOptions | None = None) -> Exported:
    """Exports the runs in the folder `runs` (or the run `runs` itself; for "implicit": the conversations) to `out`.

    `out` is a folder, which gets `data.jsonl`, `images/` and `README.md`, or a file ending in .jsonl or .parquet, beside
    which they lie as `NAME-images/` and `NAME.md`. Runs that cannot be read are skipped and named. Raises InputError if
    nothing can be exported, or `out` cannot be written.
    """
    if kind not in KINDS:
        raise InputError(f"there is no export {kind!r}; there are {', '.join(KINDS)}")
    table, images, _ = _layout(out)
    folders = _conversations(runs) if kind == "implicit" else _runs(runs)
    pictures, skipped, seen = PictureFolder(images), dict[str, str](), 0

    def name_of(folder: Path) -> str:
        return folder.name if folder == runs else folder.relative_to(runs).as_posix()

    options = options or ExportOptions()

    def rows() -> Iterator[Row]:
        nonlocal seen
        for folder in folders:
            seen += 1
            try:
                made = list(_rows_of(kind, folder, name_of(folder), pictures, options))
            except (InputError, KeyError, TypeError, ValueError, IndexError) as error:
                why = one_line(error) if isinstance(error, InputError) else f"its record is damaged ({one_line(error)})"
                skipped[name_of(folder)] = why
                continue
            yield from made

    what = "conversations" if kind == "implicit" else "runs"
    count = _export(
        kind, runs, out, rows(), pictures, options,
        made_of=lambda: f"{seen - len(skipped):,} {what}", skipped=skipped,
    )  # fmt: skip
    return Exported(kind, table, count, seen - len(skipped), skipped)


def export_judged(
    kind: str,
    source: Path,
    out: Path,
    profile: Profile,
    options: ExportOptions | None = None,
    judge: TextPictureJudge | None = None,
) -> Exported:
    """Exports pictures with texts (`agent.judged` says which files) after `profile` has judged them; `judge`: what judges in its
    place. What was judged is kept beside the table, as `NAME.judged.jsonl`. Raises as `export_runs` does, and BackendError if a
    model cannot be reached; the same call then goes on."""
    from agent.judged import TextPictureJudge, find_pictures, judge_pictures

    if kind not in JUDGED_KINDS:
        raise InputError(f"{kind!r} cannot be made of pictures with texts; {', '.join(JUDGED_KINDS)} can")
    table, images, _ = _layout(out)
    found = find_pictures(source)
    options = options or ExportOptions()
    settings = profile.need_judge().model_dump(mode="json"), profile.evaluator.model_dump(mode="json")
    if judge is None:
        from evaluator.reward import open_evaluator
        from rewriter.guard import detect_language

        judge = TextPictureJudge(*open_evaluator(profile, detect_language=detect_language), profile.limits)
    pictures, skipped = PictureFolder(images), dict[str, str]()
    seen = 0
    journal_file = table.with_name(f"{table.stem}.judged.jsonl")
    advice = "give another OUT, or delete it to judge anew"
    with Journal(journal_file, "judged pictures", about={"judge": settings}, advice=advice) as journal:

        def rows() -> Iterator[Row]:
            nonlocal seen
            for run in judge_pictures(found, judge, journal, skipped):
                seen += 1
                yield from MAKERS[kind](run, pictures, options)

        count = _export(
            kind, source, out, rows(), pictures, options, made_of=lambda: f"{seen:,} texts", skipped=skipped
        )
    return Exported(kind, table, count, seen, skipped)


def _export(
    kind: str,
    source: Path,
    out: Path,
    rows: Iterable[Row],
    pictures: PictureFolder,
    options: ExportOptions,
    *,
    made_of: Callable[[], str],
    skipped: Mapping[str, str],
) -> int:
    """Writes the rows and the dataset card; gives the number of rows. `made_of` says of what, such as "7 runs"."""
    table, _, card = _layout(out)
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        if kind == "curated" and options.share < 1:
            rows = _best_share(rows, options.share)
        count = _write(table, iter(rows), pictures, lambda: _nothing(kind, source, made_of(), skipped))
        write_atomically(card, _card(kind, count, made_of(), table, options).encode())
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    return count


def _rows_of(kind: str, folder: Path, name: str, pictures: PictureFolder, options: ExportOptions) -> Iterator[Row]:
    if kind == "implicit":
        return make_implicit(folder, pictures)
    run = RunFolder.open(folder)
    record = run.read_record()
    if "attempts" not in record:
        raise InputError("the run was not finished; finish it with `redraft resume`")
    return MAKERS[kind](FinishedRun(name, record, ImageStore(run.images)), pictures, options)


def _runs(place: Path) -> list[Path]:
    if (place / "run.json").is_file():
        return [place]
    folders = sorted(path.parent for path in place.rglob("run.json")) if place.is_dir() else []
    if not folders:
        raise InputError(f"{place} holds no runs; give the folder for runs, or that of one run")
    return folders


def _conversations(place: Path) -> list[Path]:
    inside = place / "conversations"
    home = inside if inside.is_dir() else place
    if (home / LOG).is_file():
        return [home]
    folders = sorted(path.parent for path in home.glob(f"*/{LOG}")) if home.is_dir() else []
    if not folders:
        raise InputError(f"{place} holds no conversations; give the folder for runs of `redraft chat`, such as runs")
    return folders


def _layout(out: Path) -> tuple[Path, Path, Path]:
    """Table, folder of pictures, card."""
    if out.suffix in SUFFIXES and not out.is_dir():
        return out, out.with_name(f"{out.stem}-images"), out.with_name(f"{out.stem}.md")
    if out.suffix and not out.is_dir():
        raise InputError(f"{out}: give a folder, or a file ending in {' or '.join(SUFFIXES)}")
    return out / "data.jsonl", out / "images", out / "README.md"


def _best_share(rows: Iterable[Row], share: float) -> Iterator[Row]:
    """The share of the rows with the highest scores, in their order. Ties at the bar are kept."""
    kept = list(rows)
    scores = sorted((row["score"] for row in kept), reverse=True)
    bar = scores[max(1, round(len(scores) * share)) - 1] if scores else 0.0
    return (row for row in kept if row["score"] >= bar)


class _Table(Protocol):
    def write(self, row: Row) -> None: ...

    def finish(self) -> None: ...


class _JsonLines:
    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file = file

    def write(self, row: Row) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def finish(self) -> None: ...


class _Parquet:
    """Pictures lie in the table, as {bytes, path}: how `datasets` reads a column of images."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        require("data", "Parquet files")
        self._file, self._folder = file, folder
        self._rows: list[Row] = []
        self._writer: Any = None

    def write(self, row: Row) -> None:
        pictures = {name: row[name] for name in _PICTURES if row.get(name) is not None}
        packed = {name: {"bytes": (self._folder / path).read_bytes(), "path": path} for name, path in pictures.items()}
        self._rows.append(row | packed)
        if len(self._rows) >= _GROUP:
            self._flush()

    def finish(self) -> None:
        if self._rows:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow
        import pyarrow.parquet

        schema = None if self._writer is None else self._writer.schema
        table = pyarrow.Table.from_pylist(self._rows, schema=schema or _schema(self._rows))
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)
        self._rows = []


def _schema(rows: Sequence[Row]) -> Any:
    """The schema that pyarrow infers, with names for the kinds of columns that may be empty in the first rows."""
    import pyarrow

    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    known = dict.fromkeys(_PICTURES, picture) | {
        "score": pyarrow.float64(),
        "unchecked": pyarrow.list_(pyarrow.string()),
    }
    inferred = pyarrow.Table.from_pylist(list(rows)).schema
    return pyarrow.schema([pyarrow.field(f.name, known.get(f.name, f.type)) for f in inferred])


def _nothing(kind: str, runs: Path, made_of: str, skipped: Mapping[str, str]) -> InputError:
    first = next(iter(skipped), None)
    why = "" if first is None else f"; {len(skipped)} were left out, such as {first}: {skipped[first]}"
    return InputError(f"{runs}: no {kind} in its {made_of}{why}")


def _write(table: Path, rows: Iterator[Row], pictures: PictureFolder, nothing: Callable[[], InputError]) -> int:
    """Writes the rows; gives their number. Raises what `nothing` gives if there are none: the file stays as it was."""
    count = 0
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_atomically(table, alone=True))
        writer: _Table = (_Parquet if table.suffix == ".parquet" else _JsonLines)(file, table.parent)
        for row in rows:
            pictures.copy(row)
            writer.write(row)
            count += 1
        if not count:
            raise nothing()
        writer.finish()
    return count


_ABOUT = {
    "preferences": "Pairs of pictures of one request, the better by redraft's judge first",
    "implicit": "What users did with pictures in conversations: accepted, edited further, undone",
    "records": "Pictures, checks and the judge's sure verdicts, for `python -m evaluator.train`",
    "curated": "The best picture of each request by redraft's judge",
    "edits": "Edits with their source, result and instruction, in HumanEdit's columns",
}


def _card(kind: str, rows: int, made_of: str, table: Path, options: ExportOptions) -> str:
    from importlib.metadata import version

    settings = {
        "preferences": f"pairs whose scores differ by at least {options.margin:g}",
        "records": f"verdicts with P(yes) of at least {options.sure:g} or at most {1 - options.sure:g}",
        "curated": f"scores of at least {options.accept_at:g}, of these the best {options.share:.0%}",
    }.get(kind, "all")
    return f"""---
pretty_name: redraft {kind}
tags: [redraft, text-to-image, {kind}]
---

# {_ABOUT[kind]}

{rows:,} rows from {made_of}, in `{table.name}`; chosen: {settings}.
Made by `redraft export {kind}`, redraft {version("redraft")}.

- `request` is what a user wrote, unchanged: this data holds users' text and pictures. Look at it, and ask who it belongs to,
  before you share it.
- Scores and verdicts are a model's, not people's. Which models drew and judged stands in each run's `run.json`; their
  licences may bind what is trained on this.
- Pictures are named by the hash that redraft knows them by.
"""
