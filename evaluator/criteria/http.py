"""A scorer behind HTTP as a criterion, and the wire that it speaks.

    POST URL   {"prompts": [request, ...], "images": [PNG in base64, ...], "metadata": {...}}   ->   {"scores": [number, ...]}

One number a picture, in order; null for one that could not be scored. `prompts` holds the user's request once for each
picture, `metadata` the checks and the scale. The shape is our own, and was checked against no other trainer;
`rewards` or `outputs` in place of `scores` are read too. `redraft` serves the same wire: evaluator/reward_service.py.
"""

from __future__ import annotations

import asyncio
import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from evaluator.types import Case, Need, Outcome, Reading, Shot
from redraft.errors import BackendError, BadReply, ConfigError, ServerError, one_line
from redraft.profiles import ServerConfig
from redraft.servers import Fleet

if TYPE_CHECKING:
    from evaluator.criteria import Parts

MAX_REPLY = 2**20
"""Bytes of a reply that are read."""
_WAIT_S = 1.0


class HttpScorer:
    """Asks a service for the scores of all pictures of a group at once.

    A score s becomes (s - low) / (high - low), clipped to [0, 1]. Too few or too many scores, NaN, text, and a service that
    cannot be reached give FAILED readings with the reason.
    """

    absolute = True
    needs: frozenset[Need] = frozenset({"group"})

    def __init__(self, server: ServerConfig, name: str = "http", *, low: float = 0.0, high: float = 1.0) -> None:
        if not low < high:
            raise ConfigError(f"{name}: low = {low:g} must be below high = {high:g}")
        self.name = name
        self._server = server
        self._fleet = Fleet(server.addresses)
        self._low, self._high = low, high

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        body = {
            "prompts": [case.request] * len(shots),
            "images": await asyncio.to_thread(lambda: [pack_png(shot.image) for shot in shots]),
            "metadata": {"checks": [check.question for check in case.checks], "low": self._low, "high": self._high},
        }
        try:
            scores = read_scores(await self._post(body), len(shots))
        except BackendError as error:
            return [Reading(Outcome.FAILED, reason=f"{self.name}: {error}")] * len(shots)
        return [self._read(score) for score in scores]

    def _read(self, score: object) -> Reading:
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            said = "no score" if score is None else f"{one_line(str(score))!r}, which is no number"
            return Reading(Outcome.FAILED, reason=f"{self.name}: the service gave {said}")
        return Reading(Outcome.SCORED, min(1.0, max(0.0, (score - self._low) / (self._high - self._low))))

    async def _post(self, body: dict[str, Any]) -> Any:
        import httpx

        key = self._server.api_key()
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        trouble, at = "", 0
        for attempt in range(self._server.max_retries + 1):
            if attempt and not self._fleet.has_other([at]):
                await asyncio.sleep(min(30.0, _WAIT_S * 2.0 ** (attempt - 1)))
            at = self._fleet.take()
            url = self._fleet.address(at)
            try:
                async with (
                    httpx.AsyncClient(timeout=self._server.timeout_s, headers=headers) as client,
                    client.stream("POST", url, json=body) as response,
                ):
                    data = b""
                    async for chunk in response.aiter_bytes():
                        data += chunk
                        if len(data) > MAX_REPLY:
                            raise BadReply(f"{url} answered with more than {MAX_REPLY >> 20} MiB")
            except httpx.TransportError as error:
                self._fleet.failed(at)
                trouble = f"{url} cannot be reached ({one_line(error) or type(error).__name__})"
                continue
            finally:
                self._fleet.give_back(at)
            if response.status_code == 200:
                self._fleet.answered(at)
                try:
                    return httpx.Response(200, content=data).json()
                except (ValueError, RecursionError) as error:
                    raise BadReply(f"{url} gave no JSON: {one_line(error)}") from None
            trouble = f"{url} answered {response.status_code}: {one_line(data[:200].decode('utf-8', 'replace'))}"
            if response.status_code not in (408, 429, 500, 502, 503, 504):
                raise BackendError(trouble)
            self._fleet.failed(at)
        raise ServerError(trouble)


def read_scores(reply: Any, count: int) -> list[object]:
    """The scores of a reply, as they are. Raises BadReply if there are not `count` of them."""
    scores = reply
    if isinstance(reply, dict):
        scores = next((reply[key] for key in ("scores", "rewards", "outputs") if key in reply), None)
    if not isinstance(scores, list):
        raise BadReply(f"the service answered {one_line(str(reply))[:100]!r}; a reply has a list of scores")
    if len(scores) != count:
        raise BadReply(f"the service gave {len(scores)} scores for {count} pictures")
    return list(scores)


def pack_png(image: Image.Image) -> str:
    """A picture as PNG in base64."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def open_http(
    parts: Parts,
    *,
    url: str = "",
    urls: Sequence[str] = (),
    api_key_env: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
    timeout_s: float = 120.0,
    max_retries: int = 2,
) -> HttpScorer:
    """Settings: the address, or `urls` of several services of one kind; the name of the variable with the key, the scale of
    the service, and how patient to be."""
    from pydantic import ValidationError

    try:
        address: dict[str, Any] = {"base_urls": tuple(urls)} if urls else {"base_url": url}
        server = ServerConfig(**address, api_key_env=api_key_env, timeout_s=timeout_s, max_retries=max_retries)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"the criterion http: {first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}"
        ) from None
    return HttpScorer(server, low=low, high=high)
