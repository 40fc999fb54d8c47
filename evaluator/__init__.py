"""Judges pictures against a request: checklist, coverage, judges, and one score.

    from evaluator import find_coverage, open_evaluator
    from redraft.profiles import load_profile

    async def judge(image):
        builder, evaluator = open_evaluator(load_profile("mini"))
        request = "a red star above a boat"
        checks = await evaluator.checklist(request)             # once, from the user's own words
        print(find_coverage(request, checks).uncovered)         # words that no check asks about
        report = await evaluator.score(image, request, checks)
        print(report.score, report.feedback, report.check_rows())

`evaluator.edits` scores edits, `evaluator.pairs` compares pictures, `evaluator.train` trains a judge.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluator.align import AlignEvaluator, open_evaluator
    from evaluator.checklist import ChecklistBuilder
    from evaluator.combine import aggregate, open_combine
    from evaluator.coverage import Coverage, find_coverage, load_lexicon
    from evaluator.judge import open_judge
    from evaluator.keypoints import KeyPoint, all_keypoints, find_keypoint
    from evaluator.reward import Reward, checks_reward
    from evaluator.types import (
        Case,
        Check,
        Checklist,
        ChecklistMaker,
        Combine,
        Criterion,
        Judge,
        Outcome,
        Reading,
        Reference,
        Report,
        Shot,
        Verdict,
    )

_MODULES = {
    "align": ("AlignEvaluator", "open_evaluator"),
    "checklist": ("ChecklistBuilder",),
    "combine": ("aggregate", "open_combine"),
    "coverage": ("Coverage", "find_coverage", "load_lexicon"),
    "judge": ("open_judge",),
    "keypoints": ("KeyPoint", "all_keypoints", "find_keypoint"),
    "reward": ("Reward", "checks_reward"),
    "types": (
        "Case",
        "Check",
        "Checklist",
        "ChecklistMaker",
        "Combine",
        "Criterion",
        "Judge",
        "Outcome",
        "Reading",
        "Reference",
        "Report",
        "Shot",
        "Verdict",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AlignEvaluator",
    "Case",
    "Check",
    "Checklist",
    "ChecklistBuilder",
    "ChecklistMaker",
    "Combine",
    "Coverage",
    "Criterion",
    "Judge",
    "KeyPoint",
    "Outcome",
    "Reading",
    "Reference",
    "Report",
    "Reward",
    "Shot",
    "Verdict",
    "aggregate",
    "all_keypoints",
    "checks_reward",
    "find_coverage",
    "find_keypoint",
    "load_lexicon",
    "open_combine",
    "open_evaluator",
    "open_judge",
]


def __getattr__(name: str) -> Any:
    """Loads what is asked for when it is first asked for, so that `import evaluator` stays free."""
    if name not in _HOME:
        raise AttributeError(f"module 'evaluator' has no attribute {name!r}")
    return getattr(import_module(f"evaluator.{_HOME[name]}"), name)
