"""The judge in this process with the picture computed once for all checks, against one whole call for each check.

    python benchmarks/judge_prefix.py [--model FOLDER] [--checks 12] [--images 8] [--repeats 3]

Without --model it takes the judge of the profile `mini`. Times do not depend on what the weights are.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import numpy as np
from PIL import Image

from evaluator.local_judge import TransformersJudge
from evaluator.types import Check, Verdict
from redraft.profiles import JudgeConfig, LocalConfig, ModelConfig, load_profile

COLOURS = ("red", "blue", "green", "yellow", "black", "white")
SHAPES = ("star", "circle", "square", "triangle", "heart", "moon")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a transformers vision-language model")
    parser.add_argument("--checks", type=int, default=12)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3, help="the best time of so many counts")
    options = parser.parse_args()
    checks = tuple(
        Check("entity_layout", f"Is the {a} {s} to the left of the {b} {t}?")
        for a, s, b, t in (
            (COLOURS[i % 6], SHAPES[(i + i // 6) % 6], COLOURS[(i + 1) % 6], SHAPES[(i + 2) % 6])
            for i in range(options.checks)
        )
    )
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)) for _ in range(options.images)]
    judge = load_profile("mini").judge
    model = options.model or judge.model.model
    judge = _with_model(judge, model).model_copy(update={"min_label_mass": 0.0})
    asyncio.run(_compare(judge, model, images, checks, options.repeats))


def _with_model(config: JudgeConfig, place: str) -> JudgeConfig:
    """One picture at a time, for both sides."""
    local = LocalConfig(device=config.model.local.device, dtype=config.model.local.dtype, micro_batch=1)
    return config.model_copy(update={"model": ModelConfig(kind="transformers", model=place, local=local)})


async def _compare(
    config: JudgeConfig, model: str, images: list[Image.Image], checks: tuple[Check, ...], repeats: int
) -> None:
    judges = {way: TransformersJudge(config, shared_prefix=way) for way in (True, False)}
    times = dict.fromkeys(judges, float("inf"))
    answers: dict[bool, list[list[Verdict]]] = {}
    for way, judge in judges.items():
        await judge(images[0], "", checks)  # loads and warms up
        if judge.shares_prefix is not way:
            raise SystemExit(f"{model}: the shared prefix does not give what single calls give; see the warning above")
    for _ in range(repeats):
        for way, judge in judges.items():  # in turns, so that whatever else the machine does slows both
            start = time.perf_counter()
            answers[way] = [await judge(image, "", checks) for image in images]
            times[way] = min(times[way], (time.perf_counter() - start) / len(images))
    for judge in judges.values():
        await judge.aclose()
    apart = max(
        abs(_p(one) - _p(other))
        for row, other_row in zip(answers[True], answers[False], strict=True)
        for one, other in zip(row, other_row, strict=True)
    )
    print(f"model                       {model}")
    print(f"pictures x checks           {len(images)} x {len(checks)}, best of {repeats}")
    print(f"one call per check          {times[False] * 1000:8.1f} ms a picture")
    print(f"picture computed once       {times[True] * 1000:8.1f} ms a picture")
    print(f"ratio                       {times[False] / times[True]:8.1f} (target 5)")
    print(f"largest difference in p     {apart:8.1e}")


def _p(verdict: Verdict) -> float:
    if verdict.probability is None:
        raise SystemExit(f"a check FAILED: {verdict.reason}")
    return verdict.probability


if __name__ == "__main__":
    main()
