"""What a run does next with the budget that is left.

A strategy is a pure function of what the journal holds, so that a run that was killed makes the same move again:

    view = View(request="a red star", seed=7, limits=Limits())
    loop(view)                                  # MakeRewrites(n=1, ...)
    loop(replace(view, rewrites=(rewrite,)))    # MakePictures(tasks=(the request itself, the rewrite))

`loop` rewrites and draws, round by round; `tree` edits in steps. Whether a run ends is not theirs to say: `agent.decide`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from agent.decide import best_of
from agent.types import Attempt, Branch, EditPlan, Fate, Task, missed, passes
from evaluator.types import Outcome, Report
from redraft.limits import Limits, TreeLimits
from rewriter.types import Feedback, Rewrite

Joiner = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Cost:
    """What was spent so far."""

    images: int = 0


@dataclass(frozen=True)
class View:
    """All that a strategy knows. Pictures are named by their hashes, tasks by their keys.

    `round` is the one to be planned, from 1. `rewrites` are those made for it, None before any were asked for.
    `attempts`: all that were judged, in order, by the keys of their tasks; `latest`: those of the round before.

    `source` is the picture that the user gave to be edited and `source_report` the judge's report on it; `reports` are
    those of the other pictures. `plan`: the edit under way; `earlier`: all plans of the rounds before. `ready`: the edit
    that this round makes, once its steps are planned; `mask`: the part of the picture that the user lets it change; `inpaints`:
    whether the editor keeps to a mask; `join`: puts several instructions into one.
    """

    request: str
    seed: int
    limits: Limits
    round: int = 1
    spent: Cost = Cost()
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    latest: Mapping[str, Attempt] = field(default_factory=dict)
    rewrites: tuple[Rewrite, ...] | None = None
    source: str | None = None
    source_report: Report | None = None
    reports: Mapping[str, Report] = field(default_factory=dict)
    plan: EditPlan | None = None
    earlier: tuple[EditPlan, ...] = ()
    ready: EditPlan | None = None
    mask: str | None = None
    inpaints: bool = False
    join: Joiner = "; ".join

    def report_on(self, image: str | None) -> Report | None:
        """The judge's report on a picture, None if it never saw it."""
        if image is not None and image == self.source:
            return self.source_report
        return None if image is None else self.reports.get(image)


@dataclass(frozen=True)
class MakeRewrites:
    """Ask the rewriter for `n` rewrites of the request, and then the strategy again."""

    n: int
    seed: int
    feedback: Feedback | None = None


@dataclass(frozen=True)
class MakePictures:
    """Make these pictures."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class MakeEdit:
    """Continue an edit as `plan` says, or draw a new picture if its choice is "redraw". The strategy is asked again when
    the plan is ready.

    The planner fills in the steps of a plan that has none yet; `prompt` is then what the picture was made from. With
    `again` it plans the step under way again. `branches`: what became of the results of the step before.
    """

    plan: EditPlan
    branches: tuple[Branch, ...] | None = None
    prompt: str | None = None
    again: bool = False


Move = MakeRewrites | MakePictures | MakeEdit


def loop(view: View) -> MakeRewrites | MakePictures:
    """Each round rewrites the request, with what the best picture misses as feedback, and draws: asks for the round's
    rewrites, and when they are there for its pictures."""
    attempts = list(view.attempts.values())
    index = best_of(attempts, view.limits)
    best = None if index is None else attempts[index]
    wanted = rewrites_wanted(view.limits, view.round, view.spent.images)
    if view.rewrites is None and wanted:
        feedback = None if best is None else feedback_on(best, view.limits)
        return MakeRewrites(wanted, derive_seed(view.seed, view.round, -1), feedback)
    tasks = plan_round(
        view.request,
        view.rewrites or (),
        number=view.round,
        seed=view.seed,
        limits=view.limits,
        spent=view.spent.images,
        best=best,
    )
    return MakePictures(tuple(tasks))


def derive_seed(seed: int, number: int, index: int) -> int:
    """Seed in [0, 2**31) of the index-th draw of a round. The run's very first draw has the run's own seed."""
    if (number, index) == (1, 0):
        return seed
    digest = hashlib.sha256(f"{seed}:{number}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def slots(limits: Limits, spent: int) -> int:
    """How many pictures the round may draw, after `spent` pictures of earlier rounds."""
    return max(0, min(limits.images_per_round, limits.max_images - spent))


def rewrites_wanted(limits: Limits, number: int, spent: int) -> int:
    """How many rewrites the round can use.

    The first round keeps one place for the request itself. If there is only one place, the request is drawn alone
    and the rewriter starts in the second round, with feedback; but if the whole run may draw only one
    picture, there is nothing to compare, and it is drawn from a rewrite.
    """
    places = slots(limits, spent)
    if number == 1 and limits.max_images > 1:
        places -= 1
    return min(limits.rewrites, places)


def feedback_on(best: Attempt, limits: Limits) -> Feedback:
    """What the rewriter learns about the best picture so far: the questions that were answered with no, the surest no
    first, each with the judge's reason if it gave one.

    If every answer passed but the score is too low, the weakest check is named.
    """
    wrong = missed(best.report, limits.pass_at)
    if not wrong:
        scored = [v for v in best.report.verdicts if v.outcome is Outcome.SCORED]
        wrong = tuple(sorted(scored, key=lambda v: v.probability or 0.0)[:1])
    lines = (f"{v.check.question} {v.reason}".strip() for v in wrong)
    return Feedback(prompt=best.prompt, failed=tuple(lines))


def plan_round(
    request: str,
    rewrites: Sequence[Rewrite],
    *,
    number: int,
    seed: int,
    limits: Limits,
    spent: int,
    best: Attempt | None = None,
) -> list[Task]:
    """The tasks of round `number` (from 1), at most `slots` of them, each with its own seed.

    Round 1: the request itself once, the other places to the rewrites in turn. Later rounds: the rewrites and the
    best prompt so far in turn, so that a repair is always hedged by a fresh draw of what worked best. The same prompt
    is never listed twice; a rewriter that repeats a prompt gets a fresh draw of it. The request itself is drawn again
    only if there is nothing else.
    """
    places = slots(limits, spent)
    candidates: dict[str, str | None] = {}
    for rewrite in rewrites:
        candidates.setdefault(rewrite.prompt, rewrite.negative_prompt)
    first: list[tuple[str, str | None]] = []
    if number == 1 and (limits.max_images > 1 or not candidates):
        first = [(request, None)]
        if len(candidates) > 1:
            candidates.pop(request, None)
    elif best is not None and best.prompt != request:
        candidates.setdefault(best.prompt, best.negative_prompt)
    pool = list(candidates.items()) or [(request, None)]
    chosen = first[:places]
    chosen += [pool[i % len(pool)] for i in range(places - len(chosen))]
    return [
        Task(number, "generate", prompt, derive_seed(seed, number, index), negative)
        for index, (prompt, negative) in enumerate(chosen)
    ]


def tree(view: View) -> MakeEdit | MakePictures:
    """Edits in steps, with several results of each step: plans the next step of the edit under way, or chooses the
    picture that is edited next.

    The confidence in a result comes from the judge's answers to the questions that the steps so far should have mended, and
    to those that were right before (MURE asks a vision-language model for a number from 0 to 100 instead, and prunes to the
    best). The best results are kept; if all are below the bar, the step is planned again once. After that, if the picture
    is the user's, the best result is kept all the same: the judge may be wrong about one step, and starting over would
    repeat it.
    """
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
    places = max(0, view.limits.max_images - view.spent.images)
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
