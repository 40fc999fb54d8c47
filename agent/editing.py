"""The nodes of the graph that edit: what is wanted of a given picture, what comes next, and the pictures to make."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageDraw

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
from agent.state import Context, Node, State, Stopped, step
from agent.types import Course, Subtask, is_box, missed, passes, stable_key
from editors.backend import ImageTask, render
from evaluator.edits.types import Edit
from evaluator.grounding import Box
from evaluator.types import Check, Outcome, Report
from redraft.errors import InputError
from redraft.templates import fence
from rewriter.plan import RULES, Fault, Plan, Situation, Step, in_order, merged

MARGIN = 0.04
"""Added on each side of a box, as a share of the picture: boxes are seldom generous, and a cut edge is ugly."""


def cue_of(box: Box, size: tuple[int, int]) -> Image.Image:
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
    asked = (*checks.wanted, *checks.kept)
    async with models.calls:
        report = await models.evaluator.score(source, state["request"], asked)
    log.put_source(report)
    log.put_checklist(wanted_and_kept(checks, report, ctx.limits.pass_at))


async def judge_edit(picture: Image.Image, state: State, ctx: Context) -> Report:
    """The report on a result of an edit of the user's picture."""
    assert ctx.models.editing is not None, "Run.start sees to it"
    source = await asyncio.to_thread(ctx.store.get, _source(state))
    mask = state.get("mask")
    where = None if mask is None else await asyncio.to_thread(ctx.store.get, mask)
    return await ctx.models.editing.evaluator(Edit(source, picture, state["request"]), tuple(state["checks"]), where)


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
        if under_way(course):
            course = await _with_draft(await _with_cue(course, state, ctx), state, ctx)
    ctx.log.put_course(number, course)
    now = course.steps[course.at] if under_way(course) else None
    cue, draft = (None, None) if now is None else (now.cue, now.drafted)
    shown = [None if one is None else ctx.store.path(one) for one in (cue, draft)]
    runtime.stream_writer(Planned(number, course, *shown))
    if course.fault:
        runtime.stream_writer(Warned(course.fault))
    return {"course": course}


async def retouch(state: State, runtime: Node) -> State:
    """The round's tasks: candidates for the sub-task under way."""
    ctx, course = runtime.context, state["course"]
    assert course is not None
    assert ctx.models.editing is not None
    number = state.get("round", 0) + 1
    keys = state.get("attempts", [])
    attempts = {key: ctx.log.attempt(key) for key in course.kept}
    found = starts(course, attempts, ctx.limits, ctx.models.editing.planner.join)
    tasks = candidates(
        number,
        found,
        lambda index: derive_seed(state["seed"], number, index),
        slots_left(ctx, len(keys)),
        ctx.limits,
        _mask(course, state, ctx),
        course.steps[course.at].drafted,
    )
    return {"round": number, "tasks": tasks}


def slots_left(ctx: Context, spent: int) -> int:
    """How many pictures the run may still make."""
    return max(0, ctx.limits.max_images - spent)


def _mask(course: Course, state: State, ctx: Context) -> str | None:
    """Where the editor may change the picture: in the user's mask, else, for a sub-task that is said to be local, where
    the cue is, for editors that can be told so."""
    now, editing = course.steps[course.at], ctx.models.editing
    if state.get("mask") is not None or not now.local or editing is None or "inpaint" not in editing.editor.modes:
        return state.get("mask")
    # From the first picture of a chain on, all its sub-tasks are made again, and this place is that of one of them.
    again = course.at == 0 and bool(course.done) and ctx.limits.tree.base == "source"
    return None if again else now.cue


async def _with_cue(course: Course, state: State, ctx: Context) -> Course:
    """The course with a picture of where its sub-task is to be made, where anybody knows."""
    now = course.steps[course.at]
    if now.cue is not None:
        return course
    kept = [ctx.log.attempt(key) for key in course.kept]
    start = kept[0].image if kept else course.start
    assert start is not None
    cue, by = state.get("mask"), "the user's mask"
    if cue is None:
        picture = await asyncio.to_thread(ctx.store.get, start)
        box, by = now.region, "the judge" if course.by == RULES else course.by
        grounder = None if ctx.models.editing is None else ctx.models.editing.grounder
        if not is_box(box) and grounder is not None:
            key = stable_key({"ground": start, "instruction": now.instruction})
            if key not in ctx.log.places:
                async with ctx.models.calls:
                    ctx.log.put_place(key, await grounder(picture, now.instruction))
            box, by = ctx.log.places[key], grounder.name
        if box is None or not is_box(box):
            return course
        cue = await asyncio.to_thread(ctx.store.put, cue_of(box, picture.size))
    steps = list(course.steps)
    steps[course.at] = replace(now, cue=cue, cue_from=by)
    return replace(course, steps=tuple(steps))


async def _with_draft(course: Course, state: State, ctx: Context) -> Course:
    """The course with a picture of what its sub-task brings into the picture, drawn by the generator by itself."""
    now = course.steps[course.at]
    if not ctx.limits.edit_drafts or not now.draft or now.drafted is not None:
        return course
    seed = derive_seed(state["seed"], state.get("round", 0) + 1, -3)
    key = stable_key({"draft": now.draft, "seed": seed})
    if key not in ctx.log.drafts:
        backend = ctx.models.generator

        def work() -> str:
            [picture] = render(backend, [ImageTask(now.draft, seed)], lambda done, total: ctx.stop_if_told())
            return ctx.store.put(picture)

        try:
            image = await asyncio.get_running_loop().run_in_executor(ctx.models.renderer, work)
        except Stopped:
            ctx.cancel_if_left()
            return course
        ctx.log.put_draft(key, image)
    steps = list(course.steps)
    steps[course.at] = replace(now, drafted=ctx.log.drafts[key])
    return replace(course, steps=tuple(steps))


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
    last_chance = course.replanned and state.get("source") is not None
    branches = prune(level, limits.tree, bar=0.0 if last_chance else None)
    log.put_level(number, branches)
    numbers = {key: n for n, key in enumerate(state["attempts"], start=1)}
    runtime.stream_writer(Pruned(number, tuple((numbers[branch.key], branch) for branch in branches)))
    on = advanced(course, branches)
    if on is not None or course.replanned:
        return on
    return await _again(course, state, runtime)


async def _again(course: Course, state: State, runtime: Node) -> Course | None:
    """The course with its sub-task planned anew, once. None where the planner has no other words for it and a new
    picture can be drawn instead."""
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
    if state.get("source") is None and [one.instruction for one in made.steps] in ([], [now.instruction]):
        return None
    asked = {question for one in made.steps for question in one.questions}
    steps = list(_subtasks(made.steps, ctx, ctx.limits.tree.depth)) or [now]
    # What the new sub-tasks do not speak of is still to be mended by the last of them.
    rest = tuple(question for question in now.questions if question not in asked)
    last = steps[-1]
    steps[-1] = replace(last, questions=(*last.questions, *rest))
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
    if editing and (
        best is None or limits.tree.base == "anew" or len(best.steps) >= limits.tree.depth or _broke(best.report, ctx)
    ):
        best = None  # from the picture as it was given
    elif best is None:
        return Course("redraw", "there is no picture to edit yet")
    done = () if best is None else best.steps
    if not editing and len(done) >= limits.tree.depth:
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
    chain = await asyncio.to_thread(_story, picture, refused, state, ctx)

    async def look(questions: Sequence[str]) -> list[float | None]:
        checks = [Check("probe", question) for question in questions]
        async with ctx.models.calls:
            seen = await ctx.models.evaluator.score(image, state["request"], tuple(checks))
        return [verdict.probability for verdict in seen.verdicts]

    situation = Situation(
        ask=state["request"],
        editing=state.get("source") is not None,
        prompt=prompt,
        faults=tuple(Fault(v.check.question, v.reason, v.region) for v in wrong),
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


def _story(picture: str, refused: Step | None, state: State, ctx: Context) -> tuple[str | Image.Image, ...]:
    """How a picture came about, text and pictures by turns, the picture last."""
    by_image = {attempt.image: attempt for attempt in ctx.log.attempts(state.get("attempts", []))}
    told: list[str | Image.Image] = []
    at: str | None = picture
    seen: set[str] = set()
    while at is not None and at not in seen:  # an editor may come back to a picture of before
        seen.add(at)
        attempt = by_image.get(at)
        told.append(ctx.store.get(at))
        if attempt is None:
            told.append("The picture that the user gave:")
            break
        course = ctx.log.courses.get(attempt.round)
        if attempt.kind == "generate" or course is None or not course.steps:
            told.append(f"Drawn from:\n{fence(attempt.prompt, 'drawn_from')}")
            break
        now = course.steps[min(course.at, len(course.steps) - 1)]
        where = ""
        if now.cue is not None:
            told.append(ctx.store.get(now.cue))
            where = "Where, in white:"
        if now.drafted is not None:
            told.append(ctx.store.get(now.drafted))
            told.append("What was to come, drawn by itself:")
        told.append(f"{now.thought}\nEdited:\n{fence(attempt.prompt, 'edit')}\n{where}".strip())
        at = attempt.parent
    if refused is not None and (worst := _latest(state, ctx)) is not None:
        said = f"Not good enough, a result of:\n{fence(refused.instruction, 'refused')}"
        return (said, ctx.store.get(worst), *reversed(told))
    return tuple(reversed(told))


def _latest(state: State, ctx: Context) -> str | None:
    """The first of the latest round's pictures."""
    return next((ctx.log.images[task.key] for task in state.get("tasks", []) if task.key in ctx.log.images), None)


async def _planned(situation: Situation, key: str, state: State, runtime: Node) -> Plan:
    ctx = runtime.context
    assert ctx.models.editing is not None
    if key not in ctx.log.plans:
        # No place among the calls is held meanwhile: the planner may have the judge look, which takes one.
        made = await ctx.models.editing.planner(
            situation, seed=derive_seed(state["seed"], state.get("round", 0) + 1, -2)
        )
        ctx.log.put_plan(key, made)
    return ctx.log.plans[key]


def _broke(report: Report, ctx: Context) -> bool:
    """Whether something that was right in the user's picture is wrong now: an edit would have to guess what it was."""
    pass_at = ctx.limits.pass_at
    had = set() if ctx.log.source is None else {v.check for v in ctx.log.source.verdicts if passes(v, pass_at)}
    return any(v.check in had for v in missed(report, pass_at))


def _subtasks(steps: Sequence[Step], ctx: Context, most: int) -> tuple[Subtask, ...]:
    assert ctx.models.editing is not None
    together = merged(in_order(steps), ctx.limits.tree.merge, ctx.models.editing.planner.join)
    return tuple(
        Subtask(one.instruction, one.thought, one.questions, one.local, one.region, draft=one.draft)
        for one in together[:most]
    )


def _seen(picture: str | None, state: State, ctx: Context) -> Report | None:
    """What the judge said of the picture with that hash."""
    if picture is not None and picture == state.get("source"):
        return ctx.log.source
    return None if picture is None else ctx.log.reports.get(picture)


def _source(state: State) -> str:
    source = state.get("source")
    assert source is not None
    return source
