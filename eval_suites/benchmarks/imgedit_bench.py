"""ImgEdit-Bench, basic part (Ye et al. 2025): 737 single edits of nine kinds.

File: `basic_edit.json` {key: {"id": path of the picture, "prompt", "edit_type"}}; the pictures lie beside it, in
`singleturn/` or in the folder itself. Results: `<key>.png`.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.edits import EditData, EditItem, EditSuite
from eval_suites.sources import Row, find, published_notes, read_json_dict, want
from redraft.errors import InputError

SOURCE = "https://github.com/PKU-YuanGroup/ImgEdit (Benchmark/Basic/basic_edit.json, and Benchmark.tar for pictures)"


def load(place: Path, _: str, unpacked: Path) -> EditData:
    file = find(place, ("basic_edit.json", "Basic/basic_edit.json", "Benchmark/Basic/basic_edit.json"), SOURCE)

    def read(key: str, row: Row) -> EditItem:
        name = want(row, "id", str)
        folders = [root / name for root in (file.parent, file.parent / "singleturn", file.parent.parent / "singleturn")]
        there = [path for path in folders if path.is_file()]
        if not there:
            raise InputError(f"there is no picture {folders[0]}, nor in singleturn/; get the pictures from {SOURCE}")
        return EditItem(key, want(row, "prompt", str), there[0], f"{key}.png", {"type": want(row, "edit_type", str)})

    items = read_json_dict(file, read)
    return EditData(items, (file,), published_notes(file, len(items), 737, unit="edits"))


SUITE = EditSuite(
    name="imgedit-bench",
    title="ImgEdit-Bench (basic)",
    source=SOURCE,
    licence="none seen",
    official="GPT-4o gives three scores of 1 to 5 by a rubric for each kind; mean.",
    measure="Edits scored by this profile's judge of edits, 0 to 100, one rubric for all kinds: not ImgEdit-Bench's "
    "own score, which has a rubric for each kind and GPT-4o to read it.",
    load=load,
)
