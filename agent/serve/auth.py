"""Who asks: bearer tokens, the cookie of a browser that gave one, and the refusal of other sites' pages."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import Request

from agent.serve.errors import Forbidden, Unauthorized
from agent.serve.settings import LOCAL, Settings, is_loopback

COOKIE = "redraft_client"
_SAFE = ("GET", "HEAD", "OPTIONS")


class Doorkeeper:
    """Knows the tokens. Compares with all of them, in constant time each, so that time tells nothing."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = dict(settings.tokens or {})
        self._loopback = is_loopback(settings.host)
        self._hosts = {"localhost", "127.0.0.1", "::1", settings.host.strip("[]").lower(), *settings.hosts}

    @property
    def login_needed(self) -> bool:
        return bool(self._tokens)

    def client_of(self, token: str) -> str | None:
        """The client whose token it is."""
        given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = None
        for client, own in self._tokens.items():
            if hmac.compare_digest(given, hashlib.sha256(own.encode()).digest()):
                found = client
        return found

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

    def who(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> str | None:
        """The client of a request, None where it has shown no token. Headers in lower case."""
        if not self._tokens:
            return LOCAL
        kind, _, token = headers.get("authorization", "").partition(" ")
        if token:
            return self.client_of(token.strip()) if kind.lower() == "bearer" else None
        return self._of_cookie(cookies[COOKIE]) if COOKIE in cookies else None

    def check_origin(self, method: str, headers: Mapping[str, str]) -> None:
        """Raises Forbidden for what another site's page asks, and, without tokens, for a Host that is not ours: a name
        that its owner points at 127.0.0.1 would let any page talk to this server."""
        host = headers.get("host", "")
        if not self._tokens and self._loopback and _name_of(host) not in self._hosts:
            raise Forbidden("this server does not answer to that Host; name it with --allow-host")
        origin = headers.get("origin")
        if method not in _SAFE and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Forbidden("pages of another site may not ask this server")


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
