"""Picking a rewrite by its picture: draw the request and each rewrite, judge all pictures, take the best.

It works like the loop: the checklist comes from the request, the same seed draws every candidate, and `agent.decide` says
which is best.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from PIL import Image

from agent.decide import best_of, tied
from agent.types import Attempt
from editors.backend import ImageBackend, ImageTask, open_backend, render
from evaluator.checklist import open_checklists
from evaluator.reward import Reward, case_of, open_reward
from evaluator.types import Case, ChecklistMaker, Outcome, Report, Shot
from redraft.chat import ChatModel, open_chat
from redraft.errors import BackendError
from redraft.limits import Limits
from redraft.profiles import Profile
from rewriter.batch.maker import Choice
from rewriter.guard import detect_language
from rewriter.types import Rewrite

KEPT = "judge: the request itself drew the better picture"


@dataclass(frozen=True)
class Ranked:
    """The number of the best of several pictures, and the report on each."""

    best: int
    reports: Sequence[Report]


class PictureRanker:
    """Judges pictures of a request by its checklist, and says which is the best. Raises BackendError if none could be
    scored."""

    def __init__(self, builder: ChecklistMaker, reward: Reward, limits: Limits) -> None:
        self.limits = limits
        self._builder = builder
        self._reward = reward

    async def __call__(self, request: str, pictures: Sequence[Image.Image], tasks: Sequence[ImageTask]) -> Ranked:
        case = case_of(request, await self._builder(request))
        shots = [Shot((picture,), task.prompt) for picture, task in zip(pictures, tasks, strict=True)]
        reports = await self._reward(case, shots)
        attempts = [
            Attempt(1, "generate", task.prompt, task.seed, "", None, report)
            for task, report in zip(tasks, reports, strict=True)
        ]
        if self._reward.is_relative:
            attempts = await self._place(case, shots, attempts)
        best = best_of(attempts, self.limits)
        if best is None or attempts[best].score is None:
            raise BackendError(f"the judge could not score any picture: {_why(reports)}")
        return Ranked(best, reports)

    async def _place(self, case: Case, shots: Sequence[Shot], attempts: Sequence[Attempt]) -> list[Attempt]:
        """The attempts with how they stand among those that compete for the best."""
        margin = self._reward.margin
        rivals = list(range(len(attempts))) if margin is None else tied(attempts, self.limits, margin)
        if len(rivals) < 2:
            return list(attempts)
        reports = [attempts[at].report for at in rivals]
        standings = await self._reward.compare(case, [shots[at] for at in rivals], reports)
        placed = list(attempts)
        for at, standing in zip(rivals, standings, strict=True):
            placed[at] = replace(placed[at], standing=standing.value)
        return placed


class JudgeSelector:
    """A Selector that draws and judges. Of equal pictures, a rewrite's comes before the request's: the guard let the
    rewrite through, and it says more. Raises BackendError if nothing could be drawn or scored."""

    def __init__(self, backend: ImageBackend, ranker: PictureRanker) -> None:
        self._backend = backend
        self._ranker = ranker
        self._painter = ThreadPoolExecutor(1, thread_name_prefix="redraft-render")

    async def __call__(self, request: str, rewrites: Sequence[Rewrite], seed: int) -> Choice:
        usable = [at for at, rewrite in enumerate(rewrites) if not rewrite.fallback]
        if not usable:
            return Choice(None, (None,) * len(rewrites))
        tasks = [ImageTask(rewrites[at].prompt, seed, negative_prompt=rewrites[at].negative_prompt) for at in usable]
        tasks.append(ImageTask(request, seed))
        loop = asyncio.get_running_loop()
        pictures = await loop.run_in_executor(self._painter, render, self._backend, tasks)
        ranked = await self._ranker(request, pictures, tasks)
        scores: list[float | None] = [None] * len(rewrites)
        for at, report in zip(usable, ranked.reports, strict=False):
            scores[at] = report.score
        all_scores = (*scores, ranked.reports[-1].score)
        best = ranked.best
        return Choice(usable[best], all_scores) if best < len(usable) else Choice(None, all_scores, (KEPT,))


def open_ranker(profile: Profile, engine: ChatModel) -> PictureRanker:
    """What ranks pictures by the profile's judge. `engine` makes the checklists if the profile's rewriter does. Raises
    ConfigError and ModelMissing."""
    own = profile.checklist.model
    listing = engine if own is None or own == profile.rewriter.model else open_chat(own)
    checklists = open_checklists(profile, listing, detect_language=detect_language)
    return PictureRanker(checklists, open_reward(profile), profile.limits)


def open_judging(profile: Profile, engine: ChatModel) -> tuple[object, JudgeSelector]:
    """The settings that shape its choice, and the selector. Raises as `open_ranker` does."""
    ranker = open_ranker(profile, engine)
    return judging_settings(profile), JudgeSelector(open_backend(profile.need_generator()), ranker)


def judging_settings(profile: Profile) -> dict[str, object]:
    """Everything that shapes pictures and which is the best, as plain values: not who serves the models."""
    limits, judge = profile.limits, profile.judge
    server = {"model": {"server": True}}
    return {
        "generator": profile.need_generator().model_dump(
            mode="json", exclude={"server", "batch_size", "device", "offload"}
        ),
        "judge": None if judge is None else judge.model_dump(mode="json", exclude=server | {"explain": True}),
        "checklist": profile.checklist.model_dump(mode="json", exclude=server),
        "evaluator": profile.evaluator.model_dump(mode="json"),
        "accept_at": limits.accept_at,
        "pass_at": limits.pass_at,
    }


def _why(reports: Sequence[Report]) -> str:
    reasons = (v.reason or v.raw for r in reports for v in r.verdicts if v.outcome is Outcome.FAILED)
    return next((reason for reason in reasons if reason), "no check could be answered")
