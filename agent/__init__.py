"""The loop: rewrite a request, draw it, judge the pictures point by point, and go round until one is right.

    import asyncio
    from pathlib import Path

    from agent import open_models, run_draw
    from redraft.profiles import load_profile

    profile = load_profile("mini")
    models = open_models(profile)  # opened once, shared by many runs
    result = asyncio.run(run_draw("a red star inside a blue circle", models, limits=profile.limits, out=Path("runs")))
    print(result.stop, result.best_attempt.prompt, result.image)

`agent.graph` is the way of a run, `agent.strategies` and `agent.decide` say what comes next, `agent.runfolder`
keeps it on disk, `agent.events` are what a viewer sees of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.models import Editing, Models, open_models
    from agent.run import Run, RunResult, resume, run_draw
    from agent.types import Attempt, Decision, StopReason

__all__ = [
    "Attempt", "Decision", "Editing", "Models", "Run", "RunResult", "StopReason", "open_models", "resume", "run_draw",
]  # fmt: skip

_HOME = {"Editing": "models", "Models": "models", "open_models": "models"} | dict.fromkeys(
    ("Attempt", "Decision", "StopReason"), "types"
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"agent.{_HOME.get(name, 'run')}"), name)
