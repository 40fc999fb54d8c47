"""DPG-Bench (ELLA, Hu et al. 2024): long prompts with a graph of questions.

Files: `dpg_bench.csv` with item_id, text, keywords, proposition_id, dependency, category_broad, category_detailed,
tuple, question_natural_language (a row a question; `dependency` lists proposition ids, 0 is none), and where it is
there the folder `prompts/` with `<item_id>.txt`, whose words are then drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval_suites.sources import Row, as_int, find, published_notes, read_table, read_text, unique, want
from eval_suites.suite import Data, Item, Question, Suite, share_right, write_grids
from evaluator.types import Check
from redraft.errors import InputError

SOURCE = "https://github.com/TencentQQGYLab/ELLA (dpg_bench/dpg_bench.csv and dpg_bench/prompts/)"

_Line = tuple[str, str, int, tuple[int, ...], str, str, str]


def load(place: Path, _: str) -> Data:
    file = find(place, ("dpg_bench.csv", "dpg_bench/dpg_bench.csv"), SOURCE)
    grouped: dict[str, list[_Line]] = {}
    for line in read_table(file, _line):
        grouped.setdefault(line[0], []).append(line)
    folder = file.parent / "prompts"
    files = [file]
    items = []
    for name, lines in grouped.items():
        prompt = lines[0][1]
        if folder.is_dir():
            text = folder / f"{name}.txt"
            if not text.is_file():
                raise InputError(f"{file} has questions for {name!r}, but there is no {text}; get it from {SOURCE}")
            prompt = read_text(text).strip()
            files.append(text)
        items.append(_item(name, prompt, lines, file))
    return Data(tuple(items), tuple(files), published_notes(file, len(items), 1065))


def _line(row: Row) -> _Line:
    needs = str(row.get("dependency", "")).strip() or "0"
    try:
        parents = tuple(int(float(part)) for part in needs.split(","))
    except ValueError:
        raise InputError(f"field 'dependency' is {needs!r}, not proposition ids with commas between") from None
    return (
        want(row, "item_id", str),
        want(row, "text", str),
        as_int(row, "proposition_id"),
        parents,
        want(row, "category_broad", str).strip(),
        want(row, "category_detailed", str).strip(),
        want(row, "question_natural_language", str).strip(),
    )


def _item(name: str, prompt: str, lines: Sequence[_Line], file: Path) -> Item:
    unique((f"proposition {line[2]} of {name}" for line in lines), file)
    index = {line[2]: n for n, line in enumerate(lines)}
    questions = []
    for _, _, proposition, parents, broad, detailed, text in lines:
        unknown = [parent for parent in parents if parent != 0 and parent not in index]
        if unknown:
            raise InputError(f"{file}: proposition {proposition} of {name} depends on {unknown}, which is not there")
        needs = tuple(index[parent] for parent in parents if parent != 0)
        questions.append(Question(Check(f"{broad} - {detailed}", text), needs=needs, label=broad))
    return Item(name, prompt, tuple(questions), {}, {"item_id": name})


def place(item: Item, k: int) -> str:
    return f"single/{item.id}_{k}.png"


def finish(folder: Path, items: Sequence[Item], images: int) -> None:
    """The official script wants the pictures of a prompt in one file, 2 x 2 in reading order."""
    write_grids(folder, items, images, place, lambda item: f"grid/{item.id}.png")


SUITE = Suite(
    name="dpg-bench",
    title="DPG-Bench",
    source=SOURCE,
    licence="Apache-2.0",
    official="mPLUG-large answers each question; one whose parent is answered no counts as no; mean over pictures.",
    measure="DPG-Bench's questions and their dependencies, answered by this profile's judge. This is not the DPG-Bench "
    "score, which is mPLUG-large's.",
    value_name="questions answered yes, their parents too",
    load=load,
    place=place,
    value=share_right,
    finish=finish,
)
