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
import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from agent.chat.values import Enclosed, Picture, TurnEntry
from redraft.errors import BackendError, InputError
from redraft.files import refuse_links
from redraft.journal import DamagedJournal, JournalFile, OtherJournal, read_journal, read_undamaged, rewrite
from redraft.journal import Entry as JournalEntry
from redraft.limits import Limits
from redraft.options import DrawOptions
from rewriter.turns import Turn

Record = Mapping[str, Any]
_ENTRY = TypeAdapter(TurnEntry)
_ENTRIES = TypeAdapter(list[TurnEntry])
_PICTURES = TypeAdapter(list[Picture])
_READING = TypeAdapter(Turn)
_KIND = "conversation"
_ADVICE = "delete its folder to begin anew"
DAMAGED = "(damaged)"
"""The request of a turn whose own is lost."""


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
    """The records in a journal file (`redraft.journal`). In the place of records that are damaged, `read` gives `damaged`
    ones; `hold` writes such a file anew, with these."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: JournalFile | None = None

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        refuse_links(self.path.parent)
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(self._open())
            try:
                _load(self._file)
            except (DamagedJournal, OtherJournal):
                rewrite(self.path, _KIND, [_entry(*numbered) for numbered in enumerate(self._records())])
                stack.close()
                self._file = stack.enter_context(self._open())
                _load(self._file)
            yield

    async def read(self) -> list[Record]:
        return await asyncio.to_thread(lambda: list(self._records()))

    def read_begun(self) -> Record | None:
        """The first record, None if there is none. Raises InputError if it cannot be read."""
        begun = next(self._records(), None)
        if begun is not None:
            fold_records([begun])
        return begun

    def _open(self) -> JournalFile:
        return JournalFile(self.path, _KIND, advice=_ADVICE)

    def _records(self) -> Iterator[Record]:
        if not self.path.is_file():
            return
        number = 0
        try:
            for entry in read_journal(self.path, _KIND, advice=_ADVICE):
                yield entry.value
                number += 1
        except (DamagedJournal, OtherJournal):
            yield from itertools.islice(self._undamaged_records(), number, None)

    def _undamaged_records(self) -> Iterator[Record]:
        """Damage may join lines or part them: the numbers of the others say how many records there were."""
        count, behind = 0, False
        for entry in read_undamaged(self.path, _KIND):
            behind = entry is None
            if entry is not None:
                for _ in range(int(entry.key[1]) - count):
                    yield {"is": "damaged"}
                yield entry.value
                count = int(entry.key[1]) + 1
        if behind:
            # Nobody knows what these lines held. Numbers of turns that have a folder are not given out again.
            yield {"is": "damaged", "turn": max(map(_turn_of, self.path.parent.glob("turn-*")), default=0)}

    async def append(self, number: int, record: Record) -> None:
        assert self._file is not None, "records are written inside `hold`"
        await asyncio.to_thread(self._file.append, [_entry(number, record)])


def _entry(number: int, record: Record) -> JournalEntry:
    return JournalEntry(("record", str(number)), record)


def _load(file: JournalFile) -> None:
    for _ in file.load():
        pass


def _turn_of(folder: Path) -> int:
    digits = folder.name.removeprefix("turn-")
    return int(digits) if digits.isascii() and digits.isdigit() else 0


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
    damaged: bool = False
    """Whether records behind its first one are damaged."""

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
    n: int = 1
    """How many pictures are made of a request."""
    may_ask: bool = True
    open: OpenTurn | None = None
    file: str | None = None
    """The file that the latest finished turn wrote."""
    branch: str | None = None
    """The branch that the latest finished turn made."""
    damaged: int = 0
    """How many records are damaged. Numbers of pictures may be missing then."""

    @property
    def current_picture(self) -> Picture | None:
        return self.picture(self.current) if self.current else None

    @property
    def last_picture(self) -> int:
        """The largest number of a picture, 0 if there is none."""
        return self.pictures[-1].number if self.pictures else 0

    def picture(self, number: int) -> Picture:
        """Raises InputError if there is none of that number."""
        at = bisect_left(self.pictures, number, key=lambda picture: picture.number)
        if at == len(self.pictures) or self.pictures[at].number != number:
            raise InputError(f"there is no picture {number}")
        return self.pictures[at]

    @property
    def waits(self) -> bool:
        """Whether a question waits for its answer."""
        return self.open is not None and self.open.asks

    def looking_at(self, number: int) -> ConversationState:
        return replace(self, current=number, trail=(*self.trail, self.current), undone=())

    def with_pictures(self, *pictures: Picture, look_at: int | None = None) -> ConversationState:
        """With new pictures, of which the user looks at the one of the number `look_at`, or the last."""
        state = replace(self, pictures=(*self.pictures, *pictures))
        return state.looking_at(pictures[-1].number if look_at is None else look_at)

    def origin(self, picture: Picture) -> str:
        """What a picture was made from: the request, and the instructions since."""
        chain = [picture]
        while (parent := chain[-1].parent) is not None:
            chain.append(self.picture(parent))
        return "\n".join(each.made_from for each in reversed(chain))


@dataclass(frozen=True)
class Changes:
    """What a turn changes besides its entry. Settings that are named in `settings` are replaced."""

    pictures: tuple[Picture, ...] = ()
    """New pictures, in the order of their numbers; the last is looked at from now on, or the one that `look_at` names."""
    accepted: int | None = None
    look_at: int | None = None
    undo: bool = False
    redo: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, state: ConversationState) -> ConversationState:
        state = replace(state, **self.settings)
        if self.pictures:
            state = state.with_pictures(*self.pictures, look_at=self.look_at)
        elif self.look_at is not None:
            state = state.looking_at(self.look_at)
        if self.accepted is not None:
            pictures = (replace(p, accepted=True) if p.number == self.accepted else p for p in state.pictures)
            state = replace(state, pictures=tuple(pictures))
        if self.undo and state.trail:
            undone = (*state.undone, state.current)
            state = replace(state, current=state.trail[-1], trail=state.trail[:-1], undone=undone)
        if self.redo and state.undone:
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
    kept = ("turn", "entries", "pictures", "current", "trail", "accept_at", "seed", "mask", "n", "may_ask")
    whole = asdict(state)
    return {
        "is": "begun", "name": name, "created": created, "parent": parent, "made_in": made_in, "profile": profile,
        "state": {name: whole[name] for name in kept},
    }  # fmt: skip


def turn_record(number: int, request: str, enclosed: Enclosed | None, *, picture: int) -> Record:
    """`picture`: the number of the picture that is enclosed, if there is one."""
    record = {"is": "turn", "turn": number, "request": request, "enclosed": _dump_enclosed(enclosed)}
    return record if enclosed is None or enclosed.image is None else {**record, "picture": picture}


def answer_record(number: int, answer: str, enclosed: Enclosed | None) -> Record:
    """Of what is enclosed in an answer, seed, limits, options and `n` count."""
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
    match record["is"]:
        case "damaged":
            turn = None if state.open is None else replace(state.open, damaged=True)
            latest = max(state.turn, record.get("turn", 0))
            return replace(state, damaged=state.damaged + 1, turn=latest, open=turn)
        case "begun":
            kept = dict(record["state"])
            kept["entries"] = tuple(_ENTRIES.validate_python(kept["entries"]))
            kept["pictures"] = tuple(_PICTURES.validate_python(kept["pictures"]))
            return replace(state, **(kept | {"trail": tuple(kept["trail"])}))
        case "settings":
            return Changes(settings=record["settings"]).apply(state)
    if state.damaged:
        return _leave_out_lost(_add_to_turn(_fill_gap(state, record), record))
    return _add_to_turn(state, record)


def _add_to_turn(state: ConversationState, record: Record) -> ConversationState:
    turn = state.open
    if record["is"] == "turn":
        return _begin_turn(state, record)
    if record["is"] == "end":
        return _end_turn(state, record)
    if turn is None:
        raise ValueError("a record of a turn that was not begun")
    match record["is"]:
        case "reading":
            reading = None if record["reading"] is None else _READING.validate_python(record["reading"])
            turn = replace(turn, reading=reading, problem=record["problem"], asks=record["asks"])
        case "answer":
            question = turn.reading.question if turn.reading is not None else ""
            turn = replace(turn, answer=record["answer"], question=question, reading=None, problem="", asks=False)
            enclosed = _load_enclosed(record)
            if enclosed is not None:
                changed = replace(
                    turn.enclosed, seed=enclosed.seed, limits=enclosed.limits, options=enclosed.options, n=enclosed.n
                )
                turn = replace(turn, enclosed=changed)
        case "branch":
            turn = replace(turn, branch=record["name"])
        case other:
            raise ValueError(f"there are no records {other!r}")
    return replace(state, open=turn)


def _fill_gap(state: ConversationState, record: Record) -> ConversationState:
    """Brings a conversation with damaged records to the turn of `record`: the turns up to it get entries that say so, and if
    the record with which it began is damaged, it begins without what that held."""
    number = record["entry"]["turn"] if record["is"] == "end" else record["turn"]
    if state.open is not None and state.open.number == number:
        return state
    state = _leave_open_turn(state)
    for missing in range(state.entries[-1].turn + 1 if state.entries else 1, number):
        entry = TurnEntry(
            turn=missing, request=DAMAGED, kind="mistake", reply=_lost_reply(missing), current=state.current, error=True
        )
        state = replace(state, entries=(*state.entries, entry))
    turn = OpenTurn(
        number=number, request=DAMAGED, enclosed=Enclosed(), problem=f"what was said in turn {number} is damaged on the disk",
        damaged=True,
    )  # fmt: skip
    return replace(state, turn=max(state.turn, number), open=None if record["is"] == "turn" else turn)


def _lost_reply(turn: int) -> str:
    return (
        f"the records of this turn are damaged on the disk; what it drew, if anything, is in the folder turn-{turn:04d}"
    )


def _leave_out_lost(state: ConversationState) -> ConversationState:
    """Nothing leads to a picture whose record is damaged."""
    there = {picture.number for picture in state.pictures}
    state = replace(
        state,
        pictures=tuple(p if p.parent is None or p.parent in there else replace(p, parent=None) for p in state.pictures),
        current=state.current if state.current in there else 0,
        trail=tuple(number for number in state.trail if not number or number in there),
        undone=tuple(number for number in state.undone if not number or number in there),
    )
    if state.entries:
        *before, entry = state.entries
        shown = tuple(number for number in entry.pictures if number in there)
        entry = replace(entry, pictures=shown, current=entry.current if entry.current in there else 0)
        state = replace(state, entries=(*before, entry))
    return state


def opening_record(state: ConversationState, request: str, enclosed: Enclosed | None) -> Record:
    """The record with which a request is accepted: it answers the question that waits, unless it is a command."""
    if state.open is not None and state.open.asks and not request.lstrip().startswith("/"):
        return answer_record(state.open.number, request, enclosed)
    return turn_record(state.turn + 1, request, enclosed, picture=state.last_picture + 1)


def _leave_open_turn(state: ConversationState) -> ConversationState:
    """Gives the turn that another one takes the place of its entry, so that nothing that was said is missing."""
    turn = state.open
    if turn is None:
        return state
    question = turn.reading.question if turn.asks and turn.reading is not None else ""
    reply = _lost_reply(turn.number) if turn.damaged else "this turn was not finished"
    reply = f"not answered: {question}" if turn.asks else reply
    entry = TurnEntry(
        turn=turn.number, request=turn.request, kind="unclear" if turn.asks else "mistake",
        reply=reply, current=state.current,
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
            number = record.get("picture", state.last_picture + 1)
            state = state.with_pictures(
                Picture(number=number, image=enclosed.image, made="given", made_from="a given picture")
            )
    turn = OpenTurn(number=record["turn"], request=record["request"], enclosed=enclosed or Enclosed())
    return replace(state, turn=max(state.turn, turn.number), open=turn)


def _end_turn(state: ConversationState, record: Record) -> ConversationState:
    changes = dict(record["changes"])
    single = changes.pop("picture", None)  # of conversations from before several pictures could be made
    changes["pictures"] = tuple(_PICTURES.validate_python([single] if single else changes.get("pictures", [])))
    state = Changes(**changes).apply(state)
    entry = _ENTRY.validate_python(record["entry"])
    if state.damaged:
        state = replace(state, current=entry.current)  # what it follows from may be lost
    return replace(state, entries=(*state.entries, entry), open=None, file=record["file"], branch=record["branch"])
