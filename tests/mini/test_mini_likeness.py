"""Likeness to a reference by the shipped judge's vision tower, which was trained for nothing of the kind."""

from __future__ import annotations

import numpy as np
import pytest

from eval_suites.benchmarks.cutouts_rewards import ATTRIBUTES, sample_near_misses
from evaluator.criteria import Parts, open_criterion
from evaluator.judge import open_judge
from evaluator.reward import Reward
from evaluator.types import Case, Reference, Shot
from redraft.profiles import CriterionConfig, load_profile

SCENES = 40


@pytest.mark.integration
async def test_the_same_cut_out_is_told_from_near_misses() -> None:
    """By the criterion that a profile of `mini` opens by its name; docs/rewards.md has the figure on more scenes."""
    profile = load_profile("mini")
    parts = Parts(profile, open_judge(profile.need_judge()))
    config = CriterionConfig(use="subject", args={"embedder": "mini.judge.embedder:TowerEmbedder"})
    reward = Reward(((open_criterion(config, parts), 1.0),))
    rng = np.random.default_rng(16)
    same, others = [], []
    for _ in range(SCENES):
        made = sample_near_misses(rng)
        shots = [Shot((made.same,)), *(Shot((made.misses[name],)) for name in ATTRIBUTES)]
        first, *rest = [r.score for r in await reward(Case("", references=(Reference(made.reference),)), shots)]
        same.append(first)
        others += rest
    above = np.array(same, float)[:, None] - np.array(others, float)[None]
    auc = float(((above > 0) + 0.5 * (above == 0)).mean())
    assert auc > 0.85, f"AUC {auc:.3f}"
