"""The Python API: one call, sync and async, and a pipeline that enhances first."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from redraft.chat import ChatReply, ChatRequest
from redraft.errors import ConfigError, InputError, ServerError
from redraft.profiles import load_profile
from rewriter.api import Enhancer, enhance, enhance_async, enhance_pipeline
from rewriter.batch.engines import FakeEngine
from rewriter.batch.work import Status

WORKSTATION = load_profile("workstation")


class Down(FakeEngine):
    """Fails on prompts that hold a word."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    async def __call__(self, request: ChatRequest) -> ChatReply:
        if self._word in str(request.messages[-1].content):
            raise ServerError("the server is down")
        return await super().__call__(request)


def test_one_prompt_and_several() -> None:
    one = enhance("three red stars", profile=WORKSTATION, engine="fake")
    assert (one.request, one.status, one.model) == ("three red stars", Status.REWRITTEN, "fake")
    assert str(one) == one.prompt
    assert one.prompt.startswith("three red stars, ")
    engine = FakeEngine()
    many = enhance(["a fox", "a hen", " a fox "], profile=WORKSTATION, target="flux", engine=engine)
    assert [m.request for m in many] == ["a fox", "a hen", "a fox"]
    assert engine.requests == 2
    assert many[0] == many[2]
    assert enhance([], profile=WORKSTATION, engine="fake") == []
    assert enhance((p for p in ["a fox"]), profile=WORKSTATION, target="flux", engine=engine) == many[:1]


async def test_inside_a_running_loop() -> None:
    one = await enhance_async("three red stars", profile=WORKSTATION, engine="fake")
    assert enhance("three red stars", profile=WORKSTATION, engine="fake") == one


def test_candidates_and_seeds() -> None:
    first, again, other = (
        enhance("a fox", profile=WORKSTATION, engine="fake", n=4, select="consensus", seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first.seed != other.seed
    assert len(first.candidates) >= 2
    assert first.prompt in first.candidates


def test_faults() -> None:
    with pytest.raises(InputError, match="is empty"):
        enhance(["a fox", "  "], profile=WORKSTATION, engine="fake")
    with pytest.raises(ConfigError, match="unknown target"):
        enhance("a fox", profile=WORKSTATION, target="nosuch", engine="fake")
    with pytest.raises(ConfigError, match="unknown profile"):
        enhance("a fox", profile="nosuch")
    fine, failed = enhance(["a fox", "a hen"], profile=WORKSTATION, engine=Down("hen"))
    assert (fine.status, failed.status, failed.prompt) == (Status.REWRITTEN, Status.FAILED, "a hen")
    assert failed.findings == ("failed: the server is down",)
    with pytest.raises(ServerError, match="is down"):
        enhance(["a hen", "another hen"], profile=WORKSTATION, engine=Down("hen"))


def test_the_mini_rewriter() -> None:
    """The model of the repository: what it says is a rewrite, or the user's own prompt stands with reasons."""
    for one in enhance(["two tiny crimson stars above a big blue disc", "a green moon"], profile="mini"):
        assert one.status in (Status.REWRITTEN, Status.KEPT)
        assert one.prompt
        assert one.status is not Status.KEPT or one.findings


class Pipeline:
    """A pipeline as diffusers has them."""

    device = "cpu"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, dict[str, Any]]] = []

    def __call__(self, prompt: Any = None, negative_prompt: Any = None, **kwargs: Any) -> str:
        self.calls.append((prompt, {"negative_prompt": negative_prompt, **kwargs}))
        return "picture"


class StableDiffusionXLPipeline(Pipeline):
    pass


class Negative(FakeEngine):
    async def __call__(self, request: ChatRequest) -> ChatReply:
        return ChatReply("<think>a</think><answer>red fox, on a wall\nNegative prompt: blurry</answer>")


def test_a_pipeline_enhances_first() -> None:
    inner = StableDiffusionXLPipeline()
    pipe = enhance_pipeline(inner, profile=WORKSTATION, engine=Negative())
    assert pipe("a fox", num_inference_steps=3) == "picture"
    assert inner.calls == [("red fox, on a wall", {"negative_prompt": "blurry", "num_inference_steps": 3})]
    assert pipe.last[0].request == "a fox"
    pipe(prompt=["a fox", "a red fox"], negative_prompt="mine")
    assert inner.calls[1] == (["red fox, on a wall"] * 2, {"negative_prompt": "mine"})
    pipe(["a fox", "a red fox"])
    assert inner.calls[2][1]["negative_prompt"] == ["blurry", "blurry"]
    pipe(prompt_embeds="tensor")
    assert inner.calls[3] == (None, {"negative_prompt": None, "prompt_embeds": "tensor"})
    assert pipe.device == "cpu"


def test_the_wrapper_stays_and_attributes_reach_the_pipeline() -> None:
    class Movable(StableDiffusionXLPipeline):
        scheduler = "default"

        def to(self, device: str) -> Movable:
            self.device = device
            return self

        def steps(self) -> int:
            return 7

    inner = Movable()
    wrapper = enhance_pipeline(inner, profile=WORKSTATION, engine=Negative())
    pipe = wrapper.to("cuda")
    assert pipe is wrapper
    assert inner.device == "cuda"
    pipe.scheduler = "euler"
    assert inner.scheduler == "euler"
    assert pipe.steps() == 7
    pipe("a fox")
    assert inner.calls[-1][0] == "red fox, on a wall"
    assert pipe.last[0].request == "a fox"


async def test_a_pipeline_inside_a_running_loop() -> None:
    pipe = enhance_pipeline(Pipeline(), profile=WORKSTATION, engine="fake")
    assert pipe("a fox") == "picture"


def test_an_enhancer_serves_many_calls() -> None:
    engine = FakeEngine()
    enhancer = Enhancer(WORKSTATION, "generic", engine=engine)

    async def twice() -> int:
        await enhancer.enhance(["a fox"])
        await enhancer.enhance(["a hen"])
        return engine.requests

    assert asyncio.run(twice()) == 2


def test_importing_is_cheap(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; import rewriter.api\n"
        "sys.exit(', '.join(sorted({'torch', 'transformers', 'openai', 'diffusers', 'pyarrow', 'vllm', 'ray'}"
        " & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
