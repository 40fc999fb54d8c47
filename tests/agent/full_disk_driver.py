"""Runs whose disk is full for a while, continued in the same process, as a server does: `python full_disk_driver.py BASE STRIDE`.

The environment is that of `tests.full_disk.FullDisk(BASE, BASE / "data")`. At every STRIDE-th moment of a run the disk is full,
for one moment or for thirty. Prints a line of JSON for each: what the run came to when the disk had room again.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

from agent.models import Models
from agent.run import Run
from agent.testing import fake_models
from redraft.errors import RedraftError
from redraft.limits import Limits
from rewriter.testing import FakeRewriter
from tests.agent.loop_runs import FAIR, GOOD, by_word
from tests.full_disk import FullDisk


def models() -> Models:
    return fake_models(by_word(fair=FAIR, good=GOOD), rewriter=FakeRewriter(lambda call: ["a fair circle"]))


async def main(base: Path, stride: int) -> None:
    disk = FullDisk(base, base / "data")
    for moments in (1, 30):
        after = 0
        while True:
            folder = base / "data" / f"{after}-{moments}"
            began = disk.moments
            disk.fill(after, moments)
            kept: list[BaseException] = []  # an error that is looked at keeps alive what its frames hold
            try:
                limits = Limits(max_rounds=1, max_images=2)
                run = Run.start(
                    "three circles",
                    models(),
                    limits=limits,
                    out=folder.parent,
                    folder=folder,
                    seed=1,
                    retry_wait_s=0.01,
                )
                await run.run()
            except (RedraftError, OSError) as error:
                kept.append(error)
            used = disk.moments - began
            disk.free()
            told = {"after": after, "moments": moments, "error": str(kept[0]) if kept else "", "stop": "", "again": ""}
            if (folder / "run.json").is_file():
                started = time.monotonic()
                try:
                    told["stop"] = (await Run.open(folder, models(), retry_wait_s=0.01).run()).stop.value
                except RedraftError as error:
                    told["again"] = f"{type(error).__name__}: {error}"
                told["seconds"] = round(time.monotonic() - started, 1)
            sys.stdout.write(f"{json.dumps(told)}\n")
            sys.stdout.flush()
            with suppress(OSError):
                shutil.rmtree(folder)
            after += stride
            if after > used:
                break


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
