"""Editing by instruction and by mask, on tiny random instances of the real pipeline classes."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from PIL import Image

from editors.backend import ImageTask
from editors.changes import is_unchanged
from editors.diffusers_backend import DiffusersBackend
from redraft.errors import BackendError, ConfigError, InputError
from redraft.profiles import BackendConfig

Tiny = Callable[[str], Path]
INSIDE, OUTSIDE = (0, 0, 32, 64), (32, 0, 64, 64)


def backend(model: Path, **settings: Any) -> DiffusersBackend:
    defaults: dict[str, Any] = {"steps": 1, "device": "cpu"}
    return DiffusersBackend(BackendConfig(kind="diffusers", model=str(model), **(defaults | settings)))


def photo(seed: int = 0, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def left_half(size: tuple[int, int] = (64, 64)) -> Image.Image:
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.tobytes() == other.tobytes()


def filled_inside_alone(result: Image.Image, source: Image.Image) -> bool:
    return same(result.crop(OUTSIDE), source.crop(OUTSIDE)) and not same(result.crop(INSIDE), source.crop(INSIDE))


def test_instruct_pix2pix(tiny: Tiny) -> None:
    painter = backend(tiny("pix2pix"), steps=2)
    assert painter.modes == {"edit", "inpaint"}
    source = photo()
    one, other = painter.render([ImageTask("make it red", seed, source=source) for seed in (1, 2)])
    assert one.size == other.size == source.size
    assert not same(one, other)
    assert not is_unchanged(source, one)
    # It takes no mask: the whole is edited, and what is not masked is put back.
    (masked,) = painter.render([ImageTask("make it red", 1, source=source, mask=left_half())])
    assert filled_inside_alone(masked, source)


def test_how_closely_instruct_pix2pix_keeps_to_its_source(tiny: Tiny) -> None:
    loose, close = (
        backend(tiny("pix2pix"), steps=2, image_guidance=setting).render([ImageTask("red", 1, source=photo())])[0]
        for setting in (1.1, 6.0)
    )
    assert not same(loose, close)
    with pytest.raises(ConfigError, match="takes no image_guidance"):
        backend(tiny("klein"), image_guidance=2.0).render([ImageTask("red", 1, source=photo())])


def test_kontext_edits_generates_and_fills_masks(tiny: Tiny) -> None:
    painter = backend(tiny("kontext"), width=32, height=32)
    assert painter.modes == {"generate", "edit", "inpaint"}
    source = photo()
    tasks = [
        ImageTask("a fox", 1),
        ImageTask("make it red", 1, source=photo(size=(64, 32))),
        ImageTask("make it red", 1, source=source, mask=left_half()),
    ]
    generated, edited, filled = painter.render(tasks)
    assert (generated.size, edited.size) == ((32, 32), (64, 32))
    assert filled_inside_alone(filled, source)
    inpainter = painter._pipeline_for("inpaint")
    assert type(inpainter).__name__ == "FluxKontextInpaintPipeline"
    assert inpainter.transformer is painter._weights.pipe.transformer, "no second copy of the weights"


def test_flux2_klein(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    painter = backend(tiny("klein"), width=64, height=64)
    assert painter.modes == {"generate", "edit", "inpaint"}
    source, hat = photo(), photo(1)
    drawn, plain, dressed, filled = painter.render(
        [
            ImageTask("a fox", 1),
            ImageTask("put the hat on", 1, source=source),
            ImageTask("put the hat on", 1, source=source, references=(hat,)),
            ImageTask("a hat", 1, source=source, mask=left_half(), references=(hat,)),
        ]
    )
    assert {image.size for image in (drawn, plain, dressed, filled)} == {(64, 64)}
    assert not same(plain, dressed), "the further picture was looked at"
    assert filled_inside_alone(filled, source)
    inpainter = painter._pipeline_for("inpaint")
    assert (type(inpainter).__name__, inpainter.config.is_distilled) == ("Flux2KleinInpaintPipeline", True)
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING and r.name.startswith("editors")] == [
        f"{painter.name} takes one picture alone for what is asked (inpaint); further ones are left out"
    ]


def test_pictures_that_flux2_refuses_as_they_are(tiny: Tiny) -> None:
    painter = backend(tiny("klein"))
    (small,) = painter.render([ImageTask("red", 1, source=photo(size=(20, 30)))])
    assert small.size == (20, 30), "drawn larger, and scaled back"
    with pytest.raises(InputError, match="at most 8 times the shorter"):
        painter.render([ImageTask("red", 1, source=photo(size=(200, 20)))])


def test_qwen_image_edit_plus(tiny: Tiny, toys: Callable[..., Path]) -> None:
    toys()  # makes toy_pipelines a module
    painter = backend(tiny("qwen_edit_plus"), pipeline="toy_pipelines:BlindQwenEditPlus", guidance=1.0)
    assert painter.modes == {"edit", "inpaint"}
    source = photo()
    (filled,) = painter.render([ImageTask("a hat", 1, source=source, mask=left_half(), references=(photo(1),))])
    assert filled_inside_alone(filled, source)


def test_inpainting_draws_anew_what_is_masked(tiny: Tiny) -> None:
    """At a class's own default of 0.6 it would take 2 steps of 4."""
    steps: list[tuple[int, int]] = []
    source = photo()
    painter = backend(tiny("sd_inpaint"), steps=4)
    (filled,) = painter.render([ImageTask("a pond", 1, source=source, mask=left_half())], lambda *s: steps.append(s))
    assert filled_inside_alone(filled, source)
    assert steps[-1] == (4, 4)
    flux = backend(tiny("flux"), steps=4)
    flux.render([ImageTask("a pond", 1, source=source, mask=left_half())], lambda *s: steps.append(s))
    assert steps[-1] == (4, 4)


def test_masks_of_another_size(tiny: Tiny) -> None:
    painter = backend(tiny("sd_inpaint"))
    source = photo()
    (scaled,) = painter.render([ImageTask("a pond", 1, source=source, mask=left_half((32, 32)))])
    assert scaled.size == source.size
    with pytest.raises(InputError, match="the mask has 40 x 64 pixels, its picture 64 x 64"):
        painter.render([ImageTask("a pond", 1, source=source, mask=left_half((40, 64)))])
    with pytest.raises(BackendError, match="cannot edit, only inpaint"):
        painter.render([ImageTask("a pond", 1, source=source)])


def test_a_generator_and_an_editor_of_the_same_weights_load_them_once(tiny: Tiny) -> None:
    def transformers() -> list[Any]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each) is diffusers.Flux2Transformer2DModel]

    (alone,) = backend(tiny("klein"), steps=2, width=64, height=64).render([ImageTask("a red star", 1)])
    before = transformers()  # held, so that no new one can be taken for an old one
    painter = backend(tiny("klein"), width=64, height=64)
    editor = backend(tiny("klein"), steps=2, width=64, height=64, batch_size=1)
    source = painter.render([ImageTask("a red star", 1)])[0]
    edited = editor.render([ImageTask("make it blue", 1, source=source)])[0]
    assert len(transformers()) == len(before) + 1
    assert not same(source, edited)
    assert same(alone, editor.render([ImageTask("a red star", 1)])[0]), "each draws by its own settings"
    # Whoever lets go of them does so for both, and the next to draw loads them again.
    painter.close()
    assert same(edited, editor.render([ImageTask("make it blue", 1, source=source)])[0])


def test_other_weights_are_not_shared(tiny: Tiny) -> None:
    def weights(**settings: Any) -> str:
        settings = {"device": "cpu", **settings}
        return BackendConfig(kind="diffusers", model=str(tiny("klein")), **settings).weights

    assert weights() == weights(steps=9, guidance=4.0, strength=0.5, call={"max_sequence_length": 77})
    for settings in ({"dtype": "bfloat16"}, {"scheduler": "LCMScheduler"}, {"device": "cuda"}, {"quantization": "nf4"}):
        assert weights() != weights(**settings)


def test_stopping_a_backend_does_not_stop_another_of_the_same_weights(toys: Callable[..., Path]) -> None:
    settings: dict[str, Any] = {"pipeline": "toy_pipelines:SilentPipeline", "steps": None}
    folder = toys()
    painter, idle = backend(folder, **settings), backend(folder, **settings)
    painter.load()
    idle.interrupt()
    assert not getattr(painter._weights.pipe, "_interrupt", False)
