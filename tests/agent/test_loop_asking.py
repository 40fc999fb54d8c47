"""Runs that ask the user after a round (`--ask`); with fakes in place of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.events import NeedsAnswer, RunFinished
from agent.run import Run
from agent.testing import fake_models
from agent.types import StopReason
from redraft.errors import InputError
from redraft.limits import Limits
from tests.agent.loop_runs import GOOD, by_word, run


async def test_accepted_by_the_user(tmp_path: Path) -> None:
    result, events = await run(fake_models(by_word()), tmp_path, answers=["accept"])
    assert (result.stop, result.why) == (StopReason.ACCEPTED, "accepted by the user")
    asked = next(event for event in events if isinstance(event, NeedsAnswer))
    assert asked.path is not None
    assert asked.path.is_file()


async def test_again_then_stop(tmp_path: Path) -> None:
    result, _ = await run(fake_models(by_word()), tmp_path, answers=["again", "stop"])
    assert result.stop is StopReason.CANCELLED
    assert max(attempt.round for attempt in result.attempts) == 2


async def test_a_picture_the_judge_likes_still_needs_the_user(tmp_path: Path) -> None:
    result, _ = await run(fake_models(lambda p, s: GOOD), tmp_path, answers=["again", "accept"])
    assert len(result.attempts) == 4


async def test_a_pending_question_waits_for_a_later_process(tmp_path: Path) -> None:
    session = Run.start("ask", fake_models(by_word()), limits=Limits(), out=tmp_path, seed=1, ask=True)
    events = [event async for event in session.stream()]
    assert isinstance(events[-1], NeedsAnswer)
    later = Run.open(session.folder.path, fake_models(by_word()))
    events = [event async for event in later.stream()]
    assert isinstance(events[-1], NeedsAnswer)
    events = [event async for event in later.stream("accept")]
    assert isinstance(events[-1], RunFinished)


async def test_run_refuses_to_wait(tmp_path: Path) -> None:
    session = Run.start("ask", fake_models(by_word()), limits=Limits(), out=tmp_path, seed=1, ask=True)
    with pytest.raises(InputError, match="waits for an answer"):
        await session.run()


async def test_an_unknown_answer_is_refused(tmp_path: Path) -> None:
    session = Run.start("ask", fake_models(by_word()), limits=Limits(), out=tmp_path, seed=1, ask=True)
    with pytest.raises(InputError, match="accept, again, stop"):
        await anext(session.stream("maybe"))  # type: ignore[arg-type]
