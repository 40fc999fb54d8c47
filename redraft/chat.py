"""Chat models: one protocol, spoken to servers (OpenAIChat) and to models in this process (TransformersChat)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, runtime_checkable
from weakref import WeakKeyDictionary

from PIL import Image

from redraft.choices import add_logs, by_spelling, choice_ids, spellings
from redraft.errors import BackendError, BadReply, ServerError, one_line
from redraft.pace import Pace
from redraft.wire import (
    error_detail,
    first_logprobs,
    is_passing,
    is_unicode,
    json_in,
    refusal,
    renamed,
    retry_after,
    token_counts,
    wait_s,
    why_empty,
    wire_messages,
)

if TYPE_CHECKING:
    import openai

    from redraft.profiles import ModelConfig, ServerConfig

T = TypeVar("T")
Role = Literal["system", "user", "assistant"]
Part = str | Image.Image

MAX_BYTES = 16 * 2**20
"""Longest reply that is read."""


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
    summed over its spellings (`redraft.choices`); each must be a single token of the model. Temperature and max_tokens
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


def open_chat(config: ModelConfig) -> ChatModel:
    """The chat model of `config`. Weights load and servers are asked at its first call.

    Raises ConfigError where the API key's variable is not set, ModelMissing where a model folder is not there.
    """
    if config.kind == "openai":
        return OpenAIChat(config)
    from redraft.transformers_chat import TransformersChat

    return TransformersChat(config)


class OpenAIChat:
    """A ChatModel behind an OpenAI-compatible server: vLLM first, others as far as they go.

    Tries again on timeouts, lost connections and the statuses 408, 409, 429 and 5xx, at most `max_retries` times,
    after a wait that doubles (with jitter) or that the server asks for (Retry-After). `timeout_s` bounds each try,
    `concurrency` how many are under way at once: fewer while the server pushes back (`redraft.pace`), and up to `most`
    where it does not. One instance may serve several event loops, one after another.

    Raises ServerError where the server is unreachable, too slow or refuses; BadReply where it answers with something
    that is no answer: not JSON, not UTF-8, empty, not of the schema's kind, or without the log probabilities asked for.

    `request.choices`: vLLM gives the log probability of any token by its id (`logprob_token_ids`, ids from /tokenize);
    elsewhere the 20 likeliest tokens must do, and a choice that is not among them counts as never (`choices.NEVER`).
    Which of the two a server can do is found out at the first such request.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        most: int | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        assert config.server is not None, "ModelConfig sees to it"
        self._most = most or config.server.concurrency
        self._config = config
        self._server = config.server
        self._key = config.server.api_key()
        self._sleep = sleep
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, _Link] = WeakKeyDictionary()
        self._reads_by_id: bool | None = None
        self._ids: dict[str, tuple[int, ...]] = {}
        self._unsupported: set[str] = set()

    @property
    def name(self) -> str:
        return self._config.model

    def __repr__(self) -> str:
        return f"OpenAIChat({self.name!r}, {self._server.base_url!r})"

    async def __call__(self, request: ChatRequest) -> ChatReply:
        # Encoding a picture takes a tenth of a second, in which the event loop has better things to do.
        messages = await asyncio.to_thread(wire_messages, request.messages)
        if request.choices:
            return await self._choose(request, messages)
        body: dict[str, object] = {"max_tokens": request.max_tokens, "temperature": request.temperature}
        if request.temperature > 0:
            body["top_p"] = request.top_p
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.schema is not None:
            # OpenAI enforces a schema only with "strict", which it takes for closed ones alone; vLLM always enforces.
            closed = request.schema.get("additionalProperties") is False
            schema = {"name": "reply", "schema": request.schema, "strict": closed}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        data = await self._chat(messages, body)
        choice = self._first_choice(data)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise BadReply(f"{self._said}: a reply without a message")
        text = message.get("content") or ""
        reasoning = message.get("reasoning") or message.get("reasoning_content") or None
        if not isinstance(text, str) or not isinstance(reasoning, str | None):
            raise BadReply(f"{self._said}: a message whose content is not text")
        truncated = choice.get("finish_reason") == "length"
        if not text.strip():
            why = why_empty(choice, message, truncated, request.max_tokens)
            raise BadReply(f"{self._said}: an empty reply ({self._scrub(why)})")
        if not (is_unicode(text) and is_unicode(reasoning or "")):
            raise BadReply(f"{self._said}: text in broken Unicode")
        if request.schema is not None:
            try:
                text = json_in(text, truncated=truncated)
            except ValueError as error:
                raise BadReply(f"{self._said}: {self._scrub(error)}") from None
        return ChatReply(text, reasoning, truncated, Usage(*token_counts(data)), self._model_of(data))

    async def aclose(self) -> None:
        """Closes the connections that the running event loop holds. The instance can be used again afterwards."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None:
            await link.client.close()

    async def _choose(self, request: ChatRequest, messages: list[dict[str, object]]) -> ChatReply:
        """Reads the first token's log probabilities. A reasoning model is asked not to think first."""
        body: dict[str, object] = {"max_tokens": 1, "temperature": 0.0, "logprobs": True}
        if self._reads_by_id is not False and (ids := await self._ids_of(request.choices)):
            every = sorted({token for tokens in ids.values() for token in tokens})
            by_id = body | {"logprob_token_ids": every, "return_tokens_as_token_ids": True}
            by_id["chat_template_kwargs"] = {"enable_thinking": False} | self._config.template_args
            data = None
            try:
                data = await self._chat(messages, by_id)
            except _RefusedError:
                if self._reads_by_id:
                    raise
            if data is not None:
                logs = {key.removeprefix("token_id:"): value for key, value in self._logprobs(data).items()}
                if all(str(token) in logs for token in every):
                    self._reads_by_id = True
                    summed = {choice: add_logs([logs[str(t)] for t in tokens]) for choice, tokens in ids.items()}
                    return self._chosen(data, summed)
        data = await self._chat(messages, body | {"top_logprobs": 20})
        logs = self._logprobs(data)
        if not logs:
            raise BadReply(f"{self._said}: no log probabilities, which a judge needs; serve the model with vLLM")
        self._reads_by_id = False
        return self._chosen(data, by_spelling(request.choices, logs))

    def _first_choice(self, data: Mapping[str, object]) -> dict[str, object]:
        choices = data.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            return choices[0]
        raise BadReply(f"{self._said}: {self._scrub(data.get('error') or 'no choices in its reply')}")

    def _logprobs(self, data: Mapping[str, object]) -> dict[str, float]:
        try:
            return first_logprobs(self._first_choice(data))
        except ValueError as error:
            raise BadReply(f"{self._said}: {self._scrub(error)}") from None

    def _chosen(self, data: Mapping[str, object], logprobs: Mapping[str, float]) -> ChatReply:
        message = self._first_choice(data).get("message")
        text = message.get("content") if isinstance(message, dict) else None
        likeliest = max(logprobs, key=lambda choice: logprobs[choice])
        said = text if isinstance(text, str) and text and is_unicode(text) else likeliest
        return ChatReply(said, usage=Usage(*token_counts(data)), model=self._model_of(data), logprobs=logprobs)

    async def _ids_of(self, choices: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
        """Token ids of each choice, from the server's /tokenize; None where it has no such thing."""
        for word in (word for words in spellings(choices).values() for word in words):
            if word in self._ids:
                continue
            body: dict[str, object] = {"model": self.name, "prompt": word, "add_special_tokens": False}
            try:
                data = await self._send(partial(_Link.tokenize, body=body))
            except _RefusedError:
                return None
            tokens = data.get("tokens") if isinstance(data, dict) else None
            if not isinstance(tokens, list) or not tokens or not all(type(token) is int for token in tokens):
                return None
            self._ids[word] = tuple(tokens)
        return choice_ids(choices, self._ids.__getitem__, self.name)

    async def _chat(self, messages: list[dict[str, object]], body: Mapping[str, object]) -> dict[str, object]:
        def call(link: _Link) -> Awaitable[bytes]:
            supported = {renamed(key, self._unsupported): value for key, value in body.items()}
            extra = {key: value for key, value in supported.items() if key not in self._unsupported}
            if self._config.template_args and "chat_template_kwargs" not in extra:
                extra["chat_template_kwargs"] = self._config.template_args
            return link.chat(self.name, messages, extra)

        content = await self._send(call)
        try:
            data = json.loads(content.decode("utf-8"))
        except UnicodeDecodeError:
            raise BadReply(f"{self._said}: bytes that are not UTF-8") from None
        except (ValueError, RecursionError):
            raise BadReply(f"{self._said}: {self._scrub(content.decode()[:200]) or 'nothing'}, not JSON") from None
        if not isinstance(data, dict):
            raise BadReply(f"{self._said}: {type(data).__name__} in place of a JSON object")
        return data

    async def _send(self, call: Callable[[_Link], Awaitable[T]]) -> T:
        import openai

        link, server = self._link(), self._server
        failures = 0
        while True:
            asked: float | None = None
            begun = float("-inf")
            try:
                async with link.pace.slot() as begun, asyncio.timeout(server.timeout_s):
                    answer = await call(link)
                    link.pace.answered()
                    return answer
            except (TimeoutError, openai.APITimeoutError):
                trouble = f"did not answer within {server.timeout_s:g} s; raise timeout_s, or use a smaller model"
            except openai.APIConnectionError as error:
                detail = self._scrub(error.__cause__ or error)
                trouble = f"cannot be reached ({detail}); start it, or check base_url in the profile"
            except openai.APIStatusError as error:
                status, detail = error.status_code, self._scrub(error_detail(error.body, error.message))
                if status == 400 and self._learns_from(error):
                    continue
                if not is_passing(status):
                    said = refusal(status, detail, server.api_key_env)
                    raise _RefusedError(f"the server {server.base_url} {said}") from None
                asked = retry_after(error.response.headers)
                trouble = f"answers with an error ({status}: {detail}); wait, or lower `concurrency` in the profile"
            except _BrokenOffError as error:
                trouble = f"broke off its answer ({self._scrub(error)})"
            except BadReply:
                raise
            except Exception as error:  # noqa: BLE001 - the boundary to openai and its HTTP library
                what = f"{type(error).__name__}: {self._scrub(error)}"
                raise BackendError(f"the request to {server.base_url} failed ({what})") from None
            failures += 1
            link.pace.pushed_back(begun)
            # A server that asks for more than a try may take is not worth waiting for.
            wait = wait_s(failures, asked)
            if failures > server.max_retries or wait > max(60.0, server.timeout_s):
                trouble += f" (it asks to wait {asked:.0f} s)" if asked else ""
                raise ServerError(f"the server {server.base_url} {trouble}; gave up after try {failures}") from None
            await self._sleep(wait)

    def _link(self) -> _Link:
        loop = asyncio.get_running_loop()
        if loop not in self._links:
            self._links[loop] = _Link(self._server, self._key, self._most)
        return self._links[loop]

    def _learns_from(self, error: openai.APIStatusError) -> bool:
        """Newer OpenAI models refuse some settings by name; each is left out (or renamed) from then on."""
        for name in ("max_tokens", "temperature", "top_p", "seed"):
            refused = error.param == name and error.code in ("unsupported_parameter", "unsupported_value")
            if refused and name not in self._unsupported:
                self._unsupported.add(name)
                return True
        return False

    def _scrub(self, error: object) -> str:
        return one_line(error, [self._key] if self._key else ())

    def _model_of(self, data: Mapping[str, object]) -> str:
        model = data.get("model")
        return model if isinstance(model, str) and model else self.name

    @property
    def _said(self) -> str:
        return f"{self.name} at {self._server.base_url} answered"


class _RefusedError(ServerError):
    """The server answered, but will not do this; asking again is useless."""


class _BrokenOffError(Exception):
    """An answer had begun and did not end as it should; holds the HTTP library's error."""


class _Link:
    """A client and its pace: both belong to one event loop."""

    def __init__(self, server: ServerConfig, key: str | None, most: int) -> None:
        import openai

        self._root = server.base_url.rstrip("/").removesuffix("/v1")
        self.pace = Pace(server.concurrency, most)
        self.client = openai.AsyncOpenAI(
            # Never the OPENAI_… variables: they are meant for another server than the profile's.
            api_key=key or "none",
            default_headers={"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit},  # type: ignore[dict-item]
            base_url=server.base_url,
            timeout=server.timeout_s,
            max_retries=0,
        )

    async def chat(self, model: str, messages: list[dict[str, object]], extra: Mapping[str, object]) -> bytes:
        completions = self.client.chat.completions.with_streaming_response
        body = bytearray()
        async with completions.create(model=model, messages=cast(Any, messages), extra_body=extra) as response:
            try:
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_BYTES:  # a few packed bytes can unpack to any length
                        raise BadReply(f"{model} answered with more than {MAX_BYTES >> 20} MiB")
            except BadReply:
                raise
            except Exception as error:
                raise _BrokenOffError(error) from error
        return bytes(body)

    async def tokenize(self, body: Mapping[str, object]) -> object:
        try:
            return await self.client.post(f"{self._root}/tokenize", body=body, cast_to=object)
        except ValueError:
            return None  # some page or other, not JSON
