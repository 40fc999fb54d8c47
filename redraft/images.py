"""Image files: opening what users hand in, with care, saving what redraft hands out, with its provenance, and the store
of images by digest."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from redraft.errors import InputError
from redraft.files import write_atomically


class UnreadableImage(InputError):  # noqa: N818
    """Bytes that are no picture of a known kind, or a damaged one."""


FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""What is opened: formats whose decoders are safe and common. No EPS (runs a program), no SVG (is no picture)."""

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000
MAX_SIDE = 16_384
"""Longest side that is taken. No model draws strips that are longer, and many tools refuse them."""

_MAX_SCANS = 100
"""Programs that write progressive JPEGs use about ten. Each scan is decoded over the whole picture."""


def open_image(
    path: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    max_side: int = MAX_SIDE,
    min_side: int = 1,
) -> Image.Image:
    """The picture in a user's file as RGB, upright (EXIF orientation applied), transparency laid onto white.

    16-bit greys keep their upper 8 bits, CMYK and palettes are converted. Sizes are checked before any pixel is
    decoded. Raises InputError for anything but a single still picture within the bounds.
    """
    bounds = _Bounds(bytes=max_bytes, pixels=max_pixels, longest=max_side, shortest=min_side)
    return to_rgb(_upright(_read(path, bounds), str(path), bounds))


def read_image(data: bytes, *, what: str = "the picture", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes the bytes of a file as `open_image` does; `what` names the picture in errors."""
    return to_rgb(_upright(data, what, _Bounds(pixels=max_pixels)))


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` as RGB, transparency laid onto white, without the file's metadata."""
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, clear)
    rgb = image.convert("RGB")
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())


def open_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """The mask in a user's file, for a picture of `size` (width, height), as L: white = change, black = keep.

    If the file has transparent pixels, they mark what to change (as in OpenAI's API); otherwise light pixels do. Greys
    stay, as soft edges. Raises InputError as `open_image` does, if the mask marks nothing, and if it does not fit
    (`fit_mask`).
    """
    what = f"the mask {path}"
    return fit_mask(_as_mask(_upright(_read(path, _Bounds()), str(path), _Bounds()), what), size, what=what)


def read_mask(data: bytes, *, what: str = "the mask", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes the bytes of a file as `open_mask` does, but leaves the mask at its own size (see `fit_mask`)."""
    return _as_mask(_upright(data, what, _Bounds(pixels=max_pixels)), what)


def _as_mask(upright: Image.Image, what: str) -> Image.Image:
    alpha = upright.convert("RGBA").getchannel("A") if upright.has_transparency_data else None
    if alpha is not None and alpha.getextrema()[0] < 255:  # type: ignore[operator]  # one band: a pair of numbers
        mask = ImageOps.invert(alpha)
    else:
        mask = to_rgb(upright).convert("L")
    if mask.getextrema()[1] < 128:  # type: ignore[operator]
        raise InputError(f"{what} marks nothing; paint white, or make transparent, what is to change")
    return mask


def fit_mask(mask: Image.Image, size: tuple[int, int], *, what: str = "the mask") -> Image.Image:
    """`mask` as L at `size`, the size of its picture. A mask of the same shape but another resolution is scaled.

    Raises InputError if the shapes differ by more than 1 % and a pixel: the mask would mark other things.
    """
    width, height = size
    # The height that the mask would have at the picture's width.
    at_width = mask.height * width / mask.width
    if abs(at_width - height) > max(1.0, 0.01 * height, width / mask.width):
        turned = " (is one of them turned on its side?)" if mask.size == (height, width) else ""
        raise InputError(
            f"{what} has {mask.width} x {mask.height} pixels, its picture {width} x {height}{turned}; "
            "give a mask of the picture's own size"
        )
    grey = mask.convert("L")
    return grey if grey.size == size else grey.resize(size, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class _Bounds:
    bytes: int = MAX_BYTES
    pixels: int = MAX_PIXELS
    longest: int = MAX_SIDE
    shortest: int = 1


def _read(path: Path, bounds: _Bounds) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError(f"{path} is a folder or a device, not an image file")
        if size > bounds.bytes:
            raise InputError(f"{path} has {size / 2**20:.1f} MiB; at most {bounds.bytes / 2**20:.1f} MiB are taken")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the image {path}: {error.strerror}") from error


def _upright(data: bytes, what: str, bounds: _Bounds) -> Image.Image:
    """The picture in a file's bytes, decoded, in 8 bits, turned as its EXIF says, in whatever mode it has."""
    if not data:
        raise InputError(f"{what} is empty")
    if len(data) > bounds.bytes:
        raise InputError(f"{what} has {len(data) / 2**20:.1f} MiB; at most {bounds.bytes / 2**20:.1f} MiB are taken")
    try:
        with warnings.catch_warnings():
            # Our own limit replaces Pillow's warning, and is also checked before decoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _require_few_scans(image, data, what)
                return _still(image, what, bounds)
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{what} is {_kind(data)}; give a picture as {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{what} has far too many pixels; at most {bounds.pixels:,} are taken") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableImage(f"{what} is damaged or cut short ({error}); save or download it again") from error


def save_png(image: Image.Image, path: Path, text: Mapping[str, str]) -> None:
    """Writes `image` as PNG, whole or not at all, with `text` in iTXt chunks: keyword to text in any language.

    A keyword has 1 to 79 printable ASCII characters, no space at its ends (PNG specification, 11.3.3). Raises
    ValueError for another, InputError if the file cannot be written.
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


def _still(image: Image.Image, what: str, bounds: _Bounds) -> Image.Image:
    width, height = image.size
    if width * height > bounds.pixels:
        raise InputError(f"{what} has {width} x {height} pixels; at most {bounds.pixels:,} in all are taken")
    if max(width, height) > bounds.longest:
        raise InputError(f"{what} has {width} x {height} pixels; at most {bounds.longest:,} on a side are taken")
    if min(width, height) < bounds.shortest:
        raise InputError(f"{what} has {width} x {height} pixels; at least {bounds.shortest} on a side are needed")
    # Phones write a second picture (a depth map, a preview) into a JPEG, which Pillow then calls MPO: the first counts.
    if image.format != "MPO" and _has_second_frame(image):
        raise InputError(f"{what} is animated or has several pages; give a single still picture")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        # Pillow clips 16-bit values at 255; we want their upper byte.
        high = 256 if upright.mode.startswith("I;16") or upright.getextrema()[1] > 255 else 1  # type: ignore[operator]
        upright = upright.convert("I").point(lambda value: value * (1 / high)).convert("L")
    return upright


def _has_second_frame(image: Image.Image) -> bool:
    """Whether there is another picture behind the first. `n_frames` would count all of them, which takes as long as a
    stranger likes."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _require_few_scans(image: Image.Image, data: bytes, what: str) -> None:
    """Raises InputError for a progressive JPEG of so many scans that each byte is paid for with a pass over all pixels."""
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > _MAX_SCANS:
        raise InputError(f"{what} is a JPEG of more than {_MAX_SCANS} scans; save it again")


def _kind(data: bytes) -> str:
    head = data[:1024].lstrip().lower()
    if b"<svg" in head:
        return "an SVG drawing, not a picture of pixels"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a picture (a download that failed?)"
    return "no picture of a known kind"


_DIGEST = re.compile(r"[0-9a-f]{64}")


class ImageStore:
    """PNG files named by the sha256 of their bytes, at `folder/ab/abcdef….png`.

    Equal pixels get equal digests (on one version of Pillow and zlib): images are stored as RGB, or RGBA if they have
    transparency, without metadata. A file is there whole or not at all, so several processes may share a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, image: Image.Image) -> str:
        """Stores `image` and returns its digest. Raises InputError if the folder cannot be written."""
        data = _canonical_png(image)
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        try:
            # A file that was cut short is written again; comparing is cheap.
            if not path.is_file() or path.read_bytes() != data:
                self._make_folder(path.parent)
                write_atomically(path, data)
        except OSError as error:
            raise InputError(
                f"cannot store an image in {self.folder}: {error.strerror}; choose a folder that can be written"
            ) from error
        return digest

    def get(self, digest: str) -> Image.Image:
        """The image of that digest, decoded. Raises InputError if it is not there or its file is damaged."""
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"there is no image {digest} in {self.folder}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise InputError(f"the image file {path} is damaged (its bytes do not match its name); delete it")
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            return image

    def is_whole(self, digest: str) -> bool:
        """Whether the image of that digest is there, byte by byte as it was stored."""
        try:
            return hashlib.sha256(self.path(digest).read_bytes()).hexdigest() == digest
        except OSError:
            return False

    def adopt(self, digest: str, other: ImageStore) -> None:
        """Takes the image of that digest over from `other`, by a hard link if the file system has them.

        Raises InputError if `other` does not have it, or the folder cannot be written.
        """
        path, source = self.path(digest), other.path(digest)
        if path.is_file():
            return
        try:
            self._make_folder(path.parent)
            try:
                os.link(source, path)
            except FileExistsError:
                return
            except OSError:
                write_atomically(path, source.read_bytes())
        except OSError as error:
            raise InputError(f"cannot take the image {digest} into {self.folder}: {error.strerror}") from error

    def remove(self, digest: str) -> None:
        """Removes the image of that digest, if it is there. Raises InputError."""
        try:
            self.path(digest).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"cannot remove {self.path(digest)}: {error.strerror}") from error

    def _make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.is_symlink():
            raise InputError(f"{folder} is a symbolic link, which is not followed; put what it leads to in its place")

    def path(self, digest: str) -> Path:
        """The path at which the image of that digest is, or would be. Raises ValueError unless it is a digest."""
        if not is_digest(digest):
            raise ValueError(f"an image digest is 64 lower-case hex digits, not {digest!r}")
        return self.folder / digest[:2] / f"{digest}.png"

    def __contains__(self, digest: str) -> bool:
        return self.path(digest).is_file()


def is_digest(text: str) -> bool:
    """Whether `text` has the form of an image's digest, 64 lower-case hex digits, so that it leads to no other file."""
    return _DIGEST.fullmatch(text) is not None


def _canonical_png(image: Image.Image) -> bytes:
    mode = "RGBA" if image.has_transparency_data else "RGB"
    plain = Image.frombytes(mode, image.size, image.convert(mode).tobytes())  # leaves metadata behind
    buffer = io.BytesIO()
    plain.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
