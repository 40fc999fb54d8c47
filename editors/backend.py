"""Image backends: the protocol, what they are asked, how a profile opens them, how they are called, and how pictures are
brought to a wanted size, onto a mask, and out of bytes that came over a wire.

Importing this is cheap: model libraries load when a backend is opened.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from PIL import Image, ImageOps

from redraft.errors import BackendError, BadReply, InputError, RedraftError, one_line
from redraft.extras import require
from redraft.gpu import LocalParty
from redraft.images import fit_mask, to_rgb
from redraft.local_models import LOADING
from redraft.profiles import BackendConfig, model_place, require_vision

if TYPE_CHECKING:
    from editors.diffusers_backend import DiffusersBackend

Mode = Literal["generate", "edit", "inpaint"]
Ability = Literal["steps", "noise", "step_count", "guidance", "negative", "references", "edit_references"]
"""What a backend may be able to do: draw at a part of its steps (`ImageTask.effort`), draw from mixed noise
(`ImageTask.noise`), draw at another number of steps or another guidance than its own (`ImageTask.steps`, `.guidance`), keep
what a negative prompt names out of the picture, draw or edit with further pictures (`ImageTask.references`)."""
StepCallback = Callable[[int, int], None]
"""Called with (steps done, steps in all) while a call of `render` is under way; a server's steps are its pictures.

The total may change between calls, and the count fall back, if a batch has to be drawn again in smaller parts."""


@dataclass(frozen=True)
class ImageTask:
    """One picture to make. `source` None means generate; else edit it, inside `mask` (white = change) if there is one.

    `size` is (width, height) in pixels; None leaves it to the backend (for edits: the source's). `references` are
    further pictures that an edit or a drawing may draw upon ("the hat of the second picture", "this dog on a beach");
    backends that take none leave them out, with a log line.

    `noise` mixes others into the noise of `seed`, in turn: (s, b) makes sqrt(1 - b^2) of what is there plus b times the
    noise of seed s, so that b = 0 changes nothing and b = 1 is the noise of s alone. `effort`: the share of the backend's
    steps, in (0, 1]. `steps` and `guidance`: instead of the backend's own. Backends that lack the ability (`noise`, `steps`,
    `step_count`, `guidance`) raise InputError; `ImageBackend.abilities` says so beforehand. `must`: what else of the task
    may not be left out, because the user wrote it: the backend then raises instead of leaving it out.
    """

    prompt: str
    seed: int
    size: tuple[int, int] | None = None
    negative_prompt: str | None = None
    source: Image.Image | None = None
    mask: Image.Image | None = None
    references: tuple[Image.Image, ...] = ()
    noise: tuple[tuple[int, float], ...] = ()
    effort: float = 1.0
    steps: int | None = None
    guidance: float | None = None
    must: frozenset[Ability] = frozenset()


class ImageBackend(Protocol):
    """A frozen generator or editor. The one synchronous role: callers run it in one worker thread.

    `render` returns one RGB image for each task, in order, and raises BackendError if it cannot. `interrupt`, from any
    thread, makes the `render` under way, if any, raise BackendError soon. `close` lets go of weights and connections; a
    later `render` gets them again. `abilities` and `steps`, the denoiser's steps for a picture (None: it does not say), are
    known without loading weights.
    """

    @property
    def name(self) -> str: ...

    @property
    def modes(self) -> frozenset[Mode]: ...

    @property
    def abilities(self) -> frozenset[Ability]: ...

    @property
    def steps(self) -> int | None: ...

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


def steps_at(steps: int, effort: float) -> int:
    """So many of `steps` are a share of them: at least 1."""
    return max(1, round(steps * effort))


def require_ability(backend: ImageBackend, task: ImageTask) -> None:
    """Raises InputError for a task that needs what the backend is not able to do, or that is out of range."""
    if not 0 < task.effort <= 1:
        raise InputError(f"a picture's share of the steps is above 0 and at most 1, not {task.effort:g}")
    if any(not 0 <= share <= 1 for _, share in task.noise):
        raise InputError("a share of noise is between 0 and 1")
    if task.effort < 1 and "steps" not in backend.abilities:
        raise InputError(f"{backend.name} cannot draw at a part of its steps")
    if task.noise and (task.source is not None or "noise" not in backend.abilities):
        raise InputError(f"{backend.name} cannot mix noises{'' if task.source is None else ' of an edit'}")
    needed = {*task.must, *(("step_count",) if task.steps else ()), *(() if task.guidance is None else ("guidance",))}
    for ability in sorted(needed - backend.abilities):
        raise InputError(f"{backend.name} {CANNOT[ability]}")


CANNOT: Mapping[str, str] = {
    "step_count": "draws at its own number of steps alone; leave the steps out",
    "guidance": "has no guidance that could be set; leave it out",
    "negative": (
        "takes no negative prompts, or none to any effect at this guidance; say what is to be absent in the request "
        '("without text"), or choose a model with guidance'
    ),
    "references": "draws from no reference pictures; leave them out, or choose a model that takes some",
    "edit_references": "edits one picture alone; give no further ones, or choose an editor that takes several",
}
"""What is said to who wants of a backend what it is not able to do, and how that is mended."""


@dataclass(frozen=True)
class AdjustedBackend:
    """A backend all of whose pictures are made as one user asked: with these steps, this guidance, these references."""

    backend: ImageBackend
    steps_each: int | None = None
    guidance: float | None = None
    references: tuple[Image.Image, ...] = ()
    must: frozenset[Ability] = frozenset()

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def modes(self) -> frozenset[Mode]:
        return self.backend.modes

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.backend.abilities

    @property
    def steps(self) -> int | None:
        return self.steps_each or self.backend.steps

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        adjusted = [
            replace(
                task,
                steps=self.steps_each,
                guidance=self.guidance,
                references=(*task.references, *self.references),
                must=self.must if task.negative_prompt is not None else self.must - {"negative"},
            )
            for task in tasks
        ]
        return self.backend.render(adjusted, on_step)

    def interrupt(self) -> None:
        self.backend.interrupt()

    def close(self) -> None:
        self.backend.close()


def open_backend(config: BackendConfig) -> ImageBackend:
    """The backend that `config` describes. Weights load at the first `render` (or an explicit `load`).

    Raises ConfigError if a setting contradicts another or the named key is not in the environment, ModelMissing
    if a model folder is not there.
    """
    if config.kind == "openai_images":
        from editors.openai_images import OpenAIImagesBackend

        return OpenAIImagesBackend(config)
    if config.devices:
        from editors.devices import open_devices

        return open_devices(config)
    return _open_local(config)


def open_party(config: BackendConfig, gb: float) -> tuple[ImageBackend, LocalParty]:
    """The backend of this process that `config` describes, and how its weights are moved on and off the GPU. Raises as
    `open_backend`."""
    backend = _open_local(config)
    return backend, LocalParty(config.model, gb, backend.wake, backend.park)


def _open_local(config: BackendConfig) -> DiffusersBackend:
    require("local", "this profile draws or edits in this process")
    model_place(config.model)  # before anything else of a run is paid for
    require_vision(config.model)
    with LOADING:
        from editors.diffusers_backend import DiffusersBackend

    return DiffusersBackend(config)


MAX_PIXELS = 64 * 1024 * 1024
"""Largest picture that is decoded (8192 x 8192)."""


def mode_of(task: ImageTask) -> Mode:
    """What a task asks for. Raises InputError for a mask without a picture that it belongs to, and for a mask of another
    shape than its picture."""
    if task.source is None:
        if task.mask is not None:
            raise InputError("a task has a mask but no source picture; give the picture that the mask belongs to")
        return "generate"
    if task.mask is None:
        return "edit"
    fit_mask(task.mask, task.source.size)
    return "inpaint"


def wanted_size(task: ImageTask, default: tuple[int, int] | None) -> tuple[int, int] | None:
    """The (width, height) a task's picture must have: as asked, else as its source, else `default`."""
    if task.size is not None:
        if min(task.size) < 1 or task.size[0] * task.size[1] > MAX_PIXELS:
            raise InputError(
                f"cannot make a picture of {task.size[0]} x {task.size[1]} pixels; the most is 8192 x 8192"
            )
        return task.size
    return task.source.size if task.source is not None else default


def fit_image(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """The picture in RGB at exactly `size`: resized if the shapes are (nearly) alike, else its middle is cut out."""
    image = image.convert("RGB")
    if size is None or image.size == size:
        return image
    ratio = (image.width * size[1]) / (image.height * size[0])
    if 0.9 < ratio < 1.1:
        return image.resize(size, Image.Resampling.LANCZOS)
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def source_and_mask(task: ImageTask, size: tuple[int, int]) -> tuple[Image.Image, Image.Image | None]:
    """A task's source in RGB and its mask in L (white = change), both at `size`."""
    assert task.source is not None
    source = task.source.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    mask = task.mask.convert("L").resize(size, Image.Resampling.BILINEAR) if task.mask is not None else None
    return source, mask


def limit_area(task: ImageTask, area: int) -> ImageTask:
    """The task with its source, and so its mask and the size that follows from it, scaled down to at most `area`
    pixels."""
    if task.source is None or task.source.width * task.source.height <= area:
        return task
    scale = (area / (task.source.width * task.source.height)) ** 0.5
    size = max(1, int(task.source.width * scale)), max(1, int(task.source.height * scale))
    source, mask = source_and_mask(task, size)
    return replace(task, source=source, mask=mask)


def restore_outside_mask(picture: Image.Image, task: ImageTask) -> Image.Image:
    """The picture inside the task's mask, the untouched source outside it.

    Models paint the whole canvas again (the VAE alone changes every pixel a little), while an inpainting task
    promises that what is not masked stays as it is.
    """
    if task.source is None:
        return picture
    source, mask = source_and_mask(task, picture.size)
    return picture if mask is None else Image.composite(picture, source, mask)


def decode_image(data: bytes, what: str) -> Image.Image:
    """The RGB picture in `data` (PNG, JPEG, WebP, …), transparency laid onto white.

    Raises BadReply if it is none, is broken, or is too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the check below is the stricter one
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadReply(f"{what}: a picture of {image.width} x {image.height} pixels is too large")
                return to_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadReply(f"{what}: this is not a picture ({type(error).__name__}, {len(data)} bytes)") from error


def png(image: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
