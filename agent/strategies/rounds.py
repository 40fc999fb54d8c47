"""Strategy `loop`: rewrite, draw, look, and again."""

from __future__ import annotations

from collections.abc import Sequence

from agent.decide import best_of
from agent.strategies.moves import MakePictures, MakeRewrites, Stop, View, derive_seed, room, too_little
from agent.types import Attempt, Task, missed
from evaluator.types import Outcome
from redraft.limits import Limits
from rewriter.types import Feedback, Rewrite


def loop(view: View) -> MakeRewrites | MakePictures | Stop:
    """Each round rewrites the request, with what the best picture misses as feedback, and draws: asks for the round's
    rewrites, and when they are there for its pictures."""
    limits = view.limits
    places = room(view)
    if not places:
        return too_little(view)
    if places < limits.max_images - view.spent.images:
        limits = limits.model_copy(update={"max_images": view.spent.images + places})
    return draw_round(view, limits)


def draw_round(view: View, limits: Limits, *, rewrite: bool = True) -> MakeRewrites | MakePictures:
    """A round of drawings: first its rewrites, unless the request is to be drawn as it is, and then its pictures."""
    attempts = list(view.attempts.values())
    index = best_of(attempts, limits)
    best = None if index is None else attempts[index]
    wanted = rewrites_wanted(limits, view.round, view.spent.images)
    if rewrite and view.rewrites is None and wanted:
        feedback = None if best is None else feedback_on(best, limits)
        return MakeRewrites(wanted, derive_seed(view.seed, view.round, -1), feedback)
    tasks = plan_round(
        view.request,
        view.rewrites or (),
        number=view.round,
        seed=view.seed,
        limits=limits,
        spent=view.spent.images,
        best=best,
    )
    return MakePictures(tuple(tasks))


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
