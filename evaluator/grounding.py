"""The place in a picture that an instruction is about: a box from a vision-language model that can point."""

from __future__ import annotations

import math
from typing import Literal, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from redraft.chat import ChatModel, ChatRequest, Message, open_chat
from redraft.errors import BadReply
from redraft.json_replies import read_json
from redraft.profiles import GrounderConfig
from redraft.templates import fence, fill, load_template

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as fractions of width and height."""

Coordinates = Literal["thousandths", "pixels", "fractions"]
"""The numbers in which a model was trained to point."""

_UNITS = {
    "thousandths": "each from 0 to 1000, where 1000 is the picture's full width or height",
    "pixels": "in pixels; the picture is {width} wide and {height} high",
    "fractions": "each from 0 to 1, where 1 is the picture's full width or height",
}


def describe_units(coordinates: Coordinates, size: tuple[int, int]) -> str:
    """How a template describes the numbers of a box in a picture of `size`, after "left, top, right, bottom, "."""
    return _UNITS[coordinates].format(width=size[0], height=size[1])


_PATCH = 28
"""Side of what Qwen2.5-VL reads as one token, in pixels: it resizes pictures to multiples of it."""
_AREA = (56 * 56, 1280 * 28 * 28)
"""Fewest and most pixels that it reads with its released settings."""


def size_for_boxes(image: Image.Image, coordinates: Coordinates) -> Image.Image:
    """The picture in a size that a model which points in "pixels" does not resize again.

    Its boxes refer to the picture as it saw it, after a resizing of its own (to multiples of 28 pixels a side, within an
    area); a picture that has such a size already stays as it is. Other coordinates do not depend on the size.

    >>> size_for_boxes(Image.new("RGB", (1000, 500)), "pixels").size
    (1008, 504)
    """
    if coordinates != "pixels":
        return image
    least, most = _AREA
    area = image.width * image.height
    scale = (least / area) ** 0.5 if area < least else min(1.0, (most / area) ** 0.5)
    # Upwards for small pictures and downwards for large ones, so that the rounded size is within the area too.
    snap = math.ceil if scale > 1 else math.floor if scale < 1 else round
    size = tuple(max(_PATCH, snap(side * scale / _PATCH) * _PATCH) for side in image.size)
    return image if size == image.size else image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def to_fractions(box: Box, coordinates: Coordinates, size: tuple[int, int]) -> Box:
    """A box as a model gave it, in fractions of the sides. It is not clipped to the picture."""
    width, height = {"thousandths": (1000, 1000), "pixels": size, "fractions": (1, 1)}[coordinates]
    return (box[0] / width, box[1] / height, box[2] / width, box[3] / height)


def clip_box(box: Box) -> Box | None:
    """The box with its corners in order, clipped to the picture. None if nothing is left of it."""
    left, right = sorted(min(1.0, max(0.0, x)) for x in (box[0], box[2]))
    top, bottom = sorted(min(1.0, max(0.0, y)) for y in (box[1], box[3]))
    return (left, top, right, bottom) if left < right and top < bottom else None


class Grounder(Protocol):
    """Finds the place that an instruction is about. None if it concerns the whole picture, or cannot be found.

    Raises BackendError if the model cannot be reached, never for a bad reply.
    """

    @property
    def name(self) -> str: ...

    async def __call__(self, image: Image.Image, instruction: str) -> Box | None: ...


class ChatGrounder:
    """A Grounder over a chat model that sees pictures, in the coordinates that it was trained on (`config`)."""

    def __init__(self, model: ChatModel, config: GrounderConfig) -> None:
        """Raises ConfigError if the style cannot be used."""
        self._model = model
        self._config = config
        self._template = load_template("evaluator", config.style, "ground")
        fill(self._template, fenced_instruction="", units="")  # raises now rather than at the first edit

    @property
    def name(self) -> str:
        return self._model.name

    async def __call__(self, image: Image.Image, instruction: str) -> Box | None:
        image = size_for_boxes(image, self._config.coordinates)
        units = describe_units(self._config.coordinates, image.size)
        text = fill(self._template, fenced_instruction=fence(instruction, "change"), units=units)
        request = ChatRequest((Message("user", (image, text)),), max_tokens=300, schema=_Reply.model_json_schema())
        try:
            reply = read_json((await self._model(request)).text, _Reply).value
        except (BadReply, ValueError):
            return None
        if reply.box is None:
            return None
        return clip_box(to_fractions(reply.box, self._config.coordinates, image.size))


def open_grounder(config: GrounderConfig) -> Grounder:
    """Raises ConfigError as `ChatGrounder` does, and if the API key is not set."""
    return ChatGrounder(open_chat(config.model), config)


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    reason: str = Field(default="", max_length=2000)
    box: Box | None = None
