"""What both graphs need to know of LangGraph's checkpoints."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot


async def settled(graph: CompiledStateGraph[Any, Any, Any, Any], thread: RunnableConfig) -> StateSnapshot:
    """The thread's state, to go on from.

    Where a step was cancelled, LangGraph may have saved a part of what it wrote, without the edge to the step behind
    it, and would then take it for finished and the thread for ended. Such a step is made to run again: a copy of the
    checkpoint leaves what it wrote behind.

    Whether there is anything left to do is `snapshot.tasks`, and not `snapshot.next`: that one leaves out a step whose
    results were saved and not yet made part of the state.
    """
    snapshot = await graph.aget_state(thread)
    if any(task.error is not None for task in snapshot.tasks):
        await graph.aupdate_state(snapshot.config, None, as_node="__copy__")
        snapshot = await graph.aget_state(thread)
    return snapshot
