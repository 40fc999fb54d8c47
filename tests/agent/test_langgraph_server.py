"""The graph as LangGraph's own tools open it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

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


def thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def test_the_file_allows_every_type_of_the_state() -> None:
    allowed = json.loads((ROOT / "langgraph.json").read_text())["checkpointer"]["serde"]["allowed_msgpack_modules"]
    assert {tuple(one) for one in allowed} == {(kind.__module__, kind.__name__) for kind in STATE_TYPES}


def test_what_the_tools_show(graph: CompiledStateGraph[Any, Any, Any, Any]) -> None:
    nodes = set(graph.get_graph().nodes)
    assert {"begin", "checklist", "rewrite", "render", "judge", "propose", "ask"} <= nodes
    assert set(graph.get_input_jsonschema()["properties"]) == {"request", "seed"}
    context = graph.get_context_jsonschema()
    assert context is not None
    assert {"profile", "max_rounds", "ask"} <= set(context["properties"])
    assert "attempts" in json.dumps(graph.get_output_jsonschema())


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


async def test_a_setting_that_is_not_there_is_refused_by_its_name(
    graph: CompiledStateGraph[Any, Any, Any, Any],
) -> None:
    with pytest.raises(TypeError, match="'n'"):
        await graph.ainvoke({"request": ASK}, thread("several"), context={"n": 3})
