"""Judges pictures against a request: checklist, coverage, judges, criteria, and one reward.

    from evaluator import case_of, open_evaluator
    from redraft.profiles import load_profile

    async def judge(image):
        make_checklist, reward = open_evaluator(load_profile("mini"))
        request = "a red star above a boat"
        made = await make_checklist(request)                    # once, from the user's own words
        print(made.unchecked)                                   # words that no check asks about
        report = await reward.judge(image, case_of(request, made))
        print(report.score, report.feedback, report.check_rows())

`evaluator.edits` scores edits, `evaluator.pairs` compares pictures, `evaluator.train` trains a judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redraft.lazy import find_lazily

if TYPE_CHECKING:
    from evaluator.checklist import ChecklistBuilder
    from evaluator.combine import aggregate, open_combine
    from evaluator.coverage import Coverage, find_coverage, load_lexicon
    from evaluator.judge import open_judge
    from evaluator.keypoints import KeyPoint, all_keypoints, find_keypoint
    from evaluator.reward import Reward, case_of, checks_reward, open_evaluator, open_reward
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

__all__ = [
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
    "case_of",
    "checks_reward",
    "find_coverage",
    "find_keypoint",
    "load_lexicon",
    "open_combine",
    "open_evaluator",
    "open_judge",
    "open_reward",
]

__getattr__ = find_lazily(
    __name__,
    {
        "evaluator.checklist": ("ChecklistBuilder",),
        "evaluator.combine": ("aggregate", "open_combine"),
        "evaluator.coverage": ("Coverage", "find_coverage", "load_lexicon"),
        "evaluator.judge": ("open_judge",),
        "evaluator.keypoints": ("KeyPoint", "all_keypoints", "find_keypoint"),
        "evaluator.reward": ("Reward", "case_of", "checks_reward", "open_evaluator", "open_reward"),
        "evaluator.types": (
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
    },
)
