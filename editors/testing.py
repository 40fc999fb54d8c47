"""A backend without a model, for tests and for measuring everything around the models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from editors.backend import (
    Ability,
    ImageTask,
    Mode,
    StepCallback,
    mode_of,
    require_ability,
    restore_outside_mask,
    wanted_size,
)
from redraft.errors import BackendError


class FakeBackend:
    """Draws a pattern of coloured tiles that depends on prompt, negative prompt, seed, noise, effort and source alone.

    `script` has one entry for each call of `render`, in order: an exception to raise, or None to draw; calls beyond
    its end draw. `paint` replaces the pattern. `calls` keeps the tasks of every call, those that failed included.
    """

    def __init__(
        self,
        *,
        name: str = "fake",
        modes: frozenset[Mode] = frozenset({"generate", "edit", "inpaint"}),
        size: tuple[int, int] = (64, 64),
        steps: int = 2,
        abilities: frozenset[Ability] = frozenset({"steps", "noise"}),
        script: Sequence[Exception | None] = (),
        paint: Callable[[ImageTask], Image.Image] | None = None,
    ) -> None:
        self._name = name
        self._modes = modes
        self._size = size
        self._steps = steps
        self._abilities = abilities
        self._script = tuple(script)
        self._paint = paint
        self.calls: list[tuple[ImageTask, ...]] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def modes(self) -> frozenset[Mode]:
        return self._modes

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._abilities

    @property
    def steps(self) -> int | None:
        return self._steps

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        self.calls.append(tuple(tasks))
        scripted = self._script[len(self.calls) - 1] if len(self.calls) <= len(self._script) else None
        if scripted is not None:
            raise scripted
        for task in tasks:
            require_ability(self, task)
            if mode_of(task) not in self._modes:
                raise BackendError(f"{self._name} cannot {mode_of(task)}")
        for step in range(self._steps):
            if on_step is not None:
                on_step(step + 1, self._steps)
        return [self._draw(task) for task in tasks]

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _draw(self, task: ImageTask) -> Image.Image:
        size = wanted_size(task, self._size) or self._size
        if self._paint is not None:
            return self._paint(task).convert("RGB")
        return restore_outside_mask(_tiles(task, size), task)


def _tiles(task: ImageTask, size: tuple[int, int]) -> Image.Image:
    pictures = [picture for picture in (task.source, *task.references) if picture is not None]
    source = b"".join(picture.convert("RGB").tobytes() for picture in pictures)
    words = "\0".join((task.prompt, task.negative_prompt or "", str(task.seed)))
    if task.noise or task.effort < 1:
        words += f"\0{task.noise}\0{task.effort}"
    digest = hashlib.sha256(words.encode() + source).digest()
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    for row in range(3):
        for column in range(3):
            box = (column * size[0] // 3, row * size[1] // 3, (column + 1) * size[0] // 3, (row + 1) * size[1] // 3)
            at = 3 * (3 * row + column)
            draw.rectangle(box, fill=(digest[at], digest[at + 1], digest[at + 2]))
    return image
