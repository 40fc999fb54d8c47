"""A million rows through `redraft enhance` with an engine that answers at once: what the batch itself costs.

    python benchmarks/enhance_rows.py [--rows 1000000] [--workers 1] [--out FOLDER]

Reading, hashing, the index of what is done, template, parsing, guard, target, records on disk, and the output in order:
all real, only the model is not. Prints rows a second, overall and for the first and the last tenth of the rewriting
(their ratio should stay near 1), CPU microseconds a row, and the most memory that all processes held together.
Target: 5,000 rows a second on two idle cores with at most 300 MB. On a busy machine look at the CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import tempfile
import threading
import time
from pathlib import Path

from redraft.profiles import ModelConfig, RewriterConfig
from rewriter.batch.engines import FakeEngine
from rewriter.batch.maker import Maker, open_kit, own_columns
from rewriter.batch.run import BatchPlan, Counts, run_batch, work_path
from rewriter.batch.tables import open_source
from rewriter.batch.work import WHOLE, WorkFolder

LOOKS = ("red", "tiny", "old", "glass", "golden", "wooden", "striped", "giant", "rusty", "pale")
THINGS = ("fox", "castle", "teapot", "bicycle", "lighthouse", "violin", "robot", "orange tree", "clock", "ship")
PLACES = ("by the sea", "in a library", "on a hill at dusk", "under a bridge", "at a night market", "in the snow")
STYLES = ("", ", watercolor", ", oil painting", ", photo", ", pencil sketch", ", woodcut")


def write_prompts(path: Path, rows: int) -> None:
    """Prompts of 40 to 90 characters, some with numbers, quoted text and negations; one in twenty comes twice."""
    rng = random.Random(0)
    with path.open("w") as file:
        for at in range(rows):
            number = at if at % 20 else at // 2
            rng.seed(number)
            some = f"a {rng.choice(LOOKS)} {rng.choice(THINGS)} and a {rng.choice(LOOKS)} {rng.choice(THINGS)}"
            sign = f', with a sign "No. {number % 977}"'
            extra = ("", "", "", "", sign, ", three birds above", ", no people")[number % 7]
            prompt = f"{some} {rng.choice(PLACES)}{extra}{rng.choice(STYLES)}, take {number}"
            file.write(f'{{"id": {at}, "prompt": "{prompt.replace(chr(34), chr(92) + chr(34))}"}}\n')


class Memory(threading.Thread):
    """Watches what this process and its children hold, shared pages counted once (PSS, where the system tells it)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.samples: list[tuple[float, float]] = []

    def run(self) -> None:
        while not self.ended.wait(1.0):
            self.samples.append((time.monotonic(), held_mb()))


def held_mb() -> float:
    me = str(os.getpid())
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if me not in (folder.name, parent):
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration, IndexError):
            continue
    return total / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="folder on the disk to measure; the system's temporary one otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        measure(Path(name), options.rows, options.workers)


def measure(folder: Path, rows: int, workers: int) -> None:
    source, out = folder / "in.jsonl", folder / "out.jsonl"
    write_prompts(source, rows)
    config = RewriterConfig(model=ModelConfig(kind="transformers", model="fake"))
    marks: list[tuple[float, int, str]] = []
    memory = Memory()

    def tell(counts: Counts) -> None:
        marks.append((time.monotonic(), counts.done if counts.phase == "rewriting" else counts.rows, counts.phase))

    async def go() -> Counts:
        kit = open_kit(config, target="generic", engine=FakeEngine(window=1024), workers=workers)
        plan = BatchPlan(kit.settings, own_columns(kit.target, thought=False, n=1, scored=False))
        try:
            with WorkFolder(work_path(out), WHOLE) as work:
                maker = Maker(kit.rewriter, plan.keys)
                return await run_batch(open_source(str(source)), out, work, plan, maker, window=1024, notify=tell)
        finally:
            await kit.aclose()

    memory.start()
    started = time.monotonic()
    counts = asyncio.run(go())
    seconds = time.monotonic() - started
    memory.ended.set()
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = [1e6 * (usage.ru_utime + usage.ru_stime) / rows for usage in spent]
    rewriting = [(at, done) for at, done, phase in marks if phase == "rewriting"]
    first, last = rate(rewriting, 0.0, 0.1), rate(rewriting, 0.9, 1.0)
    peaks = [
        max((mb for at, mb in memory.samples if part(rewriting, at, *share)), default=0.0)
        for share in ((0, 0.1), (0.9, 1))
    ]
    ends = f"first tenth {first:,.0f}, last tenth {last:,.0f} ({last / max(first, 1e-9):.2f} x)"
    print(f"{rows:,} rows, {counts.requests:,} different prompts, {workers} worker processes: {seconds:.0f} s")
    print(f"rows/s        {rows / seconds:9,.0f}   {ends}")
    print(f"CPU us a row  {sum(cpu):9,.0f}   main {cpu[0]:,.0f}, workers {cpu[1]:,.0f}")
    busiest = max(cpu[0], cpu[1] / max(1, workers))
    print(f"rows/s on two idle cores, by CPU time: at most {2e6 / max(sum(cpu), 2 * busiest):,.0f}")
    most = max((mb for _, mb in memory.samples), default=held_mb())
    print(f"memory MB     {most:9,.0f}   first tenth {peaks[0]:,.0f}, last tenth {peaks[1]:,.0f}")


def part(marks: list[tuple[float, int]], at: float, start: float, end: float) -> bool:
    total = marks[-1][1]
    times = [moment for moment, done in marks if start * total <= done <= end * total]
    return bool(times) and times[0] <= at <= times[-1]


def rate(marks: list[tuple[float, int]], start: float, end: float) -> float:
    total = marks[-1][1]
    some = [(moment, done) for moment, done in marks if start * total <= done <= end * total]
    if len(some) < 2:  # too few rows to tell
        return 0.0
    return (some[-1][1] - some[0][1]) / max(some[-1][0] - some[0][0], 1e-9)


if __name__ == "__main__":
    main()
