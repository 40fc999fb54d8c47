"""A thread that owns a model of this process and answers calls in batches.

    worker = Worker("painter", lambda jobs: paint([job.request for job in jobs]), size=8)
    picture = await worker.ask("two red stars")        # from any event loop
    picture = worker.submit("two red stars").answer.result()   # from any thread
    await worker.aclose()

Calls wait in line by client: each client that waits gets its turn, however much others have asked for. Calls of one
client are answered in their order.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from redraft.errors import BackendError, RedraftError, one_line

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

GATHER_S = 0.003
"""How long a model's thread waits for companions of a first call; asyncio.gather sends its calls well within it."""


@dataclass(eq=False)
class Job(Generic[Request, Answer]):
    """A call that waits for its answer. `abandoned`: nobody waits for it any more."""

    request: Request
    client: str = ""
    weight: int = 1
    answer: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)
    abandoned: bool = False

    def settle(self, answer: Answer) -> None:
        """Gives the caller its answer, unless it has one."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Raises `error` at the caller, unless it has an answer."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Worker(Generic[Request, Answer]):
    """One thread, which starts with the first call.

    work:         answers a batch of jobs, in the thread: gives their answers in order, or None if it has settled them
                  itself. It may `take` more jobs while it works; None lets it work as long as it likes.
    size:         most weight of a batch; None: all that waits. A job of more is a batch of its own.
    gather_s:     how long the thread waits for companions of a first call.
    retry_alone:  whether jobs that failed together with such an error are tried one by one, so that one bad call fails
                  no other.
    map_error:    what callers get for an error of `work`; if None, a BackendError that names the worker, or the error
                  itself if it is ours.
    interrupt:    makes the batch under way end early, for `close`.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Job[Request, Answer]]], Sequence[Answer] | None],
        *,
        size: int | None = 1,
        gather_s: float = 0.0,
        retry_alone: Callable[[Exception], bool] = lambda error: False,
        map_error: Callable[[BaseException], Exception] | None = None,
        interrupt: Callable[[], None] = lambda: None,
        closed: str = "",
    ) -> None:
        self.name = name
        self._work = work
        self._size = size
        self._gather_s = gather_s
        self._retry_alone = retry_alone
        self._map_error = map_error or self._name_error
        self._interrupt = interrupt
        self._closed_message = closed or f"{name} is closed"
        self._lines: OrderedDict[str, deque[Job[Request, Answer]]] = OrderedDict()
        """By client, the one whose turn it is first; no empty lines."""
        self._held: list[Job[Request, Answer]] = []
        """What the thread is at."""
        self._lock = threading.Lock()
        self._open = True
        # A pool of one, because Python waits for its thread before it tears the libraries down.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"redraft-{name}")

    def submit(self, request: Request, *, client: str = "", weight: int = 1) -> Job[Request, Answer]:
        """Puts a call into its client's line. Raises BackendError if the worker is closed."""
        job: Job[Request, Answer] = Job(request, client=client, weight=weight)
        with self._lock:
            if not self._open:
                raise BackendError(self._closed_message)
            self._lines.setdefault(client, deque()).append(job)
            self._thread.submit(self._answer_waiting)
        return job

    async def ask(self, request: Request, *, client: str = "", weight: int = 1) -> Answer:
        """The answer to a call. Raises what `work` raised, as `map_error` has it, and BackendError if the worker is
        closed. The job of a caller that is cancelled is `abandoned`."""
        job = self.submit(request, client=client, weight=weight)
        try:
            return await asyncio.wrap_future(job.answer)
        except asyncio.CancelledError:
            job.abandoned = True
            raise

    def run(self, call: Callable[[], Result]) -> Future[Result]:
        """Has the thread make a call between two batches."""
        return self._thread.submit(call)

    def take(self) -> list[Job[Request, Answer]]:
        """The next batch: one job of each client in turn, and round again, as long as they fit. For `work`."""
        jobs: list[Job[Request, Answer]] = []
        with self._lock:
            room = self._size
            while self._lines:
                client, line = next(iter(self._lines.items()))
                if jobs and room is not None and line[0].weight > room:
                    break
                job = line.popleft()
                if line:
                    self._lines.move_to_end(client)
                else:
                    del self._lines[client]
                if job.answer.set_running_or_notify_cancel():
                    jobs.append(job)
                    room = None if room is None else room - job.weight
            if jobs:
                self._held = [job for job in self._held if not job.answer.done()] + jobs
        return jobs

    @property
    def waiting(self) -> int:
        """The weight of all that waits."""
        with self._lock:
            return sum(job.weight for line in self._lines.values() for job in line)

    def count_ahead(self, job: Job[Request, Answer]) -> int:
        """The weight of what is answered before a job, as the lines stand: what is under way, and the batches before
        its own. 0 if it is under way itself."""
        with self._lock:
            ahead, batch = sum(held.weight for held in self._held), 0
            lines = deque(deque(line) for line in self._lines.values())
            while lines:
                line = lines.popleft()
                now = line.popleft()
                if batch and self._size is not None and batch + now.weight > self._size:
                    ahead, batch = ahead + batch, 0
                if now is job:
                    return ahead
                batch += now.weight
                if line:
                    lines.append(line)
            return 0

    def withdraw(self, job: Job[Request, Answer]) -> bool:
        """Takes a job out of its line. False if it is under way or done."""
        with self._lock:
            line = self._lines.get(job.client)
            if line is None or job not in line:
                return False
            line.remove(job)
            if not line:
                del self._lines[job.client]
            return True

    @property
    def closed(self) -> bool:
        return not self._open

    def close(self) -> None:
        """Fails what waits, and interrupts what is under way. Does not wait for it."""
        with self._lock:
            self._open = False
            jobs = [job for line in self._lines.values() for job in line]
            self._lines.clear()
        for job in jobs:
            job.fail(BackendError(self._closed_message))
        self._interrupt()
        self._thread.shutdown(wait=False)

    async def aclose(self) -> None:
        """Takes no more calls, and returns when all that were made are answered."""
        with self._lock:
            self._open = False
        await asyncio.to_thread(self._thread.shutdown)

    def _answer_waiting(self) -> None:
        """Answers one batch. Each call submits one of these, so that none is left waiting."""
        if not self._lines:
            return  # an earlier one took them along
        if self._gather_s:
            time.sleep(self._gather_s)
        jobs = self.take()
        if jobs:
            self._answer(jobs)
        with self._lock:
            self._held = []

    def _answer(self, jobs: Sequence[Job[Request, Answer]]) -> None:
        try:
            answers = self._work(jobs)
            if answers is not None:
                for job, answer in zip(jobs, answers, strict=True):
                    job.settle(answer)
        except BaseException as error:  # noqa: BLE001 - whatever happens, somebody waits for an answer
            left = [job for job in self._held if not job.answer.done()]
            if len(left) > 1 and isinstance(error, Exception) and self._retry_alone(error) and self._open:
                for job in left:
                    self._held = [job]
                    self._answer(self._held)
                return
            mapped = self._map_error(error)
            for job in left:
                job.fail(mapped)
        for job in self._held:
            job.fail(BackendError(f"{self.name} gave no answer"))

    def _name_error(self, error: BaseException) -> Exception:
        if isinstance(error, RedraftError):
            return error
        mapped = BackendError(f"{self.name} failed ({type(error).__name__}: {one_line(error)})")
        mapped.__cause__ = error
        return mapped
