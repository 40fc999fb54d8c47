"""What both graphs need to know of LangGraph's checkpoints."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from redraft.errors import InputError


class Checkpoints(Protocol):
    """Where threads keep their checkpoints."""

    def open(self, file: Path, types: Sequence[type]) -> AbstractAsyncContextManager[BaseCheckpointSaver[Any]]:
        """A saver that brings values of `types` back as they were. `file` is the thread's own, for those who keep a
        file for each. Raises InputError where it cannot be used."""
        ...


class SqliteFiles:
    """A file of SQLite for each thread."""

    @asynccontextmanager
    async def open(self, file: Path, types: Sequence[type]) -> AsyncIterator[AsyncSqliteSaver]:
        try:
            async with AsyncSqliteSaver.from_conn_string(str(file)) as saver:
                saver.serde = JsonPlusSerializer(allowed_msgpack_modules=list(types))
                await saver.conn.execute("PRAGMA busy_timeout=30000")
                try:
                    yield saver
                finally:
                    await _quiet(saver)
        except sqlite3.Error as error:
            raise InputError(f"cannot use {file}: {error}") from error


async def _quiet(saver: AsyncSqliteSaver) -> None:
    """Waits for writes under way, before the saver is closed.

    LangGraph does not wait for them where a stream is left early. A write that goes on while its connection is closed
    leaves a transaction open in SQLite, and the file locked for the rest of the process.
    """
    await asyncio.sleep(0)  # tasks that have not begun take their place at the lock
    async with saver.lock:
        await saver.conn.rollback()


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
