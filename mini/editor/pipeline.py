"""The mini editor: instruction-following flow matching over scene vectors, in a diffusers pipeline.

It reads the scene off the source picture's pixels with the oracle's detector (a stand-in for the image encoder of a
large editor), and denoises the scene that the instruction leads to, slot by slot beside the source's: what is not to
change is copied through a learned gate. The rasteriser is the decoder. Pictures are of cut-outs only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image
from torch import Tensor, nn
from transformers import BertModel, PreTrainedTokenizerFast

from editors.pipelines import Quirk
from mini.editor.layout import crowding, in_slot_order
from mini.generator.pipeline import ONE_HOTS, Block, CutoutsOutput, noise, to_x0
from mini.world import codec, oracle
from mini.world.raster import draw
from mini.world.scene import MAX_CUTOUTS, WORDS, Scene

LAYOUTS = 8
"""Scenes that are denoised for each picture, of which the least crowded is drawn."""
MAX_PIECES = 96
"""Longest instruction, in pieces of words; what is longer is cut off."""
WHOLE_SHEET = 0.9
"""A mask that covers less than this share of the picture leaves the sheet's colour alone."""


class CutoutsEditTransformer(ModelMixin, ConfigMixin):
    """Denoiser of edited scene vectors.

    forward(sample (B, TOKENS, WIDTH), timestep (B,) in 0..1, source (B, TOKENS, WIDTH), text (C, L, text_width),
    text_mask (C, L) bool), where each instruction serves B / C samples in a row, returns raw outputs
    (B, TOKENS, WIDTH): lengths as they are, one-hot fields as logits, as `mini.generator.pipeline.to_x0` takes them.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(self, width: int = 160, layers: int = 5, heads: int = 5, text_width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Linear(codec.WIDTH, width)
        self.embed_source = nn.Linear(codec.WIDTH, width)
        self.position = nn.Parameter(torch.randn(codec.TOKENS, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(width, heads, text_width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, codec.WIDTH)
        self.gate = nn.Linear(width, len(ONE_HOTS) + 1)
        # To begin with, everything is copied.
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, 2.0)

    def forward(self, sample: Tensor, timestep: Tensor, source: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        frequencies = torch.exp(-math.log(1000.0) * torch.arange(64, device=sample.device) / 64) * 100
        angles = timestep[:, None] * frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1)).unflatten(-1, (6, -1))
        x = self.embed(sample) + self.embed_source(source) + self.position
        mask = text_mask[:, None, None, :]
        for block in self.blocks:
            x = block(x, time, text, mask)
        x = self.norm(x)
        new, gates = self.head(x), self.gate(x)
        copy = torch.zeros_like(new)
        for i, field in enumerate(ONE_HOTS):
            copy[..., field.span] = F.softplus(gates[..., i : i + 1])
        out: Tensor = new + copy * source
        # Lengths: the source's, and as much of the change as the last gate lets through.
        changed = source[..., codec.LENGTHS] + torch.sigmoid(-gates[..., -1:]) * new[..., codec.LENGTHS]
        return torch.cat([changed, out[..., codec.LENGTHS.stop :]], -1)


def read_source(image: Image.Image) -> Scene:
    """The scene of a picture as the editor takes it: in slot order, each patch as its likeliest shape, the six largest
    patches if there are more, and no word if it cannot be read."""
    scene = oracle.read_scene(image, min_match=0.0)
    largest = sorted(scene.cutouts, key=lambda cut: -cut.radius)[:MAX_CUTOUTS]
    word = scene.word if scene.word is not None and scene.word.text in WORDS else None
    return in_slot_order(replace(scene, cutouts=tuple(largest), word=word))


def _frozen(scene: Scene, mask: Image.Image) -> tuple[list[bool], tuple[float, float, float, float]]:
    """Which tokens a mask (white = may change) leaves alone, and the box (left, top, right, bottom) of what is white,
    as fractions of the sides."""
    white = np.asarray(mask.convert("L").resize((oracle.SIDE, oracle.SIDE))) > 127

    def outside(x: float, y: float) -> bool:
        row, column = (min(max(int(v * oracle.SIDE), 0), oracle.SIDE - 1) for v in (y, x))
        return not white[row, column]

    frozen = [outside(cut.x, cut.y) for cut in scene.cutouts]
    frozen += [False] * (MAX_CUTOUTS - len(frozen))
    frozen += [bool(white.mean() < WHOLE_SHEET), scene.word is not None and outside(scene.word.x, scene.word.y)]
    if not white.any():
        return [True] * codec.TOKENS, (0.0, 0.0, 1.0, 1.0)
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / oracle.SIDE
    return frozen, (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


class _Masks:
    """Keeps scene vectors (B * each, TOKENS, WIDTH) to what B masks allow: tokens outside stay, others stay inside."""

    def __init__(self, scenes: Sequence[Scene], masks: Sequence[Image.Image], source: Tensor, each: int) -> None:
        found = [_frozen(scene, mask) for scene, mask in zip(scenes, masks, strict=True)]
        self.source = source.repeat_interleave(each, 0)
        self.frozen = torch.tensor([frozen for frozen, _ in found], device=source.device).repeat_interleave(each, 0)
        corners = (np.array([box for _, box in found]).reshape(-1, 2, 2) - codec.OFFSET[:2]) / codec.SCALE[:2]
        self.low, self.high = torch.from_numpy(corners).to(source)[:, None].repeat_interleave(each, 0).unbind(2)

    def __call__(self, x0: Tensor) -> Tensor:
        x0 = x0.clone()
        # Fields of unused tokens are 0 already, and mean nothing.
        x0[..., :2] = torch.where(x0[..., :2] == 0, x0[..., :2], x0[..., :2].clamp(self.low, self.high))
        return torch.where(self.frozen[..., None], self.source, x0)


class CutoutsEditPipeline(DiffusionPipeline):
    """A picture of paper cut-outs and an instruction to an edited picture."""

    model_cpu_offload_seq = "text_encoder->transformer"
    quirk = Quirk(sources="each", mask_optional=True, most_ratio=1)

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        text_encoder: BertModel,
        transformer: CutoutsEditTransformer,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, transformer=transformer, scheduler=scheduler
        )

    def encode_prompt(self, prompt: list[str]) -> tuple[Tensor, Tensor]:
        """Text features (B, L, text_width) and mask (B, L)."""
        tokens = self.tokenizer(prompt, padding=True, truncation=True, max_length=MAX_PIECES, return_tensors="pt")
        tokens = {k: v.to(self._execution_device) for k, v in tokens.items() if k in ("input_ids", "attention_mask")}
        return self.text_encoder(**tokens).last_hidden_state, tokens["attention_mask"].bool()

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        image: Image.Image | list[Image.Image],
        mask_image: Image.Image | list[Image.Image] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 16,
        guidance_scale: float = 1.0,
        layouts: int = LAYOUTS,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
    ) -> CutoutsOutput | tuple[Any]:
        """Draws one square picture for each instruction and its source; sizes left out are the source's.

        `mask_image`: white where the picture may change. Cut-outs whose middle is outside stay, the sheet stays unless
        nearly all is white, and what moves or is added comes to lie inside. `guidance_scale` 1 is no guidance.
        `layouts`: scenes that are denoised at once for each picture, of which the least crowded is drawn: a single one
        often puts what is added or moved on top of something. `latents` (N * layouts, TOKENS, WIDTH) come in this
        order: all layouts of the first picture, then those of the second. Raises ValueError for pictures that are not
        square, and for other numbers of pictures or masks than of prompts.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        images = [image] if isinstance(image, Image.Image) else list(image)
        masks = [mask_image] if isinstance(mask_image, Image.Image) else mask_image
        n, device = len(prompts), self._execution_device
        if len(images) != n or (masks is not None and len(masks) != n):
            raise ValueError(f"{n} instructions go with {n} source pictures, and as many masks or none")
        if layouts < 1:
            raise ValueError(f"layouts must be at least 1, not {layouts}")
        sizes = [(width or each.width, height or each.height) for each in images]
        for wide, high in sizes:
            if wide != high:
                raise ValueError(f"cut-outs lie on square sheets: {wide} x {high} pixels are not square")
        guided = guidance_scale > 1.0
        text, text_mask = self.encode_prompt(prompts + [""] * n if guided else prompts)
        scenes = [read_source(each) for each in images]
        rows = np.stack([codec.to_rows(scene) for scene in scenes])
        source = torch.from_numpy(codec.to_vectors(rows)).to(device, text.dtype)
        keep = _Masks(scenes, masks, source, layouts) if masks is not None else None
        source = source.repeat_interleave(layouts, 0)
        if latents is None:
            # Of one picture after the other, so that each depends on its own generator alone.
            each = generator if isinstance(generator, list) else [generator] * n
            latents = torch.cat([noise(layouts, one) for one in each])
        latents = latents.to(device, text.dtype)
        sigmas = np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
        self.scheduler.set_timesteps(sigmas=sigmas, device=device)
        self._interrupt = False
        for i, timestep in enumerate(self.scheduler.timesteps):
            if self._interrupt:
                break
            sigma = self.scheduler.sigmas[i].to(latents)
            sample, sources = (torch.cat([latents] * 2), torch.cat([source] * 2)) if guided else (latents, source)
            raw = self.transformer(sample, sigma.expand(len(sample)), sources, text, text_mask)
            if guided:
                guided_raw, free = raw.chunk(2)
                raw = free + guidance_scale * (guided_raw - free)
                # A length that is led too far is a cut-out in the wrong place.
                raw[..., codec.LENGTHS] = guided_raw[..., codec.LENGTHS]
            x0 = to_x0(raw) if keep is None else keep(to_x0(raw))
            velocity = (latents - x0) / sigma
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, i, timestep, {"latents": latents}).pop("latents", latents)
        edited: Any = latents
        if output_type != "latent":
            after = codec.to_scenes(latents.float().cpu().numpy())
            best = [min(after[i : i + layouts], key=crowding) for i in range(0, len(after), layouts)]
            edited = [draw(scene, wide) for scene, (wide, _) in zip(best, sizes, strict=True)]
            if output_type == "np":
                edited = np.stack([np.asarray(each, dtype=np.float32) / 255 for each in edited])
        return CutoutsOutput(images=edited) if return_dict else (edited,)

    @property
    def interrupt(self) -> bool:
        return self._interrupt
