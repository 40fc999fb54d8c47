"""`redraft check REQUEST REWRITE [--json]`."""

from __future__ import annotations

import json

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
