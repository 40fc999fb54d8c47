"""A batch that is killed with SIGKILL at random moments, and taken up again, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes, and this system has no fork")
def test_killed_at_random_moments(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.rewriter.batch_kill_driver", str(tmp_path), "11"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    assert left["kills"] == 11
    assert len(set(left["sizes"])) > 3, "some of the killed processes got somewhere"
    assert left["same"], "byte for byte the output of an uninterrupted run"
    assert left["rows"] == 2400
    assert (left["prompts"], left["twice"]) == (2000, 0), "every prompt was recorded exactly once"
    assert left["parts"] == 0, "no half-written output lies about"
