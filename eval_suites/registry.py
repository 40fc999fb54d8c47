"""Which suites there are: name to the dotted path of its Suite, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from core.errors import InputError

GENERATION = {
    "geneval": "eval_suites.generation.geneval",
    "t2i-keypoints": "eval_suites.generation.t2i_keypoints",
    "partiprompts": "eval_suites.generation.partiprompts",
    "dpg-bench": "eval_suites.generation.dpg_bench",
    "geneval2": "eval_suites.generation.geneval2",
    "t2i-compbench": "eval_suites.generation.t2i_compbench",
    "unigenbench": "eval_suites.generation.unigenbench",
    "drawbench": "eval_suites.generation.drawbench",
    "tiif-bench": "eval_suites.generation.tiif_bench",
    "wise": "eval_suites.generation.wise",
    "genai-bench": "eval_suites.generation.genai_bench",
    "magicbench": "eval_suites.generation.magicbench",
}


def suite(name: str) -> Any:
    """The SUITE of that name. Raises InputError."""
    if name not in GENERATION:
        raise InputError(f"there is no suite {name!r}; there are cutouts, {', '.join(GENERATION)}")
    return import_module(GENERATION[name]).SUITE


def listing() -> str:
    """One line for each suite, with where its data comes from."""
    lines = ["cutouts          the mini world; needs no data"]
    for name in GENERATION:
        one = suite(name)
        lines.append(f"{name:<16} {one.source}; {one.licence}")
    return "\n".join(lines) + "\n"
