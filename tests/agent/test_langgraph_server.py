"""The graph as LangGraph's own tools open it."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, BlockingError
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command
from PIL import Image

from agent.graph import STATE_TYPES
from agent.types import StopReason
from redraft.errors import InputError

ROOT = Path(__file__).parents[2]
ASK = "a big red star"


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompiledStateGraph[Any, Any, Any, Any]:
    """What langgraph.json names, with a checkpointer as the tools bring one."""
    place = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["redraft"]
    module, _, name = place.partition(":")
    made = getattr(importlib.import_module(module), name)()
    made.checkpointer = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=list(STATE_TYPES)))
    monkeypatch.chdir(tmp_path)  # the profile's folder for runs is relative
    return made


@pytest.fixture
def no_blocking() -> Iterator[None]:
    """What `langgraph dev` puts in place: blocking calls in an event loop are errors, but for those that it lets pass."""
    guard = BlockBuster()
    passing = [name for name in guard.functions if name.startswith("os.path.")]
    passing += ["os.stat", "os.listdir", "os.remove", "threading.Lock.acquire"]
    passing += [
        f"io.{kind}.{call}"
        for kind, call in itertools.product(("BufferedReader", "BufferedWriter", "TextIOWrapper"), ("read", "write"))
    ]
    for name in passing:
        guard.functions.pop(name, None)
    guard.activate()
    yield
    guard.deactivate()


def thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def test_the_file_allows_every_type_of_the_state() -> None:
    allowed = json.loads((ROOT / "langgraph.json").read_text())["checkpointer"]["serde"]["allowed_msgpack_modules"]
    assert {tuple(one) for one in allowed} == {(kind.__module__, kind.__name__) for kind in STATE_TYPES}


def test_what_the_tools_show(graph: CompiledStateGraph[Any, Any, Any, Any]) -> None:
    nodes = set(graph.get_graph().nodes)
    assert {"begin", "checklist", "rewrite", "render", "judge", "propose", "ask", "finish"} <= nodes
    assert set(graph.get_input_jsonschema()["properties"]) == {"request", "seed"}
    context = graph.get_context_jsonschema()
    assert context is not None
    assert {"profile", "max_rounds", "ask"} <= set(context["properties"])
    assert {"attempts", "picture", "address", "score"} <= set(graph.get_output_jsonschema()["properties"])


@pytest.mark.integration
async def test_a_run_on_mini(graph: CompiledStateGraph[Any, Any, Any, Any], tmp_path: Path) -> None:
    context = {"profile": "mini", "max_rounds": 2, "accept_at": 0.5}
    asked = {"request": ASK, "seed": 3}
    state = await graph.ainvoke(asked, thread("one"), context=context)
    assert state["decision"].stop in (StopReason.ACCEPTED, StopReason.BUDGET)
    assert state["request"] == ASK
    (run,) = (tmp_path / "runs").glob("thread-*")
    assert len(list(run.glob("*-round*.png"))) == len(state["attempts"]) > 0
    # The same again repeats nothing, and a further prompt on the thread is a run of its own.
    journal = (run / "state" / "journal.jsonl").read_text().count('"key": ["image"')
    again = await graph.ainvoke(asked, thread("one"), context=context)
    assert again["attempts"] == state["attempts"]
    assert (run / "state" / "journal.jsonl").read_text().count('"key": ["image"') == journal
    other = await graph.ainvoke({"request": "two blue circles"}, thread("one"), context={"max_rounds": 1})
    assert other["checks"] != state["checks"]
    assert len(list((tmp_path / "runs").glob("thread-*"))) == 2


@pytest.mark.integration
async def test_nothing_blocks_the_event_loop_and_the_best_picture_is_in_the_output(
    graph: CompiledStateGraph[Any, Any, Any, Any], no_blocking: None
) -> None:
    del no_blocking
    context = {"max_rounds": 2, "max_images": 4, "accept_at": 1.0}
    shown = await graph.ainvoke({"request": ASK, "seed": 3}, thread("open"), context=context)
    assert shown["round"] >= 1
    assert shown["picture"].endswith(".png")
    assert shown["address"] == f"file://{shown['picture']}"
    assert shown["prompt"]
    assert 0 <= shown["score"] <= 1
    assert shown["accepted"] is (shown["decision"].stop is StopReason.ACCEPTED)
    assert (shown["unchecked"], shown["why"]) == ([], shown["decision"].why)
    size = await asyncio.to_thread(lambda: Image.open(shown["picture"]).size)
    assert size == (256, 256)


async def test_the_loop_is_found_out_when_it_is_blocked(no_blocking: None, tmp_path: Path) -> None:
    del no_blocking
    with pytest.raises(BlockingError):
        (tmp_path / "folder").mkdir()


@pytest.mark.integration
async def test_what_a_step_made_is_on_the_disk_at_its_end(
    graph: CompiledStateGraph[Any, Any, Any, Any], tmp_path: Path
) -> None:
    asked, context = {"request": ASK, "seed": 3}, {"max_rounds": 1, "max_images": 1}
    await graph.ainvoke(asked, thread("stopped"), context=context, interrupt_after=["render"])
    (run,) = (tmp_path / "runs").glob("thread-*")
    journal = run / "state" / "journal.jsonl"
    assert journal.read_text().count('"key": ["image"') == 1
    state = await graph.ainvoke(None, thread("stopped"), context=context)
    assert journal.read_text().count('"key": ["image"') == 1, "it is not drawn again"
    assert state["picture"] is not None


@pytest.mark.integration
async def test_a_run_that_asks(graph: CompiledStateGraph[Any, Any, Any, Any]) -> None:
    context = {"ask": True, "max_rounds": 1}
    state = await graph.ainvoke({"request": ASK, "seed": 3}, thread("asks"), context=context)
    if state["decision"].stop is StopReason.BUDGET:
        pytest.fail("the budget of one round is no reason to ask; give the test another seed")
    assert state["__interrupt__"][0].value == {"round": 1}
    ended = await graph.ainvoke(Command(resume="accept"), thread("asks"), context=context)
    assert ended["decision"].stop is StopReason.ACCEPTED
    assert ended["decision"].why == "accepted by the user"


@pytest.mark.parametrize(("asked", "named"), [({"request": ""}, "request"), ({"request": ASK, "seed": -1}, "seed -1")])
async def test_what_cannot_be_used(
    graph: CompiledStateGraph[Any, Any, Any, Any], asked: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        await graph.ainvoke(asked, thread("bad"))


async def test_several_pictures_are_refused_by_name(
    graph: CompiledStateGraph[Any, Any, Any, Any],
) -> None:
    with pytest.raises(InputError, match="n: a thread makes one picture"):
        await graph.ainvoke({"request": ASK}, thread("several"), context={"n": 3})
