"""Picking a rewrite by its picture: draw the request and each rewrite, judge all pictures, take the best.

It works like the loop: the checklist comes from the request, the same seed draws every candidate, and `agent.decide` says
which is best. With several pictures of each, the one with the highest mean score is the best.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import fmean

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
        case, shots, reports = await self._judge(request, pictures, tasks)
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

    async def mean_scores(
        self, request: str, pictures: Sequence[Image.Image], tasks: Sequence[ImageTask], prompts: int
    ) -> list[float | None]:
        """The mean score of each of `prompts` prompts, whose pictures come in rounds; None if one of them has no score.
        Criteria that compare pictures say nothing here. Raises BackendError if no prompt has a mean."""
        _, _, reports = await self._judge(request, pictures, tasks)
        means: list[float | None] = []
        for at in range(prompts):
            known = [report.score for report in reports[at::prompts] if report.score is not None]
            means.append(fmean(known) if len(known) * prompts == len(tasks) else None)
        if all(mean is None for mean in means):
            raise BackendError(f"the judge could not score all pictures of any prompt: {_why(reports)}")
        return means

    async def _judge(
        self, request: str, pictures: Sequence[Image.Image], tasks: Sequence[ImageTask]
    ) -> tuple[Case, list[Shot], Sequence[Report]]:
        case = case_of(request, await self._builder(request))
        shots = [Shot((picture,), task.prompt) for picture, task in zip(pictures, tasks, strict=True)]
        return case, shots, await self._reward(case, shots)

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
    """A Selector that draws `images` pictures of each prompt, with the same seeds for all, and judges them. Of equal
    pictures, a rewrite's comes before the request's: the guard let the rewrite through, and it says more. Raises
    BackendError if nothing could be drawn or scored."""

    def __init__(self, backend: ImageBackend, ranker: PictureRanker, images: int = 1) -> None:
        self._backend = backend
        self._ranker = ranker
        self._images = images
        self._painter = ThreadPoolExecutor(1, thread_name_prefix="redraft-render")

    async def __call__(self, request: str, rewrites: Sequence[Rewrite], seed: int) -> Choice:
        usable = [at for at, rewrite in enumerate(rewrites) if not rewrite.fallback]
        if not usable:
            return Choice(None, (None,) * len(rewrites))
        once = [ImageTask(rewrites[at].prompt, seed, negative_prompt=rewrites[at].negative_prompt) for at in usable]
        once.append(ImageTask(request, seed))
        tasks = [replace(task, seed=task.seed + number) for number in range(self._images) for task in once]
        loop = asyncio.get_running_loop()
        pictures = await loop.run_in_executor(self._painter, render, self._backend, tasks)
        best, means = await self._rank(request, pictures, tasks, len(once))
        scores: list[float | None] = [None] * len(rewrites)
        for at, mean in zip(usable, means, strict=False):
            scores[at] = mean
        all_scores = (*scores, means[-1])
        return Choice(usable[best], all_scores) if best < len(usable) else Choice(None, all_scores, (KEPT,))

    async def _rank(
        self, request: str, pictures: Sequence[Image.Image], tasks: Sequence[ImageTask], prompts: int
    ) -> tuple[int, list[float | None]]:
        """The number of the best prompt, and the mean score of each over its pictures; None if one of them has none."""
        if self._images == 1:
            ranked = await self._ranker(request, pictures, tasks)
            return ranked.best, [report.score for report in ranked.reports]
        means = await self._ranker.mean_scores(request, pictures, tasks, prompts)
        return max(range(prompts), key=lambda at: (-1.0 if (mean := means[at]) is None else mean, -at)), means


def open_ranker(profile: Profile, engine: ChatModel) -> PictureRanker:
    """What ranks pictures by the profile's judge. `engine` makes the checklists if the profile's rewriter does. Raises
    ConfigError and ModelMissing."""
    own = profile.checklist.model
    listing = engine if own is None or own == profile.rewriter.model else open_chat(own)
    checklists = open_checklists(profile, listing, detect_language=detect_language)
    return PictureRanker(checklists, open_reward(profile), profile.limits)


def open_judging(profile: Profile, engine: ChatModel, images: int = 1) -> tuple[object, JudgeSelector]:
    """The settings that shape its choice, and the selector. Raises as `open_ranker` does."""
    ranker = open_ranker(profile, engine)
    settings = judging_settings(profile) | ({} if images == 1 else {"images": images})
    return settings, JudgeSelector(open_backend(profile.need_generator()), ranker, images)


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
