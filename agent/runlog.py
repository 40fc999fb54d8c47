"""The journal of a run: what each finished piece of work made, kept so that no piece is ever paid for twice.

LangGraph's checkpoints say which step a run is in; the journal says what was already made inside that step, and holds
what would be too large to write into every checkpoint (verdicts, thoughts). Everything is keyed by the question, not by
the time it was asked, so a step that runs again after a kill finds its answers here.

The file is JSON lines, appended and synced before the work counts as done. A line torn by a kill is cut off when the
file is opened again.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agent.course import Branch
from agent.edit_judging import nothing_done
from agent.types import Attempt, Course, Task
from evaluator.types import Check, Report
from redraft.errors import InputError
from redraft.store import is_hash
from rewriter.plan import Box, Plan
from rewriter.types import Rewrite

_CHECKLIST = TypeAdapter(tuple[Check, ...])
_REWRITES = TypeAdapter(tuple[Rewrite, ...])
_TASK = TypeAdapter(Task)
_REPORT = TypeAdapter(Report)
_PLAN = TypeAdapter(Plan)
_COURSE = TypeAdapter(Course)
_PLACE: TypeAdapter[Box | None] = TypeAdapter(Box | None)
_LEVEL = TypeAdapter(tuple[Branch, ...])


class RunLog:
    """The journal in memory and on disk. One process at a time may have it open (see `RunFolder.lock`).

    Raises InputError where the file holds what this version cannot read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checklist: tuple[Check, ...] | None = None
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
        """What the judge said of the picture that the user gave."""
        self.unchanged: set[str] = set()
        """Keys of the tasks whose editor gave its source back."""
        self.plans: dict[str, Plan] = {}
        """By the key of the situation."""
        self.places: dict[str, Box | None] = {}
        """Where an instruction is to be carried out, by the key of picture and instruction."""
        self.drafts: dict[str, str] = {}
        """Hashes of what the generator drew of new content by itself, by the key of prompt and seed."""
        self.courses: dict[int, Course] = {}
        """By round: what was planned before it."""
        self.levels: dict[int, tuple[Branch, ...]] = {}
        """By round: what became of its candidates."""
        self.standings: dict[str, float | None] = {}
        """By image hash: win rates of the pictures that were last compared with one another."""
        whole = _read_whole_lines(path)
        for number, line in enumerate(whole, start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, ValidationError) as error:
                raise InputError(
                    f"{path}, line {number}, cannot be read ({error}); the run cannot be resumed"
                ) from error
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def attempt(self, key: str) -> Attempt:
        """The attempt that the task `key` became. KeyError where it was not drawn and judged."""
        task, image, same = self.tasks[key], self.images[key], key in self.unchanged
        return Attempt(
            task.round,
            task.kind,
            task.prompt,
            task.seed,
            image,
            task.source,
            nothing_done(self.checklist or ()) if same else self.reports[image],
            task.negative_prompt,
            task.root,
            task.steps,
            same,
            self.standings.get(image),
        )

    def attempts(self, keys: Iterable[str]) -> list[Attempt]:
        """The attempts of `keys`, in order, up to the first that is not judged yet: so they keep their numbers."""
        judged = itertools.takewhile(lambda key: key in self.unchanged or self.images.get(key) in self.reports, keys)
        return [self.attempt(key) for key in judged]

    def put_checklist(self, checks: Sequence[Check]) -> None:
        self._write({"is": "checklist", "checks": _CHECKLIST.dump_python(tuple(checks), mode="json")})

    def put_rewrites(self, key: str, number: int, rewrites: Sequence[Rewrite]) -> None:
        value = _REWRITES.dump_python(tuple(rewrites), mode="json")
        self._write({"is": "rewrites", "key": key, "round": number, "rewrites": value})

    def put_images(self, drawn: Sequence[tuple[Task, str]], unchanged: Collection[str] = ()) -> None:
        """Notes a whole batch at once. `unchanged`: keys of the tasks whose editor gave its source back."""
        self._write(
            *(
                {"is": "image", "task": _TASK.dump_python(task, mode="json"), "image": h}
                | ({"unchanged": True} if task.key in unchanged else {})
                for task, h in drawn
            )
        )

    def put_report(self, image: str, report: Report) -> None:
        self._write({"is": "report", "image": image, "report": _REPORT.dump_python(report, mode="json")})

    def put_standings(self, standings: Mapping[str, float | None]) -> None:
        """Win rates of the pictures that are the best by their scores; they replace those of an earlier round."""
        self._write({"is": "standings", "images": dict(standings)})

    def put_source(self, report: Report) -> None:
        self._write({"is": "source", "report": _REPORT.dump_python(report, mode="json")})

    def put_plan(self, key: str, plan: Plan) -> None:
        self._write({"is": "plan", "key": key, "plan": _PLAN.dump_python(plan, mode="json")})

    def put_place(self, key: str, box: Box | None) -> None:
        self._write({"is": "place", "key": key, "box": box})

    def put_draft(self, key: str, image: str) -> None:
        self._write({"is": "draft", "key": key, "image": image})

    def put_course(self, number: int, course: Course) -> None:
        """What was planned before a round; it can be found again."""
        self._write({"is": "course", "round": number, "course": _COURSE.dump_python(course, mode="json")}, sync=False)

    def put_level(self, number: int, branches: Sequence[Branch]) -> None:
        """What became of a round's candidates; it can be found again."""
        value = _LEVEL.dump_python(tuple(branches), mode="json")
        self._write({"is": "level", "round": number, "branches": value}, sync=False)

    def put_decision(self, number: int, **value: object) -> None:
        """What was decided after a round; a later note replaces an earlier one. Not synced: it can be found again."""
        self._write({"is": "decision", "round": number, **value}, sync=False)

    def put_seconds(self, step: str, seconds: float) -> None:
        self._write({"is": "seconds", "step": step, "seconds": round(seconds, 6)}, sync=False)

    def forget_unscored(self) -> None:
        """Lets pictures without a score be judged again, for a run that failed because its judge was down."""
        self._write({"is": "forget_unscored"})

    def _write(self, *records: dict[str, Any], sync: bool = True) -> None:
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        try:
            self._file.write(lines.encode())
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error
        for record in records:
            self._take(record)

    def _take(self, record: dict[str, Any]) -> None:
        match record["is"]:
            case "checklist":
                self.checklist = _CHECKLIST.validate_python(record["checks"])
            case "rewrites":
                rewrites = _REWRITES.validate_python(record["rewrites"])
                self.rewrites[record["key"]] = self.rewrites_of_round[record["round"]] = rewrites
            case "image":
                task = _TASK.validate_python(record["task"])
                self.tasks[task.key] = task
                self.images[task.key] = _hash(record["image"])
                if record.get("unchanged"):
                    self.unchanged.add(task.key)
            case "report":
                self.reports[record["image"]] = _REPORT.validate_python(record["report"])
            case "standings":
                self.standings = {_hash(image): rate for image, rate in record["images"].items()}
            case "source":
                self.source = _REPORT.validate_python(record["report"])
            case "plan":
                self.plans[record["key"]] = _PLAN.validate_python(record["plan"])
            case "place":
                self.places[record["key"]] = _PLACE.validate_python(record["box"])
            case "draft":
                self.drafts[record["key"]] = record["image"]
            case "course":
                self.courses[record["round"]] = _COURSE.validate_python(record["course"])
            case "level":
                self.levels[record["round"]] = _LEVEL.validate_python(record["branches"])
            case "decision":
                value = {name: item for name, item in record.items() if name not in ("is", "round")}
                self.decisions.setdefault(record["round"], {}).update(value)
            case "seconds":
                self.seconds[record["step"]] = self.seconds.get(record["step"], 0.0) + record["seconds"]
            case "forget_unscored":
                self.reports = {image: report for image, report in self.reports.items() if report.score is not None}
            case other:
                raise ValueError(f"unknown record {other!r}")


def _hash(value: object) -> str:
    if isinstance(value, str) and is_hash(value):
        return value
    raise ValueError(f"{value!r} is no hash of an image")


def _read_whole_lines(path: Path) -> list[bytes]:
    """The lines of the file that end with a newline; what follows the last newline is cut off on disk too."""
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)
    return data[:end].split(b"\n")[:-1]
