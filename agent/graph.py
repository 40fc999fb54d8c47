"""The loop as a LangGraph graph.

    checklist -> rewrite -> render -> judge -> decide -+-> rewrite (another round)
                                                       +-> plan -+-> rewrite
                                                       |         +-> branch -> render  (edits of the best picture)
                                                       +-> ask   (a user approves each round)
                                                       +-> end

Only runs that have an editor plan, and drawings only where the limits let them (`edit_draws`). A run that edits a
picture of the user's goes from the checklist to the plan.

State holds what a restart needs to know where the run is: small values and the keys of the attempts, never pixels.
What the steps made is in the journal (`RunLog`) and the image store; each step looks there first, so that a step which
runs again after a kill or a fault repeats nothing that was finished.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, interrupt
from PIL import Image

from agent.decide import decide, tied
from agent.editing import judge_edit, look_at_source, make_branches, plan_edit, view_of
from agent.events import ChecklistMade, Decided, ImageDrawn, Judged, RewriteMade, StepProgress, Warned
from agent.models import Chooser
from agent.runfolder import save_picture
from agent.state import Context, Node, State, Stopped, step
from agent.strategies import Draw, MakeRewrites, View, load_strategy
from agent.types import Answer, Decision, StopReason, Task, stable_key
from editors.backend import ImageBackend, ImageTask
from editors.backend import render as render_with
from editors.changes import is_unchanged
from editors.images import fitted, kept_outside_mask
from evaluator.checklist import OVERALL
from redraft.errors import ServerError
from rewriter.types import Rewrite


async def make_checklist(state: State, runtime: Node) -> State:
    ctx = runtime.context
    async with step("checklist", 0, runtime):
        if state.get("source") is not None:
            await look_at_source(state, ctx)
        elif ctx.log.checklist is None:
            async with ctx.models.calls:
                ctx.log.put_checklist(await ctx.models.checklist_maker(state["request"]))
        checks = ctx.log.checklist or ()
    if any(check.key_point == OVERALL for check in checks):
        runtime.stream_writer(Warned("no checklist could be made of the prompt; the picture is judged as a whole"))
    runtime.stream_writer(ChecklistMade(checks))
    return {"checks": list(checks)}


async def rewrite(state: State, runtime: Node) -> State:
    view = view_of(state, runtime.context)
    loop = load_strategy("loop")
    async with step("rewrite", view.round, runtime):
        move = loop(view)
        if isinstance(move, MakeRewrites):
            move = loop(replace(view, rewrites=await _make_rewrites(move, view, runtime)))
    assert isinstance(move, Draw)
    return {"round": view.round, "tasks": list(move.tasks)}


async def _make_rewrites(move: MakeRewrites, view: View, runtime: Node) -> tuple[Rewrite, ...]:
    ctx, feedback = runtime.context, move.feedback
    named = {"round": view.round, "n": move.n, "seed": move.seed}
    key = stable_key(named | ({} if feedback is None else {"on": feedback.prompt, "failed": list(feedback.failed)}))
    if key not in ctx.log.rewrites:
        async with ctx.models.calls:
            made = await ctx.models.rewriter(view.request, n=move.n, seed=move.seed, feedback=feedback)
        ctx.log.put_rewrites(key, view.round, made)
    for made_rewrite in ctx.log.rewrites[key]:
        runtime.stream_writer(RewriteMade(view.round, made_rewrite))
    return ctx.log.rewrites[key]


async def render(state: State, runtime: Node) -> State:
    """Draws the round's tasks in batches of a fixed make-up: a batch counts as drawn when all of it is in the journal,
    and is otherwise drawn again as a whole, because a picture may differ in its last bits with its batch."""
    ctx = runtime.context
    tasks, size = state["tasks"], ctx.models.batch_size
    drawn = list(state.get("attempts", []))
    async with step("render", state["round"], runtime):
        for start in range(0, len(tasks), size):
            batch = tasks[start : start + size]
            if any(task.key not in ctx.log.images for task in batch):
                late = bool(drawn) and ctx.clock.seconds() >= ctx.limits.max_seconds
                if late or ctx.stop.is_set():
                    break
                try:
                    hashes, unchanged = await _draw(batch, runtime)
                except Stopped:
                    ctx.cancel_if_left()
                    break
                ctx.log.put_images(list(zip(batch, hashes, strict=True)), unchanged)
            for task in batch:
                image = ctx.log.images[task.key]
                path = ctx.store.path(image)
                runtime.stream_writer(ImageDrawn(task.round, task.prompt, task.seed, image, path))
                drawn.append(task.key)
    return {"attempts": drawn}


async def _draw(batch: Sequence[Task], runtime: Node) -> tuple[list[str], set[str]]:
    """The hashes of the pictures, and the keys of the tasks that left their source as it was."""
    ctx = runtime.context
    loop = asyncio.get_running_loop()
    here = contextvars.copy_context()  # LangGraph's stream writer finds its run in context variables
    backend = ctx.models.generator
    if batch[0].kind == "edit":
        assert ctx.models.editing is not None, "only runs with an editor plan edits"
        backend = ctx.models.editing.editor

    def on_step(done: int, total: int) -> None:
        ctx.stop_if_told()
        progress = StepProgress("render", batch[0].round, done, total)
        loop.call_soon_threadsafe(runtime.stream_writer, progress, context=here)

    def work() -> tuple[list[str], set[str]]:
        asked = [_asked(task, ctx, backend) for task in batch]
        pictures = render_with(backend, asked, on_step)
        same = set()
        for index, (task, picture) in enumerate(zip(batch, pictures, strict=True)):
            if task.source is None:
                continue
            source = ctx.store.get(task.source)
            if task.mask is not None:
                whole = ImageTask(task.prompt, task.seed, source=source, mask=ctx.store.get(task.mask))
                pictures[index] = kept_outside_mask(fitted(picture, source.size), whole)
            if is_unchanged(source, pictures[index]):
                same.add(task.key)
        return [ctx.store.put(picture) for picture in pictures], same

    return await loop.run_in_executor(ctx.models.renderer, work)


def _asked(task: Task, ctx: Context, backend: ImageBackend) -> ImageTask:
    source = None if task.source is None else ctx.store.get(task.source)
    # An editor that knows no masks edits the whole, and what lies outside is laid over it afterwards.
    mask = None if task.mask is None or "inpaint" not in backend.modes else ctx.store.get(task.mask)
    more = () if task.reference is None else (ctx.store.get(task.reference),)
    return ImageTask(
        task.prompt, task.seed, negative_prompt=task.negative_prompt, source=source, mask=mask, references=more
    )


async def judge(state: State, runtime: Node) -> State:
    ctx = runtime.context
    log, number = ctx.log, state["round"]
    mine = [(n, key) for n, key in enumerate(state["attempts"], start=1) if log.tasks[key].round == number]
    by_image: dict[str, list[tuple[int, str]]] = {}
    for n, key in mine:
        by_image.setdefault(log.images[key], []).append((n, key))
    same = {image for image, those in by_image.items() if all(key in log.unchanged for _, key in those)}
    checks = tuple(state["checks"])

    async def one(image: str) -> None:
        picture: Image.Image = await asyncio.to_thread(ctx.store.get, image)
        if image not in log.reports and image not in same:
            async with ctx.models.calls:
                if state.get("source") is None:
                    report = await ctx.models.evaluator.score(picture, state["request"], checks)
                else:
                    report = await judge_edit(picture, state, ctx)
            log.put_report(image, report)
        for n, key in by_image[image]:
            attempt = log.attempt(key)
            path = ctx.folder.picture(n, attempt)
            await asyncio.to_thread(save_picture, picture, path, state["request"], attempt, ctx.models.names)
            runtime.stream_writer(Judged(n, attempt, path))

    async with step("judge", number, runtime):
        # All of them end before the first error is raised: what other judges found is kept.
        outcomes = await asyncio.gather(*(one(image) for image in by_image), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    return {}


async def conclude(state: State, runtime: Node) -> State:
    ctx = runtime.context
    if ctx.models.chooser is not None:
        await _compare(state, ctx, ctx.models.chooser)
    attempts = ctx.log.attempts(state["attempts"])
    elapsed = ctx.clock.seconds()
    decision = decide(attempts, ctx.limits, elapsed, cancelled=ctx.stop.is_set())
    ctx.log.put_decision(state["round"], stop=decision.stop, best=decision.best, why=decision.why)
    runtime.stream_writer(Decided(state["round"], decision))
    return {"decision": decision, "elapsed_s": elapsed}


async def _compare(state: State, ctx: Context, chooser: Chooser) -> None:
    """Has the pictures that are equally good by their scores compared with one another, unless these were already."""
    attempts = ctx.log.attempts(state["attempts"])
    images = list(dict.fromkeys(attempts[index].image for index in tied(attempts, ctx.limits, chooser.margin)))
    if len(images) < 2 or set(images) == ctx.log.standings.keys():
        return
    pictures = [await asyncio.to_thread(ctx.store.get, image) for image in images]
    given = state.get("source")
    source = None if given is None else await asyncio.to_thread(ctx.store.get, given)
    async with ctx.models.calls:
        rates = await chooser.judge(state["request"], pictures, source)
    ctx.log.put_standings(dict(zip(images, rates, strict=True)))


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


Bring = Callable[[State, Runtime[Any]], AbstractContextManager[Node]]
"""Gives a node or an edge its Context, where whoever starts the graph cannot."""


def _bringing(function: Callable[[State, Node], Any], bring: Bring | None) -> Callable[..., Any]:
    if bring is None:
        return function
    if not inspect.iscoroutinefunction(function):

        def edge(state: State, runtime: Runtime[Any]) -> str:
            with bring(state, runtime) as opened:
                return str(function(state, opened))

        return edge

    async def node(state: State, runtime: Runtime[Any]) -> State:
        with bring(state, runtime) as opened:
            made: State = await function(state, opened)
            return made

    return node


def _after_checklist(state: State) -> str:
    return "rewrite" if state.get("source") is None else "plan"


def _after_plan(state: State) -> str:
    plan = state["edit_plan"]
    return "branch" if plan is not None and plan.choice == "edit" else "rewrite"


def _after_decide(state: State, runtime: Node) -> str:
    decision = state["decision"]
    assert decision is not None
    if runtime.context.ask and decision.stop in (None, StopReason.ACCEPTED, StopReason.PLATEAU):
        return "ask"
    return _after_ask(state, runtime)


def _after_ask(state: State, runtime: Node) -> str:
    decision = state["decision"]
    assert decision is not None
    if decision.stop is not None:
        return END
    ctx = runtime.context
    plans = ctx.models.editing is not None and (ctx.limits.edit_draws or state.get("source") is not None)
    return "plan" if plans else "rewrite"


def build_graph(
    retry_wait_s: float = 1.0,
    *,
    context_schema: type[Any] = Context,
    input_schema: type[Any] = State,
    begin: Callable[..., Awaitable[State]] | None = None,
    bring: Bring | None = None,
) -> StateGraph[State, Any, Any, State]:
    """The graph, to be compiled with a checkpointer. A step in which a server failed is tried once more after
    `retry_wait_s` seconds (clients retry single calls by themselves); other errors end the run.

    Whoever cannot hand in a Context names a `context_schema` and an `input_schema` of its own, makes a whole state of
    the input with a first node `begin`, and opens each step's Context with `bring`.
    """
    graph: StateGraph[State, Any, Any, State] = StateGraph(
        State, context_schema=context_schema, input_schema=input_schema, output_schema=State
    )
    retry = RetryPolicy(initial_interval=retry_wait_s, max_attempts=2, jitter=False, retry_on=ServerError)
    graph.add_node("checklist", _bringing(make_checklist, bring), retry_policy=retry)
    graph.add_node("plan", _bringing(plan_edit, bring), retry_policy=retry)
    graph.add_node("rewrite", _bringing(rewrite, bring), retry_policy=retry)
    graph.add_node("branch", _bringing(make_branches, bring))
    graph.add_node("render", _bringing(render, bring), retry_policy=retry)
    graph.add_node("judge", _bringing(judge, bring), retry_policy=retry)
    graph.add_node("decide", _bringing(conclude, bring))
    graph.add_node("ask", _bringing(ask, bring))
    if begin is None:
        graph.add_edge(START, "checklist")
    else:
        graph.add_node("begin", begin)
        graph.add_edge(START, "begin")
        graph.add_edge("begin", "checklist")
    graph.add_conditional_edges("checklist", _after_checklist, ["rewrite", "plan"])
    graph.add_conditional_edges("plan", _after_plan, ["rewrite", "branch"])
    graph.add_edge("rewrite", "render")
    graph.add_edge("branch", "render")
    graph.add_edge("render", "judge")
    graph.add_edge("judge", "decide")
    graph.add_conditional_edges("decide", _bringing(_after_decide, bring), ["rewrite", "plan", "ask", END])
    graph.add_conditional_edges("ask", _bringing(_after_ask, bring), ["rewrite", "plan", END])
    return graph
