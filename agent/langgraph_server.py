"""The loop for LangGraph's own tools (`langgraph dev`, Studio, LangGraph Server), which open it by `langgraph.json`.

These tools know nothing of profiles and run folders. They give a request and a few settings; here the models of the
profile are opened (once a process), and each step finds its run by thread, request and seed, in a folder
`runs/thread-...` under the profile's own folder for runs. Pictures and journal lie there. The checkpoints, and the
history of the thread with them, are the tool's.

Nothing here waits for a disk in the event loop, which `langgraph dev` forbids: what a step has finished is written at its
end, in a thread. A process that is killed repeats the step that it was at.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

from langgraph.config import get_config
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from agent.graph import Clock, Context, Node, State, build_graph
from agent.models import Models, open_models
from agent.runfolder import RunFolder, RunLog
from agent.strategies.choose import open_strategy
from agent.types import StopReason, stable_key
from redraft.errors import InputError
from redraft.images import ImageStore
from redraft.limits import Limits
from redraft.options import MAX_SEED
from redraft.profiles import Profile, load_profile
from rewriter.guard import check_intent
from rewriter.request import clean_request


class ThreadOutput(State, total=False):
    """What a thread ends with: the state, and its best picture."""

    picture: str | None
    """File of the best picture; None if there is none."""
    address: str | None
    """The same as a file: URL."""
    prompt: str | None
    """What it was drawn from."""
    score: float | None
    accepted: bool
    unchecked: list[str]
    """The words of the request that no check asks about."""
    why: str
    """Why the run stopped."""


class ThreadInput(TypedDict):
    """What a thread is started with. Without a seed, one is drawn and kept in the state."""

    request: str
    seed: NotRequired[int]


@dataclass(frozen=True)
class ThreadSettings:
    """What may be set for a run; limits that are None are the profile's."""

    profile: str = "mini"
    accept_at: float | None = None
    max_rounds: int | None = None
    max_images: int | None = None
    ask: bool = False
    """Whether the run is interrupted after each round; resume it with "accept", "again" or "stop"."""
    n: int = 1
    """No more than one picture: LangGraph Server drops what has no field, and this is to be refused."""


def make_graph() -> CompiledStateGraph[State, Any, Any, State]:
    """The factory that `langgraph.json` names. Cheap: models are opened by the first run."""
    graph = build_graph(
        context_schema=ThreadSettings, input_schema=ThreadInput, output_schema=ThreadOutput,
        begin=_begin, finish=_finish, bring=_bring,
    )  # fmt: skip
    return graph.compile(name="redraft")


async def _begin(state: ThreadInput, runtime: Runtime[Any]) -> State:
    """A whole state from what was asked; what an earlier run of the thread left is put aside."""
    settings = _settings(runtime)
    if settings.n != 1:
        raise InputError(f"n: a thread makes one picture, not {settings.n}; start n threads, with seeds in a row")
    await asyncio.to_thread(_opened, settings.profile)  # takes a while the first time
    seed = state.get("seed")
    if seed is None:
        seed = secrets.randbelow(2**31)
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"the seed {seed} is not between 0 and {MAX_SEED}")
    return {
        "request": clean_request(state["request"]),
        "seed": seed,
        "source": None,
        "mask": None,
        "round": 0,
        "checks": [],
        "tasks": [],
        "attempts": [],
        "edit_plan": None,
        "planned": 0,
        "phase": 0,
        "began": 1,
        "decision": None,
        "elapsed_s": 0.0,
    }


async def _finish(state: State, runtime: Node) -> ThreadOutput:
    """What the tools show of the best picture."""
    context, decision = runtime.context, state["decision"]
    assert decision is not None, "a run ends with one"
    unchecked = list(context.log.checklist.unchecked) if context.log.checklist is not None else []
    accepted = decision.stop is StopReason.ACCEPTED
    nothing = ThreadOutput(picture=None, address=None, prompt=None, score=None)
    about = ThreadOutput(accepted=accepted, unchecked=unchecked, why=decision.why)
    if decision.best is None:
        return nothing | about
    attempt = context.log.attempt(state["attempts"][decision.best])
    path = await asyncio.to_thread(context.folder.picture(decision.best + 1, attempt).resolve)
    shown = ThreadOutput(picture=str(path), address=path.as_uri(), prompt=attempt.prompt, score=attempt.score)
    return shown | about


@asynccontextmanager
async def _bring(state: State, runtime: Runtime[Any]) -> AsyncIterator[Node]:
    settings = _settings(runtime)
    profile, models = _opened(settings.profile)
    thread = str(get_config().get("configurable", {}).get("thread_id", ""))
    name = stable_key(
        {"thread": thread, "request": state["request"], "seed": state["seed"], "profile": settings.profile}
    )
    exits = ExitStack()

    def open_run() -> tuple[RunFolder, RunLog]:
        folder = RunFolder.at(Path(profile.runs) / f"thread-{name[:16]}")
        exits.enter_context(folder.lock())
        log = exits.enter_context(RunLog(folder.journal))
        log.collect()
        exits.callback(log.write)
        return folder, log

    try:
        folder, log = await asyncio.to_thread(open_run)
        context = Context(
            models=models,
            limits=_limits(profile, settings),
            folder=folder,
            log=log,
            store=ImageStore(folder.images),
            strategy=open_strategy(profile.search),
            clock=Clock(sum(log.seconds.values())),
            ask=settings.ask,
        )
        try:
            yield runtime.override(context=context)
        except asyncio.CancelledError:
            context.left.set()  # stops the render thread, which nobody waits for any more
            raise
    finally:
        await asyncio.to_thread(exits.close)


def _settings(runtime: Runtime[Any]) -> ThreadSettings:
    return runtime.context if isinstance(runtime.context, ThreadSettings) else ThreadSettings(**(runtime.context or {}))


def _limits(profile: Profile, settings: ThreadSettings) -> Limits:
    changes = {name: value for name, value in dataclasses.asdict(settings).items() if name in Limits.model_fields}
    return profile.limits.changed(**changes)


_lock = threading.Lock()
_models: dict[str, tuple[Profile, Models]] = {}


def _opened(name: str) -> tuple[Profile, Models]:
    # The tools hand no object of ours from run to run, so that the process keeps the models.
    with _lock:
        if name not in _models:
            profile = load_profile(name)
            _models[name] = (profile, open_models(profile))
            check_intent("a red star", "a red star")  # reads the guard's files, which may not be read in the event loop
        return _models[name]
