"""Running one LangGraph graph inside a node of another without their knowing of each other."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator
from typing import TypeVar

T = TypeVar("T")


async def detached(source: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """What `source` yields. It runs in a task of its own with an empty context: LangGraph finds the surrounding graph
    by context variables, and would take `source` for a subgraph of it, with its thread and its checkpoints.

    Closing this generator cancels `source`, and waits until it has ended.
    """
    queue: asyncio.Queue[T | None] = asyncio.Queue(maxsize=1)

    async def pump() -> None:
        try:
            async with contextlib.aclosing(source) as items:
                async for item in items:
                    await queue.put(item)
        finally:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)

    task = asyncio.get_running_loop().create_task(pump(), context=contextvars.Context())
    try:
        while not (task.done() and queue.empty()):
            getter = asyncio.ensure_future(queue.get())
            await asyncio.wait({getter, task}, return_when=asyncio.FIRST_COMPLETED)
            if not getter.done():
                getter.cancel()
                continue
            item = getter.result()
            if item is not None:
                yield item
        await task
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
