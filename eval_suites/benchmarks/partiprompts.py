"""PartiPrompts (Yu et al. 2022): 1,632 prompts of 12 categories and 11 challenges. File: `PartiPrompts.tsv` with
Prompt, Category, Challenge, Note."""

from __future__ import annotations

from pathlib import Path

from eval_suites.sources import Row, find, published_notes, read_table, want
from eval_suites.suite import Data, Item, Suite, share_right

SOURCE = "https://github.com/google-research/parti (PartiPrompts.tsv)"
_PUBLISHED = ("fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb",)


def load(place: Path, _: str) -> Data:
    file = find(place, ("PartiPrompts.tsv", "*.tsv"), SOURCE)
    items: list[Item] = []

    def read(row: Row) -> None:
        tags = {"category": (want(row, "Category", str),), "challenge": (want(row, "Challenge", str),)}
        items.append(Item(f"{len(items):04d}", want(row, "Prompt", str), (), tags))

    read_table(file, read, delimiter="\t")
    return Data(tuple(items), (file,), published_notes(file, len(items), 1632, known=_PUBLISHED))


SUITE = Suite(
    name="partiprompts",
    title="PartiPrompts",
    source=SOURCE,
    licence="Apache-2.0",
    official="None is fixed; the authors asked people.",
    measure="A checklist that the judge's profile makes of each prompt, answered yes/no by its judge. PartiPrompts has "
    "no metric of its own.",
    value_name="checks met",
    load=load,
    place=lambda item, k: f"{item.id}/{k}.png",
    value=share_right,
)
