"""A disk that is full from a chosen write on, for processes that a test starts: a small library (full_disk.c) stands
between them and the system's calls, so that everything that writes is met, SQLite and LangGraph's checkpoints too."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_STATE = struct.Struct("4q")
_FOREVER = 2**62


class FullDisk:
    """A folder whose disk fills up. `environment` is for the processes that are to meet it. Linux with a C compiler."""

    def __init__(self, base: Path, folder: Path) -> None:
        library, state = base / "full_disk.so", base / "full_disk.state"
        if not library.exists():
            source = Path(__file__).with_name("full_disk.c")
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        state.write_bytes(bytes(_STATE.size))
        with state.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _STATE.size)
        self.environment = {
            "LD_PRELOAD": str(library), "FULL_DISK_STATE": str(state), "FULL_DISK_FOLDER": str(folder),
        }  # fmt: skip

    @property
    def moments(self) -> int:
        """How often something needed room on the disk so far."""
        return int(_STATE.unpack(self._map)[0])

    @property
    def failed(self) -> int:
        """How often there was none."""
        return int(_STATE.unpack(self._map)[3])

    def fill(self, after: int, moments: int = _FOREVER) -> None:
        """The next `after` moments find room, the `moments` behind them do not."""
        now, _, _, failed = _STATE.unpack(self._map)
        self._map[:] = _STATE.pack(now, now + after + 1, min(now + after + moments, _FOREVER), failed)

    def free(self) -> None:
        """There is room again."""
        now, _, _, failed = _STATE.unpack(self._map)
        self._map[:] = _STATE.pack(now, 0, 0, failed)


needs_full_disk = pytest.mark.skipif(
    shutil.which("cc") is None or not Path("/proc/self/fd").is_dir(), reason="needs Linux and a C compiler"
)
