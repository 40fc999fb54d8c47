"""The profile small on the command line, without its weights: what it can, and what each command says that it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from agent.cli import main
from redraft.weights import KNOWN, find_weights


@pytest.fixture(autouse=True)
def nothing_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    if find_weights(KNOWN["small"].model) is not None:
        pytest.skip("this machine has the model in Hugging Face's cache")


def redraft(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    return int(ended.value.code or 0), said.out, said.err


def test_commands_that_need_pictures_say_what_is_missing(capfd: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (16, 16)).save("a.png")
    for command in (("draw", "a cat"), ("judge", "a.png", "a cat"), ("serve", "--port", "18999")):
        code, _, err = redraft(capfd, *command, "--profile", "small")
        assert code == 2, command
        assert "[generator]" in err or "[judge]" in err, command
        assert err.count("\n") <= 2, command
    code, _, err = redraft(capfd, "edit", "a.png", "make it blue", "--profile", "small")
    assert (code, "[editor]" in err) == (2, True)


def test_rewriting_names_the_command_that_fetches_the_weights(capfd: pytest.CaptureFixture[str]) -> None:
    Path("in.txt").write_text("a cat on a couch\n")
    for command in (("enhance", "in.txt", "out.jsonl"), ("chat",)):
        code, _, err = redraft(capfd, *command, "--profile", "small")
        assert code == 2, command
        assert "redraft get small" in err, command


def test_real_prompts_without_a_profile_are_pointed_to_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in.txt").write_text("a cat on a couch\nan astronaut rides a horse\n")
    monkeypatch.setattr("sys.argv", ["redraft", "enhance", "in.txt", "out.jsonl"])
    code, _, err = redraft(capfd, "enhance", "in.txt", "out.jsonl")
    assert code == 2
    assert "redraft get small && redraft enhance in.txt out.jsonl --profile small" in err
    assert [json.loads(line)["status"] for line in Path("out.jsonl").read_text().splitlines()] == ["out_of_scope"] * 2


def test_it_is_listed_with_what_it_can(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = redraft(capfd, "profiles")
    assert code == 0
    small = out[out.index("small") :]
    assert "can rewrite; fetch it first: redraft get small" in small[: small.index("small.toml")]


def test_an_unknown_name_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = redraft(capfd, "get", "everything")
    assert (code, "small" in err) == (2, True)
