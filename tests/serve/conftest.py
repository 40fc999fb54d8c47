"""A real server on 127.0.0.1, with models that are fakes unless a test brings others."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from PIL import Image

from agent.serve.app import create_app
from agent.serve.command import http_config
from agent.serve.metrics import Metrics
from agent.serve.models import Served
from agent.serve.service import Service
from agent.serve.settings import ServerSettings
from tests.serve.fakes import fake_served

ENDS = ("replied", "clarify", "failed")


@dataclass
class Running:
    """A server under test, and what a client does with it."""

    service: Service
    http: httpx.AsyncClient
    url: str

    async def new(self, **body: Any) -> str:
        answer = await self.http.post("/api/conversations", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def post(self, conversation: str, text: str, **more: Any) -> httpx.Response:
        return await self.http.post(f"/api/conversations/{conversation}/turns", json={"request": text, **more})

    async def say(self, conversation: str, text: str, **more: Any) -> list[dict[str, Any]]:
        """A turn to its end: its events, each with `id` and `event` beside its data."""
        answer = await self.post(conversation, text, **more)
        assert answer.status_code == 202, answer.text
        return await self.follow(conversation, after=answer.json()["last_event"])

    async def follow(self, conversation: str, after: int = 0, until: tuple[str, ...] = ENDS) -> list[dict[str, Any]]:
        return await follow(self.http, conversation, after, until)

    async def upload(self, picture: Image.Image, **params: Any) -> str:
        answer = await self.http.post("/api/images", content=png(picture), params=params)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["image"])


async def follow(
    http: httpx.AsyncClient, conversation: str, after: int = 0, until: tuple[str, ...] = ENDS, last: int | None = None
) -> list[dict[str, Any]]:
    """The events behind `after`, up to the first named in `until`, or to the one with the id `last`."""
    told: list[dict[str, Any]] = []
    headers = {"Last-Event-ID": str(after)}
    async with (
        asyncio.timeout(200),
        http.stream("GET", f"/api/conversations/{conversation}/events", headers=headers) as stream,
    ):
        assert stream.status_code == 200, await stream.aread()
        now: dict[str, Any] = {"id": None}
        async for line in stream.aiter_lines():
            if line.startswith("id: "):
                now["id"] = int(line[4:])
            elif line.startswith("event: "):
                now["event"] = line[7:]
            elif line.startswith("data: "):
                now |= json.loads(line[6:])
            elif not line and "event" in now:
                told.append(now)
                if now["event"] in until or (last is not None and now["id"] == last):
                    break
                now = {"id": None}
    return told


def png(picture: Image.Image, format: str = "PNG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **more)
    return buffer.getvalue()


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Call it with settings (and `models`, a function of Metrics) to have a server for a while."""

    @asynccontextmanager
    async def run(
        models: Callable[[Metrics], list[Served]] | None = lambda metrics: [fake_served(metrics)],
        token: str | None = None,
        **settings: Any,
    ) -> AsyncIterator[Running]:
        metrics = Metrics()
        made = ServerSettings(**{"data": tmp_path / "data", **settings})
        async with (
            Service(made, models=None if models is None else models(metrics), metrics=metrics) as service,
            listening(service) as url,
        ):
            await service.warm()
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, verify=False) as http:
                yield Running(service, http, url)

    return run


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[str]:
    app = create_app(service.settings, service)
    server = uvicorn.Server(http_config(app, service.settings, host="127.0.0.1", port=0, timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has nothing to wait for
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        service.broker.close()
        server.should_exit = True
        await task


@pytest.fixture
async def server(start: Start) -> AsyncIterator[Running]:
    async with start() as running:
        yield running
