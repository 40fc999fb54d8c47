"""Real HTTP servers on 127.0.0.1: one plays every model of a run, OpenAI-style, for the command line's tests; others are a chat
model each."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from agent.cli import main
from agent.testing import drawn_from, paint
from editors.backend import ImageTask

Fault = Callable[[str, dict[str, Any], dict[str, str]], tuple[int, bytes] | None]


class Done(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


Redraft = Callable[..., Done]
KEY = "sk-this-must-never-be-written"


@pytest.fixture
def redraft(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Redraft:
    """The command line in this process: `redraft("draw", REQUEST, cwd=folder)`. Processes of their own, which take seconds to
    start, are for what only they show: signals, kills, terminals, what is imported."""

    def run(*arguments: object, cwd: Path, said: str = "") -> Done:
        monkeypatch.chdir(cwd)
        monkeypatch.setenv("REDRAFT_TEST_KEY", KEY)
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["redraft", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        code = ended.value.code
        return Done(code if isinstance(code, int) else int(code is not None), *capfd.readouterr())

    return run


class ModelServer(ThreadingHTTPServer):
    """`good` is a word; pictures drawn from a prompt with that word satisfy the judge. `hold` keeps image requests
    waiting until it is set. `seen` holds (path, body) of every request. `fault` is asked first: what it gives for
    (path, body, headers), a status and a body, is the answer. `box` is where a judge that explains says its reason is,
    in thousandths."""

    daemon_threads = True
    request_queue_size = 128  # of the usual 5, calls that come at once overflow the queue and are reset

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left before its answer came is no fault of the server's, and prints nothing."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    reason = "There are only two."
    questions = ("Are there exactly three red circles?", "Is the background white?")

    def __init__(self, rewrites: tuple[str, ...], good: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rewrites = rewrites
        self.good = good
        self.hold = threading.Event()
        self.hold.set()
        self.drawing = threading.Event()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.turn = 0
        self.fault: Fault = lambda path, body, headers: None
        self.box: list[float] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def profile(self, folder: Path, *, timeout_s: float = 20, **limits: float) -> Path:
        """A profile file whose every model is this server."""
        key = 'api_key_env = "REDRAFT_TEST_KEY"'
        server = f'{{ base_url = "{self.address}", {key}, timeout_s = {timeout_s}, max_retries = 0 }}'
        wanted = "\n".join(f"{name} = {value}" for name, value in limits.items())
        path = folder / "server.toml"
        path.write_text(
            f"""
description = "A test server"
[rewriter]
model = {{ kind = "openai", model = "test-writer", server = {server} }}
[generator]
kind = "openai_images"
model = "test-painter"
server = {server}
batch_size = 2
[judge]
model = {{ kind = "openai", model = "test-judge", server = {server} }}
[limits]
{wanted}
"""
        )
        return path


StartChat = Callable[..., str]


@pytest.fixture
def chat_server() -> Iterator[StartChat]:
    """Starts chat servers and gives their addresses: what each lists (None: it knows no such route), what it says, the log
    probabilities of its first token, and the status of its chats."""
    running: list[ThreadingHTTPServer] = []

    def start(
        models: list[str] | None,
        reply: dict[str, Any] | None = None,
        first: dict[str, float] | None = None,
        *,
        status: int = 200,
    ) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if models is None:
                    self._send(404, {"error": {"message": "no such route"}})
                else:
                    self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in models]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if status != 200:
                    self._send(status, {"error": {"message": "unknown model"}})
                    return
                message = {"role": "assistant", "content": "yes", **(reply or {})}
                choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": message}
                if body.get("logprobs") and first is not None:
                    tokens = [{"token": word, "logprob": value, "bytes": None} for word, value in first.items()]
                    choice["logprobs"] = {"content": [{**tokens[0], "top_logprobs": tokens}]}
                about = {"id": "x", "object": "chat.completion", "model": body["model"], "usage": {}}
                self._send(200, {**about, "choices": [choice]})

            def _send(self, code: int, value: object) -> None:
                data = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Tests keep their output to themselves."""

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(http)
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{http.server_address[1]}/v1"

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


@pytest.fixture
def model_server() -> Callable[..., AbstractContextManager[ModelServer]]:
    """Call it with the rewrites, in turn, and the word that makes a picture good."""
    return _model_server


@contextmanager
def _model_server(*rewrites: str, good: str) -> Iterator[ModelServer]:
    server = ModelServer(rewrites, good)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer

    def log_message(self, *_: object) -> None:
        """Tests keep their output to themselves."""

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if len(raw) < int(self.headers["Content-Length"]):
            return  # the client left in the middle of its request
        body = _form(raw) if "multipart" in self.headers["Content-Type"] else json.loads(raw)
        self.server.seen.append((self.path, body))
        fault = self.server.fault(self.path, body, dict(self.headers))
        if fault is not None:
            self._send(*fault)
        elif self.path.endswith("/images/generations") or self.path.endswith("/images/edits"):
            self._answer(self._picture(body))
        elif self.path.endswith("/chat/completions"):
            self._answer(self._chat(body))
        else:
            self.send_error(404)

    def _picture(self, body: dict[str, Any]) -> dict[str, Any]:
        self.server.drawing.set()
        self.server.hold.wait(600)
        buffer = io.BytesIO()
        paint(ImageTask(body["prompt"], int(body.get("seed") or 0))).save(buffer, "PNG")
        return {"created": 1, "data": [{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]}

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("logprobs"):
            return self._judged(body)
        if "wanted" in json.dumps(body.get("response_format", {})):
            wanted = [{"key_point": "counting", "question": question} for question in self.server.questions]
            return _reply(json.dumps({"reason": "as asked", "wanted": wanted, "kept": []}))
        if "checks" in json.dumps(body.get("response_format", {})):
            checks = [{"key_point": "counting", "question": question} for question in self.server.questions]
            return _reply(json.dumps({"reason": "as asked", "checks": checks}))
        if "verdict" in json.dumps(body.get("response_format", {})):
            return _reply(json.dumps({"reason": self.server.reason, "verdict": "no", "box": self.server.box}))
        rewrite = self.server.rewrites[min(self.server.turn, len(self.server.rewrites) - 1)]
        self.server.turn += 1
        return _reply(f"<think>What matters is the count.</think><answer>{rewrite}</answer>")

    def _judged(self, body: dict[str, Any]) -> dict[str, Any]:
        models = body["messages"][-1]["content"]
        url = next(part["image_url"]["url"] for part in models if part["type"] == "image_url")
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            try:
                prompt, _ = drawn_from(picture)
            except ValueError:
                prompt = ""  # a picture of the user's
        p = 0.98 if self.server.good in prompt else 0.2
        top = [{"token": word, "logprob": math.log(x), "bytes": None} for word, x in (("yes", p), ("no", 1 - p))]
        word = "yes" if p > 0.5 else "no"
        reply = _reply(word)
        content = [{"token": word, "logprob": math.log(max(p, 1 - p)), "bytes": None, "top_logprobs": top}]
        reply["choices"][0]["logprobs"] = {"content": content}
        return reply

    def _answer(self, value: dict[str, Any]) -> None:
        self._send(200, json.dumps(value).encode())

    def _send(self, status: int, data: bytes) -> None:
        with suppress(ConnectionError):  # a client that was interrupted has gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)


def _form(raw: bytes) -> dict[str, Any]:
    """The text fields of a multipart form, without its files."""
    fields = re.findall(rb'name="(\w+)"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n', raw)
    return {name.decode(): value.decode() for name, value in fields}


def _reply(text: str) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "test",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
    }
