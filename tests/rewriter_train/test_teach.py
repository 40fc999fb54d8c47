"""The teacher's script: what it asks a real local server, what it keeps, refuses, and goes on with."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from redraft.chat import ChatReply, ChatRequest
from redraft.errors import BadReply, ServerError
from redraft.journal import Journal
from redraft.testing import FakeChat, text_of
from rewriter.styles import load_style
from rewriter.train import teach
from rewriter.train.data import Triplet, load_triplets, make_chat
from rewriter.train.teach import Rejected, Teacher, TeachSettings, TeachSource

STYLE = load_style("promptenhancer")
GOOD = "<think>Two of them, both red.</think><answer>Two red stars side by side on a plain night sky.</answer>"
FINE = json.dumps({"reason": "well", "keeps": True, "fluent": True, "sober": True})


def teacher(replies: Any, critic: Any = None, **settings: Any) -> Teacher:
    judge = None if critic is None else FakeChat(critic)
    return Teacher(FakeChat(replies), judge, STYLE, settings=TeachSettings(**settings))


async def test_a_triplet_is_asked_for_in_the_students_own_words() -> None:
    chat, critic = FakeChat([GOOD]), FakeChat([FINE])
    [one] = await Teacher(chat, critic, STYLE)(TeachSource("k", "two red stars"))
    assert one == Triplet("two red stars", "Two of them, both red.", "Two red stars side by side on a plain night sky.")
    sent = [{"role": m.role, "content": m.content} for m in chat.requests[0].messages]
    assert sent == make_chat(STYLE, "two red stars")
    assert all(part in text_of(critic.requests[0]) for part in (one.request, one.thought, one.prompt))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("no tags at all", "reply: "),
        (ChatReply(GOOD[:60], truncated=True), "reply: "),
        (BadReply("an empty reply"), "reply: an empty reply"),
        ("<answer>Two red stars in the sky.</answer>", "thought: there is none"),
        (GOOD.replace("both red", "both red " * 40), "thought: "),
        ("<think>I write: two  red stars, wide apart</think><answer>Two red stars, wide apart</answer>", "thought: it"),
        ("<think>Fine as it is.</think><answer>two red stars</answer>", "prompt: it is the request"),
        ("<think>Five.</think><answer>Five red stars in the sky.</answer>", "guard: "),
    ],
)
async def test_what_is_refused_before_the_critic(reply: Any, reason: str) -> None:
    [one] = await teacher([reply], thought_chars=200)(TeachSource("k", "two red stars"))
    assert isinstance(one, Rejected)
    assert one.reason.startswith(reason)
    assert one.request == "two red stars"


async def test_what_the_critic_refuses() -> None:
    verdict = json.dumps({"reason": "it adds a cat", "keeps": False, "fluent": True, "sober": False})
    [one] = await teacher([GOOD], [verdict])(TeachSource("k", "two red stars"))
    assert one == Rejected("two red stars", "critic: not keeps, sober: it adds a cat")


@pytest.mark.parametrize("reply", ["{}", '{"keeps": true}', BadReply("cut off")])
async def test_a_critic_that_fails_settles_nothing(reply: Any) -> None:
    with pytest.raises(BadReply):
        await teacher([GOOD], [reply])(TeachSource("k", "two red stars"))


async def test_several_rewrites_of_one_request_differ_in_seed_and_equal_ones_count_once() -> None:
    def answer(request: ChatRequest) -> str:
        return GOOD.replace("plain", "dark") if (request.seed or 0) % 2 else GOOD

    chat = FakeChat(answer)
    found = await Teacher(chat, None, STYLE, settings=TeachSettings(rewrites=4))(TeachSource("k", "two red stars"))
    assert len({request.seed for request in chat.requests}) == 4
    assert len(found) == 2
    assert all(isinstance(one, Triplet) for one in found)


async def test_a_picture_gets_a_request_first_and_is_shown_for_the_rewrite() -> None:
    picture = Image.new("RGB", (8, 8))
    chat = FakeChat(["“two red stars”", GOOD])
    [one] = await Teacher(chat, None, STYLE)(TeachSource("k", None, picture))
    assert isinstance(one, Triplet)
    assert one.request == "two red stars"
    assert all(picture in (request.messages[-1].content) for request in chat.requests)
    assert "two red stars" in text_of(chat.requests[1])
    [none] = await teacher(["  "])(TeachSource("k", None, picture))
    assert none == Rejected("", "request: the request is empty; say what to draw")


# The script, against a server of its own.


class _Api:
    """An OpenAI-compatible server: `answer` gives the text of a reply to what was said, or a status to refuse with."""

    def __init__(self, answer: Callable[[str], str | int]) -> None:
        self.said: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                parts = [m["content"] for m in body["messages"]]
                text = "\n".join(p if isinstance(p, str) else json.dumps(p) for p in parts)
                outer.said.append(text)
                found = answer(text)
                status = found if isinstance(found, int) else 200
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": found}}
                told = {"id": "1", "object": "chat.completion", "created": 0, "model": "t", "choices": [choice]}
                data = json.dumps(told if status == 200 else {"error": {"message": "no"}}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def api() -> Iterator[Callable[[Callable[[str], str | int]], _Api]]:
    running: list[_Api] = []

    def start(answer: Callable[[str], str | int]) -> _Api:
        running.append(_Api(answer))
        return running[-1]

    yield start
    for one in running:
        one.close()


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(source: Path, out: Path, url: str, *more: str) -> int:
    return teach.main([str(source), str(out), "--model", "t", "--base-url", url, "--concurrency", "2", *more])


def _answer(text: str) -> str | int:
    if "You check training data" in text:
        return FINE
    if "circle" in text:
        return "<think>A circle.</think><answer>Three blue circles.</answer>"  # the guard minds the number
    return GOOD


def test_triplets_and_refusals_are_written_as_they_come_and_gone_on_with(
    tmp_path: Path, api: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "new" / "out.jsonl"
    source.write_text("two red stars\n\none blue circle\ntwo red stars\n", encoding="utf-8")
    server = api(_answer)
    assert run(source, out, server.url) == 0
    told = capsys.readouterr().err
    assert "2 sources, 0 of them done before" in told
    assert "1 triplets, 1 rejected (guard 1)" in told
    [kept] = rows(out)
    assert (kept["request"], kept["teacher"]) == ("two red stars", "t")
    [refused] = rows(out.with_name("out.jsonl.rejected.jsonl"))
    assert refused["reason"].startswith("guard: ")
    assert len(load_triplets([out]).records) == 1

    asked_before = len(server.said)
    # A kill cut a line in half: it goes, and only what it was about is asked again.
    journal = out.with_name("out.jsonl.journal")
    journal.write_text(journal.read_text(encoding="utf-8") + '{"crc": "half', encoding="utf-8")
    source.write_text("two red stars\none blue circle\ntwo red stars again\n", encoding="utf-8")
    assert run(source, out, server.url, "--no-critic") == 0
    assert "3 sources, 2 of them done before" in capsys.readouterr().err
    assert len(server.said) == asked_before + 1
    assert [row["request"] for row in rows(out)] == ["two red stars", "two red stars again"]


def test_what_a_server_failed_on_is_tried_again(tmp_path: Path, api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    prompts = [f"two red stars over {place}" for place in ("Rome", "Oslo", "Lima")]
    source.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in prompts), encoding="utf-8")
    good = "<think>Two.</think><answer>Two red stars over PLACE, seen from afar.</answer>"
    broken = ["Oslo"]

    def answer(text: str) -> str | int:
        place = next(place for place in ("Rome", "Oslo", "Lima") if place in text)
        return 400 if place in broken else good.replace("PLACE", place)

    server = api(answer)
    assert run(source, out, server.url, "--no-critic") == 3
    assert "1 of 3 sources could not be asked about; the same command tries them again" in capsys.readouterr().err
    assert len(rows(out)) == 2
    broken.clear()
    assert run(source, out, server.url, "--no-critic") == 0
    assert sorted(row["request"] for row in rows(out)) == sorted(prompts)


async def test_a_server_that_is_away_stops_the_run_soon(tmp_path: Path) -> None:
    chat = FakeChat(lambda request: ServerError("away"))
    items = [teach.TeachItem(str(i), f"{i} stars", None) for i in range(50)]
    with Journal(tmp_path / "journal", "teach") as journal:
        tally = await teach.teach_all(Teacher(chat, None, STYLE), items, journal, concurrency=2, patience=5)
    assert 5 <= tally.failed <= 7
    assert tally.last == "away"


def test_pictures_of_a_folder_and_of_records(tmp_path: Path, api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("a.png", "red"), ("b.jpg", "blue")):
        Image.new("RGB", (16, 16), colour).save(folder / name)
    (folder / "c.png").write_bytes(b"no picture")

    def answer(text: str) -> str:
        return GOOD if "Rewrite this request" in text else "two red stars"

    server = api(answer)
    out = tmp_path / "out.jsonl"
    assert run(folder, out, server.url, "--no-critic") == 0
    assert [row["request"] for row in rows(out)] == ["two red stars"] * 2
    assert "rejected (picture 1)" in capsys.readouterr().err
    assert sum("image_url" in text for text in server.said) == 4

    records = tmp_path / "records.jsonl"
    given = [{"prompt": "two red stars", "image": "pictures/a.png"}, {"image": "pictures/b.jpg"}]
    records.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    before = len(server.said)
    assert run(records, tmp_path / "second.jsonl", server.url, "--no-critic") == 0
    assert len(server.said) - before == 3  # the first has its request already


@pytest.mark.parametrize(
    ("lines", "more", "message"),
    [
        (None, [], "No such file"),
        ("", [], "no records"),
        ('{"prompt": ""}\n', [], "the request is empty"),
        ('{"image": "gone.png"}\n', [], "gone.png"),
        ('{"prompt": "x"}\n', ["--style", "no-such"], "unknown template style"),
        ('{"prompt": "x"}\n', ["--base-url", "localhost:1"], "base_url"),
        ('{"prompt": "x"}\n', ["--api-key-env", "REDRAFT_NO_SUCH_KEY"], "REDRAFT_NO_SUCH_KEY is not set"),
    ],
)
def test_what_is_refused_with_a_reason(
    tmp_path: Path, lines: str | None, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.jsonl"
    if lines is not None:
        source.write_text(lines, encoding="utf-8")
    assert run(source, tmp_path / "out.jsonl", "http://127.0.0.1:1/v1", *more) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_something_else_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("two stars\n", encoding="utf-8")
    out.write_text('{"prompt": "mine"}\n', encoding="utf-8")
    assert run(source, out, "http://127.0.0.1:1/v1") == 2
    assert "was not written by this script" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == '{"prompt": "mine"}\n'


@pytest.mark.parametrize(
    ("reply", "request_"),
    [
        ("<think>It shows stars.</think>two red stars", "two red stars"),
        (ChatReply("two red stars", reasoning="It shows stars."), "two red stars"),
        ("<think>It shows stars, I think", None),
        (ChatReply("two red", truncated=True), None),
    ],
)
async def test_thoughts_never_get_into_a_request(reply: Any, request_: str | None) -> None:
    chat = FakeChat([reply, GOOD])
    [answer] = await Teacher(chat, None, STYLE)(TeachSource("k", None, Image.new("RGB", (8, 8))))
    if request_ is None:
        assert isinstance(answer, Rejected)
        assert (answer.request, answer.reason.startswith("request: ")) == ("", True)
    else:
        assert isinstance(answer, Triplet)
        assert answer.request == request_


def test_pictures_of_one_name_and_size_are_told_apart_by_their_content(tmp_path: Path) -> None:
    for folder, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (32, 32), colour).save(tmp_path / folder / "0.bmp")
    records = tmp_path / "in.jsonl"
    records.write_text('{"image": "a/0.bmp"}\n{"image": "b/0.bmp"}\n')
    assert len({item.key for item in teach.read_items(str(records), 0.01)}) == 2


def test_lines_of_text_are_read_as_enhance_reads_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.txt"
    path.write_text("two birds\u2028on a\x85wire\n" + "x" * 5000 + "\na fox\n", encoding="utf-8")
    assert len(list(teach.read_items(str(path), 0.01))) == 2
    told = capsys.readouterr().err
    assert "1 malformed" in told
    assert f"{path}:2: " in told
