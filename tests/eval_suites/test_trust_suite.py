"""`redraft eval trust`: its data, and each of its parts on a few requests."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eval_suites.benchmarks.trust import is_lost, load_outside_requests
from eval_suites.command import main
from mini.world import questions
from redraft.errors import InputError


def measure(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(["trust", *arguments, "--out", str(tmp_path / "out"), "--json"])
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    return figures


@pytest.mark.parametrize("sample", [1, 2])
def test_a_sample_has_sixty_requests_of_ten_kinds_and_what_they_must_show_can_be_asked(sample: int) -> None:
    requests = load_outside_requests(sample)
    assert len({request.says for request in requests}) == 60
    assert set(Counter(request.kind for request in requests).values()) == {6}
    for request in requests:
        assert request.must or request.cannot
        assert all(questions.parse(question) for question in request.must)


def test_a_part_is_lost_if_it_is_accepted_and_missing_or_cannot_be_told() -> None:
    row = {"accepted": True, "lost": [], "cannot": []}
    assert not is_lost(row)
    assert is_lost(row | {"cannot": ["between"]})
    assert is_lost(row | {"lost": ["Is there a red star?"]})
    assert not is_lost(row | {"accepted": False, "cannot": ["between"]})


def test_partiprompts_wants_its_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="PartiPrompts"):
        main(["trust", "--variant", "partiprompts", "--out", str(tmp_path / "out")])


@pytest.mark.integration
def test_of_prompts_that_are_not_about_cut_outs_none_is_accepted_or_rewritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "PartiPrompts.tsv"
    rows = ("a panda", "a red circle", "an astronaut on a horse")
    file.write_text(
        "Prompt\tCategory\tChallenge\tNote\n" + "".join(f"{row}\tAbstract\tBasic\t\n" for row in rows), encoding="utf-8"
    )
    figures = measure(tmp_path, capsys, "--variant", "partiprompts", "--data", str(file), "--limit", "2")
    assert (figures["prompts"], figures["outside"], figures["drawn_outside"]) == (3, 2, 1)
    assert (figures["accepted_outside"], figures["rewritten_outside"], figures["kept_with_finding"]) == (0, 0, 2)
    assert [row["request"] for row in figures["inside"]] == ["a red circle"]


@pytest.mark.integration
def test_what_the_world_cannot_hold_is_said_and_not_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = measure(tmp_path, capsys, "--variant", "outside", "--limit", "1")
    [row] = figures["requests"]
    assert row["cannot"] == ["between"]
    assert "between" in row["unchecked"]
    assert row["said"]
    assert not row["accepted"]
    # The same command goes on, and has nothing left to do.
    assert measure(tmp_path, capsys, "--variant", "outside", "--limit", "1")["requests"] == [row]


@pytest.mark.integration
def test_the_loop_stands_beside_the_best_of_eight_of_the_same_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = measure(tmp_path, capsys, "--variant", "held-out", "--limit", "1")
    assert figures["drawn"] == 1
    assert figures["accepted_count"] in (0, 1)
    assert 1 <= figures["images"]["mean"] <= 8
    assert figures["eight_possible"]["mean"] >= figures["eight_right"]["mean"]
    assert figures["loop_gain"]["mean"] == figures["right"]["mean"] - figures["eight_right"]["mean"]
