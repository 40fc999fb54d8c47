"""Servers that are forked from one process that has loaded everything: `python -m tests.serve.turn_driver SOCKET`.

Reads a line at a time from stdin and answers each with one line. `start FOLDER`: a server with fake models on FOLDER, which
listens at SOCKET; `kill`: SIGKILL; `term`: SIGTERM, and its end. All servers have the same listening socket, so that what
is sent while there is none waits for the next one.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn.lifespan.on
import uvicorn.loops.auto
import uvicorn.protocols.http.h11_impl  # noqa: F401 - what is loaded here need not be loaded by each child
from PIL import Image

from agent.run import _compiled
from agent.serve import command
from agent.serve.app import create_app
from agent.serve.metrics import Metrics, set_up_logs
from agent.serve.service import Service
from agent.serve.settings import Bounds, ServerSettings
from agent.testing import paint
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from redraft.limits import Limits
from tests.serve.fakes import fake_served

Image.init()


class Unhurried(FakeBackend):
    """Draws in steps, so that there is a time in which a drawing can be cancelled or killed."""

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        for step in range(4):
            time.sleep(0.003)
            if on_step is not None:
                on_step(step + 1, 4)
        return super().render(tasks, on_step)


async def serve(folder: Path, sock: socket.socket) -> None:
    metrics = Metrics()
    bounds = replace(Bounds(), drain_s=0.05)
    settings = ServerSettings(data=folder, bounds=bounds)
    served = fake_served(metrics, backend=Unhurried(paint=paint), limits=Limits(max_rounds=1, max_images=2))
    await command._run(settings, sock, [served], metrics)


def forked(folder: Path, sock: socket.socket) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(0)
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it does not outlive the test
            set_up_logs(with_prompts=True)
            asyncio.run(serve(folder, sock))
            code = 0
        except BaseException as error:  # noqa: BLE001 - a child must not go on as its parent
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def main(path: str) -> None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    sock.listen(128)
    _compiled(1.0)
    create_app(ServerSettings(), Service(ServerSettings(), models=[]))
    pid = 0
    for line in sys.stdin:
        word, _, folder = line.strip().partition(" ")
        status = 0
        if word == "start":
            pid = forked(Path(folder), sock)
        elif pid:
            os.kill(pid, signal.SIGKILL if word == "kill" else signal.SIGTERM)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            pid = 0
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()
    if pid:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
