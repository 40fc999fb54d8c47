"""A pipeline class of our own, as a user's would be: outside diffusers, named in a profile by its dotted path.

It is small, keeps to the conventions, and can be made to fail: by its model's config (memory), or by its prompt.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from diffusers import (
    ConfigMixin,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    ImagePipelineOutput,
    ModelMixin,
    QwenImageEditPlusPipeline,
)
from diffusers.configuration_utils import register_to_config
from PIL import Image


class ToyModel(ModelMixin, ConfigMixin):
    """Runs out of memory on more than `at_most` pictures."""

    @register_to_config
    def __init__(self, at_most: int = 1000) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))
        self.seen: list[int] = []

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(noise))
        if len(noise) > self.config.at_most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        return noise * self.weight


class ToyPipeline(DiffusionPipeline):
    """Draws one colour from its noise. The prompt may be "nan", "crash" or "too few"."""

    model_cpu_offload_seq = "model"

    def __init__(self, model: ToyModel, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
        super().__init__()
        self.register_modules(model=model, scheduler=scheduler)

    def __call__(
        self,
        prompt: str | list[str],
        num_inference_steps: int = 4,
        generator: Any = None,
        height: int = 48,
        width: int = 48,
        output_type: str = "pil",
        callback_on_step_end: Any = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
    ) -> ImagePipelineOutput:
        latents = torch.cat([torch.rand(1, 3, generator=g) for g in generator])
        for step in range(num_inference_steps):
            latents = self.model(latents) * 2
            if "nan" in prompt:
                latents = latents * float("nan")
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, step, step, {"latents": latents}).pop("latents", latents)
        if "crash" in prompt:
            raise RuntimeError("something broke")
        colors = [tuple(int(255 * value) for value in row) for row in latents.tolist()]
        images = [Image.new("RGB", (width, height), color) for color in colors]
        return ImagePipelineOutput(images=images[1:] if "too few" in prompt else images)


class SilentPipeline(ToyPipeline):
    """Calls nothing back; draws for as long as it takes to be interrupted."""

    def __call__(self, prompt: list[str], generator: Any = None) -> ImagePipelineOutput:
        self._interrupt = False
        end = time.monotonic() + 200
        while not self._interrupt and time.monotonic() < end:
            time.sleep(0.005)
        return ImagePipelineOutput(images=[Image.new("RGB", (8, 8)) for _ in prompt])


class BlindQwenEditPlus(QwenImageEditPlusPipeline):
    """The real class but for its processor, which needs torchvision: what it reads depends on the prompt and on how
    many pictures there are, not on what they show. (Its VAE sees them.)"""

    _optional_components = ["processor"]  # noqa: RUF012 - diffusers' own attribute

    def encode_prompt(self, prompt: Any, image: Any = None, **_: Any) -> tuple[torch.Tensor, None]:
        seed = sum(map(ord, "".join(prompt))) + len(image)
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(1 if isinstance(prompt, str) else len(prompt), 8, 16, generator=generator), None


class NoPipeline:
    """Something else."""
