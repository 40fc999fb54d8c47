"""Trained rewriters of the mini world side by side: the figures of docs/training.md.

    redraft eval cutouts-rewriters --data work/mini --tables docs/training
    redraft eval cutouts-rewriters --data work/mini/equal --no-loop

`--data` is the folder in which `make train-mini` leaves them: sft_plain (without thoughts), sft, grpo-0 and so on, dpo-0 and
so on. Held-out human wordings (those of docs/results.md), one picture each, the same seed in every row. The oracle reports;
the trained judge, which was the reward, is shown beside it. The runs of GRPO, or of DPO, differ in their seed alone: a
prompt's value under "+ GRPO" is its mean over the runs, and differences are paired by prompt. Checkpoints of the runs of GRPO,
on fewer prompts, show how far reward and truth part while a run goes on. Finished pieces are kept by the hash of the weights
that made them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter

from agent.models import Models, open_models
from agent.run import Run
from editors.backend import ImageTask, render
from eval_suites.benchmarks.cutouts import asked, prompts
from eval_suites.pictures import seed_of
from eval_suites.report import Section, Table
from eval_suites.runner import Evaluation, note_count, write_tables
from eval_suites.stats import bootstrap, paired_difference, ratio, ratio_difference
from eval_suites.tables import TableSuite, interval_text, tables_text
from evaluator.combine import aggregate
from evaluator.reward import case_of
from evaluator.types import Check, Outcome, RequestChecks, Verdict
from mini.world import oracle
from mini.world.wording import Wording
from redraft.chat import open_chat
from redraft.errors import ModelMissing
from redraft.images import open_image
from redraft.journal import Journal
from redraft.profiles import ModelConfig, Profile, load_profile, model_place
from redraft.statistics import Interval
from rewriter.cot import CoTRewriter
from rewriter.types import Rewriter

_CHECKLIST: TypeAdapter[RequestChecks] = TypeAdapter(RequestChecks)


@dataclass(frozen=True)
class Answer:
    """One prompt under one row. `right`: the oracle's answer to each true check; `judge`: the reward's alignment, from
    the system's own checklist, None if the judge failed."""

    right: tuple[bool, ...]
    judge: float | None
    images: int
    prompt: str
    fallback: bool = False


def every(answers: Sequence[Answer]) -> list[float]:
    return [float(all(answer.right)) for answer in answers]


def share(answers: Sequence[Answer]) -> list[float]:
    return [fmean(answer.right) for answer in answers]


def truth(answers: Sequence[Answer], wordings: Sequence[Wording]) -> list[float]:
    """What the reward would be with the oracle as the judge, on the true checks: mean in groups, then over groups."""
    rows = []
    for one, wording in zip(answers, wordings, strict=False):
        verdicts = [
            Verdict(Check(*check), Outcome.SCORED, probability=float(yes), label_mass=1.0)
            for check, yes in zip(wording.checks, one.right, strict=True)
        ]
        rows.append(aggregate(verdicts, "group_mean") or 0.0)
    return rows


def _mean(runs: Sequence[Sequence[float]]) -> list[float]:
    """Each prompt's mean over runs."""
    return [fmean(values) for values in zip(*runs, strict=True)]


def row_of(title: str, runs: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """A row of the table; several runs are averaged prompt by prompt."""
    scores = [score for run in runs for answer in run if (score := answer.judge) is not None]
    judged = [
        fmean(known) for run in zip(*runs, strict=True) if (known := [a.judge for a in run if a.judge is not None])
    ]
    return {
        "title": title,
        "every_check_right": asdict(bootstrap(_mean([every(run) for run in runs]))),
        "checks_right": asdict(bootstrap(_mean([share(run) for run in runs]))),
        "judge": asdict(bootstrap(judged)) if judged else None,
        "unscored": sum(len(run) for run in runs) - len(scores),
        "images": fmean(answer.images for run in runs for answer in run),
        "fallback": fmean(answer.fallback for run in runs for answer in run),
    }


def difference(ours: Sequence[Sequence[Answer]], theirs: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """Ours minus theirs, paired by prompt, runs averaged first."""
    intervals: dict[str, Interval] = {
        "every_check_right": paired_difference(_mean([every(r) for r in ours]), _mean([every(r) for r in theirs])),
        "checks_right": paired_difference(_mean([share(r) for r in ours]), _mean([share(r) for r in theirs])),
    }
    return {name: asdict(one) for name, one in intervals.items()}


def points(
    ours: Sequence[Sequence[Answer]], theirs: Sequence[Sequence[Answer]], wordings: Sequence[Wording]
) -> dict[str, Any]:
    """By key point: share of checks right under both and the gain, whole prompts resampled."""

    def counted(runs: Sequence[Sequence[Answer]]) -> dict[str, tuple[list[float], list[float]]]:
        table: dict[str, tuple[list[float], list[float]]] = defaultdict(
            lambda: ([0.0] * len(wordings), [0.0] * len(wordings))
        )
        for run in runs:
            for i, (one, wording) in enumerate(zip(run, wordings, strict=True)):
                for (key_point, _), yes in zip(wording.checks, one.right, strict=True):
                    hits, totals = table[key_point]
                    hits[i] += yes / len(runs)
                    totals[i] += 1 / len(runs)
        return table

    mine, other = counted(ours), counted(theirs)
    return {
        name: {
            "checks": round(sum(other[name][1])),
            "before": asdict(ratio(*other[name])),
            "after": asdict(ratio(*mine[name])),
            "gain": asdict(ratio_difference(*mine[name], *other[name])),
        }
        for name in sorted(other)
    }


def curve_point(step: int, answers: Sequence[Answer], wordings: Sequence[Wording]) -> dict[str, Any]:
    """Reward and truth at a checkpoint, on the prompts that the judge could score."""
    both = [(a.judge, t) for a, t in zip(answers, truth(answers, wordings), strict=True) if a.judge is not None]
    return {
        "step": step,
        "judge": asdict(bootstrap([j for j, _ in both])),
        "oracle": asdict(bootstrap([t for _, t in both])),
        "gap": asdict(paired_difference([j for j, _ in both], [t for _, t in both])),
        "every_check_right": asdict(bootstrap(every(answers))),
    }


def sections(figures: Mapping[str, Any]) -> list[Section]:
    """The tables: rows, paired differences, key points, checkpoints."""
    keys = ("every_check_right", "checks_right", "judge")
    rows = [
        [row["title"], *(interval_text(row[k]) for k in keys), f"{row['images']:.2f}"]
        for row in figures["rows"].values()
    ]
    head = ["row", "every check right", "checks right", "judge's reward", "images"]
    tables = [Section("Rows", f"{figures['prompts']} held-out human-worded prompts:", Table(head, rows))]
    if figures["differences"]:
        rows = [
            [name, _signed(one["every_check_right"]), _signed(one["checks_right"])]
            for name, one in figures["differences"].items()
        ]
        head = ["paired difference", "every check right", "checks right"]
        tables.append(Section("Paired differences", "Paired by prompt:", Table(head, rows)))
    if "loop_prompts" in figures:
        seeds = "1 seed" if figures["loop_seeds"] == 1 else f"{figures['loop_seeds']} seeds"
        text = f"The loop's rows: the first {figures['loop_prompts']} prompts, GRPO's of {seeds}."
        tables[-1] = tables[-1]._replace(text=f"Paired by prompt. {text}")
    for title, key_points in figures.get("key_points", {}).items():
        rows = [
            [
                name,
                str(one["checks"]),
                f"{one['before']['mean']:.3f}",
                f"{one['after']['mean']:.3f}",
                _signed(one["gain"]),
            ]
            for name, one in key_points.items()
        ]
        head = ["key point", "checks", "SFT with thought", f"+ {title}", "gain"]
        tables.append(Section(f"Key points, {title}", "", Table(head, rows)))
    if "curves" in figures:
        names = ("judge", "oracle", "gap", "every_check_right")
        rows = [
            [str(step), *(f"{fmean(record[key]['mean'] for record in ones):.3f}" for key in names)]
            for step, ones in _by_step(figures["curves"]).items()
        ]
        text = (
            f"Judge's reward and the oracle's (same aggregation, true checks) at checkpoints, mean of "
            f"{len(figures['curves'])} runs, the first {figures['curve_prompts']} prompts:"
        )
        head = ["step", "judge's reward", "oracle's", "gap", "every check right"]
        tables.append(Section("Checkpoints", text, Table(head, rows)))
    return tables


def curves_svg(figures: Mapping[str, Any]) -> str:
    """Reward and truth over steps, and the gap between them under it: thin lines are runs, thick ones their mean."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = figures["curves"]
    steps = _by_step(curves)
    last = max(max(steps), 1)
    values = [record[key]["mean"] for ones in curves.values() for record in ones for key in ("judge", "oracle")]
    gaps = [record["gap"]["mean"] for ones in curves.values() for record in ones]
    upper = _Panel(50, 30, 420, 190, last, _around(values))
    lower = _Panel(50, 270, 420, 110, last, _around([*gaps, 0.0]))
    parts = [upper.frame("share of 1"), lower.frame("judge - oracle"), lower.level(0.0)]
    for panel, key, colour in ((upper, "judge", "#c8582b"), (upper, "oracle", "#2662c8"), (lower, "gap", "#444444")):
        runs = ([(record["step"], record[key]["mean"]) for record in ones] for ones in curves.values())
        parts += [panel.line(run, colour, 1, 0.45) for run in runs]
        mean = [(step, fmean(record[key]["mean"] for record in ones)) for step, ones in steps.items()]
        parts.append(panel.line(mean, colour, 2.5, 1))
    legend = (
        '<text x="60" y="20" fill="#c8582b">judge\'s reward</text>'
        '<text x="170" y="20" fill="#2662c8">the oracle\'s, same prompts</text>'
        '<text x="260" y="412" text-anchor="middle">GRPO steps (0: SFT with thought)</text>'
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 420" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}{legend}</svg>\n'
    )


class _Panel:
    """A frame with its own scales, in pixels of the plot."""

    def __init__(self, x: int, y: int, width: int, height: int, last: int, bounds: tuple[float, float]) -> None:
        self._x, self._y, self._width, self._height = x, y, width, height
        self._last, (self._low, self._high) = last, bounds

    def at(self, step: float, value: float) -> tuple[float, float]:
        across = self._x + self._width * step / self._last
        return across, self._y + self._height * (1 - (value - self._low) / (self._high - self._low))

    def frame(self, title: str) -> str:
        place = f'x="{self._x}" y="{self._y}" width="{self._width}" height="{self._height}"'
        box = f'<rect {place} fill="none" stroke="#999"/>'
        ticks = [
            f'<text x="{self._x - 6}" y="{self.at(0, value)[1] + 4:.0f}" text-anchor="end">{value:.2f}</text>'
            for value in (self._low, (self._low + self._high) / 2, self._high)
        ]
        below = self._y + self._height + 16
        ticks += [
            f'<text x="{self.at(step, 0)[0]:.0f}" y="{below}" text-anchor="middle">{step:.0f}</text>'
            for step in (0, self._last / 2, self._last)
        ]
        name = f'<text x="{self._x + self._width - 6}" y="{self._y + 14}" text-anchor="end" fill="#666">{title}</text>'
        return box + "".join(ticks) + name

    def level(self, value: float) -> str:
        (x0, y), (x1, _) = self.at(0, value), self.at(self._last, value)
        return f'<line x1="{x0:.1f}" y1="{y:.1f}" x2="{x1:.1f}" y2="{y:.1f}" stroke="#999" stroke-dasharray="4"/>'

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float, opacity: float) -> str:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        return (
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-opacity="{opacity}"/>'
        )


def _by_step(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[int, list[Mapping[str, Any]]]:
    """The points of all runs at the steps that every run has."""
    runs = [{record["step"]: record for record in ones} for ones in curves.values()]
    shared = sorted(set.intersection(*(set(run) for run in runs)))
    return {step: [run[step] for run in runs] for step in shared}


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Bounds on twentieths with all values between them."""
    low, high = min(values), max(values)
    down, up = int(low * 20 // 1) / 20, -int(-high * 20 // 1) / 20
    return down, up if up > down else down + 0.05


def _signed(figure: Mapping[str, Any]) -> str:
    bounds = "" if figure["low"] is None else f" [{figure['low']:+.3f}, {figure['high']:+.3f}]"
    return f"{figure['mean']:+.3f}{bounds}"


PROMPTS = 300
CURVE = 100
"""Prompts at a checkpoint."""
LOOP_PROMPTS = 200
FAMILIES = {"grpo": "GRPO", "dpo": "DPO", "dpo2": "DPO in two rounds"}
"""What trains on from SFT: folders NAME-0, NAME-1 and so on, and what their rows are called."""
RUNS = 3
"""Of each of them, at most."""
MOST_IMAGES = 8
_A_DAY = 86_400.0
_SESSIONS = 8
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Model:
    """A rewriter's folder; None stands for the prompt as typed. `mark`: the hash of its weights."""

    name: str
    folder: Path | None
    mark: str

    @classmethod
    def of(cls, name: str, folder: Path | None) -> Model:
        """Raises ModelMissing if the folder holds no weights."""
        if folder is None:
            return cls(name, None, "as typed")
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise ModelMissing(f"there is no {weights}; `make train-mini` trains it")
        return cls(name, folder, hashlib.sha256(weights.read_bytes()).hexdigest()[:16])


class Bench:
    """Rewrites, draws and judges. Generator, judge and the model that makes checklists are the profile's in every row:
    only the rewriter differs."""

    def __init__(
        self, models: Models, profile: Profile, journal: Journal, wordings: Sequence[Wording], seed: int
    ) -> None:
        self._profile, self._journal, self.wordings, self._seed = profile, journal, wordings, seed
        self._build = models.checklist_maker
        self._models = replace(models, checklist_maker=self._checklist)

    async def _checklist(self, request: str) -> RequestChecks:
        async def make() -> Any:
            async with self._models.calls:
                return _CHECKLIST.dump_python(await self._build(request), mode="json")

        made: RequestChecks = _CHECKLIST.validate_python(await self._journal.aonce(("checklist", request), make))
        return made

    def _rewriter(self, model: Model) -> Rewriter:
        config = self._profile.rewriter
        chat = ModelConfig(kind="transformers", model=str(model.folder), local=config.model.local)
        return CoTRewriter(open_chat(chat), config.model_copy(update={"model": chat}))

    async def one_image(self, model: Model, count: int, advance: Callable[[int], None]) -> list[Answer]:
        """The first `count` prompts: one rewrite (the greedy one), one picture."""
        rewriter = None if model.folder is None else self._rewriter(model)
        size = self._models.batch_size
        left = [i for i in range(count) if self._journal.get(("one", f"{model.mark} {i}")) is None]
        advance(count - len(left))
        for at in range(0, len(left), size):
            batch = left[at : at + size]
            made = await asyncio.gather(*(self._rewritten(rewriter, self.wordings[i].text) for i in batch))
            tasks = [
                ImageTask(prompt, seed_of(self._seed, self.wordings[i].text, 0))
                for i, (prompt, _) in zip(batch, made, strict=True)
            ]
            loop = asyncio.get_running_loop()
            images = await loop.run_in_executor(self._models.renderer, render, self._models.generator, tasks)
            scores = await asyncio.gather(
                *(self._score(image, self.wordings[i].text) for i, image in zip(batch, images, strict=True))
            )
            values = {}
            for i, (prompt, fallback), image, score in zip(batch, made, images, scores, strict=True):
                right = tuple(oracle.answers(image, asked(self.wordings[i])))
                values["one", f"{model.mark} {i}"] = asdict(Answer(right, score, 1, prompt, fallback))
            self._journal.put_all(values)
            advance(len(batch))
        return [_answer(self._journal.get(("one", f"{model.mark} {i}"))) for i in range(count)]

    async def loop(self, model: Model, count: int, advance: Callable[[int], None]) -> list[Answer]:
        """The first `count` prompts, each by the whole loop with at most MOST_IMAGES pictures."""
        models = replace(self._models, rewriter=self._rewriter(model))
        limits = self._profile.limits
        limits = limits.changed(max_images=MOST_IMAGES, max_seconds=_A_DAY)  # pictures are the budget here
        gate = asyncio.Semaphore(_SESSIONS)

        async def one(i: int, out: Path) -> Answer:
            async def make() -> dict[str, Any]:
                text = self.wordings[i].text
                seed = seed_of(self._seed, text, 0)
                result = await Run.start(text, models, limits=limits, out=out, seed=seed).run()
                best = result.best_attempt
                if best is None or result.image is None:
                    wrong = (False,) * len(self.wordings[i].checks)
                    return asdict(Answer(wrong, None, len(result.attempts), ""))
                right = oracle.answers(open_image(result.image), asked(self.wordings[i]))
                return asdict(Answer(tuple(right), best.score, len(result.attempts), best.prompt))

            async with gate:
                record = await self._journal.aonce(("loop", f"{model.mark} {i}"), make)
            advance(1)
            return _answer(record)

        with tempfile.TemporaryDirectory() as folder:
            return list(await asyncio.gather(*(one(i, Path(folder)) for i in range(count))))

    async def _rewritten(self, rewriter: Rewriter | None, prompt: str) -> tuple[str, bool]:
        if rewriter is None:
            return prompt, False
        [made] = await rewriter(prompt, n=1, seed=self._seed)
        return made.prompt, made.fallback

    async def _score(self, image: Any, prompt: str) -> float | None:
        checklist = await self._checklist(prompt)
        report = await self._models.reward.judge(image, case_of(prompt, checklist), calls=self._models.calls)
        return None if report.failed or report.score is None else round(report.score, 6)


def _answer(told: Mapping[str, Any] | None) -> Answer:
    assert told is not None, "the journal was filled above"
    return Answer(**{**told, "right": tuple(told["right"])})


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a run that hold weights, by step."""
    numbered = [(int(m[1]), path) for path in folder.glob("*") if (m := _CHECKPOINT.fullmatch(path.name))]
    return sorted((step, path) for step, path in numbered if (path / "model.safetensors").is_file())


def find_models(folder: Path) -> tuple[dict[str, Model], list[str]]:
    """The models of a row each, by name, and notes on those that are not trained yet. Raises ModelMissing without SFT."""
    runs = [(f"{family} {n}", folder / f"{family}-{n}") for family in FAMILIES for n in range(RUNS)]
    models = {"raw": Model.of("raw", None), "sft": Model.of("sft", folder / "sft")}
    notes = []
    for name, place in (("plain", folder / "sft_plain"), *runs):
        try:
            models[name] = Model.of(name, place)
        except ModelMissing as error:
            notes.append(f"Left out: {error}.")
    return models, notes


async def measure(
    bench: Bench, models: Mapping[str, Model], count: int, advance: Callable[[str, int], None], *, loop: bool = True
) -> dict[str, Any]:
    """All figures that the models there are allow; those in the loop if `loop`."""
    runs = {family: [name for name in models if name.split()[0] == family] for family in FAMILIES}
    single = {name: await bench.one_image(m, count, partial(advance, "single")) for name, m in models.items()}
    answers = {family: [single[name] for name in names] for family, names in runs.items() if names}
    titles = {"raw": "no rewrite", "plain": "SFT without thought", "sft": "SFT with thought"}
    rows = {name: row_of(titles[name], [single[name]]) for name in titles if name in single}
    gains: dict[str, Any] = {}
    figures: dict[str, Any] = {"prompts": count, "differences": gains}
    if "plain" in single:
        gains["SFT with thought minus without"] = difference([single["sft"]], [single["plain"]])
    for family, ours in answers.items():
        title = FAMILIES[family]
        rows |= {name: row_of(f"+ {title}, seed {name.split()[1]}", [single[name]]) for name in runs[family]}
        if len(ours) > 1:
            rows[family] = row_of(f"+ {title}, mean of {len(ours)} seeds", ours)
        gains[f"{title} minus SFT with thought"] = difference(ours, [single["sft"]])
        gains |= {
            f"{title}, seed {name.split()[1]}, minus SFT with thought": difference([single[name]], [single["sft"]])
            for name in runs[family]
        }
        gains |= {
            f"{title} minus {FAMILIES[other]}": difference(ours, theirs)
            for other, theirs in answers.items()
            if list(FAMILIES).index(other) < list(FAMILIES).index(family)
        }
    if answers:
        figures["key_points"] = {
            FAMILIES[family]: points(ours, [single["sft"]], bench.wordings) for family, ours in answers.items()
        }
    if runs["grpo"]:
        few = bench.wordings[: min(CURVE, count)]
        curves = {name: await _curve(bench, models[name], single["sft"], few, advance) for name in runs["grpo"]}
        figures |= {"curves": curves, "curve_prompts": len(few)}
    if loop:
        most = min(LOOP_PROMPTS, count)
        looped = {n: await bench.loop(models[n], most, partial(advance, "loop")) for n in ("sft", *runs["grpo"])}
        rows["loop_sft"] = row_of(f"SFT with thought in the loop, at most {MOST_IMAGES} images", [looped["sft"]])
        if looping := [looped[name] for name in runs["grpo"]]:
            rows["loop_grpo"] = row_of(f"+ GRPO in the loop, at most {MOST_IMAGES} images", looping)
            gains["GRPO in the loop minus SFT in the loop"] = difference(looping, [looped["sft"]])
            figures |= {"loop_prompts": most, "loop_seeds": len(looping)}
    return {**figures, "rows": rows}


async def _curve(
    bench: Bench, model: Model, start: Sequence[Answer], few: Sequence[Wording], advance: Callable[[str, int], None]
) -> list[dict[str, Any]]:
    """The points of a run's checkpoints, after that of the model from which it started."""
    assert model.folder is not None
    curve = [curve_point(0, start[: len(few)], few)]
    for step, path in checkpoints(model.folder):
        at = Model.of(f"{model.name}, step {step}", path)
        curve.append(curve_point(step, await bench.one_image(at, len(few), partial(advance, "checkpoints")), few))
    return curve


def work(evaluation: Evaluation) -> dict[str, Any]:
    options = evaluation.options
    assert options.data is not None, "checked by check_options"
    count = options.limit or PROMPTS
    models, notes = find_models(options.data)
    profile = load_profile(options.profile)
    settings = {"profile": profile.model_dump(mode="json"), "seed": options.seed, "weights": _weights(profile)}
    with evaluation.open(**settings) as journal:
        opened = open_models(profile)
        bench = Bench(opened, profile, journal, prompts(count, options.seed), options.seed)
        loop = options.loop is not False
        runs = [model for name, model in models.items() if name.startswith("grpo")]
        steps = sum(len(checkpoints(run.folder)) for run in runs if run.folder is not None)
        bars = {
            "single": ("one picture", len(models) * count),
            "checkpoints": ("checkpoints", steps * min(CURVE, count)),
        }
        if loop:
            bars["loop"] = ("the loop", (1 + len(runs)) * min(LOOP_PROMPTS, count))

        async def run(advance: Callable[[str], None]) -> dict[str, Any]:
            def advance_by(name: str, number: int) -> None:
                for _ in range(number):
                    advance(name)

            return await measure(bench, models, count, advance_by, loop=loop)

        try:
            measured = evaluation.wait_for(bars, run)
        finally:
            opened.close()
        figures = evaluation.report(measured, sections, notes=[*notes, *note_count(count, count, "prompts")])
    if options.tables is not None:
        data = json.dumps({**measured, "command": figures["command"]}, indent=1) + "\n"
        text = tables_text("By the oracle,", figures["command"], sections(figures))
        files = {"rewriters.json": data, "rewriters.md": text}
        if "curves" in figures:
            files["reward_gap.svg"] = curves_svg(figures)
        write_tables(options.tables, files)
    return figures


def _weights(profile: Profile) -> dict[str, str]:
    """The hashes of the weights that all rows share: a journal made with other weights must not be continued."""
    listing = profile.checklist.model or profile.rewriter.model
    judge, generator = profile.need_judge().model.model, profile.need_generator().model
    places = {"checklist": listing.model, "judge": judge, "generator": generator}
    hashes = {}
    for role, place in places.items():
        digest = hashlib.sha256()
        for path in sorted(Path(model_place(place)).rglob("*.safetensors")):
            digest.update(path.read_bytes())
        hashes[role] = digest.hexdigest()[:16]
    return hashes


SUITE = TableSuite(
    name="cutouts-rewriters",
    title="Trained rewriters of cut-outs",
    measure="Trained rewriters of the mini world on held-out human wordings, by an oracle that reads the pixels; not a "
    "published benchmark.",
    work=work,
    source="make train-mini",
    needs_data=True,
    takes=("seed", "tables", "loop"),
)
