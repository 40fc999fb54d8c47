"""An edit that was drawn a little larger or beside its place is laid over the source before the two are compared."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from evaluator.criteria.edits import KEPT, Preserved, is_about_everything
from evaluator.edits.alignment import align
from evaluator.types import Case, Outcome, Reading, Shot


def scene(seed: int = 0) -> Image.Image:
    """Blotches and edges of all sizes, 240 x 200."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((200, 240, 3))
    for side in (6, 12, 25, 50):
        small = Image.fromarray(rng.integers(0, 255, (200 // side + 1, 240 // side + 1, 3), dtype=np.uint8))
        canvas += np.asarray(small.resize((240, 200), Image.Resampling.NEAREST))
    return Image.fromarray((canvas / 4).astype(np.uint8))


def moved(image: Image.Image, zoom: float = 1.0, across: float = 0.0, down: float = 0.0) -> Image.Image:
    """The picture drawn `zoom` times as large about its middle, and moved by pixels."""
    x, y = (side / 2 * (1 - 1 / zoom) for side in image.size)
    matrix = (1 / zoom, 0.0, x - across / zoom, 0.0, 1 / zoom, y - down / zoom)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def dark(image: Image.Image) -> Image.Image:
    return image.point(lambda value: round(value * 0.35))


async def read(result: Image.Image, instruction: str = "make the hat red", mask: Image.Image | None = None) -> Reading:
    [reading] = await Preserved()(Case(instruction, source=scene(), mask=mask), [Shot((result,))])
    return reading


@pytest.mark.parametrize(
    ("zoom", "across", "down"), [(1.03, 0, 0), (0.97, 0, 0), (1.0, 4, 0), (1.0, -3.5, 6), (1.02, 5, 3)]
)
def test_a_small_zoom_or_shift_is_found_and_taken_back(zoom: float, across: float, down: float) -> None:
    laid = align(scene(), moved(scene(), zoom, across, down))
    assert laid.scale == pytest.approx(zoom, abs=0.003)
    assert (laid.shift[0] * 240, laid.shift[1] * 200) == pytest.approx((across, down), abs=0.7)


@pytest.mark.parametrize("other", [scene(), dark(scene()), scene(5), Image.new("RGB", (240, 200), "grey")])
def test_pictures_that_lie_as_they_should_or_have_nothing_in_common_are_left_alone(other: Image.Image) -> None:
    assert not align(scene(), other).moved


async def test_a_right_edit_that_was_zoomed_passes_and_another_picture_does_not() -> None:
    edited = scene()
    edited.paste((200, 30, 30), (100, 60, 140, 90))
    near, far = await read(moved(edited, 1.03)), await read(scene(9))
    assert near.value is not None
    assert far.value is not None
    assert near.value > 0.9 > 0.5 > far.value
    assert "zoom 1.03" in near.reason


async def test_without_a_mask_what_was_kept_is_weighed_and_with_one_it_must_pass() -> None:
    mask = Image.new("L", (240, 200))
    mask.paste(255, (100, 60, 140, 90))
    free, bound = await read(scene(9)), await read(scene(9), mask=mask)
    assert free.verdicts == ()
    [verdict] = bound.verdicts
    assert verdict.check == KEPT
    assert not verdict.passes(0.5)


async def test_an_instruction_about_the_whole_picture_keeps_nothing_unless_a_mask_says_so() -> None:
    assert (await read(dark(scene()), "Make it night, please")).outcome is Outcome.NOT_APPLICABLE
    mask = Image.new("L", (240, 200))
    mask.paste(255, (0, 0, 240, 100))
    assert (await read(dark(scene()), "Make it night, please", mask)).outcome is Outcome.SCORED


@pytest.mark.parametrize(
    ("instruction", "whole"),
    [
        ("turn it into a pencil sketch", True),
        ("in the style of Van Gogh", True),
        ("mach daraus eine Bleistiftzeichnung", True),
        ("变成夜晚", True),
        ("make the star red", False),
        ("add a lamp to the nightstand", False),
        ("remove the painting", False),
    ],
)
def test_whether_an_instruction_is_about_everything_is_read_from_its_words(instruction: str, whole: bool) -> None:
    assert is_about_everything(instruction) is whole
