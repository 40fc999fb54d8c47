"""The nodes of the graph that edit: what is wanted of a given picture, what comes next, and the pictures to make."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from PIL import Image

from agent.course import (
    advanced,
    candidates,
    confidence,
    mended_so_far,
    prune,
    starts,
    under_way,
)
from agent.decide import best_of
from agent.edit_judging import wanted_and_kept
from agent.events import Planned, Pruned, Warned
from agent.plan import derive_seed
from agent.state import Context, Node, State, step
from agent.types import Course, Subtask, passes, stable_key
from core.errors import InputError
from evaluator.edits.types import Edit
from evaluator.types import Check, Outcome, Report
from rewriter.plan import Fault, Plan, Situation, Step, in_order, merged


async def look_at_source(state: State, ctx: Context) -> None:
    """Makes the checklist of an edit, and has the judge look at the picture before it."""
    parts, log = ctx.parts, ctx.log
    if log.checklist is not None:
        return
    assert parts.edit_checks is not None, "Session.start sees to it"
    source = await asyncio.to_thread(ctx.store.get, _source(state))
    async with parts.calls:
        checks = await parts.edit_checks(source, state["prompt"])
    if not checks.wanted:
        raise InputError("the instruction asks for nothing; say what is to change in the picture")
    asked = (*checks.wanted, *checks.kept)
    async with parts.calls:
        report = await parts.evaluator.score(source, state["prompt"], asked)
    log.put_source(report)
    log.put_checklist(wanted_and_kept(checks, report, ctx.limits.pass_at))


async def judge_edit(picture: Image.Image, state: State, ctx: Context) -> Report:
    """The report on a result of an edit of the user's picture."""
    assert ctx.parts.edit_evaluator is not None, "Session.start sees to it"
    source = await asyncio.to_thread(ctx.store.get, _source(state))
    mask = state.get("mask")
    where = None if mask is None else await asyncio.to_thread(ctx.store.get, mask)
    return await ctx.parts.edit_evaluator(Edit(source, picture, state["prompt"]), tuple(state["checks"]), where)


async def plan(state: State, runtime: Node) -> State:
    """Takes the edit under way one sub-task further, or has the planner decide what comes next."""
    ctx = runtime.context
    number = state.get("round", 0) + 1
    async with step("plan", number, runtime):
        course = state.get("course")
        if course is not None and under_way(course):
            course = await _further(course, state, runtime)
        if course is None or not under_way(course):
            course = await _next(state, runtime)
    ctx.log.put_course(number, course)
    runtime.stream_writer(Planned(number, course))
    if course.fault:
        runtime.stream_writer(Warned(course.fault))
    return {"course": course}


async def retouch(state: State, runtime: Node) -> State:
    """The round's tasks: candidates for the sub-task under way."""
    ctx, course = runtime.context, state["course"]
    assert course is not None
    assert ctx.parts.planner is not None
    number = state.get("round", 0) + 1
    keys = state.get("attempts", [])
    attempts = {key: ctx.log.attempt(key) for key in course.kept}
    found = starts(course, attempts, ctx.limits, ctx.parts.planner.join)
    tasks = candidates(
        number,
        found,
        lambda index: derive_seed(state["seed"], number, index),
        slots_left(ctx, len(keys)),
        ctx.limits,
        state.get("mask"),
    )
    return {"round": number, "tasks": tasks}


def slots_left(ctx: Context, spent: int) -> int:
    """How many pictures the run may still make."""
    return max(0, ctx.limits.max_images - spent)


async def _further(course: Course, state: State, runtime: Node) -> Course | None:
    """The course after its last level was judged; None where it is given up."""
    ctx = runtime.context
    log, limits, number = ctx.log, ctx.limits, state["round"]
    drawn = [task.key for task in state["tasks"] if task.key in log.images]
    mended = mended_so_far(course)
    level = []
    for key in drawn:
        for attempt in log.attempts([key]):  # none where a judge was stopped before it came to this one
            sure = confidence(attempt.report, mended, _seen(attempt.parent, state, ctx), limits.pass_at)
            level.append((key, attempt, sure))
    branches = prune(level, limits)
    log.put_level(number, branches)
    numbers = {key: n for n, key in enumerate(state["attempts"], start=1)}
    runtime.stream_writer(Pruned(number, tuple((numbers[branch.key], branch) for branch in branches)))
    on = advanced(course, branches)
    if on is not None or course.replanned:
        return on
    return await _again(course, state, runtime)


async def _again(course: Course, state: State, runtime: Node) -> Course:
    """The course with its sub-task planned anew, once."""
    ctx = runtime.context
    now = course.steps[course.at]
    keys = course.kept
    base = ctx.log.attempt(keys[0]) if keys else None
    picture = base.image if base is not None else course.start
    assert picture is not None
    refused = Step(now.instruction, now.thought, now.questions, local=now.local)
    done = base.steps if base is not None else course.done
    situation, key = await _situation(state, ctx, picture, done, None, refused)
    made = await _planned(situation, key, state, runtime)
    asked = {question for one in made.steps for question in one.questions}
    steps = list(_subtasks(made.steps, ctx, ctx.limits.edit_depth)) or [now]
    # What the new sub-tasks do not speak of is still to be mended by the last of them.
    rest = tuple(question for question in now.questions if question not in asked)
    last = steps[-1]
    steps[-1] = Subtask(last.instruction, last.thought, (*last.questions, *rest), last.local)
    kept_steps = (*course.steps[: course.at], *steps, *course.steps[course.at + 1 :])
    reason = f"no result of {now.instruction!r} was good enough; planned anew: {made.reason}"
    return Course(
        "edit", reason, made.by, made.fault, course.start, course.root, course.done, kept_steps, course.at, keys, True
    )


async def _next(state: State, runtime: Node) -> Course:
    """What the planner wants, now that no edit is under way."""
    ctx = runtime.context
    limits, log = ctx.limits, ctx.log
    editing = state.get("source") is not None
    attempts = log.attempts(state.get("attempts", []))
    index = best_of(attempts, limits)
    best = None if index is None else attempts[index]
    if best is not None and best.score is None:
        best = None
    if editing and (best is None or len(best.steps) >= limits.edit_depth):
        best = None  # from the picture as it was given
    elif best is None:
        return Course("redraw", "there is no picture to edit yet")
    done = () if best is None else best.steps
    if not editing and len(done) >= limits.edit_depth:
        return Course("redraw", f"{len(done)} edits lie on top of one another, as many as allowed")
    start = _source(state) if best is None else best.image
    # Only of the rounds before: this one may run again after a kill.
    before = [course for number, course in log.courses.items() if number <= state.get("round", 0)]
    if not editing and any(course.start == start and course.choice == "edit" for course in before):
        return Course("redraw", "an edit of this picture was tried, and nothing better came of it")
    situation, key = await _situation(state, ctx, start, done, None if best is None else best.prompt)
    made = await _planned(situation, key, state, runtime)
    if made.choice == "redraw":
        return Course("redraw", made.reason, made.by, made.fault)
    root = start if best is None else best.root or best.image
    steps = _subtasks(made.steps, ctx, situation.edits_left)
    return Course("edit", made.reason, made.by, made.fault, start, root, done, steps)


async def _situation(
    state: State, ctx: Context, picture: str, done: tuple[str, ...], prompt: str | None, refused: Step | None = None
) -> tuple[Situation, str]:
    """What the planner is told of the picture with that hash, and a stable key for it."""
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

    async def look(questions: Sequence[str]) -> list[float | None]:
        checks = [Check("probe", question) for question in questions]
        async with ctx.parts.calls:
            seen = await ctx.parts.evaluator.score(image, state["prompt"], tuple(checks))
        return [verdict.probability for verdict in seen.verdicts]

    situation = Situation(
        ask=state["prompt"],
        editing=state.get("source") is not None,
        prompt=prompt,
        faults=tuple(Fault(v.check.question, v.reason, v.region) for v in wrong),
        passed=tuple(v.check.question for v in verdicts if passes(v, limits.pass_at)),
        done=done,
        refused=refused,
        edits_left=max(1, limits.edit_depth - len(done)),
        chain=(image,),
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


async def _planned(situation: Situation, key: str, state: State, runtime: Node) -> Plan:
    ctx = runtime.context
    assert ctx.parts.planner is not None
    if key not in ctx.log.plans:
        # No place among the calls is held meanwhile: the planner may have the judge look, which takes one.
        made = await ctx.parts.planner(situation, seed=derive_seed(state["seed"], state.get("round", 0) + 1, -2))
        ctx.log.put_plan(key, made)
    return ctx.log.plans[key]


def _subtasks(steps: Sequence[Step], ctx: Context, most: int) -> tuple[Subtask, ...]:
    assert ctx.parts.planner is not None
    together = merged(in_order(steps), ctx.limits.edit_merge, ctx.parts.planner.join)
    return tuple(Subtask(one.instruction, one.thought, one.questions, one.local) for one in together[:most])


def _seen(picture: str | None, state: State, ctx: Context) -> Report | None:
    """What the judge said of the picture with that hash."""
    if picture is not None and picture == state.get("source"):
        return ctx.log.source
    return None if picture is None else ctx.log.reports.get(picture)


def _source(state: State) -> str:
    source = state.get("source")
    assert source is not None
    return source
