"""Rewards from a reward server on another machine (`rewriter.train.reward_server`), for trainers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from PIL import Image
from pydantic import TypeAdapter, ValidationError

from redraft.errors import BackendError, BadReply, ConfigError, ServerError, one_line
from rewriter.train.reward_types import Sample, Scores, Wish, too_many_failed
from rewriter.train.reward_wire import DRAW, DRAWN, MAX_REPLY, SCORE, SCORES, DrawRequest, ScoreRequest, unpacked

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

    async def __call__(self, samples: Sequence[Sample]) -> Scores:
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
