"""The profile small in process: a batch against one prompt at a time, and what it takes of memory.

    redraft get small
    python benchmarks/small_speed.py --rows 24

Prompts of `rewriter/small/prompts.txt` (repeated) go through `Enhancer` in one call, and the first few of them one by one; both
sides use the same rewriter, with its second tries and its guard. The sides take turns, each in a process of its own, so that
each has its own peak of memory. They are compared by words of rewrites, as one side has more rows. Trust the ratio by processor
time; wall time is that of a machine that may do other work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from redraft.errors import RedraftError
from redraft.profiles import load_profile
from rewriter.api import Enhancer
from rewriter.batch.work import Status

PROMPTS = Path(__file__).parents[1] / "rewriter" / "small" / "prompts.txt"


def measure(options: argparse.Namespace) -> dict[str, float]:
    """One side, in this process."""
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()
    count = options.rows if options.side == "batch" else options.alone
    rows = [prompts[at % len(prompts)] + ("" if at < len(prompts) else f", take {at}") for at in range(count)]
    profile = load_profile(options.profile)
    local = profile.rewriter.model.local.model_copy(update={"dtype": options.dtype})
    if options.side == "batch" and options.batch:
        local = local.model_copy(update={"micro_batch": options.batch})
    model = profile.rewriter.model.model_copy(update={"local": local})
    profile = profile.model_copy(update={"rewriter": profile.rewriter.model_copy(update={"model": model})})

    async def work() -> dict[str, float]:
        enhancer = Enhancer(profile, options.target)
        await enhancer.enhance(["a red boat"])  # loads the model
        wall, cpu = time.perf_counter(), time.process_time()
        if options.side == "batch":
            made = await enhancer.enhance(rows)
        else:
            made = [(await enhancer.enhance([row]))[0] for row in rows]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        await enhancer.aclose()
        rewritten = sum(one.status is Status.REWRITTEN for one in made)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        words = sum(len(one.prompt.split()) for one in made)
        return {"rows": count, "rewritten": rewritten, "words": words, "wall_s": wall, "cpu_s": cpu, "peak_gb": peak}

    return asyncio.run(work())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="small")
    parser.add_argument("--target", default="flux")
    parser.add_argument("--rows", type=int, default=24, help="of the batch")
    parser.add_argument("--alone", type=int, default=4, help="rows that are rewritten one at a time")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch", type=int, default=None, help="rows at once; the profile's micro_batch if not given")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--side", choices=["batch", "alone"], help="measure one side in this process, and print JSON")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options)))
        return
    sides: dict[str, list[dict[str, float]]] = {"batch": [], "alone": []}
    for _ in range(options.rounds):
        for side, measured in sides.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
            measured.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    for side, measured in sides.items():
        median = {key: statistics.median(one[key] for one in measured) for key in measured[0]}
        wall, cpu = (60 * median["rows"] / median[key] for key in ("wall_s", "cpu_s"))
        print(
            f"{side:6} {wall:.1f} rows a minute, {cpu:.1f} a minute of processor time, peak {median['peak_gb']:.2f} GB; "
            f"{median['rewritten']:.0f} of {median['rows']:.0f} rewritten, {median['words']:.0f} words"
        )
    for key in ("wall_s", "cpu_s"):
        batch, alone = ([one["words"] / one[key] for one in measured] for measured in sides.values())
        ratios = [a / b for a, b in zip(batch, alone, strict=True)]
        print(
            f"words of a batch to one at a time, by {key[:-2]}: {statistics.median(ratios):.1f} times "
            f"({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    try:
        main()
    except RedraftError as error:
        sys.exit(f"error: {error}")
