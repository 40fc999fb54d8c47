"""What the loop itself costs: rounds with fakes instead of models, with SQLite checkpoints and the journal on disk.

    python benchmarks/loop_overhead.py [--rounds 50] [--images 2] [--checks 12]

Prints the time of the first ten and of the last ten rounds, from decision to decision. Target: under 20 ms a round, and
flat: the ratio stays near 1 however many attempts there are. The pictures are 64 x 64; writing larger PNG files takes
longer, and is work that the picture needs, not the loop. On a busy machine look at the CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from agent.events import Decided
from agent.run import Run
from agent.testing import fake_models
from evaluator.types import Check
from redraft.limits import Limits


async def measure(out: Path, rounds: int, images: int, checks: int) -> list[tuple[float, float]]:
    """(wall, CPU) seconds of each round but the first, which also makes the checklist."""
    listed = tuple(
        Check("counting", f"Is thing number {index} in the picture as it was asked for?") for index in range(checks)
    )
    answers = tuple(0.4 + index / 100 for index in range(checks))
    limits = Limits(
        accept_at=1.0, max_rounds=rounds, max_images=rounds * images, patience=rounds, images_per_round=images
    )
    models = fake_models(lambda prompt, seed: answers, checks=listed)
    session = Run.start("three red circles above a blue star", models, limits=limits, out=out, seed=1)
    stamps = [
        (time.perf_counter(), time.process_time()) async for event in session.stream() if isinstance(event, Decided)
    ]
    return [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(stamps)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--checks", type=int, default=12)
    parser.add_argument("--out", type=Path, help="folder on the disk to measure; the system's temporary one otherwise")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
        seconds = asyncio.run(measure(Path(folder), arguments.rounds, arguments.images, arguments.checks))
        states = sum(path.stat().st_size for path in Path(folder).glob("*/state/*") if path.is_file())
    print(f"{arguments.rounds} rounds of {arguments.images} images and {arguments.checks} checks")
    for name, column in (("wall", 0), ("CPU", 1)):
        taken = [1000 * pair[column] for pair in seconds]
        first, last = statistics.median(taken[:10]), statistics.median(taken[-10:])
        median = statistics.median(taken)
        ends = f"first ten {first:.1f}, last ten {last:.1f} ({last / first:.2f} x)"
        print(f"{name:4} ms a round: median {median:.1f}, {ends}")
    print(f"checkpoints and journal on disk  {states / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
