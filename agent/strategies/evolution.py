"""Strategy `evolve`: drafts breed drafts (EvoSearch, arXiv 2505.17618, at the level of the first noise).

Off by default: measured, its children are no better than as many fresh noises (docs/search.md).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from agent.strategies.drafts import affordable, draft, finish_best, rank
from agent.strategies.moves import MakePictures, Move, Strategy, View, derive_seed
from agent.types import Attempt, Task

ELITES = 3
POOL = 0.9
"""A parent is the best of two that are drawn from a random part of so much of the population."""
NO_NOISE = "the generator cannot mix noises or draw at a part of its steps: nothing evolves, each draft is a fresh one"


def evolve(
    n: int, effort: float, finish: int, *, generations: int = 2, mutation: float = 0.2, rewrite: bool = True
) -> Strategy:
    """`generations` rounds of `n` drafts, of which each but the first mutates the best so far, then the best `finish` of
    them all at all steps, and again from the start.

    A child's noise is sqrt(1 - b^2) of its parent's and b = `mutation` of a fresh one: a recipe of seeds. The ELITES best
    have a child each; the parents of the others win a tournament.
    """
    begin = draft(n, effort, finish, rewrite=rewrite)

    def strategy(view: View) -> Move:
        if not (view.can("noise") and view.can("steps")):
            return replace(begin(view), note=NO_NOISE)
        pool = _latest_drafts(list(view.attempts.values()))
        if not pool:
            return begin(view)
        places = affordable(view, n, effort, finish)
        if len({attempt.round for attempt in pool}) >= generations or places < 2:
            return finish_best(view, pool, finish)
        best = rank(pool, view.limits)
        chance = random.Random(derive_seed(view.seed, view.round, -4))
        parents = [best[i] if i < min(ELITES, len(best)) else _win(best, chance) for i in range(places)]
        return MakePictures(
            tuple(_mutate(parent, view, index, effort, mutation) for index, parent in enumerate(parents))
        )

    return strategy


def _latest_drafts(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The drafts since the last whole picture."""
    whole = [index for index, attempt in enumerate(attempts) if not attempt.draft]
    return list(attempts[whole[-1] + 1 if whole else 0 :])


def _win(best: Sequence[Attempt], chance: random.Random) -> Attempt:
    several = sorted(chance.sample(range(len(best)), max(1, round(POOL * len(best)))))
    return best[min(chance.choice(several), chance.choice(several))]


def _mutate(parent: Attempt, view: View, index: int, effort: float, share: float) -> Task:
    noise = (*parent.noise, (derive_seed(view.seed, view.round, index), share))
    return Task(
        view.round,
        "generate",
        parent.prompt,
        parent.seed,
        parent.negative_prompt,
        noise=noise,
        effort=effort,
        draft=True,
        parent=parent.image,
    )
