"""The whole graph, with fakes in place of models."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from PIL import Image

from agent.events import Asked, ChecklistMade, Event, ImageDrawn, Judged, RewriteMade, RunFinished, StepProgress, Warned
from agent.fakes import CHECKS, Opinion, drawn_from, fake_parts, paint
from agent.parts import CallLimit, Chooser, Parts
from agent.run import RunResult, Session, resume, run_draw
from agent.state import STATE_TYPES
from agent.types import Answer, Decision, Limits, StopReason, Task
from core.errors import BackendError, InputError, ServerError
from core.images import read_provenance
from editors.fakes import FakeBackend
from editors.types import ImageTask, StepCallback
from evaluator.pairs.pairwise import WinRates
from evaluator.pairs.types import Comparison, Two
from evaluator.types import Check, Outcome
from rewriter.fakes import FakeRewriter

GOOD, POOR, FAIR = (0.97, 0.98, 0.99), (0.2, 0.3, 0.9), (0.9, 0.1, 0.9)
FAILED = Outcome.FAILED


def by_word(**opinions: tuple[float | Outcome, ...]) -> Opinion:
    """The opinion of the first word of the prompt that is named, else a poor one."""

    def opinion(prompt: str, seed: int) -> tuple[float | Outcome, ...]:
        return next((opinions[word] for word in prompt.split() if word in opinions), POOR)

    return opinion


async def run(
    parts: Parts,
    out: Path,
    *,
    limits: Limits | None = None,
    answers: Sequence[Answer] = (),
    prompt: str = "three circles",
    seed: int = 7,
) -> tuple[RunResult, list[Event]]:
    session = Session.start(
        prompt, parts, limits=limits or Limits(), out=out, seed=seed, ask=bool(answers), retry_wait_s=0.01
    )
    events = [event async for event in session.stream()]
    for answer in answers:
        assert isinstance(events[-1], Asked)
        events += [event async for event in session.stream(answer)]
    assert session.result is not None
    return session.result, events


async def resumed(folder: Path, parts: Parts) -> RunResult:
    return await Session.open(folder, parts, retry_wait_s=0.01).run()


def record(result: RunResult) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((result.folder / "run.json").read_text())
    return loaded


async def test_accepted_in_the_first_round(tmp_path: Path) -> None:
    result, events = await run(fake_parts(by_word(fine=GOOD), rewriter=FakeRewriter([["a fine one"]])), tmp_path)
    assert result.stop is StopReason.ACCEPTED
    assert result.best_attempt is not None
    assert result.best_attempt.prompt == "a fine one"
    assert [attempt.prompt for attempt in result.attempts] == ["three circles", "a fine one"]
    kinds = [type(event) for event in events if not isinstance(event, StepProgress)]
    assert kinds.index(ChecklistMade) < kinds.index(RewriteMade) < kinds.index(ImageDrawn) < kinds.index(Judged)
    assert kinds[-1] is RunFinished


async def test_repaired_in_the_second_round(tmp_path: Path) -> None:
    rewriter = FakeRewriter([["a fair try"], ["a fine one"]])
    result, _ = await run(fake_parts(by_word(fair=FAIR, fine=GOOD), rewriter=rewriter), tmp_path)
    assert result.stop is StopReason.ACCEPTED
    assert result.best_attempt is not None
    assert result.best_attempt.round == 2
    feedback = rewriter.calls[1].feedback
    assert rewriter.calls[0].feedback is None
    assert feedback is not None
    assert (feedback.prompt, feedback.failed) == ("a fair try", ("Is the star above the circles?",))


async def test_the_original_wins_where_rewrites_are_worse(tmp_path: Path) -> None:
    limits = Limits(max_rounds=2)
    worse = fake_parts(lambda prompt, seed: FAIR if prompt == "ask" else POOR, rewriter=FakeRewriter([["x"], ["y"]]))
    result, _ = await run(worse, tmp_path, limits=limits, prompt="ask")
    assert result.best == 0
    assert result.best_attempt is not None
    assert result.best_attempt.prompt == "ask"


async def test_the_best_is_returned_not_the_last(tmp_path: Path) -> None:
    rewriter = FakeRewriter([["x"], ["fair"], ["y"], ["z"]])
    result, _ = await run(fake_parts(by_word(fair=FAIR), rewriter=rewriter), tmp_path)
    assert result.stop is StopReason.BUDGET
    assert result.best_attempt is not None
    assert (result.best_attempt.prompt, result.best_attempt.round) == ("fair", 2)
    assert result.image is not None
    assert read_provenance(result.image)["redraft:drawn-from"] == "fair"


async def test_plateau(tmp_path: Path) -> None:
    limits = Limits(max_rounds=20, max_images=40, patience=2)
    result, _ = await run(fake_parts(by_word()), tmp_path, limits=limits)
    assert result.stop is StopReason.PLATEAU
    assert max(attempt.round for attempt in result.attempts) == 3


@pytest.mark.parametrize(("images", "a_round", "expected"), [(8, 2, 8), (5, 2, 5), (3, 4, 3), (1, 2, 1)])
async def test_never_more_images_than_allowed(tmp_path: Path, images: int, a_round: int, expected: int) -> None:
    backend = FakeBackend(paint=paint)
    limits = Limits(max_rounds=50, max_images=images, images_per_round=a_round, patience=50)
    result, _ = await run(fake_parts(by_word(), backend=backend), tmp_path, limits=limits)
    assert result.stop is StopReason.BUDGET
    assert len(result.attempts) == sum(len(call) for call in backend.calls) == expected


async def test_out_of_time_between_batches(tmp_path: Path) -> None:
    class Slow(FakeBackend):
        def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
            threading.Event().wait(0.2)
            return super().render(tasks, on_step)

    limits = Limits(max_seconds=0.1, images_per_round=4, max_images=40, max_rounds=20)
    parts = fake_parts(by_word(), backend=Slow(paint=paint), batch_size=1)
    result, _ = await run(parts, tmp_path, limits=limits)
    assert result.stop is StopReason.TIME
    assert len(result.attempts) == 1
    assert result.image is not None


async def test_batches_are_no_larger_than_the_backend_takes(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint)
    limits = Limits(images_per_round=5, max_images=5)
    await run(fake_parts(by_word(), backend=backend, batch_size=2), tmp_path, limits=limits)
    assert [len(call) for call in backend.calls] == [2, 2, 1]


async def test_a_judge_that_fails_everywhere_fails_the_run_and_can_be_asked_again(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint)
    parts = fake_parts(lambda prompt, seed: (FAILED,) * 3, backend=backend)
    result, _ = await run(parts, tmp_path)
    assert result.stop is StopReason.FAILED
    assert result.error is not None
    assert result.best_attempt is not None
    assert result.best_attempt.score is None
    drawn = len(backend.calls)
    mended = fake_parts(lambda prompt, seed: GOOD, backend=backend)
    again = await resumed(result.folder, mended)
    assert again.stop is StopReason.ACCEPTED
    assert len(backend.calls) == drawn, "the pictures were there already"


async def test_a_picture_with_unanswered_checks_is_not_accepted(tmp_path: Path) -> None:
    def opinion(prompt: str, seed: int) -> tuple[float | Outcome, ...]:
        return (0.99, 0.99, FAILED) if prompt == "holes" else FAIR

    parts = fake_parts(opinion, rewriter=FakeRewriter([["holes"]]))
    result, _ = await run(parts, tmp_path, limits=Limits(max_rounds=1))
    assert result.stop is StopReason.BUDGET
    assert result.best_attempt is not None
    assert result.best_attempt.report.failed == 1


async def test_a_backend_that_fails_hands_back_what_there_is_and_can_be_resumed(tmp_path: Path) -> None:
    script = [None, BackendError("out of memory; use a smaller size")]
    failing = FakeBackend(paint=paint, script=script)
    rewriter = FakeRewriter([["fair"], ["fine"]])
    result, events = await run(fake_parts(by_word(fair=FAIR, fine=GOOD), rewriter=rewriter, backend=failing), tmp_path)
    assert result.stop is StopReason.FAILED
    assert result.error == "out of memory; use a smaller size"
    assert result.best_attempt is not None
    assert result.best_attempt.prompt == "fair"
    assert isinstance(events[-1], RunFinished)
    assert record(result)["error"] == result.error
    again = await resumed(result.folder, fake_parts(by_word(fair=FAIR, fine=GOOD), rewriter=FakeRewriter([])))
    assert again.stop is StopReason.ACCEPTED
    assert [attempt.prompt for attempt in again.attempts] == ["three circles", "fair", "fine", "fair"]


async def test_a_server_fault_is_tried_once_more(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint, script=[ServerError("the image server timed out")])
    result, events = await run(fake_parts(lambda p, s: GOOD, backend=backend), tmp_path)
    assert result.stop is StopReason.ACCEPTED
    assert [event.text for event in events if isinstance(event, Warned)] == [
        "the image server timed out; trying once more"
    ]


async def test_a_rewriter_whose_server_is_down_fails_the_run_before_any_picture(tmp_path: Path) -> None:
    down = ServerError("cannot reach http://127.0.0.1:9; start the server")
    result, _ = await run(fake_parts(by_word(), rewriter=FakeRewriter([down, down])), tmp_path)
    assert (result.stop, result.best, result.image) == (StopReason.FAILED, None, None)
    assert result.trace.is_file()


async def test_cancelled_between_rounds_keeps_the_best(tmp_path: Path) -> None:
    session = Session.start("ask", fake_parts(by_word()), limits=Limits(), out=tmp_path, seed=1)
    async for event in session.stream():
        if isinstance(event, Judged):
            session.cancel()
    assert session.result is not None
    assert session.result.stop is StopReason.CANCELLED
    assert len(session.result.attempts) == 2
    assert session.result.image is not None


async def test_cancelled_while_drawing_stops_at_the_next_step(tmp_path: Path) -> None:
    steps: list[int] = []

    class Stepping(FakeBackend):
        def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
            assert on_step is not None
            for step in range(1000):
                steps.append(step)
                on_step(step, 1000)
                threading.Event().wait(0.01)
            return super().render(tasks, on_step)

    session = Session.start("ask", fake_parts(by_word(), backend=Stepping()), limits=Limits(), out=tmp_path, seed=1)
    async for event in session.stream():
        if isinstance(event, StepProgress) and event.done >= 3:
            session.cancel()
    assert session.result is not None
    assert (session.result.stop, session.result.best) == (StopReason.CANCELLED, None)
    assert len(steps) < 100


async def test_a_stream_that_is_left_early_can_be_taken_up_again(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint)
    session = Session.start("ask", fake_parts(by_word(), backend=backend), limits=Limits(), out=tmp_path, seed=1)
    stream = session.stream()
    async for event in stream:
        if isinstance(event, Judged):
            break
    await stream.aclose()
    assert session.result is None
    result = await resumed(session.folder.path, fake_parts(by_word(), backend=backend))
    whole, _ = await run(fake_parts(by_word()), tmp_path, prompt="ask", seed=1)
    assert [a.image for a in result.attempts] == [a.image for a in whole.attempts]
    assert sum(len(call) for call in backend.calls) == len(whole.attempts)


async def test_a_stream_can_be_left_after_any_event(tmp_path: Path) -> None:
    """Also where a step has just ended, of which LangGraph has saved the results and not yet the state."""
    limits = Limits(max_rounds=2)
    whole, events = await run(fake_parts(by_word()), tmp_path, prompt="ask", seed=1, limits=limits)
    for left_after in range(1, len(events)):
        session = Session.start("ask", fake_parts(by_word()), limits=limits, out=tmp_path, seed=1)
        stream = session.stream()
        for _ in range(left_after):
            await anext(stream)
        await stream.aclose()
        result = await resumed(session.folder.path, fake_parts(by_word()))
        assert result.stop is whole.stop, left_after
        assert [a.image for a in result.attempts] == [a.image for a in whole.attempts], left_after


async def test_a_stream_left_while_drawing_stays_where_it_is(tmp_path: Path) -> None:
    gone = threading.Event()

    class Slow(FakeBackend):
        def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
            assert on_step is not None
            try:
                for step in range(1000):
                    on_step(step, 1000)
                    threading.Event().wait(0.01)
            finally:
                gone.set()
            return super().render(tasks, on_step)

    session = Session.start("ask", fake_parts(by_word(), backend=Slow()), limits=Limits(), out=tmp_path, seed=1)
    stream = session.stream()
    async for event in stream:
        if isinstance(event, StepProgress) and event.done >= 3:
            break
    await stream.aclose()
    assert await asyncio.to_thread(gone.wait, 2), "the render thread was told to stop"
    result = await resumed(session.folder.path, fake_parts(by_word()))
    whole, _ = await run(fake_parts(by_word()), tmp_path, prompt="ask", seed=1)
    assert (result.stop, result.attempts) == (whole.stop, whole.attempts)


class TestAsking:
    async def test_accept(self, tmp_path: Path) -> None:
        result, events = await run(fake_parts(by_word()), tmp_path, answers=["accept"])
        assert (result.stop, result.why) == (StopReason.ACCEPTED, "accepted by the user")
        asked = next(event for event in events if isinstance(event, Asked))
        assert asked.path is not None
        assert asked.path.is_file()

    async def test_again_then_stop(self, tmp_path: Path) -> None:
        result, _ = await run(fake_parts(by_word()), tmp_path, answers=["again", "stop"])
        assert result.stop is StopReason.CANCELLED
        assert max(attempt.round for attempt in result.attempts) == 2

    async def test_a_picture_the_judge_likes_still_needs_the_user(self, tmp_path: Path) -> None:
        result, _ = await run(fake_parts(lambda p, s: GOOD), tmp_path, answers=["again", "accept"])
        assert len(result.attempts) == 4

    async def test_a_pending_question_waits_for_a_later_process(self, tmp_path: Path) -> None:
        session = Session.start("ask", fake_parts(by_word()), limits=Limits(), out=tmp_path, seed=1, ask=True)
        events = [event async for event in session.stream()]
        assert isinstance(events[-1], Asked)
        later = Session.open(session.folder.path, fake_parts(by_word()))
        events = [event async for event in later.stream()]
        assert isinstance(events[-1], Asked)
        events = [event async for event in later.stream("accept")]
        assert isinstance(events[-1], RunFinished)

    async def test_run_refuses_to_wait(self, tmp_path: Path) -> None:
        session = Session.start("ask", fake_parts(by_word()), limits=Limits(), out=tmp_path, seed=1, ask=True)
        with pytest.raises(InputError, match="waits for an answer"):
            await session.run()

    async def test_an_unknown_answer_is_refused(self, tmp_path: Path) -> None:
        session = Session.start("ask", fake_parts(by_word()), limits=Limits(), out=tmp_path, seed=1, ask=True)
        with pytest.raises(InputError, match="accept, again, stop"):
            await anext(session.stream("maybe"))  # type: ignore[arg-type]


async def test_the_short_ways_in(tmp_path: Path) -> None:
    result = await run_draw("ask", fake_parts(by_word()), limits=Limits(), out=tmp_path, seed=1)
    again = await resume(result.folder, fake_parts(by_word()))
    assert again.attempts == result.attempts


async def test_equal_seeds_give_equal_runs(tmp_path: Path) -> None:
    first, _ = await run(fake_parts(by_word()), tmp_path)
    second, _ = await run(fake_parts(by_word()), tmp_path)
    other, _ = await run(fake_parts(by_word()), tmp_path, seed=8)
    assert first.attempts == second.attempts
    assert first.attempts != other.attempts


async def test_two_runs_may_share_their_parts(tmp_path: Path) -> None:
    parts = fake_parts(by_word(fine=GOOD), rewriter=FakeRewriter(lambda call: [f"{call.prompt} fine"]))
    results = await asyncio.gather(*(run(parts, tmp_path, prompt=f"ask {i}") for i in range(4)))
    assert {result.best_attempt.prompt for result, _ in results if result.best_attempt} == {
        f"ask {i} fine" for i in range(4)
    }


async def test_a_finished_run_is_told_again_without_any_work(tmp_path: Path) -> None:
    result, _ = await run(fake_parts(by_word()), tmp_path)
    idle = FakeBackend(paint=paint)
    again = await resumed(result.folder, fake_parts(by_word(), rewriter=FakeRewriter([]), backend=idle))
    assert again.attempts == result.attempts
    assert idle.calls == []


async def test_two_processes_cannot_work_on_one_run(tmp_path: Path) -> None:
    session = Session.start("ask", fake_parts(by_word()), limits=Limits(), out=tmp_path, seed=1)
    stream = session.stream()
    await anext(stream)
    with pytest.raises(InputError, match="another process"):
        await anext(Session.open(session.folder.path, fake_parts(by_word())).stream())
    await stream.aclose()


@pytest.mark.parametrize("prompt", ["", " \n", "x" * 5000, "half \ud800"])
def test_prompts_that_cannot_be_used(tmp_path: Path, prompt: str) -> None:
    with pytest.raises(InputError, match="prompt"):
        Session.start(prompt, fake_parts(by_word()), limits=Limits(), out=tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_run_json_holds_the_whole_story(tmp_path: Path) -> None:
    result, _ = await run(
        fake_parts(by_word(fair=FAIR), rewriter=FakeRewriter([["fair"], ["fine"], ["x"], ["y"]])), tmp_path
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
    assert provenance["redraft:prompt"] == "three circles"
    assert provenance["redraft:drawn-from"] == "fair"
    assert provenance["redraft:seed"] == str(result.attempts[1].seed)


async def test_the_state_survives_a_strict_checkpoint(tmp_path: Path) -> None:
    result, _ = await run(fake_parts(by_word()), tmp_path)
    strict = JsonPlusSerializer(allowed_msgpack_modules=list(STATE_TYPES))
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
    parts = replace(fake_parts(by_word()), calls=CallLimit(1))

    async def crowd(folder: Path) -> None:
        await asyncio.gather(*(run(parts, folder, limits=Limits(max_rounds=1)) for _ in range(3)))

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


class Taste:
    """Prefers the picture with the higher seed; `asked` counts its comparisons."""

    name = "taste"

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, two: Two) -> Comparison:
        self.asked += 1
        return Comparison(0.9 if drawn_from(two.first)[1] > drawn_from(two.second)[1] else 0.1)


async def test_equally_good_pictures_are_compared_two_by_two(tmp_path: Path) -> None:
    taste = Taste()
    limits = Limits(max_rounds=2, max_images=6, images_per_round=3, patience=5)
    parts = replace(fake_parts(lambda *_: FAIR), chooser=Chooser(WinRates(taste)))
    result, _ = await run(parts, tmp_path / "chosen", limits=limits)
    assert result.best_attempt is not None
    assert result.best_attempt.seed == max(attempt.seed for attempt in result.attempts)
    images = len({attempt.image for attempt in result.attempts})
    assert taste.asked <= 2 * (3 + images * (images - 1) // 2), "once a round, all pairs, both orders"
    record = json.loads((result.folder / "run.json").read_text())
    assert max(record["attempts"], key=lambda one: one["standing"])["number"] == record["best"]
    plain, _ = await run(fake_parts(lambda *_: FAIR), tmp_path / "plain", limits=limits)
    assert plain.best == 0
    before = taste.asked
    assert (await resume(result.folder, parts)).best == result.best
    assert taste.asked == before, "what was compared is in the journal"


async def test_one_best_picture_is_compared_with_none(tmp_path: Path) -> None:
    taste = Taste()
    parts = replace(fake_parts(by_word(detail=GOOD)), chooser=Chooser(WinRates(taste)))
    result, _ = await run(parts, tmp_path, limits=Limits(images_per_round=2))
    assert result.stop is StopReason.ACCEPTED
    assert taste.asked == 0
