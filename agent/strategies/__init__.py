"""What a run does next with the budget that is left.

A strategy is a pure function of what the journal holds, so that a run that was killed makes the same move again:

    view = View(request="a red star", seed=7, limits=Limits())
    loop(view)                                  # MakeRewrites(n=1, ...)
    loop(replace(view, rewrites=(rewrite,)))    # MakePictures(tasks=(the request itself, the rewrite))

`loop` rewrites and draws, round by round; `edit` edits in steps; docs/search.md has the others. Whether a run ends is
`agent.decide`'s to say first; a strategy may only stop early, when the budget pays nothing more that it would do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redraft.lazy import find_lazily

if TYPE_CHECKING:
    from agent.strategies.edits import confidence, edit, prune, standard, with_edits
    from agent.strategies.moves import (
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
        room,
    )
    from agent.strategies.rounds import feedback_on, loop, plan_round, rewrites_wanted
    from agent.strategies.shares import then

__all__ = [
    "EDITOR", "GENERATOR", "KeyPointMeans", "MakeEdit", "MakePictures", "MakeRewrites", "Move", "Stop", "Strategy", "View",
    "confidence", "derive_seed", "edit", "feedback_on", "loop", "plan_round", "prune", "rewrites_wanted", "room",
    "standard", "then", "with_edits",
]  # fmt: skip

__getattr__ = find_lazily(
    __name__,
    {
        "agent.strategies.edits": ("confidence", "edit", "prune", "standard", "with_edits"),
        "agent.strategies.rounds": ("feedback_on", "loop", "plan_round", "rewrites_wanted"),
        "agent.strategies.moves": (
            "EDITOR", "GENERATOR", "KeyPointMeans", "MakeEdit", "MakePictures", "MakeRewrites", "Move", "Stop", "Strategy",
            "View", "derive_seed", "room",
        ),
        "agent.strategies.shares": ("then",),
    },
)  # fmt: skip
