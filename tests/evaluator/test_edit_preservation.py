"""Preservation outside a region, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from evaluator.edits.preservation import preserved_outside, ssim_map
from redraft.errors import InputError


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_patch(image: Image.Image, box: tuple[int, int, int, int], color: str = "red") -> Image.Image:
    changed = image.copy()
    changed.paste(color, box)
    return changed


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    return with_patch(Image.new("L", size, 0), box, "white")


def test_ssim_of_flat_pictures_by_hand() -> None:
    """Without variance only the first factor is left: (2 * 100 * 150 + C1) / (100^2 + 150^2 + C1), C1 = 6.5025."""
    one, other = np.full((20, 30), 100.0), np.full((20, 30), 150.0)
    assert ssim_map(one, other) == pytest.approx(np.full((20, 30), 30006.5025 / 32506.5025))


def test_ssim_by_the_formula_pixel_by_pixel() -> None:
    """The windowed sums written out for a few pixels away from the edge."""
    rng = np.random.default_rng(3)
    one, other = rng.uniform(0, 255, (2, 24, 25))
    found = ssim_map(one, other)
    offsets = range(-5, 6)
    window = np.array([[math.exp(-(y * y + x * x) / (2 * 1.5**2)) for x in offsets] for y in offsets])
    window /= window.sum()
    for y, x in ((5, 5), (11, 13), (18, 19)):
        a, b = (values[y - 5 : y + 6, x - 5 : x + 6] for values in (one, other))
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
        cov = (window * (a - mean_a) * (b - mean_b)).sum()
        top = (2 * mean_a * mean_b + 6.5025) * (2 * cov + 58.5225)
        assert found[y, x] == pytest.approx(
            top / ((mean_a**2 + mean_b**2 + 6.5025) * (var_a + var_b + 58.5225)), rel=1e-6
        )


def test_ssim_knows_the_same_and_the_opposite() -> None:
    values = np.random.default_rng(1).uniform(0, 255, (32, 32))
    assert ssim_map(values, values) == pytest.approx(1.0)
    assert ssim_map(values, 255 - values).mean() < -0.5


def test_the_same_picture() -> None:
    found = preserved_outside(noise(1), noise(1))
    assert found is not None
    assert (found.ssim, found.difference, found.changed, found.share) == (pytest.approx(1.0), 0.0, 0.0, 1.0)


def test_differences_by_hand() -> None:
    """One of 4 x 4 pixels goes from (0, 0, 0) to (255, 51, 0): 306 of 16 * 3 * 255."""
    before = Image.new("RGB", (4, 4))
    after = before.copy()
    after.putpixel((1, 2), (255, 51, 0))
    found = preserved_outside(before, after)
    assert found is not None
    assert (found.difference, found.changed) == (pytest.approx(306 / 12240), 1 / 16)
    after.putpixel((1, 2), (7, 7, 7))
    faint = preserved_outside(before, after)
    assert faint is not None
    assert faint.changed == 0.0
    assert faint.difference > 0


@pytest.mark.parametrize("kind", ["mask", "box", "small mask"])
def test_what_changes_inside_the_region_does_not_count(kind: str) -> None:
    before, inside = noise(1), (12, 10, 24, 20)
    after = with_patch(before, inside)
    region = {
        "mask": box_mask((48, 40), inside),
        "box": (12 / 48, 10 / 40, 24 / 48, 20 / 40),
        "small mask": box_mask((24, 20), (6, 5, 12, 10)),
    }[kind]
    found = preserved_outside(before, after, region)
    assert found is not None
    assert (found.ssim, found.difference, found.changed) == (pytest.approx(1.0), 0.0, 0.0)
    assert found.share <= 1 - 120 / 1920
    whole = preserved_outside(before, after)
    assert whole is not None
    assert whole.changed == pytest.approx(120 / 1920, rel=0.05)
    assert whole.ssim is not None
    assert whole.ssim < 0.95


def test_what_changes_outside_the_region_does() -> None:
    before = noise(1)
    region = box_mask((48, 40), (0, 0, 12, 40))
    found = preserved_outside(before, with_patch(before, (30, 10, 42, 30)), region)
    assert found is not None
    assert (found.share, found.changed) == (0.75, pytest.approx(240 / 1440, rel=0.05))
    assert found.ssim is not None
    assert found.ssim < 0.9


def test_soft_edges_belong_to_the_region() -> None:
    mask = Image.new("L", (20, 20), 0)
    mask.paste(30, (0, 0, 10, 20))
    found = preserved_outside(noise(1, (20, 20)), with_patch(noise(1, (20, 20)), (0, 0, 10, 20)), mask)
    assert found is not None
    assert (found.share, found.difference) == (0.5, 0.0)


def test_little_and_nothing_outside() -> None:
    before, after = noise(1, (20, 20)), noise(2, (20, 20))
    assert preserved_outside(before, after, Image.new("L", (20, 20), 255)) is None
    assert preserved_outside(before, after, (0.0, 0.0, 1.0, 1.0)) is None
    thin = preserved_outside(before, after, box_mask((20, 20), (2, 2, 18, 18)))
    assert thin is not None
    assert thin.ssim is None, "every window reaches into the region"
    assert thin.difference > 0.2


def test_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="48 x 40 and 20 x 20"):
        preserved_outside(noise(1), noise(1, (20, 20)))
    with pytest.raises(InputError, match="30 x 30 pixels, its picture 48 x 40"):
        preserved_outside(noise(1), noise(1), Image.new("L", (30, 30), 255))
    with pytest.raises(InputError, match="is no box"):
        preserved_outside(noise(1), noise(1), (0.5, 0.0, 0.2, 1.0))
