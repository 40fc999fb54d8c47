"""What Windows lacks is taken away from a process, which then draws, and serves until it is told to stop.

Windows opens no folders, has no `os.fchmod` before Python 3.13, no `fcntl`, and event loops without signal handlers.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from redraft.files import write_atomically
from redraft.signals import handle_signals

LIKE_WINDOWS = """
import asyncio, builtins, os, sys
from asyncio import unix_events

opened = os.open
def open_file(path, flags, *more, **named):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return opened(path, flags, *more, **named)
os.open = open_file
del os.fchmod

imported = builtins.__import__
def import_module(name, globals=None, *more, **named):
    if name == "fcntl" and (globals or {}).get("__name__", "").startswith(("agent.", "redraft.", "rewriter.")):
        raise ModuleNotFoundError("No module named 'fcntl'", name="fcntl")
    return imported(name, globals, *more, **named)
builtins.__import__ = import_module

def refuse(*_):
    raise NotImplementedError
unix_events.SelectorEventLoop.add_signal_handler = refuse
unix_events.SelectorEventLoop.remove_signal_handler = refuse

from agent.cli import main
main(sys.argv[1:])
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    script = folder / "like_windows.py"
    script.write_text(LIKE_WINDOWS)
    command = [sys.executable, str(script), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.integration
def test_a_drawing(tmp_path: Path) -> None:
    process = start(tmp_path, "draw", "a red star", "--images", "1", "--rounds", "1", "--seed", "7", "--json")
    out, told = process.communicate(timeout=200)
    assert process.returncode == 0, told
    drawn = json.loads(out)
    assert Path(tmp_path / drawn["image"]).is_file()
    assert "Traceback" not in told


def test_a_server_ends_when_it_is_told_to(tmp_path: Path) -> None:
    process = start(tmp_path, "serve", "--port", "0", "--data", str(tmp_path / "served"))
    assert process.stderr is not None
    assert any("redraft serves" in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 0, told
    assert "Traceback" not in told


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", b"text")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


async def test_a_signal_reaches_the_loop_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    heard = asyncio.Event()
    with handle_signals(signal.SIGTERM, call=heard.set):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(heard.wait(), 60)
    assert signal.getsignal(signal.SIGTERM) == before
