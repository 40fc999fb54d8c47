"""Servers in processes of their own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.serve.conftest import ENDS, follow

ROOT = Path(__file__).parents[2]


_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody else gets as long as this process lives, also not by chance as the near end of a
    connection, and that a server may listen at."""
    sock = socket.socket()
    # Both with SO_REUSEADDR, a server can bind beside a socket that is bound and does not listen. Linux alone allows that.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port = int(sock.getsockname()[1])
    if sys.platform == "linux":
        _reserved.append(sock)
    else:
        sock.close()
    return port


class Process:
    """A server that can be killed and started again, on the same data and port."""

    def __init__(self, command: Sequence[str], port: int, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self.log = log
        self._env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def driver(
        cls, data: Path, *, seconds: float = 0.2, drain_s: float = 30, env: Mapping[str, str] | None = None
    ) -> Process:
        port = free_port()
        command = [sys.executable, "-m", "tests.serve.serve_driver", str(data), str(port), str(seconds), str(drain_s)]
        gate = {"REDRAFT_TEST_GATE": str(data.with_name(f"{data.name}.{port}.gate"))}
        return cls(command, port, data.with_name(f"{data.name}.{port}.log"), {**gate, **(env or {})})

    def move_clock(self, seconds: float) -> None:
        """The wall clock of the next start is ahead by so much, or behind."""
        self._env["REDRAFT_TEST_CLOCK"] = str(seconds)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """A server of `driver` draws nothing meanwhile, also if it is started anew; it can be cancelled."""
        gate = Path(self._env["REDRAFT_TEST_GATE"])
        gate.touch()
        try:
            yield
        finally:
            gate.unlink()

    def start(self, ready_s: float = 180) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, env=self._env, stdout=log, stderr=log)
        deadline = time.monotonic() + ready_s
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            # Not by httpx: it reads all certificates of the system for each client.
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=10):
                return
            time.sleep(0.05)
        raise AssertionError(f"not ready in time: {self.log.read_text()}")

    def end(self, signal: int) -> int:
        """Sends a signal and waits; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal)
        return self.process.wait(120)

    def __enter__(self) -> Process:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(120)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60, verify=False)


async def begin(http: httpx.AsyncClient, words: Sequence[str], **body: Any) -> list[str]:
    """A conversation for each of the words, and a turn in each."""

    async def one(said: str) -> str:
        id = str((await http.post("/api/conversations", json={})).json()["id"])
        answer = await http.post(f"/api/conversations/{id}/turns", json={"request": said, **body})
        assert answer.status_code == 202, answer.text
        return id

    return list(await asyncio.gather(*(one(said) for said in words)))


async def whole(http: httpx.AsyncClient, ids: Sequence[str]) -> list[list[dict[str, Any]]]:
    """All events of the conversations' first turns that are kept."""
    told = await asyncio.gather(*(follow(http, id, until=ENDS) for id in ids))
    return [[event for event in events if event["id"] is not None] for events in told]


async def nothing_lost(http: httpx.AsyncClient, ids: Sequence[str], words: Sequence[str]) -> None:
    """Each turn came to its end, once; its events are without gap or repetition, and its pictures are there."""
    for id, said, events in zip(ids, words, await whole(http, ids), strict=True):
        names = [event["event"] for event in events]
        assert [event["id"] for event in events] == list(range(1, len(events) + 1))
        for name in ("turn_queued", "turn_began", "run_started", "checklist", "run_finished", "replied"):
            assert names.count(name) == 1, (name, names)
        assert events[-1]["entry"]["request"] == said
        assert not events[-1]["entry"]["error"]
        attempts = [event for event in events if event["event"] == "attempt"]
        run = next(event["run"] for event in events if event["event"] == "run_started")
        record = (await http.get(f"/api/runs/{run}")).json()
        assert sorted(a["number"] for a in attempts) == [a["number"] for a in record["attempts"]]
        assert {a["image"] for a in attempts} == {a["sha256"] for a in record["attempts"]}
        assert len({(a["prompt"], a["seed"]) for a in attempts}) == len(attempts), "no picture was drawn twice"
        for attempt in attempts:
            assert (await http.get(f"/api/images/{attempt['image']}")).status_code == 200
        view = (await http.get(f"/api/conversations/{id}")).json()
        assert [turn["request"] for turn in view["turns"]] == [said]
        assert view["working"] is None
