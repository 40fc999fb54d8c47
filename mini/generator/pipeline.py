"""The mini generator: text-conditional flow matching over scene vectors, in a diffusers pipeline.

The denoiser predicts the clean scene x0 from x_t = (1 - t) x0 + t noise: class scores for the one-hot fields, whose
expectation is their x0, and numbers for the lengths. The velocity that the scheduler wants is (x_t - x0) / t.
The rasteriser is the decoder. Pictures are of cut-outs only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import BertModel, PreTrainedTokenizerFast

from mini.world import codec
from mini.world.questions import NUMBERS, plural
from mini.world.raster import draw
from mini.world.scene import COLORS, FILLS, MAX_CUTOUTS, SHAPES, SHEETS, SIZES, WORDS

MAX_WORDS = 64
ONE_HOTS = (codec.SHAPE, codec.COLOR, codec.FILL, codec.SHEET, codec.WORD)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the canonical captions' words; every other word is [UNK]."""
    words = ["[PAD]", "[UNK]", "[CLS]", ",", "of", "than", "at", "the", "word", "sheet"]
    words += ["left", "right", "top", "bottom"]
    words += ["above", "below", "inside", "larger", "smaller", *NUMBERS[1:], *SIZES, *COLORS, *FILLS, *SHEETS, *WORDS]
    words += [*SHAPES, *map(plural, SHAPES), "around", "and"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", model_max_length=MAX_WORDS
    )


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Attention of (B, N, width) on (B, M, width). In float32 even under autocast: over a handful of tokens the
    bfloat16 kernel's backward pass is several times slower on a CPU."""
    with torch.autocast(q.device.type, enabled=False):
        q_, k_, v_ = (t.float().view(*t.shape[:-1], heads, -1).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q_, k_, v_, attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2).to(q.dtype)


class Block(nn.Module):
    """Self-attention over the scene's tokens, attention to the caption's, a feed-forward part; modulated by time."""

    def __init__(self, width: int, heads: int, text_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(text_width, 2 * width)
        self.cross = nn.Linear(width, width)
        self.norm3 = nn.LayerNorm(width, elementwise_affine=False)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.modulation = nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, time: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (time + self.modulation)[:, :, None].unbind(1)
        q, k, v = self.qkv(self.norm1(x) * (1 + scale1) + shift1).chunk(3, -1)
        x = x + gate1 * self.out(attend(q, k, v, self.heads))
        k, v = self.kv(text).chunk(2, -1)
        # Several samples may share one caption: their tokens then ask it side by side.
        q = self.q(self.norm2(x)).reshape(len(text), -1, x.shape[-1])
        x = x + self.cross(attend(q, k, v, self.heads, mask)).reshape(x.shape)
        hidden = self.norm3(x) * (1 + scale2) + shift2
        out: Tensor = x + gate2 * self.down(F.gelu(self.up(hidden), approximate="tanh"))
        return out


class CutoutsTransformer(ModelMixin, ConfigMixin):
    """Denoiser of scene vectors.

    forward(sample (B, TOKENS, WIDTH), timestep (B,) in 0..1, text (C, L, text_width), text_mask (C, L) bool), where
    each caption serves B / C samples in a row, returns raw outputs (B, TOKENS, WIDTH): lengths as they are, one-hot
    fields as logits. `to_x0` makes x0 of them.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(self, width: int = 160, layers: int = 5, heads: int = 5, text_width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Linear(codec.WIDTH, width)
        self.position = nn.Parameter(torch.randn(codec.TOKENS, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(width, heads, text_width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, codec.WIDTH)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        frequencies = torch.exp(-math.log(1000.0) * torch.arange(64, device=sample.device) / 64) * 100
        angles = timestep[:, None] * frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1)).unflatten(-1, (6, -1))
        x = self.embed(sample) + self.position
        mask = text_mask[:, None, None, :]
        for block in self.blocks:
            x = block(x, time, text, mask)
        out: Tensor = self.head(self.norm(x))
        return out


def to_x0(raw: Tensor) -> Tensor:
    """Expected clean vectors (…, TOKENS, WIDTH) of raw outputs; fields that a token does not use are 0."""
    x0 = torch.zeros_like(raw)
    slots = slice(0, MAX_CUTOUTS)
    for tokens, field in (
        (slots, codec.SHAPE),
        (slots, codec.COLOR),
        (slots, codec.FILL),
        (slice(codec.SHEET_TOKEN, codec.SHEET_TOKEN + 1), codec.SHEET),
        (slice(codec.WORD_TOKEN, codec.WORD_TOKEN + 1), codec.WORD),
    ):
        x0[..., tokens, field.span] = raw[..., tokens, field.span].softmax(-1) * 2 - 1
    used = 1 - raw[..., slots, codec.SHAPE.span].softmax(-1)[..., :1]
    x0[..., slots, codec.LENGTHS] = raw[..., slots, codec.LENGTHS] * used
    # The one-hot fields of an empty slot are 0 in the data: their expectation shrinks with the odds of being used.
    for field in (codec.COLOR, codec.FILL):
        x0[..., slots, field.span] *= used
    word = raw[..., codec.WORD_TOKEN :, codec.WORD.span].softmax(-1)[..., :1]
    x0[..., codec.WORD_TOKEN :, 0:2] = raw[..., codec.WORD_TOKEN :, 0:2] * (1 - word)
    return x0


@dataclass
class CutoutsOutput(BaseOutput):
    """`images`: PIL pictures, or an array (B, H, W, 3) in 0..1, or scene vectors (B, TOKENS, WIDTH) for "latent"."""

    images: Any


class CutoutsPipeline(DiffusionPipeline):
    """Text to a picture of paper cut-outs. Understands short canonical captions (mini/world/captions.py) and little else."""

    model_cpu_offload_seq = "text_encoder->transformer"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: BertModel,
        transformer: CutoutsTransformer,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, transformer=transformer, scheduler=scheduler
        )

    def encode_prompt(self, prompt: list[str]) -> tuple[Tensor, Tensor]:
        """Text features (B, L, text_width) and mask (B, L)."""
        tokens = self.tokenizer(prompt, padding=True, truncation=True, max_length=MAX_WORDS, return_tensors="pt")
        tokens = {k: v.to(self._execution_device) for k, v in tokens.items() if k in ("input_ids", "attention_mask")}
        return self.text_encoder(**tokens).last_hidden_state, tokens["attention_mask"].bool()

    def prepare_latents(self, n: int, generator: torch.Generator | list[torch.Generator] | None) -> Tensor:
        """The noise that n pictures start from."""
        return noise(n, generator)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        height: int = 256,
        width: int = 256,
        num_inference_steps: int = 30,
        guidance_scale: float = 1.5,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
    ) -> CutoutsOutput | tuple[Any]:
        """Draws one square picture for each prompt; `guidance_scale` 1 is no guidance.

        Raises ValueError for height != width.
        """
        if height != width:
            raise ValueError(f"cut-outs lie on square sheets: height {height} is not width {width}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        n, device = len(prompts), self._execution_device
        guided = guidance_scale > 1.0
        text, mask = self.encode_prompt(prompts + [""] * n if guided else prompts)
        if latents is None:
            latents = self.prepare_latents(n, generator)
        latents = latents.to(device, text.dtype)
        sigmas = np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
        self.scheduler.set_timesteps(sigmas=sigmas, device=device)
        self._interrupt = False
        for i, timestep in enumerate(self.scheduler.timesteps):
            if self._interrupt:
                break
            sigma = self.scheduler.sigmas[i].to(latents)
            sample = torch.cat([latents, latents]) if guided else latents
            raw = self.transformer(sample, sigma.expand(len(sample)), text, mask)
            if guided:
                conditioned, free = raw.chunk(2)
                raw = free + guidance_scale * (conditioned - free)
            velocity = (latents - to_x0(raw)) / sigma
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, i, timestep, {"latents": latents}).pop("latents", latents)
        images: Any = latents
        if output_type != "latent":
            images = [draw(scene, width) for scene in codec.to_scenes(latents.float().cpu().numpy())]
            if output_type == "np":
                images = np.stack([np.asarray(image, dtype=np.float32) / 255 for image in images])
        return CutoutsOutput(images=images) if return_dict else (images,)

    @property
    def interrupt(self) -> bool:
        return self._interrupt


def noise(n: int, generator: torch.Generator | list[torch.Generator] | None) -> Tensor:
    """Noise (n, TOKENS, WIDTH), drawn on the CPU: a picture depends on its own seed alone, on any device."""
    shape = (codec.TOKENS, codec.WIDTH)
    if isinstance(generator, list):
        return torch.stack([torch.randn(shape, generator=g, device=g.device).cpu() for g in generator])
    return torch.randn((n, *shape), generator=generator)
