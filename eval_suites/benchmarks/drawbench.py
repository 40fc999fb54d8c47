"""DrawBench (Saharia et al. 2022): 200 prompts of 11 categories. File: a CSV with Prompts and Category."""

from __future__ import annotations

from pathlib import Path

from eval_suites.sources import Row, find, published_notes, read_table, want
from eval_suites.suite import Data, Item, Suite, share_right

SOURCE = "the sheet that Imagen's authors published, or DrawBench_Prompts.csv of github.com/tinnerhrhe/EvoSearch-codes"


def load(place: Path, _: str) -> Data:
    file = find(place, ("DrawBench_Prompts.csv", "*[dD]raw[bB]ench*.csv", "*.csv"), SOURCE)
    items: list[Item] = []

    def read(row: Row) -> None:
        tags = {"category": (want(row, "Category", str).strip(),)}
        items.append(Item(f"{len(items):03d}", want(row, "Prompts", str), (), tags))

    read_table(file, read)
    return Data(tuple(items), (file,), published_notes(file, len(items), 200))


SUITE = Suite(
    name="drawbench",
    title="DrawBench",
    source=SOURCE,
    licence="none seen",
    official="None is fixed; the authors asked people which of two models' pictures they prefer.",
    measure="A checklist that the judge's profile makes of each prompt, answered yes/no by its judge. DrawBench has no "
    "metric of its own.",
    value_name="checks met",
    load=load,
    place=lambda item, k: f"{item.id}/{k}.png",
    value=share_right,
)
