"""The reward of a rewrite: what the frozen generator draws from it, judged against what the user asked for.

    reply -> parser -> rewrite -> generator (k seeds) -> AlignEvaluator on the checklist of the ORIGINAL prompt

    reward = mean alignment over the seeds + format_weight * format term - intent penalty

While one batch of pictures is judged the next is drawn; a bounded queue between the two keeps memory flat. A reply that
the parser cannot read draws nothing: it has alignment 0 and the whole penalty, so that no readable reply has less.

Where a picture is judged more than once (`passes`), each further pass sees it re-encoded as JPEG, which changes nothing
that anybody asked for: how far the answers then lie apart tells how sure the judge is.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import fmean

from PIL import Image

from editors.types import ImageBackend, ImageTask
from evaluator.align import AlignEvaluator
from evaluator.types import Checklist, Outcome, Report
from redraft.chat import ChatReply
from redraft.errors import BackendError, ModelMissing
from rewriter.reply import Review, Rules, review
from rewriter.train.reward_cache import Judged, RewardCache, cache_key
from rewriter.train.reward_types import RewardSettings, Sample, Scored, Scores, Wish, too_many_failed
from rewriter.train.rewards import alignment, format_term, intent_penalty, mean_of, uncertainty_weight


@dataclass(frozen=True)
class _Job:
    """A picture that is wanted."""

    prompt: str
    rewrite: str
    negative: str | None
    seed: int


@dataclass(frozen=True)
class _Asked:
    """A picture that has to be drawn."""

    job: _Job
    checklist: Checklist
    key: str


_Queue = asyncio.Queue[tuple[_Asked, Image.Image] | None]


@dataclass
class _Run:
    """What one call has found out so far."""

    total: int
    max_failed: float
    known: dict[_Job, Judged | None] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)
    failed: int = 0
    cached: int = 0
    draw_s: float = 0.0
    judge_s: float = 0.0
    judging: int = 0
    judging_since: float = 0.0

    def fail(self, job: _Job, reason: str) -> None:
        """Counts a failed judgement. Raises BackendError where they are too many."""
        self.known[job] = None
        self.reasons[reason] = None
        self.failed += 1
        if self.failed > self.max_failed * self.total:
            raise too_many_failed(self.failed, self.total, self.max_failed, reason)

    def judge_begins(self) -> None:
        if self.judging == 0:
            self.judging_since = time.perf_counter()
        self.judging += 1

    def judge_ends(self) -> None:
        self.judging -= 1
        if self.judging == 0:
            self.judge_s += time.perf_counter() - self.judging_since


class ImageReward:
    """Rewards for batches of replies. One worker thread owns the generator; calls may come from any event loop.

    Equal pictures (prompt, rewrite, seed) are drawn and judged once, and never again where the cache knows them. All
    rewrites of a prompt get the same seeds, so that within a group the rewrites differ and not the noise.

    A picture that could not be drawn or judged, or whose prompt got no checklist, is left out of its rewrite's mean and
    counted. A batch that the generator fails on is drawn once more one by one, so that a picture it refuses costs no
    other. Calls raise BackendError above `settings.max_failed`, and ModelMissing at once.
    """

    def __init__(
        self,
        backend: ImageBackend,
        evaluator: AlignEvaluator,
        rules: Rules,
        settings: RewardSettings | None = None,
        *,
        cache: RewardCache | None = None,
    ) -> None:
        self._backend = backend
        self._evaluator = evaluator
        self._rules = rules
        self._settings = settings or RewardSettings()
        self._cache = cache or RewardCache()
        self._checklists: dict[str, Checklist] = {}
        self._drawing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draw")

    async def __call__(self, samples: Sequence[Sample]) -> Scores:
        """The rewards of `samples`, in order."""
        started = time.perf_counter()
        read = [review(one.prompt, ChatReply(one.reply, truncated=one.truncated), self._rules) for one in samples]
        jobs = [self._jobs(sample, own) for sample, own in zip(samples, read, strict=True)]
        wanted = list(dict.fromkeys(job for own in jobs for job in own))
        run = _Run(len(wanted), self._settings.max_failed)
        await self._judged(wanted, run)
        scored = (
            self._scored(sample, one, [run.known[job] for job in own])
            for sample, one, own in zip(samples, read, jobs, strict=True)
        )
        return Scores(
            samples=tuple(scored),
            judgements=run.total,
            failed=run.failed,
            cached=run.cached,
            reasons=tuple(run.reasons),
            draw_s=run.draw_s,
            judge_s=run.judge_s,
            wall_s=time.perf_counter() - started,
        )

    async def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]:
        """The picture of each wish with the first of its seeds. Raises ModelMissing."""
        jobs = [_Job(*wish, seeds_of(wish.prompt, self._settings)[0]) for wish in wishes]
        tasks, size = [self._task(job) for job in jobs], self._settings.batch_size
        drawn = [one for at in range(0, len(tasks), size) for one in await self._render(tasks[at : at + size])]
        return [None if isinstance(one, BackendError) else one for one in drawn]

    def close(self) -> None:
        """Ends the worker thread, once what it draws is done."""
        self._drawing.shutdown()

    def _jobs(self, sample: Sample, read: Review) -> list[_Job]:
        if read.prompt is None:
            return []
        seeds = seeds_of(sample.prompt, self._settings)
        return [_Job(sample.prompt, read.prompt, read.negative_prompt, seed) for seed in seeds]

    def _scored(self, sample: Sample, read: Review, known: Sequence[Judged | None]) -> Scored:
        s = self._settings
        form = format_term(sample.reply, readable=read.prompt is not None)
        if read.prompt is None:
            reward = s.format_weight * form - s.penalty_most
            return Scored(reward, 0.0, form, None, read.thought, penalty=s.penalty_most, findings=read.findings)
        penalty = intent_penalty(len(read.findings), s.penalty_each, s.penalty_most)
        judged = [one for one in known if one is not None]
        aligned = mean_of([one.score for one in judged])
        return Scored(
            reward=None if aligned is None else aligned + s.format_weight * form - penalty,
            alignment=aligned,
            format=form,
            rewrite=read.prompt,
            thought=read.thought,
            negative=read.negative_prompt,
            penalty=penalty,
            certainty=fmean(one.certainty for one in judged) if judged else 1.0,
            findings=read.findings,
            pictures=len(known),
            failed=len(known) - len(judged),
        )

    async def _judged(self, jobs: Sequence[_Job], run: _Run) -> None:
        """Fills `run`: checklists, drawing and judging go on side by side."""
        queue: _Queue = asyncio.Queue(self._settings.ahead * self._settings.batch_size)
        gate = asyncio.Semaphore(self._settings.judging)
        try:
            async with asyncio.TaskGroup() as group:
                prompts = dict.fromkeys(job.prompt for job in jobs)
                checklists = {prompt: group.create_task(self._checklist(prompt, gate)) for prompt in prompts}
                group.create_task(self._draw_all(jobs, checklists, queue, run))
                for _ in range(self._settings.judging):
                    group.create_task(self._judge_all(queue, run))
        except BaseExceptionGroup as errors:
            # Callers know our errors, not groups of them; what fails together with the first has its cause.
            raise errors.exceptions[0] from None

    async def _checklist(self, prompt: str, gate: asyncio.Semaphore) -> Checklist | BackendError:
        if prompt not in self._checklists:
            async with gate:
                try:
                    self._checklists[prompt] = await self._evaluator.checklist(prompt)
                except ModelMissing:
                    raise
                except BackendError as error:
                    return error
        return self._checklists[prompt]

    async def _draw_all(
        self,
        jobs: Sequence[_Job],
        checklists: Mapping[str, asyncio.Task[Checklist | BackendError]],
        queue: _Queue,
        run: _Run,
    ) -> None:
        batch: list[_Asked] = []
        for job in jobs:
            checklist = await checklists[job.prompt]
            if isinstance(checklist, BackendError):
                run.fail(job, str(checklist))
                continue
            key = self._key(job, checklist)
            if (judged := self._cache.get(key)) is not None:
                run.known[job] = judged
                run.cached += 1
                continue
            batch.append(_Asked(job, checklist, key))
            if len(batch) == self._settings.batch_size:
                await self._draw(batch, queue, run)
                batch = []
        if batch:
            await self._draw(batch, queue, run)
        for _ in range(self._settings.judging):
            await queue.put(None)

    async def _draw(self, batch: Sequence[_Asked], queue: _Queue, run: _Run) -> None:
        started = time.perf_counter()
        images = await self._render([self._task(asked.job) for asked in batch])
        run.draw_s += time.perf_counter() - started
        for asked, image in zip(batch, images, strict=True):
            if isinstance(image, BackendError):
                run.fail(asked.job, str(image))
            else:
                await queue.put((asked, image))

    async def _render(self, tasks: Sequence[ImageTask]) -> Sequence[Image.Image | BackendError]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._drawing, self._backend.render, tasks)
        except ModelMissing:
            raise
        except BackendError as error:
            if len(tasks) == 1:
                return [error]
        return [image for task in tasks for image in await self._render([task])]

    async def _judge_all(self, queue: _Queue, run: _Run) -> None:
        while (drawn := await queue.get()) is not None:
            asked, image = drawn
            run.judge_begins()
            try:
                # The user's own prompt, never the rewrite: else a rewrite could lower the bar it is measured by.
                images = [image, *(_reencoded(image, number) for number in range(1, self._settings.passes))]
                reports = [await self._evaluator.score(one, asked.job.prompt, asked.checklist) for one in images]
            finally:
                run.judge_ends()
            scores = [alignment(report, self._evaluator.aggregation) for report in reports]
            known = [score for score in scores if score is not None]
            if len(known) < len(scores):
                run.fail(asked.job, _why(reports[scores.index(None)]))
            else:
                judged = Judged(fmean(known), _certainty(reports))
                run.known[asked.job] = judged
                self._cache.put(asked.key, judged)

    def _key(self, job: _Job, checklist: Checklist) -> str:
        evaluator = self._evaluator
        settings = f"{self._settings.size} {self._settings.passes}"
        names = (self._backend.name, evaluator.judge.name, evaluator.aggregation, settings)
        drawn = job.rewrite if job.negative is None else f"{job.rewrite}\0{job.negative}"
        return cache_key(job.prompt, drawn, job.seed, names, checklist)

    def _task(self, job: _Job) -> ImageTask:
        return ImageTask(job.rewrite, job.seed, self._settings.size, job.negative)


def seeds_of(prompt: str, settings: RewardSettings) -> tuple[int, ...]:
    """The seeds that all rewrites of `prompt` are drawn with, each below 2**31: others for other prompts, so that the
    rewriter cannot learn what suits a few noises."""
    told = (f"{settings.seed}\0{i}\0{prompt}" for i in range(settings.seeds))
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in told)
    return tuple(int.from_bytes(digest[:4], "big") >> 1 for digest in digests)


def _why(report: Report) -> str:
    reasons = (v.reason for v in report.verdicts if v.outcome is Outcome.FAILED)
    return next(reasons, "the judge found no check that applies")


def _reencoded(image: Image.Image, number: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=max(30, 95 - 15 * number))
    buffer.seek(0)
    with Image.open(buffer) as again:
        copy = again.convert("RGB")
    copy.info = dict(image.info)
    return copy


def _certainty(reports: Sequence[Report]) -> float:
    """The mean over checks of exp(-u), u the disagreement of the passes about the check."""
    answers = zip(*([verdict.probability for verdict in report.verdicts] for report in reports), strict=True)
    weights = [uncertainty_weight([p for p in one if p is not None]) for one in answers]
    return fmean(weights) if weights else 1.0
