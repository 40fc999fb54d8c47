"""The table of quirks against the classes themselves: a diffusers upgrade that renames an argument must show here."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import pytest

from core.errors import ConfigError
from core.profiles import BackendConfig
from editors import pipelines, quirks


def config(**settings: Any) -> BackendConfig:
    return BackendConfig(kind="diffusers", model="x", **settings)


@pytest.mark.parametrize("name", sorted(quirks.QUIRKS))
def test_the_table_speaks_of_real_classes_and_arguments(name: str) -> None:
    cls, quirk = getattr(diffusers, name), quirks.QUIRKS[name]
    named = {quirk.guidance or "prompt", quirk.area or "prompt"}
    if quirk.also_generates or quirk.sources:
        named.add(quirk.source)
    assert named <= quirks.takes(cls)
    assert quirk.negative is not False or "negative_prompt" in quirks.takes(cls)
    assert quirks.settings_for(cls, "generate", config(steps=3, guidance=2.0))


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        ("ZImagePipeline", {"generate", "edit", "inpaint"}),
        ("QwenImagePipeline", {"generate", "edit", "inpaint"}),
        ("QwenImageEditPipeline", {"edit", "inpaint"}),
        ("QwenImageEditPlusPipeline", {"edit"}),
        ("QwenImage21Pipeline", {"generate", "edit"}),
        ("FluxPipeline", {"generate", "edit", "inpaint"}),
        ("FluxKontextPipeline", {"generate", "edit"}),
        ("FluxKontextInpaintPipeline", {"inpaint"}),
        ("Flux2Pipeline", {"generate", "edit"}),
        ("StableDiffusionXLPipeline", {"generate", "edit", "inpaint"}),
        ("StableDiffusionXLImg2ImgPipeline", {"generate", "edit", "inpaint"}),
        ("StableDiffusionXLInpaintPipeline", {"inpaint"}),
        ("StableDiffusionInstructPix2PixPipeline", {"edit"}),
        ("OmniGenPipeline", {"generate", "edit"}),
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
        given = {"self", "prompt", "image", "mask_image", "generator", "width", "height", quirks.quirk_of(cls).source}
        parameters = inspect.signature(serving.__call__).parameters.values()
        missing = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD} - given
        assert not missing, f"{serving.__name__} wants {missing}"


def test_arguments_of_guidance() -> None:
    qwen, flux, sdxl = diffusers.QwenImagePipeline, diffusers.FluxPipeline, diffusers.StableDiffusionXLPipeline
    assert quirks.settings_for(qwen, "generate", config(guidance=4.0)) == {"true_cfg_scale": 4.0}
    assert quirks.settings_for(flux, "generate", config(guidance=4.0)) == {"guidance_scale": 4.0}
    assert quirks.settings_for(sdxl, "generate", config(guidance=0.0, strength=0.5)) == {"guidance_scale": 0.0}
    assert quirks.prompts_for(qwen, "generate", ["x"], [None], None)["negative_prompt"] == [" "]
    assert quirks.prompts_for(qwen, "generate", ["x"], ["grey"], None)["negative_prompt"] == ["grey"]
    assert "negative_prompt" not in quirks.prompts_for(qwen, "generate", ["x"], [None], 1.0), "guidance is off"
    assert "negative_prompt" not in quirks.prompts_for(sdxl, "generate", ["x"], [None], 7.0)


def test_sources() -> None:
    omnigen, plus, sdxl = (
        diffusers.OmniGenPipeline,
        diffusers.QwenImageEditPlusPipeline,
        diffusers.StableDiffusionXLImg2ImgPipeline,
    )
    assert quirks.sources_for(omnigen, ["a", "b"], None) == {"input_images": [["a"], ["b"]]}
    assert quirks.sources_for(plus, ["a"], None) == {"image": "a"}
    assert quirks.sources_for(sdxl, ["a", "b"], ["m", "n"]) == {"image": ["a", "b"], "mask_image": ["m", "n"]}
    assert quirks.prompts_for(omnigen, "edit", ["redder"], [None])["prompt"] == ["<img><|image_1|></img> redder"]
    assert quirks.prompts_for(omnigen, "generate", ["a fox"], [None])["prompt"] == ["a fox"]


def test_a_subclass_has_its_parents_quirks() -> None:
    child = type("MyQwen", (diffusers.QwenImagePipeline,), {})
    assert quirks.quirk_of(child) is quirks.QUIRKS["QwenImagePipeline"]


def test_a_setting_without_an_argument_is_an_error() -> None:
    with pytest.raises(ConfigError, match="FluxKontextPipeline takes no strength; remove `strength`"):
        quirks.settings_for(diffusers.FluxKontextPipeline, "edit", config(strength=0.5))
