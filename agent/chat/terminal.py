"""`redraft chat`: a conversation in the terminal. Replies go to stdout, everything else to stderr.

A person at a terminal edits lines, goes back through those of before, and completes commands and file names with Tab. Pipes
are read line by line.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import typer
from PIL import Image

from agent.chat.commands import HELP, usage
from agent.chat.conversation import (
    Conversation,
    ConversationStatus,
    conversation_exists,
    list_conversations,
    random_name,
    read_profile,
)
from agent.chat.values import Clarify, Replied, TurnBegan, TurnEvent
from agent.models import ConversationModels, open_models, open_rewriting_models
from agent.runfolder import require_writable
from agent.terminal import (
    LiveView,
    escape,
    inline,
    leave_soon,
    open_console,
    stdin_is_a_person,
    stdout_for_results,
    way_of,
)
from redraft.errors import BackendError, InputError, RedraftError, printable
from redraft.profiles import Profile, load_profile
from redraft.signals import handle_signals

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completion

HOME = "conversations"
"""Folder of conversations, inside of the folder for runs."""
HISTORY = ".history"
"""What was typed before, beside the conversations."""
_HINT = "Ctrl-D or /quit leaves; everything is kept"
_FILES = ("open", "mask", "save", "export")
"""Commands whose argument is a file."""
_WORDS = {"questions": ("on", "off"), "seed": ("off",), "mask": ("off",)}


class Dropped(Exception):  # noqa: N818
    """Ctrl-C, while a line was typed."""


class Lines(Protocol):
    """Where the lines of a conversation come from."""

    async def read(self, prompt: str) -> str | None:
        """The next line, None at the end of the input. Raises Dropped if its user dropped it."""
        ...


def chat(
    *,
    profile_name: str | None,
    conversation: str | None,
    out: Path | None,
    ask: bool,
    listed: bool,
    export: Path | None,
) -> None:
    """Reads requests until the input ends or the user quits. Raises RedraftError if the conversation cannot be used."""
    profile = load_profile(profile_name or "mini")
    home = (Path(profile.runs) if out is None else out) / HOME
    if listed:
        _print_list(home)
        return
    known = conversation is not None and conversation_exists(home, conversation)
    if conversation is not None and known:
        own = read_profile(home, conversation)
        profile = own if own is not None and profile_name is None else profile
    elif export is not None:
        raise InputError("name the conversation that is to be exported: redraft chat --conversation NAME --export FILE")
    require_writable(home)
    with stdout_for_results() as stdout:
        terminal = TerminalChat(profile, home, conversation or random_name(), known=known, ask=ask, stdout=stdout)
        if export is not None:
            stdout.write(f"{asyncio.run(terminal.export(export))}\n")
            return
        terminal.run()


class TerminalChat:
    """The terminal's side of a conversation."""

    def __init__(self, profile: Profile, home: Path, name: str, *, known: bool, ask: bool, stdout: TextIO) -> None:
        self._profile = profile
        self._home = home
        self._name = name
        self._known = known
        self._ask = ask
        self._stdout = stdout
        self._console = open_console(stdout)
        self._way = way_of(os.environ, stdout.isatty())
        self._limits = profile.limits
        self._failed = 0
        """Exit code of the latest line that was refused or failed."""
        self._pictures = 0
        with open_console(sys.stderr).status("opening the models"):
            draws = "draw" in profile.abilities()
            self._models: ConversationModels = open_models(profile) if draws else open_rewriting_models(profile)

    async def export(self, target: Path) -> Path:
        return await (await self._open(self._name, known=True)).export(target)

    def run(self) -> None:
        person = stdin_is_a_person()
        lines = self._open_lines(person)
        with asyncio.Runner() as runner:
            try:
                conversation = runner.run(self._open(self._name, self._known))
                view = runner.run(conversation.view())
                self._greet(view)
                waiting = view.waiting
                if view.pending is not None:
                    self._say(f"[dim]continuing:[/] {escape(view.pending)}")
                    conversation, waiting, _ = self._turn(runner, conversation, None)
                elif waiting is not None:
                    self._question(waiting)
                while True:
                    try:
                        line = runner.run(lines.read("? " if waiting is not None else "> "))
                    except (Dropped, KeyboardInterrupt):
                        if not person:
                            raise
                        sys.stderr.write(f"{_HINT}\n")
                        continue
                    if line is None:
                        break
                    if not line.strip() and waiting is None:
                        continue
                    if not self._finish_pending(runner, conversation):
                        self._say(f"[red]not taken: {escape(line)}[/]")
                        continue
                    conversation, waiting, quits = self._turn(runner, conversation, line)
                    if quits:
                        break
            except KeyboardInterrupt:
                sys.stderr.write(f"\ninterrupted; continue with: {printable(self._command())}\n")
                sys.stderr.flush()
                leave_soon()
                self._models.close()
                raise typer.Exit(130) from None
        self._models.close()
        if self._failed and not person:  # a script sees no red lines
            raise typer.Exit(self._failed)

    def _finish_pending(self, runner: asyncio.Runner, conversation: Conversation) -> bool:
        """Continues a turn that could not be written to its end, because the disk was full for instance. False if it
        still cannot be."""
        pending = runner.run(conversation.view()).pending
        if pending is not None:
            self._say(f"[dim]continuing:[/] {escape(pending)}")
            self._turn(runner, conversation, None)
            return runner.run(conversation.view()).pending is None
        return True

    def _command(self) -> str:
        """The command that continues this conversation from the same folder."""
        runs = self._home.parent
        place = [] if runs == Path(load_profile("mini").runs) else ["--out", str(runs)]
        return shlex.join(["redraft", "chat", "--conversation", self._name, *place])

    def _open_lines(self, person: bool) -> Lines:
        """The line editor, if there is a person with a terminal that can do more than print."""
        screen = next((file for file in (self._stdout, sys.stderr) if file.isatty()), None)
        if not person or screen is None or os.environ.get("TERM", "") in ("", "dumb"):
            return PlainLines(shows_prompt=person)
        return EditedLines(self._home / HISTORY, screen, lambda: self._pictures)

    async def _open(self, name: str, known: bool) -> Conversation:
        if known:
            return Conversation.open(self._home, name, self._models, limits=self._limits, profile=self._profile)
        return await Conversation.create(
            self._home, name, self._models, limits=self._limits, profile=self._profile, may_ask=self._ask
        )

    def _turn(
        self, runner: asyncio.Runner, conversation: Conversation, request: str | None
    ) -> tuple[Conversation, Clarify | None, bool]:
        """Works on a turn. Ctrl-C ends its drawing with the best picture so far; a second one leaves."""
        interrupted = False

        async def work() -> Replied | Clarify | None:
            task = asyncio.current_task()
            assert task is not None

            def interrupt() -> None:
                nonlocal interrupted
                if interrupted:
                    task.cancel()
                else:
                    sys.stderr.write("\nstopping after the piece of work under way; Ctrl-C again leaves\n")
                interrupted = True
                conversation.cancel()

            async def tell(event: TurnEvent) -> None:
                self._show(event, live)

            with handle_signals(signal.SIGINT, call=interrupt):
                return await conversation.turn(request, tell=tell)

        last: Replied | Clarify | None = None
        with LiveView(self._limits) as live:
            try:
                last = runner.run(work())
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
            except RedraftError as error:
                self._failed = error.exit_code
                self._say(f"[red]{escape(str(error))}[/]")
        if isinstance(last, Clarify):
            self._question(last)
            return conversation, last, False
        if isinstance(last, Replied):
            self._reply(last)
            if last.entry.error and not interrupted:  # what its user stopped did not fail
                self._failed = BackendError.exit_code if last.entry.run is not None else InputError.exit_code
            if last.branch is not None:
                self._name = last.branch
                conversation = runner.run(self._open(last.branch, known=True))
            return conversation, None, last.entry.request.strip().lower() == "/quit"
        return conversation, None, False

    def _show(self, event: TurnEvent, live: LiveView) -> None:
        if not isinstance(event, TurnBegan):
            live.show(event)
        elif event.by not in ("", "command"):
            why = f": {event.reason}" if event.reason else ""
            sys.stderr.write(printable(f"{event.kind}{why} ({event.by})\n"))

    def _reply(self, event: Replied) -> None:
        colour = "red" if event.entry.error else "default"
        self._say(f"[{colour}]{escape(event.entry.reply)}[/]")
        for picture, path in event.shown:
            self._pictures = max(self._pictures, picture.number)
            self._picture(path)
            if self._way in (None, "blocks"):  # neither is the picture itself
                self._say(f"picture {picture.number} {escape(str(path))}")
        if event.file is not None and event.entry.kind == "compare":
            self._picture(event.file)
            self._say(f"side by side {escape(str(event.file))}")

    def _picture(self, path: Path) -> None:
        if self._way is None:
            return
        with Image.open(path) as picture:
            self._stdout.write(inline(picture, self._way) + "\n")
        self._stdout.flush()

    def _question(self, question: Clarify) -> None:
        self._say(f"[bold]{escape(question.question)}[/]")
        for number, choice in enumerate(question.choices, start=1):
            self._say(f"  {number} {escape(choice)}")

    def _greet(self, view: ConversationStatus) -> None:
        profile = escape(self._profile.name)
        self._pictures = max((picture.number for picture in view.pictures), default=0)
        if view.turn == 0:
            about = escape(self._profile.description)
            what = "draw" if "draw" in self._profile.abilities() else "put into a prompt"
            self._say(
                f"conversation [bold]{escape(view.name)}[/] with {profile}: {about}\nSay what to {what}, or /help."
            )
        else:
            self._say(f"conversation [bold]{escape(view.name)}[/] with {profile}, {view.turn} turns so far")
            if view.damaged:
                self._say(
                    f"[red]{view.damaged} records of it are damaged on the disk: what they held is lost, the rest is here[/]"
                )
            for now in (picture for picture in view.pictures if picture.number == view.current):
                path = self._home / "images" / now.image[:2] / f"{now.image}.png"
                self._picture(path)
                self._say(f"you are looking at picture {now.number} {escape(str(path))}")

    def _say(self, markup: str) -> None:
        self._console.print(markup, soft_wrap=True, emoji=False)
        self._stdout.flush()


class PlainLines:
    """Lines of stdin as they are."""

    def __init__(self, *, shows_prompt: bool) -> None:
        self._shows_prompt = shows_prompt

    async def read(self, prompt: str) -> str | None:
        if self._shows_prompt:
            sys.stderr.write(prompt)
            sys.stderr.flush()
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None


class EditedLines:
    """Lines that a person edits, with those of before and with Tab.

    history:  the file of the lines of before.
    screen:   the terminal.
    pictures: how many pictures the conversation has now.
    """

    def __init__(self, history: Path, screen: TextIO, pictures: Callable[[], int]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.completion import Completer
        from prompt_toolkit.history import FileHistory
        from prompt_toolkit.output import create_output

        class Commands(Completer):
            def get_completions(self, document: Any, complete_event: Any) -> Iterable[Completion]:
                del complete_event
                return complete(document.text_before_cursor, pictures())

        self._session: Any = PromptSession(
            history=FileHistory(str(history)),
            output=create_output(screen),
            completer=Commands(),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            interrupt_exception=Dropped,
        )

    async def read(self, prompt: str) -> str | None:
        try:
            line: str = await self._session.prompt_async(prompt)
        except EOFError:
            return None
        return line


def complete(text: str, pictures: int) -> Iterable[Completion]:
    """What a line that begins with `text` may go on with: commands, their words, numbers of pictures, file names."""
    from prompt_toolkit.completion import CompleteEvent, Completion, PathCompleter
    from prompt_toolkit.document import Document

    if not text.startswith("/"):
        return
    name, space, rest = text[1:].partition(" ")
    if not space:
        for command, (_, what) in HELP.items():
            if command.startswith(name.lower()):
                yield Completion(f"/{command}", -len(text), display=usage(command), display_meta=what)
        return
    last = rest.rpartition(" ")[2]
    words = _WORDS.get(name, ())
    if name in ("back", "compare"):
        words = tuple(str(number) for number in range(1, pictures + 1))
    for word in words:
        if word.startswith(last):
            yield Completion(word, -len(last))
    if name in _FILES:
        yield from PathCompleter(expanduser=True).get_completions(Document(rest), CompleteEvent())


def _print_list(home: Path) -> None:
    console = open_console(sys.stdout)

    def complain(sentence: str) -> None:
        sys.stderr.write(f"warning: {printable(sentence)}\n")

    summaries = list_conversations(home, complain) if home.is_dir() else []
    for summary in summaries:
        of = f", a branch of {summary.parent}" if summary.parent else ""
        line = f"{summary.name}  {summary.created}, {summary.profile or 'models of its own'}{of}"
        console.print(escape(line), soft_wrap=True)
    if not summaries:
        console.print(escape(f"no conversations under {home} yet"), soft_wrap=True)
