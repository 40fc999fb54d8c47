"""Stand-ins for judges and checklist builders, for tests and dry runs: scripted, without weights or network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from evaluator.grounding import Box
from evaluator.judging import failed
from evaluator.types import Check, Checklist, Outcome, Verdict
from redraft.errors import BackendError

Answer = float | Outcome | BackendError
"""A probability, an outcome without one (FAILED or NOT_APPLICABLE), or the error that a real judge would have met."""


class FakeJudge:
    """A Judge that answers each check by a function of (image, prompt, check).

    `calls` holds what was asked: (image, prompt, checks).
    An error that the function gives becomes a FAILED verdict with its text as the reason, as with real judges; one
    that it raises comes through, as a programming error would.
    """

    def __init__(self, script: Callable[[Image.Image, str, Check], Answer], *, name: str = "fake-judge") -> None:
        self.calls: list[tuple[Image.Image, str, Checklist]] = []
        self._script = script
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def __call__(self, image: Image.Image, prompt: str, checks: Sequence[Check]) -> list[Verdict]:
        self.calls.append((image, prompt, tuple(checks)))
        return [_verdict(check, self._script(image, prompt, check)) for check in checks]


class FakeChecklistBuilder:
    """A ChecklistMaker that looks prompts up in `script`, or asks it where it is a function.

    `prompts` holds what was asked. A BackendError that the script gives is raised.
    """

    def __init__(
        self, script: Mapping[str, Checklist | BackendError] | Callable[[str], Checklist | BackendError]
    ) -> None:
        self.prompts: list[str] = []
        self._script = script

    async def __call__(self, prompt: str) -> Checklist:
        self.prompts.append(prompt)
        answer = self._script(prompt) if callable(self._script) else self._script[prompt]
        if isinstance(answer, BackendError):
            raise answer
        return answer


class FakeGrounder:
    """A Grounder that asks a function of the instruction for the box. `instructions` holds what was asked."""

    name = "fake-grounder"

    def __init__(self, script: Callable[[str], Box | None]) -> None:
        self.instructions: list[str] = []
        self._script = script

    async def __call__(self, image: Image.Image, instruction: str) -> Box | None:
        self.instructions.append(instruction)
        return self._script(instruction)


def _verdict(check: Check, answer: Answer) -> Verdict:
    if isinstance(answer, BackendError):
        return failed(check, str(answer))
    if isinstance(answer, Outcome):
        if answer is Outcome.SCORED:
            raise ValueError("a scored check needs a probability: give the number instead of Outcome.SCORED")
        return Verdict(check, answer, reason="as scripted")
    if not 0.0 <= answer <= 1.0:
        raise ValueError(f"a probability lies between 0 and 1, not at {answer}")
    return Verdict(check, Outcome.SCORED, probability=answer, label_mass=1.0)
