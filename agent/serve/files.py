"""Where a server keeps the files of its clients: each client has its own folders, and cannot see another's.

    data/
        server.sqlite                 conversations, turns, events, runs (or PostgreSQL, see `agent.serve.database`)
        lock
        clients/<client>/
            conversations/<id>/       the runs of a conversation's turns; conversations/images/ has its pictures
            draws/<run>/              runs outside of conversations

Pictures may also lie on a store that several machines share: a bucket, for example, through fsspec.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from agent.serve.settings import ServerSettings
from redraft.errors import ConfigError, InputError, one_line
from redraft.files import write_atomically
from redraft.images import ImageStore


def new_id() -> str:
    """A conversation's id: nobody can guess it, and a folder can have its name."""
    return f"c{secrets.token_hex(8)}"


class ClientFiles:
    """The folders and pictures of clients. Raises ConfigError if the shared store cannot be used."""

    def __init__(self, settings: ServerSettings) -> None:
        self._data = settings.data
        self._shelves: dict[str, asyncio.Lock] = {}
        self._shared = None if settings.images is None else open_shared(settings.images)

    def home(self, client: str) -> Path:
        """The client's conversations."""
        return self._data / "clients" / client / "conversations"

    def draws(self, client: str) -> Path:
        return self._data / "clients" / client / "draws"

    def store(self, client: str) -> ImageStore:
        """The client's pictures."""
        folder = self.home(client) / "images"
        if self._shared is None:
            return ImageStore(folder)
        filesystem, path = self._shared
        return SharedImageStore(folder, filesystem, f"{path}/{client}")

    def shelf(self, client: str) -> asyncio.Lock:
        """Held while a picture is looked for and then named in a record, and while pictures are removed."""
        return self._shelves.setdefault(client, asyncio.Lock())

    def remove(self, client: str, images: Iterable[str], folders: Sequence[str]) -> None:
        """Removes pictures from the client's store, except those that one of its runs has; `folders` are the runs'."""
        store = self.store(client)
        runs = [ImageStore(self._data / folder / "state" / "images") for folder in folders]
        for digest in images:
            if not any(digest in run for run in runs):
                store.remove(digest)


def open_shared(url: str) -> tuple[Any, str]:
    """The file system and the path of an fsspec URL (s3://bucket/folder, gs://…, file:///…). Raises ConfigError."""
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(url)
        return filesystem, path.rstrip("/")
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(
            f"the store of pictures {url.partition('://')[0]}://… cannot be used: {one_line(error)}"
        ) from error


class SharedImageStore(ImageStore):
    """A folder of images in front of a shared store: what is put here goes there as well, and what is not here is
    fetched from there. A picture is never changed, so neither side can be out of date."""

    def __init__(self, folder: Path, filesystem: Any, shared: str) -> None:
        super().__init__(folder)
        self._filesystem = filesystem
        self._shared = shared

    def put(self, image: Image.Image) -> str:
        digest = super().put(image)
        self._send(digest)
        return digest

    def adopt(self, digest: str, other: ImageStore) -> None:
        super().adopt(digest, other)
        self._send(digest)

    def remove(self, digest: str) -> None:
        super().remove(digest)
        try:
            self._filesystem.rm_file(self._remote_path(digest))
        except FileNotFoundError:
            return
        except Exception as error:  # the boundary to whatever fsspec stands on
            raise InputError(f"the store of pictures failed: {one_line(error)}") from error

    def get(self, digest: str) -> Image.Image:
        self.fetch(digest)
        return super().get(digest)

    def __contains__(self, digest: str) -> bool:
        return self.fetch(digest)

    def fetch(self, digest: str) -> bool:
        """Makes `path` of that hash a file here. False if neither side has it."""
        path = self.path(digest)
        if path.is_file():
            return True
        try:
            data: bytes = self._filesystem.cat_file(self._remote_path(digest))
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
        path = self._remote_path(digest)
        try:
            if not self._filesystem.exists(path):
                self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._filesystem.pipe_file(path, self.path(digest).read_bytes())
        except Exception as error:  # as above
            raise InputError(f"the store of pictures failed: {one_line(error)}") from error

    def _remote_path(self, digest: str) -> str:
        return f"{self._shared}/{digest[:2]}/{digest}.png"
