"""The loop for LangGraph's own tools (`langgraph dev`, Studio, LangGraph Server), which open it by `langgraph.json`.

These tools know nothing of profiles and run folders. They give a request and a few settings; here the models of the
profile are opened (once a process), and each step finds its run by thread, request and seed, in a folder
`runs/thread-...` under the profile's own folder for runs. Pictures and journal lie there. The checkpoints, and the
history of the thread with them, are the tool's.

Each finished piece of work is synced to disk before the next begins, in the event loop; `langgraph dev` objects to that
unless it is started with `--allow-blocking`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
from agent.types import stable_key
from redraft.errors import InputError
from redraft.images import ImageStore
from redraft.limits import Limits
from redraft.options import MAX_SEED
from redraft.profiles import Profile, load_profile
from rewriter.request import clean_request


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


def make_graph() -> CompiledStateGraph[State, Any, Any, State]:
    """The factory that `langgraph.json` names. Cheap: models are opened by the first run."""
    return build_graph(context_schema=ThreadSettings, input_schema=ThreadInput, begin=_begin, bring=_bring).compile(
        name="redraft"
    )


async def _begin(state: ThreadInput, runtime: Runtime[Any]) -> State:
    """A whole state from what was asked; what an earlier run of the thread left is put aside."""
    await asyncio.to_thread(_opened, _settings(runtime).profile)  # takes a while the first time
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


@contextmanager
def _bring(state: State, runtime: Runtime[Any]) -> Iterator[Node]:
    settings = _settings(runtime)
    profile, models = _opened(settings.profile)
    thread = str(get_config().get("configurable", {}).get("thread_id", ""))
    name = stable_key(
        {"thread": thread, "request": state["request"], "seed": state["seed"], "profile": settings.profile}
    )
    folder = RunFolder.at(Path(profile.runs) / f"thread-{name[:16]}")
    with folder.lock(), RunLog(folder.journal) as log:
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
        return _models[name]
