"""GenEval (Ghosh et al. 2023): objects, counts, colours, positions.

File: `evaluation_metadata.jsonl`, a line
    {"tag", "include": [{"class", "count", "color"?, "position"?: [relation, index]}], "exclude"?: [...], "prompt"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval_suites.sources import Row, as_int, find, published_notes, read_records, want
from eval_suites.suite import Data, Headline, Item, Question, Suite, every_right
from evaluator.types import Check
from redraft.errors import InputError
from redraft.files import write_atomically

SOURCE = "https://github.com/djghosh13/geneval (prompts/evaluation_metadata.jsonl)"
_PUBLISHED = ("5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PLURALS = {"person": "people", "computer mouse": "computer mice", "knife": "knives", "sheep": "sheep"}
_PAIRS = ("scissors", "skis")
_RELATIONS = {"left of": "to the left of", "right of": "to the right of"}


def load(place: Path, _: str) -> Data:
    file = find(place, ("evaluation_metadata.jsonl", "*evaluation_metadata.jsonl"), SOURCE)
    items: list[Item] = []

    def read(row: Row) -> None:
        tag, prompt = want(row, "tag", str), want(row, "prompt", str)
        include = _things(row, "include")
        if not include:
            raise InputError("field 'include' is empty")
        exclude = _things(row, "exclude") if "exclude" in row else []
        questions = _questions(tag, include, exclude)
        items.append(Item(f"{len(items):05d}", prompt, questions, {"task": (tag,)}, dict(row)))

    read_records([file], read)
    return Data(tuple(items), (file,), published_notes(file, len(items), 553, known=_PUBLISHED))


def _things(row: Row, name: str) -> list[Mapping[str, Any]]:
    things = want(row, name, list)
    for thing in things:
        if not isinstance(thing, dict):
            raise InputError(f"field {name!r} is no list of objects")
        want(thing, "class", str)
        as_int(thing, "count")
    return things


def _questions(
    tag: str, include: Sequence[Mapping[str, Any]], exclude: Sequence[Mapping[str, Any]]
) -> tuple[Question, ...]:
    questions: list[tuple[str, str]] = []
    for thing in include:
        name, count = thing["class"], int(thing["count"])
        # "at least 3" and "not 4 or more" of one class are together "exactly 3".
        exact = any(other["class"] == name and int(other["count"]) == count + 1 for other in exclude)
        described = f"{thing['color']} {name}" if "color" in thing else name
        point = "cross_entity_binding" if "color" in thing and len(include) > 1 else "color" if "color" in thing else ""
        questions.append((point or ("counting" if exact or count > 1 else "object"), _there(described, count, exact)))
        if "position" in thing:
            questions.append(("entity_layout", _placed(thing, include)))
    wanted = {thing["class"] for thing in include}
    unwanted = [thing["class"] for thing in exclude if thing["class"] not in wanted]
    questions += [("negation", f"Is the picture free of {plural(name)}?") for name in unwanted]
    return tuple(Question(Check(point, text), label=tag) for point, text in questions)


def _there(name: str, count: int, exact: bool) -> str:
    if count == 1 and not exact:
        return f"Are there {name}?" if name.endswith(_PAIRS) else f"Is there {article(name)} {name}?"
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    verb, noun = ("Is", name) if count == 1 else ("Are", plural(name))
    return f"{verb} there {'exactly' if exact else 'at least'} {number} {noun}?"


def _placed(thing: Mapping[str, Any], include: Sequence[Mapping[str, Any]]) -> str:
    try:
        relation, index = thing["position"]
        other = include[index]["class"]
    except (TypeError, ValueError, IndexError, KeyError):
        raise InputError(
            f"field 'position' is {thing['position']!r}, not [relation, index of another object]"
        ) from None
    verb = "Are" if thing["class"].endswith(_PAIRS) else "Is"
    return f"{verb} the {thing['class']} {_RELATIONS.get(relation, relation)} the {other}?"


def article(noun: str) -> str:
    """a or an, by the first letter."""
    return "an" if noun[0].lower() in "aeiou" else "a"


def plural(noun: str) -> str:
    """English plural of a class name, by rule; a colour before it does no harm."""
    for one, many in _PLURALS.items():
        if noun == one or noun.endswith(f" {one}"):
            return noun.removesuffix(one) + many
    if noun.endswith((*_PAIRS, "broccoli")):
        return noun
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def place(item: Item, k: int) -> str:
    return f"{item.id}/samples/{k:05d}.png"


def finish(folder: Path, items: Sequence[Item], _: int) -> None:
    """The metadata beside each prompt's samples, which the official script reads."""
    for item in items:
        (folder / item.id).mkdir(parents=True, exist_ok=True)
        write_atomically(folder / item.id / "metadata.jsonl", json.dumps(dict(item.row), ensure_ascii=False).encode())


SUITE = Suite(
    name="geneval",
    title="GenEval",
    source=SOURCE,
    licence="MIT",
    official="Mask2Former finds the objects and CLIP their colours; mean of the accuracies of six tasks.",
    measure="GenEval's requirements asked as yes/no questions of a vision-language judge. This is not GenEval's own "
    "score, which needs its object detector.",
    value_name="pictures that meet every requirement, mean over tasks",
    load=load,
    place=place,
    value=every_right,
    headline=Headline(axis="task"),
    finish=finish,
)
