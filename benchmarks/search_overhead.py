"""What a strategy costs by itself: a move at so many attempts, decision and view included; and what drafts gain by being
one batch.

    python benchmarks/search_overhead.py [--attempts 1000] [--checks 12] [--drafts 8] [--profile mini]

Target: a move takes less than 5 ms at 1,000 attempts. The ratio is the time of a round of drafts drawn one at a time over
that of the same drafts in one call.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

from agent.decide import decide
from agent.strategies import Strategy, View
from agent.strategies.choose import open_strategy
from agent.types import Attempt, cost_of
from editors.backend import ImageTask, open_backend, render
from editors.testing import FakeBackend
from evaluator.types import Check, Outcome, Report, Verdict
from redraft.limits import Limits
from redraft.profiles import SEARCHES, SearchConfig, load_profile
from rewriter.types import Rewrite


def list_attempts(count: int, checks: int) -> dict[str, Attempt]:
    """Rounds of a draft and of two whole pictures."""
    listed = [Check("counting", f"Is thing number {n} there?") for n in range(checks)]
    attempts = {}
    for index in range(count):
        p = 0.3 + index % 17 / 40
        verdicts = tuple(Verdict(check, Outcome.SCORED, p, 1.0) for check in listed)
        attempts[f"key {index}"] = Attempt(
            index // 3 * 2 + (index % 3 > 0) + 1,
            "generate",
            f"prompt {index % 5}",
            index,
            f"{index:064x}",
            None,
            Report(verdicts, p, 0),
            draft=index % 3 == 0,
            denoiser_steps=6,
        )
    return attempts


def move_ms(strategy: Strategy, attempts: dict[str, Attempt], latest: int, repeat: int = 20) -> float:
    """Milliseconds from the attempts to the next move: decision, account, move."""
    limits = Limits(accept_at=1.0, max_images=10_000, max_rounds=1000, patience=1000, max_steps=10**6)
    listed = list(attempts.values())
    view = View(
        "a red star",
        7,
        limits,
        round=listed[-1].round + 1,
        attempts=attempts,
        latest=dict(list(attempts.items())[-latest:]),
        rewrites=(Rewrite("two red stars"),),
        backends={"": FakeBackend(steps=30), "other": FakeBackend(steps=30)},
        checks=tuple(verdict.check for verdict in listed[0].report.verdicts),
    )
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        decide(listed, limits, 1.0)
        strategy(replace(view, spent=cost_of(listed, 1.0)))
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def draft_ratio(profile: str, drafts: int, repeat: int = 5) -> tuple[float, float]:
    """Seconds of a round of drafts in one call, and one at a time."""
    backend = open_backend(load_profile(profile).need_generator())
    tasks = [ImageTask("two red stars above blue circle", seed, effort=0.2) for seed in range(drafts)]
    render(backend, tasks)
    together, alone = [], []
    for _ in range(repeat):
        started = time.perf_counter()
        render(backend, tasks)
        together.append(time.perf_counter() - started)
        started = time.perf_counter()
        for task in tasks:
            render(backend, [task])
        alone.append(time.perf_counter() - started)
    return statistics.median(together), statistics.median(alone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--checks", type=int, default=12)
    parser.add_argument("--drafts", type=int, default=8)
    parser.add_argument("--profile", default="mini")
    arguments = parser.parse_args()
    attempts = list_attempts(arguments.attempts, arguments.checks)
    for name in SEARCHES:
        strategy = open_strategy(SearchConfig.model_validate({"strategy": name}))
        print(f"{name:8} {move_ms(strategy, attempts, latest=1):6.2f} ms a move at {arguments.attempts} attempts")
    together, alone = draft_ratio(arguments.profile, arguments.drafts)
    print(
        f"{arguments.drafts} drafts in one batch {1000 * together:.0f} ms, one at a time {1000 * alone:.0f} ms: "
        f"ratio {alone / together:.1f}"
    )


if __name__ == "__main__":
    main()
