"""A run that is killed with SIGKILL anywhere and resumed ends as if nothing had happened, and repeats nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from redraft.profiles import EDIT_SEARCHES, SEARCHES

DRIVER = Path(__file__).with_name("kill_driver.py")
ROOT = Path(__file__).parents[2]
BATCH = 2
CASES = [
    ("draw", 1, 5, 0), ("edit", 5, 7, 0), ("covered", 7, 5, 0),
    ("draft", 5, 5, 0), ("best_of", 9, 4, 0), ("then", 9, 5, 0), ("evolve", 9, 5, 0), ("gallery", 9, 5, 0),
    *(("draw", 9, 5, clock) for clock in (-3600, -60, 60, 3600)),
    *(("edit", 25, 7, clock) for clock in (-3600, 3600)),
]  # fmt: skip
FEW = [("draw", 9, 5, 0), ("edit", 25, 7, -3600), ("covered", 23, 5, 0), ("draft", 15, 5, 0), ("gallery", 25, 5, 60)]


def test_every_strategy_is_killed_somewhere() -> None:
    modes = {"loop": "draw", "edit": "edit", "tree": "edit"}
    assert {modes.get(name, name) for name in (*SEARCHES, *EDIT_SEARCHES)} <= {mode for mode, *_ in CASES}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes, and this system has no fork")
@pytest.mark.parametrize(
    ("mode", "stride", "images", "clock"), [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES)]
)
def test_killed_anywhere_and_resumed(tmp_path: Path, mode: str, stride: int, images: int, clock: int) -> None:
    """Also if the clock of the process that resumes it stands elsewhere."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LANGGRAPH_STRICT_MSGPACK": "true"}
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path), mode, str(stride), str(clock)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    whole, *killed = (json.loads(line) for line in done.stdout.splitlines())
    sys.stdout.write(f"{mode}, clock moved by {clock} s: {len(killed)} kills\n")  # for docs/security.md: pytest -s
    assert whole["record"]["stop"] == "budget"
    assert len(whole["record"]["attempts"]) == images
    if mode == "covered":
        assert whole["record"]["unchecked"] == ["boat"]
        assert [check["question"] for check in whole["record"]["invented"]] == ["Is the picture free of squares?"]
        assert any("boat" in warning for warning in whole["record"]["warnings"])
    kinds = Counter(case["kind"] for case in killed)
    assert kinds["call"] == -(-len(whole["calls"]) // stride), "calls of models were places to die"
    assert kinds["sync"] > 30 / stride, "durable writes were places to die"
    for case in killed:
        where = f"killed at {case['kind']} {case['at']}"
        assert case["record"] == whole["record"], where
        assert case["best"] == whole["best"], where
        assert case["files"] == whole["files"], where
        assert case["images"] == whole["images"], f"{where}: no image is lost, none is left over"
        calls = Counter(case["calls"])
        for name in case["finished"]:
            assert calls[name] == whole["calls"].count(name), f"{where}: {name} was finished and yet repeated"
        redrawn = [name for name, count in calls.items() if name.startswith("draw ") and count > 1]
        assert len(redrawn) <= BATCH, f"{where}: at most the batch in hand is drawn again"
