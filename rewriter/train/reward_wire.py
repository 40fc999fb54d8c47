"""What goes over the wire between trainers and the reward server: JSON of the reward's own dataclasses.

    POST /score   {"samples": [Sample, ...]}    -> Scores
    POST /draw    {"wishes": [Wish, ...]}       -> {"pictures": [PNG in base64 or null, ...]}
    GET  /health                                -> {"ok": true, "waiting": samples that wait or are scored}

Errors come as {"error": what is wrong and how to mend it} with a status of 400 and above; 503 is worth another try.
"""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError
from pydantic import TypeAdapter

from redraft.images import MAX_PIXELS
from rewriter.train.reward_types import Sample, Scores, Wish

MAX_SAMPLES = 8192
"""Samples, and pictures, of one request."""
MAX_REQUEST = 64 * 2**20
MAX_REPLY = 256 * 2**20


@dataclass(frozen=True)
class ScoreRequest:
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class DrawRequest:
    wishes: tuple[Wish, ...]


@dataclass(frozen=True)
class DrawReply:
    pictures: tuple[str | None, ...]


SCORE = TypeAdapter(ScoreRequest)
SCORES = TypeAdapter(Scores)
DRAW = TypeAdapter(DrawRequest)
DRAWN = TypeAdapter(DrawReply)


def packed(image: Image.Image | None) -> str | None:
    """A picture as PNG in base64."""
    if image is None:
        return None
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def unpacked(text: str | None) -> Image.Image | None:
    """The picture in `packed` text. Raises ValueError where there is none."""
    if text is None:
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"a picture of {image.width} x {image.height} pixels")
            return image.convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"something that is no PNG picture ({error})") from error
