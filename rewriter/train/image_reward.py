"""The reward of a rewrite: what the frozen generator draws from it, judged against what the user asked for.

    reply -> parser -> prompt -> generator (k seeds) -> the profile's Reward on the checklist of the user's request

    reward = mean alignment over the seeds + format_weight * format term - intent penalty

    reward = open_image_reward(RewardArguments(profile="mini"), max_failed=0.2)
    scores = await reward([RewardSample("two stars", "<think>...</think><answer>two red stars</answer>")])

While one batch of pictures is judged the next is drawn; a bounded queue between the two keeps memory flat. If a criterion
sees groups, or pictures are compared, all pictures of a request are judged together once they are drawn. A reply that
the parser cannot read draws nothing: it has alignment 0 and the whole penalty, so that no readable reply has less.

If a picture is judged more than once (`passes`), each further pass sees it re-encoded as JPEG, which changes nothing that
anybody asked for: how far the answers then differ shows how sure the judge is.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple, Protocol

from PIL import Image

from editors.backend import ImageBackend, ImageTask, open_backend, render
from evaluator.reward import Reward, Standing, case_of, open_evaluator
from evaluator.types import Case, Checklist, ChecklistMaker, Outcome, Report, Shot
from redraft.chat import ChatReply
from redraft.errors import BackendError, ConfigError, ModelMissing
from redraft.journal import Journal
from redraft.profiles import Profile, load_profile
from redraft.training import check_choices, setting
from rewriter.guard import detect_language
from rewriter.reply import Review, Rules, review
from rewriter.target import AnyForm, Target
from rewriter.train.data import style_and_rules, target_of
from rewriter.train.rewards import Value, alignment, format_term, intent_penalty, mean_of, uncertainty_weight


@dataclass(frozen=True)
class RewardSettings:
    """How a reward is made. The paper gives neither weights nor seeds: these are choices."""

    seeds: int = 1
    """Pictures drawn from each rewrite."""
    seed: int = 0
    passes: int = 1
    """How often each picture is judged; the reward is the mean."""
    batch_size: int = 4
    """Pictures in one call of the generator."""
    ahead: int = 2
    """Batches that may be drawn and wait for the judge."""
    judging: int = 8
    """Pictures being judged, and checklists being made, at once."""
    size: tuple[int, int] | None = None
    """(width, height) of the pictures; None leaves it to the generator."""
    format_weight: float = 0.1
    penalty_each: float = 0.1
    penalty_most: float = 0.5
    max_failed: float = 0.2
    """A call fails if more than this share of its judgements fails."""

    def __post_init__(self) -> None:
        if min(self.seeds, self.passes, self.batch_size, self.ahead, self.judging) < 1:
            raise ValueError("seeds, passes, batch_size, ahead and judging must each be at least 1")
        if not 0 <= self.max_failed <= 1:
            raise ValueError(f"max_failed is a share between 0 and 1, not {self.max_failed}")


@dataclass(frozen=True)
class RewardSample:
    """A reply of the rewriter to a user's request. `truncated`: it was cut off at its token limit; `form`: what the rewriter was
    asked for, which the rewards of the text hold it to."""

    request: str
    reply: str
    truncated: bool = False
    form: AnyForm = "any"


@dataclass(frozen=True)
class ScoredSample:
    """A sample's reward and its parts. `reward` and `alignment` are None if all its judgements failed.

    prompt:    what the reply says to draw; None if the reply cannot be read.
    penalty:   what was taken off for `findings`, which come from the intent guard or the parser.
    certainty: in (0, 1], how well the passes of the judge agree (`uncertainty_weight`, the mean over checks and pictures).
    terms:     the rewards of the text that are part of it (`rewriter.train.text_reward`).
    feedback:  a sentence for each check that a picture did not pass.
    pictures:  how many were wanted; `failed` of them have no judgement.
    readings:  the value of each criterion, the mean over the pictures; None if it does not apply.
    """

    reward: Value
    alignment: Value
    format: float
    prompt: str | None
    thought: str = ""
    negative_prompt: str | None = None
    penalty: float = 0.0
    certainty: float = 1.0
    findings: tuple[str, ...] = ()
    pictures: int = 0
    failed: int = 0
    readings: Mapping[str, Value] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    feedback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """The rewards of one call, in the order of its samples, and what they cost.

    `judgements` counts the distinct pictures wanted, of which `failed` could not be drawn or judged and `cached` were
    known already. `reasons` has each reason for a failure once. `draw_s` and `judge_s` are the seconds in which some
    picture was being drawn, and in which one was being judged; as the two overlap, their sum may exceed `wall_s`.
    `weights`: of the criteria.
    """

    samples: tuple[ScoredSample, ...]
    judgements: int
    failed: int
    cached: int
    reasons: tuple[str, ...]
    draw_s: float
    judge_s: float
    wall_s: float
    weights: Mapping[str, float] = field(default_factory=dict)


class Wish(NamedTuple):
    """A picture for people to look at: of this request, drawn from this prompt."""

    request: str
    prompt: str
    negative_prompt: str | None = None


class RewardSource(Protocol):
    """What trainers get rewards from: models in this process (`ImageReward`) or a server (`reward_server.RemoteReward`).

    `draw` gives the picture that each prompt was first judged by; None if it cannot be drawn. Both raise BackendError.
    """

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores: ...

    async def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]: ...

    def close(self) -> None: ...


class PictureRater(Protocol):
    """Scores pictures that were drawn elsewhere: a report on each, and how it stands among those of its request."""

    async def rate(self, requests: Sequence[str], images: Sequence[Image.Image]) -> list[tuple[Report, Standing]]: ...


def too_many_failed(failed: int, total: int, allowed: float, last: str) -> BackendError:
    """The error for a step of which more than the share `allowed` failed."""
    return BackendError(
        f"{failed} of {total} judgements of this step failed, more than the share of {allowed:g} that max_failed "
        f"allows; mend the cause or raise max_failed. The last: {last}"
    )


@dataclass(frozen=True)
class PictureScore:
    """A picture's score in [0, 1], in (0, 1] how well the passes of the judge agreed, the value of each criterion, and a
    sentence for each check that did not pass."""

    score: float
    certainty: float = 1.0
    readings: Mapping[str, Value] = field(default_factory=dict)
    feedback: Sequence[str] = ()


def cache_key(request: str, prompt: str, *, seed: int, names: Sequence[str], checklist: Checklist) -> str:
    """The sha256, in hex, of everything that a score depends on. `names`: generator, judge, and their settings.

    Models count by their names: after training new weights into the same folder, start a new cache.
    """
    checks = [[check.key_point, check.question] for check in checklist]
    text = json.dumps([request, prompt, seed, list(names), checks])  # ASCII, so that any string can be hashed
    return hashlib.sha256(text.encode()).hexdigest()


class RewardCache:
    """What pictures have scored, by `cache_key`, so that a resumed training, or the next one, judges nothing twice.

    In a journal that several processes may share, or in memory without a path. Only scores are kept: what failed is tried
    again. Raises InputError if the file cannot be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        advice = "delete it, or name another file"
        self._journal = None if path is None else Journal(path, "rewards", shared=True, advice=advice)
        self._memory: dict[str, PictureScore] = {}

    def get(self, key: str) -> PictureScore | None:
        """The score under `key`; None if there is none."""
        if self._journal is None:
            return self._memory.get(key)
        value = self._journal.get(key)
        return None if value is None else PictureScore(*value)

    def put(self, key: str, judged: PictureScore) -> None:
        """Keeps `judged` under `key`. A loss of power may lose the latest."""
        if self._journal is None:
            self._memory[key] = judged
        else:
            kept = [judged.score, judged.certainty, dict(judged.readings), list(judged.feedback)]
            self._journal.put(key, kept, sync=False)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()


@dataclass(frozen=True)
class _Picture:
    """A picture that is wanted."""

    request: str
    prompt: str
    negative_prompt: str | None
    seed: int


@dataclass(frozen=True)
class _Drawing:
    """A picture that no cache knows, and what it will be judged by."""

    picture: _Picture
    checklist: Checklist
    key: str


_Drawn = tuple[_Drawing, Image.Image]
_Queue = asyncio.Queue[list[_Drawn] | None]
"""Pictures of one request that are judged together: one, or all of it."""


@dataclass
class _Progress:
    """What one call knows so far."""

    total: int
    max_failed: float
    known: dict[_Picture, PictureScore | None] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)
    failed: int = 0
    cached: int = 0
    draw_s: float = 0.0
    judge_s: float = 0.0
    judging: int = 0
    judging_since: float = 0.0

    def fail(self, picture: _Picture, reason: str) -> None:
        """Counts a failed judgement. Raises BackendError if there are too many."""
        self.known[picture] = None
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

    Equal pictures (request, prompt, seed) are drawn and judged once, and not at all if the cache knows them. All rewrites
    of a request get the same seeds, so that within a group the rewrites differ and not the noise.

    A picture that cannot be drawn or judged, or whose request gets no checklist, is left out of its rewrite's mean and
    counted. If the generator fails on a batch, its pictures are drawn once more one by one, so that a picture it refuses
    costs no other. Calls raise BackendError above `settings.max_failed`, and ModelMissing at once.
    """

    def __init__(
        self,
        backend: ImageBackend,
        make_checklist: ChecklistMaker,
        reward: Reward,
        rules: Rules,
        settings: RewardSettings | None = None,
        *,
        cache: RewardCache | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """`names`: what scores depend on besides the names of the criteria, such as that of the judge."""
        self._backend = backend
        self._make_checklist = make_checklist
        self._reward = reward
        self._names = (*names, *reward.names)
        self._together = reward.is_relative or reward.sees_groups
        self._rules = rules
        self._settings = settings or RewardSettings()
        self._cache = cache or RewardCache()
        self._checklists: dict[str, Checklist] = {}
        """Of what the words of each request are checked by; words that nothing checks earn no reward."""
        self._drawing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draw")

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        """The rewards of `samples`, in order."""
        started = time.perf_counter()
        reviews = [
            review(sample.request, ChatReply(sample.reply, truncated=sample.truncated), self._rules)
            for sample in samples
        ]
        wanted = [self._pictures(sample, read) for sample, read in zip(samples, reviews, strict=True)]
        distinct = list(dict.fromkeys(picture for pictures in wanted for picture in pictures))
        progress = _Progress(len(distinct), self._settings.max_failed)
        await self._judge(distinct, progress)
        scored = (
            self._scored(sample, read, [progress.known[picture] for picture in pictures])
            for sample, read, pictures in zip(samples, reviews, wanted, strict=True)
        )
        return Scores(
            samples=tuple(scored),
            judgements=progress.total,
            failed=progress.failed,
            cached=progress.cached,
            reasons=tuple(progress.reasons),
            draw_s=progress.draw_s,
            judge_s=progress.judge_s,
            wall_s=time.perf_counter() - started,
            weights=self._reward.weights,
        )

    async def draw(self, wishes: Sequence[Wish]) -> list[Image.Image | None]:
        """The picture of each wish with the first of its seeds. Raises ModelMissing."""
        pictures = [_Picture(*wish, seeds_of(wish.request, self._settings)[0]) for wish in wishes]
        tasks, size = [self._task(picture) for picture in pictures], self._settings.batch_size
        images = [image for at in range(0, len(tasks), size) for image in await self._render(tasks[at : at + size])]
        return [None if isinstance(image, BackendError) else image for image in images]

    async def rate(self, requests: Sequence[str], images: Sequence[Image.Image]) -> list[tuple[Report, Standing]]:
        """Scores pictures that others drew for `requests`, those of one request together. Raises BackendError."""
        gate = asyncio.Semaphore(self._settings.judging)
        rated: dict[int, tuple[Report, Standing]] = {}

        async def rate_group(request: str) -> None:
            checklist = await self._checklist(request, gate)
            if isinstance(checklist, BackendError):
                raise checklist
            mine = [at for at, each in enumerate(requests) if each == request]
            case = case_of(request, checklist)
            async with gate:
                rated.update(zip(mine, await self._look(case, [Shot((images[at],)) for at in mine]), strict=True))

        await asyncio.gather(*(rate_group(request) for request in dict.fromkeys(requests)))
        return [rated[at] for at in range(len(requests))]

    def close(self) -> None:
        """Ends the worker thread, once the batch that it draws is done."""
        self._drawing.shutdown()

    def _pictures(self, sample: RewardSample, read: Review) -> list[_Picture]:
        if read.prompt is None:
            return []
        seeds = seeds_of(sample.request, self._settings)
        return [_Picture(sample.request, read.prompt, read.negative_prompt, seed) for seed in seeds]

    def _scored(self, sample: RewardSample, read: Review, known: Sequence[PictureScore | None]) -> ScoredSample:
        s = self._settings
        form = format_term(sample.reply, readable=read.prompt is not None)
        if read.prompt is None:
            return ScoredSample(
                reward=s.format_weight * form - s.penalty_most,
                alignment=0.0,
                format=form,
                prompt=None,
                thought=read.thought,
                penalty=s.penalty_most,
                findings=read.findings,
            )
        penalty = intent_penalty(len(read.findings), s.penalty_each, s.penalty_most)
        judged = [result for result in known if result is not None]
        aligned = mean_of([result.score for result in judged])
        return ScoredSample(
            reward=None if aligned is None else aligned + s.format_weight * form - penalty,
            alignment=aligned,
            format=form,
            prompt=read.prompt,
            thought=read.thought,
            negative_prompt=read.negative_prompt,
            penalty=penalty,
            certainty=fmean(result.certainty for result in judged) if judged else 1.0,
            findings=read.findings,
            pictures=len(known),
            failed=len(known) - len(judged),
            readings={name: mean_of([r.readings.get(name) for r in judged]) for name in self._reward.weights},
            feedback=tuple(dict.fromkeys(sentence for result in judged for sentence in result.feedback)),
        )

    async def _judge(self, pictures: Sequence[_Picture], progress: _Progress) -> None:
        """Fills `progress`: checklists, drawing and judging go on side by side."""
        queue: _Queue = asyncio.Queue(self._settings.ahead * self._settings.batch_size)
        gate = asyncio.Semaphore(self._settings.judging)
        try:
            async with asyncio.TaskGroup() as group:
                requests = dict.fromkeys(picture.request for picture in pictures)
                checklists = {request: group.create_task(self._checklist(request, gate)) for request in requests}
                group.create_task(self._draw_all(pictures, checklists, queue, progress=progress))
                for _ in range(self._settings.judging):
                    group.create_task(self._judge_all(queue, progress))
        except BaseExceptionGroup as errors:
            # Callers know our errors, not groups of them; errors that come together have one cause.
            raise errors.exceptions[0] from None

    async def _checklist(self, request: str, gate: asyncio.Semaphore) -> Checklist | BackendError:
        if request not in self._checklists:
            async with gate:
                try:
                    made = await self._make_checklist(request)
                    if not made.checks:
                        return BackendError(f"nothing checks: {', '.join(made.unchecked)}")
                    self._checklists[request] = made.checks
                except ModelMissing:
                    raise
                except BackendError as error:
                    return error
        return self._checklists[request]

    async def _draw_all(
        self,
        pictures: Sequence[_Picture],
        checklists: Mapping[str, asyncio.Task[Checklist | BackendError]],
        queue: _Queue,
        *,
        progress: _Progress,
    ) -> None:
        batch: list[_Drawing] = []
        waiting: dict[str, list[_Drawn]] = {}
        left = Counter(picture.request for picture in pictures)

        async def hand_on(request: str, drawn: Sequence[_Drawn], settled: int) -> None:
            """Gives pictures to the judges: each at once, or all of a request when none of them is still to come."""
            if not self._together:
                for each in drawn:
                    await queue.put([each])
                return
            waiting.setdefault(request, []).extend(drawn)
            left[request] -= settled
            if left[request] == 0 and waiting[request]:
                await queue.put(waiting.pop(request))

        async def draw_batch() -> None:
            for drawing, image in zip(batch, await self._draw_batch(batch, progress), strict=True):
                if isinstance(image, BackendError):
                    progress.fail(drawing.picture, str(image))
                    await hand_on(drawing.picture.request, [], 1)
                else:
                    await hand_on(drawing.picture.request, [(drawing, image)], 1)
            batch.clear()

        for picture in pictures:
            checklist = await checklists[picture.request]
            if isinstance(checklist, BackendError):
                progress.fail(picture, str(checklist))
                await hand_on(picture.request, [], 1)
                continue
            key = self._key(picture, checklist)
            # What a picture is worth in one group, it is not in another.
            if not self._together and (judged := self._cache.get(key)) is not None:
                progress.known[picture] = judged
                progress.cached += 1
                continue
            batch.append(_Drawing(picture, checklist, key))
            if len(batch) == self._settings.batch_size:
                await draw_batch()
        if batch:
            await draw_batch()
        for _ in range(self._settings.judging):
            await queue.put(None)

    async def _draw_batch(self, batch: Sequence[_Drawing], progress: _Progress) -> Sequence[Image.Image | BackendError]:
        started = time.perf_counter()
        images = await self._render([self._task(drawing.picture) for drawing in batch])
        progress.draw_s += time.perf_counter() - started
        return images

    async def _render(self, tasks: Sequence[ImageTask]) -> Sequence[Image.Image | BackendError]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._drawing, render, self._backend, tasks)
        except ModelMissing:
            raise
        except BackendError as error:
            if len(tasks) == 1:
                return [error]
        return [image for task in tasks for image in await self._render([task])]

    async def _judge_all(self, queue: _Queue, progress: _Progress) -> None:
        while (drawn := await queue.get()) is not None:
            progress.judge_begins()
            try:
                passes = [await self._judge_pass(drawn, number) for number in range(self._settings.passes)]
            finally:
                progress.judge_ends()
            for (drawing, _), *judgements in zip(drawn, *passes, strict=True):
                scores = [alignment(report, standing.value) for report, standing in judgements]
                known = [score for score in scores if score is not None]
                if len(known) < len(scores):
                    progress.fail(drawing.picture, _why_failed(judgements[scores.index(None)][0]))
                    continue
                readings = [
                    {name: reading.value for name, reading in {**report.readings, **standing.readings}.items()}
                    for report, standing in judgements
                ]
                means = {name: mean_of([each.get(name) for each in readings]) for name in readings[0]}
                certainty = _certainty([report for report, _ in judgements])
                judged = PictureScore(fmean(known), certainty, means, judgements[0][0].feedback)
                progress.known[drawing.picture] = judged
                if not self._together:
                    self._cache.put(drawing.key, judged)

    async def _judge_pass(self, drawn: Sequence[_Drawn], number: int) -> list[tuple[Report, Standing]]:
        """One look at pictures of one request, from the second on re-encoded."""
        first, _ = drawn[0]
        # The user's request, never the rewrite: else a rewrite could lower the bar it is measured by.
        case = case_of(first.picture.request, first.checklist)
        shots = [
            Shot((_reencode(image, number) if number else image,), drawing.picture.prompt) for drawing, image in drawn
        ]
        return await self._look(case, shots)

    async def _look(self, case: Case, shots: Sequence[Shot]) -> list[tuple[Report, Standing]]:
        reports = await self._reward(case, shots)
        if not self._reward.is_relative:
            return [(report, Standing(None)) for report in reports]
        return list(zip(reports, await self._reward.compare(case, shots, reports), strict=True))

    def _key(self, picture: _Picture, checklist: Checklist) -> str:
        settings = f"{self._settings.size} {self._settings.passes}"
        names = (self._backend.name, *self._names, settings)
        negative = picture.negative_prompt
        drawn = picture.prompt if negative is None else f"{picture.prompt}\0{negative}"
        return cache_key(picture.request, drawn, seed=picture.seed, names=names, checklist=checklist)

    def _task(self, picture: _Picture) -> ImageTask:
        return ImageTask(
            picture.prompt, picture.seed, size=self._settings.size, negative_prompt=picture.negative_prompt
        )


def seeds_of(request: str, settings: RewardSettings) -> tuple[int, ...]:
    """The seeds that all rewrites of `request` are drawn with, each below 2**31. Other requests have others, so that the
    rewriter cannot learn what suits a few noises."""
    texts = (f"{settings.seed}\0{i}\0{request}" for i in range(settings.seeds))
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts)
    return tuple(int.from_bytes(digest[:4], "big") >> 1 for digest in digests)


def _why_failed(report: Report) -> str:
    reasons = [v.reason for v in report.verdicts if v.outcome is Outcome.FAILED]
    reasons += [reading.reason for reading in report.readings.values() if reading.outcome is Outcome.FAILED]
    return next(iter(reasons), "the judge found no check that applies")


def _reencode(image: Image.Image, number: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=max(30, 95 - 15 * number))
    buffer.seek(0)
    with Image.open(buffer) as again:
        copy = again.convert("RGB")
    copy.info = dict(image.info)
    return copy


def _certainty(reports: Sequence[Report]) -> float:
    """The mean over checks, and over criteria without checks, of exp(-u), u the disagreement of the passes about it."""
    answers = [
        list(each) for each in zip(*([v.probability for v in report.verdicts] for report in reports), strict=True)
    ]
    plain = [name for name, reading in reports[0].readings.items() if not reading.answers]
    answers += [[report.readings[name].value for report in reports] for name in plain]
    weights = [uncertainty_weight([p for p in repeats if p is not None]) for repeats in answers]
    return fmean(weights) if weights else 1.0


@dataclass
class RewardArguments:
    """How rewrites are drawn and judged: for GRPO in one process, and for the reward server."""

    profile: str | None = setting(
        None, "Profile (name or TOML file) whose generator, checklist model and judge reward."
    )
    aggregation: Literal["profile", "group_mean", "mean", "min", "geometric_mean"] = setting(
        "profile", "How checks make a score: as the profile says, or mean of key-point groups (the paper's), mean, ..."
    )
    images_per_rewrite: int = setting(1, "Pictures, of different seeds, over which a rewrite's score is averaged.")
    reward_seed: int = setting(0, "Seed from which, with the request, the seeds of pictures follow.")
    format_weight: float = setting(0.1, "Weight of the format term (0, 0.5 or 1).")
    penalty_each: float = setting(0.1, "Penalty for each finding of the guard.")
    penalty_most: float = setting(0.5, "Largest penalty; also the penalty of a reply that cannot be read.")
    judge_passes: int = setting(1, "How often each picture is judged (from the second pass on, re-encoded).")
    reward_cache: str | None = setting(None, "File that keeps scores from run to run; if not set, in memory.")

    def __post_init__(self) -> None:
        check_choices(self)


def open_image_reward(
    args: RewardArguments, style: str | None = None, target: str | Target | None = None, *, max_failed: float
) -> ImageReward:
    """The reward in this process. Rewrites are held against `style` and `target`, by default those of the profile.

    Raises ConfigError, and ModelMissing if weights are not in their place.
    """
    if args.profile is None:
        raise ConfigError("profile is missing: it names the generator and the judge (or set reward_url to a server)")
    profile = _on_own_device(load_profile(args.profile))
    if args.aggregation != "profile":
        evaluator = profile.evaluator.model_copy(update={"aggregation": args.aggregation})
        profile = profile.model_copy(update={"evaluator": evaluator})
    try:
        settings = RewardSettings(
            seeds=args.images_per_rewrite,
            seed=args.reward_seed,
            passes=args.judge_passes,
            batch_size=profile.need_generator().at_once,
            judging=_judged_at_once(profile),
            format_weight=args.format_weight,
            penalty_each=args.penalty_each,
            penalty_most=args.penalty_most,
            max_failed=max_failed,
        )
    except ValueError as error:
        raise ConfigError(f"the reward's settings cannot be used: {error}") from error
    _, rules = style_and_rules(style or profile.rewriter.style, target or target_of(profile))
    make_checklist, reward = open_evaluator(profile, detect_language=detect_language)
    cache = RewardCache(Path(args.reward_cache)) if args.reward_cache else None
    names = (profile.need_judge().model.model, profile.evaluator.model_dump_json())
    backend = open_backend(profile.need_generator())
    return ImageReward(backend, make_checklist, reward, rules, settings, cache=cache, names=names)


def _judged_at_once(profile: Profile) -> int:
    """How many pictures are judged at once: what the judge can take in one batch, and one batch waiting behind it."""
    judge = profile.need_judge().model
    return judge.server.slots if judge.server is not None else 2 * judge.local.micro_batch


def _on_own_device(profile: Profile) -> Profile:
    """With several training processes on one machine, each process's reward models go onto its own GPU.

    The models run in threads of their own, where "cuda" would mean the first GPU in every process.
    """
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or int(os.environ.get("LOCAL_WORLD_SIZE", "1")) == 1:
        return profile
    import torch

    if not torch.cuda.is_available():
        return profile
    return place_on(profile, f"cuda:{int(rank)}")


def place_on(profile: Profile, device: str) -> Profile:
    """`profile` with every model of this process whose device is "auto" or "cuda" on `device`."""

    def put(data: object) -> object:
        if isinstance(data, dict):
            moved = {"device": device} if data.get("device") in ("auto", "cuda") else {}
            return {key: put(value) for key, value in data.items()} | moved
        return data

    return Profile.model_validate(put(profile.model_dump()))
