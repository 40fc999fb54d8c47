"""The loop as a LangGraph graph.

    checklist -> rewrite -> render -> judge -> decide -+-> rewrite (another round)
                                                       +-> ask     (a user approves each round)
                                                       +-> end

State holds what a restart needs to know where the run is: small values and the keys of the attempts, never pixels.
What the steps made is in the journal (`RunLog`) and the image store; each step looks there first, so that a step which
runs again after a kill or a fault repeats nothing that was finished.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, interrupt
from PIL import Image

from agent.decide import best_of, decide
from agent.events import ChecklistMade, Decided, Event, ImageDrawn, Judged, RewriteMade, StepProgress, Warned
from agent.parts import Parts
from agent.plan import derive_seed, feedback_on, plan_round, rewrites_wanted
from agent.provenance import save_picture
from agent.runfolder import RunFolder
from agent.runlog import RunLog
from agent.types import Answer, Attempt, Decision, Limits, StopReason, Task, stable_key
from core.errors import BackendError, ServerError
from core.store import ImageStore
from editors.types import ImageTask
from evaluator.checklist import OVERALL
from evaluator.types import Check
from rewriter.types import Rewrite

STATE_TYPES = (Check, Task, Decision, StopReason)
"""Types of ours in the state: the only ones that a checkpoint may bring back to life."""


class State(TypedDict, total=False):
    prompt: str
    seed: int
    checks: list[Check]
    round: int
    tasks: list[Task]
    """Of the current round."""
    attempts: list[str]
    """Keys of all tasks that were drawn, in order; `RunLog.attempt` has the rest."""
    decision: Decision | None
    elapsed_s: float


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

    parts: Parts
    limits: Limits
    folder: RunFolder
    log: RunLog
    store: ImageStore
    clock: Clock
    ask: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)


class _Stopped(BaseException):
    """Raised inside a backend's step callback to stop it. Not an Exception: no backend may mistake it for a fault."""


Node = Runtime[Context]


async def make_checklist(state: State, runtime: Node) -> State:
    ctx = runtime.context
    async with _step("checklist", 0, runtime):
        if ctx.log.checklist is None:
            async with ctx.parts.calls:
                ctx.log.put_checklist(await ctx.parts.builder(state["prompt"]))
        checks = ctx.log.checklist or ()
    if any(check.key_point == OVERALL for check in checks):
        runtime.stream_writer(Warned("no checklist could be made of the prompt; the picture is judged as a whole"))
    runtime.stream_writer(ChecklistMade(checks))
    return {"checks": list(checks)}


async def rewrite(state: State, runtime: Node) -> State:
    ctx = runtime.context
    number = state.get("round", 0) + 1
    keys = state.get("attempts", [])
    attempts = ctx.log.attempts(keys)
    index = best_of(attempts, ctx.limits)
    best = None if index is None else attempts[index]
    async with _step("rewrite", number, runtime):
        rewrites = await _rewrites(state, runtime, number, len(keys), best)
    tasks = plan_round(
        state["prompt"], rewrites, number=number, seed=state["seed"], limits=ctx.limits, spent=len(keys), best=best
    )
    return {"round": number, "tasks": tasks}


async def _rewrites(state: State, runtime: Node, number: int, spent: int, best: Attempt | None) -> tuple[Rewrite, ...]:
    ctx = runtime.context
    wanted = rewrites_wanted(ctx.limits, number, spent)
    if wanted == 0:
        return ()
    feedback = None if best is None else feedback_on(best, ctx.limits)
    seed = derive_seed(state["seed"], number, -1)
    asked = {"round": number, "n": wanted, "seed": seed}
    key = stable_key(asked | ({} if feedback is None else {"on": feedback.prompt, "failed": list(feedback.failed)}))
    if key not in ctx.log.rewrites:
        async with ctx.parts.calls:
            made = await ctx.parts.rewriter(state["prompt"], n=wanted, seed=seed, feedback=feedback)
        ctx.log.put_rewrites(key, number, made)
    for one in ctx.log.rewrites[key]:
        runtime.stream_writer(RewriteMade(number, one))
    return ctx.log.rewrites[key]


async def render(state: State, runtime: Node) -> State:
    """Draws the round's tasks in batches of a fixed make-up: a batch counts as drawn when all of it is in the journal,
    and is otherwise drawn again as a whole, because a picture may differ in its last bits with its batch."""
    ctx = runtime.context
    tasks, size = state["tasks"], ctx.parts.batch_size
    drawn = list(state.get("attempts", []))
    async with _step("render", state["round"], runtime):
        for start in range(0, len(tasks), size):
            batch = tasks[start : start + size]
            if any(task.key not in ctx.log.images for task in batch):
                late = bool(drawn) and ctx.clock.seconds() >= ctx.limits.max_seconds
                if late or ctx.stop.is_set():
                    break
                try:
                    hashes = await _draw(batch, runtime)
                except _Stopped:
                    if ctx.left.is_set():
                        raise asyncio.CancelledError from None
                    break
                ctx.log.put_images(list(zip(batch, hashes, strict=True)))
            for task in batch:
                image = ctx.log.images[task.key]
                path = ctx.store.path(image)
                runtime.stream_writer(ImageDrawn(task.round, task.prompt, task.seed, image, path))
                drawn.append(task.key)
    return {"attempts": drawn}


async def _draw(batch: Sequence[Task], runtime: Node) -> list[str]:
    ctx = runtime.context
    loop = asyncio.get_running_loop()
    here = contextvars.copy_context()  # LangGraph's stream writer finds its run in context variables

    def on_step(done: int, total: int) -> None:
        if ctx.stop.is_set() or ctx.left.is_set():
            raise _Stopped
        progress = StepProgress("render", batch[0].round, done, total)
        loop.call_soon_threadsafe(runtime.stream_writer, progress, context=here)

    def work() -> list[str]:
        asked = [
            ImageTask(
                task.prompt,
                task.seed,
                negative_prompt=task.negative_prompt,
                source=None if task.source is None else ctx.store.get(task.source),
            )
            for task in batch
        ]
        pictures = ctx.parts.backend.render(asked, on_step)
        if len(pictures) != len(batch):
            name = ctx.parts.backend.name
            raise BackendError(f"{name} was asked for {len(batch)} pictures and gave {len(pictures)}")
        return [ctx.store.put(picture) for picture in pictures]

    return await loop.run_in_executor(ctx.parts.renderer, work)


async def judge(state: State, runtime: Node) -> State:
    ctx = runtime.context
    log, number = ctx.log, state["round"]
    mine = [(n, key) for n, key in enumerate(state["attempts"], start=1) if log.tasks[key].round == number]
    by_image: dict[str, list[tuple[int, str]]] = {}
    for n, key in mine:
        by_image.setdefault(log.images[key], []).append((n, key))
    checks = tuple(state["checks"])

    async def one(image: str) -> None:
        picture: Image.Image = await asyncio.to_thread(ctx.store.get, image)
        if image not in log.reports:
            async with ctx.parts.calls:
                report = await ctx.parts.evaluator.score(picture, state["prompt"], checks)
            log.put_report(image, report)
        for n, key in by_image[image]:
            attempt = log.attempt(key)
            path = ctx.folder.picture(n, attempt)
            await asyncio.to_thread(save_picture, picture, path, state["prompt"], attempt, ctx.parts.names)
            runtime.stream_writer(Judged(n, attempt, path))

    async with _step("judge", number, runtime):
        # All of them end before the first error is raised: what other judges found is kept.
        outcomes = await asyncio.gather(*(one(image) for image in by_image), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    return {}


async def conclude(state: State, runtime: Node) -> State:
    ctx = runtime.context
    attempts = ctx.log.attempts(state["attempts"])
    elapsed = ctx.clock.seconds()
    decision = decide(attempts, ctx.limits, elapsed, cancelled=ctx.stop.is_set())
    ctx.log.put_decision(state["round"], stop=decision.stop, best=decision.best, why=decision.why)
    runtime.stream_writer(Decided(state["round"], decision))
    return {"decision": decision, "elapsed_s": elapsed}


async def ask(state: State, runtime: Node) -> State:
    """Waits for the user, in this process or a later one."""
    decision = state["decision"]
    assert decision is not None
    answer: Answer = interrupt({"round": state["round"]})
    if answer == "accept":
        decision = Decision(StopReason.ACCEPTED, decision.best, "accepted by the user")
    elif answer == "stop":
        decision = Decision(StopReason.CANCELLED, decision.best, "stopped by the user")
    else:
        decision = Decision(None, decision.best, "the user asked for another round")
    runtime.context.log.put_decision(state["round"], stop=decision.stop, best=decision.best, why=decision.why)
    runtime.stream_writer(Decided(state["round"], decision))
    return {"decision": decision}


def _after_decide(state: State, runtime: Node) -> str:
    decision = state["decision"]
    assert decision is not None
    if runtime.context.ask and decision.stop in (None, StopReason.ACCEPTED, StopReason.PLATEAU):
        return "ask"
    return _after_ask(state)


def _after_ask(state: State) -> str:
    decision = state["decision"]
    assert decision is not None
    return "rewrite" if decision.stop is None else END


def build_graph(retry_wait_s: float = 1.0) -> StateGraph[State, Context, State, State]:
    """The graph, to be compiled with a checkpointer. A step in which a server failed is tried once more after
    `retry_wait_s` seconds (clients retry single calls by themselves); other errors end the run."""
    graph: StateGraph[State, Context, State, State] = StateGraph(State, context_schema=Context)
    retry = RetryPolicy(initial_interval=retry_wait_s, max_attempts=2, jitter=False, retry_on=ServerError)
    graph.add_node("checklist", make_checklist, retry_policy=retry)
    graph.add_node("rewrite", rewrite, retry_policy=retry)
    graph.add_node("render", render, retry_policy=retry)
    graph.add_node("judge", judge, retry_policy=retry)
    graph.add_node("decide", conclude)
    graph.add_node("ask", ask)
    graph.add_edge(START, "checklist")
    graph.add_edge("checklist", "rewrite")
    graph.add_edge("rewrite", "render")
    graph.add_edge("render", "judge")
    graph.add_edge("judge", "decide")
    graph.add_conditional_edges("decide", _after_decide, ["rewrite", "ask", END])
    graph.add_conditional_edges("ask", _after_ask, ["rewrite", END])
    return graph


@asynccontextmanager
async def _step(name: str, number: int, runtime: Node) -> AsyncIterator[None]:
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
