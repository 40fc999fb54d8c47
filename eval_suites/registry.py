"""Which suites there are: name to the module that holds its SUITE, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from eval_suites.runner import AnySuite
from redraft.errors import InputError

SUITES = {
    "pictures from prompts": {
        "cutouts": "cutouts",
        "geneval": "geneval",
        "geneval2": "geneval2",
        "t2i-keypoints": "t2i_keypoints",
        "t2i-compbench": "t2i_compbench",
        "dpg-bench": "dpg_bench",
        "unigenbench": "unigenbench",
        "partiprompts": "partiprompts",
        "drawbench": "drawbench",
        "tiif-bench": "tiif_bench",
        "wise": "wise",
        "genai-bench": "genai_bench",
        "magicbench": "magicbench",
        "oneig": "oneig",
        "realbench": "realbench",
        "dreambench": "dreambench",
    },
    "edits": {
        "gedit-bench": "gedit_bench",
        "imgedit-bench": "imgedit_bench",
        "humanedit": "humanedit",
    },
    "judges": {
        "cutouts-pairs": "cutouts_pairs",
        "mj-bench": "mj_bench",
        "editreward-bench-editscore": "editreward_editscore",
        "editreward-bench-tiger": "editreward_tiger",
        "genai-bench-ratings": "genai_ratings",
        "pairs": "pairs_jsonl",
    },
    "captions": {
        "finecapeval": "finecapeval",
    },
    "the mini world": {
        "cutouts-edits": "cutouts_edits",
        "cutouts-rewriters": "cutouts_rewriters",
        "cutouts-captions": "cutouts_captions",
        "cutouts-looks": "cutouts_looks",
        "cutouts-search": "cutouts_search",
        "cutouts-rewards": "cutouts_rewards",
        "trust": "trust",
    },
}
ALL = {name: f"eval_suites.benchmarks.{module}" for group in SUITES.values() for name, module in group.items()}


def load_suite(name: str) -> AnySuite:
    """The suite of that name. Raises InputError."""
    if name not in ALL:
        raise InputError(f"there is no suite {name!r}; there are {', '.join(ALL)}")
    suite: AnySuite = import_module(ALL[name]).SUITE
    return suite


def list_suites() -> str:
    """One line for each suite, with where its data comes from."""
    lines = []
    for title, group in SUITES.items():
        lines.append(title)
        for name in group:
            suite = load_suite(name)
            lines.append(f"  {name:<27} {suite.source}; licence: {suite.licence}")
    return "\n".join(lines) + "\n"
