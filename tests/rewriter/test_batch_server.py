"""Batches against a real, misbehaving HTTP server: every row is accounted for, none is wrong, retries are bounded."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from redraft.openai_chat import OpenAIChat
from redraft.profiles import ModelConfig, ServerConfig
from rewriter.batch.engines import ChatEngine, FakeEngine
from tests.rewriter.batches import read_jsonl, run, write_jsonl

FAULTS = ("500", "429", "slow", "half", "empty", "cut", "encoding", "json", "reset")
RETRIES = 3

Decide = Callable[[str, int], str]
"""(prompt, how often it was asked before) to a fault, or "fine"."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of the usual 5, calls that come at once overflow the queue and are reset

    def __init__(self, decide: Decide, room: int = 10_000) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.decide, self.room = decide, room
        self.asked: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.busy = self.most = 0
        self.lock = threading.Lock()


class Reply(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = str(body["messages"][-1]["content"]).split("<user_prompt>\n")[1].split("\n</user_prompt>")[0]
        with self.server.lock:
            kind = self.server.decide(prompt, self.server.asked[prompt])
            self.server.asked[prompt] += 1
            self.server.busy += 1
            self.server.most = max(self.server.most, self.server.busy)
            kind = "429" if self.server.busy > self.server.room else kind
            self.server.answers[kind] += 1
        try:
            with suppress(ConnectionError):
                self._answer(kind, prompt)
        finally:
            with self.server.lock:
                self.server.busy -= 1

    def _answer(self, kind: str, prompt: str) -> None:
        text, finish = f"<think>so</think><answer>{prompt}, in fog — naïve</answer>", "stop"
        match kind:
            case "500":
                return self._send(b'{"error": {"message": "boom"}}', 500, {"Retry-After": "0.02"})
            case "429":
                return self._send(b'{"error": {"message": "slow down"}}', 429, {"Retry-After": "0.02"})
            case "slow":
                time.sleep(1.2)
                return None
            case "reset":
                self.close_connection = True
                return None
            case "json":
                return self._send(b"<html>gateway</html>")
            case "empty":
                text = ""
            case "cut":
                text, finish = "<think>What matters is", "length"
            case "fine":
                time.sleep(0.003)
            case "long":  # so that calls overlap, however slowly a busy machine sends them
                time.sleep(0.05)
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        value = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        data = json.dumps(value, ensure_ascii=False).encode("latin-1" if kind == "encoding" else "utf-8", "replace")
        if kind == "half":
            self._head(len(data))
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return None
        return self._send(data)

    def _send(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._head(len(data), status, headers)
        self.wfile.write(data)

    def _head(self, length: int, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(decide: Decide, room: int = 10_000) -> Iterator[Server]:
    server = Server(decide, room)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def engine_to(server: Server, most: int = 24, start: int = 8, timeout_s: float = 60.0) -> ChatEngine:
    config = ServerConfig(
        base_url=f"http://127.0.0.1:{server.server_port}/v1",
        timeout_s=timeout_s,
        max_retries=RETRIES,
        concurrency=start,
    )
    model = ModelConfig(kind="openai", model="m", server=config)
    return ChatEngine(OpenAIChat(model, most=most), most)


def expected(prompt: str) -> str:
    return f"{prompt}, in fog — naïve"


def source_of(tmp_path: Path, count: int) -> Path:
    return write_jsonl(tmp_path / "in.jsonl", [{"prompt": f"a fox with sign {at}"} for at in range(count)])


def test_a_fifth_of_all_answers_is_bad(tmp_path: Path) -> None:
    rng = random.Random(5)

    def decide(prompt: str, before: int) -> str:
        if prompt.endswith("sign 13"):
            return "500"
        return rng.choice(FAULTS) if rng.random() < 0.2 else "fine"

    with serving(decide) as server:
        counts = run(source_of(tmp_path, 250), tmp_path / "out.jsonl", engine_to(server, timeout_s=0.6))
    rows: list[dict[str, Any]] = read_jsonl(tmp_path / "out.jsonl")
    assert [row["request"] for row in rows] == [f"a fox with sign {at}" for at in range(250)]
    assert set(server.answers) == {"fine", *FAULTS}, "each kind of fault happened"
    for row in rows:
        right = expected(row["request"]) if row["status"] == "rewritten" else row["request"]
        assert row["prompt"] == right, row
        assert row["findings"] or row["status"] == "rewritten"
    told = Counter(row["status"] for row in rows)
    assert told["rewritten"] > 200
    repaired = [row for row in rows if row["status"] == "rewritten" and row["findings"]]
    assert len(repaired) >= 3, "an empty, cut or broken reply is answered by another try"
    assert rows[13]["status"] == "failed"
    assert "500: boom" in rows[13]["findings"][0]
    assert server.asked["a fox with sign 13"] == 1 + RETRIES
    assert max(server.asked.values()) <= 2 * (1 + RETRIES)
    assert sum(counts.statuses.values()) == 250


def test_the_next_run_asks_only_for_what_failed(tmp_path: Path) -> None:
    source, out = source_of(tmp_path, 40), tmp_path / "out.jsonl"
    with serving(lambda prompt, before: "reset" if prompt.endswith("7") else "fine") as server:
        first = run(source, out, engine_to(server))
    assert {str(status): count for status, count in first.statuses.items()} == {"rewritten": 36, "failed": 4}
    with serving(lambda prompt, before: "fine") as server:
        run(source, out, engine_to(server))
    assert sorted(server.asked) == [f"a fox with sign {at}" for at in (17, 27, 37, 7)]
    assert all(row["prompt"] == expected(row["request"]) for row in read_jsonl(out))


def test_a_server_that_takes_four_at_once_gets_about_four(tmp_path: Path) -> None:
    """It answers 429 to a fifth call under way. Without pushback the window of 24 would be used throughout."""
    with serving(lambda prompt, before: "fine", room=4) as server:
        counts = run(source_of(tmp_path, 300), tmp_path / "out.jsonl", engine_to(server, start=2))
    assert counts.statuses["failed"] == 0  # type: ignore[index]
    assert server.answers["429"] < 120, "most calls come when there is room"
    with serving(lambda prompt, before: "long") as server:
        run(source_of(tmp_path, 300), tmp_path / "free.jsonl", engine_to(server, start=2))
    assert server.most > 8, "a server that does not push back gets more than it began with"


def test_a_fake_engine_and_a_server_agree_on_what_is_asked(tmp_path: Path) -> None:
    """The same request reaches both: template, fence and user text."""
    fake = FakeEngine()
    run(source_of(tmp_path, 5), tmp_path / "fake.jsonl", fake)
    with serving(lambda prompt, before: "fine") as server:
        run(source_of(tmp_path, 5), tmp_path / "served.jsonl", engine_to(server))
    assert fake.requests == sum(server.asked.values()) == 5
