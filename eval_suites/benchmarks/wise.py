"""WISE (Niu et al. 2025): prompts that take world knowledge.

Files: JSON lists of {"Prompt", "Explanation", "Category", "Subcategory", "prompt_id"}: `data_verified/*_verified.json`,
or `data/*.json` of the first version, whose `*_rewrite.json` are left out.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.sources import Row, as_int, find_all, published_notes, read_json_list, unique, want
from eval_suites.suite import Data, Item, Question, Suite, share_right
from evaluator.types import Check

SOURCE = "https://github.com/PKU-YuanGroup/WISE (data_verified/, or WISE_legacy/data/)"
_GLOBS = {
    "verified": ("data_verified/*_verified.json", "*_verified.json"),
    "legacy": ("WISE_legacy/data/*.json", "data/*.json", "*.json"),
}


def load(place: Path, variant: str) -> Data:
    found = find_all(place, _GLOBS[variant], SOURCE)
    files = [file for file in found if not file.stem.endswith("_rewrite")] or found
    items = tuple(item for file in files for item in read_json_list(file, _read))
    unique((item.id for item in items), files[0].parent)
    return Data(items, tuple(files), published_notes(files[0].parent, len(items), 1000))


def _read(row: Row) -> Item:
    explanation = " ".join(want(row, "Explanation", str).split())
    question = Question(
        Check("knowledge_application", f'Does the picture show what is meant by the request, namely: "{explanation}"?')
    )
    tags = {"category": (want(row, "Category", str),), "subcategory": (want(row, "Subcategory", str),)}
    return Item(f"{as_int(row, 'prompt_id')}", want(row, "Prompt", str), (question,), tags)


SUITE = Suite(
    name="wise",
    title="WISE",
    source=SOURCE,
    licence="none seen",
    official="WiScore: GPT-4o gives consistency, realism and aesthetics 0 to 2, weighted .7, .2, .1; the verified data "
    "has a yes/no verdict instead.",
    measure="One yes/no question a picture, whether it shows what WISE's explanation says is meant, by this profile's "
    "judge. This is not WiScore, and says nothing of realism or beauty.",
    value_name="pictures that show what is meant",
    load=load,
    place=lambda item, k: f"{item.id}_{k}.png" if k else f"{item.id}.png",
    value=share_right,
    images=1,
    variants=("verified", "legacy"),
)
