"""Faults that need no model: blank, copied, of another shape, blurred."""

from __future__ import annotations

import pytest
from PIL import Image, ImageFilter

from evaluator.criteria.sane import Sane, list_faults, sharpness
from evaluator.types import Case, Shot
from mini.world.raster import draw
from mini.world.scene import CutOut, Scene

STAR = draw(Scene("cream", (CutOut("star", "red", "striped", 0.5, 0.5, 0.15),)))
MOON = draw(Scene("cream", (CutOut("moon", "blue", "plain", 0.4, 0.5, 0.06),)))


@pytest.mark.parametrize(
    ("image", "source", "fault"),
    [
        (Image.new("RGB", (64, 64), "white"), None, "blank"),
        (STAR, STAR, "unchanged"),
        (STAR.resize((256, 128)), MOON, "shape"),
        (STAR.filter(ImageFilter.GaussianBlur(25)), None, "blurred"),
        (STAR, None, ""),
        (MOON, STAR, ""),
        (MOON.resize((264, 256)), STAR, ""),
    ],
)
async def test_a_plain_fault_is_named_and_worth_nothing(
    image: Image.Image, source: Image.Image | None, fault: str
) -> None:
    [reading] = await Sane()(Case("a star", source=source), [Shot((image,))])
    assert reading.value == (0.0 if fault else 1.0), reading.reason
    assert fault in reading.reason


def test_blur_lowers_sharpness() -> None:
    steps = [sharpness(STAR.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 2, 5, 10)]
    assert steps == sorted(steps, reverse=True)
    assert list_faults(STAR) == ()
