"""/v1, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from agent.serve.openai.wire import markdown_pictures
from agent.testing import drawn_from, paint
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from redraft.errors import ServerError
from tests.serve.conftest import Running, Start, png
from tests.serve.fakes import fake_served

TOKEN = "a-token-of-the-tests"


def client_of(server: Running, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=60)


@pytest.fixture
async def ai(server: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(server) as client:
        yield client


def picture(text: str | None) -> Image.Image:
    assert text is not None
    with Image.open(io.BytesIO(base64.b64decode(text))) as opened:
        opened.load()
        return opened


async def test_models(ai: openai.AsyncOpenAI) -> None:
    listed = [model async for model in ai.models.list()]
    assert [model.id for model in listed] == ["fake"]
    assert (await ai.models.retrieve("fake")).owned_by == "redraft"
    with pytest.raises(openai.NotFoundError) as refused:
        await ai.models.retrieve("other")
    assert refused.value.code == "model_not_found"


async def test_a_picture(ai: openai.AsyncOpenAI, server: Running) -> None:
    answer = await ai.images.generate(model="fake", prompt="a star", extra_body={"redraft": {"seed": 7}})
    assert answer.data is not None
    (one,) = answer.data
    assert drawn_from(picture(one.b64_json))[0] == one.revised_prompt
    more = one.model_extra["redraft"]  # type: ignore[index]
    assert more["accepted"] is True
    assert more["stop"] == "accepted"
    assert more["run_seed"] == 7
    assert {check["passed"] for check in more["checks"]} == {True}
    assert (await server.http.get(more["trace"])).status_code == 200
    assert answer.size == "64x64"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


@pytest.mark.parametrize(("format", "read_as"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
async def test_size_and_format(ai: openai.AsyncOpenAI, format: Any, read_as: str) -> None:
    asked: dict[str, Any] = {"size": "32x48", "output_format": format, "output_compression": 80}
    answer = await ai.images.generate(model="gpt-image-1", prompt="a star", **asked)
    assert answer.data is not None
    drawn = picture(answer.data[0].b64_json)
    assert (drawn.format, drawn.size) == (read_as, (32, 32)), "it is fitted in, and not stretched"
    assert (answer.size, answer.output_format) == ("32x32", format)


async def test_lower_quality_is_smaller(ai: openai.AsyncOpenAI) -> None:
    sizes = []
    for quality in (10, 100):
        answer = await ai.images.generate(
            model="fake", prompt="a star", size="512x512", output_format="jpeg", output_compression=quality,
            extra_body={"seed": 1},
        )  # fmt: skip
        assert answer.data is not None
        sizes.append(len(answer.data[0].b64_json or ""))
    assert sizes[0] < sizes[1]


async def test_several_pictures_by_url(ai: openai.AsyncOpenAI, server: Running) -> None:
    answer = await ai.images.generate(
        model="fake", prompt="a star", n=3, response_format="url", size="128x128", extra_body={"seed": 5}
    )
    assert answer.data is not None
    assert len({one.model_extra["redraft"]["run"] for one in answer.data}) == 3  # type: ignore[index]
    assert sorted(one.model_extra["redraft"]["run_seed"] for one in answer.data) == [5, 6, 7]  # type: ignore[index]
    for one in answer.data:
        assert one.b64_json is None
        got = await server.http.get(str(one.url))
        with Image.open(io.BytesIO(got.content)) as drawn:
            assert drawn.size == (128, 128)


async def test_a_stream_has_each_attempt(ai: openai.AsyncOpenAI) -> None:
    stream = await ai.images.generate(model="fake", prompt="a square", stream=True, extra_body={"seed": 2})
    events: list[Any] = [event async for event in stream]
    *partial, done = events
    assert [event.type for event in partial] == ["image_generation.partial_image"] * len(partial)
    assert [event.partial_image_index for event in partial] == list(range(len(partial)))
    assert len(partial) == done.redraft["attempts"] == 3
    assert done.type == "image_generation.completed"
    assert done.redraft["stop"] == "budget"
    assert done.redraft["accepted"] is False
    assert drawn_from(picture(done.b64_json))[0] == done.revised_prompt
    assert done.b64_json in {event.b64_json for event in partial}
    assert done.usage.total_tokens >= 0


@pytest.mark.parametrize("most", [0, 2])
async def test_partial_images_bound_the_stream(ai: openai.AsyncOpenAI, most: int) -> None:
    stream = await ai.images.generate(model="fake", prompt="a square", stream=True, partial_images=most)
    assert [event.type async for event in stream].count("image_generation.partial_image") == most


async def test_an_edit(ai: openai.AsyncOpenAI) -> None:
    source = paint(ImageTask("a circle", 1))
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 64, 64))
    answer = await ai.images.edit(
        model="fake", image=("source.png", png(source)), mask=("mask.png", png(mask)), prompt="add a star", n=2,
        extra_body={"redraft": '{"max_rounds": 1}'},
    )  # fmt: skip
    assert answer.data is not None
    assert len(answer.data) == 2
    assert {one.revised_prompt for one in answer.data} == {"add a star"}
    assert picture(answer.data[0].b64_json).size == (64, 64)


async def test_an_edit_that_streams(ai: openai.AsyncOpenAI) -> None:
    source = ("source.png", png(paint(ImageTask("a circle", 1))))
    stream = await ai.images.edit(model="fake", image=[source], prompt="add a star", stream=True)
    kinds = [event.type async for event in stream]
    assert kinds[-1] == "image_edit.completed"
    assert "image_edit.partial_image" in kinds


async def test_a_chat_and_a_change(ai: openai.AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "draw a star"}]
    answer = await ai.chat.completions.create(model="gpt-4o", messages=messages)
    message = answer.choices[0].message
    assert answer.model == "gpt-4o", "aliases answer to their names"
    assert str(message.content).startswith("![")
    assert str(message.content).count("data:image/png") == 1
    assert "images" not in (message.model_extra or {}), "the picture stands once"
    assert "star" in drawn_from(picture_of(answer))[0]
    assert "Checks:" in message.reasoning_content  # type: ignore[attr-defined]
    assert answer.redraft["accepted"] is True  # type: ignore[attr-defined]
    messages += [message.model_dump(), {"role": "user", "content": "make the star blue"}]
    changed = await ai.chat.completions.create(model="fake", messages=messages)
    assert drawn_from(picture_of(changed))[0] == "make the star blue"
    messages[-1] = {"role": "user", "content": "is there a star?"}
    looked = await ai.chat.completions.create(model="fake", messages=messages)
    assert "It shows" in str(looked.choices[0].message.content)


async def test_who_asks_for_the_modality_has_the_picture_beside_the_text(ai: openai.AsyncOpenAI) -> None:
    said: list[Any] = [{"role": "user", "content": "draw a star"}]
    answer = await ai.chat.completions.create(model="fake", messages=said, extra_body={"modalities": ["image", "text"]})
    message = answer.choices[0].message
    assert "data:" not in str(message.content)
    url = message.images[0]["image_url"]["url"]  # type: ignore[attr-defined]
    assert "star" in drawn_from(picture(url.partition(",")[2]))[0]


@pytest.mark.parametrize(
    "more", [{"tools": [{"type": "function", "function": {"name": "f"}}]}, {"response_format": {"type": "json_object"}}]
)
async def test_tools_and_json_are_refused(ai: openai.AsyncOpenAI, more: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match=next(iter(more))):
        await ai.chat.completions.create(model="fake", messages=[{"role": "user", "content": "a star"}], **more)


async def test_thanks_are_answered_and_draw_nothing(ai: openai.AsyncOpenAI) -> None:
    for said in ("thanks, looks good", "Thank you so much!"):
        answer = await ai.chat.completions.create(model="fake", messages=[{"role": "user", "content": said}])
        message = answer.choices[0].message
        assert "images" not in (message.model_extra or {})
        assert "You are welcome" in str(message.content)


async def test_an_old_picture_that_cannot_be_had_spoils_no_later_message(ai: openai.AsyncOpenAI) -> None:
    gone: Any = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "make it blue"}, gone]},
        {"role": "assistant", "content": "I could not load that."},
        {"role": "user", "content": "draw two stars"},
    ]
    answer = await ai.chat.completions.create(model="fake", messages=messages)
    assert "two stars" in drawn_from(picture_of(answer))[0]
    messages[-1] = {"role": "user", "content": "make it blue"}
    with pytest.raises(openai.BadRequestError):
        await ai.chat.completions.create(model="fake", messages=messages)


async def test_a_picture_that_comes_back_in_the_field_of_its_own_is_changed(ai: openai.AsyncOpenAI) -> None:
    url = "data:image/png;base64," + base64.b64encode(png(paint(ImageTask("a circle", 1)))).decode()
    earlier: Any = {"role": "assistant", "content": None, "images": [{"type": "image_url", "image_url": {"url": url}}]}
    messages = [{"role": "user", "content": "a circle"}, earlier, {"role": "user", "content": "make it blue"}]
    answer = await ai.chat.completions.create(model="fake", messages=messages)
    assert drawn_from(picture_of(answer))[0] == "make it blue"


def picture_of(answer: Any) -> Image.Image:
    (url,) = [url for _, _, url in markdown_pictures(answer.choices[0].message.content)]
    return picture(url.partition(",")[2])


async def test_a_chat_that_streams(ai: openai.AsyncOpenAI) -> None:
    stream = await ai.chat.completions.create(
        model="fake",
        messages=[{"role": "user", "content": "a star"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    reasoning = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert "Checks:" in reasoning
    assert "finely" in reasoning
    assert "".join(delta.content or "" for delta in deltas).startswith("![")
    assert next(chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason == "stop").redraft[
        "score"
    ]  # type: ignore[attr-defined]
    assert chunks[-1].usage is not None


async def test_a_picture_in_a_message_is_changed(ai: openai.AsyncOpenAI) -> None:
    url = "data:image/png;base64," + base64.b64encode(png(paint(ImageTask("a circle", 1)))).decode()
    models: list[Any] = [{"type": "text", "text": "a star"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = await ai.chat.completions.create(model="fake", messages=[{"role": "user", "content": models}])
    told = answer.redraft  # type: ignore[attr-defined]
    assert told["prompt"] == "a star", "an edit: rewrites would be finely"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "empty"),
    ({"prompt": "x" * 5000}, "4,000"),
    ({"prompt": "a", "n": 0}, "n"),
    ({"prompt": "a", "n": 11}, "n"),
    ({"prompt": "a", "size": "big"}, "is no size"),
    ({"prompt": "a", "size": "99999x1"}, "16 to 8192"),
    ({"prompt": "a", "background": "transparent"}, "opaque"),
    ({"prompt": "a", "response_format": "url", "output_format": "webp"}, "PNG"),
    ({"prompt": "a", "stream": True, "n": 2}, "one at a time"),
    ({"prompt": "a", "stream": True, "extra_body": {"redraft": {"max_images": 999}}}, "max_images"),
    ({"prompt": "a", "extra_body": {"redraft": {"max_images": 999}}}, "max_images"),
    ({"prompt": "a", "extra_body": {"redraft": {"color": 1}}}, "redraft.color"),
    ({"prompt": "a", "extra_body": {"redraft": "{"}}, "JSON"),
]


@pytest.mark.parametrize(("asked", "named"), BAD)
async def test_what_is_refused(ai: openai.AsyncOpenAI, asked: dict[str, Any], named: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.images.generate(model="fake", **asked)
    assert named in refused.value.message
    assert refused.value.type == "invalid_request_error"


async def test_other_refusals(ai: openai.AsyncOpenAI, server: Running) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await ai.images.generate(model="nosuch", prompt="a star")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    source = ("s.png", png(Image.new("RGB", (8, 8))))
    with pytest.raises(openai.BadRequestError, match="edits one picture alone"):
        await ai.images.edit(model="fake", image=[source, source], prompt="a star")
    with pytest.raises(openai.BadRequestError, match="not 10"):
        await ai.images.edit(model="fake", image=[source] * 10, prompt="a star")
    with pytest.raises(openai.BadRequestError, match="mask"):
        await ai.images.edit(
            model="fake", image=source, prompt="a star", mask=("m.png", png(Image.new("L", (8, 99), 255)))
        )
    with pytest.raises(openai.APIStatusError) as unknown:
        await ai.images.edit(model="fake", image=("s.png", b"<svg onload=alert(1)>"), prompt="a star")
    assert unknown.value.status_code == 415
    answer = await server.http.post("/v1/images/generations", content=b"[1]")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_body")


async def test_pictures_are_not_fetched_by_url(ai: openai.AsyncOpenAI, server: Running) -> None:
    for url in ("http://127.0.0.1:1/x.png", "https://example.com/x.png", "file:///etc/passwd"):
        part: Any = {"type": "image_url", "image_url": {"url": url}}
        text: Any = {"type": "text", "text": "add a star"}
        with pytest.raises(openai.BadRequestError, match="not fetched by URL"):
            await ai.chat.completions.create(model="fake", messages=[{"role": "user", "content": [text, part]}])
        body = {"prompt": "a star", "images": [{"image_url": url}]}
        answer = await server.http.post("/v1/images/edits", json=body)
        assert answer.status_code == 400
        assert "not fetched by URL" in answer.json()["error"]["message"]


async def test_a_token_is_needed_and_pictures_are_the_clients_own(start: Start) -> None:
    tokens = {"ann": TOKEN, "bob": TOKEN[::-1]}
    async with start(tokens=tokens, token=TOKEN[::-1]) as server:
        async with client_of(server, "wrong") as nobody:
            with pytest.raises(openai.AuthenticationError) as refused:
                await nobody.images.generate(model="fake", prompt="a star")
        assert "wrong" not in refused.value.message
        async with client_of(server, TOKEN) as ann:
            answer = await ann.images.generate(model="fake", prompt="a star", response_format="url")
        assert answer.data is not None
        more = answer.data[0].model_extra["redraft"]  # type: ignore[index]
        for url in (str(answer.data[0].url), more["trace"]):
            assert (await server.http.get(url)).status_code == 404, "bob's token"
            got = await server.http.get(url, headers={"Authorization": f"Bearer {TOKEN}"})
            assert got.status_code == 200


async def test_a_backend_that_fails(start: Start, tmp_path: Path) -> None:
    failing = FakeBackend(script=[ServerError("the painter is gone")] * 8)
    async with start(models=lambda metrics: [fake_served(metrics, backend=failing)]) as server, client_of(server) as ai:
        with pytest.raises(openai.InternalServerError) as failed:
            await ai.images.generate(model="fake", prompt="a star")
        assert failed.value.status_code == 502
        assert "the painter is gone" in failed.value.message
        stream = await ai.images.generate(model="fake", prompt="a star", stream=True)
        with pytest.raises(openai.APIError, match="the painter is gone"):
            async for _ in stream:
                pass


@pytest.mark.integration
async def test_on_mini(start: Start) -> None:
    async with start(models=None) as server, client_of(server) as ai:
        answer = await ai.images.generate(model="mini", prompt="a big red star", extra_body={"seed": 3})
        assert answer.data is not None
        assert "star" in str(answer.data[0].revised_prompt)
        assert picture(answer.data[0].b64_json).size == (256, 256)
        assert answer.usage is not None
        assert answer.usage.output_tokens > 0


class SlowBackend(FakeBackend):
    """Draws for half a minute, unless it is stopped between two steps."""

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        for step in range(600):
            time.sleep(0.05)
            if on_step is not None:
                on_step(step, 600)
        return super().render(tasks)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_hangs_up_ends_the_drawing(start: Start, stream: bool) -> None:
    async with start(models=lambda metrics: [fake_served(metrics, backend=SlowBackend(paint=paint))]) as server:

        async def under_way() -> bool:
            return "redraft_draws_under_way 1" in (await server.http.get("/metrics")).text

        body = {"prompt": "a star", "stream": stream}
        asking = asyncio.create_task(server.http.post("/v1/images/generations", json=body))
        async with asyncio.timeout(120):
            while not await under_way():  # noqa: ASYNC110 - metrics are all that is seen from outside
                await asyncio.sleep(0.05)
            asking.cancel()
            while await under_way():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert server.service.served(None).waiting() == 0
