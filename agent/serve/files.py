"""Where a server keeps the files of its clients: each client has folders of its own, and so sees no other's.

data/
    server.sqlite                 conversations, turns, events, runs (or PostgreSQL, see `agent.serve.database`)
    lock
    clients/<client>/
        conversations/<id>/            a conversation, as `redraft chat` keeps it; conversations/images/ has its pictures
        draws/<run>/              runs outside of conversations
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from PIL import Image

from agent.chat.conversation import Housing
from agent.checkpoints import Checkpoints, SqliteFiles
from agent.serve.settings import Settings
from redraft.errors import BackendError, ConfigError, InputError, one_line
from redraft.extras import require
from redraft.files import write_atomically
from redraft.store import ImageStore


def new_id() -> str:
    """A conversation's id: nobody guesses it, and a folder can have its name."""
    return f"s{secrets.token_hex(8)}"


class Places:
    """`checkpoints` are those of conversations; runs keep theirs in their own folders."""

    def __init__(self, settings: Settings) -> None:
        self._data = settings.data
        self._far = None if settings.images is None else open_far(settings.images)
        self.checkpoints: Checkpoints = SqliteFiles()

    def home(self, client: str) -> Path:
        """The client's conversations."""
        return self._data / "clients" / client / "conversations"

    def draws(self, client: str) -> Path:
        return self._data / "clients" / client / "draws"

    def store(self, client: str) -> ImageStore:
        """The client's pictures."""
        folder = self.home(client) / "images"
        if self._far is None:
            return ImageStore(folder)
        filesystem, path = self._far
        return MirroredStore(folder, filesystem, f"{path}/{client}")

    def housing(self, client: str) -> Housing:
        return Housing(
            checkpoints=self.checkpoints,
            store=self.store(client),
            threads=f"{client}/" if not isinstance(self.checkpoints, SqliteFiles) else "",
            own_files=False,
            name_branch=lambda _: new_id(),
        )


class PostgresCheckpoints:
    """Threads in PostgreSQL, over one pool. Belongs to one event loop."""

    def __init__(self, url: str) -> None:
        require("postgres", "REDRAFT_DATABASE_URL is set")
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool

        settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        self._pool = AsyncConnectionPool(url, min_size=1, max_size=16, open=False, kwargs=settings)

    async def start(self) -> None:
        """Makes the tables where there are none. Raises ConfigError where the database cannot be reached."""
        import psycopg
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg_pool import PoolTimeout

        try:
            await self._pool.open(wait=True, timeout=15)
            async with self._pool.connection() as connection:
                # Servers that start together: one makes the tables, the others wait.
                await connection.execute("SELECT pg_advisory_lock(7264662)")
                try:
                    await AsyncPostgresSaver(connection).setup()  # type: ignore[arg-type]
                finally:
                    await connection.execute("SELECT pg_advisory_unlock(7264662)")
        except (psycopg.Error, PoolTimeout) as error:
            raise ConfigError(f"cannot use the database of REDRAFT_DATABASE_URL ({type(error).__name__})") from error

    def open(self, file: Path, types: Sequence[type]) -> AbstractAsyncContextManager[BaseCheckpointSaver[Any]]:
        del file
        return self._opened(types)

    @asynccontextmanager
    async def _opened(self, types: Sequence[type]) -> AsyncIterator[BaseCheckpointSaver[Any]]:
        import psycopg
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg_pool import PoolTimeout

        serde = JsonPlusSerializer(allowed_msgpack_modules=list(types))
        try:
            yield AsyncPostgresSaver(self._pool, serde=serde)  # type: ignore[arg-type]
        except (psycopg.Error, PoolTimeout) as error:
            raise BackendError(f"the database of checkpoints failed: {type(error).__name__}") from error

    async def forget(self, thread: str) -> None:
        async with self._opened(()) as saver:
            await saver.adelete_thread(thread)

    async def close(self) -> None:
        await self._pool.close()


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
