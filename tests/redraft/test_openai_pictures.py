"""Pictures on their way to a chat server: encoded once, sent once to vLLM, and of a bounded size elsewhere."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
from typing import Any

import pytest
from PIL import Image

from redraft.chat import ChatRequest, Message
from redraft.errors import ServerError
from redraft.openai_chat import MAX_PIXELS, PictureCodes, encode_messages
from tests.redraft.conftest import Answer, Call
from tests.redraft.openai_chats import Serve, chat_to, error, reply
from tests.redraft.test_openai_choices import vllm

RED, BLUE = (Image.new("RGB", (40, 30), color) for color in ("red", "blue"))


def question(image: Image.Image, number: int = 0) -> ChatRequest:
    return ChatRequest((Message("user", (image, f"question {number}?")),), choices=("yes", "no"))


class CachingServer:
    """As much of vLLM as pictures need: it keeps those that came with a uuid, and refuses a bare uuid that it lacks."""

    def __init__(self, *, batches: bool = True) -> None:
        self.kept: set[str] = set()
        self.batches = batches

    def __call__(self, call: Call) -> Answer:
        if call.path == BATCHES:
            return self.answer_all(call) if self.batches else error(404)
        for part in pictures(call):
            if "too long" in json.dumps(call.body):
                return error(400, "This model's maximum context length is 512 tokens")
            name = part.get("uuid")
            if part["image_url"] is None and name not in self.kept:
                return error(400, "Cache miss for image: data is not provided")
            if name:
                self.kept.add(name)
        return vllm(call)

    def answer_all(self, call: Call) -> Answer:
        """The batch route: one bad conversation fails all; the choices come in any order."""
        alone = [
            self(Call(CHATS, call.body | {"messages": messages}, call.headers)) for messages in call.body["messages"]
        ]
        bad = next((answer for answer in alone if answer.status != 200), None)
        if bad is not None:
            return bad
        choices = [answer.body["choices"][0] | {"index": at} for at, answer in enumerate(alone)]
        for choice, messages in zip(choices, call.body["messages"], strict=True):
            choice["message"] = {"role": "assistant", "content": messages[0]["content"][-1]["text"]}
        return Answer({"model": "served", "choices": choices[::-1], "usage": {"prompt_tokens": 7 * len(choices)}})


CHATS, BATCHES = "/v1/chat/completions", "/v1/chat/completions/batch"


def pictures(call: Call) -> list[dict[str, Any]]:
    messages = call.body.get("messages", [])
    conversations = messages if call.path == BATCHES else [messages]
    parts = [part for conversation in conversations for message in conversation for part in message["content"]]
    return [part for part in parts if part["type"] == "image_url"]


def chats(server: Any) -> list[Call]:
    return [call for call in server.calls if call.path in (CHATS, BATCHES)]


async def test_vllm_gets_a_picture_once_however_many_questions_are_asked(serve: Serve) -> None:
    server = serve(CachingServer())
    chat = chat_to(server)
    await chat(question(BLUE))  # what the server can do is known from here on
    before = len(chats(server))
    replies = await asyncio.gather(*(chat(question(RED, number)) for number in range(24)))
    sent = [part for call in chats(server)[before:] for part in pictures(call)]
    assert len(sent) == 24
    assert sum(part["image_url"] is not None for part in sent) == 1
    assert len({part["uuid"] for part in sent}) == 1
    assert all(math.exp(got.logprobs["yes"]) == pytest.approx(0.75) for got in replies)


async def test_questions_about_a_picture_that_the_server_has_go_in_one_request(serve: Serve) -> None:
    server = serve(CachingServer())
    chat = chat_to(server)
    await chat(question(BLUE))
    before = len(chats(server))
    replies = await asyncio.gather(*(chat(question(RED, number)) for number in range(24)))
    alone, together = chats(server)[before:]
    assert [call.path for call in (alone, together)] == [CHATS, BATCHES]
    assert len(together.body["messages"]) == 23
    assert together.body["logprob_token_ids"] == alone.body["logprob_token_ids"]
    # Each got its own answer: the stand-in says the question again.
    assert [got.text for got in replies[1:]] == [f"question {number}?" for number in range(1, 24)]
    assert sum(got.usage.prompt_tokens for got in replies) == 7 * 24


async def test_a_server_without_the_batch_route_is_asked_for_it_once(serve: Serve) -> None:
    server = serve(CachingServer(batches=False))
    chat = chat_to(server)
    for picture in (BLUE, RED):
        replies = await asyncio.gather(*(chat(question(picture, number)) for number in range(6)))
        assert all(math.exp(got.logprobs["yes"]) == pytest.approx(0.75) for got in replies)
    assert [call.path for call in chats(server)].count(BATCHES) == 1


async def test_a_proxy_that_knows_another_batch_route_is_not_believed(serve: Serve) -> None:
    cache = CachingServer(batches=False)
    server = serve(lambda call: Answer({"object": "batch", "id": "b-1"}) if call.path == BATCHES else cache(call))
    chat = chat_to(server)
    await chat(question(BLUE))
    replies = await asyncio.gather(*(chat(question(RED, number)) for number in range(6)))
    assert all(math.exp(got.logprobs["yes"]) == pytest.approx(0.75) for got in replies)


async def test_one_bad_question_of_a_batch_fails_alone(serve: Serve) -> None:
    server = serve(CachingServer())
    chat = chat_to(server)
    await chat(question(RED))
    bad = ChatRequest((Message("user", (RED, "too long")),), choices=("yes", "no"))
    asked = [question(RED, 1), bad, question(RED, 2)]
    first, failed, last = await asyncio.gather(*(chat(request) for request in asked), return_exceptions=True)
    assert isinstance(failed, ServerError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)


async def test_a_batch_about_a_picture_that_the_server_has_dropped_is_answered_all_the_same(serve: Serve) -> None:
    cache = CachingServer()
    server = serve(cache)
    chat = chat_to(server)
    await asyncio.gather(*(chat(question(RED, number)) for number in range(6)))
    cache.kept.clear()
    before = len(chats(server))
    replies = await asyncio.gather(*(chat(question(RED, number)) for number in range(6)))
    assert all(math.exp(got.logprobs["yes"]) == pytest.approx(0.75) for got in replies)
    sent = [part for call in chats(server)[before:] for part in pictures(call)]
    assert sum(part["image_url"] is not None for part in sent) == 1


async def test_a_caller_that_gives_up_leaves_the_others_their_answers(serve: Serve) -> None:
    server = serve(CachingServer())
    chat = chat_to(server)
    for _ in range(2):
        await chat(question(RED))  # what the server can do is known, and then it has the picture
    calls = [asyncio.ensure_future(chat(question(RED, number))) for number in range(4)]
    await asyncio.sleep(0)
    calls[1].cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(done[1], asyncio.CancelledError)
    assert [got.text for at, got in enumerate(done) if at != 1] == ["question 0?", "question 2?", "question 3?"]  # type: ignore[union-attr]


async def test_the_very_first_picture_is_sent_twice_at_most(serve: Serve) -> None:
    server = serve(CachingServer())
    chat = chat_to(server)
    await asyncio.gather(*(chat(question(RED, number)) for number in range(24)))
    sent = [part for call in chats(server) for part in pictures(call)]
    assert sum(part["image_url"] is not None for part in sent) == 2


async def test_a_picture_that_the_server_has_dropped_is_sent_again(serve: Serve) -> None:
    cache = CachingServer()
    server = serve(cache)
    chat = chat_to(server)
    await chat(question(RED))
    await chat(question(RED))
    cache.kept.clear()
    assert math.exp((await chat(question(RED))).logprobs["yes"]) == pytest.approx(0.75)
    assert [part["image_url"] is None for call in chats(server)[-2:] for part in pictures(call)] == [True, False]
    await chat(question(RED))
    assert pictures(chats(server)[-1])[0]["image_url"] is None


async def test_a_picture_whose_first_sending_failed_is_sent_by_the_next(serve: Serve) -> None:
    state = {"down": False}
    cache = CachingServer()
    server = serve(lambda call: error(400, "no") if state["down"] and pictures(call) else cache(call))
    chat = chat_to(server)
    await chat(question(BLUE))
    state["down"] = True
    with pytest.raises(ServerError):
        await chat(question(RED))
    state["down"] = False
    await chat(question(RED))
    assert pictures(chats(server)[-1])[0]["image_url"] is not None


async def test_a_picture_that_was_painted_on_is_another_picture(serve: Serve) -> None:
    server = serve(CachingServer())
    chat = chat_to(server)
    picture = RED.copy()
    await chat(question(picture))
    await chat(question(picture))
    picture.paste("green", (0, 0, 10, 10))
    await chat(question(picture))
    names = [part["uuid"] for call in chats(server)[1:] for part in pictures(call)]
    assert len(set(names)) == 2
    assert pictures(chats(server)[-1])[0]["image_url"] is not None


async def test_other_servers_get_no_uuid_and_pictures_of_bounded_size(serve: Serve) -> None:
    def plain(call: Call) -> Answer:
        if call.path != "/v1/chat/completions":
            return error(404)
        return reply("a picture") if "logprobs" not in call.body else reply("yes", logprobs=LOGS)

    server = serve(plain)
    chat = chat_to(server)
    large = Image.new("RGB", (3000, 1000), "red")
    for _ in range(2):
        await chat(question(large))
    await chat(ChatRequest((Message("user", (large, "what is this?")),)))
    for call in chats(server):
        (part,) = pictures(call)
        assert "uuid" not in part
        size = Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))).size
        assert size[0] * size[1] <= MAX_PIXELS
        assert size[0] / size[1] == pytest.approx(3, rel=0.01)


LOGS = {"content": [{"token": "yes", "top_logprobs": [{"token": "yes", "logprob": -0.1}]}]}


def test_a_picture_is_encoded_once_and_few_are_kept() -> None:
    codes = PictureCodes()
    first = codes.code(RED)
    assert codes.code(RED.copy()) is first
    assert codes.code(BLUE) is not first
    for side in range(1, 6):
        codes.code(Image.new("RGB", (side, side)))
    assert codes.code(RED) is not first
    assert codes.code(RED) == first


def test_without_a_code_of_its_own_a_picture_goes_as_png() -> None:
    (message,) = encode_messages((Message("user", (RED, "what is this?")),))
    assert message["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")  # type: ignore[index]
