"""What tools and second looks make of the mini judge: a table of docs/rewards.md.

    redraft eval cutouts-looks --limit 400

Each held-out prompt is rewritten once and drawn `PICTURES` times. All checks of the prompt, and those of its own checklist, are
answered by the judge alone, by the reader of words, by the second reader, and by the pixel oracle, which only reports. From these
answers every row is worked out: each way sees the same pictures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agent.models import Models, open_models
from eval_suites.benchmarks.cutouts import prompts
from eval_suites.pictures import Easel, PictureTask, seed_of
from eval_suites.report import Section, Table
from eval_suites.runner import Evaluation, note_count
from eval_suites.sources import sha256
from eval_suites.stats import interval, paired_difference, ratio, ratio_difference
from eval_suites.tables import TableSuite, interval_text
from evaluator.combine import aggregate
from evaluator.judge import open_judge
from evaluator.looks import pool
from evaluator.ocr import open_text_tool
from evaluator.types import Check, Judge, Outcome, Verdict
from mini.reader import answering
from mini.reader.answering import FOLDER, SceneReader
from mini.world import oracle, questions
from mini.world.wording import Wording
from redraft.images import ImageStore
from redraft.journal import Journal
from redraft.profiles import Profile, SecondReaderConfig, load_profile, model_place

PROMPTS = 400
PICTURES = 8
JUDGED = 2
"""Pictures of a prompt on which the ways are compared with the oracle, check by check."""
WAYS = {
    "judge": "the judge alone",
    "ocr": "with words read",
    "reader": "words read, the second reader alone",
    "both": "words read, judge and second reader",
}
SECOND = SecondReaderConfig(use="mini.reader.answering:SceneReader")
"""How the answers of both readers are pooled if the profile does not say."""
AT_ONCE = 32
_PASS = 0.5
Row = Mapping[str, Any]
"""Of one prompt: "questions" as (key point, question), "true" and "own" their numbers in the spec and in the checklist; of each
picture and question "judge", "reader", "ocr" P(yes) or None, and "truth"."""


@dataclass(frozen=True)
class Answer:
    """A way's answer to a check: P(yes), and its spread."""

    p: float | None
    spread: float = 0.0


def answers(row: Row, picture: int, way: str, second: SecondReaderConfig = SECOND) -> list[Answer]:
    """What a way says to all questions about a picture, as `ToolJudge` and `LooksAgain` would."""
    made = []
    columns = (row["judge"][picture], row["reader"][picture], row["ocr"][picture])
    for judge, reader, word in zip(*columns, strict=True):
        if way != "judge" and word is not None:
            made.append(Answer(word))
        elif way in ("judge", "ocr") or reader is None or judge is None:
            made.append(Answer(judge))
        elif way == "reader":
            made.append(Answer(reader))
        else:
            p = pool(judge, reader, weight=second.weight, independence=second.independence)
            agreed = (judge >= 0.5) == (reader >= 0.5)
            made.append(Answer(p, 0.0 if agreed else p - min(judge, reader)))
    return made


def right_answers(
    rows: Sequence[Row], way: str, key_point: str | None = None, second: SecondReaderConfig = SECOND
) -> tuple[list[float], list[float]]:
    """For each prompt how many of the true checks the way answers as the oracle does, and of how many."""
    hits, totals = [], []
    for row in rows:
        known = [
            (answer.p >= _PASS) == truth
            for picture in range(JUDGED)
            for n, (answer, truth) in enumerate(
                zip(answers(row, picture, way, second), row["truth"][picture], strict=True)
            )
            if n in row["true"] and answer.p is not None and key_point in (None, row["questions"][n][0])
        ]
        hits.append(float(sum(known)))
        totals.append(float(len(known)))
    return hits, totals


@dataclass(frozen=True)
class Chosen:
    """A picture as its own checklist has it. `least`: the least answer less its spread."""

    score: float
    least: float
    accepted: bool
    right: bool


@dataclass(frozen=True)
class Bar:
    """How the readers are pooled, and what a picture must reach to be accepted: the profile's own limits."""

    second: SecondReaderConfig = SECOND
    accept_at: float = 0.85
    pass_at: float = 0.5


def look_at(row: Row, picture: int, way: str, bar: Bar) -> Chosen:
    """The picture by its own checklist, and whether the oracle finds every true check met."""
    made = enumerate(answers(row, picture, way, bar.second))
    own = [(row["questions"][n], answer) for n, answer in made if n in row["own"]]
    verdicts = [
        Verdict(Check(*question), Outcome.FAILED if answer.p is None else Outcome.SCORED, answer.p)
        for question, answer in own
    ]
    score = aggregate(verdicts, "group_mean") or 0.0
    least = min((0.0 if answer.p is None else answer.p - answer.spread for _, answer in own), default=0.0)
    right = all(row["truth"][picture][n] for n in row["true"])
    return Chosen(score, least, accepted=least >= bar.pass_at and score >= bar.accept_at, right=right)


def figures(rows: Sequence[Row], bar: Bar) -> dict[str, Any]:
    """All of the tables."""
    second = bar.second
    looked = {way: [[look_at(row, picture, way, bar) for picture in range(PICTURES)] for row in rows] for way in WAYS}
    best = {way: [max(own, key=lambda one: (one.accepted, one.score)) for own in looked[way]] for way in WAYS}
    base, made = right_answers(rows, "judge"), {}
    for way in WAYS:
        hits, totals = right_answers(rows, way, second=second)
        accepted = [one for one in best[way] if one.accepted]
        right, before = ([float(one.right) for one in best[name]] for name in (way, "judge"))
        made[way] = {
            "agrees": asdict(ratio(hits, totals)),
            "gain": asdict(ratio_difference(hits, totals, *base)),
            "best": interval(right),
            "best_gain": asdict(paired_difference(right, before)),
            "accepted": len(accepted) / len(rows),
            "wrong": interval([float(not one.right) for one in accepted]),
            "errors": [_error_at(looked[way], share) for share in SHARES],
        }
    points = sorted({question[0] for row in rows for question in row["questions"]})
    by_point = {}
    for point in points:
        table = {way: right_answers(rows, way, point, second) for way in WAYS}
        count = int(sum(table["judge"][1]))
        if count >= 30:
            by_point[point] = {"of": count, **{way: sum(hits) / sum(of) for way, (hits, of) in table.items()}}
    possible = [float(any(one.right for one in own)) for own in looked["judge"]]
    return {"ways": made, "key_points": by_point, "possible": interval(possible), "fit": fit_pool(rows)}


def fit_pool(rows: Sequence[Row]) -> dict[str, float] | None:
    """Weight and independence (`evaluator.looks.pool`) that make it likeliest what the oracle answers about all pictures, by
    the checks that both readers answer; None if there is nothing to fit. For prompts that no figure is made on."""
    odds: list[tuple[float, float]] = []
    truths: list[bool] = []
    for row in rows:
        for judge, reader, word, truth in zip(row["judge"], row["reader"], row["ocr"], row["truth"], strict=True):
            for n, (a, b, read) in enumerate(zip(judge, reader, word, strict=True)):
                if n in row["own"] and None not in (a, b) and read is None:
                    odds.append((_log_odds(a), _log_odds(b)))
                    truths.append(truth[n])
    if len(set(truths)) < 2:
        return None
    from scipy.optimize import minimize

    x, signs = np.asarray(odds), np.where(truths, 1.0, -1.0)
    a, b = minimize(lambda w: np.logaddexp(0, -signs * (x @ w)).mean(), np.ones(2)).x.tolist()
    return {"answers": float(len(truths)), "weight": b / (a + b), "independence": a + b}


def _log_odds(p: float) -> float:
    return float(np.log(max(p, 1e-4) / max(1 - p, 1e-4)))


SHARES = (0.6, 0.7, 0.75)
"""Of all pictures, that are accepted for a comparison at equal rates: those with the highest least answer."""


def _error_at(pictures: Sequence[Sequence[Chosen]], share: float) -> float:
    flat = sorted((one for own in pictures for one in own), key=lambda one: -one.least)
    taken = flat[: round(share * len(flat))]
    return 1 - sum(one.right for one in taken) / len(taken)


@dataclass
class Looking:
    """Draws the pictures of prompts, and has everybody answer. Each piece of work is in the journal; the second reader's is there
    by its weights and code, so that another reader is asked about the same pictures."""

    models: Models
    profile: Profile
    journal: Journal
    store: ImageStore
    seed: int

    def __post_init__(self) -> None:
        self._judge, self._reader, self._words = open_judge(self.profile.need_judge()), SceneReader(), open_text_tool()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._weights = sha256(Path(model_place(FOLDER)) / "model.safetensors") + sha256(Path(answering.__file__))

    async def rows(self, wordings: Sequence[Wording], advance: Callable[[str], None]) -> list[Row]:
        """One Row for each prompt, in order."""
        prompts = await asyncio.gather(*(self._rewrite(wording, advance) for wording in wordings))
        easel = Easel(self.models, self.journal, self.store)
        tasks = [
            [PictureTask(prompt, seed_of(self.seed, wording.text, k)) for k in range(PICTURES)]
            for wording, prompt in zip(wordings, prompts, strict=True)
        ]
        drawing = asyncio.ensure_future(easel.work(easel.promise([task for own in tasks for task in own])))

        async def one(wording: Wording, own: Sequence[PictureTask]) -> Row:
            images = [self.store.get(await easel.picture(task)) for task in own]
            async with self._gate:
                base: Row = await self.journal.aonce(("answers", wording.text), lambda: self._answer(wording, images))
                checks = [Check(*question) for question in base["questions"]]

                async def read() -> Any:
                    return [await _ask(self._reader, image, wording.text, checks) for image in images]

                reader = await self.journal.aonce(("reader", self._weights, wording.text), read)
            advance("answers")
            return {**base, "reader": reader}

        rows = await asyncio.gather(*map(one, wordings, tasks))
        await drawing
        return list(rows)

    async def _rewrite(self, wording: Wording, advance: Callable[[str], None]) -> str:
        async def make() -> str:
            async with self._gate:
                [rewrite] = await self.models.rewriter(wording.text, seed=seed_of(self.seed, wording.text, 99))
            return rewrite.prompt

        prompt: str = await self.journal.aonce(("rewrite", wording.text), make)
        advance("rewrites")
        return prompt

    async def _answer(self, wording: Wording, images: Sequence[Image.Image]) -> dict[str, Any]:
        """The answers of all but the second reader."""
        own = await self.models.checklist_maker(wording.text)
        true = dict.fromkeys(Check(*check) for check in wording.checks)
        known = [check for check in own.checks if questions.parse(check.question) is not None]
        checks = list(dict.fromkeys([*true, *known]))
        words = [n for n, check in enumerate(checks) if self._words.reads(wording.text, check)]
        made: dict[str, Any] = {"ocr": [], "truth": []}
        made["judge"] = await asyncio.gather(*(_ask(self._judge, image, wording.text, checks) for image in images))
        for image in images:
            read: list[float | None] = [None] * len(checks)
            if words:
                answered = await self._words(image, wording.text, [checks[n] for n in words])
                for n, verdict in zip(words, answered, strict=True):
                    read[n] = None if verdict is None else verdict.probability
            made["ocr"].append(read)
            made["truth"].append(await asyncio.to_thread(oracle.answers, image, [c.question for c in checks]))
        return made | {
            "questions": [[check.key_point, check.question] for check in checks],
            "true": [n for n, check in enumerate(checks) if check in true],
            "own": [n for n, check in enumerate(checks) if check in own.checks],
        }


async def _ask(judge: Judge, image: Image.Image, request: str, checks: Sequence[Check]) -> list[float | None]:
    return [verdict.probability for verdict in await judge(image, request, checks)]


def work(evaluation: Evaluation) -> dict[str, Any]:
    options = evaluation.options
    wordings = prompts(options.limit or PROMPTS, options.seed)
    profile = load_profile(options.profile)
    limits = profile.limits
    bar = Bar(profile.need_judge().second or SECOND, limits.accept_at, limits.pass_at)
    bare = profile.need_judge().model_copy(update={"tools": (), "looks": 0, "second": None})
    profile = profile.model_copy(update={"judge": bare})
    drawn_by = profile.model_dump(mode="json", include={"rewriter", "checklist", "generator", "judge"})
    with evaluation.open(profile=drawn_by, seed=options.seed) as journal:
        models = open_models(profile, editing=False, conversing=False)
        looking = Looking(models, profile, journal, ImageStore(evaluation.out / "state" / "images"), options.seed)
        count = len(wordings)
        bars = {"rewrites": ("rewrites", count), "answers": ("pictures and answers", count)}
        try:
            rows = evaluation.wait_for(bars, lambda advance: looking.rows(wordings, advance))
        finally:
            models.close()
        found = {"prompts": count, **figures(rows, bar)}
        return evaluation.report(found, sections, notes=note_count(count, count, "prompts"))


def sections(found: Mapping[str, Any]) -> list[Section]:
    """The tables of the report."""
    ways = found["ways"]
    table = [
        [
            title,
            interval_text(ways[way]["agrees"]),
            "" if way == "judge" else interval_text(ways[way]["gain"]),
            interval_text(ways[way]["best"]),
            "" if way == "judge" else interval_text(ways[way]["best_gain"]),
            f"{ways[way]['accepted']:.3f}",
            interval_text(ways[way]["wrong"]),
            ", ".join(f"{error:.3f}" for error in ways[way]["errors"]),
        ]
        for way, title in WAYS.items()
    ]
    head = [
        "", "agrees with the oracle", "gain", f"best of {PICTURES} right", "gain, paired", "accepted of these", "of them wrong",
        f"wrong if {', '.join(f'{share:.0%}' for share in SHARES)} of all are accepted",
    ]  # fmt: skip
    points = [
        [point.replace("_", " "), f"{row['of']}", *(f"{row[way]:.3f}" for way in WAYS)]
        for point, row in found["key_points"].items()
    ]
    text = (
        f"{found['prompts']} held-out prompts, each rewritten once, {PICTURES} pictures each, of which one or more is right in "
        f"{interval_text(found['possible'])}; check by check on {JUDGED} pictures of each."
    )
    fit = found["fit"]
    if fit is not None:
        text += (
            f" The weight that would fit these {fit['answers']:,.0f} answers best: {fit['weight']:.2f}, independence "
            f"{fit['independence']:.2f}; a profile takes them from a seed that no figure is made on."
        )
    return [
        Section("Ways of judging", text, Table(head, table)),
        Section("By key point", "Share of answers as the oracle's.", Table(["", "of", *WAYS.values()], points)),
    ]


SUITE = TableSuite(
    name="cutouts-looks",
    title="Tools and second looks",
    measure="What reading words and a second reader make of the mini judge, by an oracle that reads the pixels; not a published "
    "benchmark.",
    work=work,
    takes=("seed",),
)
