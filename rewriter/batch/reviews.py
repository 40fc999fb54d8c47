"""Reviews in other processes: reading and checking replies takes most of a batch's time if the engine is fast.

The workers are separate programs that talk over pipes. They end when their pipe does, so that a killed run leaves none
behind; and they never import the script that started the batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from redraft.chat import ChatReply
from redraft.errors import BackendError
from redraft.processes import isolated_command
from rewriter.reply import Review, Rules, review

_BATCH = 64
"""Reviews in one message to a worker: some tens of milliseconds of work."""
_GATHER_S = 0.002
_HEAD = struct.Struct("!I")
_START = "from rewriter.batch.reviews import worker; worker()"

_Job = tuple[str, ChatReply, "asyncio.Future[Review]"]


class ReviewPool:
    """A Reviewer for a batch. The first `inline` replies are read here; worker processes start when more come.

    Belongs to one event loop. Raises BackendError if a worker dies.
    """

    def __init__(self, rules: Rules, workers: int, inline: int = 1000) -> None:
        self._rules = rules
        self._workers = workers
        self._inline = inline if workers else None
        self._seen = 0
        self._jobs: list[_Job] = []
        self._queue: asyncio.Queue[list[_Job]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, request: str, reply: ChatReply) -> Review:
        self._seen += 1
        if self._inline is None or self._seen <= self._inline:
            return review(request, reply, self._rules)
        loop = asyncio.get_running_loop()
        if not self._tasks:
            self._tasks = [loop.create_task(self._serve()) for _ in range(self._workers)]
        answer: asyncio.Future[Review] = loop.create_future()
        self._jobs.append((request, reply, answer))
        if len(self._jobs) >= _BATCH:
            self._send()
        elif self._timer is None:
            self._timer = loop.call_later(_GATHER_S, self._send)
        return await answer

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._jobs:
            self._queue.put_nowait(self._jobs)
            self._jobs = []

    async def _serve(self) -> None:
        jobs: list[_Job] = []
        process: asyncio.subprocess.Process | None = None
        try:
            process = await asyncio.create_subprocess_exec(
                *isolated_command(_START),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the run, which ends its workers
            )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(_packed(self._rules))
            while True:
                jobs = await self._queue.get()
                process.stdin.write(_packed([(request, reply) for request, reply, _ in jobs]))
                await process.stdin.drain()
                size = _HEAD.unpack(await process.stdout.readexactly(_HEAD.size))[0]
                for (_, _, answer), read in zip(
                    jobs, pickle.loads(await process.stdout.readexactly(size)), strict=True
                ):
                    if not answer.done():
                        answer.set_result(read)
                jobs = []
        except (OSError, EOFError) as error:  # IncompleteReadError is an EOFError
            # This task goes on to tell everyone who waits, now or later.
            failure = BackendError(f"a worker process that reads replies ended ({error}); start again with --workers 0")
            while True:
                for _, _, answer in jobs:
                    if not answer.done():
                        answer.set_exception(failure)
                jobs = await self._queue.get()
        finally:
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def worker() -> None:
    """What a worker process does: rules first, then batches, until its input ends."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what anything prints must not get between the answers
    rules = _read(source)
    while (jobs := _read(source)) is not None:
        out.write(_packed(_reviewed(jobs, rules)))
        out.flush()


def _reviewed(jobs: Sequence[tuple[str, ChatReply]], rules: Rules) -> list[Review]:
    return [review(request, reply, rules) for request, reply in jobs]


def _packed(value: object) -> bytes:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return _HEAD.pack(len(data)) + data


def _read(source: BinaryIO) -> Any:
    head = source.read(_HEAD.size)
    return pickle.loads(source.read(_HEAD.unpack(head)[0])) if len(head) == _HEAD.size else None
