"""Picking a rewrite by its picture: draw the request and each rewrite, judge all pictures, take the best.

It works like the loop: the checklist comes from the request, the same seed draws every candidate, and `agent.decide` says
which is best.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from agent.decide import best_of
from agent.types import Attempt
from editors.backend import ImageBackend, ImageTask, open_backend, render
from evaluator.align import AlignEvaluator, open_checklists
from evaluator.judge import open_judge
from evaluator.types import ChecklistMaker, Outcome, Report
from redraft.chat import ChatModel, open_chat
from redraft.errors import BackendError
from redraft.limits import Limits
from redraft.profiles import Profile
from rewriter.batch.maker import Choice
from rewriter.guard import detect_language
from rewriter.types import Rewrite

KEPT = "judge: the request itself drew the better picture"


class JudgeSelector:
    """A Selector that draws and judges. Of equal pictures, a rewrite's comes before the request's: the guard let the
    rewrite through, and it says more. Raises BackendError if nothing could be drawn or scored."""

    def __init__(
        self, builder: ChecklistMaker, backend: ImageBackend, evaluator: AlignEvaluator, limits: Limits
    ) -> None:
        self._builder = builder
        self._backend = backend
        self._evaluator = evaluator
        self._limits = limits
        self._painter = ThreadPoolExecutor(1, thread_name_prefix="redraft-render")

    async def __call__(self, request: str, rewrites: Sequence[Rewrite], seed: int) -> Choice:
        usable = [at for at, rewrite in enumerate(rewrites) if not rewrite.fallback]
        if not usable:
            return Choice(None, (None,) * len(rewrites))
        checklist = await self._builder(request)
        tasks = [ImageTask(rewrites[at].prompt, seed, negative_prompt=rewrites[at].negative_prompt) for at in usable]
        tasks.append(ImageTask(request, seed))
        loop = asyncio.get_running_loop()
        pictures = await loop.run_in_executor(self._painter, render, self._backend, tasks)
        reports = await asyncio.gather(*(self._evaluator.score(picture, request, checklist) for picture in pictures))
        attempts = [
            Attempt(1, "generate", task.prompt, task.seed, "", None, report)
            for task, report in zip(tasks, reports, strict=True)
        ]
        best = best_of(attempts, self._limits)
        if best is None or attempts[best].score is None:
            raise BackendError(f"the judge could not score any picture: {_why(reports)}")
        scores: list[float | None] = [None] * len(rewrites)
        for at, report in zip(usable, reports, strict=False):
            scores[at] = report.score
        all_scores = (*scores, reports[-1].score)
        return Choice(usable[best], all_scores) if best < len(usable) else Choice(None, all_scores, (KEPT,))


def open_judging(profile: Profile, engine: ChatModel) -> tuple[object, JudgeSelector]:
    """The settings that shape its choice, and the selector. `engine` makes the checklists if the profile's rewriter
    does. Raises ConfigError and ModelMissing."""
    own = profile.checklist.model
    listing = engine if own is None or own == profile.rewriter.model else open_chat(own)
    limits = profile.limits
    checklists = open_checklists(profile, listing, detect_language=detect_language)
    judge = open_judge(profile.need_judge(), limits.pass_at)
    evaluator = AlignEvaluator(checklists, judge, profile.evaluator, pass_at=limits.pass_at)
    server = {"model": {"server": True}}
    settings = {
        "generator": profile.need_generator().model_dump(
            mode="json", exclude={"server", "batch_size", "device", "offload"}
        ),
        "judge": profile.need_judge().model_dump(mode="json", exclude=server | {"explain": True}),
        "checklist": profile.checklist.model_dump(mode="json", exclude=server),
        "aggregation": profile.evaluator.aggregation,
        "accept_at": limits.accept_at,
        "pass_at": limits.pass_at,
    }
    return settings, JudgeSelector(checklists, open_backend(profile.need_generator()), evaluator, limits)


def _why(reports: Sequence[Report]) -> str:
    reasons = (v.reason or v.raw for r in reports for v in r.verdicts if v.outcome is Outcome.FAILED)
    return next((reason for reason in reasons if reason), "no check could be answered")
