"""How a server is set up: options of `redraft serve`, and the environment for what is secret or of the machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from redraft.errors import ConfigError
from redraft.secrets import remember

LOCAL = "local"
"""The one client of a server without tokens."""
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_SHORTEST = 16


@dataclass(frozen=True)
class Bounds:
    """What one request, and one client, may take. Lengths in characters, sizes in bytes, times in seconds."""

    max_prompt: int = 4000
    max_body: int = 256 * 2**10
    max_image_bytes: int = 20 * 2**20
    max_image_pixels: int = 25_000_000
    max_rounds: int = 8
    max_images: int = 32
    max_seconds: float = 600.0
    max_image_steps: int = 150
    """Denoiser steps of one picture, if a client sets them."""
    max_size_pixels: int = 2048 * 2048
    """Of a picture that is drawn at a size that a client sets."""
    max_conversations: int = 200
    max_turns: int = 64
    """Turns and draws of one client that are under way at once."""
    max_sessions: int = 64
    """MCP sessions of one client; one that is not used for half an hour ends."""
    max_requests: int = 256
    """Requests of one client that are answered at once, streams of events among them."""
    max_bytes: int = 96 * 2**20
    """Of the bodies of these requests, together."""
    idle_s: float = 20.0
    """For the headers of a request to arrive, and for a connection to stay without one."""
    body_s: float = 30.0
    """For the body of a request to arrive."""
    request_s: float = 60.0
    """For an answer that is neither a stream nor a drawing."""
    drain_s: float = 30.0
    """For turns under way to finish after SIGTERM; what is left continues when the server starts again."""


@dataclass(frozen=True)
class ServerSettings:
    """`tokens`: client to token; empty: everybody is the client `local`, which only a loopback host allows.

    `database`: postgresql:// URL; None: SQLite in `data`. `images`: fsspec URL of pictures; None: folders in `data`.
    `image_hosts`: hosts from which pictures may be fetched by URL. `hosts`: further names this server answers to.
    """

    profiles: tuple[str, ...] = ("mini",)
    host: str = "127.0.0.1"
    port: int = 8765
    data: Path = Path("served")
    tokens: Mapping[str, str] | None = None
    database: str | None = None
    images: str | None = None
    image_hosts: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    log_prompts: bool = False
    bounds: Bounds = Bounds()

    def __post_init__(self) -> None:
        """Raises ConfigError for a set-up that would be open to everybody."""
        if not self.profiles:
            raise ConfigError("name at least one profile to serve")
        if not self.tokens and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host} can be reached from other machines: set REDRAFT_TOKENS to name:token pairs, "
                "or serve on 127.0.0.1"
            )
        if self.database is not None and not self.database.startswith(("postgresql://", "postgres://")):
            raise ConfigError("REDRAFT_DATABASE_URL has to be a postgresql:// URL")


def read_bounds(pairs: Iterable[str]) -> Bounds:
    """Bounds with some of them set by NAME=VALUE. Raises ConfigError."""
    bounds: dict[str, float | int] = {}
    kinds: dict[str, type[int] | type[float]] = {name: type(value) for name, value in asdict(Bounds()).items()}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in kinds:
            raise ConfigError(f"{pair!r} sets no bound; there are {', '.join(kinds)}, each as NAME=VALUE")
        try:
            bounds[name] = kinds[name](value)
        except ValueError:
            raise ConfigError(f"the bound {name} is a number, not {value!r}") from None
        if not 0 <= bounds[name] < 2**53 or (bounds[name] == 0 and name != "drain_s"):
            raise ConfigError(f"the bound {name} cannot be {value}")
    return replace(Bounds(), **bounds)  # type: ignore[arg-type]


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """Client to token, from REDRAFT_TOKENS ("ann:…,bob:…", or the path of a file with one such pair a line) and
    REDRAFT_TOKEN (one token, of the client `local`). Errors name clients, never tokens. Raises ConfigError."""
    tokens: dict[str, str] = {}
    text = environ.get("REDRAFT_TOKENS", "")
    if text and ":" not in text:
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError("REDRAFT_TOKENS is neither name:token pairs nor a file that can be read") from error
    for number, pair in enumerate(re.split(r"[,\n]", text), start=1):
        if not pair.strip() or pair.lstrip().startswith("#"):
            continue
        name, colon, token = (part.strip() for part in pair.partition(":"))
        if not colon or not _CLIENT.fullmatch(name):
            raise ConfigError(f"entry {number} of REDRAFT_TOKENS is not name:token (letters, digits, - and _ in names)")
        if name in tokens:
            raise ConfigError(f"REDRAFT_TOKENS names {name} twice")
        tokens[name] = token
    if one := environ.get("REDRAFT_TOKEN"):
        tokens.setdefault(LOCAL, one)
    for name, token in tokens.items():
        if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError(
                f"the token of {name} has to be {_SHORTEST} characters or more, of ASCII and without spaces; make one "
                'with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
        remember(token)
    if len(set(tokens.values())) < len(tokens):
        raise ConfigError("two clients have the same token; give each its own")
    return tokens
