"""The folder a run leaves behind: its pictures, its record, its journal.

runs/20261123T061012Z-three-red-circles-4f9a1c/
    run.json                      what was asked, seen and decided; no keys
    01-round1-seed7.png ...       every picture, with its provenance in PNG text chunks
    best.png                      the best of them
    source.png                    the picture that was edited, if the user gave one
    trace.html                    the whole run on one page
    state/                        what `redraft resume` needs: checkpoints, journal, image store
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import platform
import re
import secrets
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Self

from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError

from agent.edit_judging import nothing_done
from agent.types import Attempt, Branch, EditPlan, StopReason, Task, cost_of
from evaluator.edits.types import EditChecks
from evaluator.reward import Standing
from evaluator.types import Check, Report, RequestChecks
from redraft.errors import InputError, one_line
from redraft.files import write_atomically
from redraft.images import is_digest, save_png
from redraft.journal import Journal, lock, read_journal
from redraft.limits import Limits
from redraft.profiles import Profile, SearchConfig
from rewriter.plan import Box, Plan
from rewriter.types import Rewrite

FORMAT = 3
"""Version of run.json."""

_LAST = ".last-run"
"""File in the folder for runs: the name of the run that was worked on last."""

_CHECKSUM = "checksum"
"""Field of run.json: of all the others."""

JOURNAL = "run"
"""The kind of a run's journal."""

_REWRITES = TypeAdapter(tuple[Rewrite, ...])
_TASK = TypeAdapter(Task)
_REPORT = TypeAdapter(Report)
_STANDING = TypeAdapter(Standing)
_PLAN = TypeAdapter(Plan)
_EDIT_PLAN = TypeAdapter(EditPlan)
_PLACE: TypeAdapter[Box | None] = TypeAdapter(Box | None)
_LEVEL = TypeAdapter(tuple[Branch, ...])
_CHECKS = TypeAdapter(tuple[Check, ...])
_CHECKLIST = TypeAdapter(RequestChecks)
_EDIT_CHECKS = TypeAdapter(EditChecks)


class DamagedRecord(InputError):  # noqa: N818
    """A run.json that is not what was written."""


@dataclass(frozen=True)
class _Begun:
    """What run.json says from the beginning; of a run that ended also the best attempt and the scores."""

    created: str
    request: str
    seed: int
    ask: bool
    limits: Limits
    stop: StopReason | None
    source: str | None = None
    mask: str | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    size: tuple[int, int] | None = None
    best: Annotated[int, Field(ge=1)] | None = None
    attempts: list[_Score] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.best is not None and self.best > len(self.attempts):
            raise ValueError("best")


@dataclass(frozen=True)
class _Score:
    score: float | None


_BEGUN = TypeAdapter(_Begun)


def _checksum(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @classmethod
    def create(cls, out: Path, request: str) -> RunFolder:
        """A new folder under `out`. Raises InputError if it cannot be written."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{slug(request)}-{secrets.token_hex(3)}"
        folder = cls(out / name)
        try:
            (folder.path / "state").mkdir(parents=True)
        except OSError as error:
            raise InputError(
                f"cannot write to the output folder {out}: {error.strerror}; choose another with --out"
            ) from error
        folder.note_last()
        return folder

    def name_without(self, request: str) -> str:
        """The folder's name without the words of the request that are in it."""
        return self.path.name.replace(f"-{slug(request)}-", "-")

    @classmethod
    def at(cls, path: Path) -> RunFolder:
        """A new run in the folder `path` itself. Raises InputError if it cannot be written."""
        try:
            (path / "state").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write to the run folder {path}: {error.strerror}") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of an earlier run. Raises InputError if there is none."""
        try:
            exists = (path / "run.json").is_file() or cls(path).journal.is_file()
        except OSError as error:
            raise InputError(f"cannot open the run folder {path}: {error.strerror}") from error
        if not exists:
            raise InputError(f"{path} is not the folder of a run: it holds no run.json")
        return cls(path)

    @property
    def journal(self) -> Path:
        return self.path / "state" / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "state" / "checkpoints.sqlite"

    @property
    def images(self) -> Path:
        return self.path / "state" / "images"

    @property
    def trace(self) -> Path:
        return self.path / "trace.html"

    @property
    def best(self) -> Path:
        return self.path / "best.png"

    @property
    def source(self) -> Path:
        return self.path / "source.png"

    def picture(self, number: int, attempt: Attempt) -> Path:
        """File of the attempt `number`, counted from 1."""
        return self.path / f"{number:02d}-round{attempt.round}-seed{attempt.seed}.png"

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replaces run.json in one step: a reader sees the old file or the new one."""
        plain = {name: value for name, value in record.items() if name != _CHECKSUM}
        text = json.dumps({**plain, _CHECKSUM: _checksum(plain)}, ensure_ascii=False, indent=2) + "\n"
        self.write(self.path / "run.json", text)

    def write(self, path: Path, text: str) -> None:
        """Writes a text file of this folder. Raises InputError if that fails, for instance because the disk is full."""
        try:
            write_atomically(path, text.encode())
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error

    def read_record(self) -> dict[str, Any]:
        """run.json. Raises DamagedRecord if it is not what was written, InputError if it cannot be read or has another
        format."""
        path = self.path / "run.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise DamagedRecord(f"cannot read {path}: it is damaged ({one_line(error)})") from error
        if not isinstance(record, dict):
            raise DamagedRecord(f"cannot read {path}: it is damaged (no JSON object)")
        kept = record.pop(_CHECKSUM, None)  # earlier versions wrote none
        version = record.get("format")
        if version != FORMAT and (kept is None or kept == _checksum(record)):
            raise InputError(
                f"{path} was written by another version of redraft (format {one_line(version, 20)}, this one has "
                f"{FORMAT}); start the run again"
            )
        if kept is not None and kept != _checksum(record):
            raise DamagedRecord(f"cannot read {path}: it is damaged (its checksum does not fit)")
        try:
            _BEGUN.validate_python(record)
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, e["loc"])) for e in error.errors()[:5])
            raise DamagedRecord(f"cannot read {path}: it is damaged ({wrong})") from None
        return record

    def recover_record(self) -> tuple[dict[str, Any], str | None]:
        """run.json; if it is damaged or gone, how it was when the run began, which the journal keeps, and a sentence that
        says so. Raises InputError if neither can be read."""
        try:
            return self.read_record(), None
        except InputError as error:
            if not isinstance(error, DamagedRecord) and (self.path / "run.json").exists():
                raise
            with contextlib.suppress(InputError, ValueError, KeyError, TypeError):
                for entry in read_journal(self.journal, JOURNAL):
                    if entry.key == ("begun",):
                        _BEGUN.validate_python(entry.value)
                        return entry.value, f"{error}; it is written again from the journal"
            raise InputError(f"{error}; the run cannot be resumed") from error

    def note_last(self) -> None:
        """Notes beside the run that it is the last one that was worked on, for `last_run`. Clocks have no say in that."""
        self.write(self.path.parent / _LAST, f"{self.path.name}\n")

    def sweep(self) -> None:
        """Removes the half-written files that a killed process left behind. Only under the lock."""
        for part in self.path.rglob(".*.part"):
            part.unlink(missing_ok=True)

    def lock(self) -> AbstractContextManager[None]:
        """Keeps other processes out while the run is worked on. Raises Occupied if another process holds it."""
        return lock(self.path / "state" / "lock", self.path)


def list_runs(out: Path, complain: Callable[[str], None] = lambda sentence: None) -> list[dict[str, Any]]:
    """run.json of each run under `out`, the latest first. Runs that cannot be read, and those of another version, are left
    out; `complain` is called with a sentence about each."""
    records = []
    for path in out.glob("*/run.json"):
        try:
            records.append(RunFolder(path.parent).read_record() | {"run": path.parent.name})
        except DamagedRecord as error:
            complain(f"{error}; redraft resume {shlex.quote(str(path.parent))} mends it if its journal is whole")
        except InputError as error:
            complain(str(error))
    return sorted(records, key=lambda record: str(record["created"]), reverse=True)


def last_run(out: Path) -> Path:
    """The folder of the run under `out` that was begun or resumed last. Raises InputError if there is none."""
    try:
        name = (out / _LAST).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        name = ""
    if name and Path(name).name == name and (out / name / "run.json").is_file():
        return out / name
    records = list_runs(out)  # of before the note was kept
    if not records:
        raise InputError(f"there are no runs in {out}; name the folder for runs with --out")
    return out / str(records[0]["run"])


def best_score(record: Mapping[str, Any]) -> float | None:
    """Score of the best picture in run.json, None if there is none."""
    best = record.get("best")
    score: float | None = None if best is None else record["attempts"][best - 1]["score"]
    return score


def require_writable(out: Path) -> None:
    """Raises InputError if no folder can be made under `out`; makes `out` and leaves nothing else behind."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".redraft-{secrets.token_hex(4)}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise InputError(
            f"cannot write to the output folder {out}: {error.strerror}; choose another with --out"
        ) from error


def slug(request: str, length: int = 40) -> str:
    """The beginning of a request as a part of a file name: letters and digits of any script, joined by dashes."""
    words = re.findall(r"[^\W_]+", request.lower())
    return "-".join(words)[:length].strip("-") or "run"


_PACKAGES = ("redraft", "torch", "transformers", "diffusers", "langgraph", "openai", "pillow")


def new_record(
    folder: RunFolder, *, request: str, seed: int, ask: bool, limits: Limits, profile: Profile | None
) -> dict[str, Any]:
    """run.json of a run that begins. A profile names the variables of its keys and can hold no key itself."""
    return {
        "format": FORMAT,
        "run": folder.path.name,
        "created": _now(),
        "request": request,
        "seed": seed,
        "ask": ask,
        "limits": limits.model_dump(mode="json"),
        "profile": None if profile is None else profile.model_dump(mode="json"),
        "versions": _versions(),
        "stop": None,
    }


def finished_record(
    begun: Mapping[str, Any],
    *,
    folder: RunFolder,
    log: RunLog,
    keys: Sequence[str],
    attempts: Sequence[Attempt],
    best: int | None,
    stop: StopReason,
    why: str,
    error: str | None,
    elapsed_s: float,
    names: Mapping[str, str],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """run.json of a run that ended; `begun` is what `new_record` made, `keys` are those of the attempts' tasks."""
    rounds = sorted({attempt.round for attempt in attempts} | log.rewrites_of_round.keys())
    return {
        **begun,
        "finished": _now(),
        "models": dict(names),
        "stop": stop.value,
        "why": why,
        "error": error,
        "warnings": list(warnings),
        "best": None if best is None else best + 1,
        **({} if log.source is None else {"source_report": _REPORT.dump_python(log.source, mode="json")}),
        **_checklist(log.checklist or RequestChecks(())),
        "rounds": [
            {
                "round": number,
                "rewrites": _REWRITES.dump_python(log.rewrites_of_round.get(number, ()), mode="json"),
                "decision": log.decisions.get(number),
                **_planned(log, number, keys),
            }
            for number in rounds
        ],
        "cost": _cost(attempts, elapsed_s),
        "attempts": [_attempt(folder, number, attempt) for number, attempt in enumerate(attempts, start=1)],
        "seconds": {"total": round(elapsed_s, 3), **{k: round(v, 3) for k, v in sorted(log.seconds.items())}},
    }


def _checklist(made: RequestChecks) -> dict[str, Any]:
    return {
        "checklist": _CHECKS.dump_python(made.checks, mode="json"),
        "unchecked": list(made.unchecked),
        "invented": _CHECKS.dump_python(made.invented, mode="json"),
    }


def _cost(attempts: Sequence[Attempt], seconds: float) -> dict[str, Any]:
    """What the run spent; `images` are all pictures, `drafts` how many of them were drafts."""
    spent = cost_of(attempts, seconds)
    return {
        "images": spent.images,
        "drafts": sum(attempt.draft for attempt in attempts),
        "steps": spent.steps,
        "judgements": spent.judgements,
        "seconds": round(seconds, 3),
    }


def _attempt(folder: RunFolder, number: int, attempt: Attempt) -> dict[str, Any]:
    return {
        "number": number,
        "round": attempt.round,
        "kind": attempt.kind,
        "prompt": attempt.prompt,
        "negative_prompt": attempt.negative_prompt,
        "seed": attempt.seed,
        "image": folder.picture(number, attempt).name,
        "sha256": attempt.image,
        "parent": attempt.parent,
        **({} if attempt.kind == "generate" else _edited(attempt)),
        "draft": attempt.draft,
        "denoiser_steps": attempt.denoiser_steps,
        **({"noise": [list(pair) for pair in attempt.noise]} if attempt.noise else {}),
        **({"backend": attempt.backend} if attempt.backend else {}),
        "score": attempt.score,
        **({} if attempt.standing is None else {"standing": attempt.standing}),
        "failed": attempt.report.failed,
        "report": _REPORT.dump_python(attempt.report, mode="json"),
    }


def _edited(attempt: Attempt) -> dict[str, Any]:
    return {"root": attempt.root, "steps": list(attempt.steps), "unchanged": attempt.unchanged}


def _planned(log: RunLog, number: int, keys: Sequence[str]) -> dict[str, Any]:
    """What was planned before a round, and what became of its candidates, by the numbers of the attempts."""
    plan, branches = log.edit_plans.get(number), log.levels.get(number)
    planned: dict[str, Any] = {}
    if plan is not None:
        planned["plan"] = _EDIT_PLAN.dump_python(plan, mode="json")
    if branches is not None:
        planned["branches"] = [
            {"number": keys.index(b.key) + 1, "confidence": b.confidence, "fate": b.fate} for b in branches
        ]
    return planned


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(request: str, attempt: Attempt, names: Mapping[str, str]) -> dict[str, str]:
    """Text chunks by keyword. `redraft:prompt` is what the generator read."""
    text = {
        "Software": "redraft",
        "redraft:request": request,
        "redraft:prompt": attempt.prompt,
        "redraft:negative-prompt": attempt.negative_prompt or "",
        "redraft:seed": str(attempt.seed),
        "redraft:round": str(attempt.round),
        "redraft:kind": attempt.kind,
        "redraft:parent": attempt.parent or "",
        "redraft:pixels": attempt.image,
        "redraft:score": "" if attempt.score is None else f"{attempt.score:.4f}",
        "redraft:readings": "; ".join(attempt.report.reading_lines()),
        **{f"redraft:{role}": name for role, name in names.items()},
    }
    return {keyword: value for keyword, value in text.items() if value}


def save_picture(picture: Image.Image, path: Path, request: str, attempt: Attempt, names: Mapping[str, str]) -> None:
    save_png(picture, path, provenance(request, attempt, names))


class RunLog:
    """The journal of a run, in memory and on disk: what each finished piece of work made, so that no piece is ever paid
    for twice. One process at a time may have it open (see `RunFolder.lock`).

    LangGraph's checkpoints say which step a run is in; the journal says what was already made inside that step, and holds
    what would be too large to write into every checkpoint (verdicts, thoughts). Everything is keyed by the question, not
    by the time it was asked, so a step that runs again after a kill finds its answers here.

    Raises InputError if the file holds what this version cannot read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._collected: list[tuple[Mapping[tuple[str, ...], Any], bool]] | None = None
        self.checklist: RequestChecks | None = None
        self.edit_checks: EditChecks | None = None
        """The same checks, as wanted and kept, if the run edits a picture of the user's."""
        self.rewrites: dict[str, tuple[Rewrite, ...]] = {}
        """By the key of the request."""
        self.rewrites_of_round: dict[int, tuple[Rewrite, ...]] = {}
        self.tasks: dict[str, Task] = {}
        self.images: dict[str, str] = {}
        """Task key to image hash."""
        self.reports: dict[str, Report] = {}
        """By image hash: the checklist never changes within a run."""
        self.decisions: dict[int, dict[str, Any]] = {}
        """By round: why it went on or stopped."""
        self.seconds: dict[str, float] = {}
        """By step: time spent in it, all rounds together."""
        self.source: Report | None = None
        """The judge's report on the picture that the user gave."""
        self.unchanged: set[str] = set()
        """Keys of the tasks whose editor gave its source back."""
        self.steps: dict[str, int] = {}
        """Task key to the denoiser steps that its picture took."""
        self.plans: dict[str, Plan] = {}
        """By the key of the situation."""
        self.places: dict[str, Box | None] = {}
        """Where an instruction is to be carried out, by the key of picture and instruction."""
        self.drafts: dict[str, str] = {}
        """Hashes of drawings of new content alone, by the key of prompt and seed."""
        self.edit_plans: dict[int, EditPlan] = {}
        """By round: what was planned before it."""
        self.levels: dict[int, tuple[Branch, ...]] = {}
        """By round: what became of its candidates."""
        self.standings: dict[str, Standing] = {}
        """By image hash: how the pictures stand that were last compared with one another."""
        self.begun: dict[str, Any] | None = None
        """run.json as it was when the run began."""
        self._journal = Journal(path, JOURNAL, advice="the run cannot be resumed")
        for entry in self._journal:
            try:
                self._take(entry.key, entry.value)
            except (ValueError, KeyError, TypeError, ValidationError) as error:
                self._journal.close()
                raise InputError(f"{path} holds {entry.key}, which cannot be read ({error}); it is damaged") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def collect(self) -> None:
        """From now on, what is put stays in memory until `write`: for an event loop that may wait for no disk."""
        self._collected = []

    def write(self) -> None:
        """Writes what was put since `collect`."""
        while self._collected:
            values, sync = self._collected.pop(0)
            self._journal.put_all(values, sync=sync)

    def attempt(self, key: str) -> Attempt:
        """The attempt that the task `key` became. KeyError if it was not drawn and judged."""
        task, image, same = self.tasks[key], self.images[key], key in self.unchanged
        standing = self.standings.get(image)
        report = nothing_done(self.checklist.checks if self.checklist else ()) if same else self.reports[image]
        if standing is not None and standing.readings:
            report = replace(report, readings={**report.readings, **standing.readings})
        return Attempt(
            task.round,
            task.kind,
            task.prompt,
            task.seed,
            image,
            task.source or task.parent,
            report,
            task.negative_prompt,
            task.root,
            task.steps,
            same,
            None if standing is None else standing.value,
            task.draft,
            self.steps.get(key, 0),
            task.noise,
            task.backend,
        )

    def attempts(self, keys: Iterable[str]) -> list[Attempt]:
        """The attempts of `keys`, in order, up to the first that is not judged yet: so they keep their numbers."""
        judged = itertools.takewhile(lambda key: key in self.unchanged or self.images.get(key) in self.reports, keys)
        return [self.attempt(key) for key in judged]

    def put_begun(self, record: Mapping[str, Any]) -> None:
        self._put(("begun",), dict(record))

    def put_lost(self, key: str) -> None:
        """Notes that the picture of the task `key` is gone, so that it is made again."""
        self._put(("lost", key), None)

    def disagrees_with(self, state: Mapping[str, Any]) -> bool:
        """Whether a state of the graph builds on what the journal does not hold (any more)."""
        keys: list[str] = list(state.get("attempts", ()))
        if any(key not in self.tasks for key in keys) or (state.get("checks") and self.checklist is None):
            return True
        judged = len(self.attempts(keys))
        now = {task.key for task in state.get("tasks", ())}
        decision, best = state.get("decision"), -1
        if decision is not None and decision.best is not None:
            best = decision.best
        unknown_source = state.get("source") is not None and state.get("edit_plan") is not None and self.source is None
        return best >= judged or unknown_source or any(key not in now for key in keys[judged:])

    def put_checklist(self, checklist: RequestChecks) -> None:
        self._put(("checklist",), _CHECKLIST.dump_python(checklist, mode="json"))

    def put_edit_checks(self, checks: EditChecks) -> None:
        self._put(("edit_checks",), _EDIT_CHECKS.dump_python(checks, mode="json"))

    def put_rewrites(self, key: str, number: int, rewrites: Sequence[Rewrite]) -> None:
        value = _REWRITES.dump_python(tuple(rewrites), mode="json")
        self._put(("rewrites", key), {"round": number, "rewrites": value})

    def put_images(
        self,
        drawn: Sequence[tuple[Task, str]],
        unchanged: Collection[str] = (),
        steps: Mapping[str, int] | None = None,
    ) -> None:
        """Notes a whole batch at once. `unchanged`: keys of the tasks whose editor gave its source back; `steps`: key to
        denoiser steps."""
        self._put_all(
            {
                ("image", task.key): {"task": _TASK.dump_python(task, mode="json"), "image": image}
                | ({"unchanged": True} if task.key in unchanged else {})
                | ({} if steps is None else {"steps": steps[task.key]})
                for task, image in drawn
            }
        )

    def put_report(self, image: str, report: Report) -> None:
        self._put(("report", image), _REPORT.dump_python(report, mode="json"))

    def put_standings(self, standings: Mapping[str, Standing]) -> None:
        """How the pictures stand that compete for the best; they replace those of an earlier round."""
        self._put(
            ("standings",), {i: _STANDING.dump_python(standing, mode="json") for i, standing in standings.items()}
        )

    def put_source(self, report: Report) -> None:
        self._put(("source",), _REPORT.dump_python(report, mode="json"))

    def put_plan(self, key: str, plan: Plan) -> None:
        self._put(("plan", key), _PLAN.dump_python(plan, mode="json"))

    def put_place(self, key: str, box: Box | None) -> None:
        self._put(("place", key), box)

    def put_draft(self, key: str, image: str) -> None:
        self._put(("draft", key), image)

    # The rest is not synced: it can be found again.

    def put_edit_plan(self, number: int, plan: EditPlan) -> None:
        """What was planned before a round."""
        self._put(("edit_plan", str(number)), _EDIT_PLAN.dump_python(plan, mode="json"), sync=False)

    def put_level(self, number: int, branches: Sequence[Branch]) -> None:
        """What became of a round's candidates."""
        self._put(("level", str(number)), _LEVEL.dump_python(tuple(branches), mode="json"), sync=False)

    def put_decision(self, number: int, **value: object) -> None:
        """What was decided after a round; a later note replaces an earlier one on the same round."""
        self._put(("decision", str(number)), value, sync=False)

    def put_seconds(self, step: str, seconds: float) -> None:
        self._put(("seconds", step), round(seconds, 6), sync=False)

    def forget_unscored(self) -> None:
        """Lets pictures without a score be judged again, for a run that failed because its judge was down."""
        self._put(("forget_unscored",), None)

    def _put(self, key: tuple[str, ...], value: Any, sync: bool = True) -> None:
        self._put_all({key: value}, sync)

    def _put_all(self, values: Mapping[tuple[str, ...], Any], sync: bool = True) -> None:
        if self._collected is None:
            self._journal.put_all(values, sync=sync)
        else:
            self._collected.append((values, sync))
        for key, value in values.items():
            self._take(key, value)

    def _take(self, key: Any, value: Any) -> None:
        match key:
            case ("checklist",):
                self.checklist = _CHECKLIST.validate_python(value)
            case ("edit_checks",):
                self.edit_checks = _EDIT_CHECKS.validate_python(value)
            case ("rewrites", name):
                self.rewrites[name] = self.rewrites_of_round[value["round"]] = _REWRITES.validate_python(
                    value["rewrites"]
                )
            case ("image", name):
                self.tasks[name] = _TASK.validate_python(value["task"])
                self.images[name] = _hash(value["image"])
                self.steps[name] = int(value.get("steps", 0))
                if value.get("unchanged"):
                    self.unchanged.add(name)
            case ("begun",):
                self.begun = dict(value)
            case ("lost", name):
                self.unchanged.discard(name)
                for kept in (self.tasks, self.images):
                    kept.pop(name, None)
            case ("report", image):
                self.reports[image] = _REPORT.validate_python(value)
            case ("standings",):
                # Journals of before had the bare number.
                self.standings = {
                    _hash(image): _STANDING.validate_python(made if isinstance(made, dict) else {"value": made})
                    for image, made in value.items()
                }
            case ("source",):
                self.source = _REPORT.validate_python(value)
            case ("plan", name):
                self.plans[name] = _PLAN.validate_python(value)
            case ("place", name):
                self.places[name] = _PLACE.validate_python(value)
            case ("draft", name):
                self.drafts[name] = value
            case ("edit_plan", number):
                self.edit_plans[int(number)] = _EDIT_PLAN.validate_python(value)
            case ("level", number):
                self.levels[int(number)] = _LEVEL.validate_python(value)
            case ("decision", number):
                self.decisions.setdefault(int(number), {}).update(value)
            case ("seconds", step):
                self.seconds[step] = self.seconds.get(step, 0.0) + value
            case ("forget_unscored",):
                self.reports = {image: report for image, report in self.reports.items() if report.score is not None}
            case _:
                raise ValueError("an unknown kind of entry")


def _hash(value: object) -> str:
    if isinstance(value, str) and is_digest(value):
        return value
    raise ValueError(f"{value!r} is no hash of an image")
