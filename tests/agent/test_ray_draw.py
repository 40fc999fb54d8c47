"""What Ray's actors do with a batch of rows. Ray itself is not needed."""

from __future__ import annotations

import importlib.util
import math
import pickle
from typing import Any

import pytest

from agent.enhance_judge import PictureRanker
from agent.ray_draw import DrawRows, JudgeRows, draw_dataset, draw_rewritten
from agent.testing import CHECKS, drawn_from, paint
from editors.backend import decode_image
from editors.testing import FakeBackend
from evaluator.reward import checks_reward
from evaluator.testing import FakeChecklistBuilder, FakeJudge
from redraft.errors import BackendError, MissingExtra
from redraft.limits import Limits
from redraft.profiles import load_profile

BATCH: dict[str, Any] = {"id": [1, 2], "request": ["a fox", "a hen"], "prompt": ["a fine fox", "a hen"], "seed": [7, 8]}


def test_rows_get_the_pictures_of_their_prompts_and_seeds() -> None:
    backend = FakeBackend(paint=paint)
    drawn = DrawRows(load_profile("mini"), backend)({**BATCH, "negative_prompt": ["blur", None]})
    assert [drawn_from(decode_image(image, "it")) for image in drawn["image"]] == [("a fine fox", 7), ("a hen", 8)]
    assert [task.negative_prompt for task in backend.calls[0]] == ["blur", None]
    assert (drawn["id"], drawn["draw_error"]) == ([1, 2], ["", ""])


def test_one_bad_prompt_fails_no_other() -> None:
    backend = FakeBackend(paint=paint, script=[BackendError("both"), BackendError("not this"), None])
    drawn = DrawRows(load_profile("mini"), backend)(BATCH)
    assert drawn["draw_error"] == ["not this", ""]
    assert [bool(image) for image in drawn["image"]] == [False, True]


def test_pictures_are_judged_by_their_requests_and_rows_without_one_have_no_score() -> None:
    judge = FakeJudge(lambda image, request, check: 0.99 if request == "a fox" else 0.1)
    ranker = PictureRanker(FakeChecklistBuilder(lambda _: CHECKS), checks_reward(judge), Limits())
    backend = FakeBackend(paint=paint)
    batch = DrawRows(load_profile("mini"), backend)({name: [*column, column[0]] for name, column in BATCH.items()})
    batch["image"][2] = b""
    judged = JudgeRows(load_profile("mini"), ranker)(batch)
    assert judged["score"][:2] == [pytest.approx(0.99), pytest.approx(0.1)]
    assert math.isnan(judged["score"][2])
    assert judged["accepted"] == [True, False, False]


def test_profiles_travel_to_workers() -> None:
    profile = load_profile("workstation")
    assert pickle.loads(pickle.dumps(profile)) == profile


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match="ray"):
        draw_dataset(None, load_profile("workstation"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_two_workers_of_a_real_ray_draw_and_judge() -> None:
    import ray  # type: ignore[import-not-found]

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    try:
        requests = ["a red star on white paper", "two blue circles on white paper", "a green heart on mint paper"]
        rows = [{"request": request, "prompt": request, "seed": seed} for seed, request in enumerate(requests)]
        drawn = draw_rewritten(ray.data.from_items(rows), load_profile("mini")).take_all()
    finally:
        ray.shutdown()
    assert sorted(row["request"] for row in drawn) == sorted(requests)
    assert all(row["draw_error"] == "" and decode_image(row["image"], "it").size[0] > 0 for row in drawn)
    assert all(0 <= row["score"] <= 1 for row in drawn)
