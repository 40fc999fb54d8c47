"""The journal of a run: what each finished piece of work made, kept so that no piece is ever paid for twice.

LangGraph's checkpoints say which step a run is in; the journal says what was already made inside that step, and holds
what would be too large to write into every checkpoint (verdicts, thoughts). Everything is keyed by the question, not by
the time it was asked, so a step that runs again after a kill finds its answers here.

It is a `redraft.journal.Journal`: what was written is synced before the work counts as done, and read again when the run
goes on.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from agent.edit_judging import nothing_done
from agent.types import Attempt, Branch, EditPlan, Task
from evaluator.types import Check, Report
from redraft.errors import InputError
from redraft.journal import Journal
from redraft.store import is_digest
from rewriter.plan import Box, Plan
from rewriter.types import Rewrite

_CHECKLIST = TypeAdapter(tuple[Check, ...])
_REWRITES = TypeAdapter(tuple[Rewrite, ...])
_TASK = TypeAdapter(Task)
_REPORT = TypeAdapter(Report)
_PLAN = TypeAdapter(Plan)
_EDIT_PLAN = TypeAdapter(EditPlan)
_PLACE: TypeAdapter[Box | None] = TypeAdapter(Box | None)
_LEVEL = TypeAdapter(tuple[Branch, ...])


class RunLog:
    """The journal in memory and on disk. One process at a time may have it open (see `RunFolder.lock`).

    Raises InputError if the file holds what this version cannot read.
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
        """Hashes of drawings of new content alone, by the key of prompt and seed."""
        self.edit_plans: dict[int, EditPlan] = {}
        """By round: what was planned before it."""
        self.levels: dict[int, tuple[Branch, ...]] = {}
        """By round: what became of its candidates."""
        self.standings: dict[str, float | None] = {}
        """By image hash: win rates of the pictures that were last compared with one another."""
        self._journal = Journal(path, "run", advice="the run cannot be resumed")
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

    def attempt(self, key: str) -> Attempt:
        """The attempt that the task `key` became. KeyError if it was not drawn and judged."""
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
        self._put(("checklist",), _CHECKLIST.dump_python(tuple(checks), mode="json"))

    def put_rewrites(self, key: str, number: int, rewrites: Sequence[Rewrite]) -> None:
        value = _REWRITES.dump_python(tuple(rewrites), mode="json")
        self._put(("rewrites", key), {"round": number, "rewrites": value})

    def put_images(self, drawn: Sequence[tuple[Task, str]], unchanged: Collection[str] = ()) -> None:
        """Notes a whole batch at once. `unchanged`: keys of the tasks whose editor gave its source back."""
        self._put_all(
            {
                ("image", task.key): {"task": _TASK.dump_python(task, mode="json"), "image": image}
                | ({"unchanged": True} if task.key in unchanged else {})
                for task, image in drawn
            }
        )

    def put_report(self, image: str, report: Report) -> None:
        self._put(("report", image), _REPORT.dump_python(report, mode="json"))

    def put_standings(self, standings: Mapping[str, float | None]) -> None:
        """Win rates of the pictures that are the best by their scores; they replace those of an earlier round."""
        self._put(("standings",), dict(standings))

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
        """What was decided after a round; a later note replaces what an earlier one says of the same."""
        self._put(("decision", str(number)), value, sync=False)

    def put_seconds(self, step: str, seconds: float) -> None:
        self._put(("seconds", step), round(seconds, 6), sync=False)

    def forget_unscored(self) -> None:
        """Lets pictures without a score be judged again, for a run that failed because its judge was down."""
        self._put(("forget_unscored",), None)

    def _put(self, key: tuple[str, ...], value: Any, sync: bool = True) -> None:
        self._put_all({key: value}, sync)

    def _put_all(self, values: Mapping[tuple[str, ...], Any], sync: bool = True) -> None:
        self._journal.put_all(values, sync=sync)
        for key, value in values.items():
            self._take(key, value)

    def _take(self, key: Any, value: Any) -> None:
        match key:
            case ("checklist",):
                self.checklist = _CHECKLIST.validate_python(value)
            case ("rewrites", name):
                self.rewrites[name] = self.rewrites_of_round[value["round"]] = _REWRITES.validate_python(
                    value["rewrites"]
                )
            case ("image", name):
                self.tasks[name] = _TASK.validate_python(value["task"])
                self.images[name] = _hash(value["image"])
                if value.get("unchanged"):
                    self.unchanged.add(name)
            case ("report", image):
                self.reports[image] = _REPORT.validate_python(value)
            case ("standings",):
                self.standings = {_hash(image): rate for image, rate in value.items()}
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
