"""Which suites there are: name to the module that holds its SUITE, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from redraft.errors import InputError

GENERATION = {
    "cutouts": "eval_suites.generation.cutouts",
    "geneval": "eval_suites.generation.geneval",
    "geneval2": "eval_suites.generation.geneval2",
    "t2i-keypoints": "eval_suites.generation.t2i_keypoints",
    "t2i-compbench": "eval_suites.generation.t2i_compbench",
    "dpg-bench": "eval_suites.generation.dpg_bench",
    "unigenbench": "eval_suites.generation.unigenbench",
    "partiprompts": "eval_suites.generation.partiprompts",
    "drawbench": "eval_suites.generation.drawbench",
    "tiif-bench": "eval_suites.generation.tiif_bench",
    "wise": "eval_suites.generation.wise",
    "genai-bench": "eval_suites.generation.genai_bench",
    "magicbench": "eval_suites.generation.magicbench",
}
EDITING = {
    "gedit-bench": "eval_suites.editing.gedit_bench",
    "imgedit-bench": "eval_suites.editing.imgedit_bench",
    "humanedit": "eval_suites.editing.humanedit",
}
JUDGING = {
    "cutouts-pairs": "eval_suites.judging.cutouts_pairs",
    "mj-bench": "eval_suites.judging.mj_bench",
    "editreward-bench-editscore": "eval_suites.judging.editreward_editscore",
    "editreward-bench-tiger": "eval_suites.judging.editreward_tiger",
    "genai-bench-ratings": "eval_suites.judging.genai_ratings",
    "pairs": "eval_suites.judging.pairs_jsonl",
}
ALL = GENERATION | EDITING | JUDGING


def suite(name: str) -> Any:
    """The Suite, EditSuite or JudgeSuite of that name. Raises InputError."""
    if name not in ALL:
        raise InputError(f"there is no suite {name!r}; there are {', '.join(ALL)}")
    return import_module(ALL[name]).SUITE


def listing() -> str:
    """One line for each suite, with where its data comes from."""
    groups = (("pictures from prompts", GENERATION), ("edits", EDITING), ("judges", JUDGING))
    lines = []
    for title, group in groups:
        lines.append(title)
        for name in group:
            one = suite(name)
            lines.append(f"  {name:<27} {one.source}; licence: {one.licence}")
    return "\n".join(lines) + "\n"
