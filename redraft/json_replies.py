"""JSON in the replies of models: behind thoughts, prose and fences, before stray tokens, and with mistakes.

    read_json('Sure! ```json {"kind": "draw", "reason": \\'new\\',} ``` <|end|>', Turn).value

JSON that is right counts as it stands. Else json-repair (MIT, 0.2 MB, no dependencies) mends quotes, commas and brackets.
A reply that is cut off is mended only for callers that ask for it, and ends then with its last whole object: no half
sentence, number or word is taken for a whole one. What is read is validated as JSON that needed no repair is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

T = TypeVar("T", bound=BaseModel)

_LONGEST = 16_000
"""Longest text in characters that is repaired: the repair of a longer one can take a minute."""


@dataclass(frozen=True)
class ReadJson(Generic[T]):
    """What a reply says. `repaired`: the JSON had mistakes. `cut`: it is not whole, and its end is missing."""

    value: T
    repaired: bool = False
    cut: bool = False


def read_json(text: str, model: type[T], *, cut_ok: bool = False) -> ReadJson[T]:
    """The last JSON object in `text` that `model` takes; the last, since models think before they answer.

    If there is none, the text is repaired; if it is cut off, only if `cut_ok`, and without the object that it broke off
    in. Raises ValueError (pydantic's, if there is JSON of another shape).
    """
    text = without_thoughts(text)
    problem: ValueError | None = None
    for value in reversed(list(json_objects(text))):
        try:
            return ReadJson(_validate(value, model))
        except ValidationError as error:
            problem = problem or error
    cut = is_cut(text)
    if cut and not cut_ok:
        raise problem or ValueError(f"{text[:200]!r}, which breaks off, instead of JSON")
    for value in reversed(repaired_objects(text)):
        try:
            return ReadJson(_validate(value, model), repaired=True, cut=cut)
        except ValidationError as error:
            problem = problem or error
    raise problem or ValueError(f"{text[:200]!r} instead of JSON")


def json_in(text: str, *, truncated: bool = False) -> str:
    """The JSON of a reply alone if it is right, else the text if JSON can be read from it. Raises ValueError if not."""
    spoken = without_thoughts(text)
    try:
        json.loads(spoken)
    except (ValueError, RecursionError):
        pass
    else:
        return spoken.strip()
    objects = list(json_objects(spoken))
    if len(objects) == 1 and not is_cut(spoken):
        return json.dumps(objects[0], ensure_ascii=False)
    if objects or repaired_objects(spoken):
        return text
    why = " (cut off at max_tokens; raise it)" if truncated else ""
    raise ValueError(f"{spoken.strip()[:200]!r} instead of JSON{why}")


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, in order; other text is skipped."""
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
            yield value
        except (ValueError, RecursionError):
            pass
        start = text.find("{", end)


def repaired_objects(text: str) -> list[dict[str, Any]]:
    """The objects in a text that json-repair makes sense of. A text that is cut off ends with its last closed object."""
    start = text.find("{")
    if start < 0 or len(text) > _LONGEST:
        return []
    body = text[start : text.rfind("}") + 1] if is_cut(text) else text[start:]
    from json_repair import repair_json

    try:
        value = repair_json(body, return_objects=True, skip_json_loads=True)
    except Exception:  # noqa: BLE001 - the boundary to a parser of broken text
        return []
    values = value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, dict) and value]


def is_cut(text: str) -> bool:
    """Whether the brackets that the text's first { opens are not all closed: strings count as JSON writes them."""
    depth, quoted, escaped = 0, False, False
    for char in text[max(0, text.find("{")) :]:
        if quoted:
            quoted, escaped = (escaped or char != '"'), (char == "\\" and not escaped)
        elif char == '"':
            quoted = depth > 0
        elif char in "{[":
            depth += 1
        elif char in "}]" and depth:
            depth -= 1
            if depth == 0:
                return False
    return depth > 0


def without_thoughts(text: str) -> str:
    """The text behind the thoughts; empty if they are not closed."""
    spoken = text.rpartition("</think>")[2]
    return "" if spoken.lstrip().startswith("<think>") else spoken


def _validate(value: dict[str, Any], model: type[T]) -> T:
    return model.model_validate_json(json.dumps(value))  # as JSON, which pydantic reads more strictly in part
