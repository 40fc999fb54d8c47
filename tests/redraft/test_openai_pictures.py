"""Pictures on their way to a chat server: encoded once, sent once to vLLM, and of a bounded size elsewhere."""

from __future__ import annotations

import asyncio
import base64
import io
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

    def __init__(self) -> None:
        self.kept: set[str] = set()

    def __call__(self, call: Call) -> Answer:
        for part in pictures(call):
            name = part.get("uuid")
            if part["image_url"] is None and name not in self.kept:
                return error(400, "Cache miss for image: data is not provided")
            if name:
                self.kept.add(name)
        return vllm(call)


def pictures(call: Call) -> list[dict[str, Any]]:
    parts = call.body["messages"][0]["content"] if "messages" in call.body else []
    return [part for part in parts if part["type"] == "image_url"]


def chats(server: Any) -> list[Call]:
    return [call for call in server.calls if call.path == "/v1/chat/completions"]


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
