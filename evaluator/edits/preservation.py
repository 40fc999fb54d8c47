"""How much changed outside an edited region: structural similarity, and differences of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from redraft.errors import InputError
from redraft.images import fit_mask

Region = tuple[float, float, float, float]
"""(left, top, right, bottom) as fractions of width and height, as a judge's verdict has it."""

SIGMA, RADIUS = 1.5, 5
"""The Gaussian window of Wang et al. 2004: 11 x 11 pixels."""

K1, K2, WHITE = 0.01, 0.03, 255.0

NOTICEABLE = 8
"""Difference in 8-bit steps from which a channel of a pixel counts as changed: about twice what a JPEG of good quality
or a model's autoencoder does to flat areas."""


@dataclass(frozen=True)
class Preservation:
    """What became of the pixels outside a region.

    `ssim`: mean structural similarity of brightness, 1 = the same, about 0 (down to -1) = nothing in common; None if
    the whole outside lies so near the region that every window reaches into it. `difference`: mean absolute difference
    over pixels and channels, in [0, 1]. `changed`: share of pixels with a channel that is `NOTICEABLE` steps off or
    more. `share`: how much of the picture lies outside.
    """

    ssim: float | None
    difference: float
    changed: float
    share: float


def preserved_outside(
    before: Image.Image, after: Image.Image, region: Image.Image | Region | None = None
) -> Preservation | None:
    """Compares the pictures outside `region`: a mask (white = was to change), a box, or None for all of the picture.

    Pixels of a mask's soft edge, anything above 0, belong to the region. None if nothing lies outside. Raises
    InputError for pictures of different sizes, and for a mask that does not fit.
    """
    if before.size != after.size:
        raise InputError(
            f"pictures of {before.width} x {before.height} and {after.width} x {after.height} pixels cannot be "
            "compared pixel by pixel; bring them to one size first"
        )
    inside = _inside(region, before.size)
    outside = ~inside
    if not outside.any():
        return None
    one, other = (np.asarray(image.convert("RGB"), dtype=np.int16) for image in (before, after))
    gaps = np.abs(one - other)[outside]
    grey = [np.asarray(image.convert("L"), dtype=np.float64) for image in (before, after)]
    # A window that reaches into the region measures the edit, not what was to stay.
    widened = Image.fromarray(inside.astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * RADIUS + 1))
    clear = np.asarray(widened) == 0
    similarity = ssim_map(grey[0], grey[1])
    return Preservation(
        ssim=float(similarity[clear].mean()) if clear.any() else None,
        difference=float(gaps.mean()) / WHITE,
        changed=float((gaps >= NOTICEABLE).any(axis=-1).mean()),
        share=float(outside.mean()),
    )


def ssim_map(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Structural similarity at each pixel of two brightness arrays (H, W) in 0..255.

    Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment: From Error Visibility to Structural Similarity (IEEE
    TIP 13(4), 2004), eq. 13: with mu, var and cov the means, variances and covariance under a Gaussian window,

        (2 mu1 mu2 + C1) (2 cov + C2) / ((mu1^2 + mu2^2 + C1) (var1 + var2 + C2)),  C1 = (K1 L)^2, C2 = (K2 L)^2

    At the picture's edge the window sees it mirrored; the paper leaves these pixels out.
    """
    mean1, mean2 = _blur(one), _blur(other)
    # Rounding can leave the variance of a flat area a hair below 0.
    var1 = np.maximum(_blur(one * one) - mean1 * mean1, 0)
    var2 = np.maximum(_blur(other * other) - mean2 * mean2, 0)
    cov = _blur(one * other) - mean1 * mean2
    c1, c2 = (K1 * WHITE) ** 2, (K2 * WHITE) ** 2
    top = (2 * mean1 * mean2 + c1) * (2 * cov + c2)
    return np.asarray(top / ((mean1**2 + mean2**2 + c1) * (var1 + var2 + c2)), dtype=np.float64)


def _blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gaussian mean around each pixel; the edge is mirrored, its own pixels included."""
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    weights /= weights.sum()
    for _ in range(2):  # down the columns, then the same of the transpose
        padded = np.pad(values, [(RADIUS, RADIUS), (0, 0)], mode="symmetric")
        total = np.zeros_like(values)
        for start, weight in enumerate(weights):
            total += weight * padded[start : start + len(values)]
        values = total.T
    return values


def _inside(region: Image.Image | Region | None, size: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = size
    if isinstance(region, Image.Image):
        return np.asarray(fit_mask(region, size)) > 0
    inside = np.zeros((height, width), dtype=bool)
    if region is not None:
        left, top, right, bottom = region
        if not (0 <= left <= right <= 1 and 0 <= top <= bottom <= 1):
            raise InputError(f"{region} is no box: left, top, right, bottom as fractions of the picture, in order")
        rows = slice(int(np.floor(top * height)), int(np.ceil(bottom * height)))
        inside[rows, int(np.floor(left * width)) : int(np.ceil(right * width))] = True
    return inside
