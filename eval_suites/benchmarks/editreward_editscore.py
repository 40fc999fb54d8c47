"""EditReward-Bench of EditScore (Luo et al. 2025): which of two edits is better, in three dimensions.

Files: Parquet (or JSONL) with key [2], instruction, input_image, output_images [2], task_type, dimension. No field that
was seen says which edit is preferred: the first is, unless a `label` (index) says otherwise.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.pairs import JudgeData, JudgeSuite, Pair, picture
from eval_suites.sources import Row, as_int, find_all, published_notes, read_records, want
from redraft.errors import InputError

SOURCE = "https://huggingface.co/datasets/EditScore/EditReward-Bench"
_GLOBS = ("data/*.parquet", "*.parquet", "*.jsonl")


def load(place: Path, variant: str, unpacked: Path) -> JudgeData:
    files = find_all(place, _GLOBS, SOURCE)
    pairs: list[Pair] = []
    labels: list[bool] = []

    def read(row: Row) -> None:
        edits = want(row, "output_images", list)
        if len(edits) != 2:
            raise InputError(f"field 'output_images' holds {len(edits)} pictures, not 2")
        label = as_int(row, "label") if row.get("label") is not None else 0
        if label not in (0, 1):
            raise InputError(f"field 'label' is {label}, not 0 or 1")
        labels.append(row.get("label") is not None)
        dimension = want(row, "dimension", str)
        if variant not in ("all", dimension):
            return
        root = files[0].parent
        made = [picture(edit, "output_images", unpacked, root) for edit in edits]
        # Shown in turn first and second, or a judge that always prefers the first would be right.
        if len(pairs) % 2:
            made, label = made[::-1], 1 - label
        pairs.append(
            Pair(
                id=f"{len(pairs):05d}",
                prompt=want(row, "instruction", str),
                first=made[0],
                second=made[1],
                label="first" if label == 0 else "second",
                perspective=dimension,
                source=picture(row.get("input_image"), "input_image", unpacked, root),
            )
        )

    read_records(files, read)
    if not pairs:
        raise InputError(f"{files[0]} holds no pairs of dimension {variant!r}")
    notes = list(published_notes(files[0], len(pairs), 3072, unit="pairs")) if variant == "all" else []
    if not all(labels):
        notes.append("No field says which edit is preferred: the first of each two is taken to be.")
    return JudgeData(tuple(files), tuple(pairs), notes=tuple(notes))


SUITE = JudgeSuite(
    name="editreward-bench-editscore",
    title="EditReward-Bench (EditScore)",
    source=SOURCE,
    licence="Apache-2.0",
    official="Pairwise accuracy of a judge's scores, per dimension and overall.",
    measure="Pairwise accuracy on the benchmark's pairs, with this project's prompts for the judge: comparable to "
    "published figures of a judge only where that judge runs with its own; it is not EditScore's script.",
    load=load,
    variants=("all", "prompt_following", "consistency", "overall"),
)
