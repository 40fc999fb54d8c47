"""GenAI-Bench (Li et al. 2024): prompts with the skills they take, and people's ratings of six models' pictures.

Files: `genai_image.json` {index: {"prompt", "models": {model: [ratings]}}} and `genai_skills.json` {skill: [index]}; or
Parquet / JSONL with Index, Prompt, Tags {"basic", "advanced"}, or id, prompt, basic_skills, advanced_skills.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval_suites.sources import Row, find_all, json_value, published_notes, read_json_dict, read_records, want
from eval_suites.suite import Data, Item, Question, Suite, mean_probability
from evaluator.types import Check
from redraft.errors import InputError
from redraft.images import open_image

SOURCE = "https://github.com/linzhiqiu/t2v_metrics (genai_image.json, genai_skills.json), or BaiqiL/GenAI-Bench-1600"
_GLOBS = ("genai_image.json", "*/genai_image.json", "data/*.parquet", "*.parquet", "*.jsonl")


def load(place: Path, _: str) -> Data:
    files = find_all(place, _GLOBS, SOURCE)
    if files[0].suffix == ".json":
        skills = skills_of(files[0].parent / "genai_skills.json")
        items = read_json_dict(files[0], lambda key, row: _item(key, want(row, "prompt", str), skills.get(key, ())))
        files = [*files, files[0].parent / "genai_skills.json"]
    else:
        items = read_records(files, _row)
    published = 527 if len(items) == 527 else 1600
    return Data(items, tuple(files), published_notes(files[0], len(items), published))


def skills_of(file: Path) -> Mapping[str, Sequence[str]]:
    """Prompt index to the skills it takes."""
    if not file.is_file():
        raise InputError(f"there is no {file}, which says what skills each prompt takes; get it from {SOURCE}")
    listed: dict[str, list[str]] = {}
    value = json_value(file)
    if not isinstance(value, dict) or not all(isinstance(indexes, list) for indexes in value.values()):
        raise InputError(f"{file} is no JSON object of lists")
    for skill, indexes in value.items():
        for index in indexes:
            listed.setdefault(str(index), []).append(skill)
    return listed


def _row(row: Row) -> Item:
    name = "Index" if "Index" in row else "id"
    key = row.get(name)
    if key is None:
        want(row, name, str)
    prompt = want(row, "Prompt" if "Prompt" in row else "prompt", str)
    tags: Any = row.get("Tags")
    if isinstance(tags, dict):
        skills = [skill for kind in ("basic", "advanced") for skill in tags.get(kind) or ()]
    else:
        skills = [skill for kind in ("basic_skills", "advanced_skills") for skill in row.get(kind) or ()]
    return _item(str(key), prompt, [str(skill) for skill in skills])


def _item(key: str, prompt: str, skills: Sequence[str]) -> Item:
    question = Question(Check("whole", f'Does this picture show "{prompt}"?'))
    return Item(key, prompt, (question,), {"skill": tuple(skills)} if skills else {})


def place(item: Item, k: int) -> str:
    return f"png/{item.id}_{k}.png"


def finish(folder: Path, items: Sequence[Item], _: int) -> None:
    """The official script wants one JPEG a prompt."""
    for item in items:
        open_image(folder / place(item, 0)).save(folder / f"{item.id}.jpeg", "JPEG", quality=95)


SUITE = Suite(
    name="genai-bench",
    title="GenAI-Bench",
    source=SOURCE,
    licence="Apache-2.0",
    official="VQAScore: CLIP-FlanT5-XXL's probability of yes to whether the picture shows the prompt.",
    measure="VQAScore's question, whether the picture shows the prompt, by this profile's judge: mean P(yes) / "
    "(P(yes) + P(no)). It is VQAScore only in form, not the CLIP-FlanT5-XXL score of that name.",
    value_name="probability that the picture shows the prompt",
    load=load,
    place=place,
    value=mean_probability,
    images=1,
    finish=finish,
)
