"""The table of quirks against the classes themselves: a diffusers upgrade that renames an argument must show here."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import diffusers
import pytest

from editors import pipelines
from mini.editor.pipeline import CutoutsEditPipeline
from redraft.errors import ConfigError, InputError
from redraft.profiles import BackendConfig


def config(**settings: Any) -> BackendConfig:
    return BackendConfig(kind="diffusers", model="x", **settings)


@pytest.mark.parametrize("name", sorted(pipelines.QUIRKS))
def test_the_table_speaks_of_real_classes_and_arguments(name: str) -> None:
    cls = getattr(diffusers, name)
    quirk = pipelines.QUIRKS[name]
    named = {quirk.guidance or "prompt", quirk.area or "prompt"}
    if quirk.also_generates or quirk.sources:
        named.add(quirk.source)
    assert named <= pipelines.takes(cls)
    assert quirk.negative is not False or "negative_prompt" in pipelines.takes(cls)
    assert quirk.inpainter is None or "mask_image" in pipelines.takes(getattr(diffusers, quirk.inpainter))
    assert not quirk.mask_optional or "mask_image" in pipelines.takes(cls)
    assert not quirk.references or pipelines.sources_of(cls) == "one"
    assert pipelines.settings_for(cls, "generate", config(steps=3, guidance=2.0))


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        ("ZImagePipeline", {"generate", "edit", "inpaint"}),
        ("QwenImagePipeline", {"generate", "edit", "inpaint"}),
        ("QwenImageEditPipeline", {"edit", "inpaint"}),
        ("QwenImageEditPlusPipeline", {"edit", "inpaint"}),
        ("QwenImage21Pipeline", {"generate", "edit", "inpaint"}),
        ("FluxPipeline", {"generate", "edit", "inpaint"}),
        ("FluxKontextPipeline", {"generate", "edit", "inpaint"}),
        ("FluxKontextInpaintPipeline", {"inpaint"}),
        ("Flux2Pipeline", {"generate", "edit", "inpaint"}),
        ("Flux2KleinPipeline", {"generate", "edit", "inpaint"}),
        ("StableDiffusionXLPipeline", {"generate", "edit", "inpaint"}),
        ("StableDiffusionXLImg2ImgPipeline", {"generate", "edit", "inpaint"}),
        ("StableDiffusionXLInpaintPipeline", {"inpaint"}),
        ("StableDiffusionInstructPix2PixPipeline", {"edit", "inpaint"}),
        ("OmniGenPipeline", {"generate", "edit", "inpaint"}),
        ("Lumina2Pipeline", {"generate"}),
        ("HunyuanImagePipeline", {"generate"}),
    ],
)
def test_modes(name: str, modes: set[str]) -> None:
    serving = pipelines.modes_of(getattr(diffusers, name))
    assert serving.keys() == modes


@pytest.mark.parametrize("mode", ["generate", "edit", "inpaint"])
def test_every_sibling_of_the_table_can_be_called(mode: Any) -> None:
    """No sibling has an argument without a default that we never give."""
    for cls in set(pipelines.family_tables()[mode].values()):
        serving = pipelines.modes_of(cls).get(mode)
        if serving is None:
            continue
        given = {
            "self",
            "prompt",
            "image",
            "mask_image",
            "generator",
            "width",
            "height",
            pipelines.quirk_of(cls).source,
        }
        parameters = inspect.signature(serving.__call__).parameters.values()
        missing = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD} - given
        assert not missing, f"{serving.__name__} wants {missing}"


def test_who_fills_masks() -> None:
    def fills(cls: type) -> str:
        return pipelines.modes_of(cls)["inpaint"].__name__

    assert fills(diffusers.FluxKontextPipeline) == "FluxKontextInpaintPipeline"
    assert fills(diffusers.Flux2KleinPipeline) == "Flux2KleinInpaintPipeline"
    assert fills(diffusers.Flux2Pipeline) == "Flux2Pipeline", "by an edit of the whole"
    assert fills(diffusers.StableDiffusionInstructPix2PixPipeline) == "StableDiffusionInstructPix2PixPipeline"
    assert pipelines.modes_of(CutoutsEditPipeline) == {"edit": CutoutsEditPipeline, "inpaint": CutoutsEditPipeline}


def test_strength_and_image_guidance() -> None:
    inpaint, img2img = diffusers.ZImageInpaintPipeline, diffusers.ZImageImg2ImgPipeline
    pix2pix = diffusers.StableDiffusionInstructPix2PixPipeline
    assert pipelines.settings_for(inpaint, "inpaint", config()) == {"strength": 1.0}, "what is masked is drawn anew"
    assert pipelines.settings_for(inpaint, "inpaint", config(strength=0.4)) == {"strength": 0.4}
    assert pipelines.settings_for(img2img, "edit", config()) == {}, "else nothing of the picture would be left"
    assert pipelines.settings_for(pix2pix, "edit", config(guidance=7.0, image_guidance=1.2)) == {
        "guidance_scale": 7.0,
        "image_guidance_scale": 1.2,
    }
    with pytest.raises(ConfigError, match="takes no image_guidance"):
        pipelines.settings_for(img2img, "edit", config(image_guidance=1.2))


class _Pipe:
    """As much of a pipeline as sizes are read off."""

    vae_scale_factor = 8
    components: ClassVar = {"transformer": None}


def pipe_of(name: str) -> Any:
    return type(name, (_Pipe,), {})()


@pytest.mark.parametrize(
    ("name", "size", "drawn"),
    [
        ("FluxKontextPipeline", (256, 256), (1024, 1024)),
        ("FluxKontextPipeline", (6000, 4000), (1248, 832)),
        ("FluxKontextPipeline", (1920, 1080), (1392, 752)),
        ("FluxKontextPipeline", (3000, 500), (1568, 672)),
        ("QwenImageEditPlusPipeline", (300, 400), (896, 1184)),
        ("Flux2Pipeline", (640, 480), (640, 480)),
        ("Flux2Pipeline", (4000, 3000), (1184, 880)),
        ("Flux2Pipeline", (40, 20), (128, 64)),
        ("StableDiffusionInpaintPipeline", (2048, 2048), (768, 768)),
        ("SomeoneElses", (2048, 2048), (1024, 1024)),
        ("SomeoneElses", (250, 250), (256, 256)),
    ],
)
def test_areas_of_edits(name: str, size: tuple[int, int], drawn: tuple[int, int]) -> None:
    assert pipelines.working_size(pipe_of(name), size, "edit") == drawn
    assert pipelines.working_size(pipe_of(name), (2048, 2048)) == (2048, 2048), (
        "drawings are as large as they are asked"
    )


@pytest.mark.parametrize("name", ["FluxKontextPipeline", "FluxKontextInpaintPipeline"])
def test_kontext_is_drawn_at_the_size_that_it_lays_its_source_out_at(name: str) -> None:
    """What the class computes from the area and the shape that it is given is the same size again."""
    from diffusers.pipelines.flux import pipeline_flux_kontext, pipeline_flux_kontext_inpaint

    assert (
        pipeline_flux_kontext.PREFERRED_KONTEXT_RESOLUTIONS
        == pipeline_flux_kontext_inpaint.PREFERRED_KONTEXT_RESOLUTIONS
    )
    for size in [(1920, 1080), (1000, 1000), (400, 900), (3000, 500)]:
        width, height = pipelines.working_size(pipe_of(name), size, "edit")
        aspect, area = width / height, width * height
        assert (round((area * aspect) ** 0.5) // 16 * 16, round((area / aspect) ** 0.5) // 16 * 16) == (width, height)
        assert (width, height) in pipeline_flux_kontext.PREFERRED_KONTEXT_RESOLUTIONS


def test_shapes_that_cannot_be_edited() -> None:
    assert pipelines.working_size(pipe_of("Flux2Pipeline"), (800, 100), "edit") == (800, 96)
    with pytest.raises(InputError, match=r"at most 8 times the shorter; this one has 1000 x 100"):
        pipelines.working_size(pipe_of("Flux2Pipeline"), (1000, 100), "edit")


def test_further_pictures() -> None:
    plus, kontext = diffusers.QwenImageEditPlusPipeline, diffusers.FluxKontextPipeline
    assert pipelines.sources_for(plus, ["a"], None, ["b", "c"]) == {"image": ["a", "b", "c"]}
    assert pipelines.sources_for(plus, ["a"], ["m"], []) == {"image": "a"}, "it takes no mask"
    assert pipelines.sources_for(kontext, ["a"], None, ["b"]) == {"image": "a"}, "a list would be a batch to it"


def test_arguments_of_guidance() -> None:
    qwen, flux, sdxl = diffusers.QwenImagePipeline, diffusers.FluxPipeline, diffusers.StableDiffusionXLPipeline
    assert pipelines.settings_for(qwen, "generate", config(guidance=4.0)) == {"true_cfg_scale": 4.0}
    assert pipelines.settings_for(flux, "generate", config(guidance=4.0)) == {"guidance_scale": 4.0}
    assert pipelines.settings_for(sdxl, "generate", config(guidance=0.0, strength=0.5)) == {"guidance_scale": 0.0}
    assert pipelines.prompts_for(qwen, "generate", ["x"], [None], None)["negative_prompt"] == [" "]
    assert pipelines.prompts_for(qwen, "generate", ["x"], ["grey"], None)["negative_prompt"] == ["grey"]
    assert "negative_prompt" not in pipelines.prompts_for(qwen, "generate", ["x"], [None], 1.0), "guidance is off"
    assert "negative_prompt" not in pipelines.prompts_for(sdxl, "generate", ["x"], [None], 7.0)


def test_sources() -> None:
    omnigen, plus, sdxl = (
        diffusers.OmniGenPipeline,
        diffusers.QwenImageEditPlusPipeline,
        diffusers.StableDiffusionXLInpaintPipeline,
    )
    assert pipelines.sources_for(omnigen, ["a", "b"], None) == {"input_images": [["a"], ["b"]]}
    assert pipelines.sources_for(plus, ["a"], None) == {"image": "a"}
    assert pipelines.sources_for(sdxl, ["a", "b"], ["m", "n"]) == {"image": ["a", "b"], "mask_image": ["m", "n"]}
    assert pipelines.prompts_for(omnigen, "edit", ["redder"], [None])["prompt"] == ["<img><|image_1|></img> redder"]
    assert pipelines.prompts_for(omnigen, "generate", ["a fox"], [None])["prompt"] == ["a fox"]


def test_a_subclass_has_its_parents_quirks() -> None:
    child = type("MyQwen", (diffusers.QwenImagePipeline,), {})
    assert pipelines.quirk_of(child) is pipelines.QUIRKS["QwenImagePipeline"]


def test_a_setting_without_an_argument_is_an_error() -> None:
    with pytest.raises(ConfigError, match="FluxKontextPipeline takes no strength; remove `strength`"):
        pipelines.settings_for(diffusers.FluxKontextPipeline, "edit", config(strength=0.5))
