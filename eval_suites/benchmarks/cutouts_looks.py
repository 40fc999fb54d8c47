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
from typing import Any

from agent.models import Models, open_models
from editors.backend import ImageTask, render
from eval_suites.benchmarks.cutouts import prompts
from eval_suites.pictures import seed_of
from eval_suites.report import Section, Table
from eval_suites.runner import Evaluation, note_count
from eval_suites.stats import interval, paired_difference, ratio, ratio_difference
from eval_suites.tables import TableSuite, interval_text
from evaluator.combine import aggregate
from evaluator.judge import open_judge
from evaluator.ocr import open_text_tool
from evaluator.types import Check, Outcome, Verdict
from mini.reader.answering import SceneReader
from mini.world import oracle, questions
from mini.world.wording import Wording
from redraft.profiles import load_profile

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
WEIGHT = 0.7
"""Of the second reader, as the profile mini has it; chosen on 30 prompts of seed 101, which no figure is made on."""
AT_ONCE = 8
_BAR, _PASS = 0.85, 0.5
Row = Mapping[str, Any]
"""Of one prompt: "questions" as (key point, question), "true" and "own" their numbers in the spec and in the checklist; of each
picture and question "judge", "reader", "ocr" P(yes) or None, and "truth"."""


@dataclass(frozen=True)
class Answer:
    """A way's answer to a check: P(yes), and its spread."""

    p: float | None
    spread: float = 0.0


def answers(row: Row, picture: int, way: str) -> list[Answer]:
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
            p = (1 - WEIGHT) * judge + WEIGHT * reader
            made.append(Answer(p, p - min(judge, reader)))
    return made


def right_answers(rows: Sequence[Row], way: str, key_point: str | None = None) -> tuple[list[float], list[float]]:
    """For each prompt how many of the true checks the way answers as the oracle does, and of how many."""
    hits, totals = [], []
    for row in rows:
        known = [
            (answer.p >= _PASS) == truth
            for picture in range(JUDGED)
            for n, (answer, truth) in enumerate(zip(answers(row, picture, way), row["truth"][picture], strict=True))
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


def look_at(row: Row, picture: int, way: str) -> Chosen:
    """The picture by its own checklist, and whether the oracle finds every true check met."""
    own = [(row["questions"][n], answer) for n, answer in enumerate(answers(row, picture, way)) if n in row["own"]]
    verdicts = [
        Verdict(Check(*question), Outcome.FAILED if answer.p is None else Outcome.SCORED, answer.p)
        for question, answer in own
    ]
    score = aggregate(verdicts, "group_mean") or 0.0
    least = min((0.0 if answer.p is None else answer.p - answer.spread for _, answer in own), default=0.0)
    right = all(row["truth"][picture][n] for n in row["true"])
    return Chosen(score, least, accepted=least >= _PASS and score >= _BAR, right=right)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """All of the tables."""
    base, made = right_answers(rows, "judge"), {}
    for way in WAYS:
        hits, totals = right_answers(rows, way)
        pictures = [[look_at(row, picture, way) for picture in range(PICTURES)] for row in rows]
        best = [max(own, key=lambda one: (one.accepted, one.score)) for own in pictures]
        accepted = [one for one in best if one.accepted]
        made[way] = {
            "agrees": asdict(ratio(hits, totals)),
            "gain": asdict(ratio_difference(hits, totals, *base)),
            "best": interval([float(one.right) for one in best]),
            "accepted": len(accepted) / len(rows),
            "wrong": interval([float(not one.right) for one in accepted]),
            "errors": [_error_at(pictures, share) for share in SHARES],
        }
        made[way]["best_gain"] = asdict(
            paired_difference(
                [float(one.right) for one in best],
                [float(max(own, key=lambda one: (one.accepted, one.score)).right) for own in _by(rows, "judge")],
            )
        )
    points = sorted({question[0] for row in rows for question in row["questions"]})
    by_point = {}
    for point in points:
        table = {way: right_answers(rows, way, point) for way in WAYS}
        count = int(sum(table["judge"][1]))
        if count >= 30:
            by_point[point] = {"of": count, **{way: sum(hits) / sum(of) for way, (hits, of) in table.items()}}
    possible = [float(any(look_at(row, picture, "judge").right for picture in range(PICTURES))) for row in rows]
    return {"ways": made, "key_points": by_point, "possible": interval(possible)}


def _by(rows: Sequence[Row], way: str) -> list[list[Chosen]]:
    return [[look_at(row, picture, way) for picture in range(PICTURES)] for row in rows]


SHARES = (0.6, 0.7, 0.75)
"""Of all pictures, that are accepted for a comparison at equal rates: those with the highest least answer."""


def _error_at(pictures: Sequence[Sequence[Chosen]], share: float) -> float:
    flat = sorted((one for own in pictures for one in own), key=lambda one: -one.least)
    taken = flat[: round(share * len(flat))]
    return 1 - sum(one.right for one in taken) / len(taken)


class Answering:
    """Draws the pictures of prompts, and has everybody answer."""

    def __init__(self, models: Models, profile: Any, seed: int) -> None:
        bare = profile.need_judge().model_copy(update={"tools": (), "looks": 0, "second": None})
        self._models, self._seed = models, seed
        self._judge, self._reader, self._words = open_judge(bare), SceneReader(), open_text_tool()
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def row(self, wording: Wording) -> dict[str, Any]:
        """The Row of a prompt."""
        async with self._gate:
            own = await self._models.checklist_maker(wording.text)
            [rewrite] = await self._models.rewriter(wording.text, seed=seed_of(self._seed, wording.text, 99))
            tasks = [ImageTask(rewrite.prompt, seed_of(self._seed, wording.text, k)) for k in range(PICTURES)]
            loop = asyncio.get_running_loop()
            images = await loop.run_in_executor(self._models.renderer, render, self._models.generator, tasks)
            true = dict.fromkeys(Check(*check) for check in wording.checks)
            known = [check for check in own.checks if questions.parse(check.question) is not None]
            checks = list(dict.fromkeys([*true, *known]))
            words = [n for n, check in enumerate(checks) if self._words.reads(wording.text, check)]
            made: dict[str, Any] = {"judge": [], "reader": [], "ocr": [], "truth": []}
            for image in images:
                for name, judge in (("judge", self._judge), ("reader", self._reader)):
                    made[name].append([verdict.probability for verdict in await judge(image, wording.text, checks)])
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


def work(evaluation: Evaluation) -> dict[str, Any]:
    options = evaluation.options
    wordings = prompts(options.limit or PROMPTS, options.seed)
    profile = load_profile(options.profile)
    with evaluation.open(profile=profile.model_dump(mode="json"), seed=options.seed) as journal:
        models = open_models(profile, editing=False, conversing=False)
        answering = Answering(models, profile, options.seed)

        async def measure(advance: Callable[[str], None]) -> list[Row]:
            async def one(wording: Wording) -> Row:
                row: Row = await journal.aonce(("row", wording.text), lambda: answering.row(wording))
                advance("prompts")
                return row

            return list(await asyncio.gather(*map(one, wordings)))

        try:
            rows = evaluation.wait_for({"prompts": ("prompts", len(wordings))}, measure)
        finally:
            models.close()
        found = {"prompts": len(rows), **figures(rows)}
        return evaluation.report(found, sections, notes=note_count(len(rows), len(rows), "prompts"))


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
