"""Several GPUs for one generator or editor: a process for each device, behind the protocol of a backend.

    [generator]
    devices = ["cuda:0", "cuda:1"]

Each process loads the model for itself. The tasks of a call are drawn in batches, each by the device that is free first; so
a call with one task uses one device. A process that dies (out of host memory, a driver's fault) gives its batch to the
others, and is started again at the next call.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PIL import Image

from editors.backend import Ability, ImageBackend, ImageTask, Mode, StepCallback, open_backend, render
from redraft.errors import BackendError, ConfigError, InputError, ModelMissing, RedraftError
from redraft.processes import isolated_command
from redraft.profiles import BackendConfig

log = logging.getLogger(__name__)


class Died(BackendError):  # noqa: N818
    """A device's process ended in the middle of its work."""


class Drawer(Protocol):
    """What draws on one device. Raises Died if it does not live any more."""

    def render(self, tasks: Sequence[ImageTask]) -> list[Image.Image]: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


class DevicesBackend:
    """An ImageBackend over one Drawer a device. `on_step` counts pictures. What it can do is what `here` can, a backend of the
    same model in this process, which never loads its weights."""

    def __init__(self, here: ImageBackend, drawers: Sequence[Drawer], batch_size: int) -> None:
        self._here = here
        self._drawers = tuple(drawers)
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def name(self) -> str:
        return self._here.name

    @property
    def modes(self) -> frozenset[Mode]:
        return self._here.modes

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._here.abilities

    @property
    def steps(self) -> int | None:
        return self._here.steps

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        """One picture for each task, in order. The first failure ends the call; raises Died if no process lives any more."""
        with self._lock:
            self._stopped.clear()
            # As many batches as there are devices, if there are few tasks.
            size = max(1, min(self._batch_size, -(-len(tasks) // len(self._drawers))))
            left = deque(list(range(at, min(at + size, len(tasks)))) for at in range(0, len(tasks), size))
            pictures: dict[int, Image.Image] = {}
            errors: list[BaseException] = []
            news: queue.Queue[object] = queue.Queue()

            def work(drawer: Drawer) -> None:
                while not errors and not self._stopped.is_set():
                    try:
                        batch = left.popleft()
                    except IndexError:
                        break
                    try:
                        drawn = drawer.render([tasks[at] for at in batch])
                    except Died as error:
                        log.warning("%s; its pictures are drawn elsewhere", error)
                        left.append(batch)
                        died[drawer] = error
                        break
                    except Exception as error:  # noqa: BLE001 - it is raised in the caller's thread
                        errors.append(error)
                        break
                    pictures.update(zip(batch, drawn, strict=True))
                    news.put(None)
                news.put(drawer)

            died: dict[Drawer, Died] = {}
            working = 0
            # Once more around if a device died with its batch when the others had nothing left to do.
            while left and len(died) < len(self._drawers) and not errors and not self._stopped.is_set():
                living = [drawer for drawer in self._drawers if drawer not in died]
                for drawer in living[: len(left)]:
                    threading.Thread(target=work, args=(drawer,), name="redraft-device", daemon=True).start()
                    working += 1
                try:
                    while working:
                        if news.get() is not None:
                            working -= 1
                        elif on_step is not None:
                            on_step(len(pictures), len(tasks))
                except BaseException:  # the callback wants the call to end
                    self.interrupt()
                    while working:
                        working -= news.get() is not None
                    raise
            if errors:
                raise errors[0]
            if self._stopped.is_set():
                raise BackendError("the drawing was interrupted")
            if left:
                raise list(died.values())[-1]
            return [pictures[at] for at in range(len(tasks))]

    def interrupt(self) -> None:
        self._stopped.set()
        for drawer in self._drawers:
            drawer.interrupt()

    def close(self) -> None:
        self.interrupt()
        for drawer in self._drawers:
            drawer.close()
        self._here.close()


class ProcessDrawer:
    """A backend in a process of its own, which starts with the first call and runs nothing of the current folder."""

    def __init__(self, config: BackendConfig, command: Sequence[str] | None = None) -> None:
        self._config = config
        self._command = command or isolated_command("from editors.devices import serve; serve()")
        self._process: subprocess.Popen[bytes] | None = None
        self._sending = threading.Lock()

    def render(self, tasks: Sequence[ImageTask]) -> list[Image.Image]:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            messages: list[object] = [self._config.model_dump_json(), list(tasks)]
        else:
            messages = [list(tasks)]
        try:
            for message in messages:
                self._send(message)
            assert process.stdout is not None
            kind, value = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            process.kill()
            code = process.wait()
            raise Died(f"the process that draws on {self._config.device} ended with {code}") from None
        if kind == "pictures":
            pictures: list[Image.Image] = value
            return pictures
        raise _ERRORS.get(kind, BackendError)(value)

    def interrupt(self) -> None:
        if self._process is not None and self._process.poll() is None:
            try:
                self._send("interrupt")
            except OSError:
                log.debug("the process on %s has ended", self._config.device)

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            try:
                process.stdin.close()
                process.wait(5)
            except (OSError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()

    def _send(self, value: object) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        with self._sending:
            pickle.dump(value, process.stdin)
            process.stdin.flush()


_ERRORS: dict[str, Callable[[str], RedraftError]] = {
    kind.__name__: kind for kind in (BackendError, ConfigError, InputError, ModelMissing)
}


def serve() -> None:
    """The other side of ProcessDrawer: a config, then lists of tasks, on stdin; pictures or an error on stdout, and nothing else
    of whatever a library prints."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    backend = open_backend(BackendConfig.model_validate_json(pickle.load(sys.stdin.buffer)))
    answer_tasks(backend, sys.stdin.buffer, out)


def answer_tasks(backend: ImageBackend, source: Any, out: Any) -> None:
    """Draws what comes from `source` until it ends. "interrupt" stops what is being drawn."""
    waiting: queue.Queue[list[ImageTask] | None] = queue.Queue()

    def read() -> None:
        while True:
            try:
                message = pickle.load(source)
            except (EOFError, OSError):
                waiting.put(None)
                return
            if message == "interrupt":
                backend.interrupt()
            else:
                waiting.put(message)

    threading.Thread(target=read, daemon=True).start()
    while (tasks := waiting.get()) is not None:
        try:
            answer: tuple[str, object] = ("pictures", render(backend, tasks))
        except RedraftError as error:
            kind = next((name.__name__ for name in type(error).__mro__ if name.__name__ in _ERRORS), "BackendError")
            answer = (kind, str(error))
        pickle.dump(answer, out)
        out.flush()


def open_devices(config: BackendConfig) -> DevicesBackend:
    """The backend of a config that names devices. Raises as `open_backend`."""
    alone = [config.model_copy(update={"device": device, "devices": ()}) for device in config.devices]
    return DevicesBackend(open_backend(alone[0]), [ProcessDrawer(one) for one in alone], config.batch_size)
