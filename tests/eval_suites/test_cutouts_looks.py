"""The table of tools and second looks: what each way makes of the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval_suites.benchmarks.cutouts_looks import PICTURES, Bar, answers, figures, fit_pool, look_at
from eval_suites.command import main
from evaluator.looks import pool


def row(judge: float, reader: float, truth: bool, word: float | None = None) -> dict[str, object]:
    """A prompt with one check, all of whose pictures get the same answers."""
    return {
        "questions": [["counting", "Is there exactly one star?"]],
        "true": [0],
        "own": [0],
        "judge": [[judge]] * PICTURES,
        "reader": [[reader]] * PICTURES,
        "ocr": [[word]] * PICTURES,
        "truth": [[truth]] * PICTURES,
    }


def test_each_way_answers_as_the_product_does() -> None:
    one = row(0.9, 0.3, True)
    assert [(answers(one, 0, way)[0].p, answers(one, 0, way)[0].spread) for way in ("judge", "ocr", "reader")] == [
        (0.9, 0.0), (0.9, 0.0), (0.3, 0.0)
    ]  # fmt: skip
    [both] = answers(one, 0, "both")
    assert both.p == pytest.approx(pool(0.9, 0.3))
    assert both.p is not None
    assert both.p - both.spread == pytest.approx(0.3)
    assert not look_at(one, 0, "both", Bar()).accepted, "one of the two says no"
    assert answers(row(0.9, 0.9, True, word=0.01), 0, "both")[0].p == 0.01, "what is read is not asked"


def test_agreement_keeps_wrong_pictures_from_being_accepted() -> None:
    rows = [row(0.99, 0.95, True)] * 6 + [row(0.98, 0.4, False)] * 2
    found = figures(rows, Bar())["ways"]
    assert found["judge"]["accepted"] == 1.0
    assert found["judge"]["wrong"]["mean"] == pytest.approx(0.25)
    assert found["both"]["accepted"] == 0.75
    assert found["both"]["wrong"]["mean"] == 0.0
    assert found["both"]["errors"] == [0.0, 0.0, 0.0]


def test_the_better_reader_gets_the_greater_weight() -> None:
    rows = [row(0.9, 0.9, True)] * 8 + [row(0.8, 0.1, False)] * 4 + [row(0.1, 0.2, False)] * 4 + [row(0.3, 0.3, True)]
    fit = fit_pool(rows)
    assert fit is not None
    assert fit["answers"] == len(rows) * PICTURES
    assert fit["weight"] > 0.6
    assert fit_pool([row(0.9, 0.9, True)]) is None


@pytest.mark.integration
def test_the_suite_draws_judges_and_writes_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rapidocr")
    main(["cutouts-looks", "--limit", "2", "--json", "--out", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert found["prompts"] == 2
    assert set(found["ways"]) == {"judge", "ocr", "reader", "both"}
