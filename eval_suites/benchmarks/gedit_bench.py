"""GEdit-Bench (Step1X-Edit, Liu et al. 2025): 606 edits that people wanted, in English and Chinese.

Files: Parquet (or JSONL) with task_type, key, instruction, instruction_language (en, cn), input_image, input_image_raw,
Intersection_exist. Results: `fullset/<task_type>/<language>/<key>.png`.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.edits import EditData, EditItem, EditSuite
from eval_suites.pairs import picture
from eval_suites.sources import Row, find_all, published_notes, read_records, unique, want
from redraft.errors import InputError

SOURCE = "https://huggingface.co/datasets/stepfun-ai/GEdit-Bench"
_PUBLISHED = {"all": 1212, "en": 606, "cn": 606}


def load(place: Path, variant: str, unpacked: Path) -> EditData:
    files = find_all(place, ("data/*.parquet", "*.parquet", "*.jsonl"), SOURCE)

    def read(row: Row) -> EditItem | None:
        language, task, key = (want(row, name, str) for name in ("instruction_language", "task_type", "key"))
        if variant not in ("all", language):
            return None
        name = "input_image" if row.get("input_image") else "input_image_raw"
        both = row.get("Intersection_exist")
        tags = {"task": task, "language": language}
        if both is not None:
            tags["intersection"] = "yes" if both else "no"
        source = picture(row.get(name), name, unpacked, files[0].parent)
        where = f"fullset/{task}/{language}/{key}.png"
        return EditItem(f"{language}/{key}", want(row, "instruction", str), source, where, tags)

    items = tuple(item for item in read_records(files, read) if item is not None)
    if not items:
        raise InputError(f"{files[0]} holds no edits in language {variant!r}")
    unique((item.id for item in items), files[0])
    return EditData(items, tuple(files), published_notes(files[0], len(items), _PUBLISHED[variant], unit="edits"))


SUITE = EditSuite(
    name="gedit-bench",
    title="GEdit-Bench",
    source=SOURCE,
    licence="none seen",
    official="VIEScore with GPT-4.1 or Qwen2.5-VL-72B: sqrt(semantics * quality), 0 to 10.",
    measure="Edits scored by this profile's judge of edits, 0 to 100. With --judge viescore the formula is VIEScore's, "
    "but the judge model is the profile's: not the published GEdit-Bench figures.",
    load=load,
    variants=("all", "en", "cn"),
)
