"""One worker for an image model that many runs share.

Runs wait in line by client: each client that waits gets its turn, however much the others want drawn. What waits at the
same moment, up to the model's batch size, is drawn in one call; a batch costs less than its pictures one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from editors.backend import Ability, ImageBackend, ImageTask, Mode, StepCallback, render
from redraft.worker import Job, Worker

_LOOK_S = 0.25
"""How often a run that waits is checked for whether it still wants to."""

_TELL_S = 0.1
"""How often a drawing reports how far it is: each report goes to every run in it, and on to all who listen."""


class Watch(Protocol):
    """Hears what the worker does, on its thread."""

    def waited(self, seconds: float) -> None: ...

    def drew(self, pictures: int, seconds: float) -> None: ...


@dataclass(eq=False)
class QueuedDrawing:
    """What one run wants drawn. `given_up`: what its own callback raised."""

    tasks: Sequence[ImageTask]
    on_step: StepCallback | None
    begun: bool = False
    given_up: BaseException | None = None

    def step(self, done: int, total: int) -> None:
        if self.given_up is None and self.on_step is not None:
            try:
                self.on_step(done, total)
            except BaseException as error:  # noqa: BLE001 - only this run stops, the others continue
                self.given_up = error


DrawingJob = Job[QueuedDrawing, list[Image.Image]]


class _AllGaveUp(BaseException):
    """Raised inside a backend if nobody waits for the drawing any more. Not an Exception, as in `agent.graph`."""


class RenderQueue:
    """Draws for all runs with one `backend`, in one thread of its own. `close` ends it."""

    def __init__(self, backend: ImageBackend, batch_size: int, watch: Watch | None = None) -> None:
        self.backend = backend
        self._watch = watch
        self._worker: Worker[QueuedDrawing, list[Image.Image]] = Worker(
            "images",
            self._draw,
            size=max(1, batch_size),
            retry_alone=lambda error: True,
            interrupt=backend.interrupt,
            closed="the server is going down",
        )

    def handle(self, client: str, queued: Callable[[int], None] | None = None) -> Handle:
        """The backend as one run sees it. `queued` gets how many pictures come before a drawing, if any do: again
        and again, since who listens may have come late, and at last 0."""
        return Handle(self, client, queued)

    def waiting(self) -> int:
        """Pictures that wait to be drawn."""
        return self._worker.waiting

    def close(self) -> None:
        """Stops the drawing under way, if the backend can; what waits fails."""
        self._worker.close()

    def draw(
        self,
        client: str,
        tasks: Sequence[ImageTask],
        on_step: StepCallback | None,
        queued: Callable[[int], None] | None,
    ) -> list[Image.Image]:
        """Waits in line, then gives the pictures. Raises what the backend, or `on_step`, raises."""
        drawing = QueuedDrawing(tasks, on_step)
        job = self._worker.submit(drawing, client=client, weight=len(tasks))
        last = 0
        while True:
            ahead = self._worker.count_ahead(job)
            if (ahead or last) and queued is not None:
                queued(ahead)
            last = ahead
            try:
                return job.answer.result(_LOOK_S)
            except TimeoutError:
                # A run that is cancelled while it waits in line says so through its callback.
                drawing.step(0, 0)
                if drawing.given_up is not None and self._worker.withdraw(job):
                    raise drawing.given_up from None

    def _draw(self, jobs: Sequence[DrawingJob]) -> None:
        """On the worker."""
        drawings = [job.request for job in jobs]
        for job in jobs:
            if self._watch is not None and not job.request.begun:
                self._watch.waited(time.monotonic() - job.since)
            job.request.begun = True
        reported = 0.0

        def on_step(done: int, total: int) -> None:
            nonlocal reported
            now = time.monotonic()
            if now - reported < _TELL_S and done < total:
                return
            reported = now
            for drawing in drawings:
                drawing.step(done, total)
            if all(drawing.given_up is not None for drawing in drawings):
                raise _AllGaveUp

        started = time.monotonic()
        pictures: list[Image.Image] = []
        try:
            pictures = render(self.backend, [task for drawing in drawings for task in drawing.tasks], on_step)
        except _AllGaveUp:
            pass
        except Exception:
            if len(jobs) == 1 and drawings[0].given_up is not None:
                jobs[0].fail(drawings[0].given_up)
                return
            raise
        finally:
            if self._watch is not None:
                self._watch.drew(len(pictures), time.monotonic() - started)
        at = 0
        for job in jobs:
            mine = pictures[at : at + len(job.request.tasks)]
            at += len(job.request.tasks)
            if job.request.given_up is not None:
                job.fail(job.request.given_up)
            else:
                job.settle(mine)


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

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.queue.backend.abilities

    @property
    def steps(self) -> int | None:
        return self.queue.backend.steps

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        return self.queue.draw(self.client, tasks, on_step, self.queued)

    def interrupt(self) -> None:
        """Does nothing: the queue draws for other runs too. A run is left through its `on_step`."""

    def close(self) -> None:
        """Does nothing: the queue closes its backend."""
