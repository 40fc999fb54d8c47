"""Folders of somebody else's: no key is sent before the user has said so, and no link in them is followed for writing."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import KEY, Done, Redraft

Serve = Callable[..., Any]

ASK = "three red circles on a white background"
FINE = "three red circles on a white background, arranged finely in a row"


@pytest.fixture
def redraft(redraft: Redraft, monkeypatch: pytest.MonkeyPatch) -> Redraft:
    """Each folder is another user's, with grants of their own."""

    def run(*arguments: object, cwd: Path) -> Done:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(cwd / "config"))
        return redraft(*arguments, cwd=cwd)

    return run


def redraft_on(terminal: int, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A process with a terminal."""
    environment = {
        **os.environ, "REDRAFT_TEST_KEY": KEY, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2]),
        "XDG_CONFIG_HOME": str(cwd / "config"),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "agent.cli", *map(str, arguments)], cwd=cwd, env=environment, stdin=terminal,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """The folder of another user."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_a_run_of_somebody_else_sends_no_key_before_it_is_granted(
    mine: Path, theirs: Path, model_server: Serve, redraft: Redraft
) -> None:
    with model_server(FINE, good="finely") as server:
        done = redraft("draw", ASK, "--profile", server.profile(theirs), cwd=theirs)
        assert done.returncode == 0, done.stderr
        [run] = (theirs / "runs").glob("[!.]*")
        assert redraft("resume", run, cwd=theirs).returncode == 0, "one's own runs do not ask"
        shutil.rmtree(run / "state")
        (run / "state").mkdir()
        shutil.move(run, mine / "run")
        seen = len(server.seen)

        refused = redraft("resume", "run", cwd=mine)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"send the key in REDRAFT_TEST_KEY to {server.address}" in refused.stderr
        assert "redraft trust run" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert len(server.seen) == seen

        granted = redraft("trust", "run", cwd=mine)
        assert (granted.returncode, granted.stderr) == (0, "")
        assert server.address in granted.stdout
        assert redraft("resume", "run", cwd=mine).returncode == 0
        assert len(server.seen) > seen
        assert "nothing that is not granted" in redraft("trust", "run", cwd=mine).stdout


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 2), (b"y\n", 0)])
def test_on_a_terminal_redraft_asks(
    mine: Path, theirs: Path, model_server: Serve, answer: bytes, code: int, redraft: Redraft
) -> None:
    with model_server(FINE, good="finely") as server:
        assert redraft("draw", ASK, "--profile", server.profile(theirs), cwd=theirs).returncode == 0
        seen = len(server.seen)
        [run] = (theirs / "runs").glob("[!.]*")
        (run / "state" / "checkpoints.sqlite").unlink()
        (run / "state" / "journal.jsonl").unlink()
        keyboard, terminal = pty.openpty()
        try:
            os.write(keyboard, answer)
            done = redraft_on(terminal, "resume", run, cwd=mine)
        finally:
            os.close(keyboard)
            os.close(terminal)
        assert done.returncode == code, done.stderr
        assert "Do you trust it? [y/N]" in done.stderr
        assert (len(server.seen) > seen) == (code == 0)


def test_links_in_a_run_are_not_followed_for_writing(
    mine: Path, theirs: Path, model_server: Serve, redraft: Redraft
) -> None:
    with model_server(FINE, good="finely") as server:
        assert redraft("draw", ASK, "--profile", server.profile(mine), cwd=mine).returncode == 0
    [run] = (mine / "runs").glob("[!.]*")
    for name in ("state", "state/images", "state/journal.jsonl", "state/lock", "state/checkpoints.sqlite", "run.json"):
        victim = theirs / "victim"
        shutil.copytree(run, mine / "run")
        shutil.move(mine / "run" / name, victim)
        (mine / "run" / name).symlink_to(victim)
        before = sorted((path, path.stat().st_mtime_ns) for path in theirs.rglob("*"))
        done = redraft("resume", "run", cwd=mine)
        assert (done.returncode, done.stdout) == (2, ""), name
        assert "symbolic link, which is not followed" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert sorted((path, path.stat().st_mtime_ns) for path in theirs.rglob("*")) == before
        shutil.rmtree(mine / "run")
        shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
