"""Judging pictures with the suites' runner, against the plain loop: one `generate` for each picture and question.

    python benchmarks/judge_suite.py [--images 64] [--checks 12] [--pairs N]
    python benchmarks/judge_suite.py --images 500 --pairs 1200      # the figure of docs/results.md

Both sides judge the same PNG files with the same weights, those of the profile `mini`. The plain loop opens the file,
runs the processor and calls `generate` for one token, for each question anew, as VQAScore's reference loop does. The
runner reads each file once, computes it once for all its questions, batches pictures, and writes every verdict to its
book, which a killed run goes on from. Loading the model is in neither time.

`--pairs N`: the plain loop takes N of the pairs, evenly spread, and its time for all of them is reckoned from that; the
answers of all N are compared. Without it, it takes every pair.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agent.models import open_models
from eval_suites.pictures import Work, evaluate
from eval_suites.runner import open_journal
from eval_suites.suite import Answered, Condition, Data, Item, Question, Reporter, Suite, share_right
from evaluator.reward import case_of
from evaluator.types import Check
from mini.world.raster import draw
from mini.world.sampling import sample_pair
from mini.world.wording import say
from redraft.images import ImageStore
from redraft.limits import Limits
from redraft.profiles import Profile, load_profile, model_place

TARGET = 8.0


@dataclass(frozen=True)
class Plain:
    """The model as its own library's examples use it."""

    model: Any
    processor: Any
    yes: int
    no: int

    def __call__(self, file: Path, question: str) -> float:
        """P(yes) / (P(yes) + P(no)) of the reply's first token."""
        import torch

        image = Image.open(file).convert("RGB")
        turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = self.processor.apply_chat_template(turn, add_generation_prompt=True)
        inputs = self.processor(text=text, images=image, return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            made = self.model.generate(
                **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
            )
        p = made.logits[0][0].float().softmax(-1)
        return float(p[self.yes] / (p[self.yes] + p[self.no]))


def open_plain(profile: Profile) -> Plain:
    import transformers

    place = model_place(profile.judge.model.model)
    model = transformers.AutoModelForImageTextToText.from_pretrained(place, dtype="float32").eval()
    processor = transformers.AutoProcessor.from_pretrained(place)
    yes, no = (processor.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    return Plain(model, processor, yes, no)


def write_pictures(folder: Path, images: int, checks: int) -> list[Item]:
    """PNG files of scenes, each with questions of its own and of the scenes after it."""
    rng = np.random.default_rng(0)
    scenes = [sample_pair(rng) for _ in range(images)]
    checklists = [[Check(*check) for check in say(rng, spec).checks] for spec, _ in scenes]
    items = []
    for n, (_, scene) in enumerate(scenes):
        draw(scene).save(folder / f"{n:05d}.png")
        mine: dict[Check, None] = {}
        other = n
        while len(mine) < checks:
            mine |= dict.fromkeys(checklists[other % images])
            other += 1
            if other > n + images:
                raise SystemExit(f"{images} scenes have no {checks} different questions; take more --images")
        questions = tuple(Question(check) for check in list(mine)[:checks])
        items.append(Item(f"{n:05d}", f"scene {n}", questions))
    return items


class Stopwatch:
    """Seconds by the clock, and seconds of computing by this process, which other work on the machine leaves alone."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._start[0]
        self.cpu += time.process_time() - self._start[1]


async def run_suite(
    profile: Profile, folder: Path, out: Path, items: list[Item], watch: Stopwatch
) -> list[list[float]]:
    """P(yes) of each question of each item."""
    suite = Suite(
        name="benchmark", title="Benchmark", source="", licence="", official="", measure="", value_name="",
        load=lambda *_: Data((), ()), place=lambda item, _: f"{item.id}.png", value=share_right,
    )  # fmt: skip
    models = open_models(profile)
    await models.reward.judge(
        Image.new("RGB", (256, 256)), case_of("", (items[0].questions[0].check,))
    )  # loads the model
    with open_journal(out, {}) as journal:
        work = Work(
            suite=suite, models=models, reporter=Reporter("own", models.reward, models.checklist_maker), limits=Limits(),
            journal=journal, store=ImageStore(out / "state" / "images"), out=out, images=1, seed=0, given=folder,
        )  # fmt: skip
        with watch:
            results = (await evaluate(work, items, [Condition("given", "given", 1, 1)]))["given"]
    models.close()
    return [[_p(results[item.id], n) for n in range(len(item.questions))] for item in items]


def _p(answered: Answered | str, n: int) -> float:
    if isinstance(answered, str):
        raise SystemExit(f"a picture could not be judged: {answered}")
    p, reason, _ = answered.verdicts[0][n]
    if p is None:
        raise SystemExit(f"a check FAILED: {reason}")
    return p


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--checks", type=int, default=12)
    parser.add_argument("--pairs", type=int, help="pairs that the plain loop takes; all of them otherwise")
    options = parser.parse_args()
    import torch

    profile = load_profile("mini")
    # A question that the judge cannot read is as long to judge; the plain loop knows no FAILED.
    profile = profile.model_copy(update={"judge": profile.judge.model_copy(update={"min_label_mass": 0.0})})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        folder.mkdir()
        items = write_pictures(folder, options.images, options.checks)
        plain = open_plain(profile)
        every = [(i, n) for i in range(len(items)) for n in range(options.checks)]
        wanted = min(options.pairs or len(every), len(every))
        taken = [every[k * len(every) // wanted] for k in range(wanted)]
        plain(folder / f"{items[0].id}.png", items[0].questions[0].check.question)
        # Half of the plain loop before the runner and half after it: whatever else the machine does meets both.
        probabilities: dict[tuple[int, int], float] = {}
        theirs, ours = Stopwatch(), Stopwatch()

        def loop(some: list[tuple[int, int]]) -> None:
            with theirs:
                for i, n in some:
                    probabilities[i, n] = plain(folder / f"{items[i].id}.png", items[i].questions[n].check.question)

        loop(taken[: len(taken) // 2])
        answers = asyncio.run(run_suite(profile, folder, Path(place) / "out", items, ours))
        loop(taken[len(taken) // 2 :])
    times = len(every) / len(taken)
    apart = max(abs(p - answers[i][n]) for (i, n), p in probabilities.items())
    sampled = "" if len(taken) == len(every) else f", reckoned from {len(taken)} of {len(every)} pairs"
    print(f"pictures x checks          {len(items)} x {options.checks}, {torch.get_num_threads()} threads")
    print(f"one generate a pair        {theirs.wall * times:8.1f} s, computing {theirs.cpu * times:.1f} s{sampled}")
    print(f"the suites' runner         {ours.wall:8.1f} s, computing {ours.cpu:.1f} s")
    print(f"ratio                      {theirs.wall * times / ours.wall:8.1f} (target {TARGET:g})")
    print(f"ratio in computing         {theirs.cpu * times / ours.cpu:8.1f}")
    print(f"largest difference in p    {apart:8.1e} over {len(probabilities)} answers (target 1e-3)")


if __name__ == "__main__":
    main()
