"""A judge that first looks whether the picture talks to it: writing that says how to answer."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from evaluator.judging import failed
from evaluator.types import Check, Judge, Outcome, Verdict
from redraft.templates import load_template

KEY_POINT = "orders_in_the_picture"
GUARD_AT = 0.5
REASON = "the picture bears writing that tells its judge how to answer"


class GuardedJudge:
    """Asks one more question with every picture, that of the style's `guard.txt`. Where its answer is yes, every check
    FAILED: a picture that gives orders cannot be trusted to be seen for what it shows.

    Where the checks themselves ask that question, the user wants such writing, and nothing is guarded. A guard that has
    no answer lets the verdicts through. Raises ConfigError where the style has no guard.
    """

    def __init__(self, judge: Judge, style: str) -> None:
        self._judge = judge
        self.question = load_template("evaluator", style, "guard")

    @property
    def name(self) -> str:
        return f"guarded {self._judge.name}"

    async def __call__(self, image: Image.Image, prompt: str, checks: Sequence[Check]) -> list[Verdict]:
        if not checks or any(check.question == self.question for check in checks):
            return await self._judge(image, prompt, checks)
        verdicts = await self._judge(image, prompt, [*checks, Check(KEY_POINT, self.question)])
        guard = verdicts.pop()
        if guard.outcome is Outcome.SCORED and guard.probability is not None and guard.probability >= GUARD_AT:
            return [
                failed(check, f"{REASON} (p={guard.probability:.2f})", raw=v.raw)
                for check, v in zip(checks, verdicts, strict=True)
            ]
        return verdicts
