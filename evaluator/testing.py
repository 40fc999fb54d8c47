"""Stand-ins for judges and checklists, scripted. For tests and dry runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from evaluator.checklist import ChecklistResult
from evaluator.edits.types import Edit, EditChecks, EditPass, EditScore
from evaluator.grounding import Box
from evaluator.judge import failed_verdict
from evaluator.types import Check, Checklist, Outcome, RequestChecks, Verdict
from redraft.errors import BackendError

JudgeAnswer = float | Outcome | BackendError
"""A probability, an outcome without one (FAILED or NOT_APPLICABLE), or the error that a real judge would have met."""


class FakeJudge:
    """A Judge that answers each check by a function of (image, request, check).

    `calls` holds the arguments of each call: (image, request, checks).
    An error that the function gives becomes a FAILED verdict with its text as the reason, as with real judges; one
    that it raises comes through, as a programming error would.
    """

    def __init__(self, script: Callable[[Image.Image, str, Check], JudgeAnswer], *, name: str = "fake-judge") -> None:
        self.calls: list[tuple[Image.Image, str, Checklist]] = []
        self._script = script
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        self.calls.append((image, request, tuple(checks)))
        return [_verdict(check, self._script(image, request, check)) for check in checks]


ChecklistAnswer = Checklist | RequestChecks | BackendError


class FakeChecklistBuilder:
    """A ChecklistMaker that looks requests up in `script`, or calls it if it is a function, and finds nothing left out; a
    ChecklistWriter for `CoveredChecklists`, too.

    `requests` holds the requests, `left_out` what each of them said was left out. A BackendError that the script gives is
    raised.
    """

    def __init__(self, script: Mapping[str, ChecklistAnswer] | Callable[[str], ChecklistAnswer]) -> None:
        self.requests: list[str] = []
        self.left_out: list[tuple[str, ...]] = []
        self._script = script

    async def __call__(self, request: str) -> RequestChecks:
        self.requests.append(request)
        answer = self._script(request) if callable(self._script) else self._script[request]
        if isinstance(answer, BackendError):
            raise answer
        return answer if isinstance(answer, RequestChecks) else RequestChecks(answer)

    async def build(self, request: str, left_out: Sequence[str] = ()) -> ChecklistResult:
        self.left_out.append(tuple(left_out))
        return ChecklistResult((await self(request)).checks)


class FakeGrounder:
    """A Grounder that calls a function of the instruction for the box. `instructions` holds the instructions."""

    name = "fake-grounder"

    def __init__(self, script: Callable[[str], Box | None]) -> None:
        self.instructions: list[str] = []
        self._script = script

    async def __call__(self, image: Image.Image, instruction: str) -> Box | None:
        self.instructions.append(instruction)
        return self._script(instruction)


def _verdict(check: Check, answer: JudgeAnswer) -> Verdict:
    if isinstance(answer, BackendError):
        return failed_verdict(check, str(answer))
    if isinstance(answer, Outcome):
        if answer is Outcome.SCORED:
            raise ValueError("a scored check needs a probability: give the number instead of Outcome.SCORED")
        return Verdict(check, answer, reason="as scripted")
    if not 0.0 <= answer <= 1.0:
        raise ValueError(f"a probability lies between 0 and 1, not at {answer}")
    return Verdict(check, Outcome.SCORED, probability=answer, label_mass=1.0)


EditAnswer = float | EditScore | BackendError
"""The overall score, a whole score, or the error that a real judge would have met."""


class FakeEditJudge:
    """An EditJudge that answers by a function of the edit. `calls` holds the edits.

    An error that the function gives becomes a FAILED score, as with real judges; one that it raises comes through.
    """

    def __init__(self, script: Callable[[Edit], EditAnswer], *, name: str = "fake-edit-judge") -> None:
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
    """An EditChecklistMaker that calls a function of the instruction. `instructions` holds the instructions."""

    def __init__(self, script: Callable[[str], EditChecks | BackendError]) -> None:
        self.instructions: list[str] = []
        self._script = script

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks:
        self.instructions.append(instruction)
        answer = self._script(instruction)
        if isinstance(answer, BackendError):
            raise answer
        return answer
