"""Why a check did not pass, and where in the picture: what a judge that explains is asked for, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from evaluator.grounding import Box, Coordinates, in_fractions, put_right
from evaluator.pairs.replies import json_objects
from redraft.errors import one_line

MAX_REASON = 500
"""Characters of a reason that are kept: the rewriter and the planner read it, and some judges never end."""

_REASON = re.compile(r'"reason"\s*:\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_YES = re.compile(r"^\W*yes\b|\bverdict\W+yes\b", re.IGNORECASE)
_Number = Annotated[float, Field(strict=True)]
_BOX = TypeAdapter(tuple[_Number, _Number, _Number, _Number], config=ConfigDict(allow_inf_nan=False))


@dataclass(frozen=True)
class Explanation:
    """`reason` is one line, "" where the judge gave none. `region`: what it is about, None where it has no place."""

    reason: str = ""
    region: Box | None = None


def schema(*, points: bool) -> Mapping[str, object]:
    """The JSON schema of the reply, with a box where `points`. The reason comes first, so that the rest follows it."""
    box = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
    properties: dict[str, object] = {
        "reason": {"type": "string"},
        "verdict": {"type": "string", "enum": ["yes", "no"]},
    }
    if points:
        properties["box"] = {"anyOf": [box, {"type": "null"}]}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_explanation(text: str, coordinates: Coordinates, size: tuple[int, int]) -> Explanation:
    """What a judge said of a check that did not pass; `size` is that of the picture, (width, height).

    A box that is none, has its corners out of order or reaches outside the picture is dropped, since a wrong place
    misleads more than none, and the reason is kept. Plain text is a reason, too, and so is that of broken JSON. One for
    "yes" would contradict the verdict that it is to explain, and is none.
    """
    said = text.rpartition("</think>")[2].strip()
    if said.startswith("<think>"):
        return Explanation()  # cut off in the midst of its thoughts
    replies = [reply for reply in json_objects(said) if isinstance(reply.get("reason"), str)]
    if replies:
        reply = replies[-1]
        if str(reply.get("verdict")).strip().lower() == "yes":
            return Explanation()
        return Explanation(_line(reply["reason"]), _region(reply.get("box"), coordinates, size))
    if _YES.search(said):
        return Explanation()
    if broken := _REASON.search(said):
        return Explanation(_line(broken[1].replace('\\"', '"')))
    return Explanation("" if said.startswith(("{", "[", "`")) else _line(said))


def _line(reason: str) -> str:
    if re.sub(r"\W+", "", reason).lower() in {"", "yes", "no", "none", "null"}:
        return ""
    # JSON can spell halves of surrogate pairs, which no file takes.
    return one_line(reason.encode(errors="replace").decode(), length=MAX_REASON)


def _region(told: object, coordinates: Coordinates, size: tuple[int, int]) -> Box | None:
    try:
        box = in_fractions(_BOX.validate_python(told), coordinates, size)
    except ValidationError:
        return None
    return box if box == put_right(box) else None
