"""The journal: what was written is there again, and a torn end does no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.runfolder import RunLog
from agent.types import Attempt, Task
from evaluator.types import Check, Outcome, Report, RequestChecks, Verdict
from redraft.chat import Usage
from redraft.errors import InputError
from redraft.journal import Journal, Key
from rewriter.types import Rewrite

H1, H2 = "1" * 64, "2" * 64
CHECK = Check("text_rendering", "Does it say “naïve\u2028日本”?")
REPORT = Report((Verdict(CHECK, Outcome.SCORED, 0.25, 0.9, "no", (0.0, 0.1, 0.5, 1.0), "no\nway"),), 0.25, 0, ("no",))
UNSCORED = Report((Verdict(CHECK, Outcome.FAILED, reason="timeout"),), None, 1)
TASK = Task(2, "edit", "p", 3, "dark", "cafe")
REWRITE = Rewrite("p", "t", "n", "m", Usage(1, 2), ("f",), True)


def filled(path: Path) -> None:
    with RunLog(path) as log:
        log.put_checklist(RequestChecks((CHECK,), unchecked=("boat",)))
        log.put_rewrites("k", 2, [REWRITE])
        log.put_images([(TASK, H1), (Task(2, "generate", "q", 4), H2)])
        log.put_report(H1, REPORT)
        log.put_decision(2, stop=None, why="because", best=0)
        log.put_seconds("judge", 0.5)
        log.put_seconds("judge", 0.25)


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    filled(tmp_path / "journal")
    with RunLog(tmp_path / "journal") as log:
        assert log.checklist == RequestChecks((CHECK,), unchecked=("boat",))
        assert log.rewrites == {"k": (REWRITE,)}
        assert log.rewrites_of_round == {2: (REWRITE,)}
        assert log.attempt(TASK.key) == Attempt(2, "edit", "p", 3, H1, "cafe", REPORT, "dark")
        assert log.decisions == {2: {"stop": None, "why": "because", "best": 0}}
        assert log.seconds == {"judge": 0.75}


def test_attempts_end_before_the_first_that_is_not_judged(tmp_path: Path) -> None:
    filled(tmp_path / "journal")
    with RunLog(tmp_path / "journal") as log:
        other = Task(2, "generate", "q", 4).key
        assert len(log.attempts([TASK.key, other])) == 1
        assert log.attempts([other, TASK.key]) == []


def test_a_torn_end_is_cut_off_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    filled(path)
    data = path.read_bytes()
    start = data.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(start, len(data)):
        path.write_bytes(data[:end])
        with RunLog(path) as log:
            assert log.seconds == {"judge": 0.5}
            log.put_seconds("judge", 1.0)
        with RunLog(path) as log:
            assert log.seconds == {"judge": 1.5}


def test_unscored_pictures_can_be_judged_again(tmp_path: Path) -> None:
    filled(tmp_path / "journal")
    with RunLog(tmp_path / "journal") as log:
        log.put_report(H2, UNSCORED)
        log.forget_unscored()
    with RunLog(tmp_path / "journal") as log:
        assert log.reports == {H1: REPORT}


@pytest.mark.parametrize(
    ("key", "value"), [(("new thing",), None), (("report", H2), {}), ("report", None), (("image", "x"), 3)]
)
def test_an_entry_that_cannot_be_read_is_named(tmp_path: Path, key: Key, value: object) -> None:
    filled(tmp_path / "journal")
    with Journal(tmp_path / "journal", "run") as journal:
        journal.put(key, value)
    with pytest.raises(InputError, match="which cannot be read"):
        RunLog(tmp_path / "journal")


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"is": "new thing"}\n', b'{"is": "report"}\n', b"\xff\xfe\n"])
def test_a_damaged_journal_is_refused_with_its_line(tmp_path: Path, line: bytes) -> None:
    filled(tmp_path / "journal")
    with (tmp_path / "journal").open("ab") as file:
        file.write(line)
    with pytest.raises(InputError, match="line 10"):
        RunLog(tmp_path / "journal")
