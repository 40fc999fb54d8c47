"""OneIG-Bench (Chang et al. 2025): prompts with questions that depend on one another; the dimension alignment.

Files: `OneIG-Bench.csv` (`OneIG-Bench-ZH.csv`) with category, id and prompt_en (prompt_cn), and for each of anime, human,
object (in Chinese also multilingualism) `scripts/alignment/Q_D/<class>.json` (`<class>_zh.json`): id to {"question": {number:
text}, "dependency": {number: [numbers]}}, both of which may be JSON in a text; 0 is no dependency. Prompts of other classes have
no questions, and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval_suites.sources import Row, find, find_all, published_notes, read_json_dict, read_table, unique, want
from eval_suites.suite import Data, Item, Question, Suite, share_right, write_grids
from evaluator.types import Check
from redraft.errors import InputError

SOURCE = "https://github.com/OneIG-Bench/OneIG-Benchmark (OneIG-Bench.csv and scripts/alignment/Q_D/)"
_CLASSES = {
    "anime": "anime",
    "portrait": "human",
    "human": "human",
    "object": "object",
    "multilingualism": "multilingualism",
}
"""A word of the category to the class whose questions it has."""
_FILES = {"en": ("OneIG-Bench.csv", 695), "zh": ("OneIG-Bench-ZH.csv", 895)}
_Asked = Mapping[str, tuple[Question, ...]]


def load(place: Path, variant: str) -> Data:
    name, published = _FILES[variant]
    file = find(place, (name,), SOURCE)
    suffix = "_zh" if variant == "zh" else ""
    globs = tuple(f"{folder}*.json" for folder in ("scripts/alignment/Q_D/", "Q_D/", ""))
    found = [path for path in find_all(file.parent, globs, SOURCE) if path.stem.endswith("_zh") == (variant == "zh")]
    asked: dict[str, _Asked] = {}
    for path in found:
        kind = path.stem.removesuffix(suffix) if suffix else path.stem
        asked[kind] = dict(read_json_dict(path, lambda key, row: ((key, _questions(row)),)[0]))
    column = "prompt_en" if variant == "en" else "prompt_cn"
    rows = read_table(file, lambda row: (want(row, "category", str), want(row, "id", str), want(row, column, str)))
    items = []
    for category, number, prompt in rows:
        kind = next((made for word, made in _CLASSES.items() if word in category.lower()), "")
        if kind not in asked:
            continue
        if number not in asked[kind]:
            raise InputError(f"{file}: prompt {number} of {category} has no questions in {kind}{suffix}.json")
        items.append(Item(f"{kind}-{number}", prompt, asked[kind][number], {"class": (kind,)}))
    if not items:
        raise InputError(f"{file}: no prompt belongs to {', '.join(asked)}; get the files from {SOURCE}")
    unique((item.id for item in items), file)
    return Data(tuple(items), (file, *found), published_notes(file, len(items), published))


def _questions(row: Row) -> tuple[Question, ...]:
    texts, parents = _numbered(row, "question"), _numbered(row, "dependency")
    index = {number: at for at, number in enumerate(texts)}
    questions = []
    for number, text in texts.items():
        needs = [int(parent) for parent in parents.get(number, [])]
        unknown = [parent for parent in needs if parent != 0 and parent not in index]
        if unknown or not isinstance(text, str):
            raise InputError(f"question {number} is no text, or depends on {unknown}, which is not there")
        questions.append(Question(Check("other", text), needs=tuple(index[p] for p in needs if p != 0)))
    return tuple(questions)


def _numbered(row: Row, name: str) -> dict[int, Any]:
    value: Any = row.get(name)
    try:
        value = json.loads(value) if isinstance(value, str) else value
        return {int(number): entry for number, entry in value.items()}
    except (ValueError, TypeError, AttributeError):
        raise InputError(f"field {name!r} is no object with numbers as keys") from None


def place(item: Item, k: int) -> str:
    return f"single/{item.id}_{k}.png"


def finish(folder: Path, items: Sequence[Item], images: int) -> None:
    """The official script wants the pictures of a prompt in one file, 2 x 2, as <class>/<model>/<id>."""
    write_grids(folder, items, images, place, lambda item: f"grid/{item.id.replace('-', f'/{folder.name}/', 1)}.png")


SUITE = Suite(
    name="oneig",
    title="OneIG-Bench, alignment",
    source=SOURCE,
    licence="none seen",
    official="Qwen2.5-VL-7B answers each question; one whose parent is answered no counts as no; mean over pictures. Text, "
    "reasoning, style and diversity have models of their own.",
    measure="OneIG-Bench's alignment questions and their dependencies, answered by this profile's judge. This is not the "
    "OneIG score, and its other four dimensions are not measured.",
    value_name="questions answered yes, their parents too",
    load=load,
    place=place,
    value=share_right,
    variants=("en", "zh"),
    finish=finish,
)
