"""Trained rewriters of the mini world side by side: the figures of docs/training.md.

    python -m eval_suites.rewriters --count 300 --out docs/training

Held-out human wordings (those of docs/results.md), one picture each, the same seed in every row. The oracle reports;
the trained judge, which was the reward, is shown beside it. GRPO runs differ in their seed alone: a prompt's value
under "+ GRPO" is its mean over the runs, and differences are paired by prompt. Checkpoints of the runs, on fewer
prompts, show how far reward and truth part while a run goes on.

Finished pieces are kept in --work by the hash of the weights that made them, and the same command goes on from there.
With --so-far, models that are not trained yet are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from agent.models import Models, open_models
from agent.run import Run
from editors.backend import ImageTask, render
from eval_suites.generation.cutouts import asked, prompts
from eval_suites.journal import open_journal
from eval_suites.painting import seed_of
from eval_suites.rewriters_figures import Answer, curve_point, difference, points, row_of
from eval_suites.rewriters_report import curves_svg, markdown
from evaluator.types import Check, Checklist
from mini.world import oracle
from mini.world.wording import Wording
from redraft.chat import open_chat
from redraft.errors import ModelMissing, RedraftError
from redraft.images import open_image
from redraft.journal import Journal
from redraft.profiles import ModelConfig, Profile, load_profile, model_place
from rewriter.cot import CoTRewriter
from rewriter.types import Rewriter

MOST_IMAGES = 8
_A_DAY = 86_400.0
_SESSIONS = 8
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
console = Console(stderr=True)


@dataclass(frozen=True)
class Model:
    """A rewriter's folder; None stands for the prompt as typed. `mark`: the hash of its weights."""

    name: str
    folder: Path | None
    mark: str

    @classmethod
    def of(cls, name: str, folder: Path | None) -> Model:
        """Raises ModelMissing where the folder holds no weights."""
        if folder is None:
            return cls(name, None, "as typed")
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise ModelMissing(f"there is no {weights}; `make train-mini` trains it (or leave it out with --so-far)")
        return cls(name, folder, hashlib.sha256(weights.read_bytes()).hexdigest()[:16])


class Bench:
    """Rewrites, draws and judges. Generator, judge and the model that makes checklists are the profile's in every row:
    only the rewriter differs."""

    def __init__(
        self, models: Models, profile: Profile, journal: Journal, wordings: Sequence[Wording], seed: int
    ) -> None:
        self._profile, self._journal, self._wordings, self._seed = profile, journal, wordings, seed
        self._build = models.checklist_maker
        self._models = replace(models, checklist_maker=self._checklist)

    async def _checklist(self, request: str) -> Checklist:
        async def make() -> list[list[str]]:
            async with self._models.calls:
                return [[check.key_point, check.question] for check in await self._build(request)]

        return tuple(Check(*pair) for pair in await self._journal.aonce(("checklist", request), make))

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
            made = await asyncio.gather(*(self._rewritten(rewriter, self._wordings[i].text) for i in batch))
            tasks = [
                ImageTask(prompt, seed_of(self._seed, self._wordings[i].text, 0))
                for i, (prompt, _) in zip(batch, made, strict=True)
            ]
            loop = asyncio.get_running_loop()
            images = await loop.run_in_executor(self._models.renderer, render, self._models.generator, tasks)
            scores = await asyncio.gather(
                *(self._score(image, self._wordings[i].text) for i, image in zip(batch, images, strict=True))
            )
            values = {}
            for i, (prompt, fallback), image, score in zip(batch, made, images, scores, strict=True):
                right = tuple(oracle.answers(image, asked(self._wordings[i])))
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
                text = self._wordings[i].text
                seed = seed_of(self._seed, text, 0)
                result = await Run.start(text, models, limits=limits, out=out, seed=seed).run()
                best = result.best_attempt
                if best is None or result.image is None:
                    wrong = (False,) * len(self._wordings[i].checks)
                    return asdict(Answer(wrong, None, len(result.attempts), ""))
                right = oracle.answers(open_image(result.image), asked(self._wordings[i]))
                return asdict(Answer(tuple(right), best.score, len(result.attempts), best.prompt))

            async with gate:
                told = await self._journal.aonce(("loop", f"{model.mark} {i}"), make)
            advance(1)
            return _answer(told)

        with tempfile.TemporaryDirectory() as folder:
            return list(await asyncio.gather(*(one(i, Path(folder)) for i in range(count))))

    async def _rewritten(self, rewriter: Rewriter | None, prompt: str) -> tuple[str, bool]:
        if rewriter is None:
            return prompt, False
        [made] = await rewriter(prompt, n=1, seed=self._seed)
        return made.prompt, made.fallback

    async def _score(self, image: Any, prompt: str) -> float | None:
        checklist = await self._checklist(prompt)
        async with self._models.calls:
            report = await self._models.evaluator.score(image, prompt, checklist)
        return None if report.failed or report.score is None else round(report.score, 6)


def _answer(told: Mapping[str, Any] | None) -> Answer:
    assert told is not None, "the journal was filled above"
    return Answer(**{**told, "right": tuple(told["right"])})


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a run that hold weights, by step."""
    found = [(int(m[1]), path) for path in folder.glob("*") if (m := _CHECKPOINT.fullmatch(path.name))]
    return sorted((step, path) for step, path in found if (path / "model.safetensors").is_file())


async def measure(bench: Bench, wordings: Sequence[Wording], options: argparse.Namespace) -> dict[str, Any]:
    """All figures that the models there are allow."""
    count = options.count
    named = [("raw", None), ("plain", options.plain), ("sft", options.sft)]
    named += [(f"grpo {i}", folder) for i, folder in enumerate(options.grpo)]
    models: dict[str, Model] = {}
    for name, folder in named:
        try:
            models[name] = Model.of(name, folder)
        except ModelMissing as error:
            if not options.so_far:
                raise
            console.print(f"left out: {error}")
    runs = [name for name in models if name.startswith("grpo")]
    found: dict[str, list[Answer]] = {}
    looped: dict[str, list[Answer]] = {}
    figures: dict[str, Any] = {"prompts": count, "rows": {}, "differences": {}}
    with Progress(console=console) as progress:

        def bar(title: str, total: int) -> Callable[[int], None]:
            task = progress.add_task(title, total=total)
            return lambda n: progress.advance(task, n)

        for name, model in models.items():
            found[name] = await bench.one_image(model, count, bar(name, count))
        curves: dict[str, list[dict[str, Any]]] = {}
        few = wordings[: options.curve]
        for name in runs if options.curve and "sft" in found else []:
            folder = models[name].folder
            assert folder is not None
            curves[name] = [curve_point(0, found["sft"][: len(few)], few)]
            for step, path in checkpoints(folder):
                title = f"{name}, step {step}"
                answers = await bench.one_image(Model.of(title, path), len(few), bar(title, len(few)))
                curves[name].append(curve_point(step, answers, few))
        for name in ("sft", *runs[: options.loops]) if options.loops else ():
            if name in models:
                title = f"{name} in the loop"
                looped[name] = await bench.loop(models[name], options.loop_count, bar(title, options.loop_count))
    rows = figures["rows"]
    titles = {"raw": "no rewrite", "plain": "SFT without thought", "sft": "SFT with thought"}
    rows.update({name: row_of(titles[name], [found[name]]) for name in titles if name in found})
    rows.update({name: row_of(f"+ GRPO, seed {name.split()[1]}", [found[name]]) for name in runs})
    grpo = [found[name] for name in runs]
    if grpo:
        rows["grpo"] = row_of(f"+ GRPO, mean of {len(runs)} seeds", grpo)
    if "sft" in looped:
        rows["loop_sft"] = row_of(f"SFT with thought in the loop, at most {MOST_IMAGES} images", [looped["sft"]])
    looping = [answers for name, answers in looped.items() if name != "sft"]
    if looping:
        rows["loop_grpo"] = row_of(f"+ GRPO in the loop, at most {MOST_IMAGES} images", looping)
    told = figures["differences"]
    if "sft" in found and "plain" in found:
        told["SFT with thought minus without"] = difference([found["sft"]], [found["plain"]])
    if grpo and "sft" in found:
        told["GRPO minus SFT with thought"] = difference(grpo, [found["sft"]])
        told |= {
            f"GRPO, seed {n.split()[1]}, minus SFT with thought": difference([found[n]], [found["sft"]]) for n in runs
        }
        figures["key_points"] = points(grpo, [found["sft"]], wordings)
    if looping and "sft" in looped:
        told["GRPO in the loop minus SFT in the loop"] = difference(looping, [looped["sft"]])
        figures["loop_prompts"], figures["loop_seeds"] = options.loop_count, len(looping)
    if curves:
        figures["curves"], figures["curve_prompts"] = curves, len(few)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; `argv` in place of the process's own arguments. Returns the exit code."""
    options = _options(argv)
    try:
        profile = load_profile(options.profile)
        wordings = prompts(options.count, options.seed)
        settings = {"profile": profile.model_dump(mode="json"), "seed": options.seed, "weights": _weights(profile)}
        with open_journal(options.work, settings) as journal:
            models = open_models(profile)
            try:
                figures = asyncio.run(
                    measure(Bench(models, profile, journal, wordings, options.seed), wordings, options)
                )
            finally:
                models.close()
    except RedraftError as error:
        console.print(f"error: {error}", markup=False, highlight=False)
        return error.exit_code
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on")
        return 130
    counts = f"--count {options.count} --loop-count {options.loop_count}"
    figures["command"] = f"python -m eval_suites.rewriters {counts} --seed {options.seed}"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "rewriters.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (options.out / "rewriters.md").write_text(markdown(figures), encoding="utf-8")
    if "curves" in figures:
        (options.out / "reward_gap.svg").write_text(curves_svg(figures), encoding="utf-8")
    console.print(markdown(figures), markup=False, highlight=False)
    return 0


def _weights(profile: Profile) -> dict[str, str]:
    """The hashes of the weights that all rows share: a journal of others must not be continued."""
    listing = profile.checklist.model or profile.rewriter.model
    places = {"checklist": listing.model, "judge": profile.judge.model.model, "generator": profile.generator.model}
    told = {}
    for role, place in places.items():
        digest = hashlib.sha256()
        for path in sorted(Path(model_place(place)).rglob("*.safetensors")):
            digest.update(path.read_bytes())
        told[role] = digest.hexdigest()[:16]
    return told


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares trained mini rewriters on held-out prompts.")
    parser.add_argument("--plain", type=Path, default=Path("work/mini/sft_plain"), help="SFT without thoughts")
    parser.add_argument("--sft", type=Path, default=Path("work/mini/sft"), help="SFT with thoughts")
    parser.add_argument(
        "--grpo", type=Path, nargs="+", default=[Path(f"work/mini/grpo-{i}") for i in range(3)], help="runs of GRPO"
    )
    parser.add_argument("--count", type=int, default=300, help="prompts of a row")
    parser.add_argument("--curve", type=int, default=100, help="prompts a checkpoint; 0 for no curves")
    parser.add_argument("--loops", type=int, default=3, help="how many of the runs to try in the loop; 0 for no loops")
    parser.add_argument(
        "--loop-count", type=int, default=None, help="prompts of the loop's rows; as --count unless told"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--so-far", action="store_true", help="leave out what is not trained yet")
    parser.add_argument("--out", type=Path, default=Path("docs/training"))
    parser.add_argument("--work", type=Path, default=Path("work/eval/rewriters"))
    options = parser.parse_args(argv)
    if options.count < 1 or min(options.curve, options.loops) < 0:
        parser.error("--count is at least 1; --curve and --loops are not negative")
    options.curve = min(options.curve, options.count)
    options.loop_count = min(options.loop_count or options.count, options.count)
    return options


if __name__ == "__main__":
    sys.exit(main())
