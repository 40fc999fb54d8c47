"""The whole loop with the embedded models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.models import open_models
from agent.run import Run
from agent.types import StopReason
from redraft.images import read_provenance
from redraft.profiles import load_profile
from tests.agent.conftest import Redraft

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


def test_the_command_line(tmp_path: Path, redraft: Redraft) -> None:
    done = redraft("draw", ASK, "--out", "here", "--seed", "3", "--rounds", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (tmp_path / result["image"]).is_file()
    done = redraft("judge", result["image"], ASK, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["score"] == pytest.approx(result["score"], abs=1e-3)
