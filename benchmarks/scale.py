"""What a rack would do: a simulation of 8, 64 and 512 GPUs that rewrite, draw and judge a million prompts, and which part of
it is the bottleneck. Its model is checked against real runs of one and two local workers.

    python benchmarks/scale.py                           # the simulation, with the service times below
    python benchmarks/scale.py --rewrite 1.8 --draw 3.2 --judge 0.9   # GPU-seconds of a prompt that you measured
    python benchmarks/scale.py --check                   # 1 and 2 worker processes of `redraft draw --prompts`'s machinery

The model. A prompt passes three stations in turn: rewriters, image models, judges. A station has so many GPUs, each takes
`slots` prompts at once (a batch) and needs a time for each that is log-normal about its mean; a client keeps so many prompts
in flight, and needs some CPU for each (measured: `redraft draw --prompts`, see `client_s`), which one process does one after
the other. So the bottleneck is the rewriter, the generator, the judge or the client; the client's shares (`--shard i/n`) split
it. Service times of real models are INPUT, not measured here: the defaults are round figures for Z-Image-Turbo at 8 steps,
Qwen3-8B and Qwen3-VL-8B on a GPU of 80 GB, to be replaced by yours.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import math
import multiprocessing
import random
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STATIONS = ("client", "rewrite", "draw", "judge")


@dataclass(frozen=True)
class Station:
    """`servers` that take `slots` prompts at once, each for `seconds` in the mean with the coefficient of variation `spread`."""

    servers: int
    slots: int
    seconds: float
    spread: float = 0.3

    @property
    def rate(self) -> float:
        """Prompts a second at most."""
        return self.servers * self.slots / self.seconds if self.seconds else float("inf")


@dataclass(frozen=True)
class Outcome:
    seconds: float
    rate: float
    """Prompts a second in the middle, from 20% to 80% of them: without the start and the end."""
    busy: dict[str, float]
    """The share of its slots that each station used."""

    @property
    def bottleneck(self) -> str:
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(stations: dict[str, Station], prompts: int, in_flight: int, *, seed: int = 0) -> Outcome:
    """Event by event: prompts pass the stations in their order, first come, first served, and a new one begins when one ends."""
    rng = random.Random(seed)
    names = list(stations)
    free = {name: station.servers * station.slots for name, station in stations.items()}
    lines: dict[str, deque[int]] = {name: deque() for name in names}
    used = dict.fromkeys(names, 0.0)
    events: list[tuple[float, int, int]] = []
    now, begun, done, order = 0.0, 0, 0, 0
    marks, passed = (max(1, prompts // 5), max(2, prompts * 4 // 5)), list[float]()

    def start(at: int) -> None:
        nonlocal order
        name = names[at]
        while free[name] and lines[name]:
            lines[name].popleft()
            free[name] -= 1
            seconds = draw_time(stations[name], rng)
            used[name] += seconds
            order += 1
            heapq.heappush(events, (now + seconds, order, at))

    while done < prompts:
        while begun < prompts and begun - done < in_flight:
            begun += 1
            lines[names[0]].append(begun)
        start(0)
        now, _, at = heapq.heappop(events)
        free[names[at]] += 1
        if at + 1 < len(names):
            lines[names[at + 1]].append(0)
            start(at + 1)
        else:
            done += 1
            if done in marks:
                passed.append(now)
        start(at)
    busy = {name: used[name] / (now * station.servers * station.slots) for name, station in stations.items()}
    rate = (
        (marks[1] - marks[0]) / (passed[-1] - passed[0])
        if len(passed) == 2 and passed[1] > passed[0]
        else prompts / now
    )
    return Outcome(now, rate, busy)


def draw_time(station: Station, rng: random.Random) -> float:
    """Log-normal with the station's mean and coefficient of variation."""
    if not station.seconds or not station.spread:
        return station.seconds
    sigma = math.sqrt(math.log(1 + station.spread**2))
    return station.seconds * rng.lognormvariate(-sigma * sigma / 2, sigma)


def split(gpus: int, seconds: dict[str, float]) -> dict[str, int]:
    """GPUs of each station in proportion to the GPU-seconds of a prompt, one at least."""
    total = sum(seconds.values())
    shares = {name: max(1, round(gpus * value / total)) for name, value in seconds.items()}
    while sum(shares.values()) != gpus:
        over = sum(shares.values()) > gpus
        fit = {name: shares[name] / (seconds[name] or 1e-9) for name in shares if not over or shares[name] > 1}
        name = max(fit, key=lambda name: fit[name]) if over else min(fit, key=lambda name: fit[name])
        shares[name] += -1 if over else 1
    return shares


def rack(options: argparse.Namespace) -> None:
    gpu_seconds = {"rewrite": options.rewrite, "draw": options.draw, "judge": options.judge}
    slots = {"rewrite": 64, "draw": 4, "judge": 32}
    print(f"a million prompts, a picture each; GPU-seconds of one: {gpu_seconds}; client {options.client_s} s")
    for gpus in options.gpus:
        for shards in sorted({1, max(1, gpus // 8)}):
            servers = split(gpus, gpu_seconds)
            stations = {"client": Station(shards, 1, options.client_s)}
            for name, count in servers.items():
                stations[name] = Station(count, slots[name], gpu_seconds[name] * slots[name])
            flying = sum(3 * station.servers * station.slots for station in stations.values())
            found = simulate(stations, max(options.sample, 6 * flying), flying)
            hours = 1e6 / found.rate / 3600
            shares = " ".join(f"{name} {found.busy[name]:.0%}" for name in STATIONS)
            print(
                f"{gpus:4d} GPUs ({servers['rewrite']} rewrite, {servers['draw']} draw, {servers['judge']} judge), "
                f"{shards:2d} shares: {found.rate:6.1f}/s, {hours:6.1f} h; busy: {shares}; bottleneck: {found.bottleneck}",
                flush=True,
            )


# The check: the same machinery with models that only wait, in real processes


def check(options: argparse.Namespace) -> None:
    """One and two processes, each with a share of the prompts and one image slot, against what the model says of them."""
    count, slots = options.prompts, 2
    client_s = measure_client(options.prompts)
    print(f"client: {client_s * 1000:.1f} ms of a prompt, measured by waits of 0 s")
    for workers in (1, 2):
        seconds = run_workers(workers, count, slots, options.wait)
        stations = {
            "client": Station(workers, 1, client_s),
            "draw": Station(workers, slots, options.wait, spread=0.0),
        }
        model = simulate(stations, count, 8 * workers)
        print(
            f"{workers} worker(s), {count} prompts, {options.wait} s a picture: ran {seconds:.2f} s, the model says "
            f"{model.seconds:.2f} s ({seconds / model.seconds - 1:+.0%})",
            flush=True,
        )


def measure_client(count: int) -> float:
    return run_workers(1, count, 2, 0.0) / count


def run_workers(workers: int, count: int, slots: int, wait: float) -> float:
    """The longest time that a worker needed for its share, from its first prompt to its last row."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, context.Pool(workers) as pool:
        source = Path(folder) / "prompts.txt"
        source.write_text("\n".join(f"a red circle number {at}" for at in range(count)) + "\n")
        shares = [(str(source), folder, at + 1, workers, slots, wait) for at in range(workers)]
        return max(pool.map(work, shares, chunksize=1))


def work(share: tuple[str, str, int, int, int, float]) -> float:
    """A share of `redraft draw --prompts` whose generator waits."""
    from agent.draw_batch import PictureMaker, ServedPainter
    from editors.testing import FakeBackend
    from rewriter.batch.run import BatchPlan, run_batch
    from rewriter.batch.tables import open_source
    from rewriter.batch.work import Record, Shard, Status, WorkFolder

    source, folder, index, workers, slots, wait = share

    class Waiting(FakeBackend):
        def render(self, tasks: Sequence, on_step=None) -> list:  # type: ignore[type-arg,no-untyped-def]
            time.sleep(wait)
            return super().render(tasks, on_step)

    async def keep(request: str, key: bytes) -> Record:
        return Record(status=Status.KEPT, prompt=request, seed=1)

    async def run() -> float:
        shard = Shard(index, workers)
        plan = BatchPlan({}, ("request", "prompt", "image"), shard=shard)
        painter = ServedPainter(Waiting(), slots)
        maker = PictureMaker(keep, painter, Path(folder))
        started = time.perf_counter()
        with WorkFolder(Path(folder) / f"work{workers}", shard) as opened:
            await run_batch(open_source(source), Path(folder) / f"{index}.jsonl", opened, plan, maker, window=8)
        seconds = time.perf_counter() - started
        await painter.aclose()
        return seconds

    return asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--rewrite", type=float, default=0.15, help="GPU-seconds of a prompt")
    parser.add_argument("--draw", type=float, default=2.5)
    parser.add_argument("--judge", type=float, default=0.4)
    parser.add_argument("--client-s", type=float, default=0.025, help="seconds of the client's CPU for a prompt")
    parser.add_argument("--sample", type=int, default=20_000, help="prompts that are simulated, at least")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--prompts", type=int, default=60, help="of the check")
    parser.add_argument("--wait", type=float, default=0.2, help="seconds of a picture in the check")
    options = parser.parse_args()
    check(options) if options.check else rack(options)


if __name__ == "__main__":
    main()
