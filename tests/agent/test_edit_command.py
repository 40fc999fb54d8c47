"""`redraft edit` as a user has it, and what it says to pictures and masks that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.testing import paint
from editors.backend import ImageTask
from tests.agent.conftest import KEY, Redraft

Serve = Callable[..., Any]


def with_editor(server: Any, folder: Path, **limits: float) -> Path:
    path: Path = server.profile(folder, **limits)
    path.write_text(
        path.read_text()
        + f"""
[editor]
kind = "openai_images"
model = "test-editor"
batch_size = 2
server = {{ base_url = "{server.address}", api_key_env = "REDRAFT_TEST_KEY", timeout_s = 20, max_retries = 0 }}
"""
    )
    return path


def test_a_picture_is_edited_and_told_as_json(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    paint(ImageTask("given", 1)).save(tmp_path / "given.png")
    with model_server("unused", good="finely") as server:
        profile = with_editor(server, tmp_path)
        done = redraft(
            "edit", "given.png", "make it finely red", "--profile", profile, "--seed", "4", "--json", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert (result["stop"], result["accepted"], result["request"]) == ("accepted", True, "make it finely red")
        assert {attempt["kind"] for attempt in result["attempts"]} == {"edit"}
        assert (tmp_path / result["run"] / "source.png").is_file()
        assert (tmp_path / result["image"]).is_file()
        assert "fixed rules" in done.stderr, "the test server's chat model cannot plan, and the warning says so"
        edits = [body for path, body in server.seen if path.endswith("/images/edits")]
        assert {body["prompt"] for body in edits} == {"make it finely red"}
        again = redraft("resume", result["run"], "--json", cwd=tmp_path)
        assert json.loads(again.stdout)["attempts"] == result["attempts"]
    written = b"".join(path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert KEY.encode() not in written


def test_what_a_user_can_mend_exits_2_in_plain_words(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    paint(ImageTask("given", 1)).save(tmp_path / "given.png")
    Image.new("L", (64, 30), 255).save(tmp_path / "flat.png")
    Image.new("L", (64, 64), 0).save(tmp_path / "empty.png")
    (tmp_path / "text.txt").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "given.png").read_bytes()[:200])
    with model_server("unused", good="finely") as server:
        profile = with_editor(server, tmp_path)
        (tmp_path / "plain").mkdir()
        plain = server.profile(tmp_path / "plain")
        cases: list[tuple[list[str | Path], str]] = [
            (["nosuch.png", "x"], "nosuch.png"),
            (["text.txt", "x"], "no picture of a known kind"),
            (["cut.png", "x"], "damaged or cut short"),
            (["given.png", "  "], "the instruction is empty; say what to change"),
            (["given.png", "x", "--mask", "flat.png"], "give a mask of the picture's own size"),
            (["given.png", "x", "--mask", "empty.png"], "marks nothing"),
            (["given.png", "x", "--images", "0"], "--images 0"),
            (["given.png", "x", "--profile", plain], "has no [editor]"),
        ]
        for arguments, said in cases:
            chosen = arguments if "--profile" in arguments else [*arguments, "--profile", profile]
            done = redraft("edit", *chosen, cwd=tmp_path)
            assert done.returncode == 2, (arguments, done.stderr)
            assert said in " ".join(done.stderr.split()), arguments
            assert "Traceback" not in done.stderr
        assert server.seen == [], "nothing was asked of any model"


@pytest.mark.parametrize("orientation", [1, 6])
def test_photos_are_edited_upright(tmp_path: Path, model_server: Serve, orientation: int, redraft: Redraft) -> None:
    picture = Image.new("RGB", (64, 48), "white")
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "photo.jpg", exif=exif)
    with model_server("unused", good="finely") as server:
        done = redraft(
            "edit", "photo.jpg", "make it finely", "--profile", with_editor(server, tmp_path), "--json", cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / json.loads(done.stdout)["run"] / "source.png") as given:
        assert given.size == ((64, 48) if orientation == 1 else (48, 64))
