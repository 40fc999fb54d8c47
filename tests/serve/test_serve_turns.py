"""Random interleavings of what clients, kills and full disks do to conversations, against a real server.

The states of a turn are in docs/serving.md. Whatever happened: no turn that was accepted is lost, none has the number of
another, none stays under way for ever, and each conversation can be used afterwards.

INTERLEAVINGS says how many are tried (docs/security.md: 2,000); a few in `make test`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, precondition, rule

from tests.full_disk import FullDisk, needs_full_disk

ROOT = Path(__file__).parents[2]
MANY = int(os.environ.get("INTERLEAVINGS", "12"))
REST_S, REST_POLLS = 60.0, 600
"""A conversation that is not at rest after so long, and after so many answers of a server that has the time, is stuck."""
WORDS = (
    "a star {n}", "a heart {n}", "a star {n}", "/draw a star {n}", "make it blue {n}", "/edit make it {n}", "/seed {n}",
    "/undo", "/back 1", "/again", "/list", "/branch", "/questions on", "/questions off", "compare 1 and 2", "perfect",
    "is there a star?", "/nonsense",
)  # fmt: skip
KINDS = ("post", "post", "post", "title", "ask", "cancel", "branch", "view", "export")
REQUESTS = st.lists(st.tuples(st.booleans(), st.sampled_from(KINDS), st.sampled_from(WORDS)), min_size=1, max_size=4)
EXPECTED = {200, 201, 202, 204, 400, 404, 409, 503}
"""400: a disk that is full while a file is written. 503: the database cannot be written."""
count = Counter[str]()


@dataclass
class Known:
    """What a client knows of a conversation."""

    id: str
    accepted: list[tuple[int, str]] = field(default_factory=list)
    deleted: bool | None = False
    """None: nobody heard the answer."""


class Servers:
    """The process that servers are forked from, and the disk that fills up."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        self.base = Path(tempfile.mkdtemp(prefix="redraft-turns-", dir=shared if shared.is_dir() else None))
        self.disk = FullDisk(self.base, self.base / "data")
        (self.base / "data").mkdir()
        self.socket = str(self.base / "socket")
        self.log = self.base / "log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.serve.turn_driver", self.socket], cwd=ROOT, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, env={**os.environ, **self.disk.environment}, text=True,
            )  # fmt: skip

    def say(self, line: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], 150)
        assert ready, f"no end of {line}: {self.log.read_text()[-4000:]}"
        answer = self._process.stdout.readline()
        assert answer, self.log.read_text()[-4000:]
        return int(answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        self._process.kill()
        shutil.rmtree(self.base)


servers: Servers


class Turns(RuleBasedStateMachine):
    conversations = Bundle("conversations")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = servers.base / "data" / f"{time.monotonic_ns()}"
        self.known: list[Known] = []
        self.created = 0
        self.number = itertools.count(1)
        self.up = False
        self.full = False
        self.log_at = servers.log.stat().st_size
        count["interleavings"] += 1

    # What clients do. Several at once, so that their requests meet.

    @initialize(target=conversations)
    def begin(self) -> Known:
        servers.disk.free()
        self.start()
        return self.create()

    @rule(target=conversations)
    @precondition(lambda self: self.created < 3)
    def create(self) -> Known:
        async def work() -> Known:
            while True:
                answer = await self.ask("POST", "/api/conversations", json={})
                if answer is not None and answer.status_code == 201:
                    return Known(str(answer.json()["id"]))
                servers.disk.free()

        self.created += 1
        self.start()
        made = self.runner.run(work())
        self.known.append(made)
        return made

    @rule(first=conversations, second=conversations, requests=REQUESTS)
    def together(self, first: Known, second: Known, requests: list[tuple[bool, str, str]]) -> None:
        """Several requests at the same time, to one conversation or two."""

        async def all_at_once() -> None:
            await asyncio.gather(*(self.do(second if other else first, kind, word) for other, kind, word in requests))

        self.start()
        self.runner.run(all_at_once())

    @rule(known=conversations, word=st.sampled_from(WORDS), pause=st.integers(0, 60))
    def say(self, known: Known, word: str, pause: int) -> None:
        self.start()
        self.runner.run(self.do(known, "post", word))
        time.sleep(pause / 1000)

    @rule(
        known=conversations, word=st.sampled_from(WORDS), after=st.integers(0, 60), moments=st.sampled_from([1, 3, 30])
    )
    def say_on_a_full_disk(self, known: Known, word: str, after: int, moments: int) -> None:
        self.fill_disk(after, moments)
        self.say(known, word, 20)

    @rule(known=conversations, word=st.sampled_from(WORDS), after=st.integers(0, 60))
    def say_and_kill(self, known: Known, word: str, after: int) -> None:
        self.say(known, word, after)
        self.kill(0)

    @rule(known=consumes(conversations), posted=st.booleans())
    @precondition(lambda self: self.created > 1)
    def delete(self, known: Known, posted: bool) -> None:
        async def work() -> None:
            beside: list[Coroutine[Any, Any, None]] = [self.do(known, "delete")]
            if posted:
                beside.append(self.do(known, "post", "a star {n}"))
            await asyncio.gather(*beside)

        self.start()
        self.runner.run(work())

    async def do(self, known: Known, kind: str, word: str = "") -> None:
        count[kind] += 1
        at = f"/api/conversations/{known.id}"
        match kind:
            case "post":
                text = word.replace("{n}", str(next(self.number)))
                answer = await self.ask("POST", f"{at}/turns", json={"request": text})
                if answer is not None and answer.status_code == 202:
                    count["accepted"] += 1
                    known.accepted.append((answer.json()["turn"], text))
            case "title":
                await self.ask("PATCH", at, json={"title": f"title {next(self.number)}"})
            case "ask":
                await self.ask("PATCH", at, json={"may_ask": next(self.number) % 2 == 0})
            case "cancel":
                await self.ask("POST", f"{at}/cancel")
            case "branch":
                answer = await self.ask("POST", f"{at}/branch", json={})
                if answer is not None and answer.status_code == 201:
                    self.known.append(Known(str(answer.json()["id"])))
            case "view":
                await self.ask("GET", at)
            case "export":
                await self.ask("GET", f"{at}/export")
            case "delete":
                answer = await self.ask("DELETE", at)
                if answer is None or answer.status_code == 503:
                    known.deleted = None
                elif answer.status_code in (204, 404):
                    known.deleted = True

    # What happens to the server

    def start(self) -> None:
        if not self.up:
            servers.disk.free()  # a server that cannot write does not start
            servers.say(f"start {self.folder}")
            self.up = True

    @rule(after=st.integers(0, 40))
    @precondition(lambda self: self.up)
    def kill(self, after: int) -> None:
        """`after` so many milliseconds: what the requests before it have begun is under way."""
        time.sleep(after / 1000)
        count["kills"] += 1
        servers.say("kill")
        self.up = False

    @rule()
    @precondition(lambda self: self.up)
    def term(self) -> None:
        count["terms"] += 1
        status = servers.say("term")
        self.up = False
        assert status == 0

    @rule(after=st.integers(0, 60), moments=st.sampled_from([1, 2, 5, 20, 10_000]))
    def fill_disk(self, after: int, moments: int) -> None:
        count["full disks"] += 1
        servers.disk.fill(after, moments)

    @rule()
    def free_disk(self) -> None:
        servers.disk.free()

    @rule(milliseconds=st.integers(1, 120))
    def wait(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1000)

    # What has to hold

    def teardown(self) -> None:
        try:
            servers.disk.free()
            self.start()
            self.runner.run(self.check())
        finally:
            servers.say("kill")
            self.runner.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            if count["interleavings"] % 10 == 0:
                sys.stderr.write(f"{dict(count)}\n")

    async def check(self) -> None:
        listed = (await self.get("/api/conversations"))["conversations"]
        ids = {info["id"] for info in listed}
        for known in self.known:
            if known.deleted is None:
                known.deleted = known.id not in ids
            assert (known.id in ids) != known.deleted, "what was not deleted is there, and what was deleted is gone"
        by_id = {known.id: known for known in self.known}
        await asyncio.gather(*(self.check_one(id, by_id.get(id, Known(id))) for id in ids))
        log = servers.log.read_bytes()[self.log_at :].decode()
        assert "Traceback" not in log, log[-4000:]
        mistakes = [
            line for line in log.splitlines() if '"level": "error"' in line and '"event": "database"' not in line
        ]
        assert not mistakes, "a full disk is said, and nothing else goes wrong"

    async def check_one(self, id: str, known: Known) -> None:
        view = await self.at_rest(id)
        await self.check_turns(view, known)
        answer = await self.ask("POST", f"/api/conversations/{id}/turns", json={"request": "/list"})
        assert answer is not None
        assert answer.status_code == 202, "the conversation can be used"
        last = answer.json()["turn"]
        assert last > max([turn["turn"] for turn in view["turns"]], default=0), "a number of its own"
        known.accepted.append((last, "/list"))
        view = await self.at_rest(id)
        assert (view["turns"][-1]["turn"], view["turns"][-1]["error"]) == (last, False)
        await self.check_turns(view, known)

    async def check_turns(self, view: dict[str, Any], known: Known) -> None:
        id = view["id"]
        events = await self.events(id, view["last_event"])
        assert [event["id"] for event in events] == list(range(1, view["last_event"] + 1)), "events without gap"
        queued = [(event["turn"], event["request"]) for event in events if event["event"] == "turn_queued"]
        lost = Counter(known.accepted) - Counter(queued)
        assert not lost, f"accepted turns are lost: {lost}"
        numbers = [turn["turn"] for turn in view["turns"]]
        assert len(set(numbers)) == len(numbers), f"two turns have one number: {numbers}"
        waiting = None if view["waiting"] is None else view["waiting"]["turn"]
        entries = {turn["turn"]: turn for turn in view["turns"]}
        for number in {turn for turn, _ in queued}:
            said = [text for turn, text in queued if turn == number]
            ends = [
                e["event"] for e in events if e["turn"] == number and e["event"] in ("replied", "failed", "clarify")
            ]
            assert len(said) in (1, 2), f"turn {number} was accepted for {said}"
            assert len(ends) >= 1, f"turn {number} has no end"
            assert sum(end != "clarify" for end in ends) <= 1, f"turn {number} ended twice: {ends}"
            if len(said) == 2:
                assert ends[0] == "clarify", f"turn {number} was accepted twice: {said}"
            if number == waiting:
                assert ends == ["clarify"]
                continue
            assert number in entries, f"turn {number} ({said}) is not in the conversation"
            assert entries[number]["request"] == said[0]
            if len(said) == 2:
                assert entries[number]["answer"] == said[1]

    async def at_rest(self, id: str) -> dict[str, Any]:
        began = time.monotonic()
        for poll in itertools.count():
            view = await self.get(f"/api/conversations/{id}")
            if view["working"] is None:
                return view
            if poll > REST_POLLS and time.monotonic() - began > REST_S:
                log = servers.log.read_bytes()[self.log_at :].decode()
                wrong = [line for line in log.splitlines() if "conversations/{id}" not in line][-30:]
                raise AssertionError("\n".join([f"stuck at working: {view['working']}", *wrong]))
            await asyncio.sleep(0.05)
        raise AssertionError

    async def events(self, id: str, last: int) -> list[dict[str, Any]]:
        from tests.serve.conftest import follow

        if last == 0:
            return []
        async with self.client() as http:
            return await follow(http, id, until=(), last=last)

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self.ask("GET", path)
        assert answer is not None
        assert answer.status_code == 200, (path, answer.text)
        value: dict[str, Any] = answer.json()
        return value

    def client(self) -> httpx.AsyncClient:
        # Nothing is kept alive: the server at the other end may be another one by then.
        transport = httpx.AsyncHTTPTransport(
            uds=servers.socket, verify=False, limits=httpx.Limits(max_keepalive_connections=0)
        )
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60)

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        """None: nobody knows what became of it."""
        async with self.client() as http:
            with suppress(httpx.TransportError):
                answer = await http.request(method, path, **more)
                assert answer.status_code in EXPECTED, (method, path, more, answer.status_code, answer.text)
                count[f"status {answer.status_code}"] += 1
                return answer
        return None


@needs_full_disk
def test_random_interleavings() -> None:
    global servers
    servers = Servers()
    try:
        from hypothesis.stateful import run_state_machine_as_test

        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Turns,
            settings=settings(
                max_examples=MANY, stateful_step_count=14, deadline=None, derandomize=MANY < 100, database=None,
                suppress_health_check=list(HealthCheck), phases=[Phase.generate], print_blob=False,
            ),
        )  # fmt: skip
    finally:
        servers.close()
        sys.stderr.write(f"{dict(count)}\n")
