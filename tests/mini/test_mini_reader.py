"""The second reader: a description with probabilities, and answers from it alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mini.reader.answering import KINDS, Description, Thing, answer, draw_scenes
from mini.reader.data import MOST, to_labels
from mini.reader.model import GRID, Maps, SceneNet, read_maps, to_input, to_pixels
from mini.reader.train import lossy_maps, measure
from mini.world.raster import draw
from mini.world.scene import FILLS, SHEETS, CutOut, PrintedWord, Scene

SCENE = Scene(
    "mint",
    (CutOut("circle", "blue", "plain", 0.5, 0.5, 0.16), CutOut("star", "red", "striped", 0.51, 0.5, 0.06)),
    PrintedWord("TEA", 0.5, 0.1),
)


def sure(size: int, at: int) -> np.ndarray:
    return np.eye(size, dtype=np.float32)[at]


def thing(color: str, shape: str, there: float = 1.0, x: float = 0.3) -> Thing:
    return Thing(color, there, sure(len(KINDS), KINDS.index(shape)), sure(len(FILLS), 0), x=x, y=0.5, radius=0.1)


def described(*things: Thing) -> Description:
    return Description(sure(len(SHEETS), 0), things, None)


def test_what_is_in_doubt_is_answered_by_how_much() -> None:
    description = described(thing("red", "star"), thing("red", "star", there=0.5, x=0.7))
    one, two, absent, nonsense = answer(
        description,
        ["Is there exactly one star?", "Are there exactly two stars?", "Is the picture free of moons?", "Is it nice?"],
    )
    assert one == pytest.approx(0.5, abs=0.2)
    assert two == pytest.approx(0.5, abs=0.2)
    assert absent is not None
    assert absent > 0.98
    assert nonsense is None


def test_a_size_on_the_edge_between_two_is_in_doubt() -> None:
    edge = Thing("red", 1.0, sure(len(KINDS), 0), sure(len(FILLS), 0), x=0.5, y=0.5, radius=0.125, radius_off=0.004)
    [large] = answer(described(edge), ["Is the circle large?"])
    assert large is not None
    assert 0.2 < large < 0.8


def test_things_of_one_colour_that_touch_are_one_piece_and_no_longer_what_they_were() -> None:
    near, apart = (described(thing("red", "square"), thing("red", "square", x=0.3 + off)) for off in (0.19, 0.22))
    other = described(thing("red", "square"), thing("blue", "square", x=0.48))
    two = ["Are there exactly two squares?", "Is there exactly one shape?"]
    [touching, one], [separate, none] = answer(near, two), answer(apart, two)
    assert (touching or 1) < 0.2 < 0.8 < (one or 0)
    assert (none or 1) < 0.1 < 0.9 < (separate or 0)
    [covered] = answer(other, two[:1])
    assert covered is not None
    assert covered > 0.9, "another colour is another piece"


def test_the_same_description_is_always_answered_alike() -> None:
    description = described(thing("red", "star", there=0.5))
    assert draw_scenes(description) == draw_scenes(description)


def test_maps_of_a_scene_are_read_back_as_that_scene() -> None:
    labels = to_labels(SCENE)
    assert labels is not None
    raw = torch.full((1, SceneNet().head.out_channels, GRID, GRID), -9.0)
    maps = Maps.of(raw.clone())
    losses = lossy_maps(raw.requires_grad_(), labels[None])
    losses["loss"].backward()
    assert raw.grad is not None
    assert maps.middles.shape == (1, 8, GRID, GRID)
    for row in labels[:MOST][labels[:MOST, 3] >= 0]:
        x, y, _, kind, color, fill = row
        cell = (0, int(color), slice(None), int(y * GRID), int(x * GRID))
        maps.middles[0, int(color), int(y * GRID), int(x * GRID)] = 9.0
        maps.kinds[cell][int(kind)] = 9.0
        maps.fills[cell][int(fill)] = 9.0
        maps.lengths[cell] = 0.0
    read = read_maps(maps)[0].likeliest()
    assert {(cut.shape, cut.color, cut.fill) for cut in read.cutouts} == {
        ("circle", "blue", "plain"), ("star", "red", "striped")
    }  # fmt: skip


def test_a_few_steps_of_training_lower_the_loss() -> None:
    torch.manual_seed(0)
    net, pixels, labels = SceneNet(width=8), to_pixels([draw(SCENE)] * 4), to_labels(SCENE)
    assert labels is not None
    many = np.stack([labels] * 4)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        loss = lossy_maps(net(to_input(pixels)), many)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert set(measure(net, pixels, many)) >= {"seen", "kinds", "whole", "place_off", "radius_off"}
