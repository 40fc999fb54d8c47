"""What every request passes first: its client, the page it comes from, how large and how slow it may be."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from agent.serve.errors import Forbidden, TimedOut, TooLarge, TooMany, Unauthorized, kind_of
from agent.serve.metrics import Metrics, log, log_mistake
from agent.serve.settings import LOCAL, Bounds, ServerSettings, is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/", "/healthz", "/readyz", "/api/login", "/api/logout", "/api/me", "/favicon.ico"})
"""What needs no token, besides the files of the page under /page/."""
_PICTURES = ("/api/images", "/v1/", "/mcp")
"""Routes whose bodies may hold pictures."""
_LONG = ("/v1/", "/mcp")
"""Answers that take as long as a drawing, which has its own limits."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MARKS = (b"[", b"{", b",", b":", b"\\", b"![")
"""Each of these is work for whatever reads a JSON body, all at once and in the event loop. Pictures have none of them."""
_MOST_PARTS = 100_000
LEFT = 499
"""The status in the log of a request whose client left before it was whole (nginx's number for it)."""
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
NOTHING = b"default-src 'none'; frame-ancestors 'none'"
"""The content security policy of what is no page."""


class Guard:
    """ASGI middleware, the outermost. Puts the client's name, or None, into scope["redraft.client"]."""

    def __init__(self, app: App, *, door: Doorkeeper, bounds: Bounds, metrics: Metrics) -> None:
        self._app = app
        self._door = door
        self._bounds = bounds
        self._metrics = metrics
        self.under_way: Counter[str] = Counter()
        """Requests of each client that are being answered."""
        self.bytes_under_way: Counter[str] = Counter()
        """Bytes of their bodies."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _Exchange(self, scope, receive, send).go()
        else:
            raise RuntimeError(f"no {scope['type']} here")


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._scope = scope
        self._receive = receive
        self._send = send
        self._path: str = scope["path"]
        self._method = scope["method"] if scope["method"] in _METHODS else "other"
        """For labels and logs, which hold nothing that a client made up."""
        self._headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        self._started = time.monotonic()
        self._status = 0
        self._size = 0
        self._whole = False
        self._counted = False
        self._json = not self._headers.get("content-type", "").startswith(("multipart/", "image/"))
        self._parts = 0
        self._most = self._bound()
        self._patience: asyncio.Timeout | None = None

    def _bound(self) -> int:
        bounds = self._guard._bounds
        if not self._path.startswith(_PICTURES):
            return bounds.max_body
        # Room for base64 and for a mask, beside the fields of a form.
        return (2 * bounds.max_image_bytes if self._path.startswith(_LONG) else bounds.max_image_bytes) + 65536

    async def go(self) -> None:
        long = self._path.startswith(_LONG) or self._path.endswith("/events")
        try:
            async with asyncio.timeout(None if long else self._guard._bounds.request_s) as self._patience:
                self._admit()
                await self._guard._app(self._scope, self._take, self._give)
        except TimeoutError:
            await self._refuse(TimedOut("this took too long; ask again in a moment"))
        except HTTPException as error:  # raised in _take, beneath an app that has no handler for it
            kinds = {413: TooLarge, 429: TooMany}
            await self._refuse(kinds.get(error.status_code, TimedOut)(error.detail))
        except (Forbidden, Unauthorized, TooLarge, TooMany) as error:
            await self._refuse(error)
        except ClientDisconnect:
            self._status = self._status or LEFT
        except Exception as error:  # noqa: BLE001 - the boundary to the outside
            mistake = secrets.token_hex(4)
            log_mistake("request", error, path=self._route(), id=mistake)
            await self._refuse(RuntimeError(f"a mistake of the server's (log entry {mistake})"))
        finally:
            if self._counted:
                self._guard.under_way[self._scope["redraft.client"]] -= 1
            if (client := self._scope.get("redraft.client")) is not None:
                self._guard.bytes_under_way[client] -= self._size
            self._log()

    def _admit(self) -> None:
        headers, door = self._headers, self._guard._door
        client = door.who(headers)
        self._scope["redraft.client"] = client
        door.check_origin(self._scope["method"], headers)
        if client is None and self._path not in OPEN and not self._path.startswith("/page/"):
            raise Unauthorized("give a token: Authorization: Bearer ...")
        if client is not None and self._path not in OPEN:
            most, under_way = self._guard._bounds.max_requests, self._guard.under_way
            if under_way[client] >= most:
                raise TooMany(f"{most} of your requests are being answered, which is the most; wait for one")
            under_way[client] += 1
            self._counted = True
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self._most:
            raise TooLarge(self._too_large())

    def _too_large(self) -> str:
        return f"the body is larger than {self._most / 2**20:.3g} MiB, which is the most here"

    async def _take(self) -> Message:
        if self._whole:
            return await self._receive()
        left = self._guard._bounds.body_s - (time.monotonic() - self._started)
        try:
            message = await asyncio.wait_for(self._receive(), max(0.01, left))
        except TimeoutError:
            raise HTTPException(503, "the body did not arrive in time") from None
        if message["type"] == "http.request":
            body = message.get("body", b"")
            self._size += len(body)
            if (client := self._scope["redraft.client"]) is not None:
                self._guard.bytes_under_way[client] += len(body)
                if self._guard.bytes_under_way[client] > self._guard._bounds.max_bytes:
                    raise HTTPException(429, "your uploads under way are too large together; wait for one")
            if self._json:
                self._parts += sum(map(body.count, _MARKS))
                if self._parts > _MOST_PARTS:
                    raise HTTPException(413, f"the body has more than {_MOST_PARTS:,} parts, which is the most here")
            self._whole = not message.get("more_body", False)
            if self._size > self._most:
                raise HTTPException(413, self._too_large())
        return message

    async def _give(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            present = {name.lower() for name, _ in message.get("headers", ())}
            more = [pair for pair in _HEADERS if pair[0] not in present]
            if b"content-security-policy" not in present:
                more.append((b"content-security-policy", NOTHING))
            if b"cache-control" not in present:
                more.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message.get("headers", ()), *more]}
            if self._patience is not None:
                self._patience.reschedule(None)  # from here on the answer is on its way, streams take their time
            self._guard._metrics.request(self._method, self._status, time.monotonic() - self._started)
        await self._send(message)

    async def _refuse(self, error: Exception) -> None:
        if self._status:
            return  # the answer has begun; it ends here
        self._patience = None
        status, code, kind = kind_of(error)
        fault = {"message": str(error), "type": kind, "param": None, "code": code}
        body = json.dumps({"error": fault}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status in (429, 503):
            headers.append((b"retry-after", b"2"))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if not self._whole:
            headers.append((b"connection", b"close"))  # what is left of the body is not read
        await self._give({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _route(self) -> str:
        """The path as it was declared, without what a client put into it."""
        route = self._scope.get("route")
        return "unknown" if route is None else str(route.path)

    def _log(self) -> None:
        if self._path in ("/healthz", "/readyz", "/metrics"):
            return
        log(
            "request",
            method=self._method,
            route=self._route(),
            status=self._status,
            client=self._scope.get("redraft.client"),
            ms=round(1000 * (time.monotonic() - self._started), 1),
        )


COOKIE = "redraft_client"
_SAFE = ("GET", "HEAD", "OPTIONS")


class Doorkeeper:
    """Knows the tokens. Compares with all of them, in constant time each, so that time reveals nothing."""

    def __init__(self, settings: ServerSettings) -> None:
        self._tokens = dict(settings.tokens or {})
        self._loopback = is_loopback(settings.host)
        self._hosts = {"localhost", "127.0.0.1", "::1", settings.host.strip("[]").lower(), *settings.hosts}

    @property
    def login_needed(self) -> bool:
        return bool(self._tokens)

    def client_of(self, token: str) -> str | None:
        """The client whose token it is."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        match = None
        for client, own in self._tokens.items():
            if hmac.compare_digest(digest, hashlib.sha256(own.encode()).digest()):
                match = client
        return match

    def cookie(self, client: str) -> str:
        """What a browser keeps instead of the token: it says who, and proves that the token was known."""
        return f"{client}.{self._proof(client)}"

    def _proof(self, client: str) -> str:
        digest = hmac.digest(self._tokens[client].encode(), b"redraft cookie 1 " + client.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _of_cookie(self, value: str) -> str | None:
        client, _, proof = value.rpartition(".")
        if client not in self._tokens:
            return None
        return client if hmac.compare_digest(proof.encode(), self._proof(client).encode()) else None

    def who(self, headers: Mapping[str, str]) -> str | None:
        """The client that sends these headers (in lower case), None if they show no token."""
        if not self._tokens:
            return LOCAL
        kind, _, token = headers.get("authorization", "").partition(" ")
        if token:
            return self.client_of(token.strip()) if kind.lower() == "bearer" else None
        cookie = read_cookie(headers.get("cookie", ""), COOKIE)
        return None if cookie is None else self._of_cookie(cookie)

    def check_origin(self, method: str, headers: Mapping[str, str]) -> None:
        """Raises Forbidden for what another site's page asks, and, without tokens, for a Host that is not ours: a name
        that its owner points at 127.0.0.1 would let any page talk to this server."""
        host = headers.get("host", "")
        if not self._tokens and self._loopback and _name_of(host) not in self._hosts:
            raise Forbidden("this server does not answer to that Host; name it with --allow-host")
        origin = headers.get("origin")
        if method not in _SAFE and origin is not None and _place_of(origin) != host.lower():
            raise Forbidden("pages of another site may not ask this server")


def read_cookie(header: str, name: str) -> str | None:
    """One cookie of a Cookie header, in time that grows linearly with it: it is read before the client is known."""
    for pair in header.split(";"):
        key, equals, value = pair.partition("=")
        if equals and key.strip() == name:
            return value.strip().strip('"')
    return None


def _place_of(origin: str) -> str:
    """Host and port of an Origin header, empty if there are none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def client(request: Request) -> str:
    """The client of a request, for FastAPI's Depends. Raises Unauthorized."""
    who: str | None = request.scope.get("redraft.client")
    if who is None:
        raise Unauthorized("give a token: Authorization: Bearer ...")
    return who
