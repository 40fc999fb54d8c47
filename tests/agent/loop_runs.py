"""Runs of the whole graph, with fakes in place of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.events import Event, NeedsAnswer
from agent.models import Models
from agent.run import Run, RunResult
from agent.testing import Opinion
from agent.types import Answer
from evaluator.types import Outcome
from redraft.limits import Limits

GOOD, POOR, FAIR = (0.97, 0.98, 0.99), (0.2, 0.3, 0.9), (0.9, 0.1, 0.9)
"""Opinions on the checks of agent.testing; only GOOD is accepted."""
FAILED = Outcome.FAILED


def by_word(**opinions: tuple[float | Outcome, ...]) -> Opinion:
    """The opinion of the first word of the prompt that is named, else a poor one."""

    def opinion(prompt: str, seed: int) -> tuple[float | Outcome, ...]:
        return next((opinions[word] for word in prompt.split() if word in opinions), POOR)

    return opinion


async def run(
    models: Models,
    out: Path,
    *,
    limits: Limits | None = None,
    answers: Sequence[Answer] = (),
    prompt: str = "three circles",
    seed: int = 7,
) -> tuple[RunResult, list[Event]]:
    """A run with its events; with `answers`, one that asks and gets them in turn."""
    session = Run.start(
        prompt, models, limits=limits or Limits(), out=out, seed=seed, ask=bool(answers), retry_wait_s=0.01
    )
    events = [event async for event in session.stream()]
    for answer in answers:
        assert isinstance(events[-1], NeedsAnswer)
        events += [event async for event in session.stream(answer)]
    assert session.result is not None
    return session.result, events


async def resumed(folder: Path, models: Models) -> RunResult:
    """The run of a folder, taken up again."""
    return await Run.open(folder, models, retry_wait_s=0.01).run()
