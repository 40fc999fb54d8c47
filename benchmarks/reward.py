"""What running all criteria at once is worth: the reward of a round against the same criteria one after the other.

    python benchmarks/reward.py [--pictures 16] [--latency-ms 50] [--limit 16]
    python benchmarks/reward.py --mini

Without --mini, four fakes that answer after `--latency-ms`, under one limit of `--limit` calls as a run has it. "one by one":
every call waits for the one before. "by criterion": each criterion looks at all pictures at once, the next begins when it is
through; the limit holds for it too. All three must give the same scores. With --mini the criteria are the shipped judge's
checks, its likeness to a reference by patches and as a whole, and the picture's brightness, on two CPU cores.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from agent.models import CallLimit
from evaluator.combine import open_combine
from evaluator.criteria.checks import Checks
from evaluator.criteria.likeness import Likeness
from evaluator.judge import open_judge
from evaluator.reward import Reward
from evaluator.types import Case, Check, Criterion, Need, Outcome, Reading, Reference, Shot
from redraft.profiles import load_profile

CHECKS = (Check("counting", "Are there exactly two red stars?"), Check("entity_layout", "Is the boat on the left?"))


class Slow:
    """A criterion that answers by the picture's brightness after a while, as one behind a server does."""

    absolute = True
    needs: frozenset[Need] = frozenset()

    def __init__(self, name: str, latency_s: float) -> None:
        self.name = name
        self._latency_s = latency_s

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        await asyncio.sleep(self._latency_s)
        lights = [float(np.asarray(shot.image.convert("L")).mean()) / 255 for shot in shots]
        return [Reading(Outcome.SCORED, light) for light in lights]


async def one_by_one(reward: Reward, case: Case, shots: Sequence[Shot], limit: int) -> list[float | None]:
    rows: list[dict[str, Reading]] = []
    for shot in shots:
        row = {criterion.name: (await criterion(case, [shot]))[0] for criterion, _ in reward.criteria}
        rows.append(row)
    return reward.combine(rows, reward.weights)


async def by_criterion(reward: Reward, case: Case, shots: Sequence[Shot], limit: int) -> list[float | None]:
    calls = CallLimit(limit)
    rows: list[dict[str, Reading]] = [{} for _ in shots]
    for pair in reward.criteria:
        reports = await Reward((pair,), reward.combine)(case, shots, calls=calls)
        for row, report in zip(rows, reports, strict=True):
            name = pair[0].name
            row[name] = Reading(Outcome.SCORED, report.readings[name].value, verdicts=report.verdicts)
    return reward.combine(rows, reward.weights)


async def at_once(reward: Reward, case: Case, shots: Sequence[Shot], limit: int) -> list[float | None]:
    return [report.score for report in await reward(case, shots, calls=CallLimit(limit))]


WAYS = {"one by one": one_by_one, "by criterion": by_criterion, "at once": at_once}


def fakes(latency_s: float) -> tuple[Reward, Case]:
    criteria = tuple((Slow(name, latency_s), 1.0) for name in ("a", "b", "c", "d"))
    return Reward(criteria, open_combine("weighted_sum")), Case("two stars")


def mini() -> tuple[Reward, Case]:
    from mini.judge.embedder import TowerEmbedder
    from mini.world.raster import draw
    from mini.world.scene import CutOut, Scene

    embedder = TowerEmbedder()
    reference = draw(Scene("white", (CutOut("star", "red", "plain", 0.5, 0.5, 0.16),)))
    criteria: tuple[Criterion, ...] = (
        Checks(open_judge(load_profile("mini").need_judge())),
        Likeness(embedder),
        Likeness(embedder, "style", by="whole"),
        Slow("light", 0.0),
    )
    weighted = tuple((criterion, 1.0) for criterion in criteria)
    return Reward(weighted, open_combine("weighted_sum")), Case(
        "two red stars", CHECKS, references=(Reference(reference),)
    )


async def measure(arguments: argparse.Namespace) -> None:
    reward, case = mini() if arguments.mini else fakes(arguments.latency_ms / 1000)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)) for _ in range(arguments.pictures)]
    shots = [Shot((picture,)) for picture in pictures]
    await at_once(reward, case, shots[:1], 1)  # loads the models
    seconds: dict[str, float] = {}
    scores: dict[str, list[float | None]] = {}
    for name, way in WAYS.items():
        taken = []
        for _ in range(arguments.repeats):
            started = time.perf_counter()
            scores[name] = await way(reward, case, shots, arguments.limit)
            taken.append(time.perf_counter() - started)
        seconds[name] = statistics.median(taken)
    same = all(
        np.allclose(np.array(scores[name], float), np.array(scores["at once"], float), atol=1e-4) for name in WAYS
    )
    what = "mini models" if arguments.mini else f"fakes of {arguments.latency_ms:g} ms"
    print(f"four criteria ({what}), {len(shots)} pictures, limit {arguments.limit}, median of {arguments.repeats}")
    for name, taken_s in seconds.items():
        print(f"  {name:12} {1000 * taken_s:8.0f} ms   {taken_s / seconds['at once']:5.2f} x")
    print(f"  same scores: {'yes' if same else 'NO'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mini", action="store_true")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
