"""Tiny pipelines of real classes, built from config and saved as a user's model folder would be; an image server."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

torch.set_num_threads(1)


def tokenizer(max_length: int, *, bos: bool = False) -> Any:
    """Bytes as tokens: 256 of them, then <pad>, <bos>, <eos>."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)} | {"<pad>": 256, "<bos>": 257, "<eos>": 258}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if bos:
        ends = [("<bos>", 257), ("<eos>", 258)]
        inner.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=max_length,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}",
    )


def clip(kind: Any, width: int) -> Any:
    return kind(
        transformers.CLIPTextConfig(
            vocab_size=259,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=32,
            projection_dim=width,
            bos_token_id=257,
            eos_token_id=258,
            pad_token_id=256,
        )
    )


def t5(width: int) -> Any:
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=259, d_model=width, d_kv=16, d_ff=32, num_layers=1, num_heads=2)
    )


def vae(latents: int, blocks: int = 2) -> Any:
    """Each block but the first halves the sides of the picture."""
    return diffusers.AutoencoderKL(
        latent_channels=latents,
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        norm_num_groups=4,
        shift_factor=0.0,
        scaling_factor=1.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def zimage() -> Any:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=96,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=3,
        n_kv_heads=3,
        cap_feat_dim=64,
        axes_dims=[8, 12, 12],
        axes_lens=[1024, 512, 512],
    )
    # Its padding tokens and cap embedders are torch.empty until weights are loaded: random weights must be finite.
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    text = transformers.Qwen3Model(
        transformers.Qwen3Config(
            vocab_size=259,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=32,
        )
    )
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae(4),
        text_encoder=text,
        tokenizer=tokenizer(512),
        transformer=transformer,
    )


def flux(kind: Any = diffusers.FluxPipeline, blocks: int = 2) -> Any:
    return kind(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae(4, blocks),
        text_encoder=clip(transformers.CLIPTextModel, 32),
        tokenizer=tokenizer(32, bos=True),
        text_encoder_2=t5(32),
        tokenizer_2=tokenizer(64),
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 4, 8],
            guidance_embeds=True,
        ),
    )


def sd3() -> Any:
    return diffusers.StableDiffusion3Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae(16),  # its inpainting class accepts no other number,
        text_encoder=clip(transformers.CLIPTextModelWithProjection, 32),
        tokenizer=tokenizer(32, bos=True),
        text_encoder_2=clip(transformers.CLIPTextModelWithProjection, 32),
        tokenizer_2=tokenizer(32, bos=True),
        text_encoder_3=t5(64),
        tokenizer_3=tokenizer(64),
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=32,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
        ),
    )


def qwenimage() -> Any:
    text = transformers.Qwen2_5_VLForConditionalGeneration(
        transformers.Qwen2_5_VLConfig(
            text_config={
                "vocab_size": 259,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
            },
        )
    )
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=text,
        tokenizer=tokenizer(512),
        transformer=diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
    )


def klein() -> Any:
    return diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKLFlux2(
            latent_channels=4,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=4,
        ),
        # It reads layers 9, 18 and 27.
        text_encoder=transformers.Qwen3ForCausalLM(
            transformers.Qwen3Config(
                vocab_size=259,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=28,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
            )
        ),
        tokenizer=tokenizer(512),
        transformer=diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
            timestep_guidance_channels=32,
        ),
        is_distilled=True,
    )


def qwen_edit_plus() -> Any:
    """Its sources are scaled to a million pixels: a VAE of five levels, as thin as can be, keeps that bearable."""
    parts = qwenimage().components
    parts["vae"] = diffusers.AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=0,
        temperal_downsample=[False] * 4,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return toy_pipelines().BlindQwenEditPlus(**parts, processor=None)


def toy_pipelines() -> Any:
    """The module beside this one, as profiles name it."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        return importlib.import_module("toy_pipelines")
    finally:
        sys.path.pop(0)


def stable_diffusion(kind: Any = diffusers.StableDiffusionPipeline, channels: int = 4) -> Any:
    return kind(
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        vae=vae(4),
        text_encoder=clip(transformers.CLIPTextModel, 32),
        tokenizer=tokenizer(32, bos=True),
        unet=diffusers.UNet2DConditionModel(
            sample_size=16,
            in_channels=channels,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=2,
            norm_num_groups=4,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "zimage": zimage,
    "flux": flux,
    "sd3": sd3,
    "qwenimage": qwenimage,
    "sd": stable_diffusion,
    "sd_inpaint": lambda: stable_diffusion(diffusers.StableDiffusionInpaintPipeline, 9),
    "pix2pix": lambda: stable_diffusion(diffusers.StableDiffusionInstructPix2PixPipeline, 8),
    "klein": klein,
    "qwen_edit_plus": qwen_edit_plus,
    # Five blocks: this class scales every source to a million pixels first.
    "kontext": lambda: flux(diffusers.FluxKontextPipeline, 5),
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the tiny pipeline of that name, made on first use. Do not write into it."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            place = tmp_path_factory.mktemp(name) / "model"
            BUILDERS[name]().save_pretrained(place, safe_serialization=True)
            made[name] = place
        return made[name]

    return folder


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a folder of a toy pipeline, and toy_pipelines.py a module that can be imported."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def save(**config: Any) -> Path:
        from toy_pipelines import ToyModel, ToyPipeline  # type: ignore[import-not-found]

        ToyPipeline(ToyModel(**config), diffusers.FlowMatchEulerDiscreteScheduler()).save_pretrained(tmp_path / "toy")
        return tmp_path / "toy"

    return save


class ImageServer:
    """An HTTP server on this machine that answers what `reply(path, fields)` says: (status, body, headers).

    A body that is not bytes is sent as JSON. `asked` keeps (path, fields, headers) of every request.
    """

    def __init__(self) -> None:
        self.reply: Callable[[str, dict[str, Any]], tuple[int, Any, dict[str, str]]]
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(fields_of(self.headers["Content-Type"], body))

            def do_GET(self) -> None:
                self.answer({})

            def answer(self, fields: dict[str, Any]) -> None:
                with outer.lock:
                    outer.asked.append(
                        (self.path, fields, {name.lower(): value for name, value in self.headers.items()})
                    )
                    outer.at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.at_once)
                try:
                    status, content, headers = outer.reply(self.path, fields)
                finally:
                    with outer.lock:
                        outer.at_once -= 1
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                headers = {"Content-Type": "application/json", "Content-Length": str(len(data))} | headers
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client gave up waiting

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def fields(self) -> list[dict[str, Any]]:
        return [fields for _, fields, _ in self.asked]


def fields_of(kind: str, body: bytes) -> dict[str, Any]:
    if kind.startswith("application/json"):
        return dict(json.loads(body))
    parts = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body).get_payload()
    fields: dict[str, Any] = {}
    for part in parts if isinstance(parts, list) else []:
        name = part.get_param("name", header="content-disposition")
        data = part.get_payload(decode=True)
        if str(name).endswith("[]"):
            fields.setdefault(str(name), []).append(data)
        else:
            fields[str(name)] = data if part.get_filename() else data.decode()
    return fields


@pytest.fixture
def image_server() -> Iterator[ImageServer]:
    server = ImageServer()
    yield server
    server.http.shutdown()
    server.http.server_close()
