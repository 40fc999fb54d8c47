"""The script that keeps the prompts about which a rewriter is undecided."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redraft.chat import ChatModel, ChatReply, ChatRequest
from redraft.errors import BackendError, BadReply
from redraft.journal import Journal
from redraft.profiles import ModelConfig, RewriterConfig
from redraft.testing import FakeChat, text_of
from rewriter.cot import Asking
from rewriter.train import undecided
from rewriter.train.data import Missed, RLRequest, load_requests

SURE, UNSURE, BROKEN = "two red stars", "something nice", "nobody knows"
RECORDS = [
    {"request": SURE},
    {"request": UNSURE, "task": "taste"},
    {"request": BROKEN, "before": "a thing", "failed": ["Is it there?"]},
]


def reply(request: ChatRequest) -> ChatReply:
    """Always the same to the first prompt, one of two to the second, and nothing that could be read to the third."""
    text, seed = text_of(request), request.seed or 0
    if BROKEN in text:
        return ChatReply("<think>hm")
    word = "stars" if SURE in text else ("cats", "dogs")[seed % 2]
    return ChatReply(f"<think>so {seed}</think><answer>lovely {word}</answer>")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return tmp_path


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> FakeChat:
    return served(monkeypatch, reply)


def served(monkeypatch: pytest.MonkeyPatch, by: Callable[[ChatRequest], Any]) -> FakeChat:
    chat = FakeChat(by)
    monkeypatch.setattr(undecided, "open_chat", lambda config: chat)
    return chat


def run(place: Path, *options: str) -> int:
    given = [str(place / "in.jsonl"), str(place / "out.jsonl"), "--model", "m", "--base-url", "http://localhost:1/v1"]
    return undecided.main([*given, "--samples", "4", *options])


def kept(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]


async def counted(chat: ChatModel, record: RLRequest) -> int:
    config = RewriterConfig(model=ModelConfig(kind="transformers", model="fake"))
    return await undecided.count_prompts(chat, Asking.of(config), record, 4)


async def test_different_rewrites_are_counted_and_what_cannot_be_read_is_each_its_own() -> None:
    assert await counted(FakeChat(reply), RLRequest(SURE)) == 1
    assert await counted(FakeChat(reply), RLRequest(UNSURE)) == 2
    assert await counted(FakeChat(reply), RLRequest(BROKEN)) == 4
    assert (
        await counted(FakeChat([BadReply("empty"), *["<think>x</think><answer>y</answer>"] * 3]), RLRequest(SURE)) == 2
    )


async def test_all_replies_are_sampled_and_repairs_are_asked_for_as_the_loop_does() -> None:
    chat = FakeChat(reply)
    await counted(chat, RLRequest(SURE, missed=Missed("a grey star", ("Is it red?",))))
    assert len(chat.requests) == 4
    assert all(request.temperature and request.temperature > 0 for request in chat.requests)
    assert len({request.seed for request in chat.requests}) == 4
    assert "a grey star" in text_of(chat.requests[0])


def test_the_undecided_are_kept_whole_and_in_order(place: Path, chat: FakeChat) -> None:
    assert run(place) == 0
    assert kept(place) == RECORDS[1:]
    assert not (place / "out.jsonl.part").exists()
    assert len(load_requests([place / "out.jsonl"]).records) == 2


def test_more_may_be_wanted_of_a_record_and_fewer_records(place: Path, chat: FakeChat) -> None:
    assert run(place, "--distinct", "3") == 0
    assert kept(place) == RECORDS[2:]
    assert run(place, "--count", "1") == 0
    assert kept(place) == RECORDS[1:2]


def test_the_same_command_goes_on_where_a_server_failed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecided, "CHUNK", 1)

    def away(request: ChatRequest) -> ChatReply:
        if BROKEN in text_of(request):
            raise BackendError("no server here; start it")
        return reply(request)

    served(monkeypatch, away)
    assert run(place) == 3
    assert not (place / "out.jsonl").exists()
    with (place / "out.jsonl.part").open("a") as file:
        file.write('{"crc": "cut o')
    chat = served(monkeypatch, reply)
    assert run(place) == 0
    assert kept(place) == RECORDS[1:]
    assert all(BROKEN in text_of(request) for request in chat.requests), "the others were asked about before"


def test_other_settings_do_not_resume_from_a_part(
    place: Path, chat: FakeChat, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(place / "out.jsonl.part", "undecided", about={"model": "another"}) as journal:
        journal.put("key", 1)
    assert run(place) == 2
    assert "out.jsonl.part was begun with other settings" in " ".join(capsys.readouterr().err.split())
    assert run(place, "--distinct", "5") == 2
    assert "--distinct 5" in capsys.readouterr().err
    assert run(place, "--temperature", "3") == 2
    assert "temperature: " in capsys.readouterr().err
