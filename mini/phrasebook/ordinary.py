"""Ordinary edits of cut-outs, as people type them, with pictures that they are said of.

edit = load_ordinary_edits()[0]
edit.says, edit.reads             # ("make the star blue", "recolour star to blue")
draw(edit.scene)                  # mini.world.raster: the picture
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from mini.world.scene import CutOut, PrintedWord, Scene


@dataclass(frozen=True, kw_only=True)
class OrdinaryEdit:
    """`reads`: what the phrase book makes of `says`, "" if it cannot be done; `lacks` is then a word of the reason."""

    says: str
    picture: str
    scene: Scene
    reads: str = ""
    lacks: str = ""


@cache
def load_ordinary_edits() -> tuple[OrdinaryEdit, ...]:
    """The edits of ordinary_edits.toml, in its order."""
    data = tomllib.loads((resources.files(__package__) / "ordinary_edits.toml").read_text(encoding="utf-8"))
    scenes = {name: _scene(picture) for name, picture in data["pictures"].items()}
    return tuple(OrdinaryEdit(scene=scenes[edit["picture"]], **edit) for edit in data["edit"])


def _scene(picture: dict[str, Any]) -> Scene:
    word = picture.get("word")
    cutouts = tuple(CutOut(**cutout) for cutout in picture["cutouts"])
    return Scene(picture["sheet"], cutouts, PrintedWord(**word) if word else None)
