"""Strategies by the names that profiles and `--search` give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.strategies.drafts import best_of_n, draft
from agent.strategies.edits import standard
from agent.strategies.evolution import evolve
from agent.strategies.galleries import gallery
from agent.strategies.moves import Strategy
from agent.strategies.shares import then
from redraft.limits import Limits, TreeLimits
from redraft.profiles import SearchConfig

DRAWING: Mapping[str, Callable[[SearchConfig], Strategy]] = {
    "loop": lambda _: standard,
    "best_of": lambda search: best_of_n(search.n, rewrite=search.rewrite),
    "draft": lambda search: draft(
        search.n, search.effort, search.finish, rewrite=search.rewrite, drafter=search.drafter
    ),
    "gallery": lambda _: gallery,
    "evolve": lambda search: evolve(
        search.n,
        search.effort,
        search.finish,
        generations=search.generations,
        mutation=search.mutation,
        rewrite=search.rewrite,
    ),
}


def open_strategy(search: SearchConfig, *, editing: bool = False) -> Strategy:
    """The strategy that a profile's `[search]` describes; with `editing` that for a picture of the user's."""
    if editing:
        return standard
    if search.parts:
        return then(*((DRAWING[part.strategy](search), part.share) for part in search.parts))
    return DRAWING[search.strategy](search)


def limits_of(search: SearchConfig, limits: Limits) -> Limits:
    """The limits of an edit: a `tree` makes two results of a step and few steps at once, unless the profile's limits already
    say how many results it makes."""
    if search.edit != "tree" or limits.tree.width > 1:
        return limits
    return limits.changed(tree=TreeLimits(width=2, base=limits.tree.base))
