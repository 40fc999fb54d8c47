"""What the judge's vision tower learns first: what lies in each patch of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from mini.judge.model import SIDE
from mini.judge.questioning import THINGS, mess, patch_labels
from mini.world import codec, oracle
from mini.world.raster import draw
from mini.world.sampling import Rng
from mini.world.scene import COLORS, FILLS, SHEETS, WORDS, Scene

WORD_WEIGHT = 0.5


class PatchHeads(nn.Module):
    """What lies in a patch, read off its feature; thrown away after training."""

    SIZES = (THINGS, len(COLORS), len(FILLS), len(WORDS), len(SHEETS), 1, 3)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, sum(self.SIZES))

    def forward(self, features: Tensor, labels: PatchBatch) -> dict[str, Tensor]:
        """Losses of features (B, patches, width)."""
        thing, color, fill, word, sheet, middle, lengths = self.head(features).float().split(self.SIZES, -1)

        def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
            losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100, reduction="sum")
            return losses / (target >= 0).sum().clamp(min=1)

        on = labels.fill >= 0
        error = F.smooth_l1_loss(lengths, labels.lengths, reduction="none").mean(-1)
        here = labels.thing > 0
        things = F.cross_entropy(thing.flatten(0, 1), labels.thing.flatten(), reduction="none").view_as(error)
        # Bare sheet is most of a picture: averaged over all patches, shape would weigh an eighth of what colour does.
        loss = (things * here).sum() / here.sum().clamp(min=1) + 0.5 * (things * ~here).sum() / (~here).sum()
        parts = {
            "thing": loss,
            "color": cross_entropy(color, labels.color),
            "fill": cross_entropy(fill, labels.fill),
            "sheet": cross_entropy(sheet, labels.sheet[:, None].expand(-1, sheet.shape[1])) * 0.3,
            "middle": F.binary_cross_entropy_with_logits(
                middle.squeeze(-1), labels.middle, pos_weight=torch.tensor(4.0)
            ),
            "lengths": (error * on).sum() / on.sum().clamp(min=1),
        }
        if (labels.word >= 0).any():
            parts["word"] = cross_entropy(word, labels.word) * WORD_WEIGHT
        with torch.no_grad():
            parts["shape_right"] = (thing.argmax(-1) == labels.thing)[here].float().mean()
        return parts


@dataclass(frozen=True)
class PatchBatch:
    """Patch labels of a batch: (B, patches), lengths (B, patches, 3), sheet (B,)."""

    thing: Tensor
    color: Tensor
    fill: Tensor
    word: Tensor
    middle: Tensor
    lengths: Tensor
    sheet: Tensor


def patch_batch(scenes: Sequence[Scene]) -> PatchBatch:
    labels = [patch_labels(scene, SIDE) for scene in scenes]
    names = list(SHEETS)
    stacked = {
        part: torch.from_numpy(np.stack([getattr(label, part) for label in labels]))
        for part in ("thing", "color", "fill", "word", "middle", "lengths")
    }
    return PatchBatch(**stacked, sheet=torch.tensor([names.index(scene.sheet) for scene in scenes]))


def pixels(images: Sequence[Image.Image]) -> Tensor:
    """(B, 3, SIDE, SIDE) in -1..1, resized as the judge's image processor does."""
    small = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in images]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _mirrored(scene: Scene) -> Scene:
    word = None if scene.word is None else replace(scene.word, x=1 - scene.word.x)
    return Scene(scene.sheet, tuple(replace(cut, x=1 - cut.x) for cut in scene.cutouts), word)


class PictureSource:
    """Where training pictures come from: the pool, messes made of it, and the generator's own if there are any."""

    def __init__(self, rows: NDArray[np.float32], generated: NDArray[np.float32] | None, messy: float) -> None:
        self.rows, self.generated, self.messy = rows, generated, messy

    def __call__(self, rng: Rng) -> tuple[Scene, Image.Image, bool]:
        """The scene that was drawn, its picture, and whether the picture may differ from it (overlaps)."""
        if self.generated is not None and rng.random() < 0.5:
            scene = codec.from_rows(self.generated[int(rng.integers(len(self.generated)))])
            if rng.random() < 0.5:
                scene = _mirrored(scene)  # there are few of them
            if rng.random() < self.messy / 2:
                scene = mess(rng, scene)
            return scene, draw(scene), True
        scene = codec.from_rows(self.rows[int(rng.integers(len(self.rows)))])
        if rng.random() < self.messy:
            scene = mess(rng, scene)
            return scene, draw(scene), True
        return scene, draw(scene), False


class VisionWithHeads(nn.Module):
    """The vision tower with patch heads."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        model.set_attn_implementation({"vision_config": "eager"})  # on a CPU the fused kernel is slow backwards
        self.tower: CLIPVisionModel = model.model.vision_tower
        self.heads = PatchHeads(self.tower.config.hidden_size)

    def losses(self, images: Tensor, labels: PatchBatch) -> dict[str, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = self.tower(pixel_values=images).last_hidden_state[:, 1:]
            parts = self.heads(features, labels)
        return {"loss": torch.stack([v for k, v in parts.items() if k != "shape_right"]).sum(), **parts}


def pictures(rng: Rng, source: PictureSource, n: int, exact: bool) -> tuple[list[Scene], list[Scene], Tensor]:
    """Drawn scenes, the scenes as the oracle reads them off the pictures, and the pictures' pixels."""
    drawn, read, images = [], [], []
    for _ in range(n):
        scene, image, doubtful = source(rng)
        drawn.append(scene)
        read.append(oracle.read_scene(image) if doubtful and exact else scene)
        images.append(image)
    return drawn, read, pixels(images)
