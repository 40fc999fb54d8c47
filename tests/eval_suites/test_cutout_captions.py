"""The figure of relations told by both sides and by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval_suites.command import main


def test_both_ways_and_their_difference_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["cutouts-captions", "--limit", "6", "--json", "--out", str(tmp_path)])
    told = json.loads(capsys.readouterr().out)["captions"]
    assert told["both"]["mean"] > 0.3, "true captions are mostly drawn rightly"
    assert told["one - both"]["mean"] == pytest.approx(told["one"]["mean"] - told["both"]["mean"])
    assert "| one - both |" in (tmp_path / "report.md").read_text()
