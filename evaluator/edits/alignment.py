"""Laying an edited picture over its source: editors that draw the whole picture anew shift it, and zoom in or out a little.

    laid = align(before, after)
    laid.image, laid.scale, laid.shift       # `after` in the frame of `before`; 1.03 and (-0.004, 0.0), for example
    laid.valid                               # where `after` has pixels for the frame

Shift by phase correlation (Kuglin and Hines, 1975) of gradients, so that another light or palette does not matter; the scale
is searched. A shift or zoom that does not make the edges lie better over one another is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_SCALE, MOST_SHIFT = 0.08, 0.10
"""Largest zoom and shift (as a share of the longer side) that are looked for: what editors do, not another crop."""
COARSE, FINE = 128, 384
"""Longer side, in pixels, of the pictures that are compared to find the scale, and to find it exactly."""
GAIN = 0.03
"""How much better the edges must agree for the picture to be moved at all."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Laid:
    """A picture in the frame of another. `scale`: how much larger things are in it than in the other; `shift`: how far its
    middle lies off, as shares of width and height; `agreement`: how well the edges lie over one another, in [-1, 1]."""

    image: Image.Image
    valid: Image.Image
    scale: float
    shift: tuple[float, float]
    agreement: float

    @property
    def moved(self) -> bool:
        return self.scale != 1.0 or self.shift != (0.0, 0.0)


def align(before: Image.Image, after: Image.Image) -> Laid:
    """`after`, of any size, laid over `before`. An after-picture of other proportions is stretched first."""
    after = after if after.size == before.size else after.resize(before.size, Image.Resampling.BICUBIC)
    still = Laid(after, Image.new("L", before.size, 255), 1.0, (0.0, 0.0), _agree(before, after, 1.0, (0.0, 0.0), FINE))
    steps = np.arange(-MOST_SCALE, MOST_SCALE + 1e-9, 0.01)
    scale, shift = _search(before, after, 1 + steps, COARSE)
    scale, shift = _search(before, after, scale + np.array([-0.0067, -0.0033, 0.0, 0.0033, 0.0067]), FINE)
    scale, shift = _search(before, after, scale + np.array([-0.0016, 0.0, 0.0016]), FINE)
    if abs(scale - 1) < 0.001:
        scale, shift = _search(before, after, np.array([1.0]), FINE)
    agreement = _agree(before, after, scale, shift, FINE)
    if agreement < still.agreement + GAIN or max(map(abs, shift)) > MOST_SHIFT:
        return still
    image, valid = _lay(after, scale, shift)
    return Laid(image, valid, scale, shift, agreement)


def _search(before: Image.Image, after: Image.Image, scales: Array, side: int) -> tuple[float, tuple[float, float]]:
    """The scale whose phase correlation has the highest peak, and the shift there, in shares of the sides."""
    small = _shrink(before, side)
    fixed = _edges(small)
    best = (-1.0, 1.0, (0.0, 0.0))
    for scale in scales.tolist():
        moved, _ = _lay(after.resize(small.size, Image.Resampling.BOX), scale, (0.0, 0.0))
        peak, (dx, dy) = _correlate(fixed, _edges(moved))
        # What lies by dx in the scaled picture lies by dx * scale in the picture itself.
        if peak > best[0]:
            best = (peak, scale, (dx * scale / small.width, dy * scale / small.height))
    return best[1], best[2]


def _correlate(fixed: Array, moving: Array) -> tuple[float, tuple[float, float]]:
    """The height of the peak, and how far `moving` lies to the right and below of `fixed`, in pixels."""
    product = np.fft.rfft2(moving) * np.conj(np.fft.rfft2(fixed))
    surface = np.fft.irfft2(product / np.maximum(np.abs(product), 1e-9) * np.sqrt(np.abs(product)), fixed.shape)
    height, width = surface.shape
    rows, columns = max(1, round(MOST_SHIFT * height)), max(1, round(MOST_SHIFT * width))
    near = np.full_like(surface, -np.inf)
    for down in (slice(0, rows + 1), slice(height - rows, height)):
        for across in (slice(0, columns + 1), slice(width - columns, width)):
            near[down, across] = surface[down, across]
    y, x = np.unravel_index(int(near.argmax()), near.shape)
    dy = _between(surface[(y - 1) % height, x], surface[y, x], surface[(y + 1) % height, x])
    dx = _between(surface[y, (x - 1) % width], surface[y, x], surface[y, (x + 1) % width])
    top, left = (int(y) if y <= height // 2 else int(y) - height), (int(x) if x <= width // 2 else int(x) - width)
    norm = float(np.sqrt(np.abs(product)).mean()) or 1.0
    return float(surface[y, x]) / norm, (left + dx, top + dy)


def _between(before: float, at: float, after: float) -> float:
    """Where between three samples the parabola through them has its peak, in samples from the middle one."""
    bend = before - 2 * at + after
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def _agree(before: Image.Image, after: Image.Image, scale: float, shift: tuple[float, float], side: int) -> float:
    """Correlation of the edges of `before` and of `after` laid over it, where both are."""
    small = _shrink(before, side)
    laid, valid = _lay(after.resize(small.size, Image.Resampling.BOX), scale, shift)
    both = np.asarray(valid) > 0
    one, other = _edges(small, window=False)[both], _edges(laid, window=False)[both]
    if not one.std() or not other.std():
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _lay(after: Image.Image, scale: float, shift: tuple[float, float]) -> tuple[Image.Image, Image.Image]:
    """`after` brought back by a scale about its middle and a shift, and where it has pixels."""
    width, height = after.size
    across = width / 2 * (1 - scale) + shift[0] * width
    down = height / 2 * (1 - scale) + shift[1] * height
    matrix = (scale, 0.0, across, 0.0, scale, down)
    image = after.convert("RGB").transform(after.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    valid = Image.new("L", after.size, 255).transform(
        after.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST
    )
    return image, valid


def _shrink(image: Image.Image, side: int) -> Image.Image:
    share = min(1.0, side / max(image.size))
    size = (max(8, round(image.width * share)), max(8, round(image.height * share)))
    return image.convert("RGB").resize(size, Image.Resampling.BOX)


def _edges(image: Image.Image, *, window: bool = True) -> Array:
    """The lengths of the gradients of brightness, without their mean; faded out to the border if `window`."""
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    down, across = np.gradient(grey)
    edges = np.hypot(across, down)
    edges -= edges.mean()
    if window:
        edges *= np.hanning(edges.shape[0])[:, None] * np.hanning(edges.shape[1])[None]
    return np.asarray(edges, dtype=np.float64)
