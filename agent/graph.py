"""The loop as a LangGraph graph.

    checklist -> propose -+-> render ----------------------------+
                          +-> rewrite -> render -----------------+-> judge -> propose (another round)
                          +-> plan (an edit) -+-> render --------+
                          |                   +-> rewrite (a new picture after all)
                          +-> ask (a user approves each round)
                          +-> end

`propose` lets `agent.decide` say whether the run ends, and if it does not, the strategy what comes next. Only runs that
have an editor plan, and drawings only if the limits let them (`edit_draws`).

State holds what a restart needs to know where the run is: small values and the keys of the attempts, never pixels.
What the steps made is in the journal (`RunLog`) and the image store; each step looks there first, so that a step which
runs again after a kill or a fault repeats nothing that was finished.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, interrupt
from PIL import Image, ImageDraw
from typing_extensions import TypedDict  # for JSON schemas pydantic wants this one before Python 3.12

from agent.decide import decide, meets_bar, tied
from agent.edit_judging import keep_what_was_there, unanswerable_edit
from agent.events import (
    ChecklistMade,
    Decided,
    Event,
    ImageDrawn,
    Judged,
    Planned,
    Pruned,
    RewriteMade,
    StepProgress,
    Warned,
)
from agent.models import Models
from agent.runfolder import RunFolder, RunLog, save_picture
from agent.strategies import (
    EDITOR,
    GENERATOR,
    KeyPointMeans,
    MakeEdit,
    MakePictures,
    MakeRewrites,
    Move,
    Stop,
    Strategy,
    View,
    derive_seed,
    standard,
)
from agent.types import (
    Answer,
    Branch,
    Decision,
    EditPlan,
    EditStep,
    StopReason,
    Task,
    cost_of,
    is_box,
    passes,
    stable_key,
)
from editors.backend import ImageBackend, ImageTask, fit_image, render, restore_outside_mask, steps_at
from editors.changes import is_unchanged
from evaluator.checklist import list_content_words, say_unchecked
from evaluator.coverage import load_lexicon
from evaluator.criteria.checks import judge_checks
from evaluator.grounding import Box
from evaluator.reward import Reward
from evaluator.types import Case, Check, Outcome, Reference, Report, RequestChecks, Shot
from redraft.errors import BadReply, InputError, ServerError, one_line
from redraft.images import ImageStore
from redraft.limits import Limits
from redraft.local_models import LOADING
from redraft.spans import NO_SPAN, OpenSpan, image_attributes, open_span
from redraft.templates import fence
from rewriter.guard import detect_language
from rewriter.plan import RULES, FailedQuestion, Plan, Situation, Step, in_order, merged
from rewriter.types import Rewrite

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
    """What the planner wants; None if nothing was planned yet, or there is no editor."""
    planned: int
    """The round that `edit_plan` was made for."""
    phase: int
    """The part of the strategy that is at work, if it has several, and the round it began with."""
    began: int
    next: str
    """The node that the strategy's move leads to."""
    decision: Decision | None
    elapsed_s: float


class Stopped(BaseException):
    """Raised inside a backend's step callback to stop it. Not an Exception: no backend may mistake it for a fault."""


class Clock:
    """Seconds of work on a run, over all processes that worked on it. Waiting for a user does not count, nor does the time in
    which models of this process were loaded, and fetched from a hub at first use."""

    def __init__(self, before: float = 0.0, loading: Callable[[], float] = LOADING.seconds) -> None:
        self._before = before
        self._loading = loading
        self._started = time.monotonic() - loading()

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._loading() - self._started


@dataclass(frozen=True)
class Context:
    """What the nodes work with.

    `stop` is set from any thread to end the run after the current piece of work; `left` when nobody follows the run
    any more: a drawing under way is then given up, and the run can be resumed.
    """

    models: Models
    limits: Limits
    folder: RunFolder
    log: RunLog
    store: ImageStore
    clock: Clock
    strategy: Strategy = standard
    size: tuple[int, int] | None = None
    """(width, height) of the pictures; None: the backend's own, or the source's."""
    negative_prompt: str | None = None
    """The user's own; what the rewriter wants to be absent comes on top."""
    references: tuple[Image.Image, ...] = ()
    """What the user gave to go by; the backends of the models have them already."""
    span: OpenSpan = NO_SPAN
    """The run's, which its steps belong to."""
    experience: Mapping[str, KeyPointMeans] = field(default_factory=dict)
    """How the gallery's generators did in earlier runs."""
    ask: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def stop_if_unwanted(self) -> None:
        """For a backend's step callbacks. Raises Stopped if the drawing is no longer wanted."""
        if self.stop.is_set() or self.left.is_set():
            raise Stopped

    def cancel_if_left(self) -> None:
        """After Stopped: raises CancelledError if nobody follows the run any more."""
        if self.left.is_set():
            raise asyncio.CancelledError


Node = Runtime[Context]


@asynccontextmanager
async def step(name: str, number: int, runtime: Node) -> AsyncIterator[None]:
    """Sends the event that a step has begun, times it, and warns if it is tried again after a server's fault."""
    event: Event = StepProgress(name, number)
    runtime.stream_writer(event)
    started = time.monotonic()
    try:
        with open_span(f"step {name}", {"redraft.step": name, "redraft.round": number}, parent=runtime.context.span):
            yield
    except (ServerError, BadReply) as error:
        info = runtime.execution_info
        if info is not None and info.node_attempt == 1:
            runtime.stream_writer(Warned(f"{error}; trying once more"))
        raise
    finally:
        runtime.context.log.put_seconds(name, time.monotonic() - started)


async def make_checklist(state: State, runtime: Node) -> State:
    ctx = runtime.context
    async with step("checklist", 0, runtime):
        await ctx.models.probe()
        if state.get("source") is not None:
            await look_at_source(state, ctx)
        elif ctx.log.checklist is None:
            async with ctx.models.calls:
                ctx.log.put_checklist(await ctx.models.checklist_maker(state["request"]))
        checklist = ctx.log.checklist
        assert checklist is not None
    for warning in checklist.warnings:
        runtime.stream_writer(Warned(warning))
    runtime.stream_writer(ChecklistMade(checklist.checks, checklist.unchecked, checklist.invented))
    return {"checks": list(checklist.checks)}


async def propose(state: State, runtime: Node) -> State:
    """Whether the run ends, and if not, what comes next."""
    made: State = await conclude(state, runtime) if state.get("round") else {}
    decision = made.get("decision")
    stop = None if decision is None else decision.stop
    may_ask = (None, StopReason.ACCEPTED, StopReason.UNCHECKED, StopReason.PLATEAU)
    drafts = stop is None and all(task.draft for task in state.get("tasks", ()))  # nobody is asked about these
    if decision is not None and runtime.context.ask and stop in may_ask and not drafts:
        return {**made, "next": "ask"}
    if stop is not None:
        return {**made, "next": END}
    return {**made, **_make_move(view_of({**state, **made}, runtime.context), state, runtime)}


def _make_move(view: View, state: State, runtime: Node) -> State:
    """What the strategy says, as a change of the state."""
    return _take_move(runtime.context.strategy(view), view, state, runtime)


def _take_move(move: Move, view: View, state: State, runtime: Node) -> State:
    if move.note:
        runtime.stream_writer(Warned(move.note))
    at: State = {"phase": move.phase, "began": move.began}
    match move:
        case MakePictures():
            tasks = [_with_own_negative(task, state, runtime.context) for task in move.tasks]
            return {"round": view.round, "tasks": tasks, **at, "next": "render"}
        case MakeRewrites():
            return {**at, "next": "rewrite"}
        case MakeEdit():
            return {**at, "next": "plan"}
        case Stop():
            number = state.get("round", 0)
            best = decide(list(view.attempts.values()), view.limits, 0.0).best
            decision = Decision(move.reason, best, move.why)
            runtime.context.log.put_decision(number, stop=decision.stop, best=decision.best, why=decision.why)
            runtime.stream_writer(Decided(number, decision))
            return {"decision": decision, **at, "next": END}


def _with_own_negative(task: Task, state: State, ctx: Context) -> Task:
    """The task with the user's negative prompt, if the run is of its kind: drawings that a run may edit as well have theirs
    in the drawing."""
    own, made = ctx.negative_prompt, task.negative_prompt
    if own is None or (task.kind == "edit") != (state.get("source") is not None):
        return task
    if made is not None and (made == own or made.startswith(f"{own}, ")):
        return task  # a prompt that is drawn again
    return replace(task, negative_prompt=own if not made else f"{own}, {made}")


async def rewrite(state: State, runtime: Node) -> State:
    view = view_of(state, runtime.context)
    if state.get("planned") == view.round:
        view = replace(view, ready=state.get("edit_plan"))
    async with step("rewrite", view.round, runtime):
        move = runtime.context.strategy(view)
        assert isinstance(move, MakeRewrites), "the same view makes the same move"
        view = replace(view, rewrites=await _make_rewrites(move, view, runtime), phase=move.phase, began=move.began)
        return _make_move(view, state, runtime)


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


async def draw(state: State, runtime: Node) -> State:
    """Draws the round's tasks in batches of a fixed make-up: a batch counts as drawn when all of it is in the journal,
    and is otherwise drawn again as a whole, because a picture may differ in its last bits with its batch."""
    ctx = runtime.context
    tasks, size = state["tasks"], ctx.models.batch_size
    drawn = list(state.get("attempts", []))
    async with step("render", state["round"], runtime):
        for batch in _list_batches(tasks, size):
            if any(task.key not in ctx.log.images for task in batch):
                finished = any(not ctx.log.tasks[key].draft for key in drawn)
                late = finished and ctx.clock.seconds() >= ctx.limits.max_seconds
                if late or ctx.stop.is_set():
                    break
                traced = image_attributes(
                    _backend_of(batch[0], ctx).name, [task.prompt for task in batch], edits=batch[0].kind == "edit"
                )
                try:
                    with open_span(f"generate_content {traced['gen_ai.request.model']}", traced, calls=True):
                        hashes, unchanged = await _draw(batch, runtime)
                except Stopped:
                    ctx.cancel_if_left()
                    break
                steps = _backend_of(batch[0], ctx).steps
                cost = {task.key: 1 if steps is None else steps_at(steps, task.effort) for task in batch}
                ctx.log.put_images(list(zip(batch, hashes, strict=True)), unchanged, cost)
            for task in batch:
                image = ctx.log.images[task.key]
                path = ctx.store.path(image)
                runtime.stream_writer(ImageDrawn(task.round, task.prompt, task.seed, image, path))
                drawn.append(task.key)
    return {"attempts": drawn}


def _list_batches(tasks: Sequence[Task], size: int) -> list[Sequence[Task]]:
    """At most `size` in a row that one backend draws."""
    rows = [list(row) for _, row in itertools.groupby(tasks, key=lambda task: (task.kind, task.backend))]
    return [row[start : start + size] for row in rows for start in range(0, len(row), size)]


def _backend_of(task: Task, ctx: Context) -> ImageBackend:
    if task.kind == "edit":
        assert ctx.models.editing is not None, "only runs with an editor plan edits"
        return ctx.models.editing.editor
    return ctx.models.gallery[task.backend] if task.backend else ctx.models.generator


async def _draw(batch: Sequence[Task], runtime: Node) -> tuple[list[str], set[str]]:
    """The hashes of the pictures, and the keys of the tasks that left their source as it was."""
    ctx = runtime.context
    loop = asyncio.get_running_loop()
    here = contextvars.copy_context()  # LangGraph's stream writer finds its run in context variables
    backend = _backend_of(batch[0], ctx)

    def on_step(done: int, total: int) -> None:
        ctx.stop_if_unwanted()
        progress = StepProgress("render", batch[0].round, done, total)
        loop.call_soon_threadsafe(runtime.stream_writer, progress, context=here)

    def work() -> tuple[list[str], set[str]]:
        if ctx.models.one_at_a_time:
            for other in (ctx.models.generator, *ctx.models.gallery.values()):
                if other is not backend:
                    other.close()
        image_tasks = [_image_task(task, ctx, backend) for task in batch]
        pictures = render(backend, image_tasks, on_step)
        same = set()
        for index, (task, picture) in enumerate(zip(batch, pictures, strict=True)):
            if task.source is None:
                continue
            source = ctx.store.get(task.source)
            if task.mask is not None:
                whole = ImageTask(task.prompt, task.seed, source=source, mask=ctx.store.get(task.mask))
                pictures[index] = restore_outside_mask(fit_image(picture, ctx.size or source.size), whole)
            if is_unchanged(source, pictures[index]):
                same.add(task.key)
        return [ctx.store.put(picture) for picture in pictures], same

    return await loop.run_in_executor(ctx.models.renderer, work)


def _image_task(task: Task, ctx: Context, backend: ImageBackend) -> ImageTask:
    source = None if task.source is None else ctx.store.get(task.source)
    # An editor that knows no masks edits the whole, and what lies outside is laid over it afterwards.
    mask = None if task.mask is None or "inpaint" not in backend.modes else ctx.store.get(task.mask)
    more = () if task.reference is None else (ctx.store.get(task.reference),)
    return ImageTask(
        task.prompt,
        task.seed,
        ctx.size,
        negative_prompt=task.negative_prompt,
        source=source,
        mask=mask,
        references=more,
        noise=task.noise,
        effort=task.effort,
    )


async def judge(state: State, runtime: Node) -> State:
    """Scores the round's pictures together, all criteria at once. What is known of a picture is in the journal as soon as it
    is known."""
    ctx = runtime.context
    log, number = ctx.log, state["round"]
    by_image: dict[str, list[tuple[int, str]]] = {}
    for n, key in enumerate(state["attempts"], start=1):
        if log.tasks[key].round == number:
            by_image.setdefault(log.images[key], []).append((n, key))
    same = {image for image, tasks in by_image.items() if all(key in log.unchanged for _, key in tasks)}
    new = [image for image in by_image if image not in log.reports and image not in same]
    if new and _reward(state, ctx).sees_groups:
        new = [image for image in by_image if image not in same]  # a kill must not make the group smaller

    async def save(image: str) -> None:
        for n, key in by_image[image]:
            attempt = log.attempt(key)
            path = ctx.folder.picture(n, attempt)
            picture = await asyncio.to_thread(ctx.store.get, image)
            await asyncio.to_thread(save_picture, picture, path, state["request"], attempt, ctx.models.names)
            runtime.stream_writer(Judged(n, attempt, path))

    async def keep(index: int, report: Report) -> None:
        log.put_report(new[index], report)
        for attempt, _ in by_image[new[index]]:
            label = None if report.score is None else "pass" if meets_bar(report, ctx.limits) else "fail"
            result = {"gen_ai.evaluation.name": "redraft", "gen_ai.evaluation.score.value": report.score}
            span.add_event(
                "gen_ai.evaluation.result",
                result
                | {"gen_ai.evaluation.score.label": label, "redraft.attempt": attempt, "redraft.failed": report.failed},
            )
        await save(new[index])

    async with step("judge", number, runtime):
        for image in by_image:
            if image not in new:
                await save(image)
        if new:
            case, reward = await _case(state, ctx), _reward(state, ctx)
            shots = [await _shot(image, by_image[image][0][1], ctx) for image in new]
            with open_span(
                "evaluate redraft", {"redraft.pictures": len(new), "redraft.checks": len(case.checks)}
            ) as span:
                await reward(case, shots, calls=ctx.models.calls, seen=keep)
    return {}


def _reward(state: State, ctx: Context) -> Reward:
    if state.get("source") is None:
        return ctx.models.reward
    assert ctx.models.editing is not None, "Run.start sees to it"
    return ctx.models.editing.reward


async def _case(state: State, ctx: Context) -> Case:
    """What the pictures of the run are judged against."""
    made = ctx.log.checklist
    unchecked = () if made is None else made.unchecked
    references = tuple(map(Reference, ctx.references))
    if state.get("source") is None:
        return Case(state["request"], tuple(state["checks"]), references=references, unchecked=unchecked)
    checks, before = ctx.log.edit_checks, ctx.log.source
    assert checks is not None, "the checklist comes before the pictures"
    assert before is not None
    mask = state.get("mask")
    return Case(
        state["request"],
        checks.wanted,
        checks.kept,
        source=await asyncio.to_thread(ctx.store.get, _source(state)),
        mask=None if mask is None else await asyncio.to_thread(ctx.store.get, mask),
        references=references,
        known=unanswerable_edit(checks, before),
        unchecked=unchecked,
    )


async def _shot(image: str, key: str, ctx: Context) -> Shot:
    return Shot((await asyncio.to_thread(ctx.store.get, image),), ctx.log.tasks[key].prompt)


async def conclude(state: State, runtime: Node) -> State:
    ctx = runtime.context
    reward = _reward(state, ctx)
    if reward.is_relative:
        await _compare(state, ctx, reward)
    attempts = ctx.log.attempts(state["attempts"])
    elapsed = ctx.clock.seconds()
    decision = decide(attempts, ctx.limits, elapsed, cancelled=ctx.stop.is_set())
    ctx.log.put_decision(state["round"], stop=decision.stop, best=decision.best, why=decision.why)
    runtime.stream_writer(Decided(state["round"], decision))
    return {"decision": decision, "elapsed_s": elapsed}


async def _compare(state: State, ctx: Context, reward: Reward) -> None:
    """Has the pictures that compete for the best compared with one another, unless these were already: all, or with a
    margin those that are equally good by their scores."""
    attempts = ctx.log.attempts(state["attempts"])
    if reward.margin is None:
        rivals = [index for index, each in enumerate(attempts) if each.score is not None and not each.draft]
    else:
        rivals = tied(attempts, ctx.limits, reward.margin)
    keys = {attempts[index].image: state["attempts"][index] for index in reversed(rivals)}
    images = list(dict.fromkeys(attempts[index].image for index in rivals))
    if len(images) < 2 or set(images) == ctx.log.standings.keys():
        return
    shots = [await _shot(image, keys[image], ctx) for image in images]
    reports = [ctx.log.reports[image] for image in images]
    standings = await reward.compare(await _case(state, ctx), shots, reports, calls=ctx.models.calls)
    ctx.log.put_standings(dict(zip(images, standings, strict=True)))


async def ask(state: State, runtime: Node) -> State:
    """Waits for the user, in this process or a later one."""
    decision = state["decision"]
    assert decision is not None
    answer: Answer = interrupt({"round": state["round"]})
    if answer == "accept":
        # What the user takes is theirs; but "accepted" stays a word for pictures of which every word was checked.
        checklist = runtime.context.log.checklist
        unchecked = checklist is not None and checklist.unchecked
        stop = StopReason.UNCHECKED if unchecked else StopReason.ACCEPTED
        more = f"; nothing checks: {', '.join(checklist.unchecked)}" if checklist is not None and unchecked else ""
        decision = Decision(stop, decision.best, f"taken by the user{more}" if unchecked else "accepted by the user")
    elif answer == "stop":
        decision = Decision(StopReason.CANCELLED, decision.best, "stopped by the user")
    else:
        decision = Decision(None, decision.best, "the user asked for another round")
    runtime.context.log.put_decision(state["round"], stop=decision.stop, best=decision.best, why=decision.why)
    runtime.stream_writer(Decided(state["round"], decision))
    made: State = {"decision": decision, "next": END}
    return (
        made if decision.stop is not None else {**made, **_make_move(view_of(state, runtime.context), state, runtime)}
    )


MARGIN = 0.04
"""Added on each side of a box, as a share of the picture: boxes are seldom generous, and a cut edge is ugly."""


def mask_of_box(box: Box, size: tuple[int, int]) -> Image.Image:
    """A mask of `size` (L) that is white inside the box and a margin around it."""
    width, height = size
    left, top, right, bottom = box
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle(
        (
            max(0, math.floor((left - MARGIN) * width)),
            max(0, math.floor((top - MARGIN) * height)),
            min(width - 1, math.ceil((right + MARGIN) * width)),
            min(height - 1, math.ceil((bottom + MARGIN) * height)),
        ),
        fill=255,
    )
    return mask


async def look_at_source(state: State, ctx: Context) -> None:
    """Makes the checklist of an edit, and has the judge look at the picture before it."""
    models, log = ctx.models, ctx.log
    if log.checklist is not None:
        return
    assert models.editing is not None, "Run.start sees to it"
    source = await asyncio.to_thread(ctx.store.get, _source(state))
    async with models.calls:
        checks = await models.editing.checks(source, state["request"])
    if not checks.wanted:
        raise InputError("the instruction asks for nothing; say what is to change in the picture")
    both = (*checks.wanted, *checks.kept)
    report = await models.reward.only("checks").judge(source, Case(state["request"], both), calls=models.calls)
    log.put_source(report)
    checks = keep_what_was_there(checks, report, ctx.limits.pass_at)
    log.put_edit_checks(checks)
    unchecked, request = checks.unchecked, state["request"]
    warnings = (say_unchecked(unchecked),) if unchecked else ()
    if failed := unanswerable_edit(checks, report):
        lexicon = load_lexicon(detect_language(request) or "en")
        unchecked = await asyncio.to_thread(list_content_words, request, lexicon)
        question = one_line(failed[0].check.question)
        warnings = (f'this edit cannot be checked: the judge has no answer to "{question}"',)
    log.put_checklist(RequestChecks((*checks.wanted, *checks.kept), unchecked=unchecked, warnings=warnings))


async def plan_edit(state: State, runtime: Node) -> State:
    """Takes the edit under way one step further, or has the planner decide what comes next, and lists the pictures of
    the step."""
    ctx, number = runtime.context, state.get("round", 0) + 1
    async with step("plan", number, runtime):
        move = _ask_for_edit(view_of(state, ctx), ctx)
        if move.branches is not None:
            _note_branches(move.branches, state, runtime)
        plan = await _plan_again(move.plan, state, runtime) if move.again else move.plan
        if plan is None:
            move = _ask_for_edit(replace(view_of(state, ctx), plan=None), ctx)
            plan = move.plan
        if plan.choice == "edit" and not plan.steps:
            plan = await _plan_steps(plan, move.prompt, state, runtime)
        if plan.is_under_way:
            plan = await _with_draft(await _with_area(plan, state, ctx), state, ctx)
    ctx.log.put_edit_plan(number, plan)
    now = plan.steps[plan.at] if plan.is_under_way else None
    hashes = (None, None) if now is None else (now.area, now.drafted)
    area, draft = [None if image is None else ctx.store.path(image) for image in hashes]
    runtime.stream_writer(Planned(number, plan, area, draft))
    if plan.fault:
        runtime.stream_writer(Warned(plan.fault))
    view = replace(view_of({**state, "edit_plan": plan}, ctx), ready=plan)
    if plan.choice == "edit":
        editing = ctx.models.editing
        assert editing is not None
        inpaints = "inpaint" in editing.editor.modes
        view = replace(view, mask=state.get("mask"), inpaints=inpaints, join=editing.planner.join)
    return {"edit_plan": plan, "planned": number, **_make_move(view, state, runtime)}


def view_of(state: State, ctx: Context) -> View:
    """What strategies know of the run."""
    keys, log, models = state.get("attempts", []), ctx.log, ctx.models
    number, attempts = state.get("round", 0), ctx.log.attempts(keys)
    drawn = [task.key for task in state.get("tasks", []) if task.key in log.images]
    return View(
        request=state["request"],
        seed=state["seed"],
        limits=ctx.limits,
        round=number + 1,
        spent=replace(cost_of(attempts, ctx.clock.seconds()), images=len(keys)),
        attempts=dict(zip(keys, attempts, strict=False)),
        latest={key: attempt for key in drawn for attempt in log.attempts([key])},
        checks=tuple(state.get("checks", ())),
        experience=ctx.experience,
        phase=state.get("phase", 0),
        began=state.get("began", 1),
        backends={
            **models.gallery,
            GENERATOR: models.generator,
            **({} if models.editing is None else {EDITOR: models.editing.editor}),
        },
        edits=models.editing is not None and (ctx.limits.edit_draws or state.get("source") is not None),
        source=state.get("source"),
        source_report=log.source,
        reports=log.reports,
        plan=state.get("edit_plan"),
        earlier=tuple(plan for earlier, plan in log.edit_plans.items() if earlier <= number),
    )


def _ask_for_edit(view: View, ctx: Context) -> MakeEdit:
    move = ctx.strategy(view)
    assert isinstance(move, MakeEdit), "the same view makes the same move"
    return move


def _note_branches(branches: tuple[Branch, ...], state: State, runtime: Node) -> None:
    runtime.context.log.put_level(state["round"], branches)
    numbers = {key: n for n, key in enumerate(state["attempts"], start=1)}
    pruned = tuple((numbers[branch.key], branch) for branch in branches)
    runtime.stream_writer(Pruned(state["round"], pruned))


async def _with_area(plan: EditPlan, state: State, ctx: Context) -> EditPlan:
    """The plan with a picture of where its step is to be made, if it is known."""
    now = plan.steps[plan.at]
    if now.area is not None:
        return plan
    kept = [ctx.log.attempt(key) for key in plan.kept]
    start = kept[0].image if kept else plan.start
    assert start is not None
    area, by = state.get("mask"), "the user's mask"
    if area is None:
        picture = await asyncio.to_thread(ctx.store.get, start)
        box, by = now.region, "the judge" if plan.by == RULES else plan.by
        grounder = None if ctx.models.editing is None else ctx.models.editing.grounder
        if not is_box(box) and grounder is not None:
            key = stable_key({"ground": start, "instruction": now.instruction})
            if key not in ctx.log.places:
                async with ctx.models.calls:
                    ctx.log.put_place(key, await grounder(picture, now.instruction))
            box, by = ctx.log.places[key], grounder.name
        if box is None or not is_box(box):
            return plan
        area = await asyncio.to_thread(ctx.store.put, mask_of_box(box, picture.size))
    steps = list(plan.steps)
    steps[plan.at] = replace(now, area=area, area_from=by)
    return replace(plan, steps=tuple(steps))


async def _with_draft(plan: EditPlan, state: State, ctx: Context) -> EditPlan:
    """The plan with a drawing of what its step adds to the picture."""
    now = plan.steps[plan.at]
    if not ctx.limits.edit_drafts or not now.draft or now.drafted is not None:
        return plan
    seed = derive_seed(state["seed"], state.get("round", 0) + 1, -3)
    key = stable_key({"draft": now.draft, "seed": seed})
    if key not in ctx.log.drafts:
        backend = ctx.models.generator

        def work() -> str:
            [picture] = render(backend, [ImageTask(now.draft, seed)], lambda done, total: ctx.stop_if_unwanted())
            return ctx.store.put(picture)

        try:
            image = await asyncio.get_running_loop().run_in_executor(ctx.models.renderer, work)
        except Stopped:
            ctx.cancel_if_left()
            return plan
        ctx.log.put_draft(key, image)
    steps = list(plan.steps)
    steps[plan.at] = replace(now, drafted=ctx.log.drafts[key])
    return replace(plan, steps=tuple(steps))


async def _plan_again(plan: EditPlan, state: State, runtime: Node) -> EditPlan | None:
    """The plan with its step planned again, once. None if the planner has no other words for it and a new picture
    can be drawn instead."""
    ctx = runtime.context
    now = plan.steps[plan.at]
    keys = plan.kept
    base = ctx.log.attempt(keys[0]) if keys else None
    picture = base.image if base is not None else plan.start
    assert picture is not None
    refused = Step(now.instruction, now.thought, now.questions, local=now.local)
    done = base.steps if base is not None else plan.done
    situation, key = await _situation(state, ctx, picture, done, None, refused)
    made = await _ask_planner(situation, key, state, runtime)
    if state.get("source") is None and [each.instruction for each in made.steps] in ([], [now.instruction]):
        return None
    covered = {question for each in made.steps for question in each.questions}
    steps = list(_edit_steps(made.steps, ctx, ctx.limits.tree.depth)) or [now]
    # What the new steps do not speak of is still to be mended by the last of them.
    rest = tuple(question for question in now.questions if question not in covered)
    last = steps[-1]
    steps[-1] = replace(last, questions=(*last.questions, *rest))
    kept_steps = (*plan.steps[: plan.at], *steps, *plan.steps[plan.at + 1 :])
    reason = f"no result of {now.instruction!r} was good enough; planned again: {made.reason}"
    return EditPlan(
        "edit", reason, made.by, made.fault, plan.start, plan.root, plan.done, kept_steps, plan.at, keys, True
    )


async def _plan_steps(plan: EditPlan, prompt: str | None, state: State, runtime: Node) -> EditPlan:
    """The plan with the steps that the planner wants, or a new picture instead."""
    ctx = runtime.context
    assert plan.start is not None
    situation, key = await _situation(state, ctx, plan.start, plan.done, prompt)
    made = await _ask_planner(situation, key, state, runtime)
    if made.choice == "redraw":
        return EditPlan("redraw", made.reason, made.by, made.fault)
    steps = _edit_steps(made.steps, ctx, situation.edits_left)
    return replace(plan, reason=made.reason, by=made.by, fault=made.fault, steps=steps)


async def _situation(
    state: State, ctx: Context, picture: str, done: tuple[str, ...], prompt: str | None, refused: Step | None = None
) -> tuple[Situation, str]:
    """What the planner reads about the picture with that hash, and a stable key for it."""
    limits = ctx.limits
    report = _seen(picture, state, ctx)
    assert report is not None, "only pictures that were judged are planned for"
    asked = {check.question for check in state["checks"]}
    verdicts = [v for v in report.verdicts if v.check.question in asked]
    wrong = [v for v in verdicts if v.outcome is not Outcome.NOT_APPLICABLE and not passes(v, limits.pass_at)]
    wrong.sort(key=lambda v: 1.0 if v.probability is None else v.probability)
    if refused is not None:
        wrong = [v for v in wrong if v.check.question in refused.questions] or wrong
    image = await asyncio.to_thread(ctx.store.get, picture)
    chain = await asyncio.to_thread(_list_chain, picture, refused, state, ctx)

    async def look(questions: Sequence[str]) -> list[float | None]:
        checks = [Check("probe", question) for question in questions]
        async with ctx.models.calls:
            verdicts = await judge_checks(ctx.models.judge, image, request=state["request"], checks=tuple(checks))
        return [verdict.probability for verdict in verdicts]

    situation = Situation(
        request=state["request"],
        editing=state.get("source") is not None,
        prompt=prompt,
        faults=tuple(FailedQuestion(v.check.question, v.reason, v.region) for v in wrong),
        passed=tuple(v.check.question for v in verdicts if passes(v, limits.pass_at)),
        done=done,
        refused=refused,
        edits_left=max(1, limits.tree.depth - len(done)),
        chain=chain,
        look=look,
    )
    key = stable_key(
        {
            "picture": picture,
            "round": state.get("round", 0),
            "wrong": [fault.question for fault in situation.faults],
            "done": list(done),
            "refused": None if refused is None else refused.instruction,
        }
    )
    return situation, key


def _list_chain(picture: str, refused: Step | None, state: State, ctx: Context) -> tuple[str | Image.Image, ...]:
    """How a picture came about, text and pictures alternating, the picture last."""
    by_image = {attempt.image: attempt for attempt in ctx.log.attempts(state.get("attempts", []))}
    chain: list[str | Image.Image] = []
    at: str | None = picture
    seen: set[str] = set()
    while at is not None and at not in seen:  # an editor may come back to a picture of before
        seen.add(at)
        attempt = by_image.get(at)
        chain.append(ctx.store.get(at))
        if attempt is None:
            chain.append("The picture that the user gave:")
            break
        plan = ctx.log.edit_plans.get(attempt.round)
        if attempt.kind == "generate" or plan is None or not plan.steps:
            chain.append(f"Drawn from:\n{fence(attempt.prompt, 'drawn_from')}")
            break
        now = plan.steps[min(plan.at, len(plan.steps) - 1)]
        where = ""
        if now.area is not None:
            chain.append(ctx.store.get(now.area))
            where = "Where, in white:"
        if now.drafted is not None:
            chain.append(ctx.store.get(now.drafted))
            chain.append("What was to come, drawn by itself:")
        chain.append(f"{now.thought}\nEdited:\n{fence(attempt.prompt, 'edit')}\n{where}".strip())
        at = attempt.parent
    if refused is not None and (worst := _latest(state, ctx)) is not None:
        refusal = f"Not good enough, a result of:\n{fence(refused.instruction, 'refused')}"
        return (refusal, ctx.store.get(worst), *reversed(chain))
    return tuple(reversed(chain))


def _latest(state: State, ctx: Context) -> str | None:
    """The first of the latest round's pictures."""
    return next((ctx.log.images[task.key] for task in state.get("tasks", []) if task.key in ctx.log.images), None)


async def _ask_planner(situation: Situation, key: str, state: State, runtime: Node) -> Plan:
    ctx = runtime.context
    assert ctx.models.editing is not None
    if key not in ctx.log.plans:
        # No place among the calls is held meanwhile: the planner may have the judge look, which takes one.
        made = await ctx.models.editing.planner(
            situation, seed=derive_seed(state["seed"], state.get("round", 0) + 1, -2)
        )
        ctx.log.put_plan(key, made)
    return ctx.log.plans[key]


def _edit_steps(steps: Sequence[Step], ctx: Context, most: int) -> tuple[EditStep, ...]:
    assert ctx.models.editing is not None
    together = merged(in_order(steps), ctx.limits.tree.merge, ctx.models.editing.planner.join)
    return tuple(
        EditStep(step.instruction, step.thought, step.questions, step.local, step.region, draft=step.draft)
        for step in together[:most]
    )


def _seen(picture: str | None, state: State, ctx: Context) -> Report | None:
    """The judge's report on the picture with that hash."""
    if picture is not None and picture == state.get("source"):
        return ctx.log.source
    return None if picture is None else ctx.log.reports.get(picture)


def _source(state: State) -> str:
    source = state.get("source")
    assert source is not None
    return source


Bring = Callable[[State, Runtime[Any]], AbstractAsyncContextManager[Node]]
"""Gives a node or an edge its Context, if the caller of the graph cannot."""


def _bringing(function: Callable[[State, Node], Any], bring: Bring | None) -> Callable[..., Any]:
    if bring is None:
        return function

    async def node(state: State, runtime: Runtime[Any]) -> State:
        async with bring(state, runtime) as opened:
            made: State = await function(state, opened)
            return made

    return node


def _follow_move(state: State) -> str:
    return state["next"]


def build_graph(
    retry_wait_s: float = 1.0,
    *,
    context_schema: type[Any] = Context,
    input_schema: type[Any] = State,
    output_schema: type[Any] = State,
    begin: Callable[..., Awaitable[State]] | None = None,
    finish: Callable[[State, Node], Awaitable[Any]] | None = None,
    bring: Bring | None = None,
) -> StateGraph[State, Any, Any, State]:
    """The graph, to be compiled with a checkpointer. A step in which a server failed is tried once more after
    `retry_wait_s` seconds (clients retry single calls); other errors end the run.

    A caller that cannot hand in a Context names its own schemas, makes a whole state of the input with a first node `begin`,
    adds to the output what it has for itself with a last one `finish`, and opens each step's Context with `bring`.
    """
    graph: StateGraph[State, Any, Any, State] = StateGraph(
        State, context_schema=context_schema, input_schema=input_schema, output_schema=output_schema
    )
    retry = RetryPolicy(initial_interval=retry_wait_s, max_attempts=2, jitter=False, retry_on=(ServerError, BadReply))
    graph.add_node("checklist", _bringing(make_checklist, bring), retry_policy=retry)
    graph.add_node("plan", _bringing(plan_edit, bring), retry_policy=retry)
    graph.add_node("rewrite", _bringing(rewrite, bring), retry_policy=retry)
    graph.add_node("render", _bringing(draw, bring), retry_policy=retry)
    graph.add_node("judge", _bringing(judge, bring), retry_policy=retry)
    graph.add_node("propose", _bringing(propose, bring))
    graph.add_node("ask", _bringing(ask, bring))
    if begin is None:
        graph.add_edge(START, "checklist")
    else:
        graph.add_node("begin", begin)
        graph.add_edge(START, "begin")
        graph.add_edge("begin", "checklist")
    end = END
    if finish is not None:
        end = "finish"
        graph.add_node(end, _bringing(finish, bring))
        graph.add_edge(end, END)
    graph.add_edge("checklist", "propose")
    graph.add_conditional_edges(
        "propose", _follow_move, {"render": "render", "rewrite": "rewrite", "plan": "plan", "ask": "ask", END: end}
    )
    graph.add_conditional_edges(
        "ask", _follow_move, {"render": "render", "rewrite": "rewrite", "plan": "plan", END: end}
    )
    graph.add_conditional_edges("plan", _follow_move, {"render": "render", "rewrite": "rewrite", END: end})
    graph.add_conditional_edges("rewrite", _follow_move, {"render": "render", END: end})
    graph.add_edge("render", "judge")
    graph.add_edge("judge", "propose")
    return graph
