"""A server of rewards: trainers on other machines send replies of their rewriters and get their rewards.

    python -m rewriter.train.reward_server --config FILE.yaml [--host 0.0.0.0] [--port 8100]

The YAML file holds the settings of `ServerArguments` and `RewardArguments`. Requests that wait while others are scored
are scored together, so that the generator's batches are full whoever asks; and the next lot is drawn while one is
judged. What is said over the wire is told in this module; HTTP is the standard library's. How many
failed judgements are too many is each trainer's business (`max_failed`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import http.client
import io
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import urlsplit

from PIL import Image, UnidentifiedImageError
from pydantic import TypeAdapter, ValidationError

from redraft.errors import (
    BackendError,
    BadReply,
    ConfigError,
    InputError,
    ModelMissing,
    RedraftError,
    ServerError,
    one_line,
)
from redraft.images import MAX_PIXELS
from redraft.training import console, run, setting
from rewriter.train.image_reward import (
    RewardArguments,
    RewardSample,
    RewardSource,
    ScoredSample,
    Scores,
    Wish,
    open_reward,
    too_many_failed,
)
from rewriter.train.script import first_mistake, settings_of

MAX_SAMPLES = 8192
"""Samples, and pictures, of one request."""
MAX_REQUEST = 64 * 2**20
MAX_REPLY = 256 * 2**20


@dataclass(frozen=True)
class ScoreRequest:
    samples: tuple[RewardSample, ...]


@dataclass(frozen=True)
class DrawRequest:
    wishes: tuple[Wish, ...]


@dataclass(frozen=True)
class DrawReply:
    pictures: tuple[str | None, ...]


SCORE = TypeAdapter(ScoreRequest)
SCORES = TypeAdapter(Scores)
DRAW = TypeAdapter(DrawRequest)
DRAWN = TypeAdapter(DrawReply)


def packed(image: Image.Image | None) -> str | None:
    """A picture as PNG in base64."""
    if image is None:
        return None
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def unpacked(text: str | None) -> Image.Image | None:
    """The picture in `packed` text. Raises ValueError where there is none."""
    if text is None:
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"a picture of {image.width} x {image.height} pixels")
            return image.convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"something that is no PNG picture ({error})") from error


_IDLE_S = 60.0
"""How long a connection may keep silent in the middle of a request."""


@dataclass
class ServerArguments:
    """Where the server listens, and to whom."""

    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 for all."})
    port: int = field(default=8100, metadata={"help": "Port to listen on; 0 for any that is free."})
    token_env: str | None = field(
        default=None, metadata={"help": "NAME of the environment variable with the token that requests must carry."}
    )
    style: str | None = field(
        default=None, metadata={"help": "The rewriter style whose guard settings count; none: the profile's."}
    )
    target: str | None = field(default=None, metadata={"help": "The image model's target; none: the profile's."})
    together: int = field(default=512, metadata={"help": "Samples that are scored together, at most."})

    def __post_init__(self) -> None:
        if self.together < 1:
            raise ValueError(f"together must be at least 1, not {self.together}")


@dataclass(frozen=True)
class _Job:
    samples: tuple[RewardSample, ...]
    answer: Future[Scores] = field(default_factory=Future)


class RewardService:
    """Scores for many callers at once. `score` and `draw` may be called from any thread; they raise RedraftError."""

    def __init__(self, source: RewardSource, together: int = 512) -> None:
        self._source = source
        self._together = together
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._under_way = 0
        self._count = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._lots = asyncio.Semaphore(2)  # one is drawn while another is judged
        self._thread = threading.Thread(target=self._loop.run_forever, name="rewards", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Samples that wait or are being scored."""
        return self._under_way

    def score(self, samples: Sequence[RewardSample]) -> Scores:
        """The rewards of `samples`. Times and `cached` are those of all that was scored together with them."""
        job = _Job(tuple(samples))
        self._add(len(job.samples))
        try:
            self._jobs.put(job)
            asyncio.run_coroutine_threadsafe(self._score_waiting(), self._loop)
            return job.answer.result()
        finally:
            self._add(-len(job.samples))

    def draw(self, wishes: Sequence[Wish]) -> DrawReply:
        """The pictures of the wishes."""
        drawn = asyncio.run_coroutine_threadsafe(self._source.draw(wishes), self._loop).result()
        return DrawReply(tuple(packed(image) for image in drawn))

    def close(self) -> None:
        """Stops at once; who waits gets no answer."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._source.close()

    def _add(self, count: int) -> None:
        with self._count:
            self._under_way += count

    async def _score_waiting(self) -> None:
        async with self._lots:
            jobs = self._lot()
            if not jobs:
                return  # those before took it along
            try:
                scores = await self._source([sample for job in jobs for sample in job.samples])
            except Exception as error:  # noqa: BLE001 - whatever happens, somebody waits for an answer
                for job in jobs:
                    job.answer.set_exception(error)
                return
            for job, own in zip(jobs, split(scores, [job.samples for job in jobs]), strict=True):
                job.answer.set_result(own)

    def _lot(self) -> list[_Job]:
        jobs: list[_Job] = []
        while not self._jobs.empty() and sum(len(job.samples) for job in jobs) < self._together:
            jobs.append(self._jobs.get())
        return jobs


def split(scores: Scores, callers: Sequence[Sequence[RewardSample]]) -> list[Scores]:
    """The scores of each caller's samples, among those of all callers together.

    Judgements and failures are counted for each caller: over distinct rewrites, as `ImageReward` counts them. `cached`
    and the times are those of the whole; reasons for failure are told to all who had one.
    """
    left = iter(scores.samples)
    return [_own(scores, samples, tuple(next(left) for _ in samples)) for samples in callers]


def _own(scores: Scores, samples: Sequence[RewardSample], scored: tuple[ScoredSample, ...]) -> Scores:
    distinct = {(sample.prompt, one.rewrite): one for sample, one in zip(samples, scored, strict=True)}.values()
    failed = sum(one.failed for one in distinct)
    reasons = scores.reasons if failed else ()
    judgements = sum(one.pictures for one in distinct)
    return replace(scores, samples=scored, judgements=judgements, failed=failed, reasons=reasons)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], service: RewardService, token: str | None) -> None:
        super().__init__(address, _Handler)
        self.service = service
        self.token = token

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A trainer that hung up is no mistake of ours; anything else is told with its traceback."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _RefusedError(Exception):
    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    server: _Server

    def do_GET(self) -> None:
        self._answer({"/health": lambda: json.dumps({"ok": True, "waiting": self.server.service.waiting}).encode()})

    def do_POST(self) -> None:
        self._answer({"/score": self._score, "/draw": self._draw})

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line for each request."""

    def _answer(self, ways: dict[str, Callable[[], bytes]]) -> None:
        status = 200
        try:
            self._let_in()
            if self.path not in ways:
                raise _RefusedError(404, f"there is no {self.command} {one_line(self.path)} here")
            body = ways[self.path]()
        except _RefusedError as error:
            status, body = error.status, _error(error)
        except ModelMissing as error:
            status, body = 500, _error(error)
        except RedraftError as error:
            status, body = 503, _error(error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not leave the trainer without an answer
            status, body = 500, _error(f"{type(error).__name__}: {error}")
        if status != 200:
            self.close_connection = True  # what is left of the request is not read
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _let_in(self) -> None:
        token = self.server.token
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            raise _RefusedError(401, "the token is missing or wrong: send it as Authorization: Bearer TOKEN")

    def _body(self) -> bytes:
        told = self.headers.get("Content-Length", "")
        if not told.isdecimal():
            raise _RefusedError(411, "a request needs its Content-Length")
        if int(told) > MAX_REQUEST:
            raise _RefusedError(413, f"a request may have {MAX_REQUEST >> 20} MiB; send fewer samples")
        return self.rfile.read(int(told))

    def _score(self) -> bytes:
        try:
            samples = SCORE.validate_json(self._body()).samples
        except ValidationError as error:
            raise _RefusedError(400, f"that is no request for scores: {first_mistake(error, 'body')}") from None
        _few(len(samples))
        return SCORES.dump_json(self.server.service.score(samples))

    def _draw(self) -> bytes:
        try:
            wishes = DRAW.validate_json(self._body()).wishes
        except ValidationError as error:
            raise _RefusedError(400, f"that is no request for pictures: {first_mistake(error, 'body')}") from None
        _few(len(wishes))
        return DRAWN.dump_json(self.server.service.draw(wishes))


def _few(count: int) -> None:
    if count > MAX_SAMPLES:
        raise _RefusedError(413, f"a request may have {MAX_SAMPLES} samples, not {count}")


def _error(error: object) -> bytes:
    return json.dumps({"error": one_line(error)}).encode()


def make_server(source: RewardSource, args: ServerArguments) -> _Server:
    """A server that listens but does not answer yet (`serve_forever`); `server_address` tells the port.

    Raises ConfigError where the token's variable is not set, InputError where nobody may listen there.
    """
    token = None
    if args.token_env is not None:
        token = os.environ.get(args.token_env)
        if not token:
            raise ConfigError(f"the environment variable {args.token_env} is not set; export it with a token")
    service = RewardService(source, args.together)
    try:
        return _Server((args.host, args.port), service, token)
    except (OSError, OverflowError) as error:
        service.close()
        raise InputError(f"cannot listen on {args.host}:{args.port}: {error}; choose another --port") from error


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` in place of the process's own arguments. Returns the exit code."""
    return run(serve, argv)


def serve(argv: Sequence[str]) -> None:
    """Serves until SIGINT or SIGTERM. Raises ConfigError, InputError, ModelMissing."""
    args, rewarding = settings_of((ServerArguments, RewardArguments), argv, "python -m rewriter.train.reward_server")
    server = make_server(open_reward(rewarding, args.style, args.target, max_failed=1.0), args)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console.print(f"rewards of profile {rewarding.profile} on http://{args.host}:{server.server_port}")
    if args.token_env is None and not args.host.startswith(("127.", "localhost")):
        console.print("warning: without token_env anybody who reaches this port may use the models")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        console.print("stopped")
    finally:
        server.server_close()
        server.service.close()


@dataclass
class RemoteArguments:
    """Where rewards come from, if not from models in this process."""

    reward_url: str | None = setting(None, "Address of a reward server, in place of `profile`.")
    reward_token_env: str | None = setting(None, "NAME of the environment variable with the server's token.")
    reward_timeout_s: float = setting(1800.0, "How long one step's rewards may take.")
    max_failed: float = setting(0.2, "Above this share of failed judgements in a step, training stops.")


def only_here(args: RewardArguments) -> None:
    """Refuses settings that a reward server decides. Raises ConfigError."""
    plain = RewardArguments()
    changed = [f.name for f in fields(args) if getattr(args, f.name) != getattr(plain, f.name)]
    if changed:
        raise ConfigError(f"with reward_url, the reward server decides {', '.join(changed)}; set it there, not here")


T = TypeVar("T")
_TRIES = 6
"""A server that starts anew has about a minute for it."""


class RemoteReward:
    """A RewardSource behind `url`. Proxies of the environment are not asked: reward servers stand in the same network.

    A server that cannot be reached, or is busy (503), is tried again after waits that double from 2 s. Calls raise
    ServerError after that, BadReply for replies that are none, and BackendError above `max_failed`. Raises ConfigError,
    when made, for an address that is none, and where `token_env` names a variable that is not set.
    """

    def __init__(
        self,
        url: str,
        *,
        token_env: str | None = None,
        timeout_s: float = 1800.0,
        max_failed: float = 0.2,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"reward_url {url!r} is no address: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigError("reward_url must be scheme, host and port, such as http://10.0.0.5:8100")
        self._url, self._host, self._port = url.rstrip("/"), parts.hostname, port
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._path = parts.path.rstrip("/")
        self._token = _token(token_env)
        self._timeout_s = timeout_s
        self._max_failed = max_failed
        self._sleep = sleep

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        """The rewards of `samples`, in order."""
        scores = await self._post("/score", SCORE.dump_json(ScoreRequest(tuple(samples))), SCORES)
        if len(scores.samples) != len(samples):
            raise BadReply(f"{self._url} answered {len(scores.samples)} rewards for {len(samples)} rewrites")
        if scores.failed > self._max_failed * scores.judgements:
            last = scores.reasons[-1] if scores.reasons else "not told"
            raise too_many_failed(scores.failed, scores.judgements, self._max_failed, last)
        return scores

    async def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]:
        """The pictures of the wishes, in order."""
        reply = await self._post("/draw", DRAW.dump_json(DrawRequest(tuple(wishes))), DRAWN)
        try:
            pictures = [unpacked(text) for text in reply.pictures]
        except ValueError as error:
            raise BadReply(f"{self._url} answered {error}") from error
        if len(pictures) != len(wishes):
            raise BadReply(f"{self._url} answered {len(pictures)} pictures for {len(wishes)} rewrites")
        return pictures

    def close(self) -> None:
        """Nothing is held from call to call."""

    async def _post(self, path: str, body: bytes, kind: TypeAdapter[T]) -> T:
        for attempt in range(1, _TRIES + 1):
            try:
                status, data = await asyncio.to_thread(self._send, path, body)
            except (OSError, http.client.HTTPException) as error:
                trouble = f"cannot be reached ({one_line(error)}); start it, or check reward_url"
            else:
                if status == 200:
                    return self._read(data, kind)
                said = _error_in(data)
                if status == 401:
                    raise ConfigError(f"the reward server {self._url} wants its token: set reward_token_env ({said})")
                if status != 503:
                    raise BackendError(f"the reward server {self._url} answered {status}: {said}")
                trouble = f"answered {status}: {said}"
            if attempt < _TRIES:
                await self._sleep(2.0**attempt)
        raise ServerError(f"the reward server {self._url} {trouble}; gave up after {_TRIES} tries")

    def _send(self, path: str, body: bytes) -> tuple[int, bytes]:
        link = self._kind(self._host, self._port, timeout=self._timeout_s)
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            link.request("POST", self._path + path, body, headers)
            response = link.getresponse()
            return response.status, response.read(MAX_REPLY + 1)
        finally:
            link.close()

    def _read(self, data: bytes, kind: TypeAdapter[T]) -> T:
        if len(data) > MAX_REPLY:
            raise BadReply(f"the reward server {self._url} answered with more than {MAX_REPLY >> 20} MiB")
        try:
            return kind.validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadReply(
                f"{self._url} gave a reply that is none of a reward server ({first['loc']}: {first['msg']}); check "
                f"reward_url, and that both sides have the same version of redraft"
            ) from None


def _token(token_env: str | None) -> str | None:
    if token_env is None:
        return None
    token = os.environ.get(token_env)
    if not token:
        raise ConfigError(f"the environment variable {token_env} is not set; export it with the server's token")
    return token


def _error_in(data: bytes) -> str:
    try:
        return one_line(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        return one_line(data[:200].decode("utf-8", "replace"))


def open_source(args: RewardArguments, remote: RemoteArguments, style: str, target: str | None) -> RewardSource:
    """What the trainer gets rewards from. Models load, and servers are asked, at the first call.

    Raises ConfigError for settings that contradict each other, and as `open_reward`.
    """
    if remote.reward_url is None:
        return open_reward(args, style, target, max_failed=remote.max_failed)
    only_here(args)

    return RemoteReward(
        remote.reward_url,
        token_env=remote.reward_token_env,
        timeout_s=remote.reward_timeout_s,
        max_failed=remote.max_failed,
    )


if __name__ == "__main__":
    raise SystemExit(main())
