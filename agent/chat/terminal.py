"""`redraft chat`: a conversation in the terminal. Replies go to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TextIO

import typer
from PIL import Image

from agent.chat.conversation import (
    Conversation,
    ConversationStatus,
    conversation_exists,
    list_conversations,
    random_name,
    read_profile,
)
from agent.chat.values import Clarify, Replied, TurnBegan, TurnEvent
from agent.models import open_models
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

HOME = "conversations"
"""Folder of conversations, inside of the folder for runs."""


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
        with open_console(sys.stderr).status("opening the models"):
            self._models = open_models(profile)

    async def export(self, target: Path) -> Path:
        return await (await self._open(self._name, known=True)).export(target)

    def run(self) -> None:
        person = stdin_is_a_person()
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
                while (line := self._read(person, waiting)) is not None:
                    if not line.strip() and waiting is None:
                        continue
                    if not self._finish_pending(runner, conversation):
                        self._say(f"[red]not taken: {escape(line)}[/]")
                        continue
                    conversation, waiting, quits = self._turn(runner, conversation, line)
                    if quits:
                        break
            except KeyboardInterrupt:
                sys.stderr.write(f"\ninterrupted; continue with: redraft chat --conversation {self._name}\n")
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
            self._picture(path)
            if self._way is None:
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
        if view.turn == 0:
            about = escape(self._profile.description)
            self._say(f"conversation [bold]{escape(view.name)}[/] with {profile}: {about}\nSay what to draw, or /help.")
        else:
            self._say(f"conversation [bold]{escape(view.name)}[/] with {profile}, {view.turn} turns so far")
            if view.current:
                now = view.pictures[view.current - 1]
                path = self._home / "images" / now.image[:2] / f"{now.image}.png"
                self._picture(path)
                self._say(f"you are looking at picture {now.number} {escape(str(path))}")

    def _read(self, person: bool, waiting: Clarify | None) -> str | None:
        """The next line, None at the end of the input."""
        if person:
            sys.stderr.write("? " if waiting is not None else "> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None

    def _say(self, markup: str) -> None:
        self._console.print(markup, soft_wrap=True, emoji=False)
        self._stdout.flush()


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
