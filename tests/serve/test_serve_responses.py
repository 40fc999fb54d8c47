"""/v1/responses with the tool image_generation, asked by OpenAI's own client."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from PIL import Image

from agent.serve.openai.wire import markdown_pictures
from agent.testing import drawn_from, paint
from editors.backend import ImageTask
from tests.serve.conftest import Running, Start, png
from tests.serve.test_serve_openai import client_of, picture

TOOL: list[Any] = [{"type": "image_generation"}]
CIRCLE = "data:image/png;base64," + base64.b64encode(png(paint(ImageTask("a circle", 1)))).decode()
TOKENS = {"ann": "a-token-of-the-tests", "bob": "another-token-of-tests"}


@pytest.fixture
async def ai(server: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(server) as client:
        yield client


def call_of(response: Any) -> Any:
    (call,) = [item for item in response.output if item.type == "image_generation_call"]
    return call


async def test_a_conversation_of_responses(ai: openai.AsyncOpenAI) -> None:
    first = await ai.responses.create(model="gpt-5", input="a star", tools=TOOL, metadata={"a": "b"})
    call = call_of(first)
    assert (first.status, first.model, first.metadata, call.status) == ("completed", "gpt-5", {"a": "b"}, "completed")
    assert "star" in drawn_from(picture(call.result))[0] == call.revised_prompt
    assert "data:" not in first.output_text
    assert "accepted" in first.output_text
    assert first.redraft["accepted"] is True  # type: ignore[attr-defined]
    second = await ai.responses.create(model="fake", input="make it blue", previous_response_id=first.id, tools=TOOL)
    assert drawn_from(picture(call_of(second).result))[0] == "make it blue"
    assert second.previous_response_id == first.id
    asked = await ai.responses.create(model="fake", input="is there a star?", previous_response_id=second.id)
    assert [item.type for item in asked.output] == ["message"]
    assert "It shows 'make it blue'" in asked.output_text
    third = await ai.responses.create(model="fake", input="make it red", previous_response_id=asked.id, tools=TOOL)
    assert third.redraft["prompt"] == "make it red"  # type: ignore[attr-defined]
    kept = call_of(await ai.responses.retrieve(first.id))
    assert (kept.id, picture(kept.result).tobytes()) == (call.id, picture(call.result).tobytes())
    await ai.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as gone:
        await ai.responses.create(model="fake", input="make it blue", previous_response_id=first.id, tools=TOOL)
    assert gone.value.code == "previous_response_not_found"


async def test_pictures_are_edited_that_come_in_or_are_named_by_their_calls(ai: openai.AsyncOpenAI) -> None:
    content: list[Any] = [{"type": "input_text", "text": "add a star"}, {"type": "input_image", "image_url": CIRCLE}]
    mask = "data:image/png;base64," + base64.b64encode(png(Image.new("L", (64, 64), 255))).decode()
    tool: list[Any] = [{"type": "image_generation", "input_image_mask": {"image_url": mask}, "output_format": "webp"}]
    edited = await ai.responses.create(model="fake", input=[{"role": "user", "content": content}], tools=tool)
    call = call_of(edited)
    assert edited.redraft["prompt"] == "add a star"  # type: ignore[attr-defined]
    assert Image.open(io.BytesIO(base64.b64decode(call.result))).format == "WEBP"
    assert edited.tools[0].input_image_mask is None  # type: ignore[union-attr]
    again: list[Any] = [
        {"type": "image_generation_call", "id": call.id},
        {"role": "user", "content": "make it blue"},
    ]
    changed = await ai.responses.create(model="fake", input=again, tools=TOOL)
    assert changed.redraft["prompt"] == "make it blue"  # type: ignore[attr-defined]


async def test_a_stream_with_partial_images(ai: openai.AsyncOpenAI) -> None:
    tool: list[Any] = [{"type": "image_generation", "partial_images": 2}]
    stream = await ai.responses.create(model="fake", input="a square", tools=tool, stream=True)
    events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count("response.image_generation_call.partial_image") == 2
    assert kinds[-1] == "response.completed"
    done: Any = events[-1]
    assert call_of(done.response).result
    async with ai.responses.stream(model="fake", input="a square", tools=tool) as following:
        final = await following.get_final_response()
    assert call_of(final).result


async def test_without_the_tool_the_picture_stands_in_the_text(ai: openai.AsyncOpenAI) -> None:
    answer = await ai.responses.create(model="fake", input="a star")
    assert [item.type for item in answer.output] == ["message"]
    assert len(list(markdown_pictures(answer.output_text))) == 1
    talk = await ai.responses.create(model="fake", input="hello")
    assert "data:" not in talk.output_text
    drawn = await ai.responses.create(model="fake", input="hello", tools=TOOL, tool_choice={"type": "image_generation"})
    assert call_of(drawn).result


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tools": [{"type": "web_search"}]}, "image_generation is the one tool"),
        ({"tool_choice": "none"}, "tool_choice"),
        ({"background": True}, "background"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"tools": [{"type": "image_generation", "background": "transparent"}]}, "opaque"),
        ({"tools": [{"type": "image_generation", "size": "huge"}]}, "is no size"),
        ({"previous_response_id": "resp_../../etc/passwd"}, "there is no response"),
        ({"extra_body": {"redraft": {"negative_prompt": "text"}}}, "negative_prompt"),
    ],
)
async def test_what_cannot_be_had_is_refused_by_its_name(
    ai: openai.AsyncOpenAI, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.responses.create(**({"model": "fake", "input": "a star", "tools": TOOL} | more))
    assert said in refused.value.message


async def test_responses_are_the_clients_own(start: Start) -> None:
    async with start(tokens=TOKENS) as server, client_of(server, TOKENS["ann"]) as ann:
        first = await ann.responses.create(model="fake", input="a star", tools=TOOL)
        async with client_of(server, TOKENS["bob"]) as bob:
            with pytest.raises(openai.BadRequestError, match="there is no response"):
                await bob.responses.create(model="fake", input="blue", previous_response_id=first.id)
            with pytest.raises(openai.NotFoundError):
                await bob.responses.retrieve(first.id)
            again: list[Any] = [
                {"type": "item_reference", "id": call_of(first).id},
                {"role": "user", "content": "make it blue"},
            ]
            with pytest.raises(openai.BadRequestError, match="there is no response"):
                await bob.responses.create(model="fake", input=again)
