"""What criteria and rules are worth on the mini world: the tables of docs/rewards.md.

    redraft eval cutouts-rewards --variant subject --limit 300 --tables docs/results
    redraft eval cutouts-rewards --variant rules --limit 120 --tables docs/results

Part `subject`: how well the criterion of that name tells pictures that hold the reference's cut-out, elsewhere, at another
size and on another sheet, from pictures in which that cut-out differs in one attribute. Pictures are renders of held-out
scenes; the criterion sees no label and was trained for nothing of the kind.

Part `rules`: eight pictures of each held-out caption, in which one cut-out has no fill, and a reference that shows it with
one. Every rule of `evaluator.combine` chooses among the same eight by the same readings: of the checks alone, and of checks
and subject together, for the weighted harmonic mean over its lambda. The profile's own judge reads; an oracle that reads the
pixels only reports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agent.models import Models, open_models
from editors.backend import ImageTask, render
from eval_suites.benchmarks.cutouts import asked, prompts
from eval_suites.pictures import seed_of
from eval_suites.report import Section, Table
from eval_suites.runner import Evaluation, note_count, write_tables
from eval_suites.stats import interval, paired_difference
from eval_suites.tables import TableSuite, interval_text, tables_text
from evaluator.combine import open_combine
from evaluator.criteria.likeness import Likeness
from evaluator.reward import Reward, rows_of
from evaluator.types import Case, Check, Outcome, Reading, Reference, Shot, Verdict
from mini.judge.embedder import TowerEmbedder
from mini.world import oracle
from mini.world.raster import draw
from mini.world.sampling import Rng, sample_pair
from mini.world.scene import COLORS, FILLS, SHAPES, SHEETS, CutOut, Scene
from mini.world.wording import Wording
from redraft import statistics
from redraft.images import ImageStore
from redraft.journal import Journal
from redraft.profiles import load_profile

SCENES, PROMPTS, OF = 300, 120, 8
LAMBDAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
RULES = ("group_mean", "mean", "min", "geometric", "weighted_sum", "lambda_harmonic", "rank_sum", "pareto", "win_rate")
ATTRIBUTES = ("color", "shape", "fill")
Advance = Callable[[str], None]


def reference_of(rng: Rng, cut: CutOut) -> Image.Image:
    """The cut-out alone, large, on some sheet."""
    sheet = str(rng.choice(list(SHEETS)))
    return draw(Scene(sheet, (CutOut(cut.shape, cut.color, cut.fill, 0.5, 0.5, 0.16),)))


@dataclass(frozen=True)
class NearMisses:
    """A reference, a picture that holds its cut-out, and by attribute one in which it differs."""

    reference: Image.Image
    same: Image.Image
    misses: Mapping[str, Image.Image]


def sample_near_misses(rng: Rng) -> NearMisses:
    while True:
        _, scene = sample_pair(rng, "test")
        at = int(rng.integers(len(scene.cutouts)))
        cut = scene.cutouts[at]
        others = [other for n, other in enumerate(scene.cutouts) if n != at]
        if not any((o.shape, o.color, o.fill) == (cut.shape, cut.color, cut.fill) for o in others):
            break

    def changed(attribute: str, values: Sequence[str]) -> Image.Image:
        value = str(rng.choice([v for v in values if v != getattr(cut, attribute)]))
        cuts = list(scene.cutouts)
        cuts[at] = replace(cut, **{attribute: value})  # type: ignore[arg-type]
        return draw(replace(scene, cutouts=tuple(cuts)))

    misses = {
        "color": changed("color", list(COLORS)),
        "shape": changed("shape", SHAPES),
        "fill": changed("fill", FILLS),
    }
    return NearMisses(reference_of(rng, cut), draw(scene), misses)


async def measure_subject(count: int, seed: int, journal: Journal, advance: Advance) -> dict[str, Any]:
    """AUC by way of comparing, over all near misses and by attribute."""
    embedder = TowerEmbedder()
    ways = {"patches": Likeness(embedder), "whole": Likeness(embedder, by="whole", low=-0.99)}
    rng = np.random.default_rng([seed, 16])
    values: dict[str, dict[str, list[float]]] = {way: {kind: [] for kind in ("same", *ATTRIBUTES)} for way in ways}
    for number in range(count):
        made = sample_near_misses(rng)

        async def read(made: NearMisses = made) -> dict[str, list[float | None]]:
            case = Case("", references=(Reference(made.reference),))
            shots = [Shot((made.same,)), *(Shot((made.misses[name],)) for name in ATTRIBUTES)]
            rewards = {way: Reward(((criterion, 1.0),)) for way, criterion in ways.items()}
            return {way: [r.score for r in await reward(case, shots)] for way, reward in rewards.items()}

        rows = await journal.aonce(("subject", f"{seed} {number}"), read)
        for way, row in rows.items():
            for kind, value in zip(values[way], row, strict=True):
                values[way][kind].append(value)
        advance("subject")
    rows = []
    for way, kinds in values.items():
        same = np.array(kinds["same"])
        rows.append(
            {
                "way": way,
                "all": _auc(same, np.array([kinds[name] for name in ATTRIBUTES])),
                **{name: _auc(same, np.array([kinds[name]])) for name in ATTRIBUTES},
            }
        )
    return {"part": "subject", "count": count, "rows": rows}


def _auc(same: NDArray[Any], others: NDArray[Any]) -> dict[str, Any]:
    """P(a value of `same` is above one of `others`), ties half; scenes are resampled whole. `others`: (kinds, scenes)."""

    def statistic(*rows: NDArray[Any]) -> NDArray[np.float64]:
        mine, rest = rows[0], np.concatenate(rows[1:], axis=-1)
        if mine.ndim == 1:
            return np.asarray(statistics.area_under_curve(mine, rest))
        return np.array([statistic(*(row[i] for row in rows)) for i in range(len(mine))], dtype=np.float64)

    made = statistics.bootstrap(statistic, same, *others, resamples=500)
    return {"mean": made.mean, "low": made.low, "high": made.high}


@dataclass(frozen=True)
class Referred:
    """A caption in which group `at` has no fill, and the cut-out that the reference shows."""

    wording: Wording
    cut: CutOut
    reference: Image.Image


def sample_referred(count: int, seed: int) -> list[Referred]:
    """Held-out prompts in which some group of one cut-out has a colour and no fill, and no other its shape."""
    rng = np.random.default_rng([seed, 10])
    made: list[Referred] = []
    for wording in prompts(8 * count, seed):
        groups = wording.spec.groups
        fitting = [g for g in groups if g.count == 1 and g.color and g.fill is None]
        fitting = [g for g in fitting if sum(other.shape == g.shape for other in groups) == 1]
        if fitting:
            group = fitting[int(rng.integers(len(fitting)))]
            assert group.color is not None
            cut = CutOut(group.shape, group.color, str(rng.choice(FILLS)), 0.5, 0.5, 0.16)
            made.append(Referred(wording, cut, reference_of(rng, cut)))
        if len(made) == count:
            break
    return made


async def measure_rules(
    items: Sequence[Referred], models: Models, store: ImageStore, *, journal: Journal, seed: int, advance: Advance
) -> dict[str, Any]:
    """What each rule's choice of eight is worth, by the oracle."""
    read = [await _read(item, models, store, journal=journal, seed=seed, advance=advance) for item in items]
    alone = {rule: [_choose(rule, group, {"checks": 1.0}) for group in read] for rule in RULES}
    both = {rule: [_choose(rule, group, {"checks": 1.0, "subject": 1.0}) for group in read] for rule in RULES}
    curve = {
        lam: [_choose("lambda_harmonic", group, {"checks": 1 - lam, "subject": lam}) for group in read]
        for lam in LAMBDAS
    }

    def shares(chosen: Sequence[int], control: Sequence[int], key: str) -> dict[str, Any]:
        right = [float(group[at][key]) for group, at in zip(read, chosen, strict=True)]
        base = [float(group[at][key]) for group, at in zip(read, control, strict=True)]
        difference = paired_difference(right, base)
        return {
            "value": interval(right),
            "difference": {"mean": difference.mean, "low": difference.low, "high": difference.high},
        }

    first = [0] * len(read)
    return {
        "part": "rules",
        "count": len(read),
        "alone": [
            {"rule": "first of the eight", **shares(first, alone["group_mean"], "right")},
            *({"rule": rule, **shares(chosen, alone["group_mean"], "right")} for rule, chosen in alone.items()),
            {"rule": "oracle", **shares([_best(group, "right") for group in read], alone["group_mean"], "right")},
        ],
        "both": [
            {"rule": "first of the eight", **shares(first, both["group_mean"], "both")},
            *({"rule": rule, **shares(chosen, both["group_mean"], "both")} for rule, chosen in both.items()),
            {"rule": "oracle", **shares([_best(group, "both") for group in read], both["group_mean"], "both")},
        ],
        "curve": [
            {
                "lambda": lam,
                **{key: shares(chosen, curve[0.0], key)["value"] for key in ("right", "subject_right", "both")},
                "difference": shares(chosen, curve[0.0], "both")["difference"],
            }
            for lam, chosen in curve.items()
        ],
    }


Picture = Mapping[str, Any]
"""Readings of a picture, and what the oracle says of it: right, subject_right, both."""


def _best(group: Sequence[Picture], key: str) -> int:
    return max(range(len(group)), key=lambda at: (group[at][key], -at))


def _choose(rule: str, group: Sequence[Picture], weights: Mapping[str, float]) -> int:
    rows = [{name: _reading(picture[name]) for name, weight in weights.items() if weight > 0} for picture in group]
    values = open_combine(rule)(rows, weights)
    return max(range(len(group)), key=lambda at: (values[at] is not None, values[at] or 0.0, -at))


def _reading(row: Mapping[str, Any]) -> Reading:
    verdicts = tuple(Verdict(Check(point, ""), Outcome.SCORED, p) for point, p in row["answers"] if p is not None)
    value = row["value"]
    return Reading(Outcome.FAILED if value is None else Outcome.SCORED, value, verdicts=verdicts)


async def _read(
    item: Referred, models: Models, store: ImageStore, *, journal: Journal, seed: int, advance: Advance
) -> list[dict[str, Any]]:
    """Draws, reads and reports eight pictures of one caption."""
    wording = item.wording

    async def make() -> list[dict[str, Any]]:
        tasks = [ImageTask(wording.caption, seed_of(seed, wording.text, k)) for k in range(OF)]
        pictures = await asyncio.get_running_loop().run_in_executor(models.renderer, render, models.generator, tasks)
        made = await models.checklist_maker(wording.text)
        case = Case(wording.text, made.checks, references=(Reference(item.reference),))
        reward = Reward((*models.reward.only("checks").criteria, (_subject(), 1.0)))
        reports = await reward(case, [Shot((picture,)) for picture in pictures], calls=models.calls)
        rows = []
        for picture, report in zip(pictures, reports, strict=True):
            store.put(picture)
            right, like = await asyncio.to_thread(_look, picture, item)
            readings = {
                name: {
                    "value": reading.value,
                    "answers": [[v.check.key_point, v.probability] for v in reading.verdicts],
                }
                for name, reading in rows_of(report).items()
            }
            rows.append({**readings, "right": right, "subject_right": like, "both": right and like})
        return rows

    group: list[dict[str, Any]] = await journal.aonce(("read", f"{seed} {wording.text}"), make)
    advance("rules")
    return group


_SUBJECT: list[Likeness] = []


def _subject() -> Likeness:
    if not _SUBJECT:
        _SUBJECT.append(Likeness(TowerEmbedder()))
    return _SUBJECT[0]


def _look(picture: Image.Image, item: Referred) -> tuple[bool, bool]:
    """Whether every true check holds, and whether the reference's cut-out is in the picture."""
    scene, cut = oracle.read_scene(picture), item.cut
    like = any((c.shape, c.color, c.fill) == (cut.shape, cut.color, cut.fill) for c in scene.cutouts)
    return all(oracle.answers(picture, asked(item.wording))), like


def sections(figures: Mapping[str, Any]) -> list[Section]:
    if figures["part"] == "subject":
        head = ["compared by", "all near misses", *ATTRIBUTES]
        rows = [[r["way"], *(interval_text(r[key]) for key in ("all", *ATTRIBUTES))] for r in figures["rows"]]
        text = f"AUC of the criterion `subject`, {figures['count']} scenes:"
        return [Section("The same cut-out against near misses", text, Table(head, rows))]
    made = []
    for key, title in (
        ("alone", "by the checks alone; every check right"),
        ("both", "by checks and subject; both right"),
    ):
        rows = [[r["rule"], interval_text(r["value"]), interval_text(r["difference"])] for r in figures[key]]
        text = f"Best of {OF} {title}, {figures['count']} prompts:"
        made.append(Section(title, text, Table(["rule", "right", "less group_mean, paired"], rows)))
    rows = [
        [
            f"{r['lambda']:g}",
            *(interval_text(r[key]) for key in ("right", "subject_right", "both", "difference")),
        ]
        for r in figures["curve"]
    ]
    head = ["lambda", "every check right", "subject right", "both right", "both, less lambda 0, paired"]
    text = f"lambda_harmonic over lambda, best of {OF}, {figures['count']} prompts:"
    made.append(Section("lambda_harmonic", text, Table(head, rows)))
    return made


def work(evaluation: Evaluation) -> dict[str, Any]:
    options, part = evaluation.options, evaluation.variant
    profile = load_profile(options.profile)
    count = options.limit or (SCENES if part == "subject" else PROMPTS)
    with evaluation.open(profile=profile.model_dump(mode="json"), seed=options.seed, count=count) as journal:
        if part == "subject":
            measured = evaluation.wait_for(
                {"subject": ("comparing", count)},
                lambda advance: measure_subject(count, options.seed, journal, advance),
            )
        else:
            models = open_models(profile, editing=False, conversing=False)
            store = ImageStore(evaluation.out / "state" / "images")
            items = sample_referred(count, options.seed)

            def measure(advance: Advance) -> Coroutine[Any, Any, dict[str, Any]]:
                return measure_rules(items, models, store, journal=journal, seed=options.seed, advance=advance)

            try:
                measured = evaluation.wait_for({"rules": ("drawing and reading", len(items))}, measure)
            finally:
                models.close()
        figures = evaluation.report(measured, sections, notes=note_count(count, count))
    if options.tables is not None:
        text = tables_text("By the oracle,", figures["command"], sections(figures))
        write_tables(options.tables, {f"rewards_{part}.md": text})
    return figures


SUITE = TableSuite(
    name="cutouts-rewards",
    title="Cut-outs: criteria and rules",
    measure="What the criterion `subject` and the rules of combination are worth on the mini world; not a published benchmark.",
    work=work,
    variants=("subject", "rules"),
)
