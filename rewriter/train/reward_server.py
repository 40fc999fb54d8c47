"""A server of rewards, and its client: trainers on other machines send replies of their rewriters and get rewards.

    python -m rewriter.train.reward_server --config FILE.yaml [--host 0.0.0.0] [--port 8100]

    POST /score   {"samples": [RewardSample, ...]}    -> Scores
    POST /draw    {"wishes": [Wish, ...]}             -> {"pictures": [PNG in base64 or null, ...]}
    POST /images  {"prompts": [request, ...], "images": [PNG in base64, ...]}
                  -> {"scores": [number or null, ...], "readings": [{criterion: number or null}, ...]}
    GET  /health                                      -> {"ok": true, "waiting": samples that wait or are being scored}

The first two are JSON of the reward's own dataclasses. `/images` scores pictures that others drew, by the same checklists
and criteria, in the shape in which trainers of image models ask their reward services (`evaluator.criteria.http` is its
client); pictures of one request are one group. An error is {"error": what is wrong and how to mend it} with a status of
400 or above; 503 is worth another try.

The YAML file holds the settings of `ServerArguments` and `RewardArguments`. Samples that wait while others are scored are
scored together, so that the generator's batches are full no matter how many trainers ask; and the next lot is drawn while
one is judged. How many failed judgements are too many is up to each trainer (`max_failed`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import io
import json
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar
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
from redraft.extras import require
from redraft.images import MAX_PIXELS
from redraft.profiles import read_key
from redraft.servers import Fleet
from redraft.training import console, run, setting
from rewriter.target import Target
from rewriter.train.image_reward import (
    PictureRater,
    RewardArguments,
    RewardSample,
    RewardSource,
    ScoredSample,
    Scores,
    Wish,
    open_image_reward,
    too_many_failed,
)
from rewriter.train.rewards import alignment
from rewriter.train.script import first_mistake, settings_of

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

T = TypeVar("T")

MAX_SAMPLES = 8192
"""Samples, or pictures, of one request."""
MAX_REQUEST = 64 * 2**20
MAX_REPLY = 256 * 2**20
_IDLE_S = 60.0
"""How long a connection may be silent in the middle of a request."""
_TRIES = 6
"""Gives a server about a minute to restart."""


@dataclass(frozen=True)
class ScoreRequest:
    samples: tuple[RewardSample, ...]


@dataclass(frozen=True)
class DrawRequest:
    wishes: tuple[Wish, ...]


@dataclass(frozen=True)
class DrawReply:
    pictures: tuple[str | None, ...]


@dataclass(frozen=True)
class RateRequest:
    prompts: tuple[str, ...]
    images: tuple[str, ...]


SCORE = TypeAdapter(ScoreRequest)
RATE = TypeAdapter(RateRequest)
SCORES = TypeAdapter(Scores)
DRAW = TypeAdapter(DrawRequest)
DRAWN = TypeAdapter(DrawReply)


def pack_picture(image: Image.Image | None) -> str | None:
    """A picture as PNG in base64."""
    if image is None:
        return None
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def unpack_picture(text: str | None) -> Image.Image | None:
    """The picture that `pack_picture` packed. Raises ValueError if the text holds none."""
    if text is None:
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"a picture of {image.width} x {image.height} pixels")
            return image.convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"something that is no PNG picture ({error})") from error


# The server


@dataclass
class ServerArguments:
    """Where the server listens, and to whom."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 for all.")
    port: int = setting(8100, "Port to listen on; 0 for any free one.")
    token_env: str | None = setting(None, "NAME of the environment variable with the token that requests must carry.")
    style: str | None = setting(None, "The rewriter style whose guard settings count; if not set, the profile's.")
    target: str | None = setting(None, "The image model's target; if not set, the profile's.")
    together: int = setting(512, "Most samples that are scored together.")

    def __post_init__(self) -> None:
        if self.together < 1:
            raise ValueError(f"together must be at least 1, not {self.together}")


@dataclass(frozen=True)
class _WaitingSamples:
    samples: tuple[RewardSample, ...]
    answer: asyncio.Future[Scores]


class RewardQueue:
    """Scores the samples of many callers in common lots. Belongs to one event loop."""

    def __init__(self, source: RewardSource, together: int = 512) -> None:
        self.under_way = 0
        """Samples that wait or are being scored."""
        self._source = source
        self._together = together
        self._waiting: deque[_WaitingSamples] = deque()
        self._lots = asyncio.Semaphore(2)  # one is drawn while another is judged
        self._tasks: set[asyncio.Task[None]] = set()

    async def score(self, samples: Sequence[RewardSample]) -> Scores:
        """The rewards of `samples`. Times and `cached` are those of the whole lot. Raises RedraftError."""
        waiting = _WaitingSamples(tuple(samples), asyncio.get_running_loop().create_future())
        self.under_way += len(samples)
        try:
            self._waiting.append(waiting)
            task = asyncio.create_task(self._score_lot())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return await waiting.answer
        finally:
            self.under_way -= len(samples)

    async def _score_lot(self) -> None:
        async with self._lots:
            lot = self._take_lot()
            if not lot:
                return  # an earlier lot took it along
            try:
                scores = await self._source([sample for waiting in lot for sample in waiting.samples])
                parts = split(scores, [waiting.samples for waiting in lot])
            except Exception as error:  # noqa: BLE001 - whatever happens, somebody waits for an answer
                for waiting in lot:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                return
            for waiting, part in zip(lot, parts, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(part)

    def _take_lot(self) -> list[_WaitingSamples]:
        lot: list[_WaitingSamples] = []
        while self._waiting and sum(len(waiting.samples) for waiting in lot) < self._together:
            lot.append(self._waiting.popleft())
        return lot


def split(scores: Scores, callers: Sequence[Sequence[RewardSample]]) -> list[Scores]:
    """The scores of each caller's samples, out of those of all callers together.

    Judgements and failures are counted for each caller: over distinct prompts, as `ImageReward` counts them. `cached`
    and the times are those of the whole; the reasons for failures go to every caller that had one.
    """
    rest = iter(scores.samples)
    return [_part(scores, samples, tuple(next(rest) for _ in samples)) for samples in callers]


def _part(scores: Scores, samples: Sequence[RewardSample], scored: tuple[ScoredSample, ...]) -> Scores:
    distinct = {(sample.request, result.prompt): result for sample, result in zip(samples, scored, strict=True)}
    failed = sum(result.failed for result in distinct.values())
    return replace(
        scores,
        samples=scored,
        judgements=sum(result.pictures for result in distinct.values()),
        failed=failed,
        reasons=scores.reasons if failed else (),
    )


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(source: RewardSource, token: str | None, together: int, rater: PictureRater | None = None) -> FastAPI:
    """The server's routes. With a `token`, every request has to carry it; pictures are scored if there is a `rater`."""
    from fastapi import FastAPI, Response

    queue = RewardQueue(source, together)

    async def health(request: Request) -> bytes:
        return json.dumps({"ok": True, "waiting": queue.under_way}).encode()

    async def score(request: Request) -> bytes:
        samples = (await _read_body(request, SCORE, "scores")).samples
        _check_count(len(samples))
        return await asyncio.to_thread(SCORES.dump_json, await queue.score(samples))

    async def draw(request: Request) -> bytes:
        wishes = (await _read_body(request, DRAW, "pictures")).wishes
        _check_count(len(wishes))
        pictures = await source.draw(wishes)
        return await asyncio.to_thread(lambda: DRAWN.dump_json(DrawReply(tuple(map(pack_picture, pictures)))))

    async def images(request: Request) -> bytes:
        if rater is None:
            raise _RefusedError(404, "this server scores no pictures")
        asked = await _read_body(request, RATE, "pictures to score")
        _check_count(len(asked.images))
        if len(asked.prompts) != len(asked.images):
            raise _RefusedError(400, f"{len(asked.prompts)} prompts for {len(asked.images)} images; send one for each")
        try:
            pictures = await asyncio.to_thread(lambda: [unpack_picture(text) for text in asked.images])
        except ValueError as error:
            raise _RefusedError(400, f"images hold {error}") from None
        rated = await rater.rate(asked.prompts, [picture for picture in pictures if picture is not None])
        scores = [alignment(report, standing.value) for report, standing in rated]
        readings = [{name: r.value for name, r in (*a.readings.items(), *b.readings.items())} for a, b in rated]
        return json.dumps({"scores": scores, "readings": readings}).encode()

    async def no_route(request: Request, error: Exception) -> Response:
        return refuse(404, f"there is no {request.method} {one_line(request.url.path)} here")

    def refuse(status: int, message: object) -> Response:
        body = json.dumps({"error": one_line(message)})
        # The rest of the request is not read.
        return Response(body, status, {"Connection": "close"}, media_type="application/json")

    def answer_with(handle: Callable[[Request], Awaitable[bytes]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                _check_token(request, token)
                return Response(await handle(request), media_type="application/json")
            except _RefusedError as error:
                return refuse(error.status, error)
            except ModelMissing as error:
                return refuse(500, error)
            except RedraftError as error:
                return refuse(503, error)
            except Exception as error:  # noqa: BLE001 - a bug here must not leave the trainer without an answer
                return refuse(500, f"{type(error).__name__}: {error}")

        return answer

    app = FastAPI(openapi_url=None, exception_handlers={404: no_route, 405: no_route})
    app.add_route("/health", answer_with(health), methods=["GET"])
    app.add_route("/score", answer_with(score), methods=["POST"])
    app.add_route("/draw", answer_with(draw), methods=["POST"])
    app.add_route("/images", answer_with(images), methods=["POST"])
    return app


def _check_token(request: Request, token: str | None) -> None:
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token is not None and not hmac.compare_digest(sent.encode(), token.encode()):
        raise _RefusedError(401, "the token is missing or wrong: send it as Authorization: Bearer TOKEN")


def _check_count(count: int) -> None:
    if count > MAX_SAMPLES:
        raise _RefusedError(413, f"a request may have {MAX_SAMPLES} samples, not {count}")


async def _read_body(request: Request, kind: TypeAdapter[T], what: str) -> T:
    length = request.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise _RefusedError(411, "a request needs its Content-Length")
    if int(length) > MAX_REQUEST:
        raise _RefusedError(413, f"a request may have {MAX_REQUEST >> 20} MiB; send fewer samples")
    chunks = []
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_IDLE_S) as limit:
            async for chunk in request.stream():
                chunks.append(chunk)
                limit.reschedule(loop.time() + _IDLE_S)
    except TimeoutError:
        raise _RefusedError(408, f"the request was silent for {_IDLE_S:.0f} seconds") from None
    try:
        return await asyncio.to_thread(kind.validate_json, b"".join(chunks))
    except ValidationError as error:
        raise _RefusedError(400, f"that is no request for {what}: {first_mistake(error, 'body')}") from None


class RewardServer:
    """A server that listens as soon as it is made, and answers while `run` runs. `port` is where.

    Raises ConfigError if the token's variable is not set, InputError if the address cannot be listened on, MissingExtra.
    """

    def __init__(self, source: RewardSource, args: ServerArguments, rater: PictureRater | None = None) -> None:
        require("serve", "the reward server answers over HTTP", "fastapi", "uvicorn")
        import uvicorn

        self._source = source
        token = None if args.token_env is None else read_key(args.token_env, "a token")
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        try:
            self._socket = socket.create_server((args.host, args.port), family=family, backlog=128)
        except (OSError, OverflowError) as error:
            raise InputError(f"cannot listen on {args.host}:{args.port}: {error}; choose another --port") from error
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            make_app(source, token, args.together, rater),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Answers until `stop`, SIGINT or SIGTERM (which it passes on). Callers that still wait get no answer."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self._source.close()

    def stop(self) -> None:
        """Ends `run`, from any thread."""
        self._server.should_exit = True


# The client


@dataclass
class RemoteArguments:
    """Where rewards come from, if not from models in this process."""

    reward_url: str | None = setting(
        None, "Address of a reward server, instead of `profile`; several, with commas between them, share the samples."
    )
    reward_token_env: str | None = setting(None, "NAME of the environment variable with the server's token.")
    reward_timeout_s: float = setting(1800.0, "Most seconds that the rewards of one step may take.")
    max_failed: float = setting(0.2, "Training stops if more than this share of a step's judgements fail.")


class RemoteReward:
    """A RewardSource behind `url`, or behind several of them with commas between: they share the samples, those of one request
    on one server, and if one does not work, another does its part. Proxies named in the environment are not used: reward
    servers are in the same network.

    If the server cannot be reached or is busy (503), it is asked again after waits that double from 2 s. Calls then raise
    ServerError; BadReply for replies that make no sense, and BackendError above `max_failed`. The constructor raises
    ConfigError for an address that is none, and if `token_env` names a variable that is not set.
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
        addresses = [address.strip() for address in url.split(",") if address.strip()] or [url]
        for address in addresses:
            try:
                parts = urlsplit(address)
                _ = parts.port
            except ValueError as error:
                raise ConfigError(f"reward_url {address!r} is no address: {error}") from None
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
                raise ConfigError("reward_url must be scheme, host and port, such as http://10.0.0.5:8100")
        self._url = url.rstrip("/")
        self._fleet = Fleet([address.rstrip("/") for address in addresses])
        self._headers = {"Content-Type": "application/json"}
        if token_env is not None:
            self._headers["Authorization"] = "Bearer " + read_key(token_env, "the server's token")
        self._timeout_s = timeout_s
        self._max_failed = max_failed
        self._sleep = sleep

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        """The rewards of `samples`, in order."""
        parts = self._share([sample.request for sample in samples])
        bodies = [SCORE.dump_json(ScoreRequest(tuple(samples[at] for at in part))) for part in parts]
        replies = await asyncio.gather(*(self._post("/score", body, SCORES) for body in bodies))
        scores = join_scores(replies, parts, len(samples), self._url)
        if scores.failed > self._max_failed * scores.judgements:
            last = scores.reasons[-1] if scores.reasons else "not given"
            raise too_many_failed(scores.failed, scores.judgements, self._max_failed, last)
        return scores

    def _share(self, requests: Sequence[str]) -> list[list[int]]:
        """The places of samples, a part for each server; all samples of a request are in one part."""
        groups: dict[str, list[int]] = {}
        for at, request in enumerate(requests):
            groups.setdefault(request, []).append(at)
        parts: list[list[int]] = [[] for _ in range(len(self._fleet))]
        for group in sorted(groups.values(), key=len, reverse=True):
            min(parts, key=len).extend(group)
        return [sorted(part) for part in parts if part] or [[]]

    async def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]:
        """The pictures of the wishes, in order."""
        reply = await self._post("/draw", DRAW.dump_json(DrawRequest(tuple(wishes))), DRAWN)
        try:
            pictures = [unpack_picture(text) for text in reply.pictures]
        except ValueError as error:
            raise BadReply(f"{self._url} answered {error}") from error
        if len(pictures) != len(wishes):
            raise BadReply(f"{self._url} answered {len(pictures)} pictures for {len(wishes)} prompts")
        return pictures

    def close(self) -> None:
        """Does nothing: no connection is kept from call to call."""

    async def _post(self, path: str, body: bytes, kind: TypeAdapter[T]) -> T:
        import httpx

        for attempt in range(1, _TRIES + 1):
            at = self._fleet.take()
            try:
                status, data = await self._send(self._fleet.address(at) + path, body)
            except httpx.TransportError as error:
                self._fleet.failed(at)
                reason = one_line(error) or type(error).__name__
                trouble = f"cannot be reached ({reason}); start it, or check reward_url"
            else:
                if status == 200:
                    self._fleet.answered(at)
                    return self._parse(data, kind)
                message = _error_in(data)
                if status == 401:
                    raise ConfigError(
                        f"the reward server {self._url} wants its token: set reward_token_env ({message})"
                    )
                if status != 503:
                    raise BackendError(f"the reward server {self._url} answered {status}: {message}")
                self._fleet.failed(at)
                trouble = f"answered {status}: {message}"
            finally:
                self._fleet.give_back(at)
            if attempt < _TRIES and not self._fleet.has_other([at]):
                await self._sleep(2.0**attempt)
        raise ServerError(f"the reward server {self._url} {trouble}; gave up after {_TRIES} tries")

    async def _send(self, url: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body, of which no more than MAX_REPLY + 1 bytes or so are read."""
        import httpx

        chunks: list[bytes] = []
        size = 0
        async with (
            httpx.AsyncClient(timeout=self._timeout_s, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=self._headers) as response,
        ):
            async for chunk in response.aiter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_REPLY:
                    break
            return response.status_code, b"".join(chunks)

    def _parse(self, data: bytes, kind: TypeAdapter[T]) -> T:
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


def join_scores(replies: Sequence[Scores], parts: Sequence[Sequence[int]], count: int, place: str) -> Scores:
    """The scores of servers that shared samples, in the order of the samples: `parts` has the places of each reply's. Counts
    are summed; as the servers work at the same time, the times are the longest ones. Raises BadReply."""
    samples: list[ScoredSample | None] = [None] * count
    for reply, part in zip(replies, parts, strict=True):
        if len(reply.samples) != len(part):
            raise BadReply(f"{place} answered {len(reply.samples)} rewards for {len(part)} samples")
        for at, sample in zip(part, reply.samples, strict=True):
            samples[at] = sample
    return Scores(
        samples=tuple(sample for sample in samples if sample is not None),
        judgements=sum(reply.judgements for reply in replies),
        failed=sum(reply.failed for reply in replies),
        cached=sum(reply.cached for reply in replies),
        reasons=tuple(dict.fromkeys(reason for reply in replies for reason in reply.reasons)),
        draw_s=max(reply.draw_s for reply in replies),
        judge_s=max(reply.judge_s for reply in replies),
        wall_s=max(reply.wall_s for reply in replies),
        weights=replies[0].weights,
    )


def _error_in(data: bytes) -> str:
    try:
        return one_line(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        return one_line(data[:200].decode("utf-8", "replace"))


def open_source(
    args: RewardArguments, remote: RemoteArguments, style: str, target: str | Target | None
) -> RewardSource:
    """What the trainer gets rewards from: models in this process, or a server. Models load, and servers are asked, at the
    first call.

    Raises ConfigError for settings that contradict each other, and what `open_image_reward` raises.
    """
    if remote.reward_url is None:
        return open_image_reward(args, style, target, max_failed=remote.max_failed)
    plain = RewardArguments()
    changed = [f.name for f in fields(args) if getattr(args, f.name) != getattr(plain, f.name)]
    if changed:
        raise ConfigError(f"with reward_url, the reward server decides {', '.join(changed)}; set it there, not here")
    return RemoteReward(
        remote.reward_url,
        token_env=remote.reward_token_env,
        timeout_s=remote.reward_timeout_s,
        max_failed=remote.max_failed,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` defaults to the process's arguments. Returns the exit code."""
    return run(serve, argv)


def serve(argv: Sequence[str]) -> None:
    """Serves until SIGINT or SIGTERM. Raises ConfigError, InputError, ModelMissing, MissingExtra."""
    arguments: tuple[Any, ...] = settings_of(
        (ServerArguments, RewardArguments), argv, "python -m rewriter.train.reward_server"
    )
    args, rewarding = arguments
    source = open_image_reward(rewarding, args.style, args.target, max_failed=1.0)
    server = RewardServer(source, args, source)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console.print(f"rewards of profile {rewarding.profile} on http://{args.host}:{server.port}")
    if args.token_env is None and not args.host.startswith(("127.", "localhost")):
        console.print("warning: without token_env, anyone who can reach this port may use the models")
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    console.print("stopped")


if __name__ == "__main__":
    raise SystemExit(main())
