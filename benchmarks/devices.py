"""Pictures by several local processes against one (`generator.devices`): the same tasks, each process with one thread.

    python benchmarks/devices.py [--profile mini] [--processes 2] [--images 64] [--batch 8] [--repeats 3]

Prints the best time of each, the ratio, and the load of the machine before, since the ratio is of as many cores as are free.
Loading is left out: each process draws a picture first. The pictures must be the same.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["OMP_NUM_THREADS"] = "1"  # of this process and those that it starts, before torch is imported

from editors.backend import ImageTask, open_backend, render
from editors.devices import DevicesBackend, ProcessDrawer
from redraft.errors import RedraftError
from redraft.profiles import BackendConfig, load_profile

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="mini", help="name or .toml file whose generator draws")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3, help="the best time of so many counts")
    options = parser.parse_args()
    if min(options.processes, options.images, options.batch, options.repeats) < 1:
        parser.error("all numbers are at least 1")
    try:
        config = load_profile(options.profile).need_generator()
        tasks = [ImageTask(f"a {COLOURS[at % 8]} star on white paper", seed=at) for at in range(options.images)]
        load = os.getloadavg()[0]
        one, alone = measure(config, tasks, 1, options)
        several, together = measure(config, tasks, options.processes, options)
    except RedraftError as error:
        raise SystemExit(f"devices: {error}") from None
    print(f"{config.model}: {options.images} pictures, batches of {options.batch}, load {load:.1f} before")
    print(f"1 process    {one:8.3f} s")
    print(f"{options.processes} processes  {several:8.3f} s")
    print(f"ratio        {one / several:8.2f}")
    print(f"the same pictures: {alone == together}")


def measure(
    config: BackendConfig, tasks: list[ImageTask], processes: int, options: argparse.Namespace
) -> tuple[float, list[bytes]]:
    """The best seconds, and the pictures."""
    drawers = [ProcessDrawer(config) for _ in range(processes)]
    backend = DevicesBackend(open_backend(config), drawers, options.batch)
    try:
        for drawer in drawers:
            drawer.render(tasks[:1])
        best, pictures = float("inf"), list[bytes]()
        for _ in range(options.repeats):
            started = time.perf_counter()
            drawn = render(backend, tasks)
            best = min(best, time.perf_counter() - started)
            pictures = [picture.tobytes() for picture in drawn]
    finally:
        backend.close()
    return best, pictures


if __name__ == "__main__":
    main()
