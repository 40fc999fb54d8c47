"""Frozen generators and editors behind one protocol: diffusers pipelines in this process, and servers.

from editors import ImageTask, open_backend, render
from redraft.profiles import load_profile

backend = open_backend(load_profile("mini").generator)  # loads nothing yet
[picture] = render(backend, [ImageTask("two red stars", seed=7)])
picture.save("stars.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editors.backend import ImageBackend, ImageTask, Mode, StepCallback, open_backend, render
    from editors.changes import Change, change_between, is_unchanged

__all__ = [
    "Change", "ImageBackend", "ImageTask", "Mode", "StepCallback", "change_between", "is_unchanged", "open_backend",
    "render",
]  # fmt: skip

_CHANGES = ("Change", "change_between", "is_unchanged")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("editors.changes" if name in _CHANGES else "editors.backend"), name)
