"""Strategies that draw many and keep few: `best_of`, the control, and `draft`, which finishes only what looks promising.

A draft is the picture that a noise gives at a part of the denoiser's steps. Drafts rank as the finished pictures do
(docs/search.md has the figures), so that most of the budget goes into looking, and little into polishing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.decide import meets_bar
from agent.strategies.moves import GENERATOR, MakePictures, Move, Stop, Strategy, View, price, room, too_little
from agent.strategies.rounds import draw_round, loop
from agent.types import Attempt, StopReason, Task
from redraft.limits import Limits

NO_DRAFTS = "{name} cannot draw at a part of its steps: there are no drafts, the search is that of the loop"


def best_of_n(n: int, *, rewrite: bool = True) -> Strategy:
    """One round of `n` pictures, or as many as the budget pays, and no other."""

    def strategy(view: View) -> Move:
        if view.round > view.began:
            count = len(view.attempts)
            return Stop(StopReason.BUDGET, f"the best of {count} picture{'' if count == 1 else 's'}, as was wanted")
        places = min(n, room(view))
        return draw_round(view, with_places(view, places), rewrite=rewrite) if places else too_little(view)

    return strategy


def draft(
    n: int,
    effort: float,
    finish: int,
    *,
    rewrite: bool = True,
    drafter: str = GENERATOR,
) -> Strategy:
    """The loop with drafts inside: each round of `n` drafts at `effort` of the steps is followed by one that draws the
    best `finish` of them from the same noise at all steps.

    Costs n * effort + finish pictures and n + finish judgements for two rounds, of which the second counts. What the
    budget does not pay in full is done with fewer drafts; what pays no two drafts goes into whole pictures. Without the
    ability to draw at a part of the steps it is the loop. `drafter`: a few-step model of the gallery that draws the drafts;
    only one whose latents are the generator's own starts from the same noise.
    """

    def strategy(view: View) -> Move:
        if drafter not in view.backends or (effort < 1 and not view.can("steps", drafter)):
            return replace(loop(view), note=NO_DRAFTS.format(name=drafter or "the generator"))
        drafts = [attempt for attempt in view.latest.values() if attempt.draft]
        if drafts:
            return finish_best(view, drafts, finish)
        places = affordable(view, n, effort, finish, drafter)
        if places < 2:
            return loop(view)
        move = draw_round(view, with_places(view, places), rewrite=rewrite)
        if isinstance(move, MakePictures):
            return replace(
                move, tasks=tuple(replace(task, effort=effort, draft=True, backend=drafter) for task in move.tasks)
            )
        return move

    return strategy


def affordable(view: View, n: int, effort: float, finish: int, drafter: str = GENERATOR) -> int:
    """How many drafts, at most `n`, leave enough of the budget to finish `finish` of them, or else one."""
    for finished in (finish, 1):
        limits = view.limits
        kept = limits.model_copy(
            update={
                "max_images": limits.max_images - finished,
                "max_steps": max(1, limits.max_steps - finished * price(view)) if limits.max_steps else 0,
                "max_judgements": max(1, limits.max_judgements - finished) if limits.max_judgements else 0,
            }
        )
        places = min(n, room(replace(view, limits=kept), effort, drafter))
        if places >= 2:
            return places
    return 0


def with_places(view: View, places: int) -> Limits:
    """The run's limits, for a round of so many pictures."""
    update = {"images_per_round": places, "max_images": view.spent.images + places}
    return view.limits.model_copy(update=update)


def rank(drafts: Sequence[Attempt], limits: Limits) -> list[Attempt]:
    """The best first: those that meet the bar, then the higher score, then the earlier. One without a score is last."""

    def worth(attempt: Attempt) -> tuple[bool, bool, float]:
        report = attempt.report
        return meets_bar(report, limits), report.score is not None, report.score or 0.0

    return sorted(drafts, key=worth, reverse=True)


def finish_best(view: View, drafts: Sequence[Attempt], finish: int) -> MakePictures:
    """Draws the best `finish` drafts whole, or as many as the budget pays: one at least."""
    kept = rank(drafts, view.limits)[: max(1, min(finish, room(view)))]
    return MakePictures(tuple(finish_draft(attempt, view.round) for attempt in kept))


def finish_draft(drafted: Attempt, number: int) -> Task:
    """The task of a draft's whole picture: the same prompt and noise, all steps."""
    return Task(
        number,
        "generate",
        drafted.prompt,
        drafted.seed,
        drafted.negative_prompt,
        noise=drafted.noise,
        parent=drafted.image,
    )
