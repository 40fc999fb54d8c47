"""Boxes from a model that points."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from evaluator.grounding import ChatGrounder, size_for_boxes
from redraft.errors import BadReply, ServerError
from redraft.profiles import GrounderConfig, ModelConfig
from redraft.testing import FakeChat, text_of

MODEL = ModelConfig(kind="transformers", model="x")
PICTURE = Image.new("RGB", (200, 100))


def grounder(reply: str | Exception, **changes: object) -> tuple[ChatGrounder, FakeChat]:
    chat = FakeChat([reply], name="pointer")
    return ChatGrounder(chat, GrounderConfig.model_validate({"model": MODEL, **changes})), chat


def boxed(*numbers: float) -> str:
    return json.dumps({"reason": "there", "box": numbers})


@pytest.mark.parametrize(
    ("coordinates", "box"),
    [("thousandths", (250, 500, 750, 1000)), ("pixels", (49, 56, 147, 112)), ("fractions", (0.25, 0.5, 0.75, 1.0))],
)
async def test_every_way_of_counting_comes_to_fractions(coordinates: str, box: tuple[float, ...]) -> None:
    point, chat = grounder(boxed(*box), coordinates=coordinates)
    assert await point(PICTURE, "the star") == (0.25, 0.5, 0.75, 1.0)
    assert "<change>\nthe star\n</change>" in text_of(chat.requests[0])


async def test_boxes_are_put_right_and_kept_inside_the_picture() -> None:
    point, _ = grounder(boxed(900, 1200, 100, -50))
    assert await point(PICTURE, "x") == (0.1, 0.0, 0.9, 1.0)


@pytest.mark.parametrize(
    "reply", ["nonsense", "{}", boxed(1, 2, 3), boxed(5, 5, 5, 9), '{"box": [1, 2, 3, NaN]}', BadReply("cut")]
)
async def test_what_is_no_box_is_no_place(reply: str | Exception) -> None:
    point, _ = grounder(reply)
    assert await point(PICTURE, "x") is None


async def test_a_server_that_is_down_is_told() -> None:
    point, _ = grounder(ServerError("down"))
    with pytest.raises(ServerError):
        await point(PICTURE, "x")


@pytest.mark.parametrize("size", [(1000, 500), (28, 28), (20, 30), (4000, 3000), (640, 480), (1003, 1001)])
def test_pictures_for_models_that_point_in_pixels_keep_their_size_in_the_model(size: tuple[int, int]) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    shown = size_for_boxes(Image.new("RGB", size), "pixels")
    for most in (1280 * 28 * 28, 12845056):
        assert smart_resize(shown.height, shown.width, 28, 56 * 56, most) == (shown.height, shown.width)
    assert shown.width / shown.height == pytest.approx(size[0] / size[1], rel=0.4 if min(size) < 56 else 0.06)
    assert size_for_boxes(Image.new("RGB", size), "thousandths").size == size
