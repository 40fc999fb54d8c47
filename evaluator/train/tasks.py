"""Tasks with known answers, for judges that learn to think: a picture or two, a question, and the truth.

A task is a row of JSONL or Parquet:

    task        check (the default), score, pair or choice
    image       as in `records`; for pairs and some choices also `other`, the second picture
    request     what the user wrote; may be missing
    question    what to decide; for pairs it may be missing
    key_point   of a check
    verdict     of a check: accept or reject
    score       of a score: a number from 1 to 5
    preferred   of a pair: 1, 2 or tie
    options     of a choice: its possible answers; `answer`: the true one

So the records of `python -m evaluator.train` and of `redraft export records` are tasks as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evaluator.judge import CheckWording
from evaluator.train.records import PictureField, read_question, read_verdict
from evaluator.types import Check
from redraft.errors import InputError
from redraft.images import open_image
from redraft.records import LoadedRecords, Row, is_missing, load_records, text_field
from redraft.templates import fence, fill, load_template

TaskKind = Literal["check", "score", "pair", "choice"]
WHICH_IS_BETTER = "Which picture shows better what the request asks for?"
STYLE = "reasoned"


@dataclass(frozen=True)
class JudgeTask:
    """`truth`: yes or no, a number as text, 1, 2 or tie, or one of `options`."""

    kind: TaskKind
    pictures: tuple[Path, ...]
    question: str
    truth: str
    request: str = ""
    key_point: str = "other"
    options: tuple[str, ...] = ()


class TaskReader:
    """Makes tasks of rows; pictures that lie inside tables are written to `spool`."""

    def __init__(self, spool: Path) -> None:
        self._picture = PictureField(spool)

    def __call__(self, row: Row, source: str) -> JudgeTask:
        kind = "check" if is_missing(row.get("task")) else text_field(row, "task")
        read = {"check": _read_check, "score": _read_score, "pair": _read_pair, "choice": _read_choice}.get(kind)
        if read is None:
            raise InputError(f"field 'task' is {kind!r}; it must be check, score, pair or choice")
        names = ["image", *(["other"] if kind == "pair" or not is_missing(row.get("other")) else [])]
        pictures = tuple(self._picture(row.get(name), source, name) for name in names)
        for picture in pictures:
            open_image(picture)  # a damaged one is named now, not hours into the training
        request = "" if is_missing(row.get("request")) else text_field(row, "request").strip()
        return read(row, pictures, request)


def _read_check(row: Row, pictures: tuple[Path, ...], request: str) -> JudgeTask:
    truth = "yes" if read_verdict(row.get("verdict")) else "no"
    return JudgeTask(
        "check", pictures, read_question(row), truth, request, text_field(row, "key_point").strip(), ("yes", "no")
    )


def _read_score(row: Row, pictures: tuple[Path, ...], request: str) -> JudgeTask:
    score = row.get("score")
    if not isinstance(score, int | float) or isinstance(score, bool) or not 1 <= score <= 5:
        raise InputError(f"field 'score' is {score!r}; it must be a number from 1 to 5")
    return JudgeTask("score", pictures, read_question(row), f"{score:g}", request)


def _read_pair(row: Row, pictures: tuple[Path, ...], request: str) -> JudgeTask:
    preferred = str(row.get("preferred")).strip().casefold()
    if preferred not in ("1", "2", "tie"):
        raise InputError(f"field 'preferred' is {row.get('preferred')!r}; it must be 1, 2 or tie")
    question = WHICH_IS_BETTER if is_missing(row.get("question")) else read_question(row)
    return JudgeTask("pair", pictures, question, preferred, request, options=("1", "2", "tie"))


def _read_choice(row: Row, pictures: tuple[Path, ...], request: str) -> JudgeTask:
    options = row.get("options")
    if not isinstance(options, list) or not all(isinstance(o, str) and o.strip() for o in options) or len(options) < 2:
        raise InputError("field 'options' must be a list of at least two texts")
    answer = text_field(row, "answer").strip()
    if answer.casefold() not in [option.casefold() for option in options]:
        raise InputError(f"field 'answer' is {answer!r}, which is none of the options")
    return JudgeTask("choice", pictures, read_question(row), answer, request, options=tuple(options))


def load_tasks(places: Sequence[str | Path], spool: Path, *, max_bad: float = 0.01) -> LoadedRecords[JudgeTask]:
    """The tasks in `places` (`redraft.records`). `max_bad`: share of bad rows allowed. Raises InputError, also if all tasks
    of one kind have the same truth: a judge that always says so would look perfect."""
    loaded = load_records(places, TaskReader(spool), max_bad)
    for kind in ("check", "pair"):
        truths = {task.truth for task in loaded.records if task.kind == kind}
        if len(truths) == 1 and sum(task.kind == kind for task in loaded.records) > 1:
            raise InputError(f"the truth of every {kind} is {truths.pop()!r}; a judge needs both")
    return loaded


class TaskWording:
    """The text of a task after its pictures; with `describes`, it asks for a description before the thought. Raises ConfigError
    if the style's templates cannot be used."""

    def __init__(self, style: str = STYLE, *, describes: bool = False) -> None:
        self._ending = "\n\n" + load_template("evaluator", style, "description") if describes else ""
        self._check = CheckWording(style, "check")
        self._templates = {kind: load_template("evaluator", style, kind) for kind in ("score", "pair", "choice")}

    def __call__(self, task: JudgeTask) -> str:
        return self._word(task) + self._ending

    def _word(self, task: JudgeTask) -> str:
        if task.kind == "check":
            (text,) = self._check(task.request, [Check(task.key_point, task.question)])
            return text
        values = {"question": task.question}
        values |= (
            {"options": ", ".join(task.options)} if task.kind == "choice" else {"fenced_request": fence(task.request)}
        )
        return fill(self._templates[task.kind], **values)


class ListenerWording:
    """What a listener is asked about a thought, after the pictures; or about a description, without them (`sees` False).
    Raises ConfigError if the style's template cannot be used."""

    def __init__(self, style: str = STYLE, *, sees: bool) -> None:
        self._template = load_template("evaluator", style, "listen" if sees else "read")

    def __call__(self, text: str, question: str, options: Sequence[str]) -> str:
        fenced = fence(text, "thought")
        return fill(self._template, fenced_thought=fenced, question=question, options=", ".join(options))


def task_row(task: JudgeTask, wording: TaskWording, number: int) -> dict[str, Any]:
    """A task as a row of TRL's data set: a conversation, the paths of its pictures, and what its rewards need."""
    return {
        "prompt": [{"role": "user", "content": wording(task)}],
        "images": [str(path) for path in task.pictures],
        "kind": task.kind,
        "truth": task.truth,
        "question": task.question,
        "options": list(task.options),
        "row": number,
    }


def with_pictures(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Rows of `task_row` with their pictures opened: a transform of the data set, so that few are in memory at once."""
    return {
        **{k: list(v) for k, v in batch.items()},
        "images": [[open_image(Path(p)) for p in ps] for ps in batch["images"]],
    }
