"""Runs whose nearly equal pictures are compared with one another; with fakes in place of models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from agent.models import Models
from agent.run import resume
from agent.testing import drawn_from, fake_models
from agent.types import StopReason
from evaluator.criteria.pairs import Compared
from evaluator.pairs.judges import Comparison, PicturePair, WinRates
from redraft.limits import Limits
from tests.agent.loop_runs import FAIR, GOOD, by_word, run


class Taste:
    """Prefers the picture with the higher seed; `asked` counts its comparisons."""

    name = "taste"

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, pair: PicturePair) -> Comparison:
        self.asked += 1
        return Comparison(0.9 if drawn_from(pair.first)[1] > drawn_from(pair.second)[1] else 0.1)


def choosing(models: Models, taste: Taste) -> Models:
    """`models` that have equally good pictures compared by `taste`."""
    criteria = (*models.reward.criteria, (Compared(WinRates(taste)), 1.0))
    return replace(models, reward=replace(models.reward, criteria=criteria, margin=0.02))


async def test_equally_good_pictures_are_compared_two_by_two(tmp_path: Path) -> None:
    taste = Taste()
    limits = Limits(max_rounds=2, max_images=6, images_per_round=3, patience=5)
    models = choosing(fake_models(lambda *_: FAIR), taste)
    result, _ = await run(models, tmp_path / "chosen", limits=limits)
    assert result.best_attempt is not None
    assert result.best_attempt.seed == max(attempt.seed for attempt in result.attempts)
    images = len({attempt.image for attempt in result.attempts})
    assert taste.asked <= 2 * (3 + images * (images - 1) // 2), "once a round, all pairs, both orders"
    record = json.loads((result.folder / "run.json").read_text())
    assert max(record["attempts"], key=lambda one: one["standing"])["number"] == record["best"]
    plain, _ = await run(fake_models(lambda *_: FAIR), tmp_path / "plain", limits=limits)
    assert plain.best == 0
    before = taste.asked
    assert (await resume(result.folder, models)).best == result.best
    assert taste.asked == before, "what was compared is in the journal"


async def test_one_best_picture_is_compared_with_none(tmp_path: Path) -> None:
    taste = Taste()
    models = choosing(fake_models(by_word(detail=GOOD)), taste)
    result, _ = await run(models, tmp_path, limits=Limits(images_per_round=2))
    assert result.stop is StopReason.ACCEPTED
    assert taste.asked == 0
