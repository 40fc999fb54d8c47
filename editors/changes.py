"""Whether an editor did anything at all: some hand back the picture they were given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from redraft.images import fit_mask

BLOCK = 8
"""Side in pixels of the blocks that are compared. Their means hardly notice what an autoencoder or JPEG does."""

MEAN_AT = 0.01
PEAK_AT = 0.06


@dataclass(frozen=True)
class Change:
    """How much one picture differs from another, as shares of the full range: 0 is the same, 1 black against white.

    Both are of the absolute differences between the mean colours of blocks of 8 x 8 pixels, in which grain cancels out:
    `mean` over all blocks and channels, `peak` the greatest, in which a small thing that changed stands out.
    """

    mean: float
    peak: float

    @property
    def unchanged(self) -> bool:
        """True if nothing was done: little difference on the whole, and in no place much. What a trip through an
        autoencoder does stays below; a recoloured thing of a few pixels across does not."""
        return self.mean < MEAN_AT and self.peak < PEAK_AT


def change_between(before: Image.Image, after: Image.Image, mask: Image.Image | None = None) -> Change:
    """How much `after` differs from `before`, to whose size it is brought; only inside `mask` (white) if there is one.

    Raises InputError for a mask that does not fit, ValueError for one that marks nothing.
    """
    size = before.size
    first = before.convert("RGB")
    other = after.convert("RGB")
    if other.size != size:
        other = other.resize(size, Image.Resampling.LANCZOS)
    inside = np.asarray(fit_mask(mask, size)) >= 128 if mask is not None else np.ones(size[::-1], dtype=bool)
    if not inside.any():
        raise ValueError("the mask marks nothing to compare")
    gaps = np.asarray(first, dtype=np.float32) - np.asarray(other, dtype=np.float32)
    gaps[~inside] = 0
    rows, columns = (np.arange(0, side, BLOCK) for side in gaps.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(gaps, rows, axis=0), columns, axis=1)
    counts = np.add.reduceat(np.add.reduceat(inside.astype(np.float32), rows, axis=0), columns, axis=1)
    # Each block weighs as many pixels as it has. One with a pixel or two of the mask would be all peak.
    enough = counts >= min(BLOCK * BLOCK / 2, counts.max())
    peak = np.abs(sums[enough] / counts[enough][:, None]).max()
    return Change(mean=float(np.abs(sums).sum() / (3 * counts.sum())) / 255, peak=float(peak) / 255)


def is_unchanged(before: Image.Image, after: Image.Image, mask: Image.Image | None = None) -> bool:
    """True if an editor returned its source unchanged or nearly so: such an edit failed, whatever a judge says about it."""
    return change_between(before, after, mask).unchanged
