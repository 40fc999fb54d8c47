"""The suite of the mini world: five ways of drawing the same held-out prompts, reported by the oracle.

    python -m eval_suites.cutouts --count 500 --out docs/results

The prompts are human wordings of specs, each with a combination that no training set holds. The checks that the
oracle answers come from the spec; the system under test sees the prompt alone and makes its own checklist. The judge
chooses pictures and scores them; the oracle only reports. Finished prompts are kept in --work, and a second call of the
same command goes on from there. A changed model or profile wants another --work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from agent.parts import Parts
from agent.run import Session
from agent.types import Limits
from agent.wiring import open_parts
from core.profiles import Profile, load_profile
from editors.types import ImageTask
from eval_suites.stats import Interval, bootstrap, calibration, paired_difference
from evaluator.types import Check, Checklist, Outcome
from mini import oracle, questions
from mini.captions import caption
from mini.raster import draw
from mini.sampling import Split, sample_pair, sample_scene, sample_spec, truths
from mini.wording import Wording, say

BEST_OF = 8
ROWS = {
    "raw_1": "raw prompt, one image",
    "raw_8": "raw prompt, best of 8 by the judge",
    "rewritten_1": "rewritten, one image",
    "rewritten_8": "rewritten, best of 8 by the judge",
    "loop": "the loop, at most 8 images",
}
console = Console(stderr=True)


@dataclass(frozen=True)
class Result:
    """One prompt under one row. `right`: the oracle's answer to each true check; `score`: the judge's own."""

    row: str
    index: int
    right: tuple[bool, ...]
    score: float | None
    images: int
    prompt: str


class Book:
    """Results in an append-only file, so that a stopped evaluation goes on where it was."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.entries: dict[tuple[str, int], dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self.entries[entry["row"], entry["index"]] = entry

    def put(self, entry: dict[str, Any]) -> None:
        self.entries[entry["row"], entry["index"]] = entry
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def prompts(count: int, seed: int, split: Split = "test") -> list[Wording]:
    """Human wordings of satisfiable specs; the same for the same seed."""
    found: list[Wording] = []
    rng = np.random.default_rng((seed, 424_242))
    while len(found) < count:
        spec = sample_spec(rng, split)
        if sample_scene(rng, spec) is not None:
            found.append(say(rng, spec))
    return found


def asked(wording: Wording) -> list[str]:
    return [question for _, question in wording.checks]


class Conditions:
    """Draws and judges prompts in each of the ways that the table compares."""

    def __init__(self, parts: Parts, profile: Profile, seed: int, work: Path) -> None:
        self.parts, self.profile, self.seed, self.work = parts, profile, seed, work
        self.limits = Limits.of(profile.limits, profile.judge.pass_at)
        self.checklists: dict[str, Checklist] = {}
        self.rewrites: dict[str, str] = {}

    def _seeds(self, index: int, count: int) -> list[int]:
        return [int(s) for s in np.random.default_rng((self.seed, 99, index)).integers(2**31, size=count)]

    async def _render(self, prompt: str, seeds: Sequence[int]) -> list[Image.Image]:
        tasks = [ImageTask(prompt, seed) for seed in seeds]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.parts.renderer, self.parts.backend.render, tasks)

    async def checklist(self, prompt: str) -> Checklist:
        if prompt not in self.checklists:
            async with self.parts.calls:
                self.checklists[prompt] = await self.parts.builder(prompt)
        return self.checklists[prompt]

    async def rewrite(self, prompt: str) -> str:
        if prompt not in self.rewrites:
            async with self.parts.calls:
                self.rewrites[prompt] = (await self.parts.rewriter(prompt, n=1, seed=self.seed))[0].prompt
        return self.rewrites[prompt]

    async def best_of(self, row: str, index: int, wording: Wording, rewritten: bool, count: int) -> Result:
        prompt = await self.rewrite(wording.text) if rewritten else wording.text
        images = await self._render(prompt, self._seeds(index, count))
        checklist = await self.checklist(wording.text)
        scores: list[float | None] = []
        for image in images:
            async with self.parts.calls:
                scores.append((await self.parts.evaluator.score(image, wording.text, checklist)).score)
        best = max(range(count), key=lambda i: (scores[i] is not None, scores[i] or 0.0, -i))
        right = oracle.answers(images[best], asked(wording))
        return Result(row, index, tuple(right), scores[best], count, prompt)

    async def loop(self, index: int, wording: Wording) -> Result:
        session = Session.start(
            wording.text, self.parts, limits=self.limits, out=self.work / "runs", seed=self._seeds(index, 1)[0]
        )
        result = await session.run()
        best = result.best_attempt
        if best is None or result.image is None:
            return Result("loop", index, (False,) * len(wording.checks), None, len(result.attempts), "")
        right = oracle.answers(Image.open(result.image), asked(wording))
        return Result("loop", index, tuple(right), best.score, len(result.attempts), best.prompt)

    async def judge_answers(self, index: int, wording: Wording) -> dict[str, Any]:
        """The judge against the oracle, on two of the generator's own pictures and the true checks."""
        prompt = await self.rewrite(wording.text)
        images = await self._render(prompt, self._seeds(index, 2))
        checks = [Check(key_point, question) for key_point, question in wording.checks]
        rows = []
        for image in images:
            async with self.parts.calls:
                report = await self.parts.evaluator.score(image, wording.text, tuple(checks))
            for verdict, truth in zip(report.verdicts, oracle.answers(image, asked(wording)), strict=True):
                scored = verdict.outcome is Outcome.SCORED
                rows.append([verdict.check.key_point, verdict.probability if scored else None, truth])
        return {"row": "judge", "index": index, "answers": rows}


async def _all(
    jobs: Iterable[Callable[[], Awaitable[dict[str, Any]]]], book: Book, name: str, total: int, at_once: int
) -> None:
    gate = asyncio.Semaphore(at_once)
    with Progress(console=console) as progress:
        bar = progress.add_task(name, total=total)

        async def one(job: Callable[[], Awaitable[dict[str, Any]]]) -> None:
            async with gate:
                book.put(await job())
            progress.advance(bar)

        await asyncio.gather(*(one(job) for job in jobs))


async def evaluate(conditions: Conditions, wordings: Sequence[Wording], book: Book, at_once: int = 24) -> None:
    """Fills the book with every row of every prompt that it does not hold yet."""
    plans: dict[str, Callable[[int, Wording], Awaitable[dict[str, Any]]]] = {}

    def plan(row: str, rewritten: bool, count: int) -> None:
        async def run(index: int, wording: Wording) -> dict[str, Any]:
            return asdict(await conditions.best_of(row, index, wording, rewritten, count))

        plans[row] = run

    plan("raw_1", False, 1)
    plan("rewritten_1", True, 1)
    plan("raw_8", False, BEST_OF)
    plan("rewritten_8", True, BEST_OF)

    async def loop(index: int, wording: Wording) -> dict[str, Any]:
        return asdict(await conditions.loop(index, wording))

    plans["loop"] = loop
    plans["judge"] = conditions.judge_answers
    for row, run in plans.items():
        left = [(i, w) for i, w in enumerate(wordings) if (row, i) not in book.entries]
        jobs = [lambda i=i, w=w, run=run: run(i, w) for i, w in left]
        started = time.monotonic()
        await _all(jobs, book, row, len(left), at_once)
        if left:
            console.print(f"{row}: {len(left)} prompts in {time.monotonic() - started:.0f} s")


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


def generator_on_captions(parts: Parts, wordings: Sequence[Wording], seed: int) -> tuple[Interval, Interval]:
    """Canonical captions, one image: share of pictures right in every check, mean share of checks right."""
    seeds = np.random.default_rng((seed, 2)).integers(2**31, size=len(wordings))
    tasks = [ImageTask(caption(w.spec), int(s)) for w, s in zip(wordings, seeds, strict=True)]
    right = [oracle.answers(i, asked(w)) for i, w in zip(parts.backend.render(tasks), wordings, strict=True)]
    return bootstrap([float(all(r)) for r in right]), bootstrap([float(np.mean(r)) for r in right])


def summary(book: Book, count: int) -> dict[str, Any]:
    """All figures of the table as plain numbers."""
    rows: dict[str, Any] = {}
    every: dict[str, list[float]] = {}
    for row, title in ROWS.items():
        entries = [book.entries[row, i] for i in range(count)]
        every[row] = [float(all(e["right"])) for e in entries]
        scores = [e["score"] for e in entries if e["score"] is not None]
        rows[row] = {
            "title": title,
            "every_check_right": asdict(bootstrap(every[row])),
            "checks_right": asdict(bootstrap([float(np.mean(e["right"])) for e in entries])),
            "judge_score": asdict(bootstrap(scores)) if scores else None,
            "unscored": count - len(scores),
            "images": float(np.mean([e["images"] for e in entries])),
        }
    answers = [a for i in range(count) for a in book.entries["judge", i]["answers"]]
    scored = [(k, p, t) for k, p, t in answers if p is not None]
    points: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for key_point, p, truth in scored:
        points[key_point].append((p, truth))
    bins, error = calibration([p for _, p, _ in scored], [t for _, _, t in scored])
    per_picture = [
        float(np.mean([(p >= 0.5) == t for _, p, t in book.entries["judge", i]["answers"] if p is not None] or [0.0]))
        for i in range(count)
    ]
    return {
        "prompts": count,
        "rows": rows,
        "loop_over_rewritten_8": asdict(paired_difference(every["loop"], every["rewritten_8"])),
        "judge": {
            "answers": len(answers),
            "failed": len(answers) - len(scored),
            "accuracy": asdict(bootstrap(per_picture)),
            "ece": error,
            "bins": [asdict(b) for b in bins],
            "key_points": {
                k: {
                    "accuracy": float(np.mean([(p >= 0.5) == t for p, t in v])),
                    "answers": len(v),
                    "true": float(np.mean([t for _, t in v])),
                }
                for k, v in sorted(points.items())
            },
        },
    }


def _interval(figure: dict[str, float] | None) -> str:
    return "-" if figure is None else str(Interval(**figure))


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
        cells = [row["title"], *(_interval(row[k]) for k in ("every_check_right", "checks_right", "judge_score"))]
        lines.append(f"| {' | '.join(cells)} | {row['images']:.2f} |")
    judge = figures["judge"]
    lines += [
        "",
        "The loop minus rewritten best of 8, paired, every check right: "
        f"{_interval(figures['loop_over_rewritten_8'])}.",
        "",
        "| part | figure |",
        "|---|---|",
        f"| oracle on its own renders, scenes fully right | {_interval(figures['oracle'])} |",
        f"| generator, canonical captions, one image, every check right | {_interval(figures['generator_every'])} |",
        f"| generator, canonical captions, one image, checks right | {_interval(figures['generator_checks'])} |",
        f"| judge against the oracle on the generator's own images ({judge['answers']} answers, "
        f"{judge['failed']} failed) | {_interval(judge['accuracy'])} |",
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


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Evaluates the mini profile on held-out prompts.")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("work/eval/cutouts"))
    options = parser.parse_args(argv)
    profile = load_profile(options.profile)
    parts = open_parts(profile)
    wordings = prompts(options.count, options.seed)
    book = Book(options.work / "results.jsonl")
    conditions = Conditions(parts, profile, options.seed, options.work)
    asyncio.run(evaluate(conditions, wordings, book))
    figures = summary(book, options.count)
    figures["oracle"] = asdict(oracle_on_renders(options.count, options.seed))
    generator_every, generator_checks = generator_on_captions(parts, wordings, options.seed)
    figures["generator_every"], figures["generator_checks"] = asdict(generator_every), asdict(generator_checks)
    parts.close()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cutouts.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    command = f"python -m eval_suites.cutouts --count {options.count} --seed {options.seed}"
    (options.out / "cutouts.md").write_text(markdown(figures, command), encoding="utf-8")
    (options.out / "calibration.svg").write_text(reliability_svg(figures), encoding="utf-8")
    console.print(markdown(figures, command))


if __name__ == "__main__":
    main()
