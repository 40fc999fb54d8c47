"""The words of the image backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

Mode = Literal["generate", "edit", "inpaint"]
StepCallback = Callable[[int, int], None]
"""Called with (steps done, steps in all) while a call of `render` is under way; a server's steps are its pictures.

The total may change between calls, and the count fall back, where a batch has to be drawn again in smaller parts."""


@dataclass(frozen=True)
class ImageTask:
    """One picture to make. `source` None means generate; else edit it, inside `mask` (white = change) where given.

    `size` is (width, height) in pixels; None leaves it to the backend (for edits: the source's). `references` are
    further pictures that an edit may draw upon ("the hat of the second picture"); editors that take one picture alone
    leave them out.
    """

    prompt: str
    seed: int
    size: tuple[int, int] | None = None
    negative_prompt: str | None = None
    source: Image.Image | None = None
    mask: Image.Image | None = None
    references: tuple[Image.Image, ...] = ()


class ImageBackend(Protocol):
    """A frozen generator or editor. The one synchronous role: callers run it in one worker thread.

    `render` returns one RGB image for each task, in order, and raises BackendError where it cannot.
    """

    @property
    def name(self) -> str: ...

    @property
    def modes(self) -> frozenset[Mode]: ...

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]: ...
