"""The tables of editing in the mini world, and a small evaluation with the mini models that is continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval_suites.cutout_edits import main
from eval_suites.cutout_edits_report import draw_table, edit_table, markdown, session_table
from eval_suites.cutout_edits_ways import WAYS, pairs


def _result(*followed: bool, kept: bool = True, drawn: int = 2) -> dict[str, Any]:
    return {"followed": list(followed), "kept": kept, "drawn": drawn, "kinds": ["add"] * len(followed)}


def test_an_edit_is_right_where_it_is_followed_and_the_rest_is_kept() -> None:
    good, bad = _result(True, True, True), _result(True, False, kept=True)
    spoilt = _result(True, kept=False)
    found = {way: [good, bad, spoilt] for way in WAYS} | {"tree": [good, good, spoilt]}
    table = edit_table(found)
    row = table["rows"]["single"]
    assert [row[name]["mean"] for name in ("followed", "kept", "both")] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert (row["long"], row["both_long"]["mean"]) == (1, 1.0)
    assert table["gains"]["tree over loop"]["mean"] == pytest.approx(1 / 3)
    assert table["kinds"]["add"] == [pytest.approx(5 / 6), 6]


def test_turns_that_were_not_reached_are_wrong() -> None:
    good = _result(True)
    row = session_table({"single": [[good, good, good], [good]]})["rows"]["single"]
    assert row["turns"]["mean"] == pytest.approx(2 / 3)
    assert row["whole"]["mean"] == pytest.approx(1 / 2)
    assert row["by_turn"] == [1.0, 0.5, 0.5]


def test_drawing_is_compared_on_the_same_prompts() -> None:
    def run(right: bool, drawn: int) -> dict[str, Any]:
        return {"right": [True, right], "drawn": drawn, "stop": "accepted", "edits": 1, "best_is_edit": True}

    table = draw_table({"without": [run(False, 8)], "with": [run(True, 5)]})
    assert table["with_over_without"]["every_check_right"]["mean"] == 1.0
    assert table["with_over_without"]["images"]["mean"] == -3.0
    told = markdown({"prompts": 1, "drawing": table}, "this")
    assert "| with edits | 1.000 [1.000, 1.000]" in told


def test_more_pairs_begin_with_the_same() -> None:
    assert [one.prompt for one in pairs(3, 0)] == [one.prompt for one in pairs(5, 0)][:3]


@pytest.mark.integration
def test_a_small_evaluation_goes_on_from_its_book(tmp_path: Path) -> None:
    options = ["--pairs", "2", "--sessions", "1", "--prompts", "1", "--work", str(tmp_path / "work")]
    main([*options, "--out", str(tmp_path / "out")])
    first = (tmp_path / "out" / "edits.json").read_text()
    assert set(json.loads(first)["edits"]["rows"]) == set(WAYS)
    journal = (tmp_path / "work" / "state" / "journal.jsonl").read_bytes()
    main([*options, "--out", str(tmp_path / "again")])
    assert (tmp_path / "again" / "edits.json").read_text() == first
    assert (tmp_path / "work" / "state" / "journal.jsonl").read_bytes() == journal
