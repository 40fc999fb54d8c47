"""A folder of images, each under the hash of its bytes: what a run's state points to instead of holding pixels."""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path

from PIL import Image

from redraft.errors import InputError
from redraft.files import write_atomically

_HASH = re.compile(r"[0-9a-f]{64}")


class ImageStore:
    """PNG files named by the sha256 of their bytes, at `folder/ab/abcdef….png`.

    Equal pixels get equal hashes (on one version of Pillow and zlib): images are stored as RGB, or RGBA where they
    have transparency, without metadata. A file is there whole or not at all, so several processes may share a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, image: Image.Image) -> str:
        """Stores `image` and returns its hash. Raises InputError where the folder cannot be written."""
        data = _canonical_png(image)
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        try:
            # A file that something else has cut short is written again; reading is cheaper than trusting.
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, data)
        except OSError as error:
            raise InputError(
                f"cannot store an image in {self.folder}: {error.strerror}; choose a folder that can be written"
            ) from error
        return digest

    def get(self, digest: str) -> Image.Image:
        """The image of that hash, decoded. Raises InputError where it is not there or its file has been damaged."""
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

    def adopt(self, digest: str, other: ImageStore) -> None:
        """Has the image of that hash in this store as well, by a link where the file system can. Raises InputError
        where `other` does not have it, or the folder cannot be written."""
        path, source = self.path(digest), other.path(digest)
        if path.is_file():
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, path)
            except FileExistsError:
                return
            except OSError:
                write_atomically(path, source.read_bytes())
        except OSError as error:
            raise InputError(f"cannot take the image {digest} into {self.folder}: {error.strerror}") from error

    def path(self, digest: str) -> Path:
        """Where the image of that hash is, or would be. Raises ValueError for anything but 64 lower-case hex digits."""
        if not is_hash(digest):
            raise ValueError(f"an image hash is 64 lower-case hex digits, not {digest!r}")
        return self.folder / digest[:2] / f"{digest}.png"

    def __contains__(self, digest: str) -> bool:
        return self.path(digest).is_file()


def is_hash(text: str) -> bool:
    """Whether `text` is written as the hash of an image, and so leads to no other file."""
    return _HASH.fullmatch(text) is not None


def _canonical_png(image: Image.Image) -> bytes:
    mode = "RGBA" if image.has_transparency_data else "RGB"
    plain = Image.frombytes(mode, image.size, image.convert(mode).tobytes())  # leaves metadata behind
    buffer = io.BytesIO()
    plain.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
