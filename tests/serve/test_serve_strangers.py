"""What strangers send that is no request, or too much of one: it is answered or closed, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack

import httpx
import pytest
import uvicorn

from agent.serve.app import create_app
from agent.serve.command import http_config
from agent.serve.connections import make_protocol
from agent.serve.metrics import LOGGER, LONGEST, Lines
from agent.serve.settings import Bounds
from tests.serve.conftest import Running, Start
from tests.serve.fakes import fake_served
from tests.serve.test_serve_conversations import Held

ANN, BOB = "ann-0123456789abcdef", "bob-0123456789abcdef"
TOKENS = {"ann": ANN, "bob": BOB}
HOST = b"\r\nHost: 127.0.0.1\r\n"
ODD = (
    b"OPTIONS * HTTP/1.1", b"HEAD * HTTP/1.1", b"CONNECT example.org:443 HTTP/1.1", b"GET foo HTTP/1.1",
    b"GET api/conversations HTTP/1.1", b"GET http://127.0.0.1/healthz HTTP/1.1", b"GET //healthz HTTP/1.1",
    b"GET ? HTTP/1.1", b"GET # HTTP/1.1", b"TRACE / HTTP/1.1", b"PRI * HTTP/2.0", b"GET /page HTTP/1.1",
    b"GET /page/../../x HTTP/1.1", b"GET /page/%00 HTTP/1.1", b"GET /%00 HTTP/1.1", b"GET /page/" + b"a" * 5000 + b" HTTP/1.1",
    b"GET /api/images/\xff HTTP/1.1", b"GET /api/runs/%ff%fe HTTP/1.1", b"GET /api/conversations/%00/events HTTP/1.1",
    b"POST /mcp/ HTTP/1.1", b"GET /healthz HTTP/1.0", b"GET /healthz", b"", b"\x16\x03\x01", b"GET / HTTP/9.9",
    b"GET / HTTP/1.1\r\nHost: a", b"GET / HTTP/1.1\r\nContent-Length: -5", b"GET / HTTP/1.1\r\nContent-Length: 5, 6",
    b"POST /api/images HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz",
    b"POST /api/images HTTP/1.1\r\nContent-Type: multipart/form-data\r\nContent-Length: 0",
    b"POST /api/logout HTTP/1.1\r\nOrigin: http://[x\r\nContent-Length: 0",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade", b"GET / HTTP/1.1\r\nExpect: 100-continue",
    b"GET / HTTP/1.1\r\nAuthorization: Bearer", b"GET /api/me HTTP/1.1\r\nCookie: " + b"=;" * 20000,
)  # fmt: skip


async def connect(server: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))


async def test_odd_requests_are_answered_or_closed_and_leave_no_traceback(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for line in ODD:
        reader, writer = await connect(server)
        writer.write(line + HOST + b"Connection: close\r\n\r\n")
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 120)
        writer.close()
        status = int(answer.split(b" ", 2)[1]) if answer else 400
        assert 200 <= status < 500, (line, answer)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


async def test_a_client_that_leaves_while_it_is_drawn_for_is_no_mistake(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backend = Held()
    body = json.dumps({"prompt": "a heart", "n": 10}).encode()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    async with start(lambda metrics: [fake_served(metrics, backend=backend)]) as server, asyncio.timeout(120):
        _, writer = await connect(server)
        writer.write(head.encode() + body)
        await writer.drain()
        assert await asyncio.to_thread(backend.drawing.wait, 120)
        writer.transport.abort()
        while not any(  # noqa: ASYNC110 - the log has nothing to wait for
            getattr(record, "fields", {}).get("method") == "POST" for record in caplog.records
        ):
            await asyncio.sleep(0.05)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


@pytest.mark.parametrize("drip", [b"", b"X"])
async def test_headers_that_never_end_are_not_waited_for(start: Start, drip: bytes) -> None:
    async with start(bounds=Bounds(idle_s=0.5)) as server:
        reader, writer = await connect(server)
        writer.write(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        closed = asyncio.create_task(reader.read())
        async with asyncio.timeout(120):
            while not closed.done():
                writer.write(drip)
                await asyncio.sleep(0.1)
        [left] = await asyncio.gather(closed, return_exceptions=True)
        assert left == b"" or isinstance(left, ConnectionError)
        writer.close()


async def test_a_connection_that_only_waits_makes_room_for_one_that_asks(server: Running) -> None:
    """Also if a stream of events and a turn are at work meanwhile."""
    service = server.service
    protocol = make_protocol(service.bounds, most=10)
    app = create_app(service.settings, service)
    narrow = uvicorn.Server(http_config(app, service.settings, host="127.0.0.1", port=0, http=protocol))
    task = asyncio.create_task(narrow.serve())
    while not narrow.started:  # noqa: ASYNC110 - uvicorn has nothing to wait for
        await asyncio.sleep(0.005)
    port = narrow.servers[0].sockets[0].getsockname()[1]
    other = Running(service, server.http, f"http://127.0.0.1:{port}")
    id = await server.new()
    async with httpx.AsyncClient(base_url=other.url, timeout=120) as http, AsyncExitStack() as stack:
        stream = await stack.enter_async_context(http.stream("GET", f"/api/conversations/{id}/events"))
        lines = stream.aiter_lines()
        slow = []
        for number in range(40):
            slow.append(await connect(other))
            slow[-1][1].write(b"GET /healthz HTTP/1.1\r\n")
            if number == 20:
                assert (await server.post(id, "a star")).status_code == 202
        async with httpx.AsyncClient(base_url=other.url, timeout=120) as fresh:
            assert (await fresh.get("/healthz")).status_code == 200
        async with asyncio.timeout(120):
            while "event: replied" not in await anext(lines):
                pass
        for _, writer in slow:
            writer.close()
    narrow.should_exit = True
    await task


async def test_a_client_has_so_many_requests_at_once_and_others_go_on(start: Start) -> None:
    async with start(tokens=TOKENS, token=ANN, bounds=Bounds(max_requests=4)) as server:
        id = await server.new()
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(server.http.stream("GET", f"/api/conversations/{id}/events"))
            refused = await server.http.get("/api/conversations")
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many")
            assert refused.headers["retry-after"]
            assert (await server.http.get("/healthz")).status_code == 200
            bob = {"Authorization": f"Bearer {BOB}"}
            assert (await server.http.get("/api/conversations", headers=bob)).status_code == 200
        async with asyncio.timeout(120):  # streams that were left are not counted any more
            while (await server.http.get("/api/conversations")).status_code != 200:  # noqa: ASYNC110 - it is not told
                await asyncio.sleep(0.05)


async def test_each_client_has_mcp_sessions_of_its_own(start: Start) -> None:
    hello = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
    }  # fmt: skip
    async with start(tokens=TOKENS, bounds=Bounds(max_sessions=3)) as server:

        async def ask(token: str, **headers: str) -> httpx.Response:
            common = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
            return await server.http.post("/mcp", json=hello, headers=common | headers)

        opened = [await ask(ANN) for _ in range(4)]
        assert [answer.status_code for answer in opened] == [200, 200, 200, 503]
        assert (await ask(BOB)).status_code == 200
        session = opened[0].headers["mcp-session-id"]
        assert (await ask(BOB, **{"mcp-session-id": session})).status_code == 404, "nor is another's session known"


async def test_a_body_of_very_many_parts_is_refused_before_it_is_read(server: Running) -> None:
    for piece in ("[],", '{"a":1},', "![ ", '"\\u0041",'):
        body = '{"messages": [' + piece * 300_000
        answer = await server.http.post("/v1/chat/completions", content=body, headers={"Content-Type": "text/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large"), piece


def test_log_lines_are_cut_and_free_of_what_others_say() -> None:
    def line(name: str, message: str, *arguments: object, **fields: object) -> str:
        record = logging.LogRecord(name, logging.WARNING, "/x/module.py", 7, message, arguments, None, "work")
        record.fields = fields
        return Lines().format(record)

    said = json.loads(line("some.library", "the prompt was %s", "a secret wish"))
    assert "secret" not in str(said)
    assert (said["logger"], said["at"]) == ("some.library", "module:7 work")
    own = line(LOGGER, "request", route="x" * 10_000, many=["y" * 100] * 1000)
    assert len(own) <= LONGEST
    assert "x" * 200 not in own
