"""The mini world: human wordings of held-out scenes, answered by a pixel oracle. Needs no data.

Each prompt words a spec with a combination that no training set holds. The questions are the spec's true checks; the
system under test sees the prompt alone and makes its own checklist. Its judge chooses pictures and scores them; the
oracle only reports.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from eval_suites.pictures import NoChecklists, PictureTask, Work, seed_of
from eval_suites.report import percent, signed
from eval_suites.stats import bootstrap, calibration, paired_difference
from eval_suites.suite import Answered, Data, Item, Question, Reporter, Results, Suite, every_right, share_right
from eval_suites.tables import interval_text
from evaluator.reward import checks_reward
from evaluator.types import Check, Outcome, Verdict
from mini.world import oracle, questions
from mini.world.raster import draw
from mini.world.sampling import Split, sample_pair, sample_scene, sample_spec, truths
from mini.world.wording import Wording, say
from redraft.statistics import Interval

PROMPTS = 500
BEST_OF = 8
ROWS = {
    "raw_1": "raw prompt, one image",
    "raw_8": "raw prompt, best of {n} by the judge",
    "rewritten_1": "rewritten, one image",
    "rewritten_8": "rewritten, best of {n} by the judge",
    "loop": "the loop, at most {n} images",
}
"""The rows of the table: the first picture, the best of n (8 unless told otherwise) by the judge, the loop."""
_OF = {"raw_1": "raw", "raw_8": "raw_best", "rewritten_1": "rewritten", "rewritten_8": "rewritten_best", "loop": "loop"}
_JUDGED = 2
"""Pictures of a prompt on which the judge is compared with the oracle."""


def prompts(count: int, seed: int, split: Split = "test") -> list[Wording]:
    """Human wordings of satisfiable specs; the same for the same seed, and the first ones of any greater count."""
    wordings: list[Wording] = []
    rng = np.random.default_rng((seed, 424_242))
    while len(wordings) < count:
        spec = sample_spec(rng, split)
        if sample_scene(rng, spec) is not None:
            wordings.append(say(rng, spec))
    return wordings


def asked(wording: Wording) -> list[str]:
    return [question for _, question in wording.checks]


class OracleJudge:
    """The pixel oracle as a judge. It knows the mini world's questions only, and FAILED on others."""

    name = "pixel oracle"

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        try:
            truths = await asyncio.to_thread(oracle.answers, image, [check.question for check in checks])
        except ValueError as error:
            return [Verdict(check, Outcome.FAILED, reason=str(error)) for check in checks]
        return [
            Verdict(check, Outcome.SCORED, probability=float(yes), label_mass=1.0)
            for check, yes in zip(checks, truths, strict=True)
        ]


ORACLE = Reporter("oracle", checks_reward(OracleJudge()), NoChecklists())


def sample(count: int | None, seed: int) -> Data:
    """So many prompts (else PROMPTS), with the true checks of each as its questions."""
    items = []
    for n, wording in enumerate(prompts(count or PROMPTS, seed)):
        checks = tuple(Question(Check(key_point, question)) for key_point, question in wording.checks)
        groups = len(wording.spec.groups)
        tags = {"size": ("1 group" if groups == 1 else f"{groups} groups",)}
        items.append(Item(f"{n:05d}", wording.text, checks, tags, {"caption": wording.caption}))
    return Data(tuple(items), ())


@dataclass(frozen=True)
class Result:
    """One prompt under one row. `right`: the oracle's answer to each true check; `score`: the judge's own."""

    right: tuple[bool, ...]
    score: float | None
    images: int


Judged = Sequence[tuple[str, float | None, bool]]
"""(key point, the judge's P(yes) or None if it FAILED, the oracle's answer) of pictures of one prompt."""


async def more(work: Work, items: Sequence[Item], results: Results) -> dict[str, Any]:
    """The table of rows, the judge against the oracle, and each part by itself."""
    rows: dict[str, list[Result | None]] = {}
    for row, condition in _OF.items():
        if condition in results:
            answers = results[condition]
            rows[row] = list(await asyncio.gather(*(_result(work, row, item, answers[item.id]) for item in items)))
    source = next((name for name in ("rewritten", "raw", "given") if name in results), None)
    judged: list[Judged] = []
    if source is not None:
        both = await asyncio.gather(*(_judged(work, item, results[source][item.id]) for item in items))
        judged = [verdicts for verdicts in both if verdicts]
    figures = {"prompts": len(items), **table(rows, judged, work.images)}
    if work.given is None:
        figures |= await _parts(work, items)
    return {"cutouts": figures, "sections": sections(figures)}


async def _result(work: Work, row: str, item: Item, answered: Answered | str) -> Result | None:
    if isinstance(answered, str):
        return None
    single = row.endswith("_1")
    checks = await work.checklist(item, "own", work.models.checklist_maker)
    own = await work.judged(answered.made.pictures[0], item.prompt, checks, "own", work.models.reward)
    right = tuple(p is not None and p >= 0.5 for p, _, _ in answered.verdicts[0])
    return Result(right, own["score"], 1 if single else answered.made.drawn)


async def _judged(work: Work, item: Item, answered: Answered | str) -> Judged:
    """The judge against the oracle, on pictures that the system's generator drew and the true checks."""
    if isinstance(answered, str):
        return []
    checks, rows = answered.checks, []
    for picture, truth in list(zip(answered.made.pictures, answered.verdicts, strict=True))[:_JUDGED]:
        report = await work.judged(picture, item.prompt, checks, "own", work.models.reward)
        for check, (p, _, _), (yes, _, _) in zip(checks, report["verdicts"], truth, strict=True):
            rows.append((check.key_point, p, yes == 1.0))
    return rows


async def _parts(work: Work, items: Sequence[Item]) -> dict[str, Any]:
    """The oracle on renders; the generator on canonical captions, one picture each."""

    async def renders() -> dict[str, float]:
        return asdict(await asyncio.to_thread(oracle_on_renders, len(items), work.seed))

    shares = await work.journal.aonce(("oracle", str(len(items))), renders)
    draws = [PictureTask(item.row["caption"], seed_of(work.seed, f"caption {item.id}", 0)) for item in items]
    drawing = asyncio.ensure_future(work.easel.work(work.easel.promise(draws)))
    right = []
    for item, one in zip(items, draws, strict=True):
        checks = tuple(question.check for question in item.questions)
        picture = await work.easel.picture(one)
        answers = await work.judged(picture, item.prompt, checks, ORACLE.name, ORACLE.reward)
        right.append([p == 1.0 for p, _, _ in answers["verdicts"]])
    await drawing
    return {
        "oracle": shares,
        "generator_every": asdict(bootstrap([float(all(r)) for r in right])),
        "generator_checks": asdict(bootstrap([fmean(r) for r in right])),
    }


def oracle_on_renders(count: int, seed: int) -> Interval:
    """Share of scenes of which the oracle, shown the rasteriser's picture, answers every true check with yes."""
    rng = np.random.default_rng((seed, 1))
    right = []
    for _ in range(count):
        spec, scene = sample_pair(rng, "test")
        read = oracle.read_scene(draw(scene))
        same = sorted((c.shape, c.color, c.fill, c.size) for c in scene.cutouts) == sorted(
            (c.shape, c.color, c.fill, c.size) for c in read.cutouts
        )
        right.append(float(same and read.sheet == scene.sheet and all(questions.answer(q, read) for q in truths(spec))))
    return bootstrap(right)


def table(
    rows: Mapping[str, Sequence[Result | None]], judged: Sequence[Judged], images: int = BEST_OF
) -> dict[str, Any]:
    """All figures of the table as plain numbers. Prompts that failed (None) do not count, and are counted."""
    figures: dict[str, Any] = {}
    for row, cells in rows.items():
        there = [cell for cell in cells if cell is not None]
        scores = [cell.score for cell in there if cell.score is not None]
        figures[row] = {
            "title": ROWS[row].format(n=images),
            "every_check_right": asdict(bootstrap([float(all(r.right)) for r in there])) if there else None,
            "checks_right": asdict(bootstrap([fmean(r.right) for r in there])) if there else None,
            "judge_score": asdict(bootstrap(scores)) if scores else None,
            "unscored": len(there) - len(scores),
            "failed": len(cells) - len(there),
            "images": fmean(r.images for r in there) if there else None,
        }
    both = [
        (float(all(a.right)), float(all(b.right)))
        for a, b in zip(rows.get("loop", ()), rows.get("rewritten_8", ()), strict=False)
        if a is not None and b is not None
    ]
    gain = asdict(paired_difference([a for a, _ in both], [b for _, b in both])) if both else None
    return {"rows": figures, "loop_over_rewritten_8": gain, "judge": _judge(judged)}


def _judge(judged: Sequence[Judged]) -> dict[str, Any] | None:
    scored = [(k, p, truth) for verdicts in judged for k, p, truth in verdicts if p is not None]
    if not scored:
        return None
    points: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for key_point, p, truth in scored:
        points[key_point].append((p, truth))
    bins, error = calibration([p for _, p, _ in scored], [t for _, _, t in scored])
    shares = [[(p >= 0.5) == truth for _, p, truth in verdicts if p is not None] for verdicts in judged]
    return {
        "answers": sum(map(len, judged)),
        "failed": sum(map(len, judged)) - len(scored),
        "accuracy": asdict(bootstrap([fmean(share) for share in shares if share])),
        "ece": error,
        "bins": [asdict(part) for part in bins],
        "key_points": {
            k: {
                "accuracy": fmean((p >= 0.5) == t for p, t in v),
                "answers": len(v),
                "true": fmean(t for _, t in v),
            }
            for k, v in sorted(points.items())
        },
    }


def sections(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same as sections of the report."""
    rows = [
        [
            row["title"],
            *(percent(row[key]) for key in ("every_check_right", "checks_right", "judge_score")),
            "-" if row["images"] is None else f"{row['images']:.2f}",
        ]
        for row in figures["rows"].values()
    ]
    gain = figures["loop_over_rewritten_8"]
    note = "One picture a prompt, by the oracle, in percent." + (
        "" if gain is None else f" The loop minus rewritten best of 8, paired: {signed(gain)} points."
    )
    head = ["row", "every check right", "checks right", "the judge's own score", "images"]
    made = [_section("Row by row", note, head, rows)] if rows else []
    parts = [
        [title, percent(figures[key])]
        for key, title in (
            ("oracle", "oracle on its own renders, scenes fully right"),
            ("generator_every", "generator, canonical captions, one image, every check right"),
            ("generator_checks", "generator, canonical captions, one image, checks right"),
        )
        if key in figures
    ]
    if parts:
        made.append(_section("Each part by itself", "In percent, 95% intervals.", ["part", "figure"], parts))
    judge = figures["judge"]
    if judge is not None:
        note = (
            f"On {_JUDGED} of the generator's own pictures a prompt: accuracy {percent(judge['accuracy'])}, "
            f"{judge['answers']} answers, {judge['failed']} failed, expected calibration error {judge['ece']:.3f}."
        )
        points = [
            [name, f"{100 * row['accuracy']:.1f}", f"{row['answers']}", f"{100 * row['true']:.0f}"]
            for name, row in judge["key_points"].items()
        ]
        head = ["key point", "accuracy", "answers", "truly yes"]
        made.append(_section("The judge against the oracle", note, head, points))
    return made


def _section(heading: str, told: str, head: list[str], rows: list[list[str]]) -> dict[str, Any]:
    return {"heading": heading, "told": told, "head": head, "rows": rows}


def markdown(figures: dict[str, Any], command: str) -> str:
    """The tables of docs/results.md."""
    lines = [
        f"{figures['prompts']} held-out human-worded prompts, by the oracle, 95% bootstrap intervals over prompts. "
        f"Made by `{command}`.",
        "",
        "| row | every check right | mean share of checks right | the judge's own score | images |",
        "|---|---|---|---|---|",
    ]
    for row in figures["rows"].values():
        cells = [row["title"], *(interval_text(row[k]) for k in ("every_check_right", "checks_right", "judge_score"))]
        lines.append(f"| {' | '.join(cells)} | {row['images']:.2f} |")
    judge = figures["judge"]
    lines += [
        "",
        "The loop minus rewritten best of 8, paired, every check right: "
        f"{interval_text(figures['loop_over_rewritten_8'])}.",
        "",
        "| part | figure |",
        "|---|---|",
        f"| oracle on its own renders, scenes fully right | {interval_text(figures.get('oracle'))} |",
        f"| generator, canonical captions, one image, every check right | {interval_text(figures.get('generator_every'))} |",
        f"| generator, canonical captions, one image, checks right | {interval_text(figures.get('generator_checks'))} |",
        f"| judge against the oracle on the generator's own images ({judge['answers']} answers, "
        f"{judge['failed']} failed) | {interval_text(judge['accuracy'])} |",
        f"| judge's expected calibration error | {judge['ece']:.3f} |",
        "",
        "| key point | judge's accuracy | answers | truly yes |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {k} | {v['accuracy']:.3f} | {v['answers']} | {v['true']:.2f} |" for k, v in judge["key_points"].items()
    ]
    return "\n".join(lines) + "\n"


def reliability_svg(figures: dict[str, Any]) -> str:
    """The judge's calibration as a small SVG: mean probability against how often yes was true, dot area by count."""
    side, pad = 320, 40
    total = sum(b["count"] for b in figures["judge"]["bins"])

    def at(x: float, y: float) -> tuple[float, float]:
        return pad + x * side, pad + (1 - y) * side

    dots = []
    for b in figures["judge"]["bins"]:
        x, y = at(b["confidence"], b["frequency"])
        radius = 3 + 14 * (b["count"] / total) ** 0.5
        dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#2662c8" fill-opacity="0.7"/>')
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    ticks = "".join(
        f'<text x="{at(v, 0)[0]:.0f}" y="{y0 + 16:.0f}" text-anchor="middle">{v:g}</text>'
        f'<text x="{x0 - 8:.0f}" y="{at(0, v)[1] + 4:.0f}" text-anchor="end">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side + 2 * pad} {side + 2 * pad}" '
        'font-family="sans-serif" font-size="12">'
        '<rect width="100%" height="100%" fill="white"/>'
        f'<rect x="{x0}" y="{y1}" width="{side}" height="{side}" fill="none" stroke="#999"/>'
        f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#999" stroke-dasharray="4"/>'
        f"{''.join(dots)}{ticks}"
        f'<text x="{pad + side / 2}" y="{side + 2 * pad - 6}" text-anchor="middle">P(yes) by the judge</text>'
        f'<text x="12" y="{pad + side / 2}" transform="rotate(-90 12 {pad + side / 2})" text-anchor="middle">'
        "yes by the oracle</text></svg>\n"
    )


def tables(figures: Mapping[str, Any]) -> dict[str, str]:
    """The files of docs/results."""
    rows = figures["cutouts"]
    files = {"cutouts.json": json.dumps(rows, indent=1) + "\n", "cutouts.md": markdown(rows, figures["command"])}
    return files if rows["judge"] is None else {**files, "calibration.svg": reliability_svg(rows)}


SUITE = Suite(
    name="cutouts",
    title="Cut-outs",
    source="made on the spot by mini/",
    licence="Apache-2.0",
    official="The oracle's: every check of a prompt right.",
    measure="Held-out human wordings of the mini world, answered by an oracle that reads the pixels; no judge reports. "
    "Not a published benchmark.",
    value_name="pictures with every check right",
    load=None,
    sample=sample,
    reporter=ORACLE,
    place=lambda item, k: f"{item.id}/{k}.png",
    value=every_right,
    extras={"checks right": share_right},
    images=BEST_OF,
    loop=True,
    more=more,
    tables=tables,
)
