"""What front ends send, replayed as their sources have it: Open WebUI 0.12.4 (routers/images.py and routers/openai.py of its
wheel) and LibreChat (api/app/clients/tools/structured, OpenAIImageTools.js and DALLE3.js, as read in November 2026)."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from agent.testing import drawn_from, paint
from editors.backend import ImageTask
from tests.serve.conftest import Running

KEY = {"Authorization": "Bearer none"}


def png(prompt: str) -> bytes:
    buffer = io.BytesIO()
    paint(ImageTask(prompt, 1)).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(prompt: str) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(prompt)).decode()}"


def picture(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))


def streamed_text(answer: httpx.Response) -> str:
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[-1]["usage"]["total_tokens"] >= 0, "it asks for the usage"
    return "".join(str(c["delta"].get("content") or "") for chunk in chunks for c in chunk["choices"])


async def count_runs(server: Running) -> int:
    drawn = (await server.http.get("/metrics")).text
    return int(sum(float(line.split()[-1]) for line in drawn.splitlines() if line.startswith("redraft_runs_total{")))


async def test_open_webui_lists_models(server: Running) -> None:
    listed = (await server.http.get("/v1/models", headers=KEY)).json()
    assert [model["id"] for model in listed["data"]] == ["fake"]


async def test_open_webui_generates_a_picture(server: Running) -> None:
    body = {"model": "fake", "prompt": "a star", "n": 1, "size": "512x512", "response_format": "b64_json"}
    answer = await server.http.post("/v1/images/generations", json=body, headers=KEY)
    assert picture(answer).size == (512, 512)
    assert answer.json()["data"][0].get("url") is None, "it would take the address first"


@pytest.mark.parametrize("names", [["image"], ["image[]", "image[]"]])
async def test_open_webui_edits_a_picture_or_several(server: Running, names: list[str]) -> None:
    files = [(name, (f"4f{i}.png", png(f"a heart {i}"), "image/png")) for i, name in enumerate(names)]
    form = {"model": "fake", "prompt": "make the star blue", "n": "1", "response_format": "b64_json"}
    answer = await server.http.post("/v1/images/edits", data=form, files=files, headers=KEY)
    if len(names) == 1:
        assert drawn_from(picture(answer))[0] == "make the star blue"
    else:
        assert answer.status_code == 400
        assert "reference" in answer.json()["error"]["message"], "this profile takes none, and it says so"


async def test_one_message_of_open_webui_is_one_run(server: Running) -> None:
    before = await count_runs(server)
    message = {"role": "user", "content": "a star"}
    body: dict[str, Any] = {
        "stream": True,
        "model": "fake",
        "messages": [message],
        "stream_options": {"include_usage": True},
    }
    answer = await server.http.post("/v1/chat/completions", json=body, headers=KEY)
    assert streamed_text(answer).count("data:image/png;base64,") == 1
    follow = 'JSON format: { "follow_ups": ["Question 1?"] }\n### Chat History:\n<chat_history>\nUSER: a star\n</chat_history>'
    task = {"role": "user", "content": f"### Task:\nSuggest 3-5 relevant follow-up questions.\n### Output:\n{follow}"}
    told = await server.http.post(
        "/v1/chat/completions", json={"model": "fake", "messages": [task], "stream": False}, headers=KEY
    )
    assert "follow_ups" in told.json()["choices"][0]["message"]["content"]
    assert await count_runs(server) == before + 1


async def test_a_picture_in_a_message_of_open_webui_is_changed(server: Running) -> None:
    content = [
        {"type": "text", "text": "make the star blue"},
        {"type": "image_url", "image_url": {"url": data_url("a heart")}},
    ]
    body = {"stream": True, "model": "fake", "messages": [{"role": "user", "content": content}]}
    answer = await server.http.post(
        "/v1/chat/completions", json=body | {"stream_options": {"include_usage": True}}, headers=KEY
    )
    drawn = streamed_text(answer).partition("base64,")[2].partition(")")[0]
    assert drawn_from(Image.open(io.BytesIO(base64.b64decode(drawn))))[0] == "make the star blue"


async def test_open_webui_by_the_responses_api(server: Running) -> None:
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a star"}]}
    body = {"model": "fake", "input": [said], "stream": True, "store": False}
    answer = await server.http.post("/v1/responses", json=body, headers=KEY)
    assert "response.completed" in answer.text
    assert "data:image/png;base64," in answer.text


async def test_librechat_generates_by_openai_s_client(server: Running) -> None:
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    answer = await client.images.generate(
        model="gpt-image-1", prompt="a star", n=1, background="auto", output_format="png", quality="auto", size="auto"
    )
    assert answer.data is not None
    assert answer.data[0].b64_json


async def test_librechat_edits_by_a_form(server: Running) -> None:
    form = {"model": "gpt-image-1", "prompt": "make the star blue", "quality": "auto", "size": "auto"}
    files = [("image[]", ("star.png", png("a heart"), "image/png"))]
    answer = await server.http.post("/v1/images/edits", data=form, files=files, headers=KEY)
    assert drawn_from(picture(answer))[0] == "make the star blue"


async def test_librechat_s_dalle_tool_fetches_what_it_was_given(server: Running) -> None:
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    answer = await client.images.generate(
        model="dall-e-3", prompt="a star", n=1, quality="standard", style="vivid", size="1024x1024"
    )
    assert answer.data is not None
    assert answer.data[0].url is not None
    fetched = await server.http.get(answer.data[0].url)
    assert Image.open(io.BytesIO(fetched.content)).size[0] > 0


async def test_librechat_s_chat(server: Running) -> None:
    content = [
        {"type": "text", "text": "make the star blue"},
        {"type": "image_url", "image_url": {"url": data_url("a heart"), "detail": "auto"}},
    ]
    body = {
        "model": "fake", "user": "66f0", "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": content}],
    }  # fmt: skip
    assert "data:image/png;base64," in streamed_text(
        await server.http.post("/v1/chat/completions", json=body, headers=KEY)
    )
