"""Loading: what is missing, what does not fit, and what is not let in."""

from __future__ import annotations

import importlib.util
import json
import shutil
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
from editors.backend import ImageTask
from editors.diffusers_backend import DiffusersBackend
from redraft.errors import BackendError, ConfigError, ModelMissing
from redraft.profiles import BackendConfig, LoraConfig

Tiny = Callable[[str], Path]
Toys = Callable[..., Path]
ALL = {"generate", "edit", "inpaint"}


def backend(model: Path | str, **settings: Any) -> DiffusersBackend:
    defaults: dict[str, Any] = {"steps": 2, "device": "cpu", "width": 32, "height": 32}
    return DiffusersBackend(BackendConfig(kind="diffusers", model=str(model), **(defaults | settings)))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Largest difference of any channel of any pixel, in 8-bit steps."""
    return float(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


def test_a_lora_changes_the_picture_by_its_scale(tiny: Tiny, tmp_path: Path) -> None:
    lora = save_lora(tiny("zimage"), tmp_path / "style.safetensors")
    task = ImageTask("a fox", 1)
    (plain,) = backend(tiny("zimage")).render([task])
    (styled,) = backend(tiny("zimage"), loras=[LoraConfig(path=str(lora))]).render([task])
    twice = [LoraConfig(path=str(lora), scale=0.5), LoraConfig(path=str(tmp_path), weight_name=lora.name, scale=0.5)]
    (halves,) = backend(tiny("zimage"), loras=twice).render([task])
    (unused,) = backend(tiny("zimage"), loras=[LoraConfig(path=str(lora), scale=0.0)]).render([task])
    assert difference(plain, styled) > 5
    assert difference(styled, halves) <= 2
    assert difference(plain, unused) <= 2


def test_loras_that_do_not_fit(tiny: Tiny, tmp_path: Path) -> None:
    lora = save_lora(tiny("zimage"), tmp_path / "style.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    for name, path, kind, says in [
        ("flux", lora, BackendError, "was it made for this model"),
        ("zimage", tmp_path / "broken.safetensors", BackendError, "does not load"),
        ("zimage", tmp_path / "style.bin", ConfigError, "pickled"),
        ("zimage", tmp_path / "none.safetensors", ModelMissing, "no such file"),
        ("zimage", tmp_path / "empty", ModelMissing, "no .safetensors file"),
    ]:
        with pytest.raises(kind, match=says):
            backend(tiny(name), loras=[LoraConfig(path=str(path))]).load()


def test_missing_models(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="nowhere"):
        backend(tmp_path / "nowhere").load()
    with pytest.raises(ModelMissing, match=r"model_index\.json"):
        backend(tmp_path).load()
    (tmp_path / "model_index.json").write_text("{ oops")
    with pytest.raises(ModelMissing, match=r"model_index\.json"):
        backend(tmp_path).load()


def test_modes_are_known_without_weights_and_missing_weights_are_named(tiny: Tiny, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny("zimage"), model)
    (model / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    painter = backend(model)
    assert painter.modes == ALL
    with pytest.raises(ModelMissing, match=str(model)):
        painter.render([ImageTask("x", 1)])


@pytest.mark.parametrize(
    ("part", "name", "pickled"),
    [
        ("transformer", "diffusion_pytorch_model", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model", "diffusion_pytorch_model"),
        ("text_encoder", "model", "pytorch_model"),
    ],
)
def test_pickled_weights_are_refused(tiny: Tiny, tmp_path: Path, part: str, name: str, pickled: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny("zimage"), model)
    weights = model / part / f"{name}.safetensors"
    torch.save(load_file(weights), weights.with_name(f"{pickled}.bin"))
    weights.unlink()
    with pytest.raises(ModelMissing, match="only safetensors"):
        backend(model).load()


def test_incomplete_weights_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny("zimage"), model)
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["decoder.conv_out.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelMissing, match=r"vae lacks 1 tensors, such as decoder\.conv_out\.weight"):
        backend(model).load()


@pytest.mark.parametrize("way", ["model", "group"])
def test_offloading_draws_the_same(tiny: Tiny, way: Any) -> None:
    """From the CPU to the CPU, for want of another device here: it is the calls that are tested, not the saving.
    ("sequential" cannot be tested so: accelerate takes cpu:0 for another device than cpu.)"""
    config = BackendConfig(kind="diffusers", model=str(tiny("sd")), device="cpu")
    plain, offloaded = (pipelines.load_pipeline(config) for _ in range(2))
    changed = config.model_copy(update={"offload": way})
    pipelines.place_pipeline(offloaded, changed, torch.device("cpu"))
    edits = pipelines.make_sibling(offloaded, "edit", diffusers.StableDiffusionImg2ImgPipeline, changed)
    if way == "model":
        pipelines.place_pipeline(edits, changed, torch.device("cpu"))
    picture = Image.new("RGB", (32, 32), "red")

    def draw(pipe: Any, **more: Any) -> Image.Image:
        generator = torch.Generator().manual_seed(0)
        image = pipe("a fox", num_inference_steps=2, generator=generator, **more).images[0]
        assert isinstance(image, Image.Image)
        return image

    assert edits("a fox", image=picture, num_inference_steps=2).images[0].size == (32, 32)
    if way == "model":
        pipelines.place_pipeline(offloaded, changed, torch.device("cpu"))
    assert difference(draw(plain, height=32, width=32), draw(offloaded, height=32, width=32)) <= 1


def test_quantised_weights(tiny: Tiny) -> None:
    painter = backend(tiny("zimage"), quantization="int8", dtype="bfloat16")
    if importlib.util.find_spec("torchao") is None:
        with pytest.raises(ConfigError, match='quantization = "int8" needs the package torchao'):
            painter.load()
    else:
        (plain,) = backend(tiny("zimage"), dtype="bfloat16").render([ImageTask("x", 1)])
        (quantised,) = painter.render([ImageTask("x", 1)])
        assert 0 < difference(plain, quantised) < 64


def test_classes_that_diffusers_does_not_have(tiny: Tiny, tmp_path: Path) -> None:
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "PaintingPipeline", "_diffusers_version": "0.42.1"}')
    with pytest.raises(ConfigError, match=r"PaintingPipeline.*package\.module:Class"):
        backend(tmp_path).load()


def test_code_beside_the_weights_runs_only_if_the_profile_says_so(tiny: Tiny, tmp_path: Path) -> None:
    model, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny("zimage"), model)
    index = model / "model_index.json"
    plain = json.loads(index.read_text())
    index.write_text(json.dumps(plain | {"_class_name": ["mine", "MyPipeline"]}))
    (model / "mine.py").write_text(
        "import pathlib\nfrom diffusers import ZImagePipeline\n"
        f"pathlib.Path({str(ran)!r}).touch()\nclass MyPipeline(ZImagePipeline): pass\n"
    )
    with pytest.raises(ConfigError, match="trust_remote_code"):
        backend(model).load()
    assert not ran.exists()
    painter = backend(model, trust_remote_code=True)
    assert painter.modes == {"generate"}
    assert len(painter.render([ImageTask("x", 1)])) == 1
    assert ran.exists()
    ran.unlink()
    index.write_text(json.dumps(plain | {"scheduler": ["mine", "MyScheduler"]}))
    (model / "scheduler" / "mine.py").write_text((model / "mine.py").read_text())
    with pytest.raises(BackendError):
        backend(model).load()
    assert not ran.exists()


@pytest.mark.parametrize("path", ["ToyPipeline", "toy_pipelines:", ":X", "no.such.module:X", "toy_pipelines:Missing"])
def test_dotted_paths_that_lead_nowhere(toys: Toys, path: str) -> None:
    with pytest.raises(ConfigError, match="pipeline = "):
        backend(toys(), pipeline=path).load()


def test_a_dotted_path_to_something_else(toys: Toys) -> None:
    with pytest.raises(ConfigError, match="no DiffusionPipeline class named NoPipeline"):
        backend(toys(), pipeline="toy_pipelines:NoPipeline").load()


def save_lora(model: Path, place: Path) -> Path:
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model_state_dict

    transformer = diffusers.ZImageTransformer2DModel.from_pretrained(model, subfolder="transformer")
    transformer.add_adapter(PeftConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v"]))
    torch.manual_seed(1)
    for name, parameter in transformer.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    diffusers.ZImagePipeline.save_lora_weights(
        place.parent,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        weight_name=place.name,
        safe_serialization=True,
    )
    return place
