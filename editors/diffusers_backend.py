"""DiffusersBackend: any diffusers text-to-image, image-to-image, editing or inpainting pipeline as an ImageBackend.

Imports torch and diffusers: import it lazily (`editors.backend.open_backend` does).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from editors import pipelines
from editors.backend import (
    CANNOT,
    Ability,
    ImageTask,
    Mode,
    StepCallback,
    fit_image,
    mode_of,
    require_ability,
    restore_outside_mask,
    source_and_mask,
    steps_at,
    wanted_size,
)
from redraft.errors import BackendError, ConfigError, InputError, RedraftError
from redraft.gpu import on_gpu
from redraft.local_models import LOADING
from redraft.profiles import BackendConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Batch:
    """Tasks that one pipeline call can draw together: same mode, size, effort, steps and guidance, with or without negative
    prompts."""

    mode: Mode
    size: tuple[int, int] | None
    effort: float
    steps: int | None
    guidance: float | None
    tasks: tuple[tuple[int, ImageTask], ...]
    """(position among the caller's tasks, task)"""


class _Weights:
    """A pipeline of loaded weights and its siblings, of all backends of this process that are equal in
    `BackendConfig.weights`; `settled`: the one of them whose parts are where they work; `user`: the backend that draws.
    Under `lock`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pipe: Any = None
        self.siblings: dict[Mode, Any] = {}
        self.settled: Any = None
        self.user: DiffusersBackend | None = None

    @contextmanager
    def used_by(self, backend: DiffusersBackend) -> Iterator[None]:
        with self.lock:
            self.user = backend
            try:
                yield
            finally:
                self.user = None

    def drop(self) -> None:
        self.pipe = self.settled = None
        self.siblings.clear()


_shared: WeakValueDictionary[str, _Weights] = WeakValueDictionary()
"""By `BackendConfig.weights`, as long as a backend has them."""
_sharing = threading.Lock()


def _share(config: BackendConfig) -> _Weights:
    with _sharing:
        weights = _shared.get(config.weights)
        if weights is None:
            weights = _shared[config.weights] = _Weights()
        return weights


class DiffusersBackend:
    """Draws with the pipeline that a profile's `[generator]` or `[editor]` table describes.

    Weights load at the first `render`, or at `load`. Every picture has its own CPU generator, seeded with its task's
    seed, and its noise is mixed as the task says, so that it depends on its own task and not on what is drawn with it
    (batched and single drawings still differ in the last bits). Modes the loaded class does not serve are served by its
    siblings, of the same weights. Pictures have exactly the size their task asks for (its source's if it asks for none):
    drawn at the nearest size the model can draw, then resized. Calls from several threads wait for one another, also those
    of several backends that would load the same: their weights are loaded once.

    Masks work with every editor: one that takes none edits the whole, and what is not masked is put back. Negative
    prompts and references are left out, with one log line, for models that take none.
    """

    def __init__(self, config: BackendConfig) -> None:
        """Raises ConfigError for settings that contradict one another; loads nothing."""
        if (config.width is None) != (config.height is None):
            raise ConfigError("set both width and height in the profile, or neither")
        self._config = config
        self._weights = _share(config)
        self._stop = threading.Event()
        self._serving: dict[Mode, type] | None = None
        self._batch_size = config.batch_size
        self._warned: set[str] = set()

    @property
    def name(self) -> str:
        return self._config.model

    @property
    def modes(self) -> frozenset[Mode]:
        """Known without loading weights, save for pipelines whose code lies in the model's folder."""
        return frozenset(self._classes())

    @property
    def abilities(self) -> frozenset[Ability]:
        """Known as `modes` are."""
        return pipelines.abilities_of(self._any_class(), self._config)

    @property
    def steps(self) -> int | None:
        """The profile's, else the class's own."""
        return pipelines.steps_in(self._any_class(), {}) or None if self._config.steps is None else self._config.steps

    def _any_class(self) -> type:
        classes = self._classes()
        return classes.get("generate") or next(iter(classes.values()))

    def load(self) -> None:
        """Loads the weights, if they are not loaded. Raises ModelMissing, ConfigError or BackendError."""
        with self._weights.lock:
            if self._weights.pipe is None:
                self._classes()
            if self._weights.pipe is None:
                self._weights.pipe = self._weights.settled = pipelines.load_pipeline(self._config)

    def close(self) -> None:
        """Lets go of the weights, also for backends that share them; a later `render` loads them again."""
        self.interrupt()
        with self._weights.lock:
            self._weights.drop()
            pipelines.free_memory()

    def park(self) -> None:
        """Moves the weights to the host's memory, if they are loaded; those that cannot be moved (some quantised ones) are let
        go of. For `redraft.gpu`."""
        with self._weights.lock:
            if self._weights.pipe is not None:
                try:
                    self._weights.pipe.to("cpu")
                except (RuntimeError, ValueError, TypeError) as error:
                    log.info("%s cannot be moved (%s); it is loaded again when it is needed", self.name, error)
                    self._weights.drop()
                pipelines.free_memory()

    def wake(self) -> None:
        """Moves the weights back to the device, if they are loaded."""
        with self._weights.lock:
            if self._weights.pipe is not None:
                self._weights.pipe.to(pipelines.find_device(self._config))

    def interrupt(self) -> None:
        """Stops the drawing under way, if any, at its next step: its `render` raises BackendError. For any thread."""
        self._stop.set()
        pipe = self._weights.settled
        cls: type = type(pipe)
        if self._weights.user is self and pipe is not None and "callback_on_step_end" not in pipelines.takes(cls):
            pipe._interrupt = True  # the flag that diffusers' loops look at; with a callback we stop them sooner

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        """One RGB picture for each task, in order.

        `on_step` counts denoising steps over all batches of the call. What it raises comes out as it is.
        Raises InputError, ConfigError, ModelMissing or BackendError.
        """
        if not tasks:
            return []
        with on_gpu(self._config.model), self._weights.used_by(self):
            self._stop.clear()
            for task in tasks:
                require_ability(self, task)
                if mode_of(task) not in self.modes:
                    able = ", ".join(sorted(self.modes))
                    raise BackendError(
                        f"{self.name} cannot {mode_of(task)}, only {able}; choose another model for this"
                    )
            self.load()
            progress = _Progress(on_step, self._stop)
            pictures: dict[int, Image.Image] = {}
            waiting = self._batches(tasks)
            while waiting:
                batch = waiting.pop(0)
                progress.begin(1 + len(waiting))
                drawn = self._draw(batch, progress)
                if drawn is None:  # out of memory: the same again in halves, and no larger batches from here on
                    self._batch_size = max(1, len(batch.tasks) // 2)
                    waiting = [half for one in (batch, *waiting) for half in _split(one, self._batch_size)]
                    log.warning("%s: out of memory; drawing at most %d at once", self.name, self._batch_size)
                    continue
                progress.end()
                for (position, task), picture in zip(batch.tasks, drawn, strict=True):
                    size = wanted_size(task, self._default_size())
                    if size is not None and batch.mode != "generate":
                        # As the source was stretched to the working size: a cut would lose what was to be kept.
                        picture = picture.resize(size, Image.Resampling.LANCZOS) if picture.size != size else picture
                    else:
                        picture = fit_image(picture, size)
                    pictures[position] = restore_outside_mask(picture, task)
            return [pictures[position] for position in range(len(tasks))]

    def _classes(self) -> dict[Mode, type]:
        with self._weights.lock, LOADING:  # the class's own module imports model libraries
            if self._serving is None:
                cls = pipelines.pipeline_class(self._config)
                if cls is None:
                    if self._weights.pipe is None:
                        self._weights.pipe = self._weights.settled = pipelines.load_pipeline(self._config)
                    cls = type(self._weights.pipe)
                self._serving = pipelines.modes_of(cls)
            return self._serving

    def _default_size(self) -> tuple[int, int] | None:
        config = self._config
        return (config.width, config.height) if config.width is not None and config.height is not None else None

    def _pipeline_for(self, mode: Mode) -> Any:
        if mode not in self._weights.siblings:
            self._weights.siblings[mode] = pipelines.make_sibling(
                self._weights.pipe, mode, self._classes()[mode], self._config
            )
        pipe = self._weights.siblings[mode]
        if pipe is not self._weights.settled and self._config.offload == "model":
            # These hooks sit on the shared parts but belong to one pipeline, which moves the parts back in the end.
            pipelines.place_pipeline(pipe, self._config, pipelines.find_device(self._config))
        self._weights.settled = pipe
        return pipe

    def _batches(self, tasks: Sequence[ImageTask]) -> list[_Batch]:
        groups: dict[tuple[Any, ...], list[tuple[int, ImageTask]]] = {}
        for position, task in enumerate(tasks):
            mode = mode_of(task)
            cls = self._classes()[mode]
            guidance = self._config.guidance if task.guidance is None else task.guidance
            if task.negative_prompt is not None and "negative" in task.must and not pipelines.is_guided(cls, guidance):
                raise InputError(f"{self.name} {CANNOT['negative']}")
            if task.negative_prompt is not None and not pipelines.takes_negative(cls):
                self._warn_once("takes no negative prompts; they are left out")
                task = replace(task, negative_prompt=None)
            elif task.negative_prompt is not None and not pipelines.is_guided(cls, guidance):
                self._warn_once("draws without guidance at this setting, so that negative prompts do nothing; left out")
                task = replace(task, negative_prompt=None)
            if task.references and not pipelines.takes_references(cls, mode, self._config):
                what = "no reference pictures" if mode == "generate" else "one picture alone"
                self._warn_once(f"takes {what} for what is asked ({mode}); further ones are left out")
                task = replace(task, references=())
            size = wanted_size(task, self._default_size())
            same = (task.effort, task.steps, task.guidance, task.negative_prompt is None, bool(task.references))
            key = (mode, size, *same)
            groups.setdefault(key, []).append((position, task))
        batches = []
        for (mode, size, effort, steps, guidance, _, references), members in groups.items():
            alone = references or (mode != "generate" and pipelines.sources_of(self._classes()[mode]) == "one")
            batches += _split(
                _Batch(mode, size, effort, steps, guidance, tuple(members)), 1 if alone else self._batch_size
            )
        return batches

    def _warn_once(self, what: str) -> None:
        if what not in self._warned:
            log.warning("%s %s", self.name, what)
            self._warned.add(what)

    def _draw(self, batch: _Batch, progress: _Progress) -> list[Image.Image] | None:
        """The batch's pictures; None if memory ran out and a smaller batch may do."""
        pipe = self._pipeline_for(batch.mode)
        cls: type = type(pipe)
        arguments = self._arguments(pipe, batch)
        progress.expect(pipelines.steps_in(cls, arguments))
        if "callback_on_step_end" in pipelines.takes(cls):
            arguments["callback_on_step_end"] = progress.step
        what = f"{self.name} ({cls.__name__})"
        try:
            with torch.no_grad(), pipelines.mixed_noise(pipe, [task.noise for _, task in batch.tasks]):
                images = pipe(**arguments).images
            progress.check()
            return _pictures(images, len(batch.tasks), what)
        except RedraftError:
            _release(pipe)
            raise
        except Exception as error:
            _release(pipe)
            if error is progress.raised:
                raise
            if not pipelines.is_out_of_memory(error):
                raise BackendError(f"{what} failed while drawing: {type(error).__name__}: {error}") from error
        # Out of memory. Here, past the handler, no traceback keeps the failed batch's tensors alive any more.
        pipelines.free_memory()
        if len(batch.tasks) == 1:
            raise BackendError(f"{what} ran out of memory on one picture; {pipelines.OUT_OF_MEMORY_ADVICE}")
        return None

    def _arguments(self, pipe: Any, batch: _Batch) -> dict[str, Any]:
        cls = type(pipe)
        tasks = [task for _, task in batch.tasks]
        size = pipelines.working_size(pipe, batch.size, batch.mode) if batch.size is not None else None
        own = {"steps": batch.steps, "guidance": batch.guidance}
        config = self._config.model_copy(update={name: value for name, value in own.items() if value is not None})
        arguments = pipelines.settings_for(cls, batch.mode, config)
        if batch.effort < 1:
            arguments["num_inference_steps"] = steps_at(pipelines.steps_in(cls, arguments), batch.effort)
        arguments |= pipelines.prompts_for(
            cls, batch.mode, [t.prompt for t in tasks], [t.negative_prompt for t in tasks], config.guidance
        )
        arguments |= pipelines.size_for(cls, size)
        arguments["generator"] = [torch.Generator("cpu").manual_seed(task.seed % 2**64) for task in tasks]
        if isinstance(getattr(pipe, "image_processor", None), VaeImageProcessor):
            arguments["output_type"] = "np"  # PIL would turn a NaN into black without a word
        references = [picture.convert("RGB") for task in tasks for picture in task.references]
        if batch.mode == "generate" and references:
            arguments |= pipelines.references_for(cls, references, self._config)
        if batch.mode != "generate":
            assert size is not None
            laid = [source_and_mask(task, size) for task in tasks]
            masks = [mask for _, mask in laid] if batch.mode == "inpaint" else None
            arguments |= pipelines.sources_for(cls, [source for source, _ in laid], masks, references)
        return arguments


class _Progress:
    """Counts steps over several pipeline calls, and stops the one under way when asked to."""

    def __init__(self, on_step: StepCallback | None, stop: threading.Event) -> None:
        self._on_step = on_step
        self._stop = stop
        self._before = 0
        self._steps = 0
        self._calls_left = 0
        self.raised: Exception | None = None

    def begin(self, calls_left: int) -> None:
        """A pipeline call starts; `calls_left` counts it and those after it."""
        self._calls_left = calls_left

    def expect(self, steps: int) -> None:
        """How many steps the call takes, as far as its arguments tell: the pipeline may say otherwise later."""
        self._steps = steps

    def end(self) -> None:
        self._before += self._steps

    def check(self) -> None:
        if self._stop.is_set():
            raise BackendError("the drawing was interrupted")

    def step(self, pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """What pipelines call after each step (diffusers' `callback_on_step_end`)."""
        self.check()
        steps = getattr(pipe, "_num_timesteps", None)  # as set by diffusers' own classes: strength shortens the way
        self._steps = max(steps if isinstance(steps, int) else self._steps, index + 1)
        latents = tensors.get("latents")
        if index + 1 == self._steps and isinstance(latents, torch.Tensor) and not bool(torch.isfinite(latents).all()):
            raise _not_finite(type(pipe).__name__)
        if self._on_step is not None:
            try:
                self._on_step(self._before + index + 1, self._before + self._steps * self._calls_left)
            except Exception as error:
                self.raised = error
                raise
        return tensors


def _split(batch: _Batch, at_most: int) -> list[_Batch]:
    return [replace(batch, tasks=batch.tasks[at : at + at_most]) for at in range(0, len(batch.tasks), at_most)]


def _release(pipe: Any) -> None:
    """After a call that did not end: brings offloaded parts back to where they wait, and frees what the call held."""
    pipe.maybe_free_model_hooks()
    pipelines.free_memory()


def _not_finite(what: str) -> BackendError:
    return BackendError(f'{what} drew numbers that are not finite; set dtype = "bfloat16" or "float32" in the profile')


def _pictures(images: Any, count: int, what: str) -> list[Image.Image]:
    if isinstance(images, np.ndarray):
        if not np.isfinite(images).all():
            raise _not_finite(what)
        images = [Image.fromarray(pixels) for pixels in (images.clip(0, 1) * 255).round().astype(np.uint8)]
    pictures = [image for image in images if isinstance(image, Image.Image)]
    if len(pictures) != count or len(images) != count:
        raise BackendError(f"{what} was asked for {count} pictures and gave {len(pictures)}")
    return pictures
