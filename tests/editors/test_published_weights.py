"""What people publish loads by a profile alone: PEFT adapters, denoisers, schedulers, caches, single files, references."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from editors import pipelines
from editors.backend import ImageTask
from editors.diffusers_backend import DiffusersBackend
from redraft.errors import BackendError, ConfigError, ModelMissing
from redraft.profiles import BackendConfig, LoraConfig

Tiny = Callable[[str], Path]
CLASSES = {
    "zimage": ("transformer", diffusers.ZImageTransformer2DModel),
    "flux": ("transformer", diffusers.FluxTransformer2DModel),
    "sd3": ("transformer", diffusers.SD3Transformer2DModel),
    "qwenimage": ("transformer", diffusers.QwenImageTransformer2DModel),
    "sd": ("unet", diffusers.UNet2DConditionModel),
}
FOX = ImageTask("a fox", 1)


def config(model: Path | str, **settings: Any) -> BackendConfig:
    defaults: dict[str, Any] = {"steps": 2, "device": "cpu", "width": 32, "height": 32}
    return BackendConfig(kind="diffusers", model=str(model), **(defaults | settings))


def draw(model: Path | str, task: ImageTask = FOX, **settings: Any) -> np.ndarray:
    (picture,) = DiffusersBackend(config(model, **settings)).render([task])
    return np.asarray(picture, dtype=int)


def load(model: Path | str, **settings: Any) -> Any:
    return pipelines.load_pipeline(config(model, **settings))


def save_adapter(model: Path, family: str, place: Path, **settings: Any) -> torch.nn.Module:
    """Saves a random adapter of the denoiser in PEFT's format; gives the denoiser with the adapter merged."""
    import peft

    part, cls = CLASSES[family]
    torch.manual_seed(1)
    options: dict[str, Any] = {"r": 4, "lora_alpha": 12, "target_modules": ["to_q", "to_k", "to_v"]} | settings
    adapted = peft.get_peft_model(cls.from_pretrained(model, subfolder=part), peft.LoraConfig(**options))
    for name, parameter in adapted.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(place)
    return adapted.merge_and_unload()  # type: ignore[no-any-return, operator]


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("family", CLASSES)
def test_a_peft_adapter_draws_what_the_merged_weights_draw(
    tiny: Tiny, tmp_path: Path, family: str, rslora: bool
) -> None:
    merged = save_adapter(tiny(family), family, tmp_path, use_rslora=rslora)
    pipe = load(tiny(family), loras=[LoraConfig(path=str(tmp_path))])
    name, denoiser = pipelines.denoiser_of(pipe)
    assert name == CLASSES[family][0]
    denoiser.fuse_lora()
    wanted = dict(merged.named_parameters())
    loaded = {key.replace(".base_layer", ""): value for key, value in denoiser.named_parameters() if "lora" not in key}
    assert loaded.keys() == wanted.keys()
    for key, tensor in loaded.items():
        torch.testing.assert_close(tensor, wanted[key], atol=1e-5, rtol=1e-4)
    plain = load(tiny(family))
    before = dict(pipelines.denoiser_of(plain)[1].named_parameters())
    assert any((before[key] - wanted[key]).abs().max() > 0.01 for key in before)


def test_half_an_adapter_is_half_of_it(tiny: Tiny, tmp_path: Path) -> None:
    save_adapter(tiny("flux"), "flux", tmp_path)
    whole = draw(tiny("flux"), loras=[LoraConfig(path=str(tmp_path))])
    halves = draw(tiny("flux"), loras=[LoraConfig(path=str(tmp_path), scale=0.5)] * 2)
    assert np.abs(whole - halves).max() <= 2


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"rank_pattern": {"to_q": 2}}])
def test_adapters_that_are_more_than_low_rank_weights_are_refused(
    tiny: Tiny, tmp_path: Path, settings: dict[str, Any]
) -> None:
    save_adapter(tiny("flux"), "flux", tmp_path, **settings)
    with pytest.raises(ConfigError, match="merge"):
        load(tiny("flux"), loras=[LoraConfig(path=str(tmp_path))])


def test_an_adapter_of_another_model_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    save_adapter(tiny("sd"), "sd", tmp_path)
    with pytest.raises(BackendError, match="made for this model"):
        load(tiny("flux"), loras=[LoraConfig(path=str(tmp_path))])


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_a_denoiser_published_alone_draws_what_the_whole_draws(tiny: Tiny, tmp_path: Path, family: str) -> None:
    part, cls = CLASSES[family]
    tuned = cls.from_pretrained(tiny(family), subfolder=part)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.mul_(1.2)
    tuned.save_pretrained(tmp_path / "denoiser")
    whole = diffusers.DiffusionPipeline.from_pretrained(tiny(family), **{part: tuned})
    whole.save_pretrained(tmp_path / "whole")
    alone = draw(tiny(family), parts={part: str(tmp_path / "denoiser")})
    assert np.array_equal(alone, draw(tmp_path / "whole"))
    assert not np.array_equal(alone, draw(tiny(family)))


def test_parts_that_have_no_place_or_are_not_there(tiny: Tiny, tmp_path: Path) -> None:
    cls = diffusers.UNet2DConditionModel
    cls.from_pretrained(tiny("sd"), subfolder="unet").save_pretrained(tmp_path / "unet")
    with pytest.raises(ConfigError, match="has no unet"):
        load(tiny("flux"), parts={"unet": str(tmp_path / "unet")})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelMissing, match="parts"):
        load(tiny("sd"), parts={"unet": str(tmp_path / "empty")})


def test_a_scheduler_by_name_with_settings(tiny: Tiny) -> None:
    pipe = load(tiny("sd"), scheduler="LCMScheduler", scheduler_args={"timestep_spacing": "trailing"})
    assert type(pipe.scheduler) is diffusers.LCMScheduler
    assert pipe.scheduler.config.timestep_spacing == "trailing"
    assert pipe.scheduler.config.beta_start == load(tiny("sd")).scheduler.config.beta_start
    shifted = load(tiny("flux"), scheduler_args={"shift": 3.0})
    assert shifted.scheduler.config.shift == 3.0
    assert not np.array_equal(draw(tiny("sd")), draw(tiny("sd"), scheduler="LCMScheduler"))


@pytest.mark.parametrize("name", ["NoSuchScheduler", "StableDiffusionPipeline", "os.system", "SchedulerMixin"])
def test_what_is_no_scheduler_is_refused(tiny: Tiny, name: str) -> None:
    with pytest.raises(ConfigError, match="no scheduler of this name"):
        load(tiny("sd"), scheduler=name)


def test_settings_that_a_scheduler_lacks_are_refused(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="no setting spacing"):
        load(tiny("sd"), scheduler_args={"spacing": "trailing"})


def test_a_cache_that_reuses_nothing_changes_nothing(tiny: Tiny) -> None:
    plain = draw(tiny("flux"), steps=8)
    assert np.array_equal(plain, draw(tiny("flux"), steps=8, cache={"kind": "first_block", "threshold": 0.0}))
    pipe = load(tiny("flux"), cache={"kind": "first_block", "threshold": 0.5})
    assert pipe.transformer.is_cache_enabled


def test_caches_that_are_not_there(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="ZImageTransformer2DModel has no cache"):
        load(tiny("zimage"), cache={"kind": "first_block"})
    with pytest.raises(ConfigError, match="takes threshold"):
        load(tiny("flux"), cache={"kind": "first_block", "depth": 3})
    with pytest.raises(ValidationError, match="kind"):
        config(tiny("flux"), cache={"kind": "magic"})


def test_call_arguments_are_passed_on(tiny: Tiny) -> None:
    assert not np.array_equal(draw(tiny("sd")), draw(tiny("sd"), call={"eta": 1.0}))


@pytest.mark.parametrize(("name", "why"), [("etta", "no argument of the class"), ("generator", "set by redraft")])
def test_call_arguments_that_cannot_be_are_refused(tiny: Tiny, name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        draw(tiny("sd"), call={name: 1.0})


def test_pipelines_that_rewrite_prompts_themselves_are_kept_from_it() -> None:
    for cls, switch in [
        (diffusers.ErnieImagePipeline, "use_pe"),
        (diffusers.LongCatImagePipeline, "enable_prompt_rewrite"),
    ]:
        assert pipelines.settings_for(cls, "generate", config("x"))[switch] is False
        assert switch in pipelines.takes(cls)


def test_a_single_file_needs_a_class_and_real_weights(tiny: Tiny, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="single file"):
        load(file)
    with pytest.raises((ModelMissing, BackendError), match=r"model\.safetensors"):
        load(file, pipeline="diffusers:StableDiffusionPipeline", single_file_config=str(tiny("sd")))


def test_a_variant_of_the_weights(tiny: Tiny, tmp_path: Path) -> None:
    pipe = diffusers.DiffusionPipeline.from_pretrained(tiny("sd"))
    pipe.save_pretrained(tmp_path, variant="fp16", safe_serialization=True)
    assert np.array_equal(draw(tmp_path, variant="fp16"), draw(tiny("sd")))
    with pytest.raises(ModelMissing):
        load(tmp_path)


def test_references_reach_a_generator_that_takes_them(tiny: Tiny) -> None:
    red, blue = (Image.new("RGB", (64, 64), color) for color in ("red", "blue"))
    pictures = [draw(tiny("klein"), ImageTask("this hat", 1, references=(hat,))) for hat in (red, blue)]
    both = draw(tiny("klein"), ImageTask("this hat", 1, references=(red, blue)))
    alone = draw(tiny("klein"), ImageTask("this hat", 1))
    assert all(not np.array_equal(one, other) for one, other in [pictures, (both, alone), (pictures[0], alone)])


def test_negative_prompts_without_guidance_are_said_to_do_nothing(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    task = ImageTask("a fox", 1, negative_prompt="a wolf")
    with caplog.at_level(logging.WARNING):
        off = draw(tiny("sd"), task, guidance=1.0)
    assert "negative prompts do nothing" in caplog.text
    assert np.array_equal(off, draw(tiny("sd"), guidance=1.0))
    caplog.clear()
    on = draw(tiny("sd"), task, guidance=5.0)
    assert "negative prompts do nothing" not in caplog.text
    assert not np.array_equal(on, draw(tiny("sd"), guidance=5.0))
    assert pipelines.is_guided(diffusers.ZImagePipeline, 0.5)
    assert not pipelines.is_guided(diffusers.ZImagePipeline, 0.0)
    assert not pipelines.is_guided(diffusers.QwenImagePipeline, 1.0)
    assert not pipelines.is_guided(diffusers.StableDiffusion3Pipeline, 1.0)
    assert pipelines.is_guided(diffusers.StableDiffusion3Pipeline, None)
