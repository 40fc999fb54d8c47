"""How often the mini judge is right on photographs of the sheets, and of those answers of which it is sure, by the oracle.

python -m mini.judge.photographs [--count 64] [--seed 905]
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

import numpy as np

from evaluator.judge import open_judge
from evaluator.types import Check
from mini.judge.write_records import Drawn, drawn, judged, photograph
from mini.training import console
from redraft.profiles import load_profile

STRENGTHS = (0.0, 0.15, 0.3, 0.45, 0.6)
SURE = 0.9


async def measure(
    count: int, seed: int, strengths: Sequence[float] = STRENGTHS
) -> list[tuple[float, int, float, float, float]]:
    """A row for each strength: itself, answers, share right, share sure, share right of the sure. The judge answers
    with its second reader, without the reader of words."""
    judge = open_judge(load_profile("mini").need_judge().model_copy(update={"tools": ()}))
    rng = np.random.default_rng((seed, 77))
    items = [(one, judged(rng, one)) for one in drawn(rng, count)]
    rows = []
    for strength in strengths:
        spoil = np.random.default_rng(1)

        async def ask(
            one: Drawn,
            checks: list[tuple[str, str, bool]],
            strength: float = strength,
            spoil: np.random.Generator = spoil,
        ) -> list[tuple[float, bool]]:
            image = photograph(spoil, one.image, strength)
            verdicts = await judge(image, one.wording.text, [Check(point, question) for point, question, _ in checks])
            pairs = zip(verdicts, checks, strict=True)
            return [(v.probability, truth) for v, (_, _, truth) in pairs if v.probability is not None]

        answers = [answer for some in await asyncio.gather(*(ask(*item) for item in items)) for answer in some]
        p = np.array([probability for probability, _ in answers])
        right = (p >= 0.5) == np.array([truth for _, truth in answers])
        sure = (p >= SURE) | (p <= 1 - SURE)
        rows.append((strength, len(answers), float(right.mean()), float(sure.mean()), float(right[sure].mean())))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mini.judge.photographs", description="Measures the judge on photographs."
    )
    parser.add_argument("--count", type=int, default=64, help="pictures")
    parser.add_argument("--seed", type=int, default=905)
    options = parser.parse_args(argv)
    for strength, answers, right, sure, of_sure in asyncio.run(measure(options.count, options.seed)):
        console.print(
            f"{strength:g}: {answers} answers, right {right:.3f}, sure {sure:.3f}, right of the sure {of_sure:.3f}"
        )


if __name__ == "__main__":
    main()
