"""GenEval 2 (Kamath et al. 2025): 800 prompts of 3 to 10 atoms, a question for each.

File: `geneval2_data.jsonl`, a line {"prompt", "atom_count", "vqa_list": [[question, answer], ...], "skills": [...]};
vqa_list and skills have one length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from eval_suites.sources import Row, as_int, find, published_notes, read_records, want, want_texts
from eval_suites.suite import Data, Item, Question, Suite, geometric_probability, mean_probability
from evaluator.keypoints import find_keypoint
from evaluator.types import Check
from redraft.errors import InputError
from redraft.files import write_atomically

SOURCE = "https://github.com/facebookresearch/GenEval2 (geneval2_data.jsonl)"


def load(place: Path, _: str) -> Data:
    file = find(place, ("geneval2_data.jsonl", "*.jsonl"), SOURCE)
    items: list[Item] = []

    def read(row: Row) -> None:
        pairs, skills = want(row, "vqa_list", list), want_texts(row, "skills")
        if not pairs or len(pairs) != len(skills):
            raise InputError(f"vqa_list has {len(pairs)} entries, skills {len(skills)}; they go in pairs")
        questions = tuple(_question(pair, skill) for pair, skill in zip(pairs, skills, strict=True))
        tags = {"atoms": (f"{as_int(row, 'atom_count'):02d}",)}
        items.append(Item(f"{len(items):04d}", want(row, "prompt", str), questions, tags))

    read_records([file], read)
    return Data(tuple(items), (file,), published_notes(file, len(items), 800))


def _question(pair: object, skill: str) -> Question:
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
        raise InputError(f"an entry of 'vqa_list' is {pair!r}, not [question, answer]")
    text, answer = pair
    point = find_keypoint(skill).id
    if answer.strip().lower() in ("yes", "no"):
        return Question(Check(point, text), wanted=answer.strip().lower() == "yes", label=skill)
    return Question(Check(point, f'Is "{answer.strip()}" the right answer to this question: {text}'), label=skill)


def place(item: Item, k: int) -> str:
    return f"{item.id}_{k}.png"


def finish(folder: Path, items: Sequence[Item], images: int) -> None:
    """The official script takes one picture a prompt, as JSON {prompt: path}; one such file for each k."""
    for k in range(images):
        paths = {item.prompt: str((folder / place(item, k)).resolve()) for item in items}
        write_atomically(folder / f"image_paths_{k}.json", json.dumps(paths, ensure_ascii=False, indent=1).encode())


SUITE = Suite(
    name="geneval2",
    title="GenEval 2",
    source=SOURCE,
    licence="CC BY-NC 4.0",
    official="Soft-TIFA: Qwen3-VL-8B's probability of each right answer; arithmetic and geometric mean.",
    measure="GenEval 2's questions in yes/no form, by this profile's judge: probability of the right answer. Soft-TIFA "
    "reads Qwen3-VL-8B's probability of the answer word itself, so this is not its score.",
    value_name="probability of the right answers",
    load=load,
    place=place,
    value=mean_probability,
    images=1,
    extras={"geometric mean": geometric_probability},
    finish=finish,
)
