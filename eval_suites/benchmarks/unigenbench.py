"""UniGenBench and ++ (Wang et al. 2025): 600 prompts, 27 test points in 10 dimensions, short and long, English and
Chinese.

Files: `test_prompts_{en,en_long,zh,zh_long}.csv` with index, prompt_* and sub_dims_*, the last a JSON object that holds
the test points and, in a list of equal length, how each shows in the prompt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval_suites.benchmarks.t2i_keypoints import question
from eval_suites.sources import Row, as_int, find, published_notes, read_table, unique, want, want_texts
from eval_suites.suite import Data, Item, Question, Suite, share_right
from evaluator.keypoints import find_keypoint
from evaluator.types import Check
from redraft.errors import InputError

SOURCE = "https://github.com/CodeGoat24/UniGenBench (data/test_prompts_*.csv)"
_KEYS = {"en": ("Testpoints", "Testpoint Description"), "zh": ("考点", "考点对应描述")}


def load(place: Path, variant: str) -> Data:
    name = f"test_prompts_{variant}.csv"
    file = find(place, (name, f"data/{name}"), SOURCE)
    language = variant[:2]
    points_key, told_key = _KEYS[language]

    def read(row: Row) -> Item:
        dims = _dims(row)
        points, descriptions = want_texts(dims, points_key), want_texts(dims, told_key)
        if not points or len(points) != len(descriptions):
            raise InputError(f"{len(points)} {points_key}, but {len(descriptions)} {told_key}; they go in pairs")
        questions = tuple(
            Question(Check(find_keypoint(point).id, question(text.strip('" '), language)), label=point)
            for point, text in zip(points, descriptions, strict=True)
        )
        return Item(f"{as_int(row, 'index')}", want(row, _column(row, "prompt"), str), questions)

    items = read_table(file, read)
    unique((item.id for item in items), file)
    return Data(items, (file,), published_notes(file, len(items), 600))


def _dims(row: Row) -> Mapping[str, Any]:
    name = _column(row, "sub_dims")
    try:
        dims = json.loads(want(row, name, str))
    except ValueError as error:
        raise InputError(f"field {name!r} is not JSON: {error}") from None
    if not isinstance(dims, dict):
        raise InputError(f"field {name!r} is a JSON {type(dims).__name__}, not an object")
    return dims


def _column(row: Row, stem: str) -> str:
    """The column `stem` or `stem_<language>`: the long files do not repeat the length in it."""
    names = [name for name in row if name == stem or name.startswith(f"{stem}_")]
    return names[0] if names else stem


SUITE = Suite(
    name="unigenbench",
    title="UniGenBench++",
    source=SOURCE,
    licence="CC BY 4.0",
    official="Gemini-2.5-Pro, or UniGenBench-EvalModel, gives 0 or 1 to every test point after an analysis.",
    measure="UniGenBench's test points and descriptions, each put to this profile's judge as a yes/no question. The "
    "published figures are Gemini-2.5-Pro's, so compare conditions here, not with those.",
    value_name="test points met",
    load=load,
    place=lambda item, k: f"{item.id}_{k}.png",
    value=share_right,
    variants=("en", "en_long", "zh", "zh_long"),
)
