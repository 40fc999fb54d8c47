"""Stand-ins for those who judge edits and make their checklists, for tests and dry runs."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from evaluator.edits.types import Edit, EditChecks, EditPass, EditScore
from evaluator.types import Outcome
from redraft.errors import BackendError

Answer = float | EditScore | BackendError
"""The overall score, a whole score, or the error that a real judge would have met."""


class FakeEditJudge:
    """An EditJudge that answers by a function of the edit. `calls` holds the edits.

    An error that the function gives becomes a FAILED score, as with real judges; one that it raises comes through.
    """

    def __init__(self, script: Callable[[Edit], Answer], *, name: str = "fake-edit-judge") -> None:
        self.calls: list[Edit] = []
        self._script = script
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def __call__(self, edit: Edit) -> EditScore:
        self.calls.append(edit)
        answer = self._script(edit)
        if isinstance(answer, EditScore):
            return answer
        if isinstance(answer, BackendError):
            failure = EditPass(Outcome.FAILED, failure=str(answer))
            return EditScore("fake", Outcome.FAILED, failed=1, passes=(failure,))
        if not 0.0 <= answer <= 1.0:
            raise ValueError(f"a score lies between 0 and 1, not at {answer}")
        return EditScore("fake", Outcome.SCORED, overall=answer, followed=answer, kept=answer, semantic=answer)


class FakeEditChecklistBuilder:
    """An EditChecklistMaker that asks a function of the instruction. `instructions` holds what was asked."""

    def __init__(self, script: Callable[[str], EditChecks | BackendError]) -> None:
        self.instructions: list[str] = []
        self._script = script

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks:
        self.instructions.append(instruction)
        answer = self._script(instruction)
        if isinstance(answer, BackendError):
            raise answer
        return answer
