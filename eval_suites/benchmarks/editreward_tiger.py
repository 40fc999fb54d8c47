"""EditReward-Bench of EditReward (Wu et al. 2025): pairs out of 2, 3 and 4 edits, ties among them.

Files: `*2pair*`, `*3pair*`, `*4pair*` Parquet (or JSONL) with id, instruction, source_image, candidate_1, candidate_2,
ranking ("A>B", "B>A", "A=B", and C, D), comparison_type. The letters stand for the candidates in alphabetical order.
"""

from __future__ import annotations

import re
from pathlib import Path

from eval_suites.pairs import JudgeData, JudgeSuite, Label, Pair, picture
from eval_suites.sources import Row, find_all, published_notes, read_records, want
from redraft.errors import InputError

SOURCE = "https://huggingface.co/datasets/TIGER-Lab/EditReward-Bench (access by agreement)"
_RANKING = re.compile(r"\s*\[*\s*([A-D])\s*([<>=])\s*([A-D])\s*\]*\s*")
_PUBLISHED = {"2pair": 186, "3pair": 450, "4pair": 888}


def load(place: Path, variant: str, unpacked: Path) -> JudgeData:
    sizes = tuple(_PUBLISHED) if variant == "all" else (variant,)
    files: list[Path] = []
    pairs: list[Pair] = []
    notes: list[str] = []
    for size in sizes:
        globs = [f"{folder}*{size}*{end}" for folder in ("", "data/", f"{size}/") for end in (".parquet", ".jsonl")]
        found = find_all(place, globs, SOURCE)
        files += found
        before = len(pairs)

        def read(row: Row, size: str = size, root: Path = found[0].parent) -> None:
            instruction = want(row, "instruction", str)
            source = picture(row.get("source_image"), "source_image", unpacked, root)
            pairs.append(
                Pair(
                    id=f"{size}-{len(pairs):05d}",
                    prompt=instruction,
                    first=picture(row.get("candidate_1"), "candidate_1", unpacked, root),
                    second=picture(row.get("candidate_2"), "candidate_2", unpacked, root),
                    label=_label(want(row, "ranking", str)),
                    perspective=size,
                    source=source,
                    group="" if size == "2pair" else f"{size} {source.name} {instruction}",
                )
            )

        read_records(found, read)
        notes += published_notes(found[0], len(pairs) - before, _PUBLISHED[size], unit="pairs")
    return JudgeData(tuple(files), tuple(pairs), notes=tuple(notes))


def _label(ranking: str) -> Label:
    match = _RANKING.fullmatch(ranking)
    if match is None or match[1] == match[3]:
        raise InputError(f"field 'ranking' is {ranking!r}, not like A>B, B>A or A=B")
    if match[2] == "=":
        return "tie"
    better = match[1] if match[2] == ">" else match[3]
    return "first" if better == min(match[1], match[3]) else "second"


SUITE = JudgeSuite(
    name="editreward-bench-tiger",
    title="EditReward-Bench (TIGER-Lab)",
    source=SOURCE,
    licence="Apache-2.0",
    official="Accuracy over A>B, B>A, A=B for two edits; for three and four, groups all of whose pairs are right.",
    measure="The benchmark's pairs and its two accuracies, with this project's prompts for the judge: comparable to "
    "published figures of a judge only where that judge runs with its own prompts, which are not used here.",
    load=load,
    variants=("all", "2pair", "3pair", "4pair"),
)
