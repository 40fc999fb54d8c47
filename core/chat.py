"""Chat models: one protocol, spoken to servers (OpenAIChat) and to models in this process (TransformersChat)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from PIL import Image

Role = Literal["system", "user", "assistant"]
Part = str | Image.Image


@dataclass(frozen=True)
class Message:
    """One turn. `content` is text, or text and pictures in the order in which the model is to see them."""

    role: Role
    content: str | tuple[Part, ...]


@dataclass(frozen=True)
class Usage:
    """Tokens spent."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)


@dataclass(frozen=True)
class ChatRequest:
    """What is asked of a chat model.

    `schema` asks for a JSON reply of that JSON schema. `choices` asks for the probabilities of the first reply token:
    the reply's `logprobs` then holds the natural-log probability, over the whole vocabulary, of each choice string,
    summed over its spellings (`core.choices`); each must be a single token of the model. Temperature and max_tokens
    then have no effect.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: Mapping[str, object] | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChatReply:
    """What a chat model answered. `truncated` is True where it stopped at max_tokens, not of its own accord."""

    text: str
    reasoning: str | None = None
    truncated: bool = False
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    logprobs: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class ChatModel(Protocol):
    """A model that answers a conversation. Raises BackendError (or a child of it), never a foreign exception."""

    @property
    def name(self) -> str: ...

    async def __call__(self, request: ChatRequest) -> ChatReply: ...
