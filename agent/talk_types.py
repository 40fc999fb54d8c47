"""The words of a conversation: pictures, turns, and what is told while a turn is worked on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.events import Event
from rewriter.turns import TurnKind

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
