"""Image files: those that users hand in, opened with care, and those that redraft hands out, with their provenance."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from core.errors import InputError
from core.files import write_atomically

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""What is opened: formats whose decoders are safe and common. No EPS (runs a program), no SVG (is no picture)."""

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000


def open_image(path: Path, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a user's file as RGB, upright (EXIF orientation applied), transparency laid onto white.

    16-bit greys keep their upper 8 bits, CMYK and palettes are converted. Sizes are checked before any pixel is
    decoded. Raises InputError for everything that is not one still picture within the limits.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError(f"{path} is a folder or a device, not an image file")
        if size > max_bytes:
            raise InputError(f"{path} has {size / 2**20:.1f} MiB; at most {max_bytes / 2**20:.1f} MiB are taken")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the image {path}: {error.strerror}") from error
    if not data:
        raise InputError(f"{path} is empty")
    try:
        with warnings.catch_warnings():
            # Our own limit stands in for Pillow's warning, and comes before decoding as well.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _still_rgb(image, path, max_pixels)
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is {_what(data)}; give a picture as {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has far too many pixels; at most {max_pixels:,} are taken") from error
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} is damaged or cut short ({error}); save or download it again") from error


def save_png(image: Image.Image, path: Path, text: Mapping[str, str]) -> None:
    """Writes `image` as PNG, whole or not at all, with `text` in iTXt chunks: keyword to text in any language.

    A keyword has 1 to 79 printable ASCII characters, no space at its ends (PNG specification, 11.3.3). Raises
    ValueError for another, InputError where the file cannot be written.
    """
    info = PngInfo()
    for keyword, value in text.items():
        if not (1 <= len(keyword) <= 79 and keyword.isascii() and keyword.isprintable() and keyword == keyword.strip()):
            raise ValueError(f"{keyword!r} cannot be a PNG keyword")
        # A NUL would end the text, half a surrogate pair has no UTF-8.
        clean = value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
        info.add_itxt(keyword, clean)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose a folder that can be written") from error


def read_provenance(path: Path) -> dict[str, str]:
    """The text chunks of a PNG file, by keyword; empty for a picture without any. Raises InputError."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()  # chunks may stand behind the pixels
            return {str(keyword): str(value) for keyword, value in image.text.items()}  # type: ignore[attr-defined]
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a PNG file") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        raise InputError(f"{path} is damaged or cut short ({error})") from error


def _still_rgb(image: Image.Image, path: Path, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise InputError(f"{path} has {width} x {height} pixels; at most {max_pixels:,} in all are taken")
    if getattr(image, "n_frames", 1) > 1:
        raise InputError(f"{path} is animated or has several pages; give a single still picture")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        # Pillow cuts 16 bits off at 255 where one wants the upper byte.
        high = 256 if upright.mode.startswith("I;16") or upright.getextrema()[1] > 255 else 1  # type: ignore[operator]
        upright = upright.convert("I").point(lambda value: value * (1 / high)).convert("L")
    if upright.has_transparency_data:
        clear = upright.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, clear)
    rgb = upright.convert("RGB")
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())  # without the file's metadata


def _what(data: bytes) -> str:
    head = data[:1024].lstrip().lower()
    if b"<svg" in head:
        return "an SVG drawing, not a picture of pixels"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a picture (a download that failed?)"
    return "no picture of a known kind"
