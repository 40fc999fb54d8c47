"""A folder of images, each named by the digest of its bytes. Runs keep digests in their state, never pixels."""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path

from PIL import Image

from redraft.errors import InputError
from redraft.files import write_atomically

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
                path.parent.mkdir(parents=True, exist_ok=True)
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

    def adopt(self, digest: str, other: ImageStore) -> None:
        """Takes the image of that digest over from `other`, by a hard link if the file system has them.

        Raises InputError if `other` does not have it, or the folder cannot be written.
        """
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
