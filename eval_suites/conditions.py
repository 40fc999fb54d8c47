"""The ways of making a picture that a suite compares: as typed, rewritten, best of n, the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agent.models import Evaluator, Models
from agent.run import Run
from agent.types import Attempt, StopReason, missed, stable_key
from eval_suites.painting import Draw, Easel, seed_of
from eval_suites.types import Item, Suite
from evaluator.types import Check, Checklist, ChecklistMaker, Outcome
from redraft.errors import BackendError, InputError
from redraft.images import open_image
from redraft.journal import Journal
from redraft.limits import Limits
from redraft.store import ImageStore

SESSIONS = 16
"""Loops under way at once; their pictures are drawn one batch at a time all the same."""


_A_DAY = 86_400.0


@dataclass(frozen=True)
class Reporter:
    """Who answers the suite's questions; `builder` makes checklists where a suite has none. The system's is "own"."""

    name: str
    evaluator: Evaluator
    builder: ChecklistMaker


class NoChecklists:
    """The ChecklistMaker of those who are asked given questions and make none."""

    async def __call__(self, request: str) -> Checklist:
        raise NotImplementedError(f"no checklist is made here, as of {request!r}")


@dataclass(frozen=True)
class Condition:
    """A row of the report. `images`: pictures drawn for an item; `shown`: how many of them count."""

    name: str
    title: str
    images: int
    shown: int


@dataclass(frozen=True)
class Made:
    """What a condition made of an item. `pictures` are hashes of those that count, `drawn` how many were drawn.

    Of a loop, `trace` is its page and `story` its attempts in short: {round, prompt, score, missed}.
    """

    pictures: tuple[str, ...]
    drawn: int
    prompt: str
    thought: str = ""
    trace: str | None = None
    story: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Answered:
    """The judge's verdicts on the pictures of an item under a condition: of each picture one row, of each check
    (probability of yes or None, reason, outcome)."""

    made: Made
    checks: Checklist
    verdicts: tuple[tuple[tuple[float | None, str, str], ...], ...]


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

    def __post_init__(self) -> None:
        self.easel = Easel(self.models, self.journal, self.store)
        self._sessions = asyncio.Semaphore(SESSIONS)
        self._asked: set[str] = set()

    # -- making ---------------------------------------------------------------------------------------------------

    def draws(self, item: Item, prompt: str, negative: str | None = None) -> list[Draw]:
        return [Draw(prompt, seed_of(self.seed, item.prompt, k), negative) for k in range(self.images)]

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
        told = [await self.judged(one, item.prompt, checks, "own", self.models.evaluator) for one in made.pictures]
        scores = [one["score"] for one in told]
        best = max(range(len(scores)), key=lambda i: (scores[i] is not None, scores[i] or 0.0, -i))
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
                    session = Run.start(item.prompt, self.models, limits=limits, out=self.out / "loop", seed=first)
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
                return [[check.key_point, check.question] for check in await builder(item.prompt)]

        made = await self.journal.aonce(("checklist", f"{who}: {item.prompt}"), make)
        return tuple(Check(*pair) for pair in made)

    async def judged(self, picture: str, prompt: str, checks: Checklist, who: str, by: Evaluator) -> dict[str, Any]:
        """Score and verdicts, from the journal if it has them. Those with failed checks are asked for again once in a
        process: the judge may have been down."""

        async def make() -> dict[str, Any]:
            image = await asyncio.to_thread(self.store.get, picture)
            async with self.models.calls:
                report = await by.score(image, prompt, checks)
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

    async def answer(self, item: Item, made: Made) -> Answered:
        """The reporter's verdicts on what a condition shows."""
        if item.questions:
            checks: Checklist = tuple(question.check for question in item.questions)
        else:
            checks = await self.checklist(item, self.reporter.name, self.reporter.builder)
        rows = []
        for picture in made.pictures:
            told = await self.judged(picture, item.prompt, checks, self.reporter.name, self.reporter.evaluator)
            rows.append(tuple((p, reason, state) for p, reason, state in told["verdicts"]))
        return Answered(made, checks, tuple(rows))


def _settled(p: float | None) -> float | None:
    """`p` without its last bits, in which a picture's neighbours in the judge's batch show: a run that was stopped and
    gone on with has others."""
    return None if p is None else round(p, 6)


def _in_short(attempt: Attempt, pass_at: float) -> dict[str, Any]:
    wrong = [verdict.check.question for verdict in missed(attempt.report, pass_at)]
    return {"round": attempt.round, "prompt": attempt.prompt, "score": attempt.score, "missed": wrong}


def missing(given: Path, suite: Suite, items: Sequence[Item], images: int) -> None:
    """Raises InputError where pictures of the benchmark's own layout are not there."""
    wanted = [given / suite.place(item, k) for item in items for k in range(images)]
    gone = [path for path in wanted if not path.is_file()]
    if gone:
        raise InputError(
            f"{len(gone):,} of {len(wanted):,} pictures are missing in {given}, the first being "
            f"{', '.join(str(path.relative_to(given)) for path in gone[:3])}; draw them, or lower --images or --limit"
        )
