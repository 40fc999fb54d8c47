"""One worker for an image model that many runs share.

Runs wait in line by client: each client that waits gets its turn, however much others have asked for. What waits at the
same moment, up to the model's batch size, is drawn in one call; a batch costs less than its pictures one by one.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from editors.backend import ImageBackend, ImageTask, Mode, StepCallback
from redraft.errors import BackendError, RedraftError

_LOOK_S = 0.25
"""How often a run that waits is asked whether it still wants to."""

_TELL_S = 0.1
"""How often a drawing tells how far it is: each word goes to every run in it, and on to all who listen."""


class Watch(Protocol):
    """Is told what the worker does, from its thread."""

    def waited(self, seconds: float) -> None: ...

    def drew(self, pictures: int, seconds: float) -> None: ...


@dataclass(eq=False)
class _Job:
    client: str
    tasks: Sequence[ImageTask]
    on_step: StepCallback | None
    since: float = field(default_factory=time.monotonic)
    done: Future[list[Image.Image]] = field(default_factory=Future)
    given_up: BaseException | None = None
    """What its own callback raised."""

    def step(self, done: int, total: int) -> None:
        if self.given_up is None and self.on_step is not None:
            try:
                self.on_step(done, total)
            except BaseException as error:  # noqa: BLE001 - only this run stops, its companions go on
                self.given_up = error


class _AllGaveUp(BaseException):
    """Raised inside a backend where nobody waits for the drawing any more. Not an Exception, as in `agent.graph`."""


class RenderQueue:
    """Draws for all runs with one `backend`, in one thread of its own. `close` ends it."""

    def __init__(self, backend: ImageBackend, batch_size: int, watch: Watch | None = None) -> None:
        self.backend = backend
        self._size = max(1, batch_size)
        self._watch = watch
        self._lines: OrderedDict[str, deque[_Job]] = OrderedDict()
        """By client, the one whose turn it is first; no empty lines."""
        self._under_way = 0
        """Pictures in the drawing that the worker is at."""
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="redraft-images", daemon=True)
        self._thread.start()

    def handle(self, client: str, queued: Callable[[int], None] | None = None) -> Handle:
        """The backend as one run sees it. `queued` is told how many pictures come before a drawing, where any do: again
        and again, since who listens may have come late, and at last 0."""
        return Handle(self, client, queued)

    def waiting(self) -> int:
        """Pictures that wait to be drawn."""
        with self._changed:
            return sum(len(job.tasks) for line in self._lines.values() for job in line)

    def close(self) -> None:
        """Stops the drawing under way, where the backend can; what waits fails."""
        with self._changed:
            self._closed = True
            jobs = [job for line in self._lines.values() for job in line]
            self._lines.clear()
            self._changed.notify_all()
        for job in jobs:
            job.done.set_exception(BackendError("the server is going down"))
        interrupt = getattr(self.backend, "interrupt", None)
        if interrupt is not None:
            interrupt()

    def draw(
        self,
        client: str,
        tasks: Sequence[ImageTask],
        on_step: StepCallback | None,
        queued: Callable[[int], None] | None,
    ) -> list[Image.Image]:
        """Waits in line, then gives the pictures. Raises what the backend, or `on_step`, raises."""
        job = _Job(client, tasks, on_step)
        with self._changed:
            if self._closed:
                raise BackendError("the server is going down")
            self._lines.setdefault(client, deque()).append(job)
            self._changed.notify()
        told = 0
        while True:
            ahead = self._ahead(job)
            if (ahead or told) and queued is not None:
                queued(ahead)
            told = ahead
            try:
                return job.done.result(_LOOK_S)
            except TimeoutError:
                # A run that is cancelled while it waits in line says so through its callback.
                job.step(0, 0)
                if job.given_up is not None and self._withdraw(job):
                    raise job.given_up from None

    def _ahead(self, job: _Job) -> int:
        """Pictures that are drawn before a job, as the lines stand: those under way, and the batches before its own. 0
        where it is being drawn."""
        with self._changed:
            ahead, batch = self._under_way, 0
            lines = deque(deque(line) for line in self._lines.values())
            while lines:
                line = lines.popleft()
                now = line.popleft()
                if batch and batch + len(now.tasks) > self._size:
                    ahead, batch = ahead + batch, 0
                if now is job:
                    return ahead
                batch += len(now.tasks)
                if line:
                    lines.append(line)
            return 0

    def _withdraw(self, job: _Job) -> bool:
        """Takes a job out of its line; False where it is being drawn."""
        with self._changed:
            line = self._lines.get(job.client)
            if line is None or job not in line:
                return False
            line.remove(job)
            if not line:
                del self._lines[job.client]
            return True

    def _work(self) -> None:
        while (jobs := self._next()) is not None:
            for job in jobs:
                if self._watch is not None:
                    self._watch.waited(time.monotonic() - job.since)
            self._settle(jobs)

    def _next(self) -> list[_Job] | None:
        """What is drawn next: one job of each client in turn, and round again, while they fit into one batch."""
        with self._changed:
            self._under_way = 0
            while not self._lines and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            jobs: list[_Job] = []
            room = self._size
            while self._lines:
                client, line = next(iter(self._lines.items()))
                if jobs and len(line[0].tasks) > room:
                    break
                job = line.popleft()
                room -= len(job.tasks)
                jobs.append(job)
                if line:
                    self._lines.move_to_end(client)
                else:
                    del self._lines[client]
            self._under_way = sum(len(job.tasks) for job in jobs)
            return jobs

    def _settle(self, jobs: Sequence[_Job]) -> None:
        """Jobs that fail together are tried one by one, so that one run's mistake fails no other's."""
        tasks = [task for job in jobs for task in job.tasks]

        told = 0.0

        def on_step(done: int, total: int) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told < _TELL_S and done < total:
                return
            told = now
            for job in jobs:
                job.step(done, total)
            if all(job.given_up is not None for job in jobs):
                raise _AllGaveUp

        started = time.monotonic()
        try:
            pictures = self.backend.render(tasks, on_step)
            if len(pictures) != len(tasks):
                raise BackendError(f"{self.backend.name} was asked for {len(tasks)} pictures and gave {len(pictures)}")
        except _AllGaveUp:
            pictures = []
        except Exception as error:  # noqa: BLE001 - whatever a backend raises belongs to those who wait for it
            if len(jobs) > 1 and not self._closed:
                for job in jobs:
                    self._settle([job])
            else:
                for job in jobs:
                    job.done.set_exception(job.given_up or _ours(error))
            return
        finally:
            if self._watch is not None:
                self._watch.drew(0, time.monotonic() - started)
        at = 0
        for job in jobs:
            mine = pictures[at : at + len(job.tasks)]
            at += len(job.tasks)
            if job.given_up is not None:
                job.done.set_exception(job.given_up)
            else:
                job.done.set_result(mine)
        if self._watch is not None:
            self._watch.drew(len(pictures), 0.0)


def _ours(error: Exception) -> Exception:
    return (
        error if isinstance(error, RedraftError) else BackendError(f"drawing failed: {type(error).__name__}: {error}")
    )


@dataclass(frozen=True)
class Handle:
    """An ImageBackend that draws by way of a queue."""

    queue: RenderQueue
    client: str
    queued: Callable[[int], None] | None = None

    @property
    def name(self) -> str:
        return self.queue.backend.name

    @property
    def modes(self) -> frozenset[Mode]:
        return self.queue.backend.modes

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        return self.queue.draw(self.client, tasks, on_step, self.queued)
