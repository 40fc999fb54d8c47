"""Runs that are cancelled, left while they stream, taken up again or told again; with fakes in place of models."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from agent.events import Judged, StepProgress
from agent.run import Run
from agent.testing import fake_models, paint
from agent.types import StopReason
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from redraft.errors import InputError
from redraft.limits import Limits
from rewriter.testing import FakeRewriter
from tests.agent.loop_runs import by_word, resumed, run


async def test_cancelled_between_rounds_keeps_the_best(tmp_path: Path) -> None:
    session = Run.start("ask", fake_models(by_word()), limits=Limits(), out=tmp_path, seed=1)
    async for event in session.stream():
        if isinstance(event, Judged):
            session.cancel()
    assert session.result is not None
    assert session.result.stop is StopReason.CANCELLED
    assert len(session.result.attempts) == 2
    assert session.result.image is not None


async def test_cancelled_while_drawing_stops_at_the_next_step(tmp_path: Path) -> None:
    class Stepping(FakeBackend):
        def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
            assert on_step is not None
            for step in itertools.count():  # it has no end but to be stopped
                on_step(min(step, 999), 1000)
                threading.Event().wait(0.01)
            raise AssertionError

    session = Run.start("ask", fake_models(by_word(), backend=Stepping()), limits=Limits(), out=tmp_path, seed=1)
    async for event in session.stream():
        if isinstance(event, StepProgress) and event.done >= 3:
            session.cancel()
    assert session.result is not None
    assert (session.result.stop, session.result.best) == (StopReason.CANCELLED, None)


async def test_a_stream_that_is_left_early_can_be_taken_up_again(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint)
    session = Run.start("ask", fake_models(by_word(), backend=backend), limits=Limits(), out=tmp_path, seed=1)
    stream = session.stream()
    async for event in stream:
        if isinstance(event, Judged):
            break
    await stream.aclose()
    assert session.result is None
    result = await resumed(session.folder.path, fake_models(by_word(), backend=backend))
    whole, _ = await run(fake_models(by_word()), tmp_path, prompt="ask", seed=1)
    assert [a.image for a in result.attempts] == [a.image for a in whole.attempts]
    assert sum(len(call) for call in backend.calls) == len(whole.attempts)


async def test_a_stream_can_be_left_after_any_event(tmp_path: Path) -> None:
    """Also where a step has just ended, of which LangGraph has saved the results and not yet the state."""
    limits = Limits(max_rounds=2)
    whole, events = await run(fake_models(by_word()), tmp_path, prompt="ask", seed=1, limits=limits)
    for left_after in range(1, len(events)):
        session = Run.start("ask", fake_models(by_word()), limits=limits, out=tmp_path, seed=1)
        stream = session.stream()
        for _ in range(left_after):
            await anext(stream)
        await stream.aclose()
        result = await resumed(session.folder.path, fake_models(by_word()))
        assert result.stop is whole.stop, left_after
        assert [a.image for a in result.attempts] == [a.image for a in whole.attempts], left_after


async def test_a_stream_left_while_drawing_stays_where_it_is(tmp_path: Path) -> None:
    gone = threading.Event()

    class Slow(FakeBackend):
        def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
            assert on_step is not None
            try:
                for step in itertools.count():
                    on_step(min(step, 999), 1000)
                    threading.Event().wait(0.01)
            finally:
                gone.set()
            raise AssertionError

    session = Run.start("ask", fake_models(by_word(), backend=Slow()), limits=Limits(), out=tmp_path, seed=1)
    stream = session.stream()
    async for event in stream:
        if isinstance(event, StepProgress) and event.done >= 3:
            break
    await stream.aclose()
    assert await asyncio.to_thread(gone.wait, 120), "the render thread was told to stop"
    result = await resumed(session.folder.path, fake_models(by_word()))
    whole, _ = await run(fake_models(by_word()), tmp_path, prompt="ask", seed=1)
    assert (result.stop, result.attempts) == (whole.stop, whole.attempts)


async def test_a_finished_run_is_told_again_without_any_work(tmp_path: Path) -> None:
    result, _ = await run(fake_models(by_word()), tmp_path)
    idle = FakeBackend(paint=paint)
    again = await resumed(result.folder, fake_models(by_word(), rewriter=FakeRewriter([]), backend=idle))
    assert again.attempts == result.attempts
    assert idle.calls == []


async def test_two_processes_cannot_work_on_one_run(tmp_path: Path) -> None:
    session = Run.start("ask", fake_models(by_word()), limits=Limits(), out=tmp_path, seed=1)
    stream = session.stream()
    await anext(stream)
    with pytest.raises(InputError, match="another process"):
        await anext(Run.open(session.folder.path, fake_models(by_word())).stream())
    await stream.aclose()
