"""MagicBench (Wang et al. 2025): 800 prompts for what goes wrong in bodies and things.

File: `subject_prompt800.jsonl`, a line {"prompt_t2i", "subject", "class", "detail_class"}; class is human, animal or
object.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from eval_suites.sources import Row, find, published_notes, read_records, want
from eval_suites.suite import Data, Item, Question, Suite, every_right
from evaluator.types import Check
from redraft.errors import InputError
from redraft.files import write_atomically

SOURCE = "https://github.com/wj-inf/MagicMirror (prompts/subject_prompt800.jsonl)"
_SOUND = {
    "human": (
        ("human_anatomy", "Do the people in the picture have whole, well-formed bodies, limbs, hands, feet and faces?"),
    ),
    "animal": (("animal_anatomy", "Do the animals in the picture have whole, well-formed bodies, limbs and heads?"),),
    "object": (("object_morphology", "Do the things in the picture have a whole and possible shape?"),),
}
_ALL = (
    ("element_interaction", "Are light, shadows, overlaps and places of things in the picture as they can be?"),
    ("element_attributes", "Are materials, details, proportions and colours in the picture free of obvious mistakes?"),
)


def load(place: Path, _: str) -> Data:
    file = find(place, ("subject_prompt800.jsonl", "prompts/subject_prompt800.jsonl", "*.jsonl"), SOURCE)
    items: list[Item] = []

    def read(row: Row) -> None:
        kind, subject = want(row, "class", str), want(row, "subject", str)
        if kind not in _SOUND:
            raise InputError(f"field 'class' is {kind!r}, not {', '.join(_SOUND)}")
        # Without its subject a picture counts as faulty whatever else it shows (the benchmark's rule).
        questions = [Question(Check("subject", f"Does the picture show this whole: {subject}?"))]
        questions += [Question(Check(point, text), needs=(0,)) for point, text in (*_SOUND[kind], *_ALL)]
        tags = {"class": (kind,), "detail": (want(row, "detail_class", str),)}
        items.append(Item(f"{len(items)}", want(row, "prompt_t2i", str), tuple(questions), tags, dict(row)))

    read_records([file], read)
    return Data(tuple(items), (file,), published_notes(file, len(items), 800))


def place(item: Item, k: int) -> str:
    return f"imgs/{item.id}_{k}.png"


def finish(folder: Path, items: Sequence[Item], images: int) -> None:
    """The list that MagicAssessor's script reads: each row with the paths of its pictures."""
    rows = [
        {**item.row, "gen_images": [str((folder / place(item, k)).resolve()) for k in range(images)]} for item in items
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(folder / f"merged_result_{folder.name}.jsonl", text.encode())


SUITE = Suite(
    name="magicbench",
    title="MagicBench",
    source=SOURCE,
    licence="none seen",
    official="MagicAssessor-7B labels artifacts; 100 * (1 - labelled / all).",
    measure="Four yes/no questions after MagicBench's kinds of artifact, by this profile's judge; a picture counts "
    "where all are yes. This is not MagicBench's score, which needs MagicAssessor-7B.",
    value_name="pictures without an artifact",
    load=load,
    place=place,
    value=every_right,
    images=1,
    finish=finish,
)
