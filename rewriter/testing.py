"""Stand-ins for the rewriter and the planner, for tests and dry runs: scripted, deterministic, no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rewriter.plan import Plan, Situation
from rewriter.types import Feedback, Rewrite

Answer = Sequence[Rewrite | str] | Exception


@dataclass(frozen=True)
class RewriterCall:
    """What a rewriter was asked."""

    request: str
    n: int
    seed: int
    feedback: Feedback | None


class FakeRewriter:
    """A Rewriter that answers from a script: a list, used up call by call, or a function of the call.

    An answer is what comes back for one call, rewrites or bare prompts (cut to `n`), or an exception to raise.
    Without a script each call gets `n` rewrites: the request with its seed, and what had failed, behind it. `calls`
    holds every call in order. An AssertionError says that a list is used up: a mistake in the test.
    """

    def __init__(self, script: Sequence[Answer] | Callable[[RewriterCall], Answer] | None = None) -> None:
        self.calls: list[RewriterCall] = []
        self._script = script

    async def __call__(
        self, request: str, *, n: int = 1, seed: int = 0, feedback: Feedback | None = None
    ) -> list[Rewrite]:
        call = RewriterCall(request=request, n=n, seed=seed, feedback=feedback)
        self.calls.append(call)
        answer = self._answer(call)
        if isinstance(answer, Exception):
            raise answer
        rewrites = [Rewrite(a, thought="scripted", model="fake") if isinstance(a, str) else a for a in answer]
        return rewrites[:n]

    def _answer(self, call: RewriterCall) -> Answer:
        if self._script is None:
            again = "" if call.feedback is None else ", " + " ".join(call.feedback.failed)
            return [f"{call.request}, in detail {call.seed + i}{again}" for i in range(call.n)]
        if callable(self._script):
            return self._script(call)
        if len(self.calls) > len(self._script):
            raise AssertionError(f"rewriter call {len(self.calls)}, but the script has {len(self._script)} answers")
        return self._script[len(self.calls) - 1]


PlanAnswer = Plan | Exception


class FakePlanner:
    """A Planner that answers from a script: a list, used up call by call, or a function of the situation.

    `situations` holds every call in order. Several instructions are joined with "; ".
    """

    def __init__(self, script: Sequence[PlanAnswer] | Callable[[Situation], PlanAnswer]) -> None:
        self.situations: list[Situation] = []
        self._script = script

    async def __call__(self, situation: Situation, *, seed: int = 0) -> Plan:
        self.situations.append(situation)
        if callable(self._script):
            answer = self._script(situation)
        elif len(self.situations) > len(self._script):
            raise AssertionError(f"planner call {len(self.situations)}, but the script has {len(self._script)} answers")
        else:
            answer = self._script[len(self.situations) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def join(self, instructions: Sequence[str]) -> str:
        return "; ".join(instructions)
