"""Editing with the embedded models, as a user has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mini.world import oracle
from mini.world.raster import draw
from mini.world.scene import CutOut, Scene
from tests.agent.conftest import Redraft

ROOT = Path(__file__).parents[2]
SCENE = Scene(
    "mint",
    (CutOut("star", "red", "plain", 0.25, 0.3, 0.1), CutOut("circle", "green", "plain", 0.65, 0.7, 0.12)),
)

pytestmark = pytest.mark.integration


def colours(picture: Path) -> dict[str, str]:
    with Image.open(picture) as image:
        return {cut.shape: cut.color for cut in oracle.read_scene(image.convert("RGB")).cutouts}


def test_a_picture_is_edited(tmp_path: Path, redraft: Redraft) -> None:
    draw(SCENE).save(tmp_path / "given.png")
    done = redraft("edit", "given.png", "please make the star blue", "--seed", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["accepted"]
    assert {attempt["kind"] for attempt in result["attempts"]} == {"edit"}
    assert colours(tmp_path / result["image"]) == {"star": "blue", "circle": "green"}
    assert "Is there exactly one green circle?" in (tmp_path / result["trace"]).read_text()


def test_a_picture_that_the_editor_cannot_take_is_refused_with_the_reason(tmp_path: Path, redraft: Redraft) -> None:
    draw(SCENE).resize((300, 200)).save(tmp_path / "photo.png")
    done = redraft("edit", "photo.png", "make the star blue", "--images", "1", cwd=tmp_path)
    assert (done.returncode, "square pictures; this one has 300 x 200" in done.stderr) == (2, True), done.stderr


def test_a_session_edits_and_goes_back(tmp_path: Path, redraft: Redraft) -> None:
    draw(SCENE).save(tmp_path / "given.png")
    said = "/open given.png\nmake the star blue\n/save edited.png\n/undo\n/save before.png\n"
    done = redraft("chat", "--conversation", "talk", cwd=tmp_path, said=said)
    assert done.returncode == 0, done.stderr
    assert colours(tmp_path / "edited.png") == {"star": "blue", "circle": "green"}
    assert colours(tmp_path / "before.png") == {"star": "red", "circle": "green"}
