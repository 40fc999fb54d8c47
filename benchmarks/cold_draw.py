"""Time from the command to the picture: `redraft draw` with the mini profile in a fresh process, against importing the
libraries that it draws with.

    python benchmarks/cold_draw.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

TARGET_S = 20.0
PROMPT = "a tiny red star to the left of a big blue circle, on mint paper"


def seconds(command: list[str]) -> float:
    """Wall time of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        draw = [sys.executable, "-m", "agent.cli", "draw", PROMPT, "--seed", "7", "--out", folder]
        imports = [sys.executable, "-c", "import torch, transformers, diffusers.pipelines, langgraph.graph"]
        pairs = [(seconds(imports), seconds(draw)) for _ in range(repeats)]
    baseline = statistics.median(pair[0] for pair in pairs)
    drawn = statistics.median(pair[1] for pair in pairs)
    print(f"importing the libraries: {baseline:.1f} s, a drawing: {drawn:.1f} s, ratio {drawn / baseline:.1f}x")
    print(f"target for a drawing: {TARGET_S:g} s: {'met' if drawn <= TARGET_S else 'missed'}")


if __name__ == "__main__":
    main()
