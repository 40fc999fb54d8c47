"""One conversation, each of its processes under another clock, and killed. Prints how it stands at the end.

Run by test_conversation_kills.py as a program of its own: `python chat_clock_driver.py FOLDER WRITES [SECONDS ...]`. A
process dies at its WRITES-th durable write; the clocks of the processes, one after another, are SECONDS ahead, again
and again. Without them there is one process, which is not killed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agent.chat.conversation import Conversation
from redraft.limits import Limits
from tests.agent.test_conversation import models
from tests.agent.test_conversation_kills import REQUESTS, converse, left


async def work(home: Path) -> None:
    if (home / "one").exists():
        chat = Conversation(home, "one", models(), limits=Limits(), profile=None)
    else:
        chat = await Conversation.create(home, "one", models(), limits=Limits())
    await converse(chat, REQUESTS)


def forked(home: Path, clock: int, writes: int) -> bool:
    """True if the process died, False if the conversation came to its end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        written = itertools.count(1)
        ns = time.time_ns

        def fsync(file: object) -> None:
            if next(written) == writes:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            time.time_ns = lambda: ns() + clock * 10**9
            os.fsync = fsync
            asyncio.run(work(home))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def main(home: Path, writes: int, clocks: Sequence[int]) -> None:
    kills = 0
    if clocks:
        kills = next(n for n, clock in enumerate(itertools.cycle(clocks)) if not forked(home, clock, writes))
    else:
        assert not forked(home, 0, 0)
    print(json.dumps({"kills": kills, "left": repr(asyncio.run(left(home)))}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [int(clock) for clock in sys.argv[3:]])
