"""The ComfyUI nodes, loaded the way ComfyUI loads a package, on the mini models and the stub of its API."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from redraft.errors import BackendError, ConfigError, InputError
from tests.integrations import comfy_stub

PACKAGE = Path(__file__).parents[2] / "integrations" / "comfyui"
ASK = "a big red star"


@pytest.fixture(scope="module")
def package() -> Iterator[ModuleType]:
    name = "redraft_comfyui_under_test"
    sys.modules["comfy_api"] = ModuleType("comfy_api")
    sys.modules["comfy_api.latest"] = comfy_stub
    spec = importlib.util.spec_from_file_location(
        name, PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    for loaded in [one for one in sys.modules if one.startswith((name, "comfy_api"))]:
        del sys.modules[loaded]


@pytest.fixture(scope="module")
def nodes(package: ModuleType) -> ModuleType:
    found = sys.modules[f"{package.__name__}.nodes"]
    assert isinstance(found, ModuleType)
    return found


@pytest.fixture(scope="module")
def stub() -> ModuleType:
    return comfy_stub


async def test_what_comfyui_is_given(package: ModuleType) -> None:
    extension = await package.comfy_entrypoint()
    schemas = [node.GET_SCHEMA() for node in await extension.get_node_list()]
    assert [one.node_id for one in schemas] == [
        "RedraftEnhancePrompt",
        "RedraftJudgeImage",
        "RedraftDrawUntilAccepted",
        "RedraftEditImage",
    ]
    assert [[o.io_type for o in one.outputs] for one in schemas] == [
        ["STRING"] * 4,
        ["IMAGE", "FLOAT", "BOOLEAN", "INT", "STRING"],
        ["IMAGE", "FLOAT", "BOOLEAN", "STRING", "STRING", "STRING"],
        ["IMAGE", "FLOAT", "BOOLEAN", "STRING", "STRING", "STRING"],
    ]


def test_the_stub_refuses_what_comfyui_refuses(stub: ModuleType) -> None:
    io = stub.io
    with pytest.raises(TypeError, match="has no colour"):
        io.Int.Input("n", default=1, colour="red")
    with pytest.raises(TypeError, match="default"):
        io.Int.Input("n", default="one")

    class Twice(io.ComfyNode):  # type: ignore[name-defined, misc]
        @classmethod
        def define_schema(cls) -> Any:
            return io.Schema("Twice", inputs=[io.String.Input("a")], outputs=[io.String.Output("a")])

    with pytest.raises(ValueError, match="unique"):
        Twice.GET_SCHEMA()

    class Other(io.ComfyNode):  # type: ignore[name-defined, misc]
        @classmethod
        def define_schema(cls) -> Any:
            return io.Schema("Other", inputs=[io.String.Input("a")])

        @classmethod
        def execute(cls, b: str) -> Any:
            return io.NodeOutput(b)

    with pytest.raises(TypeError, match="takes"):
        Other.GET_SCHEMA()


def test_tensors_and_pictures(nodes: ModuleType) -> None:
    pictures = [Image.new("RGB", (6, 4), colour) for colour in ((255, 0, 128), (1, 2, 3))]
    tensor = nodes.to_tensor(pictures)
    assert tensor.shape == (2, 4, 6, 3)
    assert tensor.dtype == torch.float32
    assert [one.tobytes() for one in nodes.to_pictures(tensor)] == [one.tobytes() for one in pictures]
    # An alpha channel is dropped, values out of range are cut off.
    assert nodes.to_pictures(torch.full((1, 2, 2, 4), 1.5))[0].getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.integration
async def test_enhance(nodes: ModuleType) -> None:
    better, negative, thought, findings = (await nodes.EnhancePrompt.execute(ASK, "mini", 3)).result
    assert findings == ""
    assert better
    assert better != ASK
    assert "star" in better
    assert thought
    assert isinstance(negative, str)
    assert (await nodes.EnhancePrompt.execute(ASK, "mini", 3)).result[0] == better
    better, _, _, findings = (await nodes.EnhancePrompt.execute("an astronaut on a horse", "mini", 3)).result
    assert better == "an astronaut on a horse"
    assert "astronaut" in findings


@pytest.mark.integration
async def test_draw_and_judge(nodes: ModuleType, stub: ModuleType, tmp_path: Path) -> None:
    stub.ComfyAPI.execution.told.clear()
    drawn = await nodes.DrawUntilAccepted.execute(ASK, "mini", 3, 0.85, 3, 6, str(tmp_path))
    image, score, accepted, prompt, report, trace = drawn.result
    assert image.ndim == 4
    assert image.shape[0] == 1
    assert image.shape[-1] == 3
    assert accepted is (score >= 0.85)
    assert "star" in prompt
    assert report.splitlines()[1][0] in "+-"
    assert trace.endswith("trace.html")
    assert [str(one.resolve()) for one in tmp_path.glob("*/trace.html")] == [trace]  # noqa: ASYNC240
    told = stub.ComfyAPI.execution.told
    assert [one.value for one in told] == sorted(one.value for one in told)
    assert all(one.value <= one.max_value for one in told)
    assert any(one.preview_image is not None for one in told)

    blank = torch.ones_like(image)
    judged = await nodes.JudgeImage.execute(torch.cat([blank, image]), ASK, "mini")
    best, again, passed, index, lines = judged.result
    assert index == 1
    assert torch.equal(best, image)
    assert again == pytest.approx(score, abs=0.02)
    assert passed is accepted
    assert len(lines.splitlines()) == len(report.splitlines()) - 1


@pytest.mark.integration
async def test_several_pictures_come_as_a_batch_the_best_first(nodes: ModuleType, tmp_path: Path) -> None:
    drawn = await nodes.DrawUntilAccepted.execute(ASK, "mini", 3, 0.85, 1, 1, str(tmp_path), n=2)
    images, score, *_, trace = drawn.result
    assert images.shape[0] == 2
    records = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.glob("*/run.json")}  # noqa: ASYNC240
    assert sorted(record["seed"] for record in records.values()) == [3, 4]
    scores = [record["attempts"][0]["report"]["score"] for record in records.values()]
    assert score == max(scores)
    assert records[Path(trace).parent.name]["attempts"][0]["report"]["score"] == score
    with pytest.raises(InputError, match="n, how many"):
        await nodes.EditImage.execute(images, "make it blue", "mini", 3, n=0)


async def test_what_cannot_be_used(nodes: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        await nodes.EnhancePrompt.execute(ASK, "nosuch", 0)
    with pytest.raises(InputError, match="request"):
        await nodes.EnhancePrompt.execute("  ", "mini", 0)
    with pytest.raises(InputError, match="no picture"):
        await nodes.JudgeImage.execute(torch.zeros((0, 8, 8, 3)), ASK, "mini")


async def test_a_server_that_is_down(nodes: ModuleType, tmp_path: Path) -> None:
    server = '{ base_url = "http://127.0.0.1:9/v1", timeout_s = 1, max_retries = 0 }'
    profile = tmp_path / "down.toml"
    profile.write_text(
        f"""
[rewriter]
model = {{ kind = "openai", model = "m", server = {server} }}
[generator]
kind = "openai_images"
model = "m"
server = {server}
[judge]
model = {{ kind = "openai", model = "m", server = {server} }}
"""
    )
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:9"):
        await nodes.DrawUntilAccepted.execute(ASK, str(profile), 3, 0.85, 1, 1, str(tmp_path))


def test_the_version_is_the_projects() -> None:
    own = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["version"]
    assert own == tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["project"]["version"]


async def test_the_example_workflow_fits_the_nodes(package: ModuleType) -> None:
    extension = await package.comfy_entrypoint()
    schemas = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in await extension.get_node_list()}
    (file,) = (PACKAGE / "example_workflows").glob("*.json")
    workflow = json.loads(file.read_text())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for node in nodes.values():
        if (schema := schemas.get(node["type"])) is None:
            continue
        kinds: list[type] = []
        for one in schema.inputs:
            if hasattr(one, "settings"):
                kinds += [one.kind, str] if one.settings.get("control_after_generate") else [one.kind]
        assert [type(value) for value in node["widgets_values"]] == kinds
        sockets = [one.id for one in schema.inputs if not hasattr(one, "settings")]
        assert [one["name"] for one in node["inputs"]] == sockets
        assert [one["type"] for one in node["outputs"]] == [one.io_type for one in schema.outputs]
    for number, source, output, target, slot, kind in workflow["links"]:
        assert nodes[source]["outputs"][output]["type"] == kind
        assert nodes[target]["inputs"][slot]["link"] == number
