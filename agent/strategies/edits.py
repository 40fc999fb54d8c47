"""Strategy `edit`: mend a picture step by step; `tree` makes several results of each step, and keeps the best.

Which picture is edited next is decided here; what a step is comes from the planner (`rewriter.plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from agent.decide import best_of
from agent.strategies.moves import (
    EDITOR,
    Joiner,
    MakeEdit,
    MakePictures,
    Move,
    Stop,
    Strategy,
    View,
    derive_seed,
    room,
    too_little,
)
from agent.strategies.rounds import loop
from agent.types import Attempt, Branch, EditPlan, Fate, Task, missed, passes
from evaluator.types import Outcome, Report
from redraft.limits import Limits, TreeLimits


def with_edits(draw: Strategy) -> Strategy:
    """`draw`, and from the second round on an edit of the best picture wherever the planner prefers one, if the run's
    models and limits let drawings be edited. A picture of the user's is edited from the first round on."""

    def strategy(view: View) -> Move:
        if not view.edits or (view.source is None and view.round == 1):
            return draw(view)
        if view.ready is not None and view.ready.choice == "redraw":
            return draw(view)
        return edit(view)

    return strategy


standard: Strategy = with_edits(loop)
"""What a run does if nobody says otherwise."""


def edit(view: View) -> MakeEdit | MakePictures | Stop:
    """Edits in steps, with several results of each step: plans the next step of the edit under way, or chooses the
    picture that is edited next.

    The confidence in a result comes from the judge's answers to the questions that the steps so far should have mended, and
    to those that were right before (MURE asks a vision-language model for a number from 0 to 100 instead, and prunes to the
    best). The best results are kept; if all are below the bar, the step is planned again once. After that, if the picture
    is the user's, the best result is kept all the same: the judge may be wrong about one step, and starting over would
    repeat it.
    """
    if not room(view, backend=EDITOR):
        return too_little(view)
    if view.ready is not None:
        return MakePictures(tuple(plan_branches(view, view.ready)))
    plan, branches = view.plan, None
    if plan is not None and plan.is_under_way:
        branches = judge_branches(view, plan)
        further = advance(plan, branches)
        if further is None and not plan.replanned:
            return MakeEdit(plan, branches, again=True)
        if further is not None and further.is_under_way:
            return MakeEdit(further, branches)
    return replace(choose_start(view), branches=branches)


def judge_branches(view: View, plan: EditPlan) -> tuple[Branch, ...]:
    """What becomes of the results of the step under way."""
    mended = questions_so_far(plan)
    level = []
    for key, attempt in view.latest.items():
        before = view.report_on(attempt.parent)
        level.append((key, attempt, confidence(attempt.report, mended, before, view.limits.pass_at)))
    last_chance = plan.replanned and view.source is not None
    return prune(level, view.limits.tree, bar=0.0 if last_chance else None)


def choose_start(view: View) -> MakeEdit:
    """An edit without steps of the picture that is to be edited next; "redraw" if there is none."""
    depth = view.limits.tree.depth
    attempts = list(view.attempts.values())
    index = best_of(attempts, view.limits)
    best = None if index is None else attempts[index]
    if best is not None and best.score is None:
        best = None
    if view.source is not None:
        # From the picture as it was given, unless the best result can be built on.
        anew = view.limits.tree.base == "anew" or (best is not None and len(best.steps) >= depth)
        if best is None or anew or _broke(best.report, view):
            return MakeEdit(EditPlan("edit", "", start=view.source, root=view.source))
    elif best is None:
        return MakeEdit(EditPlan("redraw", "there is no picture to edit yet"))
    if view.source is None and len(best.steps) >= depth:
        reason = f"{len(best.steps)} edits lie on top of one another, as many as allowed"
        return MakeEdit(EditPlan("redraw", reason))
    # Only plans of the rounds before: this one may run again after a kill.
    if view.source is None and any(p.start == best.image and p.choice == "edit" for p in view.earlier):
        return MakeEdit(EditPlan("redraw", "an edit of this picture was tried, and nothing better came of it"))
    plan = EditPlan("edit", "", start=best.image, root=best.root or best.image, done=best.steps)
    return MakeEdit(plan, prompt=best.prompt)


def _broke(report: Report, view: View) -> bool:
    """Whether something that was right in the user's picture is wrong now: an edit would have to guess what it was."""
    before = () if view.source_report is None else view.source_report.verdicts
    had = {verdict.check for verdict in before if passes(verdict, view.limits.pass_at)}
    return any(verdict.check in had for verdict in missed(report, view.limits.pass_at))


def confidence(report: Report, mended: Sequence[str], before: Report | None, pass_at: float) -> float | None:
    """How sure it is that a result is what the steps so far wanted, in [0, 1].

        min(mean P over the questions `mended`, mean P over those that passed `before`)

    Either is left out if it has no answered question; without both it is the report's score.
    """
    answered = {v.check.question: v.probability for v in report.verdicts if v.outcome is Outcome.SCORED}
    passed = [] if before is None else [v.check.question for v in before.verdicts if passes(v, pass_at)]
    wanted = [p for question in mended if (p := answered.get(question)) is not None]
    kept = [p for question in passed if question not in mended and (p := answered.get(question)) is not None]
    means = [fmean(values) for values in (wanted, kept) if values]
    return min(means) if means else report.score


def prune(
    level: Sequence[tuple[str, Attempt, float | None]], limits: TreeLimits, bar: float | None = None
) -> tuple[Branch, ...]:
    """The fate of each result, given as (key, attempt, confidence), in their order: the `keep` best that reach
    `bar`, as a rule `confidence`, are kept; at equal confidence the higher score wins, then the earlier."""
    bar = limits.confidence if bar is None else bar
    able = [
        (p, attempt.score or 0.0, -n)
        for n, (_, attempt, p) in enumerate(level)
        if p is not None and p >= bar and not attempt.unchanged
    ]
    kept = {-n for _, _, n in sorted(able, reverse=True)[: limits.keep]}

    def fate(n: int, attempt: Attempt, p: float | None) -> Fate:
        if attempt.unchanged:
            return "unchanged"
        if n in kept:
            return "kept"
        return "pruned" if p is not None and p >= bar else "below"

    return tuple(
        Branch(key, None if attempt.unchanged else p, fate(n, attempt, p)) for n, (key, attempt, p) in enumerate(level)
    )


def advance(plan: EditPlan, branches: Sequence[Branch]) -> EditPlan | None:
    """The plan at its next step, or finished (`at` behind the last); None if no result was good enough."""
    kept = tuple(branch.key for branch in branches if branch.fate == "kept")
    return replace(plan, at=plan.at + 1, kept=kept, replanned=False) if kept else None


def questions_so_far(plan: EditPlan) -> tuple[str, ...]:
    """The questions of all steps up to the one under way."""
    return tuple(dict.fromkeys(q for step in plan.steps[: plan.at + 1] for q in step.questions))


@dataclass(frozen=True)
class Start:
    """A picture to be edited, the instruction, and the chain that the result will end."""

    source: str
    prompt: str
    root: str
    steps: tuple[str, ...]


def starts(plan: EditPlan, attempts: Mapping[str, Attempt], limits: Limits, join: Joiner) -> list[Start]:
    """What the results of the step under way start from.

    The first step of a plan that continues an earlier edit starts again from the picture that was first
    edited, with all instructions together, so that nothing drifts (`tree.base`); the later ones start from the
    results that were kept.
    """
    now = plan.steps[plan.at].instruction
    assert plan.start is not None
    if plan.at > 0:
        branches = [attempts[key] for key in plan.kept]
        return [Start(branch.image, now, branch.root or plan.start, (*branch.steps, now)) for branch in branches]
    steps = (*plan.done, now)
    root = plan.root or plan.start
    if plan.done and limits.tree.base == "source":
        return [Start(root, join(steps), root, steps)]
    return [Start(plan.start, now, root, steps)]


def _mask_of(view: View, plan: EditPlan) -> str | None:
    """Where the editor may change the picture: in the user's mask, else in the area of a step that is said to be local,
    for editors that keep to a mask."""
    now = plan.steps[plan.at]
    if view.mask is not None or not now.local or not view.inpaints:
        return view.mask
    # From the first picture of a chain on, all its steps are made again, and this area is that of one of them.
    again = plan.at == 0 and bool(plan.done) and view.limits.tree.base == "source"
    return None if again else now.area


def plan_branches(view: View, plan: EditPlan) -> list[Task]:
    """The pictures of the step under way: `width` for each start in turn, as many as the run may still make."""
    bases = starts(plan, {**view.latest, **view.attempts}, view.limits, view.join)
    places = room(view, backend=EDITOR)
    tasks = []
    for index in range(min(places, view.limits.tree.width * len(bases))):
        start = bases[index % len(bases)]
        tasks.append(
            Task(
                round=view.round,
                kind="edit",
                prompt=start.prompt,
                seed=derive_seed(view.seed, view.round, index),
                source=start.source,
                mask=_mask_of(view, plan),
                root=start.root,
                steps=start.steps,
                reference=plan.steps[plan.at].drafted,
            )
        )
    return tasks
