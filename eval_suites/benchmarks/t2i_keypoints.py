"""T2I-Keypoints-Eval (PromptEnhancer, Wang et al. 2025): prompts with the key points that each of them tests, in
Chinese and English.

Files: `data/train-*.parquet` (or JSONL) with ind, language, prompt, prompt_points, prompt_points_des; the last two are
lists of equal length.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.sources import Row, as_int, find_all, published_notes, read_records, unique, want, want_texts
from eval_suites.suite import Data, Item, Question, Suite, share_right
from evaluator.keypoints import find_keypoint
from evaluator.types import Check
from redraft.errors import InputError

SOURCE = "https://huggingface.co/datasets/PromptEnhancer/T2I-Keypoints-Eval (data/train-*.parquet)"
_COUNTS = {"all": 6687, "en": 3000, "zh": 3687}


def load(place: Path, variant: str) -> Data:
    files = find_all(place, ("data/train-*.parquet", "train-*.parquet", "*.parquet", "*.jsonl"), SOURCE)

    def read(row: Row) -> Item | None:
        language = want(row, "language", str).strip().lower()
        points, descriptions = want_texts(row, "prompt_points"), want_texts(row, "prompt_points_des")
        if not points or len(points) != len(descriptions):
            raise InputError(
                f"{len(points)} prompt_points, but {len(descriptions)} prompt_points_des; they go in pairs"
            )
        questions = tuple(
            Question(Check(find_keypoint(point).id, question(text, language)), label=point)
            for point, text in zip(points, descriptions, strict=True)
        )
        item = Item(
            f"{as_int(row, 'ind')}",
            want(row, "prompt", str),
            questions,
            {"language": (language,), "points": (f"{len(points)}",)},
            {"language": language},
        )
        return item if variant in ("all", language) else None

    items = tuple(item for item in read_records(files, read) if item is not None)
    if not items:
        raise InputError(f"{files[0]} holds no prompts of language {variant!r}")
    unique((item.id for item in items), files[0])
    return Data(items, tuple(files), published_notes(files[0], len(items), _COUNTS[variant]))


def question(description: str, language: str) -> str:
    """The description of a key point as a yes/no question."""
    description = " ".join(description.split())
    if language.startswith("zh"):
        return f"图中是否严格做到了：{description}"
    return f'Is this strictly met in the picture: "{description}"?'


SUITE = Suite(
    name="t2i-keypoints",
    title="T2I-Keypoints-Eval",
    source=SOURCE,
    licence="Apache-2.0",
    official="Gemini-2.5-Pro, after an analysis, accepts or rejects each key point by its description.",
    measure="The benchmark's key points and descriptions, each put to this profile's judge as a yes/no question. The "
    "published figures are Gemini-2.5-Pro's, so compare conditions here, not with those.",
    value_name="key points met",
    load=load,
    place=lambda item, k: f"{item.row['language']}/{item.id}_{k}.png",
    value=share_right,
    variants=("all", "en", "zh"),
)
