"""Recipes of noise, and pictures at a part of the steps, on tiny instances of real pipelines of five families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageStat

from agent.run import Run
from agent.testing import CHECKS, fake_models
from editors.backend import ImageTask, open_backend, steps_at
from editors.diffusers_backend import DiffusersBackend
from editors.openai_images import OpenAIImagesBackend
from evaluator.reward import checks_reward
from evaluator.testing import FakeJudge
from redraft.errors import InputError
from redraft.limits import Limits
from redraft.profiles import BackendConfig, SearchConfig, ServerConfig, load_profile

Tiny = Callable[[str], Path]
GENERATORS = ["zimage", "flux", "sd3", "qwenimage", "sd"]


def backend(model: Path | str, **settings: Any) -> DiffusersBackend:
    defaults: dict[str, Any] = {"steps": 2, "batch_size": 4, "device": "cpu", "width": 32, "height": 32}
    return DiffusersBackend(BackendConfig(kind="diffusers", model=str(model), **(defaults | settings)))


def same(one: Image.Image, other: Image.Image) -> bool:
    return bool((np.asarray(one) == np.asarray(other)).all())


@pytest.mark.parametrize("name", [*GENERATORS, "klein"])
def test_a_recipe_of_noise_is_exact_and_leaves_its_neighbours_alone(tiny: Tiny, name: str) -> None:
    painter = backend(tiny(name))
    assert painter.abilities >= {"steps", "noise"}
    plain = painter.render([ImageTask("a fox", seed) for seed in (1, 2, 3)])
    recipes: list[tuple[tuple[int, float], ...]] = [((2, 0.0),), ((2, 1.0),), ()]
    mixed = painter.render([ImageTask("a fox", 3 if not r else 1, noise=r) for r in recipes])
    assert same(mixed[0], plain[0]), "b = 0 is the parent"
    assert same(mixed[1], plain[1]), "b = 1 is the other seed"
    assert same(mixed[2], plain[2]), "the neighbour has no recipe"
    half = [ImageTask("a fox", 1, noise=((2, 0.5),)), ImageTask("a fox", 1, noise=((2, 0.5), (3, 1.0)))]
    child, replaced, neighbour = painter.render([*half, ImageTask("a fox", 3)])
    assert not same(child, plain[0])
    assert not same(child, plain[1])
    assert same(replaced, painter.render([ImageTask("a fox", 1), ImageTask("a fox", 3), ImageTask("a fox", 3)])[1])
    assert same(neighbour, plain[2])
    assert same(painter.render([ImageTask("a fox", seed) for seed in (1, 2, 3)])[0], plain[0]), "nothing is left behind"


@pytest.mark.parametrize("name", GENERATORS)
def test_effort_is_the_share_of_the_steps(tiny: Tiny, name: str) -> None:
    steps: list[tuple[int, int]] = []
    drafted, whole = backend(tiny(name), steps=4).render(
        [ImageTask("a fox", 1, effort=0.5), ImageTask("a fox", 1)], lambda *step: steps.append(step)
    )
    assert same(drafted, backend(tiny(name), steps=2).render([ImageTask("a fox", 1)])[0])
    assert not same(drafted, whole)
    assert steps[-1][0] == 6, "two steps for the draft and four for the picture"


def test_mini_mixes_noises_and_draws_drafts() -> None:
    profile = load_profile("mini")
    painter = open_backend(profile.need_generator())
    assert (painter.abilities >= {"steps", "noise"}, painter.steps) == (True, 30)
    assert steps_at(30, 0.2) == 6
    asked = [ImageTask("two red stars", 1, noise=((2, 1.0),), effort=0.2), ImageTask("two red stars", 1, effort=0.2)]
    mixed, parent = painter.render(asked)
    _, other = painter.render([asked[1], ImageTask("two red stars", 2, effort=0.2)])
    assert same(mixed, other)
    assert not same(parent, other)


@pytest.mark.parametrize(
    ("task", "word"),
    [
        (ImageTask("a fox", 1, effort=0.0), "share of the steps"),
        (ImageTask("a fox", 1, effort=1.5), "share of the steps"),
        (ImageTask("a fox", 1, noise=((2, 1.5),)), "share of noise"),
        (ImageTask("a fox", 1, source=Image.new("RGB", (32, 32)), noise=((2, 0.5),)), "mix noises"),
    ],
)
def test_what_is_out_of_range_is_refused(tiny: Tiny, task: ImageTask, word: str) -> None:
    with pytest.raises(InputError, match=word):
        backend(tiny("sd")).render([task])


def test_servers_have_neither() -> None:
    server = ServerConfig(base_url="http://127.0.0.1:1/v1")
    painter = OpenAIImagesBackend(BackendConfig(kind="openai_images", model="painter", server=server))
    assert not {"steps", "noise"} & painter.abilities
    for task in (ImageTask("a fox", 1, effort=0.5), ImageTask("a fox", 1, noise=((2, 0.5),))):
        with pytest.raises(InputError, match="painter cannot"):
            painter.render([task])


async def test_a_search_by_drafts_on_a_real_pipeline(tiny: Tiny, tmp_path: Path) -> None:
    judge = FakeJudge(lambda image, _, check: ImageStat.Stat(image).mean[CHECKS.index(check)] / 255)
    models = fake_models(lambda *_: (), backend=backend(tiny("zimage"), steps=4))
    models = replace(models, judge=judge, reward=checks_reward(judge))
    search = SearchConfig(strategy="draft", n=4, effort=0.5)
    limits = Limits(max_images=5, accept_at=1.0)
    result = await Run.start("a fox", models, limits=limits, out=tmp_path, seed=7, search=search).run()
    assert [attempt.draft for attempt in result.attempts] == [True] * 4 + [False]
    assert [attempt.denoiser_steps for attempt in result.attempts] == [2] * 4 + [4]
    assert result.best_attempt is result.attempts[4]
    assert len({attempt.image for attempt in result.attempts}) == 5
