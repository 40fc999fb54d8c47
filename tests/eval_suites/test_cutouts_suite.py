"""The suite of the mini world: its prompts, its book, its report; and a whole small evaluation with the mini models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval_suites.cutouts import ROWS, Book, asked, main, markdown, oracle_on_renders, prompts, reliability_svg, summary
from mini.sampling import holds_out


def _filled(path: Path) -> Book:
    """Two prompts: the loop gets both right, the others one of them and half of the other's checks."""
    book = Book(path)
    for row in ROWS:
        for index, right in enumerate(([True, True], [row == "loop", True])):
            score = None if row == "raw_1" and index else 0.75
            book.put({"row": row, "index": index, "right": right, "score": score, "images": 1, "prompt": "p"})
    for index in range(2):
        answers = [["counting", 0.9, True], ["counting", 0.2, True], ["size", None, False]]
        book.put({"row": "judge", "index": index, "answers": answers})
    return book


def test_prompts_are_held_out_and_the_same_for_the_same_seed() -> None:
    some = prompts(30, 5)
    assert [w.text for w in some] == [w.text for w in prompts(30, 5)]
    assert [w.text for w in some] != [w.text for w in prompts(30, 6)]
    assert all(holds_out(w.spec) for w in some)
    assert all(asked(w) for w in some)


def test_a_book_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    book = _filled(path)
    assert Book(path).entries == book.entries


def test_figures_by_hand(tmp_path: Path) -> None:
    figures = summary(_filled(tmp_path / "results.jsonl"), 2)
    assert figures["rows"]["raw_8"]["every_check_right"]["mean"] == 0.5
    assert figures["rows"]["raw_8"]["checks_right"]["mean"] == 0.75
    assert figures["rows"]["loop"]["every_check_right"]["mean"] == 1.0
    assert figures["rows"]["raw_1"]["unscored"] == 1
    assert figures["loop_over_rewritten_8"]["mean"] == 0.5
    judge = figures["judge"]
    assert (judge["answers"], judge["failed"], judge["accuracy"]["mean"]) == (6, 2, 0.5)
    assert judge["key_points"] == {"counting": {"accuracy": 0.5, "answers": 4, "true": 1.0}}
    assert judge["ece"] == pytest.approx(0.5 * 0.1 + 0.5 * 0.8)


def test_the_report_holds_every_row_and_figure(tmp_path: Path) -> None:
    figures = summary(_filled(tmp_path / "results.jsonl"), 2)
    figures |= {"oracle": figures["loop_over_rewritten_8"], "generator_every": None, "generator_checks": None}
    text = markdown(figures, "python -m x")
    assert all(title in text for title in ROWS.values())
    assert "| raw prompt, best of 8 by the judge | 0.500 [" in text
    assert "`python -m x`" in text
    assert reliability_svg(figures).count("<circle") == len(figures["judge"]["bins"]) == 2


def test_the_oracle_reads_its_own_renders() -> None:
    assert oracle_on_renders(100, 3).mean >= 0.99


@pytest.mark.integration
def test_a_small_evaluation_and_its_resumption(tmp_path: Path) -> None:
    arguments = ["--count", "2", "--seed", "1", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    main(arguments)
    figures = json.loads((tmp_path / "out" / "cutouts.json").read_text())
    assert figures["prompts"] == 2
    assert figures["rows"]["rewritten_8"]["images"] == 8
    assert 1 <= figures["rows"]["loop"]["images"] <= 8
    book = tmp_path / "work" / "results.jsonl"
    lines = book.read_text()
    main(arguments)
    assert book.read_text() == lines, "a second call draws nothing again"
    assert json.loads((tmp_path / "out" / "cutouts.json").read_text()) == figures
