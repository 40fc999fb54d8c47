"""What mini does not know: said before anything is drawn, kept by `enhance`, and no score for an edit nobody can judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import redraft
from agent.cli import app
from agent.commands import drawn_json
from redraft.errors import ConfigError, InputError
from redraft.profiles import load_profile
from redraft.scope import open_scope
from rewriter.cot import Asking
from rewriter.target import load_target


@pytest.mark.parametrize(
    "request_text", ["An Astronaut on a HORSE", "an\u00a0astronaut\ton a horse", "\ufeffan astronaut on a horse"]
)
def test_words_outside_are_named_whatever_their_case_and_spaces(request_text: str) -> None:
    scope = open_scope(load_profile("mini"))
    assert scope is not None
    assert scope.warn(scope.words_outside(request_text)) == (
        "mini draws paper cut-outs only; it does not know: astronaut, horse"
    )


@pytest.mark.parametrize("request_text", ["three red stars", "Three Red Stars", "THREE RED STARS ABOVE A BLUE CIRCLE"])
def test_cut_outs_in_any_case_are_inside(request_text: str) -> None:
    scope = open_scope(load_profile("mini"))
    assert scope is not None
    assert scope.words_outside(request_text) == ()


def test_another_profile_knows_every_word() -> None:
    assert open_scope(load_profile("workstation")) is None


def test_enhance_keeps_what_is_out_of_scope_and_refuses_a_file_of_nothing_else(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("a panda\nein Hund im Schnee\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["enhance", str(source), str(out), "--profile", "mini", "--json"])
    assert isinstance(result.exception, InputError)  # the command line makes it exit code 2
    assert "--profile small" in str(result.exception)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row["prompt"], row["status"]) for row in rows] == [
        ("a panda", "out_of_scope"), ("ein Hund im Schnee", "out_of_scope"),
    ]  # fmt: skip
    assert all("scope: mini draws paper cut-outs only" in row["findings"][0] for row in rows)


def test_a_rewriter_for_one_image_model_says_what_to_do_for_another() -> None:
    with pytest.raises(ConfigError, match="--profile workstation"):
        Asking.of(load_profile("mini").rewriter, load_target("flux"))


@pytest.mark.integration
def test_an_edit_that_nobody_can_judge_has_no_score(tmp_path: Path) -> None:
    picture = tmp_path / "star.png"
    Image.new("RGB", (64, 64), "white").save(picture)
    result = redraft.edit(
        picture, "mach den Stern blau", out=tmp_path, seed=1, limits=redraft.Limits(max_images=2, max_rounds=1)
    )
    shown = drawn_json(result)
    assert (shown["score"], shown["accepted"], shown["stop"]) == (None, False, "unchecked")
    assert shown["unchecked"]
    assert any("this edit cannot be checked" in warning for warning in shown["warnings"])
