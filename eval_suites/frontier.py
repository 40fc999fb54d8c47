"""The cost frontier of a generator: which steps, guidance and cache give which quality for how many seconds.

    python -m eval_suites.frontier --profile mini --prompts prompts.txt --evaluations 24 --pictures 16

pymoo's NSGA-II searches steps x guidance x cache threshold for two aims at once, the judge's mean score and the seconds of a
picture, and prints the settings that no other beats in both, with a snippet for a profile. If this machine's CPU draws,
seconds are those of work, which other programs do not lengthen. The idea is ECAD's (which searches block by block and counts
operations); prompts and seeds are the same for all settings, so that differences are theirs. The profile's judge chooses
here: measure what you take on other prompts, by another judge, before you report it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer

from agent.models import Models, open_models
from agent.types import stable_key
from editors.backend import ImageBackend, ImageTask, open_backend, render
from eval_suites.stats import interval
from evaluator.reward import case_of
from redraft.errors import ConfigError, InputError, RedraftError, printable
from redraft.extras import require
from redraft.journal import Journal
from redraft.local_models import pick_device
from redraft.profiles import BackendConfig, CacheConfig, Profile, load_profile
from rewriter.request import clean_request

GUIDANCE_STEP = 0.25
THRESHOLD_STEP = 0.02


@dataclass(frozen=True)
class Setting:
    """What is searched. `guidance` and `threshold` None: the profile's own, and no cache."""

    steps: int
    guidance: float | None = None
    threshold: float | None = None

    def apply(self, config: BackendConfig) -> BackendConfig:
        changes: dict[str, Any] = {"steps": self.steps}
        if self.guidance is not None:
            changes["guidance"] = self.guidance
        if self.threshold is not None:
            changes["cache"] = CacheConfig(kind="first_block", threshold=self.threshold) if self.threshold > 0 else None
        return config.model_copy(update=changes)


@dataclass(frozen=True)
class Point:
    """A setting as it was measured: `scores` of the pictures, None where the judge failed; `seconds` a picture."""

    setting: Setting
    scores: tuple[float | None, ...]
    seconds: float

    @property
    def quality(self) -> float:
        """Mean score of the pictures that have one; 0 if none has."""
        known = [score for score in self.scores if score is not None]
        return statistics.fmean(known) if known else 0.0


@dataclass(frozen=True)
class Space:
    """The bounds of the search; the same value twice leaves a gene out, and so does None."""

    steps: tuple[int, int] = (2, 30)
    guidance: tuple[float, float] | None = None
    threshold: tuple[float, float] | None = None

    @property
    def bounds(self) -> list[tuple[float, float]]:
        return [bounds for bounds in (self.steps, self.guidance, self.threshold) if bounds is not None]

    def setting(self, genes: Sequence[float]) -> Setting:
        """The setting nearest to these genes, on a grid: so that settings meet again and are measured once."""
        rest = list(genes)
        steps = round(rest.pop(0))
        guidance = None if self.guidance is None else round(rest.pop(0) / GUIDANCE_STEP) * GUIDANCE_STEP
        threshold = None if self.threshold is None else round(rest.pop(0) / THRESHOLD_STEP) * THRESHOLD_STEP
        return Setting(steps, guidance, None if threshold is None else round(threshold, 4))


def find_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both aims (as good in both and better in one), the cheapest first."""

    def beats(one: Point, other: Point) -> bool:
        at_least = one.quality >= other.quality and one.seconds <= other.seconds
        return at_least and (one.quality > other.quality or one.seconds < other.seconds)

    front = [point for point in points if not any(beats(other, point) for other in points)]
    return sorted(front, key=lambda point: (point.seconds, point.setting.steps))


def search(measure: Callable[[Setting], Point], space: Space, *, evaluations: int, seed: int = 0) -> list[Point]:
    """Every setting that NSGA-II looked at, each once. Stops after `evaluations` different settings, or when twenty
    generations bring no new one."""
    require("frontier", "the search of a frontier", "pymoo")
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem

    low, high = (np.array(side, dtype=float) for side in zip(*space.bounds, strict=True))
    problem = Problem(n_var=len(low), n_obj=2, xl=low, xu=high)
    size = max(4, min(12, evaluations // 3))
    algorithm = NSGA2(pop_size=size, seed=seed)
    algorithm.setup(problem, termination=("n_gen", 1000), seed=seed, verbose=False)
    points: dict[Setting, Point] = {}
    idle = 0
    while len(points) < evaluations and idle < 20:
        population: Population = algorithm.ask()
        before = len(points)
        for genes in population.get("X"):
            setting = space.setting([float(gene) for gene in genes])
            if setting not in points and len(points) < evaluations:
                points[setting] = measure(setting)
        idle = 0 if len(points) > before else idle + 1
        worst = max(point.seconds for point in points.values()) * 10
        known = [points.get(space.setting([float(gene) for gene in genes])) for genes in population.get("X")]
        aims = [[1 - point.quality, point.seconds] if point else [1.0, worst] for point in known]
        population.set("F", np.array(aims))
        algorithm.tell(infills=population)
    return list(points.values())


class Measurer:
    """Draws the same prompts with the same seeds in any setting, and has the profile's judge score them."""

    def __init__(self, profile: Profile, prompts: Sequence[str], *, seed: int, journal: Journal) -> None:
        assert profile.generator is not None
        self._config = profile.generator
        self._prompts = prompts
        self._seed = seed
        self._journal = journal
        self._clock = choose_clock(profile.generator)
        self._runner = asyncio.Runner()
        self._models: Models = self._runner.run(_open(profile))
        self._cases = self._runner.run(self._make_cases())

    def __call__(self, setting: Setting) -> Point:
        key = ("point", json.dumps(asdict(setting)))
        known = self._journal.get(key)
        if known is None:
            known = self._measure(setting)
            self._journal.put(key, known)
        return Point(setting, tuple(known["scores"]), known["seconds"])

    def close(self) -> None:
        self._models.close()
        self._runner.close()

    async def _make_cases(self) -> list[Any]:
        return [case_of(prompt, await self._models.checklist_maker(prompt)) for prompt in self._prompts]

    def _measure(self, setting: Setting) -> dict[str, Any]:
        backend: ImageBackend = open_backend(setting.apply(self._config))
        tasks = [ImageTask(prompt, self._seed + at) for at, prompt in enumerate(self._prompts)]
        render(backend, tasks[:1])  # weights are loaded, and what is built once is built
        started = self._clock()
        pictures = render(backend, tasks)
        seconds = (self._clock() - started) / len(tasks)
        backend.close()

        async def judge_all() -> list[float | None]:
            pairs = zip(pictures, self._cases, strict=True)
            reports = await asyncio.gather(
                *(self._models.reward.judge(*pair, calls=self._models.calls) for pair in pairs)
            )
            return [report.score for report in reports]

        return {"scores": self._runner.run(judge_all()), "seconds": seconds}


def choose_clock(config: BackendConfig) -> Callable[[], float]:
    """What tells the seconds of a picture: of work, if this machine's CPU draws it, else of waiting."""
    here = config.kind == "diffusers" and pick_device(config.device).startswith("cpu")
    return time.process_time if here else time.perf_counter


async def _open(profile: Profile) -> Models:
    return open_models(profile)


def front_table(front: Sequence[Point]) -> list[str]:
    """Lines of a Markdown table, with the interval of the mean score over the prompts."""
    lines = ["| steps | guidance | cache threshold | judge's score | seconds a picture |", "|---|---|---|---|---|"]
    for point in front:
        around = interval([score for score in point.scores if score is not None])
        within = "" if around is None else f" [{around['low']:.3f}, {around['high']:.3f}]"
        s = point.setting
        shown = ["–" if value is None else f"{value:g}" for value in (s.guidance, s.threshold)]
        lines.append(f"| {s.steps} | {shown[0]} | {shown[1]} | {point.quality:.3f}{within} | {point.seconds:.3f} |")
    return lines


def profile_snippet(point: Point) -> str:
    """The `[generator]` settings of a point, as TOML."""
    setting = point.setting
    lines = ["[generator]", f"steps = {setting.steps}"]
    if setting.guidance is not None:
        lines.append(f"guidance = {setting.guidance:g}")
    if setting.threshold:
        lines.append(f'cache = {{ kind = "first_block", threshold = {setting.threshold:g} }}')
    return "\n".join(lines)


def choose(front: Sequence[Point], within: float = 0.01) -> Point:
    """The cheapest point whose score is at most `within` below the best."""
    best = max(point.quality for point in front)
    return min((point for point in front if point.quality >= best - within), key=lambda point: point.seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m eval_suites.frontier", description="Quality against seconds.")
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--prompts", type=Path, required=True, help="a text file, a prompt a line")
    parser.add_argument("--evaluations", type=int, default=24, help="settings to measure")
    parser.add_argument("--pictures", type=int, default=16, help="prompts of the file to draw for each")
    parser.add_argument("--steps", type=int, nargs=2, default=(2, 30), metavar=("LEAST", "MOST"))
    parser.add_argument("--guidance", type=float, nargs=2, metavar=("LEAST", "MOST"))
    parser.add_argument("--threshold", type=float, nargs=2, metavar=("LEAST", "MOST"), help="of a first-block cache")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/frontier"), help="folder; the same command resumes")
    options = parser.parse_args(argv)
    try:
        _run(options)
    except RedraftError as error:
        typer.echo(printable(f"error: {error}"), err=True)
        return error.exit_code
    return 0


def _run(options: argparse.Namespace) -> None:
    profile = load_profile(options.profile)
    if profile.generator is None or profile.judge is None:
        raise ConfigError(f"the profile {options.profile} has no generator and judge; a frontier needs both")
    for name in ("steps", "guidance", "threshold"):
        bounds = getattr(options, name)
        if bounds is not None and not 0 <= bounds[0] <= bounds[1]:
            raise InputError(f"--{name}: give the least and the most, from 0 up, not {bounds[0]:g} {bounds[1]:g}")
    if min(options.steps[0], options.evaluations, options.pictures) < 1:
        raise InputError("--steps, --evaluations and --pictures must be at least 1")
    try:
        lines = options.prompts.read_text(encoding="utf-8-sig").splitlines()
        options.out.mkdir(parents=True, exist_ok=True)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{options.prompts} or {options.out}: {error}") from error
    prompts = [clean_request(line) for line in lines if line.strip()][: options.pictures]
    if not prompts:
        raise InputError(f"{options.prompts} holds no prompts")
    space = Space(
        (options.steps[0], options.steps[1]),
        None if options.guidance is None else (options.guidance[0], options.guidance[1]),
        None if options.threshold is None else (options.threshold[0], options.threshold[1]),
    )
    settings = {"profile": profile.model_dump(mode="json"), "prompts": prompts, "seed": options.seed}
    with Journal(
        options.out / f"{stable_key(settings)}.jsonl", "frontier", advice="delete it to measure again"
    ) as journal:
        measurer = Measurer(profile, prompts, seed=options.seed, journal=journal)
        try:
            points = search(measurer, space, evaluations=options.evaluations, seed=options.seed)
        finally:
            measurer.close()
    front = find_front(points)
    chosen = choose(front)
    typer.echo(
        "\n".join([f"{len(points)} settings, {len(prompts)} prompts; not beaten in both:", "", *front_table(front)])
    )
    typer.echo(f"\nthe cheapest within 0.01 of the best score:\n\n{profile_snippet(chosen)}")


if __name__ == "__main__":
    raise SystemExit(main())
