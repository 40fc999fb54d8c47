"""`redraft chat` as a user has it: real processes, a scripted terminal, a real (small) model server, kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.testing import paint
from editors.backend import ImageTask

Serve = Callable[..., Any]
ASK = "three red circles on a white background"
FINE = f"{ASK}, arranged finely"
EDITOR = """
[planner]
use = "mini.phrasebook.planner:PhrasePlanner"

[turn_reader]
use = "mini.phrasebook.turns:PhraseReader"

[editor]
kind = "openai_images"
model = "test-editor"
server = {{ base_url = "{address}", api_key_env = "REDRAFT_TEST_KEY", timeout_s = 20, max_retries = 0 }}
"""


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "REDRAFT_TEST_KEY": "sk-secret", "OMP_NUM_THREADS": "1", "PYTHONPATH": root}


def chat(*arguments: str | Path, cwd: Path, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli", "chat", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), input=said, capture_output=True, text=True, timeout=180)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A style that can rewrite but neither plan nor read turns, so that rules do."""
    style = tmp_path / "style"
    style.mkdir()
    given = Path(__file__).parents[2] / "rewriter" / "templates"
    for name in ("rewrite.txt", "repair.txt", "guard_repair.txt", "system.txt", "style.toml"):
        (style / name).write_text((given / "promptenhancer" / name).read_text())
    return style


def profile(server: Any, folder: Path, style: Path, **limits: float) -> Path:
    path: Path = server.profile(folder, **limits)
    text = path.read_text().replace("[rewriter]", f'[rewriter]\nstyle = "{style}"')
    path.write_text(text + EDITOR.format(address=server.address))
    return path


def test_a_scripted_conversation(tmp_path: Path, model_server: Serve, rules: Path) -> None:
    paint(ImageTask("mine", 1)).save(tmp_path / "mine.png")
    said = f"""/seed 5
{ASK}
is there a star?
/open mine.png
/list
/back 1
/save kept.png
/export talk.html
/branch second
/help
"""
    with model_server(FINE, good="finely") as server:
        path = profile(server, tmp_path, rules)
        done = chat("--profile", path, "--conversation", "first", cwd=tmp_path, said=said)
        assert done.returncode == 0, done.stderr
        out = done.stdout
        assert "picture 1: score 0.98, accepted" in out
        assert "> 2 given, no score: mine.png" in out
        assert "back at picture 1" in out
        assert "from here on this is the conversation second" in out
        assert "/undo" in out
        assert "draw: there is no picture yet (rules)" in done.stderr
        assert (tmp_path / "kept.png").is_file()
        assert ASK in (tmp_path / "talk.html").read_text()

        again = chat("--conversation", "first", cwd=tmp_path, said="/list\n/quit\nnever read\n")
        assert again.returncode == 0, again.stderr
        assert "10 turns so far" not in again.stdout
        assert "9 turns so far" in again.stdout
        assert "> 1 drawn, score 0.98, accepted" in again.stdout
        assert "never read" not in again.stdout
    listed = chat("--list", cwd=tmp_path)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["second", "first"]
    assert "a branch of first" in listed.stdout
    exported = chat("--conversation", "first", "--export", "page.html", cwd=tmp_path)
    assert exported.stdout.strip() == "page.html"
    assert (tmp_path / "page.html").is_file()
    assert b"sk-secret" not in b"".join(p.read_bytes() for p in (tmp_path / "runs").rglob("*") if p.is_file())


def test_the_user_is_asked_once_where_it_is_unclear(tmp_path: Path, model_server: Serve, rules: Path) -> None:
    with model_server(FINE, FINE, good="finely") as server:
        path = profile(server, tmp_path, rules)
        done = chat("--profile", path, "--conversation", "x", cwd=tmp_path, said=f"{ASK}\ntwo hearts\na new one\n")
        assert done.returncode == 0, done.stderr
        assert "Shall I draw a new picture from this, or change this one?" in done.stdout
        assert "picture 2:" in done.stdout
        quiet = chat("--profile", path, "--conversation", "y", "--no-ask", cwd=tmp_path, said=f"{ASK}\ntwo hearts\n")
        assert "Shall I" not in quiet.stdout
        assert "picture 2:" in quiet.stdout


def test_killed_in_the_middle_of_a_drawing_nothing_is_lost(tmp_path: Path, model_server: Serve, rules: Path) -> None:
    with model_server(FINE, good="finely") as server:
        path = profile(server, tmp_path, rules)
        first = chat("--profile", path, "--conversation", "s", cwd=tmp_path, said="/seed 3\n")
        assert first.returncode == 0, first.stderr
        server.hold.clear()
        command = [sys.executable, "-m", "agent.cli", "chat", "--conversation", "s"]
        child = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(f"{ASK}\n")
        child.stdin.flush()
        assert server.drawing.wait(200)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate(timeout=120)
        server.hold.set()
        rewrites = server.turn
        again = chat("--conversation", "s", cwd=tmp_path, said="/list\n")
        assert again.returncode == 0, again.stderr
        assert f"continuing: {ASK}" in again.stdout
        assert "picture 1: score 0.98, accepted" in again.stdout
        assert server.turn == rewrites, "the rewrite was made already"
        record = json.loads((tmp_path / "runs" / "conversations" / "s" / "turn-0002" / "run.json").read_text())
        assert record["seed"] == 3


def test_ctrl_c_ends_the_drawing_and_not_the_conversation(tmp_path: Path, model_server: Serve, rules: Path) -> None:
    with model_server("poorly", good="finely") as server:
        # So long that it is not over before the signal has come, however slow the machine is.
        path = profile(server, tmp_path, rules, max_rounds=100, max_images=200, patience=100)
        server.hold.clear()
        command = [sys.executable, "-m", "agent.cli", "chat", "--profile", str(path), "--conversation", "s"]
        child = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(f"{ASK}\n")
        child.stdin.flush()
        assert server.drawing.wait(200)
        child.send_signal(signal.SIGINT)
        server.hold.set()
        out, err = child.communicate("/list\n", timeout=200)
        assert child.returncode == 0, err
        assert "the run was stopped" in out
        assert "conversations: s" in out, "what was said next was followed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--conversation", "../x"], "cannot name a conversation"),
        (["--conversation", "nosuch", "--export", "x.html"], "name the conversation that is to be exported"),
        (["--profile", "nosuch"], "unknown profile"),
    ],
)
def test_what_a_user_can_mend_exits_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = chat(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
