"""The values of a conversation: pictures, finished turns, and the events of a turn that is worked on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.events import Event
from redraft.limits import Limits
from redraft.options import DrawOptions
from rewriter.turns import TurnKind

Origin = Literal["drawn", "edited", "given"]
EntryKind = TurnKind | Literal["rewrite", "setting", "branch", "given", "mistake"]


@dataclass(frozen=True)
class Picture:
    """A picture of a conversation, numbered from 1. `image` is its hash in the conversation's store.

    `made_from`: the request, the instruction or the file name that it came from. `parent`: number of the picture that
    it was edited from. `unchecked`: the words of its run's request that no check asks about; with any of them it is never
    `accepted`. `run`: folder of the run that made it, within the home of all conversations.
    """

    number: int
    image: str
    made: Origin
    made_from: str
    parent: int | None = None
    score: float | None = None
    accepted: bool = False
    unchecked: tuple[str, ...] = ()
    run: str | None = None


@dataclass(frozen=True)
class TurnEntry:
    """A finished turn.

    `current`: number of the picture that the user looks at after it, 0 if none. `pictures`: numbers of those it made or
    shows. `question` and `answer`: what the user was asked before the turn was done. `run`: folder of its run.
    `error`: whether it failed; `reply` then says why.
    """

    turn: int
    request: str
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


@dataclass(frozen=True)
class Enclosed:
    """What comes with a request: an image that is looked at from now on; a mask and pictures to go by for this turn alone,
    all by their hashes in the conversation's store; options for this turn, with the limits that follow from them; an
    `accept_at` that stays. `seed`: instead of that of the options. `n`: how many pictures are made, instead of the
    conversation's."""

    image: str | None = None
    mask: str | None = None
    seed: int | None = None
    limits: Limits | None = None
    accept_at: float | None = None
    references: tuple[str, ...] = ()
    options: DrawOptions | None = None
    n: int | None = None


@dataclass(frozen=True)
class TurnBegan:
    """How a request was understood. `text`: the prompt, the instruction, the question or a command's arguments.
    `by`: "rules", the model's name, or "command"."""

    turn: int
    request: str
    kind: EntryKind
    text: str
    reason: str
    by: str


@dataclass(frozen=True)
class Clarify:
    """The turn waits for an answer. Give it to `Conversation.turn`, now or when the conversation is opened again."""

    turn: int
    question: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Replied:
    """The turn is finished. `shown`: the pictures to show, with their files. `file`: a file that it wrote. `branch`:
    name of the conversation in which the user continues."""

    entry: TurnEntry
    shown: tuple[tuple[Picture, Path], ...]
    file: Path | None = None
    branch: str | None = None


TurnEvent = Event | TurnBegan
"""What happens in a turn; it ends with `Replied` or `Clarify`."""
Tell = Callable[[TurnEvent], Awaitable[None]]
