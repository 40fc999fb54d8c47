"""`redraft chat`: a conversation in the terminal. Replies go to stdout, all that is told on the way to stderr."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TextIO

import typer
from PIL import Image
from pydantic import ValidationError

from agent.chat.conversation import Conversation, View, list_conversations, random_name, read_record
from agent.chat.values import Clarify, Replied, TalkEvent, TurnBegan
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
from redraft.errors import InputError, RedraftError, printable
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
    """Talks until the input ends or the user quits. Raises RedraftError where the conversation cannot be used."""
    profile = load_profile(profile_name or "mini")
    home = (Path(profile.runs) if out is None else out) / HOME
    if listed:
        _list(home)
        return
    known = conversation is not None and (home / conversation / "conversation.json").is_file()
    if conversation is not None and known:
        record = read_record(home, conversation)
        if profile_name is None and record.get("profile") is not None:
            profile = _profile_of(record["profile"], conversation)
    elif export is not None:
        raise InputError("name the conversation that is to be exported: redraft chat --conversation NAME --export FILE")
    require_writable(home)
    with stdout_for_results() as stdout:
        talk = _Talk(profile, home, conversation or random_name(), known, ask, stdout)
        if export is not None:
            stdout.write(f"{asyncio.run(talk.export(export))}\n")
            return
        talk.run()


class _Talk:
    """The terminal's side of a conversation."""

    def __init__(self, profile: Profile, home: Path, name: str, known: bool, ask: bool, stdout: TextIO) -> None:
        self._profile = profile
        self._home = home
        self._name = name
        self._known = known
        self._ask = ask
        self._stdout = stdout
        self._console = open_console(stdout)
        self._way = way_of(os.environ, stdout.isatty())
        self._limits = profile.limits
        with open_console(sys.stderr).status("opening the models"):
            self._models = open_models(profile)

    async def export(self, target: Path) -> Path:
        return await (await self._open(self._name, known=True)).export(target)

    def run(self) -> None:
        person = stdin_is_a_person()
        with asyncio.Runner() as runner:
            try:
                talk = runner.run(self._open(self._name, self._known))
                view = runner.run(talk.view())
                self._greet(view)
                waiting = view.waiting
                if view.pending is not None:
                    self._say(f"[dim]going on with:[/] {escape(view.pending)}")
                    talk, waiting, _ = self._turn(runner, talk, None)
                elif waiting is not None:
                    self._question(waiting)
                while (line := self._read(person, waiting)) is not None:
                    if not line.strip() and waiting is None:
                        continue
                    talk, waiting, quits = self._turn(runner, talk, line)
                    if quits:
                        break
            except KeyboardInterrupt:
                sys.stderr.write(f"\ninterrupted; go on with: redraft chat --conversation {self._name}\n")
                sys.stderr.flush()
                leave_soon()
                self._models.close()
                raise typer.Exit(130) from None
        self._models.close()

    async def _open(self, name: str, known: bool) -> Conversation:
        if known:
            return Conversation.open(self._home, name, self._models, limits=self._limits, profile=self._profile)
        return await Conversation.create(
            self._home, name, self._models, limits=self._limits, profile=self._profile, may_ask=self._ask
        )

    def _turn(
        self, runner: asyncio.Runner, talk: Conversation, said: str | None
    ) -> tuple[Conversation, Clarify | None, bool]:
        """Works on a turn. Ctrl-C ends its drawing with the best picture so far; a second one leaves."""
        last: TalkEvent | None = None

        async def work() -> None:
            nonlocal last
            asked = False
            main = asyncio.current_task()
            assert main is not None

            def interrupt() -> None:
                nonlocal asked
                if asked:
                    main.cancel()
                asked = True
                talk.cancel()

            with handle_signals(signal.SIGINT, call=interrupt):
                async with aclosing(talk.turn(said)) as events:
                    async for event in events:
                        last = event
                        self._show(event, live)

        with LiveView(self._limits) as live:
            try:
                runner.run(work())
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
            except RedraftError as error:
                self._say(f"[red]{escape(str(error))}[/]")
        if isinstance(last, Clarify):
            self._question(last)
            return talk, last, False
        if isinstance(last, Replied):
            if last.fork is not None:
                self._name = last.fork
                talk = runner.run(self._open(last.fork, known=True))
            return talk, None, last.entry.said.strip().lower() == "/quit"
        return talk, None, False

    def _show(self, event: TalkEvent, live: LiveView) -> None:
        match event:
            case TurnBegan():
                if event.by not in ("", "command"):
                    why = f": {event.reason}" if event.reason else ""
                    sys.stderr.write(printable(f"{event.kind}{why} ({event.by})\n"))
            case Replied():
                live.__exit__()
                self._reply(event)
            case Clarify():
                live.__exit__()
            case _:
                live.show(event)

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

    def _question(self, asked: Clarify) -> None:
        self._say(f"[bold]{escape(asked.question)}[/]")
        for number, choice in enumerate(asked.choices, start=1):
            self._say(f"  {number} {escape(choice)}")

    def _greet(self, view: View) -> None:
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
                self._say(f"you look at picture {now.number} {escape(str(path))}")

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


def _list(home: Path) -> None:
    console = open_console(sys.stdout)
    known = list_conversations(home) if home.is_dir() else []
    for one in known:
        of = f", a copy of {one.parent}" if one.parent else ""
        console.print(escape(f"{one.name}  {one.created}, {one.profile or 'own models'}{of}"), soft_wrap=True)
    if not known:
        console.print(escape(f"no conversations under {home} yet"), soft_wrap=True)


def _profile_of(record: object, name: str) -> Profile:
    try:
        return Profile.model_validate_json(json.dumps(record))
    except ValidationError as error:
        raise InputError(f"the profile of the conversation {name!r} cannot be read: {error}") from None
