"""The nodes of the graph that edit: what is wanted of a given picture, what comes next, and the pictures to make."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageDraw

from agent.edit_judging import wanted_and_kept
from agent.events import Planned, Pruned, Warned
from agent.state import Context, Node, State, Stopped, step
from agent.strategies import Cost, Draw, MakeEdit, View, load_strategy
from agent.strategies.loop import derive_seed
from agent.types import Branch, EditPlan, EditStep, is_box, passes, stable_key
from editors.backend import ImageTask, render
from evaluator.edits.types import Edit
from evaluator.grounding import Box
from evaluator.types import Check, Outcome, Report
from redraft.errors import InputError
from redraft.templates import fence
from rewriter.plan import RULES, Fault, Plan, Situation, Step, in_order, merged

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


async def plan_edit(state: State, runtime: Node) -> State:
    """Takes the edit under way one step further, or has the planner decide what comes next."""
    ctx, number = runtime.context, state.get("round", 0) + 1
    async with step("plan", number, runtime):
        move = _ask_strategy(view_of(state, ctx))
        if move.branches is not None:
            _note_branches(move.branches, state, runtime)
        plan = await _plan_again(move.plan, state, runtime) if move.again else move.plan
        if plan is None:
            move = _ask_strategy(replace(view_of(state, ctx), plan=None))
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
    return {"edit_plan": plan}


async def make_branches(state: State, runtime: Node) -> State:
    """The round's tasks: the pictures of the step under way."""
    ctx, plan = runtime.context, state["edit_plan"]
    assert ctx.models.editing is not None
    assert plan is not None
    editing = ctx.models.editing
    view = replace(
        view_of(state, ctx),
        ready=plan,
        mask=state.get("mask"),
        inpaints="inpaint" in editing.editor.modes,
        join=editing.planner.join,
    )
    move = load_strategy("tree")(view)
    assert isinstance(move, Draw)
    return {"round": view.round, "tasks": list(move.tasks)}


def view_of(state: State, ctx: Context) -> View:
    """What strategies are told of the run."""
    keys, log = state.get("attempts", []), ctx.log
    number = state.get("round", 0)
    drawn = [task.key for task in state.get("tasks", []) if task.key in log.images]
    return View(
        request=state["request"],
        seed=state["seed"],
        limits=ctx.limits,
        round=number + 1,
        spent=Cost(images=len(keys)),
        attempts=dict(zip(keys, log.attempts(keys), strict=False)),
        latest={key: attempt for key in drawn for attempt in log.attempts([key])},
        source=state.get("source"),
        source_report=log.source,
        reports=log.reports,
        plan=state.get("edit_plan"),
        earlier=tuple(plan for earlier, plan in log.edit_plans.items() if earlier <= number),
    )


def _ask_strategy(view: View) -> MakeEdit:
    move = load_strategy("tree")(view)
    assert isinstance(move, MakeEdit)
    return move


def _note_branches(branches: tuple[Branch, ...], state: State, runtime: Node) -> None:
    runtime.context.log.put_level(state["round"], branches)
    numbers = {key: n for n, key in enumerate(state["attempts"], start=1)}
    pruned = tuple((numbers[branch.key], branch) for branch in branches)
    runtime.stream_writer(Pruned(state["round"], pruned))


async def _with_area(plan: EditPlan, state: State, ctx: Context) -> EditPlan:
    """The plan with a picture of where its sub-task is to be made, where anybody knows."""
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
    """The plan with a picture of what its sub-task brings into the picture, drawn by the generator by itself."""
    now = plan.steps[plan.at]
    if not ctx.limits.edit_drafts or not now.draft or now.drafted is not None:
        return plan
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
            return plan
        ctx.log.put_draft(key, image)
    steps = list(plan.steps)
    steps[plan.at] = replace(now, drafted=ctx.log.drafts[key])
    return replace(plan, steps=tuple(steps))


async def _plan_again(plan: EditPlan, state: State, runtime: Node) -> EditPlan | None:
    """The plan with its sub-task planned anew, once. None where the planner has no other words for it and a new
    picture can be drawn instead."""
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
    if state.get("source") is None and [one.instruction for one in made.steps] in ([], [now.instruction]):
        return None
    asked = {question for one in made.steps for question in one.questions}
    steps = list(_edit_steps(made.steps, ctx, ctx.limits.tree.depth)) or [now]
    # What the new sub-tasks do not speak of is still to be mended by the last of them.
    rest = tuple(question for question in now.questions if question not in asked)
    last = steps[-1]
    steps[-1] = replace(last, questions=(*last.questions, *rest))
    kept_steps = (*plan.steps[: plan.at], *steps, *plan.steps[plan.at + 1 :])
    reason = f"no result of {now.instruction!r} was good enough; planned anew: {made.reason}"
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
        plan = ctx.log.edit_plans.get(attempt.round)
        if attempt.kind == "generate" or plan is None or not plan.steps:
            told.append(f"Drawn from:\n{fence(attempt.prompt, 'drawn_from')}")
            break
        now = plan.steps[min(plan.at, len(plan.steps) - 1)]
        where = ""
        if now.area is not None:
            told.append(ctx.store.get(now.area))
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
        EditStep(one.instruction, one.thought, one.questions, one.local, one.region, draft=one.draft)
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
