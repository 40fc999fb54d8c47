"""What the nodes of the graph work on (`State`) and with (`Context`)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from langgraph.runtime import Runtime
from typing_extensions import TypedDict  # for JSON schemas pydantic wants this one before Python 3.12

from agent.events import Event, StepProgress, Warned
from agent.models import Models
from agent.runfolder import RunFolder
from agent.runlog import RunLog
from agent.types import Decision, EditPlan, EditStep, StopReason, Task
from evaluator.types import Check
from redraft.errors import ServerError
from redraft.limits import Limits
from redraft.store import ImageStore

STATE_TYPES = (Check, Task, Decision, StopReason, EditPlan, EditStep)
"""Types of ours in the state: the only ones that a checkpoint may bring back to life."""


class State(TypedDict, total=False):
    """`request` is what the user wrote: what to draw, or what to change in the `source` if there is one."""

    request: str
    seed: int
    source: str | None
    """Hash of the picture that the user gave to be edited, and of where it may be changed."""
    mask: str | None
    checks: list[Check]
    round: int
    tasks: list[Task]
    """Of the current round."""
    attempts: list[str]
    """Keys of all tasks that were drawn, in order; `RunLog.attempt` has the rest."""
    edit_plan: EditPlan | None
    """What the planner wants; None where nothing was planned yet, or there is no editor."""
    decision: Decision | None
    elapsed_s: float


class Stopped(BaseException):
    """Raised inside a backend's step callback to stop it. Not an Exception: no backend may mistake it for a fault."""


class Clock:
    """Seconds of work on a run, over all processes that worked on it; waiting for a user does not count."""

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self._started = time.monotonic()

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started


@dataclass(frozen=True)
class Context:
    """What the nodes work with.

    `stop` is set from any thread to end the run after the current piece of work; `left` where nobody follows the run
    any more: a drawing under way is given up then, and the run stays where it is.
    """

    models: Models
    limits: Limits
    folder: RunFolder
    log: RunLog
    store: ImageStore
    clock: Clock
    ask: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def stop_if_told(self) -> None:
        """For a backend's step callbacks. Raises Stopped where what is being drawn is wanted no more."""
        if self.stop.is_set() or self.left.is_set():
            raise Stopped

    def cancel_if_left(self) -> None:
        """After Stopped: raises CancelledError where nobody follows the run any more."""
        if self.left.is_set():
            raise asyncio.CancelledError


Node = Runtime[Context]


@asynccontextmanager
async def step(name: str, number: int, runtime: Node) -> AsyncIterator[None]:
    """Tells that a step has begun, times it, and says where a server's fault is about to be tried again."""
    event: Event = StepProgress(name, number)
    runtime.stream_writer(event)
    started = time.monotonic()
    try:
        yield
    except ServerError as error:
        info = runtime.execution_info
        if info is not None and info.node_attempt == 1:
            runtime.stream_writer(Warned(f"{error}; trying once more"))
        raise
    finally:
        runtime.context.log.put_seconds(name, time.monotonic() - started)
