"""The disk is full from a chosen write on, at any moment of a command: one line says so, and afterwards it goes on.

MOMENTS says how many of each command are tried (docs/security.md: 12).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.testing import paint
from editors.backend import ImageTask
from tests.agent.test_chat_command import EDITOR
from tests.full_disk import FullDisk, needs_full_disk

Serve = Callable[..., Any]
MOMENTS = int(os.environ.get("MOMENTS", "3"))
REQUEST = "three red circles on a white background"
FINE = f"{REQUEST}, arranged finely"
pytestmark = [needs_full_disk, pytest.mark.attack]


@dataclass
class Place:
    """A folder whose disk fills up, and commands in it."""

    folder: Path
    disk: FullDisk
    profile: Path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        environment = {
            **os.environ, **self.disk.environment, "REDRAFT_TEST_KEY": "sk-secret", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "agent.cli", *map(str, arguments)], cwd=self.folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str | Path, said: str = "") -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            stdout, stderr = process.communicate(said, timeout=850)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def moments(self, *arguments: str | Path, said: str = "") -> Iterator[int]:
        """Moments that are spread over an undisturbed run of the command."""
        before = self.disk.moments
        done = self.run(*arguments, said=said)
        assert done.returncode == 0, done.stderr
        whole = self.disk.moments - before
        assert whole > MOMENTS
        yield from (number * whole // MOMENTS for number in range(MOMENTS))

    def filled(self, after: int, *arguments: str | Path, said: str = "") -> subprocess.CompletedProcess[str]:
        """The command, with a disk that is full after so many moments."""
        self.disk.fill(after)
        failed = self.disk.failed
        done = self.run(*arguments, said=said)
        self.disk.free()
        assert self.disk.failed > failed, "the disk was full"
        assert "Traceback" not in done.stderr, (after, done.stderr)
        if done.returncode:
            assert done.returncode in (2, 3), (after, done.stderr)
            assert re.search(r"No space left|disk is full|disk I/O error|cannot", done.stderr + done.stdout), (
                after,
                done,
            )
        return done


@pytest.fixture
def place(tmp_path: Path, model_server: Serve) -> Iterator[Place]:
    style = tmp_path / "style"
    style.mkdir()
    for name in ("rewrite.txt", "repair.txt", "guard_repair.txt", "system.txt", "style.toml"):
        source = Path(__file__).parents[2] / "rewriter" / "templates" / "promptenhancer" / name
        (style / name).write_text(source.read_text())
    folder = tmp_path / "place"
    folder.mkdir()
    with model_server(FINE, good="finely") as server:
        path = server.profile(tmp_path, max_rounds=2)
        text = path.read_text().replace("[rewriter]", f'[rewriter]\nstyle = "{style}"')
        path.write_text(text + EDITOR.format(address=server.address))
        yield Place(folder, FullDisk(tmp_path, folder), path)


def check_resumed(place: Place, out: Path, done: subprocess.CompletedProcess[str]) -> None:
    """What was begun can be continued to its end."""
    runs = list(out.glob("*/run.json"))
    if done.returncode == 0:
        assert json.loads(done.stdout)["image"]
    for run in runs:
        again = place.run("resume", run.parent, "--json")
        assert again.returncode == 0, again.stderr
        assert Path(json.loads(again.stdout)["image"]).is_file()


def test_a_run_goes_on_in_the_process_whose_disk_was_full(tmp_path: Path) -> None:
    """As in a server: an error that is still held must hold no lock of the run's."""
    (tmp_path / "data").mkdir()
    disk = FullDisk(tmp_path, tmp_path / "data")
    done = subprocess.run(
        [sys.executable, "-m", "tests.agent.full_disk_driver", str(tmp_path), str(max(1, 12 // MOMENTS))],
        cwd=Path(__file__).parents[2], env={**os.environ, **disk.environment}, capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) >= 2
    assert any(row["error"] for row in rows), "the disk was full"
    for row in rows:
        assert row["again"] == "", row
        assert row["stop"] in ("", "budget"), row


def test_draw(place: Place) -> None:
    command = ("draw", REQUEST, "--profile", place.profile, "--seed", "3", "--json", "--out")
    for after in place.moments(*command, place.folder / "whole"):
        out = place.folder / f"out{after}"
        check_resumed(place, out, place.filled(after, *command, out))


def test_edit(place: Place) -> None:
    picture = place.folder / "mine.png"
    paint(ImageTask("mine", 1)).save(picture)
    command = ("edit", picture, "make it blue", "--profile", place.profile, "--seed", "3", "--json", "--out")
    for after in place.moments(*command, place.folder / "whole"):
        out = place.folder / f"out{after}"
        check_resumed(place, out, place.filled(after, *command, out))


def test_enhance(place: Place) -> None:
    rows = [f"{REQUEST} {n}" for n in range(12)]
    source = place.folder / "in.txt"
    source.write_text("\n".join(rows) + "\n")
    command = ("--profile", place.profile)
    for after in place.moments("enhance", source, place.folder / "whole.jsonl", *command):
        target = place.folder / f"out{after}.jsonl"
        place.filled(after, "enhance", source, target, *command)
        done = place.run("enhance", source, target, *command)
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["request"] for line in target.read_text().splitlines()] == rows


def test_chat(place: Place) -> None:
    said = f"/seed 5\n{REQUEST}\n/undo\n/list\n"
    command = ("chat", "--profile", place.profile, "--out", place.folder, "--conversation")
    for after in place.moments(*command, "whole", said=said):
        name = f"chat{after}"
        done = place.filled(after, *command, name, said=said)
        assert done.returncode != 0, "a line that was refused is no success"
        again = place.run(*command, name, said="/draw a star, finely\n/list\n")
        assert again.returncode == 0, (after, again.stderr)
        assert "score" in again.stdout, "the conversation can be used"


def test_serve(place: Place) -> None:
    """As it starts; full disks while it works are in tests/serve/test_serve_turns.py."""

    def command(name: str) -> tuple[str | Path, ...]:
        return "serve", "--data", place.folder / name, "--profile", place.profile, "--port", "0"

    before = place.disk.moments
    with place.start(*command("whole")) as server:
        assert server.stderr is not None
        assert any("redraft serves" in line for line in server.stderr)
        whole = place.disk.moments - before
        server.terminate()
        assert server.wait(120) == 0
    for number in range(MOMENTS):
        after = number * whole // MOMENTS
        done = place.filled(after, *command(f"data{after}"))
        assert done.returncode == 2
        assert done.stderr.count("error:") == 1
