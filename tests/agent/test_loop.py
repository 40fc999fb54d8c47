"""The whole graph, with fakes in place of models: how a run goes, why it stops, what it leaves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from PIL import Image

from agent.events import ChecklistMade, ImageDrawn, Judged, RewriteMade, RunFinished, StepProgress, Warned
from agent.graph import STATE_TYPES
from agent.models import CallLimit
from agent.run import CheckedSerializer, Run, RunResult, resume, run_draw
from agent.testing import CHECKS, fake_models, paint
from agent.types import Decision, StopReason, Task
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from evaluator.testing import FakeChecklistBuilder, FakeJudge
from evaluator.types import Check, Outcome
from redraft.errors import BackendError, InputError, ServerError
from redraft.images import read_provenance
from redraft.limits import Limits
from rewriter.testing import FakeRewriter
from tests.agent.loop_runs import FAILED, FAIR, GOOD, POOR, by_word, resumed, run


def record(result: RunResult) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((result.folder / "run.json").read_text())
    return loaded


async def test_accepted_in_the_first_round(tmp_path: Path) -> None:
    result, events = await run(fake_models(by_word(fine=GOOD), rewriter=FakeRewriter([["a fine one"]])), tmp_path)
    assert result.stop is StopReason.ACCEPTED
    assert result.best_attempt is not None
    assert result.best_attempt.prompt == "a fine one"
    assert [attempt.prompt for attempt in result.attempts] == ["three circles", "a fine one"]
    kinds = [type(event) for event in events if not isinstance(event, StepProgress)]
    assert kinds.index(ChecklistMade) < kinds.index(RewriteMade) < kinds.index(ImageDrawn) < kinds.index(Judged)
    assert kinds[-1] is RunFinished


async def test_repaired_in_the_second_round(tmp_path: Path) -> None:
    rewriter = FakeRewriter([["a fair try"], ["a fine one"]])
    result, _ = await run(fake_models(by_word(fair=FAIR, fine=GOOD), rewriter=rewriter), tmp_path)
    assert result.stop is StopReason.ACCEPTED
    assert result.best_attempt is not None
    assert result.best_attempt.round == 2
    feedback = rewriter.calls[1].feedback
    assert rewriter.calls[0].feedback is None
    assert feedback is not None
    assert (feedback.prompt, feedback.failed) == ("a fair try", ("Is the star above the circles?",))


async def test_the_original_wins_where_rewrites_are_worse(tmp_path: Path) -> None:
    limits = Limits(max_rounds=2)
    worse = fake_models(lambda prompt, seed: FAIR if prompt == "ask" else POOR, rewriter=FakeRewriter([["x"], ["y"]]))
    result, _ = await run(worse, tmp_path, limits=limits, prompt="ask")
    assert result.best == 0
    assert result.best_attempt is not None
    assert result.best_attempt.prompt == "ask"


async def test_every_picture_is_judged_against_the_users_own_words_and_never_against_a_rewrite(tmp_path: Path) -> None:
    models = fake_models(by_word(fair=FAIR), rewriter=FakeRewriter([["a fair try"], ["something else"]]))
    result, _ = await run(models, tmp_path, limits=Limits(max_rounds=2), prompt="three circles")
    assert {attempt.prompt for attempt in result.attempts} == {"three circles", "a fair try", "something else"}
    assert isinstance(models.checklist_maker, FakeChecklistBuilder)
    assert isinstance(models.judge, FakeJudge)
    assert set(models.checklist_maker.requests) == {"three circles"}
    asked = {(request, checks) for _, request, checks in models.judge.calls}
    assert asked == {("three circles", CHECKS)}, "the same request and the same checks in every round"


async def test_the_best_is_returned_not_the_last(tmp_path: Path) -> None:
    rewriter = FakeRewriter([["x"], ["fair"], ["y"], ["z"]])
    result, _ = await run(fake_models(by_word(fair=FAIR), rewriter=rewriter), tmp_path)
    assert result.stop is StopReason.BUDGET
    assert result.best_attempt is not None
    assert (result.best_attempt.prompt, result.best_attempt.round) == ("fair", 2)
    assert result.image is not None
    assert read_provenance(result.image)["redraft:prompt"] == "fair"


async def test_plateau(tmp_path: Path) -> None:
    limits = Limits(max_rounds=20, max_images=40, patience=2)
    result, _ = await run(fake_models(by_word()), tmp_path, limits=limits)
    assert result.stop is StopReason.PLATEAU
    assert max(attempt.round for attempt in result.attempts) == 3


@pytest.mark.parametrize(("images", "a_round", "expected"), [(8, 2, 8), (5, 2, 5), (3, 4, 3), (1, 2, 1)])
async def test_never_more_images_than_allowed(tmp_path: Path, images: int, a_round: int, expected: int) -> None:
    backend = FakeBackend(paint=paint)
    limits = Limits(max_rounds=50, max_images=images, images_per_round=a_round, patience=50)
    result, _ = await run(fake_models(by_word(), backend=backend), tmp_path, limits=limits)
    assert result.stop is StopReason.BUDGET
    assert len(result.attempts) == sum(len(call) for call in backend.calls) == expected


async def test_out_of_time_between_batches(tmp_path: Path) -> None:
    class Slow(FakeBackend):
        def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
            threading.Event().wait(0.2)
            return super().render(tasks, on_step)

    limits = Limits(max_seconds=0.1, images_per_round=4, max_images=40, max_rounds=20)
    models = fake_models(by_word(), backend=Slow(paint=paint), batch_size=1)
    result, _ = await run(models, tmp_path, limits=limits)
    assert result.stop is StopReason.TIME
    assert len(result.attempts) == 1
    assert result.image is not None


async def test_batches_are_no_larger_than_the_backend_takes(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint)
    limits = Limits(images_per_round=5, max_images=5)
    await run(fake_models(by_word(), backend=backend, batch_size=2), tmp_path, limits=limits)
    assert [len(call) for call in backend.calls] == [2, 2, 1]


async def test_a_judge_that_fails_everywhere_fails_the_run_and_can_be_asked_again(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint)
    models = fake_models(lambda prompt, seed: (FAILED,) * 3, backend=backend)
    result, _ = await run(models, tmp_path)
    assert result.stop is StopReason.FAILED
    assert result.error is not None
    assert result.best_attempt is not None
    assert result.best_attempt.score is None
    drawn = len(backend.calls)
    mended = fake_models(lambda prompt, seed: GOOD, backend=backend)
    again = await resumed(result.folder, mended)
    assert again.stop is StopReason.ACCEPTED
    assert len(backend.calls) == drawn, "the pictures were there already"


async def test_a_picture_with_unanswered_checks_is_not_accepted(tmp_path: Path) -> None:
    def opinion(prompt: str, seed: int) -> tuple[float | Outcome, ...]:
        return (0.99, 0.99, FAILED) if prompt == "holes" else FAIR

    models = fake_models(opinion, rewriter=FakeRewriter([["holes"]]))
    result, _ = await run(models, tmp_path, limits=Limits(max_rounds=1))
    assert result.stop is StopReason.BUDGET
    assert result.best_attempt is not None
    assert result.best_attempt.report.failed == 1


async def test_a_backend_that_fails_hands_back_what_there_is_and_can_be_resumed(tmp_path: Path) -> None:
    script = [None, BackendError("out of memory; use a smaller size")]
    failing = FakeBackend(paint=paint, script=script)
    rewriter = FakeRewriter([["fair"], ["fine"]])
    result, events = await run(fake_models(by_word(fair=FAIR, fine=GOOD), rewriter=rewriter, backend=failing), tmp_path)
    assert result.stop is StopReason.FAILED
    assert result.error == "out of memory; use a smaller size"
    assert result.best_attempt is not None
    assert result.best_attempt.prompt == "fair"
    assert isinstance(events[-1], RunFinished)
    assert record(result)["error"] == result.error
    again = await resumed(result.folder, fake_models(by_word(fair=FAIR, fine=GOOD), rewriter=FakeRewriter([])))
    assert again.stop is StopReason.ACCEPTED
    assert [attempt.prompt for attempt in again.attempts] == ["three circles", "fair", "fine", "fair"]


async def test_a_server_fault_is_tried_once_more(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint, script=[ServerError("the image server timed out")])
    result, events = await run(fake_models(lambda p, s: GOOD, backend=backend), tmp_path)
    assert result.stop is StopReason.ACCEPTED
    assert [event.text for event in events if isinstance(event, Warned)] == [
        "the image server timed out; trying once more"
    ]


async def test_a_rewriter_whose_server_is_down_fails_the_run_before_any_picture(tmp_path: Path) -> None:
    down = ServerError("cannot reach http://127.0.0.1:9; start the server")
    result, _ = await run(fake_models(by_word(), rewriter=FakeRewriter([down, down])), tmp_path)
    assert (result.stop, result.best, result.image) == (StopReason.FAILED, None, None)
    assert result.trace.is_file()


async def test_the_short_ways_in(tmp_path: Path) -> None:
    result = await run_draw("ask", fake_models(by_word()), limits=Limits(), out=tmp_path, seed=1)
    again = await resume(result.folder, fake_models(by_word()))
    assert again.attempts == result.attempts


async def test_equal_seeds_give_equal_runs(tmp_path: Path) -> None:
    first, _ = await run(fake_models(by_word()), tmp_path)
    second, _ = await run(fake_models(by_word()), tmp_path)
    other, _ = await run(fake_models(by_word()), tmp_path, seed=8)
    assert first.attempts == second.attempts
    assert first.attempts != other.attempts


async def test_two_runs_may_share_their_parts(tmp_path: Path) -> None:
    models = fake_models(by_word(fine=GOOD), rewriter=FakeRewriter(lambda call: [f"{call.request} fine"]))
    results = await asyncio.gather(*(run(models, tmp_path, prompt=f"ask {i}") for i in range(4)))
    assert {result.best_attempt.prompt for result, _ in results if result.best_attempt} == {
        f"ask {i} fine" for i in range(4)
    }


@pytest.mark.parametrize("request_text", ["", " \n", "x" * 5000, "half \ud800"])
def test_requests_that_cannot_be_used(tmp_path: Path, request_text: str) -> None:
    with pytest.raises(InputError, match="request"):
        Run.start(request_text, fake_models(by_word()), limits=Limits(), out=tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_run_json_holds_the_whole_story(tmp_path: Path) -> None:
    result, _ = await run(
        fake_models(by_word(fair=FAIR), rewriter=FakeRewriter([["fair"], ["fine"], ["x"], ["y"]])), tmp_path
    )
    saved = json.loads((result.folder / "run.json").read_text())
    assert saved["stop"] == "budget"
    assert saved["best"] == 2
    assert [item["question"] for item in saved["checklist"]] == [check.question for check in CHECKS]
    assert [item["rewrites"][0]["prompt"] for item in saved["rounds"]] == ["fair", "fine", "x", "y"]
    assert saved["rounds"][-1]["decision"]["stop"] == "budget"
    assert {"checklist", "rewrite", "render", "judge", "total"} <= saved["seconds"].keys()
    for attempt in saved["attempts"]:
        assert (result.folder / attempt["image"]).is_file()
        assert len(attempt["report"]["verdicts"]) == len(CHECKS)
    provenance = read_provenance(result.images[1])
    assert provenance["redraft:request"] == "three circles"
    assert provenance["redraft:prompt"] == "fair"
    assert provenance["redraft:seed"] == str(result.attempts[1].seed)


async def test_the_state_survives_a_strict_checkpoint(tmp_path: Path) -> None:
    result, _ = await run(fake_models(by_word()), tmp_path)
    strict = CheckedSerializer(allowed_msgpack_modules=list(STATE_TYPES))
    async with AsyncSqliteSaver.from_conn_string(str(result.folder / "state" / "checkpoints.sqlite")) as saver:
        saver.serde = strict
        saved = await saver.aget({"configurable": {"thread_id": "run"}})
    assert saved is not None
    values = saved["channel_values"]
    assert values["checks"] == list(CHECKS)
    assert all(isinstance(check, Check) for check in values["checks"])
    assert all(isinstance(task, Task) for task in values["tasks"])
    assert isinstance(values["decision"], Decision)
    assert values["decision"].stop is StopReason.BUDGET
    assert all(isinstance(key, str) for key in values["attempts"])


def test_parts_serve_one_event_loop_after_another(tmp_path: Path) -> None:
    models = replace(fake_models(by_word()), calls=CallLimit(1))

    async def crowd(folder: Path) -> None:
        await asyncio.gather(*(run(models, folder, limits=Limits(max_rounds=1)) for _ in range(3)))

    for name in ("first", "second"):
        asyncio.run(crowd(tmp_path / name))
    assert len(list(tmp_path.glob("*/*/best.png"))) == 6


async def test_no_more_calls_at_once_than_allowed() -> None:
    limit, running, most = CallLimit(2), 0, 0

    async def call() -> None:
        nonlocal running, most
        async with limit:
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1

    await asyncio.gather(*(call() for _ in range(6)))
    assert most == 2
