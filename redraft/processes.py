"""Python processes of ours that run nothing of the current folder, which may be anybody's."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def isolated_command(code: str) -> list[str]:
    """The command that runs `code`, in which modules of this process's path can be imported, but none of the current
    folder."""
    start = f"import json, sys; sys.path += json.loads(sys.argv[1]); {code}"
    return [sys.executable, "-I", "-c", start, json.dumps(_import_path())]


def _import_path() -> list[str]:
    """Where an isolated interpreter looks for what it does not find: this process's path, but for the current folder, unless
    this program itself lies there."""
    home = Path(__file__).resolve().parents[1]
    folders = [Path(entry).resolve() for entry in sys.path if entry]
    return [str(folder) for folder in folders if folder == home or folder != Path.cwd().resolve()]
