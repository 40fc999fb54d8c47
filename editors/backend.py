"""Image backends: the protocol, what they are asked, how a profile opens them, and how they are called.

Importing this is cheap: model libraries load when a backend is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from redraft.errors import BackendError, RedraftError, one_line
from redraft.extras import require
from redraft.local_models import LOADING
from redraft.profiles import BackendConfig, model_place

Mode = Literal["generate", "edit", "inpaint"]
StepCallback = Callable[[int, int], None]
"""Called with (steps done, steps in all) while a call of `render` is under way; a server's steps are its pictures.

The total may change between calls, and the count fall back, if a batch has to be drawn again in smaller parts."""


@dataclass(frozen=True)
class ImageTask:
    """One picture to make. `source` None means generate; else edit it, inside `mask` (white = change) if there is one.

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

    `render` returns one RGB image for each task, in order, and raises BackendError if it cannot. `interrupt`, from any
    thread, makes the `render` under way, if any, raise BackendError soon. `close` lets go of weights and connections; a
    later `render` gets them again.
    """

    @property
    def name(self) -> str: ...

    @property
    def modes(self) -> frozenset[Mode]: ...

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def render(backend: ImageBackend, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
    """One RGB picture for each task, in order: how all of redraft calls a backend.

    Raises BackendError if the backend fails in a way of its own or gives another number of pictures; what `on_step`
    raises, and the backend's own RedraftError, come out as they are.
    """
    raised: list[Exception] = []

    def count_step(done: int, total: int) -> None:
        assert on_step is not None
        try:
            on_step(done, total)
        except Exception as error:
            raised.append(error)
            raise

    try:
        pictures = backend.render(tasks, None if on_step is None else count_step)
    except RedraftError:
        raise
    except Exception as error:
        if error in raised:
            raise
        raise BackendError(f"{backend.name} failed to draw ({type(error).__name__}: {one_line(error)})") from error
    if len(pictures) != len(tasks):
        raise BackendError(f"{backend.name} was asked for {len(tasks)} pictures and gave {len(pictures)}")
    return pictures


def open_backend(config: BackendConfig) -> ImageBackend:
    """The backend that `config` describes. Weights load at the first `render` (or an explicit `load`).

    Raises ConfigError if a setting contradicts another or the named key is not in the environment, ModelMissing
    if a model folder is not there.
    """
    if config.kind == "openai_images":
        from editors.openai_images import OpenAIImagesBackend

        return OpenAIImagesBackend(config)
    require("local", "this profile draws or edits in this process")
    model_place(config.model)  # before anything else of a run is paid for
    with LOADING:
        from editors.diffusers_backend import DiffusersBackend

    return DiffusersBackend(config)
