"""T2I-CompBench and ++ (Huang et al. 2023, 2025): eight kinds of composition, 300 validation prompts each.

Files: `<category>_val.txt` (and `_train.txt`), a prompt a line.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.sources import published_notes, read_lines
from eval_suites.suite import Data, Headline, Item, Suite, file_name, share_right
from redraft.errors import InputError

SOURCE = "https://github.com/Karine-Huang/T2I-CompBench (examples/dataset/)"
CATEGORIES = ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")
_PUBLISHED = {"val": 300, "train": 700}


def load(place: Path, variant: str) -> Data:
    folder = place / "examples" / "dataset" if (place / "examples" / "dataset").is_dir() else place
    files = {category: folder / f"{category}_{variant}.txt" for category in CATEGORIES}
    there = {category: file for category, file in files.items() if file.is_file()}
    if not there:
        wanted = ", ".join(file.name for file in files.values())
        raise InputError(f"{place} is no folder with any of {wanted}; get them from {SOURCE}")
    items: list[Item] = []
    notes = [f"There is no {files[name].name}, so no {name}." for name in CATEGORIES if name not in there]
    for category, file in there.items():
        prompts = read_lines(file)
        notes += published_notes(file, len(prompts), _PUBLISHED[variant])
        items += [
            Item(f"{category}_{n:03d}", prompt, (), {"category": (category,)}, {"category": category})
            for n, prompt in enumerate(prompts)
        ]
    return Data(tuple(items), tuple(there.values()), tuple(notes))


SUITE = Suite(
    name="t2i-compbench",
    title="T2I-CompBench++",
    source=SOURCE,
    licence="MIT",
    official="BLIP-VQA for attributes, UniDet for spatial and numeracy, CLIPScore for non-spatial, a mean of three for "
    "complex; ten pictures a prompt.",
    measure="A checklist that the judge's profile makes of each prompt, answered yes/no by its judge. None of the "
    "benchmark's own scores (BLIP-VQA, UniDet, CLIPScore) is computed.",
    value_name="checks met, mean over categories",
    load=load,
    place=lambda item, k: f"{item.row['category']}/samples/{file_name(item.prompt)}_{k:06d}.png",
    value=share_right,
    images=10,
    variants=("val", "train"),
    headline=Headline(axis="category"),
)
