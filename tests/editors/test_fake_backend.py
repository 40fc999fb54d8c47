"""The fake backend, which tests elsewhere rely on."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from editors.backend import ImageBackend, ImageTask
from editors.testing import FakeBackend
from redraft.errors import BackendError, InputError


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def test_pictures_depend_on_prompt_and_seed_alone() -> None:
    backend: ImageBackend = FakeBackend()
    one, seed, prompt, negative = backend.render(
        [ImageTask("x", 1), ImageTask("x", 2), ImageTask("y", 1), ImageTask("x", 1, negative_prompt="z")]
    )
    assert one.mode == "RGB"
    assert same(one, FakeBackend().render([ImageTask("x", 1)])[0])
    assert not any(same(one, other) for other in (seed, prompt, negative))


def test_sizes_and_modes() -> None:
    source, mask = Image.new("RGB", (30, 20), "white"), Image.new("L", (30, 20), 0)
    mask.paste(255, (0, 0, 15, 20))
    sized, edited, inpainted = FakeBackend().render(
        [
            ImageTask("x", 1, size=(50, 40)),
            ImageTask("x", 1, source=source),
            ImageTask("x", 1, source=source, mask=mask),
        ]
    )
    assert (sized.size, edited.size, inpainted.size) == ((50, 40), (30, 20), (30, 20))
    assert same(inpainted.crop((15, 0, 30, 20)), source.crop((15, 0, 30, 20)))
    assert same(inpainted.crop((0, 0, 15, 20)), edited.crop((0, 0, 15, 20)))
    with pytest.raises(BackendError, match="cannot edit"):
        FakeBackend(modes=frozenset({"generate"})).render([ImageTask("x", 1, source=source)])
    with pytest.raises(InputError):
        FakeBackend().render([ImageTask("x", 1, mask=mask)])


def test_the_script_calls_and_steps() -> None:
    backend = FakeBackend(script=[None, BackendError("out of paint")], steps=3)
    steps: list[tuple[int, int]] = []
    backend.render([ImageTask("x", 1)], lambda *step: steps.append(step))
    with pytest.raises(BackendError, match="out of paint"):
        backend.render([ImageTask("y", 1)])
    assert len(backend.render([ImageTask("z", 1), ImageTask("z", 2)])) == 2
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert [[task.prompt for task in call] for call in backend.calls] == [["x"], ["y"], ["z", "z"]]


def test_own_paint() -> None:
    backend = FakeBackend(paint=lambda task: Image.new("L", (9, 9), task.seed))
    assert backend.render([ImageTask("x", 7)])[0].getpixel((0, 0)) == (7, 7, 7)
