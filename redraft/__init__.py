"""redraft rewrites a request, draws it with a frozen text-to-image model, judges the picture, and draws again.

    >>> import redraft
    >>> result = redraft.draw("a red star", out="runs", seed=7, limits=redraft.Limits(max_rounds=1, max_images=1))
    >>> result.image.name
    'best.png'

`draw`, `edit`, `judge` and `enhance` open the models of a profile, do their work, and let go of them; `check` needs no
model. Each has a twin for programs with an event loop (`draw_async` and so on). Every error that is raised on purpose is
a RedraftError (redraft/errors.py). docs/words.md says what a request, a prompt, a check and an attempt are.

Importing this imports nothing else: a name is looked up when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.api import check, draw, draw_async, edit, edit_async, judge, judge_async
    from redraft.errors import RedraftError
    from redraft.limits import Limits
    from redraft.profiles import Profile, load_profile
    from rewriter.api import enhance, enhance_async

    __version__: str

__all__ = [
    "Limits",
    "Profile",
    "RedraftError",
    "__version__",
    "check",
    "draw",
    "draw_async",
    "edit",
    "edit_async",
    "enhance",
    "enhance_async",
    "judge",
    "judge_async",
    "load_profile",
]

_MODULES = {
    "Limits": "redraft.limits",
    "Profile": "redraft.profiles",
    "RedraftError": "redraft.errors",
    "check": "agent.api",
    "draw": "agent.api",
    "draw_async": "agent.api",
    "edit": "agent.api",
    "edit_async": "agent.api",
    "enhance": "rewriter.api",
    "enhance_async": "rewriter.api",
    "judge": "agent.api",
    "judge_async": "agent.api",
    "load_profile": "redraft.profiles",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("redraft")
        except PackageNotFoundError:  # a checkout on PYTHONPATH
            value = "unknown"
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'redraft' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
