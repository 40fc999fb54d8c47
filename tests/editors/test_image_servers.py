"""vLLM-Omni and SGLang as generators and editors, against stubs that do with a request what their sources say.

vLLM-Omni 0.30 (entrypoints/openai/api_server.py, protocol/images.py) and SGLang 0.5.23 (multimodal_gen/.../image_api.py).
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from editors.backend import ImageTask
from editors.openai_images import OpenAIImagesBackend
from redraft.errors import ConfigError, ServerError
from redraft.profiles import BackendConfig, LoraConfig, ServerConfig

Reply = tuple[int, Any, dict[str, str]]
Server = Any


def picture(color: str = "red", size: tuple[int, int] = (64, 64)) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return {"created": 1, "data": [{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]}


class VllmOmni:
    """What a request comes to: `drawn` has the sampling parameters of each picture."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.drawn: list[dict[str, Any]] = []

    def __call__(self, path: str, fields: dict[str, Any]) -> Reply:
        edits = path.endswith("/edits")
        if fields.get("model") not in (None, self.model):
            return 400, {"detail": f"Model mismatch: the server is running {self.model!r}."}, {}
        if fields.get("response_format", "b64_json") not in ("b64_json", "file"):
            return 400, {"detail": "Only response_format 'b64_json' is supported now."}, {}
        number = json.loads if edits else (lambda value: value)
        size = fields.get("size", "auto" if edits else "1024x1024")
        drawn = {
            "size": size,
            "steps": number(fields["num_inference_steps"]) if "num_inference_steps" in fields else None,
            "seed": number(fields["seed"]) if "seed" in fields else None,
            "generator_device": fields.get("generator_device", "cuda"),
            "lora": number(fields["lora"]) if "lora" in fields else None,
            "mask": fields.get("mask_image") if edits else None,  # `mask` is not read
            "true_cfg": None,
        }
        if self.model.startswith("Qwen/Qwen-Image"):
            scale = float(fields.get("true_cfg_scale", 4.0))
            # Guidance needs a second text: without a negative prompt there is none.
            drawn["true_cfg"] = scale if scale > 1 and fields.get("negative_prompt") is not None else None
        else:
            drawn["guidance"] = float(fields["guidance_scale"]) if "guidance_scale" in fields else None
        self.drawn.append(drawn)
        width, height = (64, 64) if size == "auto" else map(int, size.split("x"))
        return 200, picture(size=(width, height)), {}


class SGLang(VllmOmni):
    """Its negative prompt is a blank by default, it reads neither mask nor `lora`, and takes any model's name."""

    def __call__(self, path: str, fields: dict[str, Any]) -> Reply:
        if fields.get("response_format", "b64_json") == "url":
            return 400, {"detail": "response_format='url' requires cloud storage to be configured."}, {}
        fields = {"negative_prompt": " ", **fields, "model": self.model}
        reply = super().__call__(path, {name: fields[name] for name in fields if name not in ("mask_image", "lora")})
        self.drawn[-1]["diffusers_kwargs"] = fields.get("diffusers_kwargs")
        return reply


def backend(server: Server, model: str, **settings: Any) -> OpenAIImagesBackend:
    served = ServerConfig(base_url=server.url, max_retries=0)
    return OpenAIImagesBackend(BackendConfig(kind="openai_images", model=model, server=served, **settings))


@pytest.mark.parametrize("stub", [VllmOmni, SGLang])
def test_qwen_image_is_guided_by_true_cfg_with_a_blank_negative_prompt(image_server: Server, stub: Any) -> None:
    image_server.reply = served = stub("Qwen/Qwen-Image")
    drawing = backend(image_server, "Qwen/Qwen-Image", guidance=4.0, steps=20, width=512, height=256)
    [drawn] = drawing.render([ImageTask("a fox", 7)])
    assert drawn.size == (512, 256)
    assert served.drawn[0].items() >= {"true_cfg": 4.0, "steps": 20, "seed": 7, "size": "512x256"}.items()


def test_guidance_of_other_models_keeps_its_name_and_no_negative_prompt_is_made_up(image_server: Server) -> None:
    image_server.reply = served = VllmOmni("black-forest-labs/FLUX.1-dev")
    backend(image_server, "black-forest-labs/FLUX.1-dev", guidance=3.5).render([ImageTask("a fox", 7)])
    assert served.drawn[0]["guidance"] == 3.5
    assert "negative_prompt" not in image_server.fields()[0]


@pytest.mark.parametrize("stub", [VllmOmni, SGLang])
def test_further_fields_are_passed_on(image_server: Server, stub: Any) -> None:
    image_server.reply = served = stub("Tongyi-MAI/Z-Image-Turbo")
    call = {"generator_device": "cpu", "diffusers_kwargs": {"max_sequence_length": 512}}
    backend(image_server, "Tongyi-MAI/Z-Image-Turbo", call=call).render([ImageTask("a fox", 7)])
    assert served.drawn[0]["generator_device"] == "cpu"
    assert image_server.fields()[0]["diffusers_kwargs"] == {"max_sequence_length": 512}


def test_an_edit_names_its_mask_as_vllm_omni_reads_it(image_server: Server) -> None:
    image_server.reply = served = VllmOmni("Qwen/Qwen-Image-Edit-2511")
    source, mask = Image.new("RGB", (64, 48), "blue"), Image.new("L", (64, 48))
    mask.paste(255, (0, 0, 32, 48))
    lora = (LoraConfig(path="owner/lora", scale=0.8),)
    editing = backend(image_server, "Qwen/Qwen-Image-Edit-2511", guidance=4.0, loras=lora)
    [edited] = editing.render([ImageTask("make it red", 3, source=source, mask=mask)])
    drawn = served.drawn[0]
    with Image.open(io.BytesIO(base64.b64decode(drawn["mask"].partition(",")[2]))) as sent:
        assert (sent.getpixel((0, 0)), sent.getpixel((63, 0))) == (255, 0)
    assert drawn["lora"] == {"name": "lora", "path": "owner/lora", "scale": 0.8}
    assert drawn["true_cfg"] == 4.0
    assert edited.getpixel((0, 0)) == (255, 0, 0)
    assert edited.getpixel((63, 0)) == (0, 0, 255)


def test_what_a_server_does_not_mask_is_put_back(image_server: Server) -> None:
    image_server.reply = SGLang("Qwen/Qwen-Image-Edit-2511")
    source, mask = Image.new("RGB", (64, 48), "blue"), Image.new("L", (64, 48))
    mask.paste(255, (0, 0, 32, 48))
    [edited] = backend(image_server, "any").render([ImageTask("make it red", 3, source=source, mask=mask)])
    assert edited.getpixel((63, 0)) == (0, 0, 255)


def test_a_server_that_knows_no_mask_image_is_asked_without(image_server: Server) -> None:
    def strict(path: str, fields: dict[str, Any]) -> Reply:
        if "mask_image" in fields:
            return 400, {"error": {"message": "Unknown parameter: 'mask_image'.", "param": "mask_image"}}, {}
        return 200, picture(), {}

    image_server.reply = strict
    task = ImageTask("x", 3, source=Image.new("RGB", (64, 64)), mask=Image.new("L", (64, 64), 255))
    backend(image_server, "gpt-image-1").render([task])
    assert [("mask_image" in fields, "mask" in fields) for fields in image_server.fields()] == [
        (True, True),
        (False, True),
    ]


def test_a_wrong_name_is_said_as_the_server_says_it(image_server: Server) -> None:
    image_server.reply = VllmOmni("Tongyi-MAI/Z-Image-Turbo")
    with pytest.raises(ServerError, match="Model mismatch"):
        backend(image_server, "z-image").render([ImageTask("a fox", 7)])


def test_two_loras_are_more_than_a_server_takes(image_server: Server) -> None:
    with pytest.raises(ConfigError, match="one LoRA"):
        backend(image_server, "m", loras=(LoraConfig(path="a"), LoraConfig(path="b")))
