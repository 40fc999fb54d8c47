"""Chat models: one protocol, spoken to servers (`redraft.openai_chat`) and to models in this process
(`redraft.transformers_chat`).

    model = open_chat(load_profile("mini").rewriter.model)
    reply = await model(ChatRequest((Message("user", "two red stars"),)))
    print(reply.text)

Importing this is cheap; torch, transformers and openai load when a model is used.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from PIL import Image

from redraft.errors import BackendError

if TYPE_CHECKING:
    from redraft.profiles import ModelConfig

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
    """A request to a chat model.

    `schema` asks for a JSON reply of that JSON schema. `choices` asks for the probabilities of the first reply token:
    the reply's `logprobs` then holds the natural-log probability, over the whole vocabulary, of each choice string,
    summed over its spellings (`spellings`); each must be a single token of the model. Temperature and max_tokens
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
    """What a chat model answered. `truncated`: it was cut off, by max_tokens or by whatever else (`is_cut_off`)."""

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

    async def aclose(self) -> None:
        """Lets go of weights and connections, once what is under way is done."""
        ...


def open_chat(config: ModelConfig) -> ChatModel:
    """The chat model of `config`. Weights load and servers are asked at its first call.

    Raises ConfigError if the API key's variable is not set, ModelMissing if a model folder is not there.
    """
    if config.kind == "openai":
        from redraft.openai_chat import OpenAIChat

        return OpenAIChat(config)
    from redraft.transformers_chat import TransformersChat

    return TransformersChat(config)


def is_unicode(text: str) -> bool:
    """False if JSON escapes brought in half a surrogate pair, which no file or database would take."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def is_cut_off(finish_reason: object, text: str) -> bool:
    """Whether a reply that is read as text is not whole: if it ended for any reason but "stop" (in any case: length,
    MAX_TOKENS, content_filter, abort, error), or, if no reason is given, with a tag left open."""
    if finish_reason is None:
        return any(text.count(f"<{tag}>") > text.count(f"</{tag}>") for tag in ("think", "answer"))
    return str(finish_reason).lower() != "stop"


def with_think_tags(text: str) -> str:
    """The text with the thinking tags of other model families ([THINK], ◁think▷) written as <think>."""
    for opens, closes in (("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷")):
        if closes in text or text.lstrip().startswith(opens):
            text = text.replace(opens, "<think>").replace(closes, "</think>")
    return text


NEVER = -9999.0
"""Log probability of what a server did not report (the convention of OpenAI-style servers; exp of it is 0)."""


ELSEWHERE = {
    "yes": ("是", "是的", "はい", "예", "네", "ja", "oui", "sí", "sì", "sim", "да", "tak", "evet", "हाँ", "نعم"),
    "no": ("否", "不", "不是", "いいえ", "아니요", "nein", "non", "não", "нет", "nie", "hayır", "नहीं", "لا"),
}
"""What models answer to a question in another language, though they were asked for yes or no in English."""


def spellings(choices: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each choice with the strings that count as it: with and without a leading space, in its own case, in lower case,
    Capitalised and in UPPER CASE. A choice of one letter keeps its case: "a" opens too many other answers.

    A model may open its answer with "yes", "Yes", " yes" or "YES", different tokens that say the same, so the probability
    of a choice is the SUM over its spellings. No string counts for two choices: one that is literally offered belongs to
    that choice, any other to none. Yes and no count in other languages, too (`ELSEWHERE`).
    """
    if len(set(choices)) != len(choices) or not all(choice.strip() == choice and choice for choice in choices):
        raise ValueError(f"choices must be different words without spaces around them, not {list(choices)}")
    cased = {choice: {choice} if len(choice) == 1 else _cases(choice) for choice in choices}
    if set(choices) == ELSEWHERE.keys():
        cased = {choice: words.union(ELSEWHERE[choice]) for choice, words in cased.items()}
    owned = {
        choice: [
            word
            for word in sorted(words, key=lambda word: (word != choice, word))
            if word == choice or sum(word in others for others in cased.values()) == 1
        ]
        for choice, words in cased.items()
    }
    return {choice: tuple(w for word in words for w in (word, f" {word}")) for choice, words in owned.items()}


def choice_ids(
    choices: Sequence[str], encode: Callable[[str], Sequence[int]], model: str, *, strict: bool = True
) -> dict[str, tuple[int, ...]]:
    """The token ids that count as each choice: those of its spellings that `encode` (text to ids, without special
    tokens) makes one token of. No token counts for two choices: one that spells several, as the unknown token of a
    small vocabulary does, says nothing. Raises BackendError if a choice has none; with `strict` False it gets ()."""
    single: dict[str, list[int]] = {}
    for choice, words in spellings(choices).items():
        encoded = (tuple(encode(word)) for word in words)
        single[choice] = list(dict.fromkeys(tokens[0] for tokens in encoded if len(tokens) == 1))
    claims = Counter(token for tokens in single.values() for token in tokens)
    ids = {choice: tuple(t for t in tokens if claims[t] == 1) for choice, tokens in single.items()}
    lost = [choice for choice, tokens in ids.items() if not tokens]
    if strict and lost:
        raise BackendError(f"the choice {lost[0]!r} is not a single token of {model}; offer a shorter, commoner word")
    return ids


def add_logs(logprobs: Sequence[float]) -> float:
    """log of the sum of exp: the log probability that any of several tokens comes. NEVER if there are none."""
    top = max(logprobs, default=NEVER)
    if top <= NEVER:
        return NEVER
    return min(0.0, top + math.log(sum(math.exp(value - top) for value in logprobs)))


def by_spelling(choices: Sequence[str], logprobs: Mapping[str, float]) -> dict[str, float]:
    """The log probability of each choice from those of token strings."""
    return {
        choice: add_logs([logprobs[word] for word in words if word in logprobs])
        for choice, words in spellings(choices).items()
    }


def _cases(word: str) -> set[str]:
    return {word, word.lower(), word.upper(), word[:1].upper() + word[1:].lower()}
