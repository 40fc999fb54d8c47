"""The suite of the mini world: its prompts, its oracle, its table; and small evaluations with the mini models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval_suites.benchmarks.cutouts import (
    ORACLE,
    ROWS,
    SUITE,
    Judged,
    OracleJudge,
    Result,
    asked,
    markdown,
    oracle_on_renders,
    prompts,
    reliability_svg,
    sample,
    sections,
    table,
)
from eval_suites.command import main
from evaluator.types import Check, Outcome
from mini.world.sampling import holds_out
from redraft.errors import InputError

JUDGED: list[Judged] = [[("counting", 0.9, True), ("counting", 0.2, True), ("size", None, False)]] * 2


def _rows() -> dict[str, list[Result | None]]:
    """Two prompts: the loop gets both right, the others one of them and half of the other's checks."""
    return {
        row: [
            Result((True, True), 0.75, 1),
            Result((row == "loop", True), None if row == "raw_1" else 0.75, 1),
        ]
        for row in ROWS
    }


def test_prompts_are_held_out_and_the_same_for_the_same_seed() -> None:
    some = prompts(30, 5)
    assert [w.text for w in some] == [w.text for w in prompts(30, 5)]
    assert [w.text for w in some] != [w.text for w in prompts(30, 6)]
    assert [w.text for w in some[:10]] == [w.text for w in prompts(10, 5)]
    assert all(holds_out(w.spec) for w in some)
    assert all(asked(w) for w in some)


def test_the_suite_asks_the_true_checks_and_draws_no_less_than_asked() -> None:
    items = sample(12, 5).items
    assert [item.prompt for item in items] == [w.text for w in prompts(12, 5)]
    assert [[q.check.question for q in item.questions] for item in items] == [asked(w) for w in prompts(12, 5)]
    assert not SUITE.needs_data
    assert SUITE.reporter is ORACLE


async def test_the_oracle_fails_on_what_it_does_not_know() -> None:
    sheet = Image.new("RGB", (256, 256), "white")
    known = Check("negation", "Is the picture free of stars?")
    (verdict,) = await OracleJudge()(sheet, "p", [known])
    assert (verdict.outcome, verdict.probability) == (Outcome.SCORED, 1.0)
    (verdict,) = await OracleJudge()(sheet, "p", [Check("mood", "Is it sad?")])
    assert verdict.outcome is Outcome.FAILED
    assert "Is it sad?" in verdict.reason


def test_figures_by_hand() -> None:
    figures = table(_rows(), JUDGED)
    assert figures["rows"]["raw_8"]["every_check_right"]["mean"] == 0.5
    assert figures["rows"]["raw_8"]["checks_right"]["mean"] == 0.75
    assert figures["rows"]["loop"]["every_check_right"]["mean"] == 1.0
    assert figures["rows"]["raw_1"]["unscored"] == 1
    assert figures["loop_over_rewritten_8"]["mean"] == 0.5
    judge = figures["judge"]
    assert (judge["answers"], judge["failed"], judge["accuracy"]["mean"]) == (6, 2, 0.5)
    assert judge["key_points"] == {"counting": {"accuracy": 0.5, "answers": 4, "true": 1.0}}
    assert judge["ece"] == pytest.approx(0.5 * 0.1 + 0.5 * 0.8)


def test_prompts_that_failed_count_in_no_row_and_are_counted() -> None:
    rows = _rows()
    rows["loop"][1] = None
    figures = table(rows, JUDGED)
    assert (figures["rows"]["loop"]["failed"], figures["rows"]["loop"]["every_check_right"]["mean"]) == (1, 1.0)
    assert figures["loop_over_rewritten_8"]["mean"] == 0, "compared where both have a picture"
    nothing = table({"loop": [None]}, [])
    assert nothing["rows"]["loop"]["every_check_right"] is None
    assert nothing["judge"] is None
    assert sections(nothing)[0]["rows"] == [["the loop, at most 8 images", "-", "-", "-", "-"]]


def test_the_report_holds_every_row_and_figure() -> None:
    figures: dict[str, Any] = {"prompts": 2, **table(_rows(), JUDGED)}
    figures |= {"oracle": figures["loop_over_rewritten_8"], "generator_every": None, "generator_checks": None}
    text = markdown(figures, "python -m x")
    assert all(title.format(n=8) in text for title in ROWS.values())
    assert "| raw prompt, best of 8 by the judge | 0.500 [" in text
    assert "`python -m x`" in text
    assert reliability_svg(figures).count("<circle") == len(figures["judge"]["bins"]) == 2
    by_heading = {section["heading"]: section for section in sections(figures)}
    assert list(by_heading) == ["Row by row", "Each part by itself", "The judge against the oracle"]
    assert by_heading["Row by row"]["rows"][1][1] == "50.0 [0.0, 100.0]"


def test_the_oracle_reads_its_own_renders() -> None:
    assert oracle_on_renders(100, 3).mean >= 0.99


def _without_seconds(figures: dict[str, Any]) -> dict[str, Any]:
    return {**figures, "command": "", "cost": {k: v for k, v in figures["cost"].items() if k != "seconds"}}


def _pieces(folder: Path) -> dict[tuple[str, str], object]:
    """What was paid for, by what it is about. Pictures that were drawn together may be there twice: the cut may have
    gone through between them."""
    entries = map(json.loads, (folder / "state" / "journal.jsonl").read_bytes().splitlines())
    return {tuple(entry["key"]): entry["value"] for entry in entries if "key" in entry}


@pytest.mark.integration
def test_all_conditions_by_the_command_and_a_killed_run_equals_a_whole_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ["cutouts", "--limit", "1", "--images", "2", "--seed", "1", "--json", "--out"]
    main([*arguments, str(whole)])
    figures = json.loads(capsys.readouterr().out)
    assert list(figures["conditions"]) == ["raw", "raw_best", "rewritten", "rewritten_best", "loop"]
    assert all(row["pictures_per_item"] <= 2 and row["items"] == 1 for row in figures["conditions"].values())
    assert figures["cutouts"]["judge"]["failed"] == 0
    assert figures["cutouts"]["generator_every"]["mean"] >= 0
    assert figures["measure"] == (whole / "report.md").read_text().splitlines()[0]
    assert "The judge against the oracle" in (whole / "report.html").read_text()

    # What a kill leaves: half of the journal, a line that is torn, the pictures and loops that were written by then.
    shutil.copytree(whole, killed)
    lines = (whole / "state" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    half = lines[: len(lines) // 2]
    (killed / "state" / "journal.jsonl").write_bytes(b"".join(half) + lines[len(half)][:20])
    for name in ("report.json", "report.md", "report.html"):
        (killed / name).unlink()
    main([*arguments, str(killed)])
    assert _without_seconds(json.loads(capsys.readouterr().out)) == _without_seconds(figures)
    assert _pieces(killed) == _pieces(whole)
    with pytest.raises(InputError, match=r"other settings \(seed\)"):
        main([*arguments[:6], "2", *arguments[7:], str(killed)])


@pytest.mark.integration
def test_the_table_of_the_results_page(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "work"), "--tables", str(tmp_path / "out")]
    main(["cutouts", "--limit", "1", "--seed", "1", *out])
    figures = json.loads((tmp_path / "out" / "cutouts.json").read_text())
    assert figures["prompts"] == 1
    assert figures["rows"]["rewritten_8"]["images"] == 8
    assert 1 <= figures["rows"]["loop"]["images"] <= 8
    assert "| rewritten, best of 8 by the judge |" in (tmp_path / "out" / "cutouts.md").read_text()
    assert "| the loop, at most 8 images |" in (tmp_path / "out" / "cutouts.md").read_text()
