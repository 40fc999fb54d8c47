"""HumanEdit (Bai et al. 2024): 5,751 edits of six kinds, made and checked by people.

Files: Parquet (or JSONL) with IMAGE_ID, EDITING_TYPE, CORE, MASK, EDITING_INSTRUCTION, OUTPUT_DESCRIPTION, INPUT_IMG,
MASK_IMG, OUTPUT_IMG and two captions. Results: `<IMAGE_ID>.png`.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.edits import EditData, EditItem, EditSuite
from eval_suites.pairs import picture
from eval_suites.sources import Row, find_all, published_notes, read_records, unique, want
from redraft.errors import InputError

SOURCE = "https://huggingface.co/datasets/BryanW/HumanEdit"


def load(place: Path, variant: str, unpacked: Path) -> EditData:
    files = find_all(place, ("data/*.parquet", "*.parquet", "*.jsonl"), SOURCE)

    def read(row: Row) -> EditItem | None:
        if variant == "core" and not row.get("CORE"):
            return None
        key = want(row, "IMAGE_ID", str)
        source = picture(row.get("INPUT_IMG"), "INPUT_IMG", unpacked, files[0].parent)
        made = row.get("OUTPUT_IMG")
        return EditItem(
            key,
            want(row, "EDITING_INSTRUCTION", str),
            source,
            f"{Path(key).stem}.png",
            {"type": want(row, "EDITING_TYPE", str)},
            None if made is None else picture(made, "OUTPUT_IMG", unpacked, files[0].parent),
        )

    items = tuple(item for item in read_records(files, read) if item is not None)
    if not items:
        raise InputError(f"{files[0]} holds no edits of the part {variant!r}")
    unique((item.place for item in items), files[0])
    notes = published_notes(files[0], len(items), 5751, unit="edits") if variant == "all" else ()
    return EditData(items, tuple(files), notes)


SUITE = EditSuite(
    name="humanedit",
    title="HumanEdit",
    source=SOURCE,
    licence="CC BY 4.0",
    official="L1, L2, CLIP and DINO distances to the picture that people made.",
    measure="Edits scored by this profile's judge of edits, 0 to 100, with L1 and L2 to people's pictures. CLIP-T is not "
    "computed, and CLIP-I and DINO only if their models are the embedders that the profile names.",
    load=load,
    variants=("all", "core"),
)
