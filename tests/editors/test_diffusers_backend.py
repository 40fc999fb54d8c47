"""DiffusersBackend on tiny random instances of real pipeline classes, and on a class that diffusers does not know."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from editors import pipelines
from editors.backend import ImageTask, open_backend
from editors.diffusers_backend import DiffusersBackend
from redraft.errors import BackendError, ConfigError, InputError
from redraft.profiles import BackendConfig

Tiny = Callable[[str], Path]
Toys = Callable[..., Path]
GENERATORS = ["zimage", "flux", "sd3", "qwenimage", "sd"]
ALL = {"generate", "edit", "inpaint"}


def backend(model: Path | str, **settings: Any) -> DiffusersBackend:
    defaults: dict[str, Any] = {"steps": 2, "batch_size": 4, "device": "cpu", "width": 32, "height": 32}
    return DiffusersBackend(BackendConfig(kind="diffusers", model=str(model), **(defaults | settings)))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Largest difference of any channel of any pixel, in 8-bit steps."""
    return float(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


def photo(size: tuple[int, int] = (40, 36)) -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def left_half(size: tuple[int, int] = (40, 36)) -> Image.Image:
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return mask


@pytest.mark.parametrize("name", GENERATORS)
def test_every_class_draws_the_same_alone_and_in_a_batch(tiny: Tiny, name: str) -> None:
    painter = backend(tiny(name))
    tasks = [ImageTask("a red fox", 1), ImageTask("a red fox", 2), ImageTask("two blue birds in the sun", 1)]
    steps: list[tuple[int, int]] = []
    together = painter.render(tasks, lambda *step: steps.append(step))
    alone = [painter.render([task])[0] for task in reversed(tasks)][::-1]
    assert [(image.mode, image.size) for image in together] == [("RGB", (32, 32))] * 3
    assert max(difference(*pair) for pair in zip(together, alone, strict=True)) <= 2
    assert difference(together[0], together[1]) > 10, "another seed"
    assert difference(together[0], together[2]) > 0, "another prompt"
    assert steps == [(1, 2), (2, 2)]
    assert painter.modes == ALL


@pytest.mark.parametrize("name", GENERATORS)
def test_every_class_edits_and_inpaints_through_its_siblings(tiny: Tiny, name: str) -> None:
    painter = backend(tiny(name), strength=0.5, steps=4)
    source, mask = photo(), left_half()
    edits = [ImageTask("make it red", 1, source=source), ImageTask("make it blue", 2, source=source)]
    inpaints = [ImageTask("a pond", 1, source=source, mask=mask)]
    one, other, inpainted = painter.render([*edits, *inpaints])
    assert one.size == other.size == inpainted.size == source.size
    assert difference(one, other) > 0
    assert difference(one, painter.render(edits[:1])[0]) <= 2
    inside, outside = (0, 0, 20, 36), (20, 0, 40, 36)
    assert difference(inpainted.crop(outside), source.crop(outside)) == 0
    assert difference(inpainted.crop(inside), source.crop(inside)) > 10


def test_siblings_hold_the_same_weights(tiny: Tiny) -> None:
    pipe = pipelines.load_pipeline(BackendConfig(kind="diffusers", model=str(tiny("zimage")), device="cpu"))
    other = pipelines.make_sibling(
        pipe, "edit", diffusers.ZImageImg2ImgPipeline, BackendConfig(kind="diffusers", model="x")
    )
    assert isinstance(other, diffusers.ZImageImg2ImgPipeline)
    assert other.transformer is pipe.transformer


def test_weak_edits_stay_near_their_source(tiny: Tiny) -> None:
    """Twin settings but for strength: the setting reaches the pipeline."""
    steps: list[int] = []
    for strength in (0.25, 1.0):
        painter = backend(tiny("sd3"), strength=strength, steps=8)
        painter.render([ImageTask("x", 1, source=photo((32, 32)))], lambda _, total: steps.append(total))
    assert (steps[0], steps[-1]) == (2, 8)


def test_a_checkpoint_for_inpainting_only_inpaints(tiny: Tiny) -> None:
    painter = backend(tiny("sd_inpaint"))
    assert painter.modes == {"inpaint"}
    (image,) = painter.render([ImageTask("a pond", 1, source=photo(), mask=left_half())])
    assert image.size == (40, 36)
    with pytest.raises(BackendError, match="cannot generate, only inpaint"):
        painter.render([ImageTask("a pond", 1)])


def test_sizes_that_the_model_cannot_draw_are_drawn_nearby_and_resized(tiny: Tiny) -> None:
    painter = backend(tiny("zimage"))
    tasks = [ImageTask("x", 1, size=size) for size in ((33, 47), (5, 5), (32, 64))]
    assert [image.size for image in painter.render(tasks)] == [(33, 47), (5, 5), (32, 64)]


def test_mixed_tasks_come_back_in_order(tiny: Tiny) -> None:
    painter = backend(tiny("flux"))
    tasks = [
        ImageTask("a", 1, size=(32, 48)),
        ImageTask("b", 2, source=photo()),
        ImageTask("c", 3, size=(48, 32)),
        ImageTask("d", 4, size=(32, 48)),
    ]
    pictures = painter.render(tasks)
    assert [image.size for image in pictures] == [(32, 48), (40, 36), (48, 32), (32, 48)]
    assert difference(pictures[3], painter.render(tasks[3:])[0]) <= 2


@pytest.mark.parametrize("name", ["qwenimage", "sd3", "zimage"])
def test_negative_prompts_and_guidance_have_an_effect(tiny: Tiny, name: str) -> None:
    plain, strong = (backend(tiny(name), guidance=guidance) for guidance in (1.5, 6.0))
    (without,), (guided,) = plain.render([ImageTask("x", 1)]), strong.render([ImageTask("x", 1)])
    assert difference(without, guided) > 0
    with_negative, again = strong.render([ImageTask("x", 1, negative_prompt="blurry and grey"), ImageTask("x", 1)])
    assert difference(with_negative, guided) > 0
    assert difference(again, guided) <= 2, "a neighbour's negative prompt changes nothing"


def test_negative_prompts_are_left_out_where_they_do_nothing(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    painter = backend(tiny("flux"))
    with caplog.at_level(logging.WARNING, logger="editors"):
        one, other = painter.render([ImageTask("x", 1, negative_prompt="blurry"), ImageTask("x", 1)])
    assert difference(one, other) <= 2
    assert [record.message for record in caplog.records if "negative" in record.message] == [
        f"{painter.name} takes no negative prompts; they are left out"
    ]


TOY = "toy_pipelines:ToyPipeline"


def test_a_class_of_ones_own(toys: Toys) -> None:
    painter = backend(toys(), pipeline=TOY, width=None, height=None, steps=None, batch_size=2)
    assert painter.modes == {"generate"}
    steps: list[tuple[int, int]] = []
    tasks = [ImageTask("x", seed) for seed in range(5)]
    pictures = painter.render(tasks, lambda *step: steps.append(step))
    assert [image.size for image in pictures] == [(48, 48)] * 5, "the class's own default"
    assert steps == [(done, 12) for done in range(1, 13)], "4 steps for each of 3 batches"
    assert [difference(*pair) for pair in zip(pictures, painter.render(tasks), strict=True)] == [0] * 5
    assert painter.render([ImageTask("x", 0, size=(13, 7))])[0].size == (13, 7)
    with pytest.raises(BackendError, match="cannot edit"):
        painter.render([ImageTask("x", 1, source=photo())])


def test_out_of_memory_halves_the_batch_and_remembers(toys: Toys, caplog: pytest.LogCaptureFixture) -> None:
    painter = backend(toys(at_most=3), pipeline=TOY, batch_size=8, steps=1)
    tasks = [ImageTask("x", seed) for seed in range(10)]
    pictures = painter.render(tasks)
    assert len(pictures) == 10
    seen = painter._weights.pipe.model.seen
    assert seen == [8, 4, 2, 2, 2, 2, 2]
    assert difference(pictures[9], painter.render(tasks[9:])[0]) == 0
    painter.render(tasks[:4])
    assert seen[-2:] == [2, 2], "no second run into the same wall"
    assert "at most 2 at once" in caplog.text


def test_out_of_memory_on_one_picture(toys: Toys) -> None:
    with pytest.raises(BackendError, match=r"one picture.*offload"):
        backend(toys(at_most=0), pipeline=TOY).render([ImageTask("x", 1), ImageTask("x", 2)])


@pytest.mark.parametrize(
    ("prompt", "says"), [("nan", "not finite"), ("crash", "RuntimeError: something broke"), ("too few", "gave 0")]
)
def test_pipelines_that_fail(toys: Toys, prompt: str, says: str) -> None:
    painter = backend(toys(), pipeline=TOY)
    with pytest.raises(BackendError, match=says):
        painter.render([ImageTask(prompt, 1)])
    assert len(painter.render([ImageTask("x", 1)])) == 1, "the next one works"


def test_numbers_that_are_not_finite_in_the_decoder(tiny: Tiny, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny("sd3"), model)
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["decoder.conv_out.bias"][:] = float("nan")
    save_file(tensors, weights)
    with pytest.raises(BackendError, match="not finite"):
        backend(model).render([ImageTask("x", 1)])


def test_interrupt_from_another_thread(toys: Toys) -> None:
    painter = backend(toys(), pipeline=TOY, steps=1000)
    under_way = threading.Event()

    def on_step(done: int, _: int) -> None:
        if done == 3:
            threading.Thread(target=painter.interrupt).start()
        if done > 3:
            under_way.wait(0.01)

    painter.interrupt()  # nothing under way: no effect on what comes
    with pytest.raises(BackendError, match="interrupted"):
        painter.render([ImageTask("x", 1)], on_step)
    assert len(painter.render([ImageTask("x", 1)])) == 1


def test_interrupt_of_a_class_without_a_callback(toys: Toys) -> None:
    painter = backend(toys(), pipeline="toy_pipelines:SilentPipeline", steps=None)
    painter.load()
    threading.Timer(0.3, painter.interrupt).start()
    with pytest.raises(BackendError, match="interrupted"):  # it would draw for 200 s
        painter.render([ImageTask("x", 1)])


def test_what_the_callback_raises_comes_out(toys: Toys) -> None:
    class EnoughError(Exception):
        pass

    def on_step(done: int, _: int) -> None:
        if done == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        backend(toys(), pipeline=TOY).render([ImageTask("x", 1)], on_step)


def test_threads_wait_for_one_another(toys: Toys) -> None:
    painter = backend(toys(), pipeline=TOY, steps=50)
    tasks = [ImageTask("x", seed) for seed in range(4)]
    found: dict[int, Image.Image] = {}

    def draw(number: int) -> None:
        (found[number],) = painter.render([tasks[number]])

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = painter.render(tasks)
    assert [difference(found[number], expected[number]) for number in range(4)] == [0] * 4


def test_it_loads_again_after_close(toys: Toys) -> None:
    painter = open_backend(
        BackendConfig(kind="diffusers", model=str(toys()), pipeline=TOY, device="cpu", dtype="bfloat16")
    )
    assert isinstance(painter, DiffusersBackend)
    painter.load()
    assert painter._weights.pipe.model.weight.dtype == torch.bfloat16
    (one,) = painter.render([ImageTask("x", 1)])
    painter.close()
    assert painter._weights.pipe is None
    assert difference(one, painter.render([ImageTask("x", 1)])[0]) == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"guidance": 3.0}, "takes no guidance"),
        ({"width": 32, "height": None}, "both width and height"),
        ({"device": "cuda:77"}, "cuda:77"),
        ({"device": "toaster"}, "toaster"),
        ({"offload": "model"}, "needs a GPU"),
        ({"quantization": "int4"}, 'needs a GPU; "int8" runs on a CPU'),
        ({"quantization": "nf4"}, 'needs a GPU; "int8" runs on a CPU'),
    ],
)
def test_settings_that_cannot_be(toys: Toys, settings: dict[str, Any], says: str) -> None:
    model = toys()
    with pytest.raises(ConfigError, match=says):
        backend(model, pipeline=TOY, **settings).render([ImageTask("x", 1)])


def test_strength_needs_a_class_that_takes_it(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="takes no strength"):
        backend(tiny("pix2pix"), strength=0.5).render([ImageTask("x", 1, source=photo())])


def test_tasks_that_cannot_be(toys: Toys) -> None:
    painter = backend(toys(), pipeline=TOY)
    assert painter.render([]) == []
    with pytest.raises(InputError, match="mask but no source"):
        painter.render([ImageTask("x", 1, mask=left_half())])
    assert len(painter.render([ImageTask("x", 1, references=(photo(),))])) == 1  # left out, with a log line
    with pytest.raises(InputError, match="the mask has 40 x 36 pixels, its picture 36 x 40"):
        painter.render([ImageTask("x", 1, source=photo((36, 40)), mask=left_half())])
    with pytest.raises(InputError, match="100000 x 100000"):
        painter.render([ImageTask("x", 1, size=(100_000, 100_000))])


def test_any_seed_will_do(toys: Toys) -> None:
    pictures = backend(toys(), pipeline=TOY).render([ImageTask("x", seed) for seed in (-1, 0, 2**63, 2**70 + 5)])
    assert len(pictures) == 4
