"""Pictures on a store that several machines share: a bucket, say, by way of fsspec."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from PIL import Image

from redraft.errors import ConfigError, InputError, one_line
from redraft.files import write_atomically
from redraft.store import ImageStore


def open_far(url: str) -> tuple[Any, str]:
    """The file system and the path of an fsspec URL (s3://bucket/folder, gs://…, file:///…). Raises ConfigError."""
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(url)
        return filesystem, path.rstrip("/")
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(
            f"the store of pictures {url.partition('://')[0]}://… cannot be used: {one_line(error)}"
        ) from error


class MirroredStore(ImageStore):
    """A folder of images in front of such a store: what is put here goes there as well, and what is not here is brought
    from there. A picture is never changed, so neither side can be out of date."""

    def __init__(self, folder: Path, filesystem: Any, far: str) -> None:
        super().__init__(folder)
        self._filesystem = filesystem
        self._far = far

    def put(self, image: Image.Image) -> str:
        digest = super().put(image)
        self._send(digest)
        return digest

    def adopt(self, digest: str, other: ImageStore) -> None:
        super().adopt(digest, other)
        self._send(digest)

    def get(self, digest: str) -> Image.Image:
        self.bring(digest)
        return super().get(digest)

    def __contains__(self, digest: str) -> bool:
        return self.bring(digest)

    def bring(self, digest: str) -> bool:
        """Makes `path` of that hash a file here, where there is one on either side."""
        path = self.path(digest)
        if path.is_file():
            return True
        try:
            data: bytes = self._filesystem.cat_file(self._there(digest))
        except FileNotFoundError:
            return False
        except Exception as error:  # the boundary to whatever fsspec stands on
            raise InputError(f"the store of pictures failed: {one_line(error)}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise InputError(f"the picture {digest} is damaged in the store of pictures")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
        return True

    def _send(self, digest: str) -> None:
        there = self._there(digest)
        try:
            if not self._filesystem.exists(there):
                self._filesystem.makedirs(there.rpartition("/")[0], exist_ok=True)
                self._filesystem.pipe_file(there, self.path(digest).read_bytes())
        except Exception as error:  # as above
            raise InputError(f"the store of pictures failed: {one_line(error)}") from error

    def _there(self, digest: str) -> str:
        return f"{self._far}/{digest[:2]}/{digest}.png"
