"""Whole runs by every strategy: with fakes, with a tiny real pipeline, and with the embedded models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from agent.events import Decided, Judged, NeedsAnswer, Warned
from agent.models import Models
from agent.run import Run, RunResult
from agent.testing import fake_models
from agent.types import StopReason
from editors.testing import FakeBackend
from evaluator.reward import checks_reward
from evaluator.testing import FakeJudge
from redraft.errors import InputError
from redraft.limits import Limits
from redraft.profiles import SearchConfig
from tests.agent.conftest import Redraft

ROOT = Path(__file__).parents[2]
ASK = "three red circles above a blue star"


def doubtful(prompt: str, seed: int) -> tuple[float, ...]:
    return (0.9, (seed % 89) / 100, 0.4)


async def run(models: Models, out: Path, limits: Limits, **search: object) -> tuple[RunResult, list[object]]:
    session = Run.start(ASK, models, limits=limits, out=out, seed=7, search=SearchConfig.model_validate(search))
    events: list[object] = [event async for event in session.stream()]
    assert session.result is not None
    return session.result, events


class TestDrafts:
    LIMITS = Limits(max_images=10, max_rounds=2)

    async def test_the_winner_is_a_whole_picture_from_the_best_drafts_noise(self, tmp_path: Path) -> None:
        result, events = await run(fake_models(doubtful), tmp_path, self.LIMITS, strategy="draft", n=4, effort=0.5)
        drafts = [attempt for attempt in result.attempts if attempt.draft]
        whole = [attempt for attempt in result.attempts if not attempt.draft]
        assert (len(drafts), len(whole), result.stop) == (8, 2, StopReason.BUDGET)
        best = result.best_attempt
        assert best in whole
        first = max(drafts[:4], key=lambda attempt: attempt.score or 0.0)
        assert (whole[0].seed, whole[0].parent, whole[0].prompt) == (first.seed, first.image, first.prompt)
        assert sum(isinstance(event, Judged) for event in events) == 10
        assert result.cost.steps == 8 * 1 + 2 * 2

    async def test_a_perfect_draft_is_finished_before_it_is_accepted(self, tmp_path: Path) -> None:
        result, events = await run(
            fake_models(lambda *_: (1.0, 1.0, 1.0)), tmp_path, self.LIMITS, strategy="draft", n=4, effort=0.5
        )
        assert result.stop is StopReason.ACCEPTED
        assert [attempt.draft for attempt in result.attempts] == [True] * 4 + [False]
        first = next(event for event in events if isinstance(event, Decided))
        assert (first.decision.stop, first.decision.best) == (None, None)

    async def test_one_round_of_one_second_still_ends_with_a_whole_picture(self, tmp_path: Path) -> None:
        limits = Limits(max_images=10, max_rounds=1, max_seconds=1e-6)
        result, _ = await run(fake_models(doubtful), tmp_path, limits, strategy="draft", n=4, effort=0.5)
        assert result.best_attempt is not None
        assert not result.best_attempt.draft

    async def test_run_json_and_trace_say_what_was_a_draft_and_what_it_cost(self, tmp_path: Path) -> None:
        result, _ = await run(fake_models(doubtful), tmp_path, self.LIMITS, strategy="draft", n=4, effort=0.5)
        record = json.loads((result.folder / "run.json").read_text())
        assert [attempt["draft"] for attempt in record["attempts"]] == ([True] * 4 + [False]) * 2
        assert {name: record["cost"][name] for name in ("images", "drafts", "steps", "judgements")} == {
            "images": 10, "drafts": 8, "steps": 12, "judgements": 10,
        }  # fmt: skip
        page = result.trace.read_text()
        assert page.count('class="card draft"') == 8
        assert "finished from picture" in page
        assert "10 pictures (8 drafts), 12 denoiser steps, 10 judged" in page

    async def test_a_run_is_resumed_with_its_own_search(self, tmp_path: Path) -> None:
        session = Run.start(
            ASK,
            fake_models(doubtful),
            limits=self.LIMITS,
            out=tmp_path,
            seed=7,
            search=SearchConfig(strategy="best_of"),
        )
        again = Run.open(session.folder.path, fake_models(doubtful))
        assert again.search.strategy == "best_of"
        result = await again.run()
        assert (len(result.attempts), result.stop) == (8, StopReason.BUDGET)
        assert "best of 8" in result.why


async def test_many_rounds_of_drafts_fit_into_one_round_of_whole_pictures(tmp_path: Path) -> None:
    limits = Limits(max_images=64, max_rounds=2, patience=99)
    search = {"strategy": "evolve", "n": 2, "effort": 0.5, "generations": 14}
    result, _ = await run(fake_models(doubtful), tmp_path, limits, **search)
    assert (len(result.attempts), result.stop) == (2 * (28 + 1), StopReason.BUDGET)
    assert max(attempt.round for attempt in result.attempts) == 30


def test_steps_that_pay_no_picture_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_steps 1"):
        Run.start(ASK, fake_models(doubtful), limits=Limits(max_steps=1), out=tmp_path)
    assert not list(tmp_path.iterdir())


async def test_nobody_is_asked_about_drafts(tmp_path: Path) -> None:
    search = SearchConfig(strategy="draft", n=3, effort=0.5)
    limits = Limits(max_images=12)
    session = Run.start(ASK, fake_models(doubtful), limits=limits, out=tmp_path, seed=7, ask=True, search=search)
    events = [event async for event in session.stream()]
    assert isinstance(events[-1], NeedsAnswer)
    assert (events[-1].round, events[-1].number) == (2, 4)
    events = [event async for event in session.stream("again")]
    assert isinstance(events[-1], NeedsAnswer)
    assert (events[-1].round, len([event for event in events if isinstance(event, Judged)])) == (4, 4)
    async for _ in session.stream("accept"):
        pass
    assert session.result is not None
    assert session.result.stop is StopReason.ACCEPTED


async def test_a_gallery_is_drawn_by_its_generators(tmp_path: Path) -> None:
    def painter(name: str, red: int) -> FakeBackend:
        return FakeBackend(name=name, paint=lambda task: Image.new("RGB", (64, 64), (red, task.seed % 251, 0)))

    judge = FakeJudge(lambda image, _, check: ImageStat.Stat(image).mean[0] / 255)
    models = fake_models(doubtful, backend=painter("own", 50))
    gallery = {"b": painter("b", 180), "c": painter("c", 80)}
    models = replace(models, judge=judge, reward=checks_reward(judge), gallery=gallery)
    result, _ = await run(models, tmp_path, Limits(max_images=6, images_per_round=3), strategy="gallery")
    by = [attempt.backend for attempt in result.attempts]
    assert sorted(by[:3]) == ["", "b", "c"]
    assert set(by[3:]) == {"b"}
    assert json.loads((result.folder / "run.json").read_text())["attempts"][-1]["backend"] == "b"


async def test_a_generator_without_drafts_loops_and_warns_once(tmp_path: Path) -> None:
    models = fake_models(doubtful, backend=FakeBackend(abilities=frozenset()))
    judge = FakeJudge(lambda image, _, check: 0.3)
    models = replace(models, judge=judge, reward=checks_reward(judge))
    result, events = await run(models, tmp_path, Limits(max_images=4), strategy="draft")
    assert not any(attempt.draft for attempt in result.attempts)
    assert len([event for event in events if isinstance(event, Warned)]) >= 1
    assert len(result.warnings) == 1


@pytest.mark.integration
def test_drafts_with_the_embedded_models(tmp_path: Path, redraft: Redraft) -> None:
    request = "two red circles and a blue star"
    done = redraft("draw", request, "--search", "draft", "--out", "here", "--seed", "3", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    best = next(
        attempt for attempt in result["attempts"] if attempt["score"] == result["score"] and not attempt["draft"]
    )
    assert best["parent"] is not None
    assert result["images"] <= 8
    assert any(attempt["draft"] for attempt in result["attempts"])
