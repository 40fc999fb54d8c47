"""What the command line shows while a run works: thought, picture, verdicts, score. Everything goes to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.status import Status

from agent.console import escape
from agent.decide import acceptable
from agent.events import (
    Asked,
    ChecklistMade,
    Decided,
    Event,
    ImageDrawn,
    Judged,
    Planned,
    Pruned,
    RewriteMade,
    RunFinished,
    RunStarted,
    StepProgress,
    Warned,
)
from agent.terminal import inline, way_of
from agent.types import passes
from evaluator.types import Outcome, Report, Verdict
from redraft.limits import Limits

_STEPS = {
    "checklist": "reading the ask",
    "plan": "planning",
    "rewrite": "thinking about the prompt",
    "render": "drawing",
    "judge": "looking at the picture",
}


class LiveView:
    """Shows events as they come. Text from users and models is printed as it is, never read as markup."""

    def __init__(self, limits: Limits, console: Console | None = None, env: Mapping[str, str] | None = None) -> None:
        self._limits = limits
        self._console = console or Console(stderr=True, highlight=False)
        self._way = way_of(os.environ if env is None else env, self._console.is_terminal)
        self._status: Status | None = None

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(None)

    def show(self, event: Event) -> None:
        match event:
            case StepProgress():
                count = f" {event.done}/{event.total}" if event.total else ""
                self._wait(f"{_STEPS.get(event.step, event.step)}{count}")
            case RunStarted():
                again = f" (resumed, {event.attempts} drawn so far)" if event.resumed else ""
                self._say(f"[dim]run[/] {escape(str(event.folder))}{again}")
            case ChecklistMade():
                self._say(f"[bold]checklist[/] [dim]{len(event.checks)}[/]")
                for check in event.checks:
                    self._say(f"  [dim]·[/] {escape(check.question)}")
            case Planned():
                self._planned(event)
            case Pruned():
                for number, branch in event.branches:
                    sure = "" if branch.confidence is None else f", confidence {branch.confidence:.2f}"
                    self._say(f"  [dim]picture {number}: {branch.fate}{sure}[/]")
            case RewriteMade():
                self._rewrite(event)
            case ImageDrawn():
                self._wait(f"drawn with seed {event.seed}")
            case Judged():
                self._judged(event)
            case Decided():
                decision = event.decision
                head = "another round" if decision.stop is None else decision.stop.value
                self._say(f"[bold cyan]{head}[/]: {escape(decision.why)}")
            case Warned():
                self._say(f"[yellow]warning:[/] {escape(event.text)}")
            case Asked():
                self._asked(event)
            case RunFinished():
                self._wait(None)

    def _rewrite(self, event: RewriteMade) -> None:
        self._say(f"\n[bold]round {event.round}[/]")
        if event.rewrite.thought:
            self._say(f"[italic dim]{escape(event.rewrite.thought)}[/]")
        self._say(f"[bold]prompt[/] {escape(event.rewrite.prompt)}")
        if event.rewrite.fallback:
            self._say("[yellow]the rewrite was given up; this is the ask itself[/]")
        for finding in event.rewrite.findings:
            self._say(f"[yellow]guard:[/] {escape(finding)}")

    def _planned(self, event: Planned) -> None:
        course = event.course
        if course.choice == "redraw":
            self._say(f"\n[bold]plan[/] a new picture: {escape(course.reason)}")
            return
        self._say(f"\n[bold]plan[/] edit, {course.at + 1} of {len(course.steps)}: {escape(course.reason)}")
        now = course.steps[course.at]
        if now.thought:
            self._say(f"[italic dim]{escape(now.thought)}[/]")
        for picture in (event.cue, event.draft):
            if picture is not None:
                self._picture(picture)
        self._say(f"[bold]edit[/] {escape(now.instruction)}")

    def _judged(self, event: Judged) -> None:
        self._picture(event.path)
        report = event.attempt.report
        score = "no score" if report.score is None else f"{report.score:.2f}"
        colour = "green" if acceptable(report, self._limits) else "yellow"
        self._say(f"[bold {colour}]{score}[/] picture {event.number} [dim]{escape(str(event.path))}[/]")
        for line in verdict_lines(report, self._limits.pass_at):
            self._say(line)

    def _asked(self, event: Asked) -> None:
        if event.attempt is None or event.path is None:
            return
        self._picture(event.path)
        score = "no score" if event.attempt.score is None else f"score {event.attempt.score:.2f}"
        self._say(f"\n[bold]best so far[/]: picture {event.number}, {score} [dim]{escape(str(event.path))}[/]")

    def _picture(self, path: Path) -> None:
        if self._way is None:
            return
        with Image.open(path) as picture:
            sequences = inline(picture, self._way)
        self._wait(None)
        self._console.file.write(sequences + "\n")
        self._console.file.flush()

    def _say(self, markup: str) -> None:
        """Prints above the spinner. Nothing is cut off or read as emoji codes."""
        self._console.print(markup, soft_wrap=True, emoji=False)

    def _wait(self, text: str | None) -> None:
        """Shows a spinner with `text`, None takes it away. Where stderr is no terminal nothing is shown."""
        if not self._console.is_terminal:
            return
        if text is None:
            if self._status is not None:
                self._status.stop()
            self._status = None
        elif self._status is None:
            self._status = self._console.status(escape(text))
            self._status.start()
        else:
            self._status.update(escape(text))


def verdict_lines(report: Report, pass_at: float) -> list[str]:
    """One line of rich markup for each verdict."""
    return [_verdict_line(verdict, pass_at) for verdict in report.verdicts]


def _verdict_line(verdict: Verdict, pass_at: float) -> str:
    question = escape(verdict.check.question)
    if verdict.outcome is Outcome.FAILED:
        return f"  [yellow]![/] ---- {question} [yellow]not judged: {escape(verdict.reason or 'no answer')}[/]"
    if verdict.outcome is Outcome.NOT_APPLICABLE or verdict.probability is None:
        return f"  [dim]– ---- {question} does not apply[/]"
    mark = "[green]✓[/]" if passes(verdict, pass_at) else "[red]✗[/]"
    reason = f" [dim]{escape(verdict.reason)}[/]" if verdict.reason else ""
    return f"  {mark} {verdict.probability:.2f} {question}{reason}"


def stdin_is_a_person() -> bool:
    """Whether someone can answer a question."""
    return sys.stdin is not None and sys.stdin.isatty()
