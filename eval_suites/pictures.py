"""Suites of pictures: the ways of making a picture that they compare (as typed, rewritten, best of n, the loop), who
judges the pictures, and what came out.

Pictures are drawn in batches of a fixed make-up, each once, and all are kept by the hash of their bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from agent.models import Models, open_models
from agent.run import Run
from agent.types import Attempt, StopReason, missed, stable_key
from editors.backend import ImageTask, render
from eval_suites.figures import bars, gallery, legend, picture_sections, summary
from eval_suites.runner import (
    EvalOptions,
    Evaluation,
    hash_data,
    note_count,
    spread_evenly,
    write_tables,
)
from eval_suites.suite import Answered, Condition, Data, Item, Made, Reporter, Results, Suite
from evaluator.reward import Reward, open_evaluator
from evaluator.types import Case, Check, Checklist, ChecklistMaker, Outcome, RequestChecks, Shot
from redraft.errors import BackendError, InputError
from redraft.images import ImageStore, open_image
from redraft.journal import Journal
from redraft.limits import Limits
from redraft.profiles import Profile, SearchConfig, load_profile
from rewriter.guard import detect_language
from rewriter.request import clean_request

PATIENCE = 3
"""So many batches in a row that fail end the run: a server that is gone does not come back by being asked."""


@dataclass(frozen=True)
class PictureTask:
    """One picture to draw."""

    prompt: str
    seed: int
    negative_prompt: str | None = None

    @property
    def key(self) -> str:
        return stable_key({"prompt": self.prompt, "seed": self.seed, "negative_prompt": self.negative_prompt})


def seed_of(seed: int, prompt: str, k: int) -> int:
    """Seed in [0, 2**31) of the k-th picture of a prompt: the same in every condition, so that they can be paired."""
    digest = hashlib.sha256(f"{seed}:{k}:{prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Easel:
    """Draws lists of pictures. A batch is in the journal whole or not at all, and is drawn again with the same make-up:
    a picture may differ in its last bits with its batch."""

    def __init__(self, models: Models, journal: Journal, store: ImageStore) -> None:
        self._models, self._journal, self._store = models, journal, store
        self._pictures: dict[str, asyncio.Future[str]] = {}
        self._failures = 0

    def promise(self, draws: Sequence[PictureTask]) -> list[PictureTask]:
        """Takes on what nobody has taken on yet, and returns it in order, for `work`."""
        loop = asyncio.get_running_loop()
        mine = [draw for draw in dict.fromkeys(draws) if draw.key not in self._pictures]
        for draw in mine:
            self._pictures[draw.key] = loop.create_future()
        return mine

    async def picture(self, draw: PictureTask) -> str:
        """The picture's hash, once it is drawn. Raises BackendError if it could not be."""
        return await asyncio.shield(self._pictures[draw.key])

    async def work(self, mine: Sequence[PictureTask]) -> None:
        """Draws what `promise` returned. Raises BackendError when PATIENCE batches in a row have failed."""
        size = self._models.batch_size
        for start in range(0, len(mine), size):
            batch = mine[start : start + size]
            known = [self._journal.get(("picture", draw.key)) for draw in batch]
            if all(value is not None and value in self._store for value in known):
                for draw, value in zip(batch, known, strict=True):
                    self._pictures[draw.key].set_result(str(value))
                continue
            started = time.monotonic()
            loop = asyncio.get_running_loop()
            try:
                hashes = await loop.run_in_executor(self._models.renderer, self._draw, batch)
            except BackendError as error:
                self._give_up(batch, error)
                self._failures += 1
                if self._failures >= PATIENCE:
                    self._give_up(mine[start + size :], error)
                    raise
                continue
            self._failures = 0
            made = {("picture", draw.key): value for draw, value in zip(batch, hashes, strict=True)}
            self._journal.put_all(made, seconds=time.monotonic() - started)
            for draw, value in zip(batch, hashes, strict=True):
                self._pictures[draw.key].set_result(value)

    def _draw(self, batch: Sequence[PictureTask]) -> list[str]:
        tasks = [ImageTask(draw.prompt, draw.seed, negative_prompt=draw.negative_prompt) for draw in batch]
        return [self._store.put(picture) for picture in render(self._models.generator, tasks)]

    def _give_up(self, draws: Sequence[PictureTask], error: BackendError) -> None:
        for draw in draws:
            future = self._pictures[draw.key]
            future.set_exception(error)
            future.exception()  # nobody may be waiting for it


SESSIONS = 16
"""Loops under way at once; their pictures are drawn one batch at a time all the same."""


_A_DAY = 86_400.0


class NoChecklists:
    """A ChecklistMaker for suites that bring their questions and make none."""

    async def __call__(self, request: str) -> RequestChecks:
        raise NotImplementedError(f"no checklist is made here, as of {request!r}")


def conditions(images: int, *, rewriter: bool, best: bool, loop: bool) -> list[Condition]:
    """The rows to compare, all at `images` pictures an item; the loop may stop before it has drawn that many."""
    of = "one picture" if images == 1 else f"mean of {images}"
    rows = [Condition("raw", f"as typed, {of}", images, images)]
    if best and images > 1:
        rows.append(Condition("raw_best", f"as typed, best of {images}", images, 1))
    if rewriter:
        rows.append(Condition("rewritten", f"rewritten, {of}", images, images))
        if best and images > 1:
            rows.append(Condition("rewritten_best", f"rewritten, best of {images}", images, 1))
    if loop:
        rows.append(Condition("loop", f"the loop, at most {images}", images, 1))
    return rows


@dataclass
class Work:
    """Everything that conditions share."""

    suite: Suite
    models: Models
    reporter: Reporter
    limits: Limits
    journal: Journal
    store: ImageStore
    out: Path
    images: int
    seed: int
    given: Path | None = None
    search: SearchConfig | None = None
    """How the loop searches; None: by rounds of whole pictures."""
    profile: Profile | None = None

    def __post_init__(self) -> None:
        self.easel = Easel(self.models, self.journal, self.store)
        self._sessions = asyncio.Semaphore(SESSIONS)
        self._asked: set[str] = set()

    # -- making ---------------------------------------------------------------------------------------------------

    def draws(self, item: Item, prompt: str, negative: str | None = None) -> list[PictureTask]:
        return [PictureTask(prompt, seed_of(self.seed, item.prompt, k), negative) for k in range(self.images)]

    async def rewrite(self, item: Item) -> dict[str, Any]:
        """The first rewrite of the item's prompt. Falls back to the prompt itself as the rewriter does."""

        async def make() -> dict[str, Any]:
            async with self.models.calls:
                return asdict((await self.models.rewriter(item.prompt, n=1, seed=self.seed))[0])

        made: dict[str, Any] = await self.journal.aonce(("rewrite", item.prompt), make)
        return made

    async def many(self, item: Item, rewritten: bool) -> Made:
        prompt, thought, negative = item.prompt, "", None
        if rewritten:
            made = await self.rewrite(item)
            prompt, thought, negative = made["prompt"], made["thought"], made["negative_prompt"]
        pictures = [await self.easel.picture(draw) for draw in self.draws(item, prompt, negative)]
        return Made(tuple(pictures), len(pictures), prompt, thought)

    async def best(self, item: Item, rewritten: bool) -> Made:
        """The picture that the system's own evaluator likes best, by its own checklist: it never sees the questions."""
        made = await self.many(item, rewritten)
        checks = await self.checklist(item, "own", self.models.checklist_maker)
        reports = [
            await self.judged(picture, item.prompt, checks, "own", self.models.reward) for picture in made.pictures
        ]
        scores = [report["score"] for report in reports]
        places = dict.fromkeys(range(len(scores)), 0.0)
        if self.models.reward.is_relative:
            places = await self.places(item, made.pictures, checks, scores=scores)
        best = max(places, key=lambda i: (scores[i] is not None, places[i], scores[i] or 0.0, -i))
        return replace(made, pictures=(made.pictures[best],))

    async def loop(self, item: Item) -> Made:
        async def make() -> dict[str, Any]:
            async with self._sessions:
                begun = self.journal.get(("loop_begun", item.prompt))
                folder = None if begun is None else self.out / "loop" / begun
                if folder is not None and (folder / "run.json").is_file():
                    session = Run.open(folder, self.models)
                else:
                    # Pictures are the budget here: seconds would measure how many loops run side by side.
                    places = min(self.limits.images_per_round, self.images)
                    limits = self.limits.changed(max_images=self.images, images_per_round=places, max_seconds=_A_DAY)
                    first = seed_of(self.seed, item.prompt, 0)
                    session = Run.start(
                        item.prompt, self.models, limits=limits, out=self.out / "loop", seed=first, search=self.search
                    )
                    self.journal.put(("loop_begun", item.prompt), session.folder.path.name)
                result = await session.run()
            best = result.best_attempt
            if result.stop is StopReason.FAILED or best is None or result.image is None:
                raise BackendError(f"the loop failed: {result.error or result.why}")
            return asdict(
                Made(
                    (self.store.put(open_image(result.image)),),
                    len(result.attempts),
                    best.prompt,
                    trace=str(result.trace.relative_to(self.out)),
                    story=tuple(_in_short(attempt, self.limits.pass_at) for attempt in result.attempts),
                )
            )

        value = await self.journal.aonce(("loop", item.prompt), make)
        return Made(**{**value, "pictures": tuple(value["pictures"]), "story": tuple(value["story"])})

    async def found(self, item: Item) -> Made:
        """Pictures that lie in the benchmark's own layout under `given`."""
        assert self.given is not None
        files = [self.given / self.suite.place(item, k) for k in range(self.images)]
        hashes = await asyncio.to_thread(lambda: [self.store.put(open_image(file)) for file in files])
        return Made(tuple(hashes), 0, item.prompt)

    def maker(self, condition: str) -> Callable[[Item], Awaitable[Made]]:
        return {
            "raw": lambda item: self.many(item, False),
            "raw_best": lambda item: self.best(item, False),
            "rewritten": lambda item: self.many(item, True),
            "rewritten_best": lambda item: self.best(item, True),
            "loop": self.loop,
            "given": self.found,
        }[condition]

    # -- judging --------------------------------------------------------------------------------------------------

    async def checklist(self, item: Item, who: str, builder: ChecklistMaker) -> Checklist:
        async def make() -> list[list[str]]:
            async with self.models.calls:
                return [[check.key_point, check.question] for check in (await builder(item.prompt)).checks]

        made = await self.journal.aonce(("checklist", f"{who}: {item.prompt}"), make)
        return tuple(Check(*pair) for pair in made)

    async def judged(self, picture: str, prompt: str, checks: Checklist, who: str, by: Reward) -> dict[str, Any]:
        """Score and verdicts, from the journal if it has them. Those with failed checks are asked for again once in a
        process: the judge may have been down."""

        async def make() -> dict[str, Any]:
            image = await asyncio.to_thread(self.store.get, picture)
            report = await by.judge(image, Case(prompt, checks), calls=self.models.calls)
            verdicts = [
                [_settled(v.probability) if v.outcome is Outcome.SCORED else None, v.reason, v.outcome.value]
                for v in report.verdicts
            ]
            self._asked.add(key)
            return {"score": _settled(report.score), "verdicts": verdicts}

        asked = {"image": picture, "prompt": prompt, "checks": [asdict(check) for check in checks], "who": who}
        key = stable_key(asked)
        known = self.journal.get(("judged", key))
        failed = known is not None and any(state == Outcome.FAILED.value for _, _, state in known["verdicts"])
        value: dict[str, Any] = await self.journal.aonce(("judged", key), make, again=failed and key not in self._asked)
        return value

    async def places(
        self, item: Item, pictures: Sequence[str], checks: Checklist, *, scores: Sequence[float | None]
    ) -> dict[int, float]:
        """How those pictures of an item stand that compete for the best, by a reward that compares."""
        top, margin = max((s for s in scores if s is not None), default=0.0), self.models.reward.margin
        known = {i: score for i, score in enumerate(scores) if score is not None}
        rivals = [i for i, score in known.items() if margin is None or score >= top - margin]
        if len(rivals) < 2:
            return dict.fromkeys(rivals or range(len(pictures)), 0.0)

        async def make() -> list[float | None]:
            shots = [Shot((await asyncio.to_thread(self.store.get, pictures[i]),)) for i in rivals]
            case, reward, calls = Case(item.prompt, checks), self.models.reward, self.models.calls
            reports = await reward(case, shots, calls=calls)
            return [standing.value for standing in await reward.compare(case, shots, reports, calls=calls)]

        key = stable_key({"standings": [pictures[i] for i in rivals], "prompt": item.prompt})
        made: list[float | None] = await self.journal.aonce(("standings", key), make)
        return {i: standing or 0.0 for i, standing in zip(rivals, made, strict=True)}

    async def answer(self, item: Item, made: Made) -> Answered:
        """The reporter's verdicts on what a condition shows."""
        if item.questions:
            checks: Checklist = tuple(question.check for question in item.questions)
        else:
            checks = await self.checklist(item, self.reporter.name, self.reporter.builder)
        rows = []
        for picture in made.pictures:
            report = await self.judged(picture, item.prompt, checks, self.reporter.name, self.reporter.reward)
            rows.append(tuple((p, reason, state) for p, reason, state in report["verdicts"]))
        return Answered(made, checks, tuple(rows))


def _settled(p: float | None) -> float | None:
    """`p` without its last bits, in which a picture's neighbours in the judge's batch show: a run that was stopped and
    gone on with has others."""
    return None if p is None else round(p, 6)


def _in_short(attempt: Attempt, pass_at: float) -> dict[str, Any]:
    wrong = [verdict.check.question for verdict in missed(attempt.report, pass_at)]
    return {"round": attempt.round, "prompt": attempt.prompt, "score": attempt.score, "missed": wrong}


def require_pictures(given: Path, suite: Suite, items: Sequence[Item], images: int) -> None:
    """Raises InputError if pictures of the benchmark's own layout are not there."""
    wanted = [given / suite.place(item, k) for item in items for k in range(images)]
    gone = [path for path in wanted if not path.is_file()]
    if gone:
        raise InputError(
            f"{len(gone):,} of {len(wanted):,} pictures are missing in {given}, the first being "
            f"{', '.join(str(path.relative_to(given)) for path in gone[:3])}; draw them, or lower --images or --limit"
        )


T = TypeVar("T")

GIVE_UP = 20
"""So many items in a row that fail end the run."""


async def evaluate(
    work: Work, items: Sequence[Item], rows: Sequence[Condition], done: Callable[[str], None] = lambda _: None
) -> Results:
    """Every condition on every item. `done` is called with a condition's name at each item that is through.

    A model or server that fails on an item makes that item a failure of its condition; GIVE_UP of them in a row, or
    three batches of pictures in a row, raise BackendError. What is finished stays in the journal in any case.
    """
    results: Results = {row.name: {} for row in rows}
    failures = 0
    errors: list[BackendError] = []
    unwritten: dict[str, BackendError] = {}

    async def one(row: Condition, item: Item) -> None:
        nonlocal failures
        try:
            if item.id in unwritten and row.name.startswith("rewritten"):
                raise unwritten[item.id]
            made = await work.maker(row.name)(item)
            results[row.name][item.id] = await work.answer(item, made)
            failures = 0
            errors.clear()
        except BackendError as error:
            results[row.name][item.id] = str(error)
            # The pictures of a batch fail together, with one error, and the easel has a patience of its own.
            failures += all(error is not known for known in errors)
            errors.append(error)
            if failures >= GIVE_UP:
                raise BackendError(f"{failures} items in a row failed; the last: {error}") from error
        done(row.name)

    async def side(names: Sequence[str], rewritten: bool) -> None:
        """Draws the pictures that these conditions share, and judges them as they come."""
        mine = [row for row in rows if row.name in names]
        if not mine:
            return
        draws = [draw for item in items for draw in work.draws(item, item.prompt)]
        promised = work.easel.promise(draws) if not rewritten else []
        if rewritten:
            made = await asyncio.gather(*(work.rewrite(item) for item in items), return_exceptions=True)
            for item, rewrite in zip(items, made, strict=True):
                if isinstance(rewrite, BackendError):
                    unwritten[item.id] = rewrite
                    continue
                if isinstance(rewrite, BaseException):
                    raise rewrite
                promised += work.easel.promise(work.draws(item, rewrite["prompt"], rewrite["negative_prompt"]))
        await _together([work.easel.work(promised), *(one(row, item) for item in items for row in mine)])

    loops = [row for row in rows if row.name in ("loop", "given")]
    await _together(
        [
            side(("raw", "raw_best"), False),
            side(("rewritten", "rewritten_best"), True),
            *(one(row, item) for row in loops for item in items),
        ]
    )
    return {name: {item.id: answers[item.id] for item in items} for name, answers in results.items()}


async def _together(jobs: Sequence[Awaitable[None]]) -> None:
    """Waits for all; the first error cancels the others and is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def lay_out(work: Work, suite: Suite, items: Sequence[Item], rows: Sequence[Condition], results: Results) -> None:
    """Puts each condition's pictures where the benchmark's own scripts look for them: OUT/images/<condition>/...

    A picture that is there with other bytes (half a copy, another run's) is replaced. Only complete items are laid out.
    """
    for row in rows:
        if row.name == "given":
            continue
        folder = work.out / "images" / row.name
        whole = []
        for item in items:
            answered = results[row.name][item.id]
            if isinstance(answered, str):
                continue
            for k, picture in enumerate(answered.made.pictures):
                _link(work.store.path(picture), folder / suite.place(item, k))
            whole.append(item)
        if suite.finish is not None and whole:
            suite.finish(folder, whole, row.shown)


def _link(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if target.samefile(source):
                return
            target.unlink()
        try:
            os.link(source, target)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(source, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}; choose another --out") from error


def cost(work: Work) -> dict[str, Any]:
    """What the run has spent: pictures, tokens of the rewriter, seconds by kind of work (summed over its pieces)."""
    usages = [value["usage"] for value in work.journal.values("rewrite")]
    judged = work.journal.values("judged")
    return {
        "pictures_drawn": len(work.journal.values("picture")) + sum(v["drawn"] for v in work.journal.values("loop")),
        "pictures_judged": len(judged),
        "answers": sum(len(value["verdicts"]) for value in judged),
        "rewriter_tokens": {
            side: sum(usage[f"{side}_tokens"] for usage in usages) for side in ("prompt", "completion")
        },
        "seconds": {kind: round(seconds, 3) for kind, seconds in sorted(work.journal.seconds().items()) if seconds > 0},
    }


def failures(results: Results) -> Mapping[str, Mapping[str, str]]:
    """Condition to item id to what went wrong."""
    return {
        name: {item: answer for item, answer in answers.items() if isinstance(answer, str)}
        for name, answers in results.items()
    }


MANY = 0.1
"""More failed answers than this share, and the report says why."""


def run_pictures(suite: Suite, evaluation: Evaluation) -> dict[str, Any]:
    """A suite of pictures, run to its end. Raises as `AnySuite.run` does."""
    options, out = evaluation.options, evaluation.out
    data = _load(suite, options, evaluation.variant)
    items = [replace(item, prompt=clean_request(item.prompt)) for item in spread_evenly(data.items, options.limit)]
    images = options.images or suite.images
    profile = load_profile(options.profile)
    if options.rewriter not in ("none", "own"):
        profile = profile.model_copy(update={"rewriter": load_profile(options.rewriter).rewriter})
    reporting = load_profile(options.report_profile) if options.report_profile else None
    if options.pictures is not None:
        rows = [Condition("given", f"pictures of {options.pictures.name}", images, images)]
        require_pictures(options.pictures, suite, items, images)
    else:
        loop = suite.loop if options.loop is None else options.loop
        rows = conditions(images, rewriter=options.rewriter != "none", best=options.best, loop=loop)
    settings = {
        "data": hash_data(data),
        "prompts": len(items),
        "images": images,
        "seed": options.seed,
        "conditions": [row.name for row in rows],
        "pictures": None if options.pictures is None else str(options.pictures),
        "profile": profile.model_dump(mode="json"),
        "report_profile": None if reporting is None else reporting.model_dump(mode="json"),
    }
    with evaluation.open(**settings) as journal:
        with evaluation.console.status("opening the models"):
            models = open_models(profile)
            reporter = suite.reporter or Reporter("own", models.reward, models.checklist_maker)
            if reporting is not None:
                builder, reward = open_evaluator(reporting, detect_language=detect_language)
                reporter = Reporter(f"report: {reporting.name}", reward, builder)
        work = Work(
            suite=suite,
            models=models,
            reporter=reporter,
            limits=profile.limits,
            journal=journal,
            store=ImageStore(out / "state" / "images"),
            out=out,
            images=images,
            seed=options.seed,
            given=options.pictures,
            search=profile.search,
            profile=profile,
        )
        pass_at = (reporting or profile).limits.pass_at

        async def measure(advance: Callable[[str], None]) -> tuple[Results, Mapping[str, Any]]:
            results = await evaluate(work, items, rows, advance)
            return results, {} if suite.more is None else await suite.more(work, items, results)

        try:
            results, more = evaluation.wait_for({row.name: (row.title, len(items)) for row in rows}, measure)
        finally:
            models.close()
        lay_out(work, suite, items, rows, results)
        figures = {
            "value_name": suite.value_name,
            "prompts": len(items),
            **summary(suite, items, rows, results, pass_at),
            "sections": [],
            **more,
            "cost": cost(work),
            "models": dict(models.names),
        }
        lost = all(row["value"] is None for row in figures["conditions"].values())
        whole = evaluation.report(
            figures,
            picture_sections,
            notes=notes(suite, data, items, rows, reporting, results),
            failure=_first_failure(results) if lost else None,
            bars=bars(figures),
            legend=legend(figures),
            gallery=gallery(suite, items, rows, results, work.store, pass_at),
        )
    if suite.tables is not None and options.tables is not None:
        write_tables(options.tables, suite.tables(whole))
    return whole


def _load(suite: Suite, options: EvalOptions, variant: str) -> Data:
    if suite.sample is not None:
        return suite.sample(options.limit, options.seed)
    assert suite.load is not None, "a suite reads its prompts or makes them"
    assert options.data is not None, "checked by check_options"
    return suite.load(options.data, variant)


def notes(
    suite: Suite,
    data: Data,
    items: Sequence[Item],
    rows: Sequence[Condition],
    reporting: Profile | None,
    results: Results,
) -> list[str]:
    """What a reader must know to read the figures right."""
    lines = [*data.notes, *note_count(len(items), len(data.items), "prompts")]
    chosen = [row.title for row in rows if row.name in ("raw_best", "rewritten_best", "loop")]
    if chosen and reporting is None and suite.reporter is None:
        lines.append(
            f"One judge both chose and reports, so these look better than they are: {'; '.join(chosen)}. "
            "Report with another by --report-profile."
        )
    lines += _unanswered(results)
    if not all(item.questions for item in items):
        lines.append("The questions are a checklist made by a model from each prompt, not the benchmark's authors.")
    for name, lost in failures(results).items():
        if lost:
            first = next(iter(lost.values()))
            lines.append(f"{len(lost)} prompts failed under {name}; the same command tries them again. First: {first}")
    return lines


def _first_failure(results: Results) -> str:
    lost = [result for row in results.values() for result in row.values() if isinstance(result, str)]
    return next(iter([*lost, *(line.rstrip(".") for line in _unanswered(results))]), "no picture was judged")


def _unanswered(results: Results) -> list[str]:
    """A note if the judge failed on so much that the figures are those of the questions it happened to answer."""
    answered = [result for row in results.values() for result in row.values() if isinstance(result, Answered)]
    verdicts = [verdict for result in answered for picture in result.verdicts for verdict in picture]
    failed = [reason for _, reason, state in verdicts if state == Outcome.FAILED.value]
    if len(failed) <= MANY * len(verdicts):
        return []
    return [f"The judge failed on {len(failed)} of {len(verdicts)} answers. The first: {failed[0]}."]
