"""What is kept of a conversation: its records, in the order in which they were written, and how it stands after them.

Nothing else says how a conversation stands. Each record is on the disk before the work behind it begins:

    begun      the conversation: its name, profile and parent; of a branch also how its parent stood
    turn       a request, with what came with it, before anything is done for it
    reading    how the request was understood, or why it cannot be; with `asks`, the turn now waits for an answer
    answer     the user's answer; the request is then read again
    branch     the name of the branch that the turn makes, before it is made
    end        the entry of the finished turn, and what it changed
    settings   a change that is no turn; it may stand between the records of a turn

A turn that is open when the next one begins was a question that nobody answered, or was given up: it gets an entry that
says so. The run of a turn is in the folder `turn-0007`, which follows from the turn's number. A conversation that was killed goes
on behind its last record. Clocks play no part in any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from agent.chat.values import Enclosed, Picture, TurnEntry
from redraft.errors import BackendError, InputError
from redraft.files import refuse_links
from redraft.journal import Entry as JournalEntry
from redraft.journal import JournalFile, read_journal
from redraft.limits import Limits
from redraft.options import DrawOptions
from rewriter.turns import Turn

Record = Mapping[str, Any]
_ENTRY = TypeAdapter(TurnEntry)
_ENTRIES = TypeAdapter(list[TurnEntry])
_PICTURE = TypeAdapter(Picture)
_PICTURES = TypeAdapter(list[Picture])
_READING = TypeAdapter(Turn)
_ADVICE = "delete its folder to begin anew"


class LogUnavailable(BackendError):  # noqa: N818
    """The place where conversations are kept cannot be used at the moment (a full disk, a database that is down). The
    turn under way can be continued behind its last record."""


class ConversationLog(Protocol):
    """Where the records of one conversation are kept."""

    def hold(self) -> AbstractContextManager[None]:
        """Keeps other processes from working on the conversation. Raises Occupied if one of them does."""
        ...

    async def read(self) -> list[Record]:
        """All records, in the order of writing; none if the conversation was never begun. Needs no hold."""
        ...

    async def append(self, number: int, record: Record) -> None:
        """Writes the record `number`, counted from 0; it is on the disk when this returns. Raises Occupied if another
        process has written a record of that number, LogUnavailable. Only inside `hold`."""
        ...


class FileLog:
    """The records in a journal file (`redraft.journal`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: JournalFile | None = None

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        refuse_links(self.path.parent)
        with JournalFile(self.path, "conversation", advice=_ADVICE) as self._file:
            for _ in self._file.load():
                pass
            yield

    async def read(self) -> list[Record]:
        return await asyncio.to_thread(lambda: list(self._records()))

    def read_begun(self) -> Record | None:
        """The first record, None if there is none. Raises InputError if it cannot be read."""
        begun = next(self._records(), None)
        if begun is not None:
            fold_records([begun])
        return begun

    def _records(self) -> Iterator[Record]:
        if self.path.is_file():
            for entry in read_journal(self.path, "conversation", advice=_ADVICE):
                yield entry.value

    async def append(self, number: int, record: Record) -> None:
        assert self._file is not None, "records are written inside `hold`"
        await asyncio.to_thread(self._file.append, [JournalEntry(("record", str(number)), record)])


@dataclass(frozen=True)
class OpenTurn:
    """A turn that is not finished."""

    number: int
    request: str
    enclosed: Enclosed
    reading: Turn | None = None
    problem: str = ""
    """Why the request cannot be followed."""
    asks: bool = False
    question: str = ""
    answer: str = ""
    branch: str | None = None

    @property
    def is_read(self) -> bool:
        return self.reading is not None or bool(self.problem)


@dataclass(frozen=True)
class ConversationState:
    """How a conversation stands after its records."""

    records: int = 0
    """How many there are."""
    turn: int = 0
    """Number of the latest turn."""
    entries: tuple[TurnEntry, ...] = ()
    pictures: tuple[Picture, ...] = ()
    current: int = 0
    """Number of the picture that the user looks at, 0 if none."""
    trail: tuple[int, ...] = ()
    """Numbers of the pictures that were looked at before, for undo."""
    undone: tuple[int, ...] = ()
    """Numbers of the pictures that undo led away from, for redo; none after anything else was looked at."""
    accept_at: float | None = None
    seed: int | None = None
    mask: str | None = None
    may_ask: bool = True
    open: OpenTurn | None = None
    file: str | None = None
    """The file that the latest finished turn wrote."""
    branch: str | None = None
    """The branch that the latest finished turn made."""

    @property
    def current_picture(self) -> Picture | None:
        return self.pictures[self.current - 1] if self.current else None

    @property
    def waits(self) -> bool:
        """Whether a question waits for its answer."""
        return self.open is not None and self.open.asks

    def looking_at(self, number: int) -> ConversationState:
        return replace(self, current=number, trail=(*self.trail, self.current), undone=())

    def with_picture(self, picture: Picture) -> ConversationState:
        return replace(self, pictures=(*self.pictures, picture)).looking_at(picture.number)

    def origin(self, picture: Picture) -> str:
        """What a picture was made from: the request, and the instructions since."""
        chain = [picture]
        while (parent := chain[-1].parent) is not None:
            chain.append(self.pictures[parent - 1])
        return "\n".join(each.made_from for each in reversed(chain))


@dataclass(frozen=True)
class Changes:
    """What a turn changes besides its entry. Settings that are named in `settings` are replaced."""

    picture: Picture | None = None
    """A new picture, which is looked at from now on."""
    accepted: int | None = None
    look_at: int | None = None
    undo: bool = False
    redo: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, state: ConversationState) -> ConversationState:
        state = replace(state, **self.settings)
        if self.picture is not None:
            state = state.with_picture(self.picture)
        if self.accepted is not None:
            pictures = (replace(p, accepted=True) if p.number == self.accepted else p for p in state.pictures)
            state = replace(state, pictures=tuple(pictures))
        if self.look_at is not None:
            state = state.looking_at(self.look_at)
        if self.undo:
            undone = (*state.undone, state.current)
            state = replace(state, current=state.trail[-1], trail=state.trail[:-1], undone=undone)
        if self.redo:
            undone = state.undone[:-1]
            state = replace(state.looking_at(state.undone[-1]), undone=undone)
        return state


# Records


def begun_record(
    name: str,
    *,
    created: str,
    profile: Mapping[str, Any] | None,
    parent: str | None,
    made_in: int | None,
    state: ConversationState,
) -> Record:
    """The first record of a conversation, which begins as `state`. `made_in`: the turn of the parent that made it."""
    kept = ("turn", "entries", "pictures", "current", "trail", "accept_at", "seed", "mask", "may_ask")
    whole = asdict(state)
    return {
        "is": "begun", "name": name, "created": created, "parent": parent, "made_in": made_in, "profile": profile,
        "state": {name: whole[name] for name in kept},
    }  # fmt: skip


def turn_record(number: int, request: str, enclosed: Enclosed | None) -> Record:
    return {"is": "turn", "turn": number, "request": request, "enclosed": _dump_enclosed(enclosed)}


def answer_record(number: int, answer: str, enclosed: Enclosed | None) -> Record:
    """Of what is enclosed in an answer, seed, limits and options count."""
    return {"is": "answer", "turn": number, "answer": answer, "enclosed": _dump_enclosed(enclosed)}


def _dump_enclosed(enclosed: Enclosed | None) -> Record | None:
    if enclosed is None:
        return None
    limits = None if enclosed.limits is None else enclosed.limits.model_dump(mode="json")
    options = None if enclosed.options is None else enclosed.options.set_fields()
    return {**asdict(replace(enclosed, limits=None, options=None)), "limits": limits, "options": options}


def _load_enclosed(record: Record) -> Enclosed | None:
    enclosed = record["enclosed"]
    if enclosed is None:
        return None
    limits = None if enclosed["limits"] is None else Limits.model_validate(enclosed["limits"])
    options = None if enclosed.get("options") is None else DrawOptions(**enclosed["options"])
    references = tuple(enclosed.get("references", ()))
    return Enclosed(**{**enclosed, "limits": limits, "options": options, "references": references})


def reading_record(number: int, reading: Turn | None, *, problem: str = "", asks: bool = False) -> Record:
    value = None if reading is None else asdict(reading)
    return {"is": "reading", "turn": number, "reading": value, "problem": problem, "asks": asks}


def end_record(entry: TurnEntry, changes: Changes, *, file: Path | None = None, branch: str | None = None) -> Record:
    written = None if file is None else str(file)
    return {"is": "end", "entry": asdict(entry), "changes": asdict(changes), "file": written, "branch": branch}


def fold_records(records: Iterable[Record]) -> ConversationState:
    """How a conversation stands after these records. Raises InputError if one of them cannot be read."""
    state = ConversationState()
    for record in records:
        try:
            state = add_record(state, record)
        except (KeyError, TypeError, ValueError, IndexError, ValidationError) as error:
            raise InputError(
                f"record {state.records} of the conversation cannot be read ({type(error).__name__}); {_ADVICE}"
            ) from error
    return state


def add_record(state: ConversationState, record: Record) -> ConversationState:
    """`state` after one more record."""
    state = replace(state, records=state.records + 1)
    turn = state.open
    match record["is"]:
        case "begun":
            kept = dict(record["state"])
            kept["entries"] = tuple(_ENTRIES.validate_python(kept["entries"]))
            kept["pictures"] = tuple(_PICTURES.validate_python(kept["pictures"]))
            return replace(state, **(kept | {"trail": tuple(kept["trail"])}))
        case "turn":
            return _begin_turn(state, record)
        case "settings":
            return Changes(settings=record["settings"]).apply(state)
        case "end":
            return _end_turn(state, record)
    if turn is None:
        raise ValueError("a record of a turn that was not begun")
    match record["is"]:
        case "reading":
            reading = None if record["reading"] is None else _READING.validate_python(record["reading"])
            turn = replace(turn, reading=reading, problem=record["problem"], asks=record["asks"])
        case "answer":
            question = turn.reading.question if turn.reading is not None else ""
            turn = replace(turn, answer=record["answer"], question=question, reading=None, asks=False)
            enclosed = _load_enclosed(record)
            if enclosed is not None:
                changed = replace(turn.enclosed, seed=enclosed.seed, limits=enclosed.limits, options=enclosed.options)
                turn = replace(turn, enclosed=changed)
        case "branch":
            turn = replace(turn, branch=record["name"])
        case other:
            raise ValueError(f"there are no records {other!r}")
    return replace(state, open=turn)


def opening_record(state: ConversationState, request: str, enclosed: Enclosed | None) -> Record:
    """The record with which a request is accepted: it answers the question that waits, unless it is a command."""
    if state.open is not None and state.open.asks and not request.lstrip().startswith("/"):
        return answer_record(state.open.number, request, enclosed)
    return turn_record(state.turn + 1, request, enclosed)


def _leave_open_turn(state: ConversationState) -> ConversationState:
    """Gives the turn that another one takes the place of its entry, so that nothing that was said is missing."""
    turn = state.open
    if turn is None:
        return state
    question = turn.reading.question if turn.asks and turn.reading is not None else ""
    entry = TurnEntry(
        turn=turn.number, request=turn.request, kind="unclear" if turn.asks else "mistake",
        reply=f"not answered: {question}" if turn.asks else "this turn was not finished", current=state.current,
        question=question or turn.question, answer=turn.answer, error=not turn.asks,
    )  # fmt: skip
    return replace(state, entries=(*state.entries, entry), open=None)


def _begin_turn(state: ConversationState, record: Record) -> ConversationState:
    state = _leave_open_turn(state)
    enclosed = _load_enclosed(record)
    if enclosed is not None:
        state = replace(state, mask=enclosed.mask)
        if enclosed.accept_at is not None:
            state = replace(state, accept_at=enclosed.accept_at)
        if enclosed.image is not None:
            state = state.with_picture(
                Picture(number=len(state.pictures) + 1, image=enclosed.image, made="given", made_from="a given picture")
            )
    turn = OpenTurn(number=record["turn"], request=record["request"], enclosed=enclosed or Enclosed())
    return replace(state, turn=turn.number, open=turn)


def _end_turn(state: ConversationState, record: Record) -> ConversationState:
    changes = dict(record["changes"])
    if changes["picture"] is not None:
        changes["picture"] = _PICTURE.validate_python(changes["picture"])
    state = Changes(**changes).apply(state)
    entry = _ENTRY.validate_python(record["entry"])
    return replace(state, entries=(*state.entries, entry), open=None, file=record["file"], branch=record["branch"])
