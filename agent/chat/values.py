"""The words of a conversation: pictures, turns, and what is told while a turn is worked on."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from langgraph.runtime import Runtime

from agent.chat.commands import Command
from agent.events import Event
from agent.models import Models
from redraft.errors import InputError
from redraft.limits import Limits
from redraft.profiles import Profile
from redraft.store import ImageStore
from rewriter.turns import Turn, TurnKind

Made = Literal["drawn", "edited", "given"]
EntryKind = TurnKind | Literal["setting", "fork", "given", "again", "mistake"]


@dataclass(frozen=True)
class Picture:
    """A picture of a conversation, numbered from 1. `image` is its hash in the conversation's store.

    `parent`: number of the picture that it was edited from. `told`: the prompt, the instruction, or the file name that
    it came from. `run`: folder of the run that made it, within the home of all conversations.
    """

    number: int
    image: str
    made: Made
    told: str
    parent: int | None = None
    score: float | None = None
    accepted: bool = False
    run: str | None = None


@dataclass(frozen=True)
class Entry:
    """A finished turn. `current`: number of the picture that was looked at after it, 0 for none; `pictures`: those it
    made or shows. `question` and `answer`: what was asked back. `run`: the run it was, `error`: whether it failed."""

    turn: int
    said: str
    kind: EntryKind
    reply: str
    current: int
    pictures: tuple[int, ...] = ()
    reason: str = ""
    by: str = ""
    question: str = ""
    answer: str = ""
    run: str | None = None
    error: bool = False

    def __post_init__(self) -> None:
        # Checkpoints give lists back where they were given tuples.
        object.__setattr__(self, "pictures", tuple(self.pictures))


@dataclass(frozen=True)
class TurnBegan:
    """What was understood. `by`: "rules", the model's name, or "command"."""

    turn: int
    said: str
    kind: EntryKind
    text: str
    reason: str
    by: str


@dataclass(frozen=True)
class Clarify:
    """The turn waits for an answer: give it to `Conversation.turn`, now or after the conversation was opened again."""

    turn: int
    question: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Replied:
    """The turn is finished. `shown`: the pictures to show, with their files. `fork`: name of a conversation that the
    user goes on in."""

    entry: Entry
    shown: tuple[tuple[Picture, Path], ...]
    file: Path | None = None
    fork: str | None = None


TalkEvent = Event | TurnBegan | Clarify | Replied


TALK_TYPES = (Picture, Entry, Turn, Command)
"""Types of ours in the state of a conversation."""


class TalkState(TypedDict, total=False):
    turn: int
    said: str
    wanted: Turn | None
    command: Command | None
    problem: str
    """Why what was said cannot be followed."""
    question: str
    answer: str
    pictures: list[Picture]
    current: int
    trail: list[int]
    """Numbers of the pictures that were looked at before, for undo."""
    entries: list[Entry]
    accept_at: float | None
    seed: int | None
    mask: str | None
    may_ask: bool


@dataclass(frozen=True)
class Brought:
    """What a turn brings beside its words: an image that is looked at from now on and a mask for this turn alone, both
    by their hashes in the conversation's store; a seed and limits for this turn; an accept_at that stays."""

    image: str | None = None
    mask: str | None = None
    seed: int | None = None
    limits: Limits | None = None
    accept_at: float | None = None


@dataclass(frozen=True)
class TalkContext:
    """What the nodes of a conversation work with. `runs`: folder for the runs of this conversation, within `home`.

    `seed`: this turn's, where it has one. `own_files`: whether the user may name files of this machine.
    """

    name: str
    home: Path
    runs: Path
    store: ImageStore
    models: Models
    limits: Limits
    profile: Profile | None
    fork: Callable[[TalkState, str | None], Awaitable[str]]
    export: Callable[[TalkState, Path | None], Path]
    others: Callable[[], list[str]]
    seed: int | None = None
    own_files: bool = True
    stop: threading.Event = field(default_factory=threading.Event)


Node = Runtime[TalkContext]


@dataclass(frozen=True)
class Outcome:
    """What acting on a turn came to."""

    kind: EntryKind
    reply: str
    changes: TalkState = field(default_factory=lambda: TalkState())
    shown: tuple[int, ...] = ()
    run: str | None = None
    error: bool = False
    file: Path | None = None
    fork: str | None = None


def begin(said: str, state: TalkState, brought: Brought | None = None) -> TalkState:
    """The input that begins a turn."""
    entry: TalkState = {
        "turn": state.get("turn", 0) + 1, "said": said, "wanted": None, "command": None, "problem": "",
        "question": "", "answer": "",
    }  # fmt: skip
    if brought is not None:
        entry["mask"] = brought.mask
        if brought.accept_at is not None:
            entry["accept_at"] = brought.accept_at
        if brought.image is not None:
            entry |= looking_at(state, Picture(len(state["pictures"]) + 1, brought.image, "given", "a given picture"))
    return entry


def new_state(may_ask: bool) -> TalkState:
    return {
        "turn": 0, "pictures": [], "current": 0, "trail": [], "entries": [], "accept_at": None, "seed": None,
        "mask": None, "may_ask": may_ask,
    }  # fmt: skip


def current(state: TalkState) -> Picture | None:
    """The picture that the user looks at."""
    return state["pictures"][state["current"] - 1] if state["current"] else None


def looked_at(state: TalkState) -> Picture:
    """The same. Raises InputError where there is none."""
    now = current(state)
    if now is None:
        raise InputError("there is no picture yet; say what to draw, or bring one with /open FILE")
    return now


def shows(state: TalkState, picture: Picture) -> str:
    """What a picture was made from: the prompt, and the instructions since."""
    chain = [picture]
    while chain[-1].parent is not None:
        chain.append(state["pictures"][chain[-1].parent - 1])
    return "\n".join(one.told for one in reversed(chain))


def looking_at(state: TalkState, made: Picture) -> TalkState:
    """The state's changes by a new picture."""
    return {
        "pictures": [*state["pictures"], made],
        "current": made.number,
        "trail": [*state["trail"], state["current"]],
    }
