"""A server in a process of its own, to be killed: `python -m tests.serve.serve_driver DATA PORT SECONDS DRAIN`.

Its models are fakes; its backend takes SECONDS for each call, in steps, and longer as long as there is a file REDRAFT_TEST_GATE.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from agent.serve.command import run_server
from agent.serve.metrics import Metrics, set_up_logs
from agent.serve.settings import Bounds, ServerSettings, read_tokens
from agent.testing import paint
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from redraft.limits import Limits
from tests.serve.fakes import fake_served


class Slow(FakeBackend):
    def __init__(self, seconds: float) -> None:
        super().__init__(paint=paint)
        self._seconds = seconds
        self._gate = Path(os.environ["REDRAFT_TEST_GATE"])

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        for step in range(10):
            while self._gate.exists():
                time.sleep(0.01)
                if on_step is not None:
                    on_step(step, 10)
            time.sleep(self._seconds / 10)
            if on_step is not None:
                on_step(step + 1, 10)
        return super().render(tasks, on_step)


def move_clock(seconds: float) -> None:
    """Moves the wall clock of this process."""
    ns, s = time.time_ns, time.time
    time.time_ns = lambda: ns() + int(seconds * 1e9)
    time.time = lambda: s() + seconds


def main(data: Path, port: int, seconds: float, drain_s: float) -> None:
    move_clock(float(os.environ.get("REDRAFT_TEST_CLOCK", "0")))
    set_up_logs(with_prompts=True)
    metrics = Metrics()
    settings = ServerSettings(
        data=data, port=port, database=os.environ.get("REDRAFT_DATABASE_URL"),
        images=os.environ.get("REDRAFT_IMAGES_URL"), tokens=read_tokens(os.environ) or None,
        bounds=replace(Bounds(), drain_s=drain_s),
    )  # fmt: skip
    limits = Limits(max_rounds=3, max_images=6, patience=5)
    served = fake_served(metrics, backend=Slow(seconds), limits=limits, batch_size=8)
    asyncio.run(run_server(settings, [served], metrics))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
