"""Files that are written whole or not at all, and the paths of those that come with a package."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from redraft.errors import ConfigError, InputError

PACKAGE = "package:"

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""Flag of `os.open`: a symbolic link at the end of the path is an error (errno ELOOP), not followed."""


def package_path(name: str) -> Path:
    """The path of `package:NAME/PATH`, a file or folder that comes with an installed Python package, whether it is
    there or not. Raises ConfigError."""
    package, _, below = name.removeprefix(PACKAGE).partition("/")
    if not all(part.isidentifier() for part in package.split(".")):
        raise ConfigError(f"{name}: write package:NAME/PATH, NAME being an installed Python package")
    try:
        return Path(str(resources.files(package))) / below
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name}: the package {package!r} is not installed") from error


@contextlib.contextmanager
def open_atomically(path: Path, *, alone: bool = False) -> Iterator[BinaryIO]:
    """Opens a file to be filled, which becomes `path` when the block ends: after a crash or a loss of power there is
    the old file, the new one, or none.

    A temporary file in the same folder is flushed to the disk and renamed; it is removed if the block raises. A process
    that is killed leaves it behind. If no other process writes `path` meanwhile (`alone`), the temporary file always has
    the same name, so that the next attempt replaces it. Raises OSError.
    """
    if alone:
        part = path.with_name(f".{path.name}.part")
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | NO_LINK, 0o644)
    else:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if hasattr(os, "fchmod"):  # not on Windows before Python 3.13
                os.fchmod(file.fileno(), 0o644)  # mkstemp makes files that only their owner can read
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes `data` to `path` with `open_atomically`."""
    with open_atomically(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Flushes a folder, which holds the names of its files, so that new and renamed ones outlast a loss of power."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_links(folder: Path) -> None:
    """Raises InputError if there is a symbolic link anywhere below `folder`, which may be somebody else's: what is written
    would land where the link leads. `folder` itself may be one."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                raise InputError(f"{path} is a symbolic link, which is not followed; put what it leads to in its place")
