"""Pictures in and out of the backends: to a wanted size, onto a mask, and out of bytes that came over a wire."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace

from PIL import Image, ImageOps

from editors.backend import ImageTask, Mode
from redraft.errors import BadReply, InputError
from redraft.images import fit_mask, to_rgb

MAX_PIXELS = 64 * 1024 * 1024
"""Largest picture that is decoded (8192 x 8192)."""


def mode_of(task: ImageTask) -> Mode:
    """What a task asks for. Raises InputError for a mask, or references, without a picture that they belong to, and for
    a mask of another shape than its picture."""
    if task.source is None:
        if task.mask is not None or task.references:
            what, belongs = ("a mask", "mask belongs") if task.mask is not None else ("references", "references belong")
            raise InputError(f"a task has {what} but no source picture; give the picture that the {belongs} to")
        return "generate"
    if task.mask is None:
        return "edit"
    fit_mask(task.mask, task.source.size)
    return "inpaint"


def wanted_size(task: ImageTask, default: tuple[int, int] | None) -> tuple[int, int] | None:
    """The (width, height) a task's picture must have: as asked, else as its source, else `default`."""
    if task.size is not None:
        if min(task.size) < 1 or task.size[0] * task.size[1] > MAX_PIXELS:
            raise InputError(
                f"cannot make a picture of {task.size[0]} x {task.size[1]} pixels; the most is 8192 x 8192"
            )
        return task.size
    return task.source.size if task.source is not None else default


def fit_image(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """The picture in RGB at exactly `size`: resized if the shapes are (nearly) alike, else its middle is cut out."""
    image = image.convert("RGB")
    if size is None or image.size == size:
        return image
    ratio = (image.width * size[1]) / (image.height * size[0])
    if 0.9 < ratio < 1.1:
        return image.resize(size, Image.Resampling.LANCZOS)
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def source_and_mask(task: ImageTask, size: tuple[int, int]) -> tuple[Image.Image, Image.Image | None]:
    """A task's source in RGB and its mask in L (white = change), both at `size`."""
    assert task.source is not None
    source = task.source.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    mask = task.mask.convert("L").resize(size, Image.Resampling.BILINEAR) if task.mask is not None else None
    return source, mask


def limit_area(task: ImageTask, area: int) -> ImageTask:
    """The task with its source, and so its mask and the size that follows from it, scaled down to at most `area`
    pixels."""
    if task.source is None or task.source.width * task.source.height <= area:
        return task
    scale = (area / (task.source.width * task.source.height)) ** 0.5
    size = max(1, int(task.source.width * scale)), max(1, int(task.source.height * scale))
    source, mask = source_and_mask(task, size)
    return replace(task, source=source, mask=mask)


def restore_outside_mask(picture: Image.Image, task: ImageTask) -> Image.Image:
    """The picture inside the task's mask, the untouched source outside it.

    Models paint the whole canvas again (the VAE alone changes every pixel a little), while an inpainting task
    promises that what is not masked stays as it is.
    """
    if task.source is None:
        return picture
    source, mask = source_and_mask(task, picture.size)
    return picture if mask is None else Image.composite(picture, source, mask)


def decode_image(data: bytes, what: str) -> Image.Image:
    """The RGB picture in `data` (PNG, JPEG, WebP, …), transparency laid onto white.

    Raises BadReply if it is none, is broken, or is too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the check below is the stricter one
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadReply(f"{what}: a picture of {image.width} x {image.height} pixels is too large")
                return to_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadReply(f"{what}: this is not a picture ({type(error).__name__}, {len(data)} bytes)") from error


def png(image: Image.Image) -> bytes:
    """The picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
