"""The tables of editing in the mini world, and a small evaluation with the mini models that goes on from its journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval_suites.benchmarks.cutouts_edits import (
    WAYS,
    draw_sections,
    draw_table,
    edit_table,
    eight_sections,
    eight_table,
    sample_pairs,
    turn_table,
)
from eval_suites.command import main
from eval_suites.report import table_lines


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
    row = turn_table({"single": [[good, good, good], [good]]})["rows"]["single"]
    assert row["turns"]["mean"] == pytest.approx(2 / 3)
    assert row["whole"]["mean"] == pytest.approx(1 / 2)
    assert row["by_turn"] == [1.0, 0.5, 0.5]


def test_drawing_is_compared_on_the_same_prompts() -> None:
    def run(right: bool, drawn: int) -> dict[str, Any]:
        return {"right": [True, right], "drawn": drawn, "stop": "accepted", "edits": 1, "best_is_edit": True}

    table = draw_table({"without": [run(False, 8)], "with": [run(True, 5)]})
    assert table["with_over_without"]["every_check_right"]["mean"] == 1.0
    assert table["with_over_without"]["images"]["mean"] == -3.0
    [section] = draw_sections({"count": 1, "drawing": table})
    assert section.table is not None
    assert "| with edits | 1.000 |" in "\n".join(table_lines(section.table)), "of one prompt there is no interval"


def test_of_eight_results_the_judges_are_compared_on_the_same_ones() -> None:
    def one(right: int, own: bool, plain: bool, accepted: bool = True) -> dict[str, Any]:
        chosen = {"own": {"right": own, "accepted": accepted}, "plain": {"right": plain, "accepted": True}}
        return {"right": right, **chosen}

    table = eight_table([one(8, True, True), one(2, True, False), one(0, False, False, accepted=False)])
    assert table["possible"]["mean"] == pytest.approx(2 / 3)
    assert table["one"]["mean"] == pytest.approx(10 / 24)
    assert table["gain"]["mean"] == pytest.approx(1 / 3)
    assert (table["rows"]["own"]["wrong"], table["rows"]["plain"]["wrong"]) == ([0, 2], [2, 3])
    [section] = eight_sections({"count": 3, "eight": table})
    assert section.table is not None
    assert "0 of 2" in "\n".join(table_lines(section.table))


def test_more_pairs_begin_with_the_same() -> None:
    assert [one.prompt for one in sample_pairs(3, 0)] == [one.prompt for one in sample_pairs(5, 0)][:3]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("variant", "ways"),
    [("pairs", set(WAYS)), pytest.param("turns", set(WAYS), marks=pytest.mark.slow), ("drawing", {"with", "without"})],
)
def test_a_small_evaluation_goes_on_from_its_journal(variant: str, ways: set[str], tmp_path: Path) -> None:
    count = "2" if variant == "pairs" else "1"
    arguments = ["cutouts-edits", "--variant", variant, "--limit", count, "--out", str(tmp_path / "work"), "--tables"]
    main([*arguments, str(tmp_path / "tables")])
    first = (tmp_path / "tables" / f"edits_{variant}.json").read_text()
    [rows] = [value["rows"] for value in json.loads(first).values() if isinstance(value, dict)]
    assert set(rows) == ways
    journal = (tmp_path / "work" / "state" / "journal.jsonl").read_bytes()
    main([*arguments, str(tmp_path / "again")])
    assert (tmp_path / "again" / f"edits_{variant}.json").read_text() == first
    assert (tmp_path / "work" / "state" / "journal.jsonl").read_bytes() == journal
