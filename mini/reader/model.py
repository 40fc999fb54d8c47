"""The network that describes a sheet: for each colour a map of the middles of cut-outs, and at each middle what lies there.

    reader = load_reader(Path("mini/weights/reader"))
    description = reader.describe(image)        # Description(sheet, things, word), each with probabilities

A small convolutional network over 128-pixel pictures, trained from nothing (`mini/reader/train.py`). Middles as peaks of maps:
Zhou, Wang, Krähenbühl: Objects as Points (2019). A map for each colour, since a small cut-out may lie in the middle of a large
one, but then has another colour.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mini.reader.answering import KINDS, Description, Thing
from mini.world.scene import COLORS, FILLS, SHEETS, WORDS

SIDE, STRIDE = 128, 4
GRID = SIDE // STRIDE
PER_COLOR = (1, len(KINDS), len(FILLS), 5)
"""Of each colour: whether a middle is here; shape; fill; offset of the middle in cells (across, down), radius, and the
logarithms of how far off place and radius are (scales of Laplace distributions, in the same units)."""
PER_WORD = (1, len(WORDS), 2)
RADIUS, RADIUS_SCALE = 0.095, 0.033
MIDDLE_AT = 0.1
"""A peak below this is no middle."""
_COLORS = tuple(COLORS)


class _Block(nn.Module):
    def __init__(self, width: int, apart: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, apart, apart), nn.GELU(), nn.Conv2d(width, width, 3, 1, apart, apart)
        )
        self.norm = nn.GroupNorm(4, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.norm(x + self.mix(x)))


class SceneNet(nn.Module):
    """Pictures (B, 3, SIDE, SIDE) in -1..1 to maps (B, channels, GRID, GRID), which `Maps` takes apart.

    Edges are seen on the fine grid, whole cut-outs and what covers them on one of half its side and twice its width.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        channels = len(COLORS) * sum(PER_COLOR) + sum(PER_WORD) + len(SHEETS)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2), nn.GELU(), nn.Conv2d(24, width, 3, 2, 1), nn.GELU(), _Block(width, 1)
        )  # fmt: skip
        self.coarse = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), *(_Block(2 * width, apart) for apart in (1, 2, 1, 2)),
            nn.Conv2d(2 * width, width, 1),
        )  # fmt: skip
        self.last = _Block(width, 1)
        self.head = nn.Conv2d(width, channels, 1)
        bias = torch.zeros(channels)
        bias[: len(COLORS)] = bias[-1 - len(SHEETS)] = -4.0  # a middle is rare
        self.head.bias = nn.Parameter(bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        out: Tensor = self.head(self.last(x + F.interpolate(self.coarse(x), scale_factor=2)))
        return out


@dataclass(frozen=True)
class Maps:
    """The network's maps by meaning: middles (B, C, G, G), kinds (B, C, K, G, G), fills, lengths (B, C, 5, G, G); of the word
    middles (B, G, G), texts (B, W, G, G), offsets (B, 2, G, G); sheets (B, S) averaged over the picture."""

    middles: Tensor
    kinds: Tensor
    fills: Tensor
    lengths: Tensor
    word_middles: Tensor
    texts: Tensor
    word_offsets: Tensor
    sheets: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> Maps:
        colors = len(COLORS)
        sizes = [*(colors * size for size in PER_COLOR), PER_WORD[1], PER_WORD[2], PER_WORD[0], len(SHEETS)]
        middles, kinds, fills, lengths, texts, offsets, words, sheets = torch.split(raw.float(), sizes, 1)
        return cls(
            middles=middles,
            kinds=kinds.reshape(len(raw), colors, -1, GRID, GRID),
            fills=fills.reshape(len(raw), colors, -1, GRID, GRID),
            lengths=lengths.reshape(len(raw), colors, -1, GRID, GRID),
            word_middles=words.squeeze(1),
            texts=texts,
            word_offsets=offsets,
            sheets=sheets.mean((2, 3)),
        )


def to_pixels(images: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """(B, SIDE, SIDE, 3)."""
    small = [
        image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
        if image.size != (SIDE, SIDE)
        else image.convert("RGB")
        for image in images
    ]
    return np.stack([np.asarray(image) for image in small])


def to_input(pixels: NDArray[np.uint8]) -> Tensor:
    """(B, 3, SIDE, SIDE) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def read_maps(maps: Maps, there: tuple[float, float] = (1.0, 0.0)) -> list[Description]:
    """One description for each picture: each peak of a map of middles (the greatest of its 3 x 3 cells) is a thing.

    `there`: slope and intercept by which the logit of a peak becomes that of a thing. The loss by which the maps are learnt
    leaves peaks too low (`mini.reader.train.fit_there`).
    """
    chances = maps.middles.sigmoid()
    peaks = (F.max_pool2d(chances, 3, 1, 1) == chances) & (chances >= MIDDLE_AT)
    kinds, fills, texts = maps.kinds.softmax(2), maps.fills.softmax(2), maps.texts.softmax(1)
    words, sheets = maps.word_middles.sigmoid(), maps.sheets.softmax(-1).numpy()
    things: list[list[Thing]] = [[] for _ in chances]
    for picture, color, down, across in peaks.nonzero().tolist():
        at = (picture, color, slice(None), down, across)
        dx, dy, size, place_off, radius_off = maps.lengths[at].tolist()
        things[picture].append(
            Thing(
                _COLORS[color],
                float((there[0] * maps.middles[picture, color, down, across] + there[1]).sigmoid()),
                kinds[at].numpy(),
                fills[at].numpy(),
                x=(across + 0.5 + dx) / GRID,
                y=(down + 0.5 + dy) / GRID,
                radius=size * RADIUS_SCALE + RADIUS,
                place_off=math.exp(place_off) / GRID,
                radius_off=math.exp(radius_off) * RADIUS_SCALE,
            )
        )
    made = []
    for picture, own in enumerate(things):
        best = int(words[picture].argmax())
        down, across = divmod(best, GRID)
        printed = float(words[picture, down, across])
        word = None
        if printed >= MIDDLE_AT:
            dx, dy = maps.word_offsets[picture, :, down, across].tolist()
            word = (
                printed,
                texts[picture, :, down, across].numpy(),
                (across + 0.5 + dx) / GRID,
                (down + 0.5 + dy) / GRID,
            )
        made.append(Description(sheets[picture], tuple(own), word))
    return made


class Reader:
    """A trained network. `describe` takes pictures of any size."""

    def __init__(self, net: SceneNet, there: tuple[float, float] = (1.0, 0.0)) -> None:
        self._net = net.eval()
        self._there = there

    @torch.no_grad()
    def describe(self, images: Sequence[Image.Image]) -> list[Description]:
        """One description for each picture, in order."""
        return read_maps(Maps.of(self._net(to_input(to_pixels(images)))), self._there)


def load_reader(folder: Path) -> Reader:
    """The reader in `folder`: model.safetensors, and training.json with what was measured after training."""
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    net = SceneNet(width=state["head.weight"].shape[1])
    net.load_state_dict({name: value.float() for name, value in state.items()})
    figures = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return Reader(net, (figures["there_slope"], figures["there_intercept"]))
