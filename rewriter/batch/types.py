"""The words of a batch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from redraft.chat import ChatModel
from redraft.errors import InputError
from rewriter.types import Rewrite


class Status(StrEnum):
    """What became of a row."""

    REWRITTEN = "rewritten"
    """The rewrite passed as it came."""
    REPAIRED = "repaired"
    """The first reply was refused; the second, told why, passed."""
    KEPT = "kept"
    """The user's own prompt stands: no reply could be used, or a judge found the original's picture better."""
    FAILED = "failed"
    """The model or server failed on this prompt. Another run tries it again."""


@dataclass(frozen=True)
class Row:
    """A row of the input: its columns as they came, and its prompt, cleaned. `number` counts from 1."""

    number: int
    columns: Mapping[str, object]
    prompt: str


@dataclass(frozen=True)
class Reject:
    """A row that cannot be used: where it stands, why, and how it begins."""

    number: int
    where: str
    why: str
    text: str = ""


@dataclass(frozen=True)
class Record:
    """What was made of a prompt: the line that a work folder keeps for it.

    `candidates` holds every rewrite where more than one was asked for, and `scores` what the selection thought of them.
    """

    status: Status
    rewrite: str
    seed: int
    negative_prompt: str | None = None
    thought: str = ""
    model: str = ""
    findings: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    scores: tuple[float | None, ...] = ()
    tokens: tuple[int, int] = (0, 0)
    """Read and written by the model."""


@dataclass(frozen=True)
class Shard:
    """Share `index` (from 1) of `count` of the prompts. A prompt belongs to the same share wherever it stands."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads "i/n". Raises InputError."""
        match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"--shard {text!r}: write i/n with i from 1 to n, such as 2/8")
        return cls(int(match[1]), int(match[2]))

    def owns(self, key: bytes) -> bool:
        return self.count == 1 or int.from_bytes(key[-4:], "big") % self.count == self.index - 1

    def owns_reject(self, number: int) -> bool:
        """A row without a prompt belongs somewhere too."""
        return number % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"


WHOLE = Shard()


class Engine(ChatModel, Protocol):
    """What answers the requests of a batch: a chat model that wants many of them under way at once."""

    @property
    def window(self) -> int:
        """How many requests it can use at once; more would only wait in it."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True)
class Choice:
    """Which of the candidates to take: an index into them, or None for the user's own prompt. `scores` are as many as
    there are candidates, then one for the original where it was scored too."""

    index: int | None
    scores: tuple[float | None, ...] = ()
    findings: tuple[str, ...] = ()


class Selector(Protocol):
    """Picks one of several rewrites of a prompt. May raise BackendError."""

    async def __call__(self, prompt: str, rewrites: Sequence[Rewrite], seed: int) -> Choice: ...


class Keys:
    """Names of prompts under certain settings: 16 bytes, the same in every process and on every machine."""

    def __init__(self, settings: Mapping[str, object], seed: int) -> None:
        text = json.dumps({"settings": settings, "seed": seed}, sort_keys=True, ensure_ascii=False)
        self._salt = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()

    def key(self, prompt: str) -> bytes:
        return hashlib.blake2b(prompt.encode(), digest_size=16, key=self._salt).digest()

    @staticmethod
    def seed(key: bytes) -> int:
        """The seed that a prompt's requests begin with: of its own, so that no two prompts share their draws."""
        return int.from_bytes(key[:4], "big") >> 1
