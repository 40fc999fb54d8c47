"""What the command line shows: everything that happened, and no word of a user or a model as anything but a word."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from rich.console import Console

from agent.events import ChecklistMade, Decided, Judged, NeedsAnswer, RewriteMade, StepProgress, Warned
from agent.terminal import LiveView
from agent.types import Attempt, Decision, StopReason
from evaluator.types import Check, Outcome, Report, Verdict
from redraft.limits import Limits
from redraft.templates import fence
from rewriter.types import Rewrite

EVIL = "[red]red[/red] [link=file:///etc]x[/link] :smile: \x1b]0;title\x07 \x1b[2J [/] \x9b31m"
SEEN = "[red]red[/red] [link=file:///etc]x[/link] :smile: \ufffd]0;title\ufffd \ufffd[2J [/] \ufffd31m"


def judged(path: Path) -> Judged:
    verdicts = (
        Verdict(Check("counting", f"Three? {EVIL}"), Outcome.SCORED, 0.93, 1.0),
        Verdict(Check("counting", "Red?"), Outcome.SCORED, 0.12, 1.0, reason=EVIL),
        Verdict(Check("counting", "Round?"), Outcome.FAILED, reason="timed out"),
        Verdict(Check("counting", "Text?"), Outcome.NOT_APPLICABLE),
    )
    return Judged(2, Attempt(1, "generate", "p", 3, "h", None, Report(verdicts, 0.53, 1)), path)


def test_words_stay_words(tmp_path: Path) -> None:
    out = io.StringIO()
    with LiveView(Limits(), Console(file=out, width=60), env={}) as view:
        view.show(ChecklistMade((Check("counting", EVIL),)))
        view.show(RewriteMade(1, Rewrite(EVIL, thought=EVIL, findings=(EVIL,), fallback=True)))
        view.show(judged(tmp_path / "x.png"))
        view.show(Warned(EVIL))
        view.show(Decided(1, Decision(StopReason.BUDGET, 0, EVIL)))
    shown = out.getvalue()
    assert shown.count(SEEN) == 8
    assert "\x1b" not in shown


def test_verdicts(tmp_path: Path) -> None:
    out = io.StringIO()
    with LiveView(Limits(), Console(file=out), env={}) as view:
        view.show(judged(tmp_path / "x.png"))
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines[0] == f"0.53 attempt 2 {tmp_path / 'x.png'}"
    assert lines[1].startswith("✓ 0.93 Three?")
    assert lines[2].startswith("✗ 0.12 Red?")
    assert lines[3] == "! ---- Round? not judged: timed out"
    assert lines[4] == "– ---- Text? does not apply"


def test_a_terminal_that_can_shows_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (8, 8), "red").save(path)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    with LiveView(Limits(), console, env={"TERM": "xterm-kitty"}) as view:
        view.show(StepProgress("render", 1, 3, 30))
        view.show(judged(path))
    assert "\x1b_Ga=T,f=100" in out.getvalue()
    assert "drawing 3/30" in out.getvalue()


def test_no_spinner_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with LiveView(Limits(), Console(file=out), env={"TERM": "xterm-kitty"}) as view:
        view.show(StepProgress("render", 1, 3, 30))
    assert out.getvalue() == ""


def test_what_the_judge_reads_between_tags_people_read_between_quotation_marks() -> None:
    out = io.StringIO()
    question = f"Does the picture show this? {fence('a [b]cat[/b]')}"
    with LiveView(Limits(), Console(file=out, width=200), env={}) as view:
        view.show(ChecklistMade((Check("counting", question),)))
    assert "Does the picture show this? “a [b]cat[/b]”" in out.getvalue()


def test_a_run_that_asks_says_what_is_missed(tmp_path: Path) -> None:
    out = io.StringIO()
    seen = judged(tmp_path / "x.png")
    with LiveView(Limits(), Console(file=out, width=200), env={}) as view:
        view.show(NeedsAnswer(1, 2, seen.attempt, seen.path, "not good enough", ("accept", "again", "stop")))
    shown = out.getvalue()
    assert "best so far: attempt 2, score 0.53" in shown
    assert "Red?" in shown
    assert "Three?" not in shown
