"""Conversations about pictures: begin one, say what you want, follow what happens, open it again after a kill.

home/
  images/                     pictures of all conversations, by hash
  <name>/
    conversation.jsonl        the log: everything that was said, and what came of it (`agent.chat.journal`); no keys
    turn-0001/ ...            the run of a turn, as `redraft draw` leaves it
"""

from __future__ import annotations

import re
import secrets
import shutil
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from agent.chat.journal import (
    Changes,
    ConversationLog,
    ConversationState,
    FileLog,
    Record,
    begun_record,
    end_record,
    fold_records,
    opening_record,
)
from agent.chat.turn import TurnWork, clarify_of, reply_of
from agent.chat.values import Clarify, Enclosed, Picture, Replied, Tell, TurnEntry, TurnEvent
from agent.models import ConversationModels
from agent.trace import data_uri
from redraft.errors import InputError
from redraft.files import write_atomically
from redraft.images import ImageStore
from redraft.journal import Occupied
from redraft.limits import Limits
from redraft.profiles import Profile, read_stored_profile
from redraft.templates import load_page
from redraft.trust import grant_own

LOG = "conversation.jsonl"
_DIGEST = re.compile(r'"([0-9a-f]{64})"')
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")


@dataclass(frozen=True)
class ConversationSummary:
    """A conversation in a list."""

    name: str
    created: str
    parent: str | None
    profile: str | None


@dataclass(frozen=True)
class ConversationStatus:
    """How a conversation stands. `turn`: number of the latest turn. `waiting`: the question it waits with. `pending`:
    the request of a turn that was cut off, which `Conversation.turn(None)` continues. `replied`: the latest reply.
    `damaged`: how many of its records are damaged on the disk; what they held is lost."""

    name: str
    turn: int
    entries: tuple[TurnEntry, ...]
    pictures: tuple[Picture, ...]
    current: int
    accept_at: float
    seed: int | None
    may_ask: bool
    waiting: Clarify | None
    pending: str | None
    replied: Replied | None
    damaged: int = 0


@dataclass(frozen=True)
class Storage:
    """Where conversations are kept, if it is not as usual: in files below `home`, for a user of this machine.

    open_log:    the log of the conversation of that name.
    store:       their pictures.
    own_files:   whether the user may name files of this machine, to be read or written.
    name_branch: gives a branch its name, from that of its parent and the one that the user wished for. Raises UsageError
                 if there may be no more.
    """

    open_log: Callable[[str], ConversationLog]
    store: ImageStore
    own_files: bool
    name_branch: Callable[[str, str | None], Awaitable[str]]

    @classmethod
    def in_files(cls, home: Path) -> Storage:
        async def name_branch(name: str, wish: str | None) -> str:
            taken = {summary.name for summary in list_conversations(home)}
            return check_name(wish or next(f"{name}-{n}" for n in range(2, 10_000) if f"{name}-{n}" not in taken))

        return cls(
            open_log=lambda name: FileLog(home / name / LOG),
            store=ImageStore(home / "images"),
            own_files=True,
            name_branch=name_branch,
        )


async def _tell_nobody(event: TurnEvent) -> None:
    del event


class Conversation:
    """One conversation. It belongs to one event loop at a time; `cancel` alone may be called from any thread.

    Each turn holds the conversation's log, so that several processes may have it open and work on it one at a time.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        models: ConversationModels,
        *,
        limits: Limits,
        profile: Profile | None,
        storage: Storage | None = None,
    ) -> None:
        self.home = home
        self.name = name
        self.models = models
        self.limits = limits
        self.profile = profile
        self.storage = storage or Storage.in_files(home)
        self.store = self.storage.store
        self.path = home / name
        self._log = self.storage.open_log(name)
        self._stop = threading.Event()

    @classmethod
    async def create(
        cls,
        home: Path,
        name: str,
        models: ConversationModels,
        *,
        limits: Limits,
        profile: Profile | None = None,
        may_ask: bool = True,
        storage: Storage | None = None,
    ) -> Conversation:
        """A new conversation. Raises InputError for a name that cannot be used or is taken."""
        made = cls(home, check_name(name), models, limits=limits, profile=profile, storage=storage)
        await made._begin(None, ConversationState(may_ask=may_ask))
        return made

    @classmethod
    def open(
        cls, home: Path, name: str, models: ConversationModels, *, limits: Limits, profile: Profile | None
    ) -> Conversation:
        """A conversation in files. Raises InputError if there is none of that name."""
        read_conversation(home, name)
        return cls(home, name, models, limits=limits, profile=profile)

    def cancel(self) -> None:
        """Ends the turn under way after the current piece of work; the best picture so far is kept."""
        self._stop.set()

    async def view(self) -> ConversationStatus:
        """How it stands, also while a turn is worked on."""
        return self.view_of(await self.read())

    def view_of(self, state: ConversationState) -> ConversationStatus:
        """How it stands after the records of `state`."""
        turn = state.open
        return ConversationStatus(
            name=self.name,
            turn=state.turn,
            entries=state.entries,
            pictures=state.pictures,
            current=state.current,
            accept_at=self.limits.accept_at if state.accept_at is None else state.accept_at,
            seed=state.seed,
            may_ask=state.may_ask,
            waiting=clarify_of(turn) if turn is not None and turn.asks else None,
            pending=None if turn is None or turn.asks else turn.request,
            replied=reply_of(state, self.store) if state.entries else None,
            damaged=state.damaged,
        )

    async def turn(
        self, request: str | None, enclosed: Enclosed | None = None, *, tell: Tell = _tell_nobody
    ) -> Replied | Clarify | None:
        """Works on a request until it is done, or until a question is to be answered. `tell` gets the events on
        the way.

        If a question waits, `request` is the answer, unless it is a command, which begins a turn in its place. None
        continues a turn that was cut off, and gives None if there is none. What goes wrong in a turn is said in its
        reply. Raises UsageError if the conversation cannot be used, for example because another process works on it.
        """
        self._stop.clear()
        self.path.mkdir(parents=True, exist_ok=True)
        with self._log.hold():
            work = self._work(await self.read(), tell)
            turn = work.state.open
            if request is not None:
                if turn is not None and not turn.asks:
                    raise InputError(f"the turn {turn.request!r} is not finished; continue it first")
                await work.record(opening_record(work.state, request, enclosed))
            elif turn is None:
                return None
            return await work.finish()

    async def give_up(self, why: str) -> None:
        """Ends a turn that was cut off, with `why` as its reply. Does nothing if there is none."""
        with self._log.hold():
            state = await self.read()
            if state.open is not None:
                entry = TurnEntry(
                    turn=state.open.number, request=state.open.request, kind="mistake", reply=why,
                    current=state.current, error=True,
                )  # fmt: skip
                await self._log.append(state.records, end_record(entry, Changes()))

    async def set_may_ask(self, may_ask: bool) -> None:
        """Whether the user may be asked if something is unclear. A turn may be under way."""
        record = {"is": "settings", "settings": {"may_ask": may_ask}}
        with self._log.hold():
            while True:
                state = await self.read()
                try:
                    return await self._log.append(state.records, record)
                except Occupied:
                    if (await self.read()).records == state.records:
                        raise

    async def branch(self, name: str | None = None) -> Conversation:
        """A branch: a copy of this conversation under another name, as it stands now."""
        with self._log.hold():
            state = await self.read()
        return await self._branch(await self.storage.name_branch(self.name, name), state)

    async def export(self, target: Path | None = None) -> Path:
        """Writes the conversation as one HTML page that needs nothing but itself."""
        return self._export(await self.read(), target)

    async def read(self) -> ConversationState:
        """What its records say."""
        return fold_records(await self._log.read())

    def _work(self, state: ConversationState, tell: Tell) -> TurnWork:
        async def make_branch(name: str, state: ConversationState) -> None:
            assert state.open is not None
            await self._branch(name, state, turn=state.open.number)

        return TurnWork(
            log=self._log,
            state=state,
            name=self.name,
            home=self.home,
            runs=self.path,
            store=self.store,
            models=self.models,
            limits=self.limits,
            profile=self.profile,
            own_files=self.storage.own_files,
            name_branch=lambda wish: self.storage.name_branch(self.name, wish),
            make_branch=make_branch,
            export=self._export,
            list_others=lambda: [summary.name for summary in list_conversations(self.home)],
            tell=tell,
            stop=self._stop,
        )

    async def _begin(self, parent: str | None, state: ConversationState, *, turn: int | None = None) -> None:
        """Writes the first record. A branch that a turn of its parent makes may be there from before a kill."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write to {self.home}: {error.strerror}; choose another folder") from error
        record = begun_record(
            self.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            profile=None if self.profile is None else self.profile.model_dump(mode="json"),
            parent=parent,
            made_in=turn,
            state=state,
        )
        with self._log.hold():
            records = await self._log.read()
            if (
                records
                and turn is not None
                and [records[0].get(key) for key in ("parent", "made_in")] == [parent, turn]
            ):
                return
            if records:
                raise InputError(f"there is a conversation {self.name!r} already; choose another name")
            await self._log.append(0, record)
        if self.profile is not None:
            grant_own(self.profile.demands())

    async def _branch(self, name: str, state: ConversationState, *, turn: int | None = None) -> Conversation:
        other = Conversation(
            self.home, check_name(name), self.models, limits=self.limits, profile=self.profile, storage=self.storage
        )
        # A branch that is made in a turn does not know that turn.
        await other._begin(self.name, replace(state, turn=state.entries[-1].turn if state.entries else 0), turn=turn)
        return other

    def _export(self, state: ConversationState, target: Path | None) -> Path:
        path = (target or self.path / f"{self.name}.html").expanduser()
        page = render_page(self.name, self.home, self.store, state.entries, state.pictures)
        try:
            if target is None:
                path.parent.mkdir(parents=True, exist_ok=True)  # another server may have begun it elsewhere
            write_atomically(path, page.encode())
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        return path


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
    return f"chat-{secrets.token_hex(3)}"


def list_conversations(
    home: Path, complain: Callable[[str], None] = lambda sentence: None
) -> list[ConversationSummary]:
    """The conversations under `home`, the latest first. Those that cannot be read are left out; `complain` is called with a
    sentence about each."""
    summaries = []
    for path in home.glob(f"*/{LOG}"):
        try:
            begun = FileLog(path).read_begun()
        except InputError as error:
            complain(str(error))
            continue
        if begun is not None:
            summaries.append(_summary(path.parent.name, begun))
    return sorted(summaries, key=lambda summary: (summary.created, summary.name), reverse=True)


def conversation_exists(home: Path, name: str) -> bool:
    """Whether a conversation of that name was begun. Raises InputError for a name that cannot be one."""
    folder = home / check_name(name)
    return (folder / "conversation.json").is_file() or FileLog(folder / LOG).read_begun() is not None


def read_conversation(home: Path, name: str) -> ConversationSummary:
    """Raises InputError if there is no conversation of that name, or it cannot be read."""
    return _summary(name, _read_begun(home, name))


def read_profile(home: Path, name: str) -> Profile | None:
    """The profile that a conversation was begun with. Raises InputError, and Untrusted as `read_stored_profile` does."""
    profile = _read_begun(home, name).get("profile")  # a damaged record has none
    return None if profile is None else read_stored_profile(profile, home / name)


def _read_begun(home: Path, name: str) -> Record:
    path = home / check_name(name) / LOG
    begun = FileLog(path).read_begun()
    if begun is not None:
        return begun
    if (path.parent / "conversation.json").is_file():
        raise InputError(f"the conversation {name!r} is of an earlier version of redraft, which this one cannot read")
    known = ", ".join(summary.name for summary in list_conversations(home)[:10]) if home.is_dir() else ""
    raise InputError(f"there is no conversation {name!r}; there are: {known or 'none yet'}")


def _summary(name: str, begun: Record) -> ConversationSummary:
    profile = begun.get("profile")  # a damaged record has nothing of this
    return ConversationSummary(
        name=name, created=begun.get("created", ""), parent=begun.get("parent"),
        profile=profile["name"] if profile else None,
    )  # fmt: skip


def delete_conversation(home: Path, name: str) -> None:
    """Removes a conversation, its runs, and the pictures that no other conversation under `home` mentions. Raises
    InputError if there is none, or another process works on it."""
    _read_begun(home, name)
    with FileLog(home / name / LOG).hold():
        pictures = _pictures_of(home / name / LOG)
        shutil.rmtree(home / name)
    for other in home.glob(f"*/{LOG}"):
        pictures -= _pictures_of(other)
    store = ImageStore(home / "images")
    for digest in pictures:
        store.remove(digest)


def _pictures_of(log: Path) -> set[str]:
    """The hashes that a log mentions; it need not be readable otherwise."""
    try:
        return set(_DIGEST.findall(log.read_text(encoding="utf-8", errors="replace")))
    except OSError as error:
        raise InputError(f"cannot read {log}: {error.strerror}") from error


def render_page(
    name: str, home: Path, store: ImageStore, entries: Sequence[TurnEntry], pictures: Sequence[Picture]
) -> str:
    """A conversation as one HTML page that needs nothing but itself and runs no script. Everything that users and
    models wrote is escaped."""
    cards = {picture.number: {"picture": picture, "src": data_uri(store.path(picture.image))} for picture in pictures}
    turns = [{"entry": entry, "cards": [cards[n] for n in entry.pictures]} for entry in entries]
    return load_page("agent", "chat.html.j2").render(name=name, turns=turns, home=home)
