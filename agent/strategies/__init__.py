"""What a run does next with the budget that is left.

A strategy is a pure function of what the journal holds, so that a run that was killed makes the same move again:

    view = View(request="a red star", seed=7, limits=Limits())
    loop(view)                                  # MakeRewrites(n=1, ...)
    loop(replace(view, rewrites=(rewrite,)))    # MakePictures(tasks=(the request itself, the rewrite))

docs/search.md says what each is good for; `open_strategy` makes the one that a profile's `[search]` names. Whether a run
ends is `agent.decide`'s to say first; a strategy may only stop early, when the budget pays nothing more that it would do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redraft.lazy import find_lazily

if TYPE_CHECKING:
    from agent.strategies.choose import limits_of, open_strategy
    from agent.strategies.drafts import best_of_n, draft
    from agent.strategies.edits import edit, standard, with_edits
    from agent.strategies.evolution import evolve
    from agent.strategies.galleries import gallery
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
    from agent.strategies.rounds import loop
    from agent.strategies.shares import then

__all__ = [
    "EDITOR", "GENERATOR", "KeyPointMeans", "MakeEdit", "MakePictures", "MakeRewrites", "Move", "Stop", "Strategy", "View",
    "best_of_n", "derive_seed", "draft", "edit", "evolve", "gallery", "limits_of", "loop", "open_strategy", "room", "standard",
    "then", "with_edits",
]  # fmt: skip

__getattr__ = find_lazily(
    __name__,
    {
        "agent.strategies.choose": ("limits_of", "open_strategy"),
        "agent.strategies.drafts": ("best_of_n", "draft"),
        "agent.strategies.edits": ("edit", "standard", "with_edits"),
        "agent.strategies.evolution": ("evolve",),
        "agent.strategies.galleries": ("gallery",),
        "agent.strategies.moves": (
            "EDITOR", "GENERATOR", "KeyPointMeans", "MakeEdit", "MakePictures", "MakeRewrites", "Move", "Stop", "Strategy",
            "View", "derive_seed", "room",
        ),
        "agent.strategies.rounds": ("loop",),
        "agent.strategies.shares": ("then",),
    },
)  # fmt: skip
