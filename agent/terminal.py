"""What the commands show in a terminal: results on stdout, the view of a run as it goes, pictures.

Pictures are shown as the terminal says that it can show them: by kitty's graphics protocol, iTerm2's inline images or sixel,
and elsewhere as coloured half blocks. What a terminal knows is read from its environment variables, never asked over the line:
an answer that comes late would end up in the user's shell. REDRAFT_IMAGES=kitty|iterm2|sixel|blocks|none overrides the guess.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TextIO

from PIL import Image
from rich.console import Console
from rich.markup import escape as _escape_markup
from rich.status import Status

from agent.decide import acceptable
from agent.events import (
    ChecklistMade,
    Decided,
    Event,
    ImageDrawn,
    Judged,
    NeedsAnswer,
    Planned,
    Pruned,
    RewriteMade,
    RunFinished,
    RunStarted,
    StepProgress,
    Warned,
)
from agent.types import missed, passes
from evaluator.types import Outcome, Report, Verdict
from redraft.errors import printable
from redraft.limits import Limits
from redraft.templates import unfence

_PATIENCE_S = 1.0
"""After Ctrl-C the process waits this long for a worker that cannot be stopped. Nothing is lost by leaving it: every
finished piece of work is on disk."""


def escape(text: str) -> str:
    """Text of users and models for rich: no markup, and no control characters that could drive the terminal."""
    return _escape_markup(printable(text))


def leave_soon() -> None:
    """Ends the process after a short while, or at once at another Ctrl-C, whatever its threads are still at."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    timer = threading.Timer(_PATIENCE_S, os._exit, (130,))
    timer.daemon = True
    timer.start()


def open_console(file: TextIO) -> Console:
    return Console(file=file, highlight=False)


def write_json(value: Mapping[str, object], stdout: TextIO) -> None:
    stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextlib.contextmanager
def stdout_for_results() -> Iterator[TextIO]:
    """The real stdout, while everything else in the process that writes there is sent to stderr: a model library that
    prints must not end up inside the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    # Folder names need not be Unicode; what has no UTF-8 becomes an escape, which JSON reads back.
    with open(kept, "w", encoding="utf-8", errors="backslashreplace") as stdout:
        try:
            yield stdout
            stdout.flush()
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)


Way = Literal["kitty", "iterm2", "sixel", "blocks"]

_PIXELS_PER_COLUMN = 8
"""A column of half blocks stands for so many pixels."""
_CHUNK = 4096
"""Most base64 characters in one escape sequence of the kitty protocol."""


def way_of(env: Mapping[str, str], is_tty: bool) -> Way | None:
    """How the terminal described by `env` shows pictures; None if it does not, or is no terminal."""
    wish = env.get("REDRAFT_IMAGES", "").lower()
    if not is_tty or wish == "none":
        return None
    for way in ("kitty", "iterm2", "sixel", "blocks"):
        if wish == way:
            return way
    term, program = env.get("TERM", ""), env.get("TERM_PROGRAM", "")
    if env.get("TMUX") or term.startswith(("screen", "tmux")) or term in ("", "dumb"):
        return _blocks_or_none(env)  # a multiplexer swallows the sequences or shows them as text
    if env.get("KITTY_WINDOW_ID") or "kitty" in term or "ghostty" in term or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or env.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    if term.startswith(("foot", "mlterm", "contour", "yaft")) or "sixel" in term:
        return "sixel"
    return _blocks_or_none(env)


def _blocks_or_none(env: Mapping[str, str]) -> Way | None:
    """Half blocks, if the terminal shows 256 colours or more and UTF-8, and colours are not unwanted."""
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    unicode = "UTF" in locale.upper() or bool(env.get("WT_SESSION"))
    coloured = _has_all_colours(env) or "256color" in env.get("TERM", "")
    return "blocks" if unicode and coloured and not env.get("NO_COLOR") else None


def _has_all_colours(env: Mapping[str, str]) -> bool:
    return env.get("COLORTERM", "") in ("truecolor", "24bit") or bool(env.get("WT_SESSION"))


def inline(picture: Image.Image, way: Way, side: int = 320, *, all_colours: bool | None = None) -> str:
    """The escape sequences that show `picture`, at most `side` pixels wide and high, at the cursor.

    `all_colours`: whether half blocks may have any colour rather than one of 256; None: as the environment says.
    """
    small = picture.convert("RGB")
    if way == "blocks":
        small.thumbnail((side // _PIXELS_PER_COLUMN,) * 2, Image.Resampling.LANCZOS)
        return _half_blocks(small, _has_all_colours(os.environ) if all_colours is None else all_colours)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    if way == "sixel":
        return "".join(_sixel(small))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    if way == "iterm2":
        size = len(buffer.getvalue())
        return f"\x1b]1337;File=inline=1;size={size};width={small.width}px;height={small.height}px:{data}\x07"
    chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    parts = []
    for index, chunk in enumerate(chunks):
        head = "a=T,f=100,q=2," if index == 0 else ""
        parts.append(f"\x1b_G{head}m={int(index < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(parts)


def _half_blocks(picture: Image.Image, all_colours: bool) -> str:
    """Lines of upper half blocks: the foreground is a pixel, the background the one below it."""
    rows = [
        [picture.getpixel((x, y)) for x in range(picture.width)] for y in range(picture.height)
    ]  # fmt: skip
    lines = []
    for at in range(0, len(rows), 2):
        below = rows[at + 1] if at + 1 < len(rows) else [None] * picture.width
        cells = (
            f"\x1b[{_colour(38, over, all_colours)}{_colour(48, under, all_colours) if under else '49'}m▀"
            for over, under in zip(rows[at], below, strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)


def _colour(ground: int, pixel: object, all_colours: bool) -> str:
    """The parameters of SGR for a colour. Of 256 colours, 16 to 231 are a cube with six values a side."""
    assert isinstance(pixel, tuple)
    red, green, blue = pixel
    separator = ";" if ground == 38 else ""
    if all_colours:
        return f"{ground};2;{red};{green};{blue}{separator}"
    cube = [round(value * 5 / 255) for value in (red, green, blue)]
    return f"{ground};5;{16 + 36 * cube[0] + 6 * cube[1] + cube[2]}{separator}"


def _sixel(picture: Image.Image, colours: int = 128) -> Iterator[str]:
    """DEC sixel data: a palette, then bands of six rows, one pass per colour of the band, runs shortened."""
    indexed = picture.quantize(colours, dither=Image.Dither.NONE)
    palette = indexed.getpalette() or []
    pixels = indexed.load()
    assert pixels is not None
    width, height = indexed.size
    yield f'\x1bPq"1;1;{width};{height}'
    for index in range(len(palette) // 3):
        red, green, blue = (round(value * 100 / 255) for value in palette[3 * index : 3 * index + 3])
        yield f"#{index};2;{red};{green};{blue}"
    for top in range(0, height, 6):
        rows = range(top, min(top + 6, height))
        band: dict[int, list[int]] = {}
        for bit, y in enumerate(rows):
            for x in range(width):
                colour = pixels[x, y]
                assert isinstance(colour, int)
                band.setdefault(colour, [0] * width)[x] |= 1 << bit
        for colour, columns in band.items():
            yield f"#{colour}{_runs(columns)}$"
        yield "-"
    yield "\x1b\\"


def _runs(columns: list[int]) -> str:
    parts, at = [], 0
    while at < len(columns):
        end = at
        while end < len(columns) and columns[end] == columns[at]:
            end += 1
        char = chr(63 + columns[at])
        parts.append(f"!{end - at}{char}" if end - at > 3 else char * (end - at))
        at = end
    return "".join(parts)


_DRAFT_SIDE = 96
_STEPS = {
    "checklist": "reading the request",
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
                again = f" (resumed, {_count(event.attempts, 'picture')} drawn so far)" if event.resumed else ""
                self._say(f"[dim]run[/] {escape(str(event.folder))}{again}")
            case ChecklistMade():
                self._say(f"[bold]checklist[/] [dim]{len(event.checks)}[/]")
                for check in event.checks:
                    self._say(f"  [dim]·[/] {escape(unfence(check.question))}")
                if event.unchecked:
                    self._say(f"[yellow]unchecked[/] {escape(', '.join(event.unchecked))}")
            case Planned():
                self._planned(event)
            case Pruned():
                for number, branch in event.branches:
                    sure = "" if branch.confidence is None else f", confidence {branch.confidence:.2f}"
                    self._say(f"  [dim]attempt {number}: {branch.fate}{sure}[/]")
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
            case NeedsAnswer():
                self._asked(event)
            case RunFinished():
                self._wait(None)

    def _rewrite(self, event: RewriteMade) -> None:
        self._say(f"\n[bold]round {event.round}[/]")
        if event.rewrite.thought:
            self._say(f"[italic dim]{escape(event.rewrite.thought)}[/]")
        self._say(f"[bold]prompt[/] {escape(event.rewrite.prompt)}")
        if event.rewrite.fallback:
            self._say("[yellow]the rewrite was given up; this is the request itself[/]")
        for finding in event.rewrite.findings:
            self._say(f"[yellow]guard:[/] {escape(finding)}")

    def _planned(self, event: Planned) -> None:
        plan = event.plan
        if plan.choice == "redraw":
            self._say(f"\n[bold]plan[/] a new picture: {escape(plan.reason)}")
            return
        self._say(f"\n[bold]plan[/] edit, {plan.at + 1} of {len(plan.steps)}: {escape(plan.reason)}")
        now = plan.steps[plan.at]
        if now.thought:
            self._say(f"[italic dim]{escape(now.thought)}[/]")
        for picture in (event.area, event.draft):
            if picture is not None:
                self._picture(picture)
        self._say(f"[bold]edit[/] {escape(now.instruction)}")

    def _judged(self, event: Judged) -> None:
        report, draft = event.attempt.report, event.attempt.draft
        score = "no score" if report.score is None else f"{report.score:.2f}"
        if draft:  # seen small, and without its verdicts: there are many
            self._picture(event.path, _DRAFT_SIDE)
            self._say(f"[dim]{score} draft {event.number} {escape(str(event.path))}[/]")
            return
        self._picture(event.path)
        colour = "green" if acceptable(report, self._limits) else "yellow"
        self._say(f"[bold {colour}]{score}[/] attempt {event.number} [dim]{escape(str(event.path))}[/]")
        for line in verdict_lines(report, self._limits.pass_at):
            self._say(line)

    def _asked(self, event: NeedsAnswer) -> None:
        self._wait(None)  # the question is not to be written over
        if event.attempt is None or event.path is None:
            return
        report = event.attempt.report
        score = "no score" if report.score is None else f"score {report.score:.2f}"
        self._say(f"\n[bold]best so far[/]: attempt {event.number}, {score} [dim]{escape(str(event.path))}[/]")
        self._picture(event.path)
        for verdict in missed(report, self._limits.pass_at):
            self._say(_verdict_line(verdict, self._limits.pass_at))
        self._say(f"[dim]{escape(event.why)}[/]")

    def _picture(self, path: Path, side: int = 320) -> None:
        if self._way is None:
            return
        with Image.open(path) as picture:
            sequences = inline(picture, self._way, side)
        self._wait(None)
        self._console.file.write(sequences + "\n")
        self._console.file.flush()

    def _say(self, markup: str) -> None:
        """Prints above the spinner. Nothing is cut off or read as emoji codes."""
        self._console.print(markup, soft_wrap=True, emoji=False)

    def _wait(self, text: str | None) -> None:
        """Shows a spinner with `text`, None takes it away. If stderr is no terminal, nothing is shown."""
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def verdict_lines(report: Report, pass_at: float) -> list[str]:
    """One line of rich markup for each verdict."""
    return [_verdict_line(verdict, pass_at) for verdict in report.verdicts]


def _verdict_line(verdict: Verdict, pass_at: float) -> str:
    question = escape(unfence(verdict.check.question))
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
