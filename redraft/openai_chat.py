"""A chat model behind an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import io
import json
import logging
import re
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from PIL import Image

from redraft.chat import (
    NEVER,
    ChatReply,
    ChatRequest,
    Message,
    Usage,
    add_logs,
    by_spelling,
    choice_ids,
    is_cut_off,
    is_unicode,
    spellings,
    with_think_tags,
)
from redraft.errors import BadReply
from redraft.json_replies import json_in
from redraft.servers import AFFINITY, RefusedError, ServerClient
from redraft.spans import trace_chat

if TYPE_CHECKING:
    import openai

    from redraft.profiles import ModelConfig

log = logging.getLogger(__name__)

MAX_BYTES = 16 * 2**20
"""Longest reply that is read."""

_SPECIAL = re.compile(
    r"<(?="
    r"[|｜][^<>\n]{1,40}[|｜]?>|/?[^<>|｜\n]{1,40}[|｜]>"  # ChatML, Llama 3, Phi, GLM, Qwen, DeepSeek, Command, Granite, Gemma 4
    r"|/?(?:s|bos|eos|pad|unk|mask|cls|sep|sop|eop|image|video|audio|img|ref|box|quad|slice|unit|point|patch)>"
    r"|/?(?:start|end|begin)_of_(?:turn|image|audio|video|text|role|sentence)>"  # Gemma, DeepSeek-VL
    r"|(?:image_(?:soft_token|placeholder|newline|id)|IMG_CONTEXT|fim_(?:prefix|middle|suffix|pad)|reponame|filename)>"
    r"|(?:BOS|EOS|PAD|UNK|EOP|MASK)_TOKEN>|(?:CLS|SEP)>"  # Command
    r"|/?seed:\w{1,20}>|(?:SPECIAL|extra_id|unused)_?\d{1,4}>"  # Seed, Nemotron, T5, Gemma
    r"|</?SYS>>)"  # Llama 2
    r"|\[(?=/?(?:INST|THINK|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|CALL_ID|ARGS|MODEL_SETTINGS)\]"
    r"|(?:IMG(?:_BREAK|_END)?|AUDIO|BEGIN_AUDIO|TRANSCRIBE|PREFIX|MIDDLE|SUFFIX)\]"  # Mistral
    r"|(?:[gs]?MASK|BOS|EOS|EOT|PAD|UNK|CLS|SEP)\]|e~\[)"  # GLM, Kimi, MiniMax
    r"|◁(?=/?think▷)|\](?=~!?b[\[\]])"  # Kimi-VL, MiniMax
)
"""Where a special token of a common chat template begins. Such tokens are looked for as they are: no tokenizer reads
"＜|im_end|＞" or "[inst]" as one."""


class OpenAIChat:
    """A ChatModel behind an OpenAI-compatible server: vLLM first, others as far as they go.

    `redraft.servers` says when a call is tried again. `timeout_s` bounds each try, `concurrency` how many are under way
    at once: fewer while the server pushes back, and up to `most` if it does not. One instance may serve several event
    loops, one after another. Several servers (`base_urls`) share the requests; those about one picture go to one server.

    Raises ServerError if the server is unreachable, too slow or refuses; BadReply if it answers with something that is
    no answer: not JSON, not UTF-8, empty, not of the schema's kind, or without the log probabilities asked for.

    `request.choices`: vLLM gives the log probability of any token by its id (`logprob_token_ids`, ids from /tokenize);
    elsewhere the 20 likeliest tokens must do, and a choice that is not among them counts as never (`choices.NEVER`).
    Which of the two a server can do is found out at the first such request.

    Pictures: each is encoded once, however many questions are asked about it. A server that reads choices by token ids is
    vLLM, and gets the bytes of a picture once: later requests name it by its hash (`uuid`), and send it again if the server
    has dropped it. Choices about a picture that it has go together to its batch route, if it serves that. Other servers get
    pictures of at most MAX_PIXELS, with each request.
    """

    def __init__(self, config: ModelConfig, *, most: int | None = None) -> None:
        assert config.server is not None, "ModelConfig sees to it"
        self._config = config
        self._most = most and -(-most // len(config.server.addresses))
        self._server = ServerClient(config.server, config.model, MAX_BYTES)
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI] = WeakKeyDictionary()
        self._reads_by_id: bool | None = None
        self._ids: dict[str, tuple[int, ...]] = {}
        self._unsupported: frozenset[str] = frozenset()
        self._probes: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._codes = PictureCodes()
        self._uploads = Uploads()
        self._encoding: WeakKeyDictionary[asyncio.AbstractEventLoop, _Encoding] = WeakKeyDictionary()
        self._batches = True
        """Whether a server that reads choices by token ids is thought to have vLLM's batch route."""
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, _Line]] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        return self._config.model

    def __repr__(self) -> str:
        return f"OpenAIChat({self.name!r}, {self._server.server.base_url!r})"

    @trace_chat("openai", lambda model: model._config.server.base_url if model._config.server is not None else "")
    async def __call__(self, request: ChatRequest) -> ChatReply:
        if request.choices:
            return await self._choose(request)
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
        data = await self._send(request.messages, body)
        choice = self._first_choice(data)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise BadReply(f"{self._server.said}: a reply without a message")
        text, reasoning = read_message(message)
        if text is None:
            raise BadReply(f"{self._server.said}: a message whose content is not text")
        truncated = is_cut_off(choice.get("finish_reason"), text)
        if not text.strip():
            why = why_empty(choice, message, request.max_tokens)
            raise BadReply(f"{self._server.said}: an empty reply ({self._server.scrub(why)})")
        if not (is_unicode(text) and is_unicode(reasoning or "")):
            raise BadReply(f"{self._server.said}: text in broken Unicode")
        if request.schema is not None:
            try:
                text = json_in(text, truncated=truncated)
            except ValueError as error:
                raise BadReply(f"{self._server.said}: {self._server.scrub(error)}") from None
        return ChatReply(text, reasoning, truncated, Usage(*token_counts(data)), self._model_of(data))

    async def aclose(self) -> None:
        """Closes the connections that the running event loop holds. The instance can be used again afterwards."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    async def _choose(self, request: ChatRequest) -> ChatReply:
        """Reads the first token's log probabilities. A reasoning model is asked not to think first."""
        if self._reads_by_id is None:
            # One request finds out what the server can do; those beside it wait, and then send no picture twice.
            async with self._probes.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                if self._reads_by_id is None:
                    return await self._read_choices(request)
        return await self._read_choices(request)

    async def _read_choices(self, request: ChatRequest) -> ChatReply:
        body: dict[str, object] = {"max_tokens": 1, "temperature": 0.0, "logprobs": True}
        if self._reads_by_id is not False and (ids := await self._ids_of(request.choices)):
            every = sorted({token for tokens in ids.values() for token in tokens})
            by_id = body | {"logprob_token_ids": every, "return_tokens_as_token_ids": True}
            by_id["chat_template_kwargs"] = {"enable_thinking": False} | self._config.template_args
            data = None
            try:
                if self._reads_by_id and self._batches:
                    data = await self._send_together(request.messages, by_id)
                else:
                    data = await self._send(request.messages, by_id, whole=True)
            except RefusedError:
                if self._reads_by_id:
                    raise
            if data is not None:
                logs = {key.removeprefix("token_id:"): value for key, value in self._logprobs(data).items()}
                if all(str(token) in logs for token in every):
                    self._reads_by_id = True
                    summed = {choice: add_logs([logs[str(t)] for t in tokens]) for choice, tokens in ids.items()}
                    return self._chosen(data, summed)
        data = await self._send(request.messages, body | {"top_logprobs": 20})
        logs = self._logprobs(data)
        if not logs:
            raise BadReply(f"{self._server.said}: no log probabilities, which a judge needs; serve the model with vLLM")
        self._reads_by_id = False
        return self._chosen(data, by_spelling(request.choices, logs))

    def _first_choice(self, data: Mapping[str, object]) -> dict[str, object]:
        choices = data.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            return choices[0]
        raise BadReply(f"{self._server.said}: {self._server.scrub(data.get('error') or 'no choices in its reply')}")

    def _logprobs(self, data: Mapping[str, object]) -> dict[str, float]:
        try:
            return first_logprobs(self._first_choice(data))
        except ValueError as error:
            raise BadReply(f"{self._server.said}: {self._server.scrub(error)}") from None

    def _chosen(self, data: Mapping[str, object], logprobs: Mapping[str, float]) -> ChatReply:
        message = self._first_choice(data).get("message")
        text = message.get("content") if isinstance(message, dict) else None
        likeliest = max(logprobs, key=lambda choice: logprobs[choice])
        token = text if isinstance(text, str) and text and is_unicode(text) else likeliest
        return ChatReply(token, usage=Usage(*token_counts(data)), model=self._model_of(data), logprobs=logprobs)

    async def _ids_of(self, choices: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
        """Token ids of each choice, from the server's /tokenize; None if it has no such thing."""
        for word in (word for words in spellings(choices).values() for word in words):
            if word in self._ids:
                continue
            body: dict[str, object] = {"model": self.name, "prompt": word, "add_special_tokens": False}
            try:
                data = await self._tokenize(body)
            except RefusedError:
                return None
            tokens = data.get("tokens") if isinstance(data, dict) else None
            if not isinstance(tokens, list) or not tokens or not all(type(token) is int for token in tokens):
                return None
            self._ids[word] = tuple(tokens)
        return choice_ids(choices, self._ids.__getitem__, self.name)

    async def _send(
        self, messages: Sequence[Message], body: Mapping[str, object], *, whole: bool = False
    ) -> dict[str, object]:
        """The server's reply to these messages; pictures go in full size if `whole`, or to a server that is known as vLLM."""
        most = None if whole or self._reads_by_id else MAX_PIXELS
        return await self._send_coded(messages, await self._encode(messages, most), body)

    async def _encode(self, messages: Sequence[Message], most: int | None) -> dict[int, PictureCode]:
        """The codes of all pictures by their `id`. Hashing and encoding takes a tenth of a second, in which the event loop has
        better things to do; questions that come while it is under way share it."""
        running = self._encoding.setdefault(asyncio.get_running_loop(), {})
        codes = {}
        for image in pictures_in(messages):
            key = (id(image), most)
            if key not in running:
                task = asyncio.ensure_future(asyncio.to_thread(self._codes.code, image, most))
                running[key] = task, image  # held, so that its id is no other's
                task.add_done_callback(functools.partial(_drop, running, key))
            codes[id(image)] = await asyncio.shield(running[key][0])
        return codes

    async def _send_coded(
        self, messages: Sequence[Message], codes: Mapping[int, PictureCode], body: Mapping[str, object]
    ) -> dict[str, object]:
        names = {code.name for code in codes.values()}
        # Requests about one picture go to one of several servers: it has the picture, and the prefix in its cache.
        affinity = " ".join(sorted(names)) or None
        if not codes or not self._reads_by_id:
            return await self._chat(encode_messages(messages, lambda image: codes[id(image)].part()), body, affinity)
        async with self._uploads.of(names) as known:
            wire = encode_messages(messages, lambda image: codes[id(image)].part_with_uuid(bare=known))
            try:
                data = await self._chat(wire, body, affinity)
            except RefusedError as error:
                if not known or error.status not in (400, 404, 422):
                    raise
                # The server's cache has dropped the picture, or another server, which took over, never had it.
                self._uploads.forget(names)
                wire = encode_messages(messages, lambda image: codes[id(image)].part_with_uuid(bare=False))
                data = await self._chat(wire, body, affinity)
        return data

    async def _send_together(self, messages: Sequence[Message], body: Mapping[str, object]) -> dict[str, object]:
        """The server's reply to these messages, which go with others about the same pictures that wait at the same time."""
        codes = await self._encode(messages, None)
        names = frozenset(code.name for code in codes.values())
        if not names:
            return await self._send_coded(messages, codes, body)
        lines = self._lines.setdefault(asyncio.get_running_loop(), {})
        key = (names, json.dumps(body, sort_keys=True))
        if key not in lines:
            lines[key] = line = _Line(names, body)
            line.task = asyncio.ensure_future(self._answer_line(line, functools.partial(lines.pop, key)))
        question = _Question(messages, codes)
        lines[key].waiting.append(question)
        return await question.answer

    async def _answer_line(self, line: _Line, close: Callable[[], object]) -> None:
        try:
            while line.waiting:
                # The first question takes the picture along, and leaves what all share in the server's prefix cache: those of
                # one batch are computed side by side, each from the start.
                known = self._uploads.has(line.names)
                most = (BATCH if known else 1) if self._batches else len(line.waiting)
                questions = [line.waiting.popleft() for _ in range(min(most, len(line.waiting)))]
                questions = [question for question in questions if not question.answer.done()]
                if not self._batches or len(questions) < 2 or not await self._answer_batch(line, questions):
                    await asyncio.gather(*(self._answer_alone(line, question) for question in questions))
        finally:
            close()  # and whoever comes now begins another line
            for question in line.waiting:
                question.answer.cancel()

    async def _answer_alone(self, line: _Line, question: _Question) -> None:
        try:
            question.settle(await self._send_coded(question.messages, question.codes, line.body))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            question.fail(error)

    async def _answer_batch(self, line: _Line, questions: Sequence[_Question]) -> bool:
        """Whether vLLM's batch route has answered these questions, or failed with them; if not, each is to be asked alone."""
        try:
            wire = [question.wire() for question in questions]
            data = await self._post_batch(wire, line.body, " ".join(sorted(line.names)))
            replies = split_batch(data, len(questions))
        except ValueError:  # a page or a reply of another kind: some proxy's
            self._batches = False
            return False
        except Exception as error:  # noqa: BLE001 - the boundary to openai and its HTTP library
            mapped = self._server.map_error(error)
            if isinstance(mapped, RefusedError):
                if mapped.status in (404, 405, 501):
                    self._batches = False
                else:  # it may have dropped the picture, or one of the questions is at fault
                    self._uploads.forget(line.names)
                return False
            for question in questions:
                question.fail(mapped)
            return True
        for question, reply in zip(questions, replies, strict=True):
            question.settle(cast(dict[str, object], self._server.scrub_reply(reply)))
        return True

    async def _post_batch(
        self, wire: list[list[dict[str, object]]], body: Mapping[str, object], affinity: str
    ) -> object:
        fields = {rename_field(key, self._unsupported): value for key, value in body.items()}
        sent = {key: value for key, value in fields.items() if key not in self._unsupported}
        return await self._client().post(
            "/chat/completions/batch",
            body={"model": self.name, "messages": wire, **sent},
            options={"headers": {AFFINITY: affinity}},
            cast_to=object,
        )

    async def _chat(
        self, messages: list[dict[str, object]], body: Mapping[str, object], affinity: str | None = None
    ) -> dict[str, object]:
        left_out = self._unsupported
        headers = {} if affinity is None else {AFFINITY: affinity}
        while True:
            supported = {rename_field(key, left_out): value for key, value in body.items()}
            extra = {key: value for key, value in supported.items() if key not in left_out}
            if self._config.template_args and "chat_template_kwargs" not in extra:
                extra["chat_template_kwargs"] = self._config.template_args
            create = self._client().chat.completions.with_raw_response.create
            try:
                reply = await create(
                    model=self.name, messages=cast(Any, messages), extra_body=extra, extra_headers=headers
                )
                content = reply.content
                break
            except Exception as error:  # noqa: BLE001 - the boundary to openai and its HTTP library
                mapped = self._server.map_error(error)
                field = refused_field(mapped, body.keys() - left_out) if isinstance(mapped, RefusedError) else None
                if field is None:
                    raise mapped from None
                left_out = left_out | {field}
        for field in sorted(left_out - self._unsupported):
            log.warning("%s refuses `%s`; it is left out from now on", self._server.server.base_url, field)
        self._unsupported |= left_out
        try:
            data = json.loads(content.decode("utf-8"))
        except UnicodeDecodeError:
            raise BadReply(f"{self._server.said}: bytes that are not UTF-8") from None
        except (ValueError, RecursionError):
            start = self._server.scrub(content.decode()) or "nothing"
            raise BadReply(f"{self._server.said}: {start}, not JSON") from None
        if not isinstance(data, dict):
            raise BadReply(f"{self._server.said}: {type(data).__name__} instead of a JSON object")
        return cast(dict[str, object], self._server.scrub_reply(data))

    async def _tokenize(self, body: Mapping[str, object]) -> object:
        """The server's answer at /tokenize, which vLLM has beside /v1; None if that is no JSON."""
        root = self._server.server.base_url.rstrip("/").removesuffix("/v1")
        try:
            return await self._client().post(f"{root}/tokenize", body=body, cast_to=object)
        except ValueError:
            return None  # some page or other
        except Exception as error:  # noqa: BLE001 - the boundary to openai and its HTTP library
            raise self._server.map_error(error) from None

    def _client(self) -> openai.AsyncOpenAI:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = self._server.open_async(self._most)
        return self._clients[loop]

    def _model_of(self, data: Mapping[str, object]) -> str:
        model = data.get("model")
        return model if isinstance(model, str) and model else self.name


BATCH = 32
"""Most questions about a picture in one request; it counts as one of the server's `concurrency`."""


class _Question:
    """A call that waits for its answer beside others about the same pictures."""

    def __init__(self, messages: Sequence[Message], codes: Mapping[int, PictureCode]) -> None:
        self.messages = messages
        self.codes = codes
        self.answer: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    def wire(self) -> list[dict[str, object]]:
        return encode_messages(self.messages, lambda image: self.codes[id(image)].part_with_uuid(bare=True))

    def settle(self, answer: dict[str, object]) -> None:
        if not self.answer.done():  # a cancelled caller waits no more
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(eq=False)
class _Line:
    """The questions about the same pictures that wait."""

    names: frozenset[str]
    body: Mapping[str, object]
    waiting: deque[_Question] = field(default_factory=deque)
    task: asyncio.Future[None] | None = None


def split_batch(data: object, count: int) -> list[dict[str, object]]:
    """The replies in an answer of vLLM's batch route, in the order of the conversations; the first one has the tokens of all.
    Raises ValueError if it is none with `count` choices."""
    choices = data.get("choices") if isinstance(data, dict) else None
    by_index = {choice.get("index"): choice for choice in choices or () if isinstance(choice, dict)}
    if not isinstance(data, dict) or by_index.keys() != set(range(count)):
        raise ValueError("no batch of replies")
    return [data | {"choices": [by_index[at]]} | ({} if at == 0 else {"usage": {}}) for at in range(count)]


MAX_PIXELS = 3 * 2**19
"""Largest picture that is sent with each request: 1.5 megapixels. Regions in replies are fractions of the picture, or
refer to a size that the judge has chosen itself, so that they stay true."""


@dataclass(frozen=True)
class PictureCode:
    """A picture as it is sent: the hash of its pixels, and its PNG as a data address."""

    name: str
    url: str

    def part(self) -> dict[str, object]:
        return {"type": "image_url", "image_url": {"url": self.url}}

    def part_with_uuid(self, *, bare: bool) -> dict[str, object]:
        """vLLM's content part with the picture's name; `bare`: without its bytes, which the server has."""
        return {"type": "image_url", "image_url": None if bare else {"url": self.url}, "uuid": self.name}


_Encoding = dict[tuple[int, int | None], tuple[asyncio.Future[PictureCode], Image.Image]]
"""Pictures that are being encoded."""


def _drop(running: _Encoding, key: tuple[int, int | None], done: object) -> None:
    del running[key]


class PictureCodes:
    """The codes of the last few pictures, each encoded once. Safe to use from several threads."""

    KEEP = 4

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: OrderedDict[str, Future[PictureCode]] = OrderedDict()

    def code(self, image: Image.Image, most: int | None = None) -> PictureCode:
        """The code of a picture, scaled down to `most` pixels."""
        image = _shrink(image.convert("RGB"), most)
        # By what it shows, not by which object it is: an object may be painted on between two questions.
        name = hashlib.sha256(b"%dx%d " % image.size + image.tobytes()).hexdigest()
        with self._lock:
            future = self._codes.pop(name, None)
            first = future is None
            future = future or Future()
            self._codes[name] = future
            while len(self._codes) > self.KEEP:
                self._codes.popitem(last=False)
        if first:
            try:
                future.set_result(PictureCode(name, _data_url(image)))
            except BaseException as error:
                future.set_exception(error)
                with self._lock:
                    self._codes.pop(name, None)
                raise
        return future.result()


class Uploads:
    """Which pictures a server was sent. While the first request with a picture is under way, others with it wait: the
    server has it only once it has answered."""

    KEEP = 256

    def __init__(self) -> None:
        self._sent: OrderedDict[frozenset[str], bool] = OrderedDict()
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[frozenset[str], asyncio.Lock]] = (
            WeakKeyDictionary()
        )

    @asynccontextmanager
    async def of(self, names: Collection[str]) -> AsyncIterator[bool]:
        """Whether the server has these pictures. If not, the block sends them, and they count as sent if it succeeds."""
        key = frozenset(names)
        if key not in self._sent:
            locks = self._locks.setdefault(asyncio.get_running_loop(), {})
            lock = locks.setdefault(key, asyncio.Lock())
            async with lock:
                if key not in self._sent:
                    try:
                        yield False
                    finally:
                        locks.pop(key, None)
                    self._remember(key)
                    return
        yield True
        self._remember(key)

    def has(self, names: Collection[str]) -> bool:
        """Whether the server was sent these pictures."""
        return frozenset(names) in self._sent

    def forget(self, names: Collection[str]) -> None:
        self._sent.pop(frozenset(names), None)

    def _remember(self, key: frozenset[str]) -> None:
        self._sent[key] = True
        self._sent.move_to_end(key)
        while len(self._sent) > self.KEEP:
            self._sent.popitem(last=False)


def pictures_in(messages: Sequence[Message]) -> list[Image.Image]:
    """The pictures in messages, in order."""
    parts = [part for message in messages if not isinstance(message.content, str) for part in message.content]
    return [part for part in parts if isinstance(part, Image.Image)]


def encode_messages(
    messages: Sequence[Message], encode_picture: Callable[[Image.Image], dict[str, object]] | None = None
) -> list[dict[str, object]]:
    """Messages as the server takes them: what users wrote is defused, pictures are PNG data addresses unless `encode_picture`
    says otherwise. System messages are ours alone, and stay as they are."""
    encode_picture = encode_picture or (lambda image: PictureCode("", _data_url(image)).part())
    wire: list[dict[str, object]] = []
    for message in messages:
        content: object
        if message.role == "system" and isinstance(message.content, str):
            content = message.content
        elif isinstance(message.content, str):
            content = defuse(message.content)
        else:
            content = [
                {"type": "text", "text": defuse(part)} if isinstance(part, str) else encode_picture(part)
                for part in message.content
            ]
        wire.append({"role": message.role, "content": content})
    return wire


def defuse(text: str) -> str:
    """`text` with a space put into what spells a special token. Servers such as vLLM read those inside messages too, so
    that a user's text, or a picture's, could end its own turn and open another's."""
    return _SPECIAL.sub(r"\g<0> ", text)


def _shrink(image: Image.Image, most: int | None) -> Image.Image:
    if most is None or image.width * image.height <= most:
        return image
    scale = (most / (image.width * image.height)) ** 0.5
    size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def read_message(message: Mapping[str, object]) -> tuple[str | None, str | None]:
    """A message's text and the reasoning that the server split off. Content may come as a list of parts, some of which
    are thoughts. The text is None if it cannot be read."""
    content = message.get("content") or ""
    reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
    if isinstance(content, list):
        thoughts = [_part_text(part.get("thinking")) for part in content if _is_part(part, "thinking")]
        texts = [part.get("text") for part in content if _is_part(part, "text")]
        if not all(isinstance(part, dict) for part in content) or not all(isinstance(text, str) for text in texts):
            return None, None
        content, reasoning = "".join(map(str, texts)), reasoning or "\n".join(thoughts)
    if not isinstance(content, str) or not isinstance(reasoning, str):
        return None, None
    return with_think_tags(content), reasoning or None


def _is_part(part: object, kind: str) -> bool:
    return isinstance(part, dict) and part.get("type") == kind


def _part_text(thinking: object) -> str:
    if isinstance(thinking, list):
        return "".join(str(part.get("text", "")) for part in thinking if isinstance(part, dict))
    return str(thinking or "")


OPTIONAL = ("response_format", "seed", "top_p", "temperature", "max_tokens")
"""Fields that are left out (max_tokens: rename_field) if a server refuses them, the one to give up first at the front."""

_REFUSES = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|extra|not permitted|not allowed|unavailable|cannot"
    r"|can't|deprecated|max_completion_tokens",
    re.IGNORECASE,
)


def refused_field(error: RefusedError, sent: Collection[str]) -> str | None:
    """The field that a server refuses with a 400 or 422, whatever the shape of its error; None if it names none."""
    if error.status not in (400, 422) or not _REFUSES.search(error.fields):
        return None
    return next((name for name in OPTIONAL if name in sent and re.search(rf"\b{name}\b", error.fields)), None)


def rename_field(key: str, unsupported: frozenset[str]) -> str:
    return "max_completion_tokens" if key == "max_tokens" and key in unsupported else key


def token_counts(data: Mapping[str, object]) -> tuple[int, int]:
    """(prompt tokens, completion tokens) of a reply; 0 for what the server does not say."""
    usage = data.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return (prompt if type(prompt) is int else 0, completion if type(completion) is int else 0)


def first_logprobs(choice: Mapping[str, object]) -> dict[str, float]:
    """Token string to log probability at the first reply token; empty if there are none. Raises ValueError."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    entries = first.get("top_logprobs") if isinstance(first, dict) else None
    found: dict[str, float] = {}
    for entry in entries if isinstance(entries, list) else ():
        token, value = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        # A rounding error above 0 is let pass; NaN is not.
        if not isinstance(token, str) or not isinstance(value, int | float) or not value <= 1e-3:
            raise ValueError(f"{entry} for a log probability")
        found[token] = max(min(float(value), 0.0), NEVER)
    return found


def why_empty(choice: Mapping[str, object], message: Mapping[str, object], max_tokens: int) -> str:
    if str(choice.get("finish_reason")).lower() in ("length", "max_tokens"):
        return f"all of max_tokens = {max_tokens} went into its reasoning; raise it"
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        return "it declined"
    return f"finish_reason {choice.get('finish_reason')!r}"
