"""The 24 key points: the kinds of things that a request can ask for, and the names that data sets and models use."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict

OTHER = "other"
"""The group of labels that are none of the 24."""

_NO_LETTER = re.compile(r"[\W_]+")
_CATEGORY = re.compile(r"\s*[-–—―:：/]\s*")


class KeyPoint(BaseModel):
    """One kind of thing that a request can ask for.

    `definition` says when it is met; `question` is a sample yes/no question whose "yes" means as requested; `structural`
    says that a malformed body counts against it. `aliases` are the labels that data sets use for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    group: str
    definition: str = ""
    question: str = ""
    structural: bool = False
    aliases: tuple[str, ...] = ()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: dict[str, str]
    keypoint: tuple[KeyPoint, ...]


@cache
def _file() -> _File:
    text = (resources.files("evaluator") / "keypoints.toml").read_text(encoding="utf-8")
    return _File.model_validate(tomllib.loads(text))


def all_keypoints() -> tuple[KeyPoint, ...]:
    """The 24 key points, in the order of `keypoints.toml`."""
    return _file().keypoint


def group_names() -> dict[str, str]:
    """Group id to its full name; the last is `other`, for labels that are none of the 24."""
    return dict(_file().groups)


def find_keypoint(label: str) -> KeyPoint:
    """The key point that `label` means: its id, its name or an alias, whatever its case, dashes and spaces.

    "Category - Point" is tried whole first, then as "Point". A label that is none of the 24 is kept as a key point of
    its own in the group `other`.
    """
    names = _names()
    point = names.get(_normal(label))
    if point is None:
        parts = _CATEGORY.split(label.strip(), maxsplit=1)
        point = names.get(_normal(parts[-1]))
    if point is not None:
        return point
    name = " ".join(label.split())
    words = _NO_LETTER.sub("_", unicodedata.normalize("NFKC", name).casefold()).strip("_")
    return KeyPoint(id=words or OTHER, name=name or OTHER, group=OTHER)


@cache
def _names() -> dict[str, KeyPoint]:
    names: dict[str, KeyPoint] = {}
    for point in all_keypoints():
        for name in (point.id, point.name, *point.aliases):
            if names.setdefault(_normal(name), point) is not point:
                raise ValueError(f"keypoints.toml: {name!r} stands for {names[_normal(name)].id} and for {point.id}")
    return names


def _normal(label: str) -> str:
    return _NO_LETTER.sub("", unicodedata.normalize("NFKC", label).casefold())
