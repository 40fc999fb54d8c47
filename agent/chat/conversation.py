"""Conversations about pictures: begin one, say something, follow what happens, open it again after a kill.

A conversation is a thread of the graph in `agent.chat.turn`, with a name, on a SQLite checkpointer:

home/
  images/                     pictures of all conversations, by hash
  <name>/
    conversation.json         name, when it began, its profile; no keys
    state/                    checkpoints, lock
    turn-0001/ ...            the run that a turn was, as `redraft draw` leaves it
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import re
import secrets
import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command as GraphCommand
from langgraph.types import StateSnapshot

from agent.chat.turn import build_talk_graph
from agent.chat.values import (
    TALK_TYPES,
    Brought,
    Clarify,
    Entry,
    Picture,
    TalkContext,
    TalkEvent,
    TalkState,
    begin,
    new_state,
)
from agent.checkpoints import Checkpoints, SqliteFiles, settled
from agent.models import Models
from agent.runfolder import RunFolder
from agent.trace import data_uri
from redraft.errors import InputError
from redraft.files import write_atomically
from redraft.limits import Limits
from redraft.profiles import Profile
from redraft.store import ImageStore

FORMAT = 1
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
_Graph = CompiledStateGraph[TalkState, TalkContext, TalkState, TalkState]


@functools.cache
def _compiled() -> _Graph:
    return build_talk_graph().compile()


@dataclass(frozen=True)
class Known:
    """A conversation that is there. `turns` None where its state cannot be read."""

    name: str
    created: str
    parent: str | None
    profile: str | None


@dataclass(frozen=True)
class View:
    """How a conversation stands. `waiting`: the question it waits with; `pending`: what was said in a turn that was cut
    off by a kill, which `Conversation.turn(None)` goes on with."""

    name: str
    turn: int
    entries: tuple[Entry, ...]
    pictures: tuple[Picture, ...]
    current: int
    accept_at: float
    seed: int | None
    may_ask: bool
    waiting: Clarify | None
    pending: str | None


@dataclass(frozen=True)
class Housing:
    """How conversations are kept, where it is not as usual: in files below `home`, for a user of this machine.

    store:       their pictures; None for `home`/images.
    threads:     put before a conversation's name where checkpoints of several homes lie together.
    own_files:   whether the user may name files of this machine, to be read or written.
    name_branch: gives a copy its name, from the one that was asked for.
    """

    checkpoints: Checkpoints = field(default_factory=SqliteFiles)
    store: ImageStore | None = None
    threads: str = ""
    own_files: bool = True
    name_branch: Callable[[str | None], str] | None = None


class Conversation:
    """One conversation. It belongs to one event loop at a time; `cancel` alone may be called from any thread.

    Each call works under a lock on the conversation's folder, so that several processes may have it open by turns.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        models: Models,
        limits: Limits,
        profile: Profile | None,
        housing: Housing | None = None,
    ) -> None:
        self.home = home
        self.name = name
        self.models = models
        self.limits = limits
        self.profile = profile
        self.housing = housing or Housing()
        self.store = self.housing.store or ImageStore(home / "images")
        self._folder = RunFolder(home / name)
        self._stop = threading.Event()

    @classmethod
    async def create(
        cls,
        home: Path,
        name: str,
        models: Models,
        *,
        limits: Limits,
        profile: Profile | None = None,
        may_ask: bool = True,
        housing: Housing | None = None,
    ) -> Conversation:
        """A new conversation. Raises InputError for a name that cannot be used or is taken."""
        made = cls(home, check_name(name), models, limits, profile, housing)
        await made._begin(None, new_state(may_ask))
        return made

    @classmethod
    def open(cls, home: Path, name: str, models: Models, *, limits: Limits, profile: Profile | None) -> Conversation:
        """A conversation that is there. Raises InputError where there is none of that name."""
        read_conversation(home, name)
        return cls(home, name, models, limits, profile)

    @property
    def path(self) -> Path:
        return self._folder.path

    def cancel(self) -> None:
        """Ends the turn under way after the current piece of work; the best picture so far is kept."""
        self._stop.set()

    async def view(self) -> View:
        """How it stands, also while a turn is worked on."""
        async with self._opened(locked=False) as graph:
            return self._view(await graph.aget_state(self._thread))

    async def turn(self, said: str | None, brought: Brought | None = None) -> AsyncGenerator[TalkEvent]:
        """Works on what the user says until it is done (last event Replied) or a question is to be answered (last event
        Clarify); where one is, `said` is taken for its answer, unless it is a command. None goes on with a turn that
        was cut off. What is `brought` holds for this turn; it has to be given again where the turn is gone on with.

        What goes wrong in a turn is told in its reply. Raises UsageError where the conversation itself cannot be used,
        by a second process for instance.
        """
        self._stop.clear()
        async with self._opened() as graph:
            snapshot = await settled(graph, self._thread)
            view = self._view(snapshot)
            entry: Any = None
            if view.waiting is not None:
                if said is None:
                    yield view.waiting
                    return
                if said.lstrip().startswith("/"):  # a command is no answer: the turn that asked is dropped
                    entry = begin(said, cast(TalkState, snapshot.values), brought)
                else:
                    entry = GraphCommand(resume=said)
            elif view.pending is not None:
                if said is not None:
                    raise InputError(f"the turn {view.pending!r} is not finished; go on with it first")
            elif said is None:
                return
            else:
                entry = begin(said, cast(TalkState, snapshot.values), brought)
            context = self._context(brought or Brought())
            steps = graph.astream(entry, self._thread, context=context, stream_mode="custom", durability="sync")
            async with aclosing(cast("AsyncGenerator[TalkEvent]", steps)) as events:
                async for event in events:
                    yield event
            view = self._view(await graph.aget_state(self._thread))
            if view.waiting is not None:
                yield view.waiting

    async def fork(self, name: str | None = None) -> Conversation:
        """A copy of this conversation under another name, as it stands now."""
        async with self._opened() as graph:
            snapshot = await graph.aget_state(self._thread)
        return await self._forked(cast(TalkState, snapshot.values), name)

    async def export(self, target: Path | None = None) -> Path:
        """Writes the conversation as one HTML page that needs nothing but itself."""
        async with self._opened() as graph:
            snapshot = await graph.aget_state(self._thread)
        return self._export(cast(TalkState, snapshot.values), target)

    @property
    def _thread(self) -> RunnableConfig:
        return {"configurable": {"thread_id": f"{self.housing.threads}{self.name}"}}

    def _context(self, brought: Brought) -> TalkContext:
        async def fork(state: TalkState, name: str | None) -> str:
            # In a context of its own: this is asked for inside of a node, and the copy is another thread.
            task = asyncio.get_running_loop().create_task(self._forked(state, name), context=contextvars.Context())
            return (await task).name

        return TalkContext(
            name=self.name,
            home=self.home,
            runs=self.path,
            store=self.store,
            models=self.models,
            limits=brought.limits or self.limits,
            profile=self.profile,
            fork=fork,
            export=self._export,
            others=lambda: [known.name for known in list_conversations(self.home)],
            seed=brought.seed,
            own_files=self.housing.own_files,
            stop=self._stop,
        )

    async def _begin(self, parent: str | None, state: TalkState) -> None:
        try:
            self.path.mkdir(parents=True)
            (self.path / "state").mkdir()
        except FileExistsError:
            raise InputError(f"there is a conversation {self.name!r} already; choose another name") from None
        except OSError as error:
            raise InputError(f"cannot write to {self.home}: {error.strerror}; choose another folder") from error
        async with self._opened() as graph:
            await graph.aupdate_state(self._thread, state, as_node="act")
        record = {
            "format": FORMAT,
            "name": self.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "parent": parent,
            "profile": None if self.profile is None else self.profile.model_dump(mode="json"),
        }
        # Last: a conversation without this file was never begun.
        self._folder.write(self.path / "conversation.json", json.dumps(record, ensure_ascii=False, indent=2) + "\n")

    async def _forked(self, state: TalkState, name: str | None) -> Conversation:
        if self.housing.name_branch is not None:
            name = self.housing.name_branch(name)
        else:
            taken = {known.name for known in list_conversations(self.home)}
            name = name or next(f"{self.name}-{n}" for n in range(2, 10_000) if f"{self.name}-{n}" not in taken)
        other = Conversation(self.home, check_name(name), self.models, self.limits, self.profile, self.housing)
        kept = {key: value for key, value in state.items() if key in new_state(True)}
        # A copy that is made in a turn does not know that turn.
        kept["turn"] = state["entries"][-1].turn if state["entries"] else 0
        await other._begin(self.name, cast(TalkState, kept))
        return other

    def _export(self, state: TalkState, target: Path | None) -> Path:
        path = (target or self.path / f"{self.name}.html").expanduser()
        page = render_page(self.name, self.home, self.store, state["entries"], state["pictures"])
        try:
            write_atomically(path, page.encode())
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        return path

    def _view(self, snapshot: StateSnapshot) -> View:
        state = cast(TalkState, snapshot.values)
        waiting = None
        if snapshot.interrupts:
            asked = snapshot.interrupts[0].value
            waiting = Clarify(state["turn"], asked["question"], tuple(asked["choices"]))
        accept = state["accept_at"]
        # A turn of which a kill has left the input alone has not begun: saying it again takes its place.
        begun = any(task.name != "__start__" for task in snapshot.tasks)
        return View(
            name=self.name,
            turn=state["turn"],
            entries=tuple(state["entries"]),
            pictures=tuple(state["pictures"]),
            current=state["current"],
            accept_at=self.limits.accept_at if accept is None else accept,
            seed=state["seed"],
            may_ask=state["may_ask"],
            waiting=waiting,
            pending=state["said"] if begun and not snapshot.interrupts else None,
        )

    @asynccontextmanager
    async def _opened(self, locked: bool = True) -> AsyncIterator[_Graph]:
        checkpoints = self.path / "state" / "checkpoints.sqlite"
        with self._folder.lock() if locked else nullcontext():
            async with self.housing.checkpoints.open(checkpoints, TALK_TYPES) as saver:
                yield _compiled().copy({"checkpointer": saver})


def check_name(name: str) -> str:
    """A name that can be a folder's. Raises InputError for another."""
    if not _NAME.fullmatch(name) or name == "images":
        raise InputError(
            f"{name!r} cannot name a conversation: take letters, digits, dots, dashes and underscores, at most 64, "
            "beginning with a letter or digit"
        )
    return name


def random_name() -> str:
    """A name for a conversation that was given none."""
    return f"talk-{secrets.token_hex(3)}"


def list_conversations(home: Path) -> list[Known]:
    """The conversations under `home`, the latest first; folders that are none are passed over."""
    found = []
    for path in home.glob("*/conversation.json"):
        try:
            found.append(read_conversation(home, path.parent.name))
        except InputError:
            continue
    return sorted(found, key=lambda known: (known.created, known.name), reverse=True)


def read_conversation(home: Path, name: str) -> Known:
    """Raises InputError where there is no conversation of that name, or its record cannot be read."""
    record = read_record(home, name)
    profile = record.get("profile")
    return Known(name, str(record.get("created", "")), record.get("parent"), profile["name"] if profile else None)


def read_record(home: Path, name: str) -> dict[str, Any]:
    """conversation.json. Raises InputError as `read_conversation` does."""
    path = home / check_name(name) / "conversation.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(k.name for k in list_conversations(home)[:10]) if home.is_dir() else ""
        raise InputError(f"there is no conversation {name!r}; there are: {known or 'none yet'}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path} is of another version of redraft, or damaged")
    return record


def delete_conversation(home: Path, name: str) -> None:
    """Removes a conversation and its runs; pictures stay in the store, which others may share. Raises InputError where
    there is none, or another process works on it."""
    read_record(home, name)
    folder = RunFolder(home / name)
    with folder.lock():
        shutil.rmtree(folder.path)


def render_page(name: str, home: Path, store: ImageStore, entries: Sequence[Entry], pictures: Sequence[Picture]) -> str:
    """The page as text. What users and models said is escaped."""
    environment = Environment(
        loader=PackageLoader("agent", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = {picture.number: {"picture": picture, "src": data_uri(store.path(picture.image))} for picture in pictures}
    turns = [{"entry": entry, "cards": [cards[n] for n in entry.pictures]} for entry in entries]
    return environment.get_template("chat.html.j2").render(name=name, turns=turns, home=home)
