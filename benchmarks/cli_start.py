"""How long `redraft --help` takes, beside an empty Python: python benchmarks/cli_start.py [--times 20]

Target: under 0.5 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(command: list[str], times: int) -> list[float]:
    """Wall time of each of `times` runs, after one that warms the disk's cache."""
    subprocess.run(command, check=True, capture_output=True)
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - started)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "redraft --help": [sys.executable, "-m", "agent.cli", "--help"],
    }
    for name, command in commands.items():
        taken = seconds(command, times)
        print(f"{name:16} median {statistics.median(taken):.3f} s   worst {max(taken):.3f} s   of {times}")


if __name__ == "__main__":
    main()
