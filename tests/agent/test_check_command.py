"""`redraft check REQUEST REWRITE [--json]`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["check", *arguments])
    return int(stopped.value.code or 0)


def test_findings_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("three red apples", "Two red apples in a bowl.", "--json") == 0
    result = json.loads(capfd.readouterr().out)
    assert result["ok"] is False
    assert {finding["rule"] for finding in result["findings"]} >= {"numbers"}
    assert all(set(finding) == {"rule", "detail"} and finding["detail"].endswith(".") for finding in result["findings"])


def test_a_good_rewrite_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("three red apples", "Three red apples in a wooden bowl.", "--json") == 0
    assert json.loads(capfd.readouterr().out) == {"ok": True, "findings": []}


def test_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("three red apples", "[red]Two[/red] red apples") == 0
    assert "numbers: The number 'three' of the request is missing or changed." in capfd.readouterr().out
    assert run("three red apples", "Three red apples in a wooden bowl.") == 0
    assert capfd.readouterr().out.startswith("ok")


def test_an_empty_rewrite_is_a_finding_an_empty_request_bad_input(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("three red apples", "", "--json") == 0
    assert [finding["rule"] for finding in json.loads(capfd.readouterr().out)["findings"]] == ["empty"]
    assert run("  ", "apples", "--json") == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert "the request is empty" in told.err


def test_it_needs_no_model_library(capfd: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    code = "import sys, agent.check_command as c; c.check('a', 'b', as_json=True); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_a_file_of_pairs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"original": "three red apples", "rewrite": "Three red apples in a wooden bowl."},
        {"original": "three red apples", "rewrite": "Two red apples in a bowl."},
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("--pairs", str(pairs), "--json") == 1
    report = json.loads(capfd.readouterr().out)
    assert (report["ok"], report["pairs"], [each["row"] for each in report["broken"]]) == (False, 2, [2])
    good = tmp_path / "good.csv"
    good.write_text("request,prompt\nthree red apples,Three red apples in a wooden bowl.\n")
    assert run("--pairs", str(good)) == 0
    assert "1 pairs, all kept" in capfd.readouterr().out


def test_files_that_hold_no_pairs_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone = tmp_path / "alone.csv"
    alone.write_text("request\na star\n")
    for arguments, said in (
        (["--pairs", str(alone)], "--rewrite-column"),
        (["--pairs", str(tmp_path / "none.csv")], "no such file"),
        (["a star"], "--pairs"),
        (["a star", "b", "--pairs", str(alone)], "leave out"),
    ):
        assert run(*arguments) == 2
        assert said in capfd.readouterr().err
