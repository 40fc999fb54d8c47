"""Kills a batch with SIGKILL at random moments, goes on, and prints what was left, as one JSON object.

Run by test_batch_kill.py as a program of its own: `python -m tests.rewriter.batch_kill_driver FOLDER SEED`. Children
are forked, so that they cost no new start; the moments are when the records have grown by a random share of what an
uninterrupted run writes, so that every child gets somewhere, however slow the machine is.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from redraft.chat import ChatReply, ChatRequest
from rewriter.batch.engines import FakeEngine
from rewriter.batch.run import Counts, work_path
from tests.rewriter.batches import run, write_jsonl

ROWS, PROMPTS, KILLS = 2400, 2000, 10
MOST = 190
"""Replies that a process gets before the model falls silent: if the machine is too busy to kill it in time, it still
cannot finish, for ten of them have fewer replies than there are prompts."""


class SilentEngine(FakeEngine):
    """A FakeEngine that answers `most` times, and never again."""

    def __init__(self, most: int) -> None:
        super().__init__(window=64, delay_s=0.03, spoil=0.05)
        self._most = most

    async def __call__(self, request: ChatRequest) -> ChatReply:
        if self.requests >= self._most:
            await asyncio.Event().wait()
        return await super().__call__(request)


def child(source: Path, out: Path, *, most: int = 10**9, die_writing: bool = False) -> int:
    """Forks a process that works on the batch. With `die_writing` it kills itself while it writes the output."""

    def tell(counts: Counts) -> None:
        if die_writing and counts.phase == "writing":
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run(source, out, SilentEngine(most), tell=tell, flush_s=0.02)
            code = 0
        finally:
            os._exit(code)
    return pid


def killed(pid: int) -> bool:
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def written(out: Path) -> int:
    """Bytes of records that a batch has written, finished or not."""
    return sum(path.stat().st_size for path in work_path(out).glob("records-*"))


def main(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    rows = [{"id": at, "prompt": f"a fox with sign {at % PROMPTS}"} for at in range(ROWS)]
    source, whole, out = write_jsonl(folder / "in.jsonl", rows), folder / "whole.jsonl", folder / "out.jsonl"
    assert not killed(child(source, whole))
    in_all = written(whole)
    kills, sizes = 0, [0]
    for _ in range(KILLS):
        pid = child(source, out, most=MOST)
        enough = sizes[-1] + in_all * rng.uniform(0.01, 0.08)
        deadline = time.monotonic() + 20
        while written(out) < enough and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        kills += killed(pid)
        sizes.append(written(out))
        assert not out.exists(), "the output appears when it is whole"
    kills += killed(child(source, out, die_writing=True))
    assert not out.exists()
    assert not killed(child(source, out))
    lines = [line for path in work_path(out).glob("records-*") for line in path.read_bytes().split(b"\n")[:-1] if line]
    keys = Counter(entry["key"] for entry in map(json.loads, lines) if "key" in entry)
    left = {
        "kills": kills,
        "sizes": sizes,
        "same": out.read_bytes() == whole.read_bytes(),
        "rows": len(out.read_bytes().splitlines()),
        "prompts": len(keys),
        "twice": sum(count > 1 for count in keys.values()),
        "parts": len(list(folder.glob(".*.part"))),
    }
    print(json.dumps(left))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
