"""`redraft serve`: sets a server up from options and environment, runs it, and takes it down with nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.serve.settings import ServerSettings, read_bounds, read_tokens
from redraft.errors import InputError, RedraftError, printable
from redraft.extras import require
from redraft.profiles import load_profile
from redraft.signals import handle_signals

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from agent.serve.metrics import Metrics
    from agent.serve.models import Served


def settings_from(
    *,
    profiles: Sequence[str],
    host: str,
    port: int,
    data: Path,
    hosts: Sequence[str],
    image_hosts: Sequence[str],
    log_prompts: bool,
    bounds: Sequence[str] = (),
) -> ServerSettings:
    """Options and environment together. Raises ConfigError."""
    return ServerSettings(
        profiles=tuple(profiles) or ("mini",),
        host=host,
        port=port,
        data=data,
        tokens=read_tokens(os.environ) or None,
        database=os.environ.get("REDRAFT_DATABASE_URL") or None,
        images=os.environ.get("REDRAFT_IMAGES_URL") or None,
        image_hosts=tuple(image_hosts),
        hosts=tuple(hosts),
        log_prompts=log_prompts,
        bounds=read_bounds(bounds),
    )


def serve(settings: ServerSettings) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises RedraftError if it cannot begin."""
    require("serve", "this is a server")
    profiles = [load_profile(name) for name in settings.profiles]
    if not any("draw" in profile.abilities() for profile in profiles):
        profiles[0].need_generator()  # the page draws; an MCP server may only rewrite
        profiles[0].need_judge()
    from agent.serve.metrics import set_up_logs

    set_up_logs(with_prompts=settings.log_prompts)
    asyncio.run(run_server(settings))


def serve_mcp(settings: ServerSettings) -> None:
    """Serves one MCP client on stdin and stdout until it hangs up. Raises RedraftError."""
    require("serve", "this is an MCP server")
    from agent.serve.mcp import run_stdio
    from agent.serve.metrics import set_up_logs
    from agent.serve.service import Service
    from agent.terminal import stdout_for_results

    set_up_logs(with_prompts=settings.log_prompts)

    async def work() -> None:
        async with Service(settings) as service:
            await run_stdio(service, stdout)

    with stdout_for_results() as stdout:
        asyncio.run(work())


async def run_server(
    settings: ServerSettings, models: Iterable[Served] | None = None, metrics: Metrics | None = None
) -> None:
    """The same in an event loop; `models` as `Service` takes them. Raises RedraftError."""
    with open_socket(settings) as sock:
        await _run(settings, sock, models, metrics)


async def _run(
    settings: ServerSettings, sock: socket.socket, models: Iterable[Served] | None, metrics: Metrics | None
) -> None:
    from agent.serve.app import create_app
    from agent.serve.metrics import log
    from agent.serve.service import Service

    async with Service(settings, models=models, metrics=metrics) as service:
        app = create_app(settings, service)
        server = _server(http_config(app, settings))
        leaving = asyncio.Event()

        def leave() -> None:
            if leaving.is_set():  # a second signal: at once
                server.should_exit = server.force_exit = True
            leaving.set()

        async def warm() -> None:
            try:
                await service.warm()
            except RedraftError as error:
                # Stays up and not ready, so that the operator can read why.
                sys.stderr.write(f"error: {printable(str(error))}\n")
                leaving.set()

        async def drain() -> None:
            await leaving.wait()
            log("draining")
            try:
                await service.drain()
            finally:  # whatever goes wrong in there, the server goes down
                server.should_exit = True

        with handle_signals(signal.SIGTERM, signal.SIGINT, call=leave):
            tasks = [asyncio.create_task(warm()), asyncio.create_task(drain())]
            port = settings.port or sock.getsockname()[1]
            log("serving", host=settings.host, port=port, profiles=list(settings.profiles))
            sys.stderr.write(f"redraft serves http://{_shown(settings.host)}:{port}\n")
            try:
                await server.serve([sock])
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def http_config(app: FastAPI, settings: ServerSettings, **options: Any) -> uvicorn.Config:
    """How HTTP is spoken: bounded connections, no access log, no banner. `options` replace uvicorn's."""
    import uvicorn

    from agent.serve.connections import make_protocol

    return uvicorn.Config(**{
        "app": app, "host": settings.host, "port": settings.port, "log_config": None, "access_log": False,
        "server_header": False, "timeout_keep_alive": 20, "timeout_graceful_shutdown": 10,
        "h11_max_incomplete_event_size": 64 * 1024, "ws": "none", "http": make_protocol(settings.bounds),
        **options,
    })  # fmt: skip


def open_socket(settings: ServerSettings) -> socket.socket:
    """A socket that listens at the server's address, opened before any model is loaded. Raises InputError if another
    process listens there."""
    host = settings.host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, settings.port))
        sock.listen()  # with SO_REUSEADDR, two servers that load their models could both bind
    except OSError as error:
        sock.close()
        raise InputError(
            f"cannot listen on {host}, port {settings.port}: {error.strerror}; choose another with --port"
        ) from error
    return sock


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _server(config: uvicorn.Config) -> uvicorn.Server:
    """A server that leaves signals to us: turns are finished before it closes its connections."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(config)
