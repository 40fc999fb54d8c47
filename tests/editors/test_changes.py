"""Telling an edit from a picture that was handed back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from editors.changes import change_between, is_unchanged
from redraft.errors import InputError


def photo(size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Soft shapes with a little grain, as photographs have."""
    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8))


def test_by_hand() -> None:
    """16 x 16 pixels, one block of 8 x 8 goes from black to (51, 0, 0): 1/4 * 1/3 * 0.2, and 0.2 at its peak."""
    before = Image.new("RGB", (16, 16))
    after = before.copy()
    after.paste((51, 0, 0), (8, 0, 16, 8))
    change = change_between(before, after)
    assert (change.mean, change.peak) == (pytest.approx(0.2 / 12), pytest.approx(0.2))
    assert change_between(before, before).unchanged


def test_copies_are_unchanged() -> None:
    before = photo()
    again = io.BytesIO()
    before.save(again, format="JPEG", quality=85)
    noisy = np.asarray(before) + np.random.default_rng(1).normal(0, 2, np.asarray(before).shape)
    for after in (
        before.copy(),
        Image.open(again),
        before.filter(ImageFilter.GaussianBlur(0.4)),
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)),
        before.resize((320, 240)),
        before.resize((320, 240)).resize((160, 120)),
    ):
        assert is_unchanged(before, after)


def test_small_changes_are_changes() -> None:
    before = photo()
    dotted = before.copy()
    ImageDraw.Draw(dotted).ellipse((60, 60, 72, 72), fill="red")
    assert change_between(before, dotted).mean < 0.01, "no average would tell"
    assert not is_unchanged(before, dotted)
    lettered = before.copy()
    ImageDraw.Draw(lettered).text((20, 20), "SALE", fill="black")
    assert not is_unchanged(before, lettered)
    warmer = Image.fromarray((np.asarray(before) * [1.0, 0.95, 0.9]).astype(np.uint8))
    assert not is_unchanged(before, warmer), "little everywhere is much in all"


def test_inside_a_mask() -> None:
    before = photo()
    after = before.copy()
    after.paste("red", (0, 0, 40, 40))
    mask = Image.new("L", before.size, 0)
    mask.paste(255, (100, 60, 150, 110))
    assert is_unchanged(before, after, mask)
    mask.paste(255, (20, 20, 60, 60))
    assert not is_unchanged(before, after, mask)
    with pytest.raises(InputError, match="the mask has 9 x 9"):
        change_between(before, after, Image.new("L", (9, 9), 255))
    with pytest.raises(ValueError, match="marks nothing"):
        change_between(before, after, Image.new("L", before.size, 0))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (8, 8), (17, 9)])
def test_any_size(size: tuple[int, int]) -> None:
    before = Image.new("RGB", size, "navy")
    assert is_unchanged(before, before)
    assert not is_unchanged(before, Image.new("RGB", size, "white"))
    assert not is_unchanged(before, Image.new("RGB", size, "white"), Image.new("L", size, 255))
