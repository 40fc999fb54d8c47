"""The whole loop with the embedded models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.models import open_models
from agent.run import Run
from agent.types import StopReason
from redraft.images import read_provenance
from redraft.profiles import load_profile

ROOT = Path(__file__).parents[2]
ASK = "please draw me two red circles and a blue star on a white sheet"

pytestmark = pytest.mark.integration


async def test_a_run_from_words_to_a_judged_picture(tmp_path: Path) -> None:
    profile = load_profile("mini")
    limits = profile.limits
    session = Run.start(ASK, open_models(profile), limits=limits, out=tmp_path, profile=profile, seed=3)
    async for _ in session.stream():
        pass
    result = session.result
    assert result is not None
    assert result.stop in (StopReason.ACCEPTED, StopReason.BUDGET, StopReason.PLATEAU, StopReason.TIME)
    assert result.checklist
    assert 1 <= len(result.attempts) <= limits.max_images
    assert result.attempts[0].prompt == ASK
    assert all(attempt.score is not None and attempt.report.failed == 0 for attempt in result.attempts)
    assert result.image is not None
    assert read_provenance(result.image)["redraft:request"] == ASK


def test_the_command_line(tmp_path: Path) -> None:
    draw = [sys.executable, "-m", "agent.cli", "draw", ASK, "--out", str(tmp_path), "--seed", "3", "--json"]
    done = subprocess.run(draw, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert Path(result["image"]).is_file()
    judge = [sys.executable, "-m", "agent.cli", "judge", result["image"], ASK, "--json"]
    done = subprocess.run(judge, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"] == pytest.approx(result["score"], abs=1e-3)
