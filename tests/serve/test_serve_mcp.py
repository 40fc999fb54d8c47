"""The MCP tools, asked by the SDK's own client: in memory, over HTTP, and over stdin and stdout of a real process."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from agent.serve.mcp import create_mcp
from agent.serve.service import Service
from agent.serve.settings import Bounds, ServerSettings
from agent.testing import drawn_from, paint
from editors.backend import ImageTask
from editors.testing import FakeBackend
from redraft.errors import ServerError
from tests.serve.conftest import Running, Start, png
from tests.serve.fakes import fake_served

TOKEN = "a-token-of-the-tests"


def picture_of(result: Any) -> Image.Image:
    (one,) = [part for part in result.content if part.type == "image"]
    assert one.mime_type == "image/png"
    with Image.open(io.BytesIO(base64.b64decode(one.data))) as opened:
        opened.load()
        return opened


def text_of(result: Any) -> str:
    (one,) = [part for part in result.content if part.type == "text"]
    return str(one.text)


class Told:
    """What progress was told."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.said: list[str] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.at.append(progress)
        self.said.append(message or "")


async def test_the_tools(server: Running) -> None:
    async with Client(create_mcp(server.service)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"draw", "edit", "judge", "enhance"}
    assert tools["draw"].input_schema["required"] == ["request"]
    assert "ctx" not in tools["draw"].input_schema["properties"]
    assert all(tool.description for tool in tools.values())
    assert {"size", "negative_prompt", "seed", "n", "references", "max_steps"} <= set(
        tools["draw"].input_schema["properties"]
    )


async def test_several_pictures_resources_and_prompts(server: Running) -> None:
    async with Client(create_mcp(server.service)) as client:
        drawn = await client.call_tool("draw", {"request": "a star", "seed": 2**64 - 1, "n": 2, "max_images": 1})
        value = drawn.structured_content
        assert [picture["run_seed"] for picture in value["pictures"]] == [2**64 - 1, 0]
        assert [part.type for part in drawn.content] == ["image", "image", "text"]
        refused = await client.call_tool("draw", {"request": "a star", "negative_prompt": "text"})
        assert refused.is_error
        assert "negative_prompt: fake takes no negative prompts" in text_of(refused)
        run = await client.read_resource(f"redraft://runs/{value['run']}")
        assert '"request": "a star"' in run.contents[0].text
        picture = await client.read_resource(f"redraft://pictures/{value['image']}")
        assert picture.contents[0].mime_type == "image/png"
        prompt = await client.get_prompt("draw_until_right", {"request": "a fox"})
        assert "a fox" in prompt.messages[0].content.text


async def test_draw_edit_judge_enhance(server: Running) -> None:
    told = Told()
    async with Client(create_mcp(server.service)) as client:
        drawn = await client.call_tool("draw", {"request": "a star", "seed": 7}, progress_callback=told)
        assert not drawn.is_error
        assert "star" in drawn_from(picture_of(drawn))[0]
        value = drawn.structured_content
        assert value["accepted"] is True
        assert value["run_seed"] == 7
        assert text_of(drawn).startswith("accepted")
        assert told.at == sorted(set(told.at)), "each value is larger than the one before"
        assert any("picture 1: 0.9" in line for line in told.said)

        changed = await client.call_tool("edit", {"image": value["image"], "instruction": "a blue star"})
        assert drawn_from(picture_of(changed))[0] == "a blue star"

        circle = base64.b64encode(png(paint(ImageTask("a circle", 1)))).decode()
        judged = await client.call_tool("judge", {"image": circle, "request": "a star"})
        assert judged.structured_content["accepted"] is False
        assert judged.structured_content["score"] == pytest.approx(0.3)
        assert text_of(judged).count("- no:") == 3

        better = await client.call_tool("enhance", {"request": "a star"})
        assert better.structured_content["prompt"] == text_of(better) == "a star, finely"


@pytest.mark.parametrize(
    ("tool", "asked", "named"),
    [
        ("draw", {"request": " "}, "empty"),
        ("draw", {"request": "a star", "profile": "nosuch"}, "nosuch"),
        ("draw", {"request": "a star", "max_images": 999}, "max_images"),
        ("judge", {"request": "a star", "image": "http://127.0.0.1/x.png"}, "not fetched by URL"),
        ("judge", {"request": "a star", "image": "f" * 64}, "no such picture"),
        ("judge", {"request": "a star", "image": "../../etc/passwd"}, "neither base64"),
        ("edit", {"instruction": "a star", "image": base64.b64encode(b"<svg>").decode()}, "SVG"),
    ],
)
async def test_what_a_model_can_mend(server: Running, tool: str, asked: dict[str, Any], named: str) -> None:
    async with Client(create_mcp(server.service)) as client:
        result = await client.call_tool(tool, asked)
    assert result.is_error
    assert named in text_of(result)


async def test_a_backend_that_fails(start: Start) -> None:
    failing = FakeBackend(script=[ServerError("the painter is gone")] * 4)
    async with (
        start(models=lambda metrics: [fake_served(metrics, backend=failing)]) as server,
        Client(create_mcp(server.service)) as client,
    ):
        result = await client.call_tool("draw", {"request": "a star"})
    assert result.is_error
    assert "the painter is gone" in text_of(result)


async def test_over_http(start: Start) -> None:
    """With a token, and pictures larger than other bodies may be."""
    large = png(Image.effect_noise((700, 700), 90).convert("RGB"))
    assert len(large) > Bounds().max_body
    async with start(tokens={"ann": TOKEN, "bob": TOKEN[::-1]}, token=TOKEN[::-1]) as server:
        assert (await httpx_post(server)).status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            told = Told()
            async with Client(streamable_http_client(f"{server.url}/mcp", http_client=http)) as client:
                drawn = await client.call_tool("draw", {"request": "a star"}, progress_callback=told)
                assert "star" in drawn_from(picture_of(drawn))[0]
                assert told.at
                image = base64.b64encode(large).decode()
                refused = await client.call_tool("edit", {"image": image, "instruction": ""})
                assert "empty" in text_of(refused)
        run = drawn.structured_content["run"]
        assert (await server.http.get(f"/api/runs/{run}")).status_code == 404, "it is ann's, and bob asks"
        assert (await server.http.get(f"/api/runs/{run}", headers=headers)).status_code == 200


async def httpx_post(server: Running) -> Any:
    async with httpx2.AsyncClient() as http:
        return await http.post(f"{server.url}/mcp", json={})


@pytest.mark.integration
async def test_over_stdin_and_stdout(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent.cli", "serve", "--mcp", "--data", str(tmp_path)]
    parameters = StdioServerParameters(command=command[0], args=command[1:])
    with (tmp_path / "stderr").open("w") as errors:
        async with Client(stdio_client(parameters, errlog=errors)) as client:
            assert client.server_info.name == "redraft"
            told = Told()
            drawn = await client.call_tool(
                "draw", {"request": "a big red star", "seed": 3, "max_images": 1}, progress_callback=told
            )
            assert not drawn.is_error, text_of(drawn)
            assert picture_of(drawn).size == (256, 256)
            assert told.at == sorted(set(told.at))
            judged = await client.call_tool(
                "judge", {"image": drawn.structured_content["image"], "request": "a big red star"}
            )
            assert judged.structured_content["score"] == pytest.approx(drawn.structured_content["score"], abs=0.02)
    assert "Traceback" not in (tmp_path / "stderr").read_text()


REWRITES = """
description = "Rewrites cut-outs."
[scope]
use = "mini.world.scope:CutoutScope"
draws = "paper cut-outs"
[rewriter]
style = "package:mini/rewriter/style"
target = "package:mini/rewriter/target.toml"
max_tokens = 320
model = { kind = "transformers", model = "package:mini/weights/rewriter", local = { device = "cpu" } }
"""


@pytest.mark.integration
async def test_a_profile_that_only_rewrites_enhances_and_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "rewrites.toml").write_text(REWRITES)
    settings = ServerSettings(profiles=(str(tmp_path / "rewrites.toml"),), data=tmp_path / "served")
    async with Service(settings) as service, Client(create_mcp(service)) as client:
        made = await client.call_tool("enhance", {"request": "two tiny crimson stars above a big blue disc"})
        drawn = await client.call_tool("draw", {"request": "a star"})
    assert not made.is_error
    assert made.structured_content["profile"] == {"name": "rewrites", "description": "Rewrites cut-outs."}
    assert "star" in text_of(made)
    assert drawn.is_error
    assert "no [generator]" in text_of(drawn)
