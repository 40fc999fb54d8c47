"""Several devices behind one backend. Drawers are fakes; the pipe of a process is two files, and one real process dies."""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections.abc import Sequence

import pytest
from PIL import Image
from pydantic import ValidationError

from editors.backend import ImageTask
from editors.devices import DevicesBackend, Died, ProcessDrawer, answer_tasks
from editors.testing import FakeBackend
from redraft.errors import BackendError, InputError
from redraft.profiles import BackendConfig

TASKS = [ImageTask(f"picture {at}", at) for at in range(7)]


class FakeDrawer:
    """Draws on a device of its own; dies at its `dies_at`-th call, but not before `dies_after` has nothing left to do."""

    def __init__(
        self, dies_at: int | None = None, error: Exception | None = None, dies_after: FakeDrawer | None = None
    ) -> None:
        self.backend = FakeBackend()
        self.closed = self.interrupted = False
        self.started = threading.Event()
        self.deaths = 0
        self._dies_at = dies_at
        self._error = error
        self._dies_after = dies_after

    def render(self, tasks: Sequence[ImageTask]) -> list[Image.Image]:
        if self._error is not None:
            raise self._error
        if len(self.backend.calls) + 1 == self._dies_at:
            if self._dies_after is not None:
                self._dies_after.started.wait()
                for thread in threading.enumerate():
                    if thread.name == "redraft-device" and thread is not threading.current_thread():
                        thread.join()
            self.deaths += 1
            raise Died("the process that draws on cuda:1 ended with -9")
        self.started.set()
        return self.backend.render(tasks)

    def interrupt(self) -> None:
        self.interrupted = True

    def close(self) -> None:
        self.closed = True


def pictures_of(drawers: Sequence[FakeDrawer], batch_size: int = 2) -> list[bytes]:
    return [picture.tobytes() for picture in DevicesBackend(FakeBackend(), drawers, batch_size).render(TASKS)]


def test_pictures_come_in_the_order_of_their_tasks_whoever_draws_them() -> None:
    drawers = [FakeDrawer(), FakeDrawer(), FakeDrawer()]
    assert pictures_of(drawers) == [picture.tobytes() for picture in FakeBackend().render(TASKS)]
    drawn = [task.seed for drawer in drawers for call in drawer.backend.calls for task in call]
    assert sorted(drawn) == list(range(7))


def test_few_tasks_are_shared_out_instead_of_batched() -> None:
    drawers = [FakeDrawer(), FakeDrawer()]
    DevicesBackend(FakeBackend(), drawers, 8).render(TASKS[:2])
    assert max(len(call) for drawer in drawers for call in drawer.backend.calls) == 1


def test_the_pictures_of_a_process_that_dies_are_drawn_by_the_others() -> None:
    drawers = [FakeDrawer(dies_at=1), FakeDrawer()]
    assert pictures_of(drawers) == [picture.tobytes() for picture in FakeBackend().render(TASKS)]


def test_a_process_that_dies_last_is_not_asked_again_while_another_lives() -> None:
    living = FakeDrawer()
    dying = FakeDrawer(dies_at=1, dies_after=living)
    assert pictures_of([dying, living]) == [picture.tobytes() for picture in FakeBackend().render(TASKS)]
    assert dying.deaths == 1


def test_if_all_die_the_call_fails() -> None:
    with pytest.raises(Died, match="cuda:1 ended with -9"):
        pictures_of([FakeDrawer(dies_at=1), FakeDrawer(dies_at=1)])


def test_what_one_device_refuses_ends_the_call() -> None:
    with pytest.raises(InputError, match="too large"):
        pictures_of([FakeDrawer(error=InputError("too large")), FakeDrawer(error=InputError("too large"))])


def test_progress_counts_pictures_and_closing_reaches_everybody() -> None:
    drawers = [FakeDrawer(), FakeDrawer()]
    backend = DevicesBackend(FakeBackend(), drawers, 2)
    steps: list[tuple[int, int]] = []
    backend.render(TASKS, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (7, 7)
    backend.close()
    assert all(drawer.closed and drawer.interrupted for drawer in drawers)


def test_a_callback_that_raises_ends_the_call_on_all_devices() -> None:
    class Enough(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    drawers = [FakeDrawer(), FakeDrawer()]
    backend = DevicesBackend(FakeBackend(), drawers, 1)
    with pytest.raises(Enough):
        backend.render(TASKS, stop)
    assert all(drawer.interrupted for drawer in drawers)
    assert len(backend.render(TASKS)) == len(TASKS)


def test_a_process_answers_tasks_and_errors_until_its_input_ends() -> None:
    source, out = io.BytesIO(), io.BytesIO()
    for message in (TASKS[:2], TASKS[:1]):
        pickle.dump(message, source)
    source.seek(0)
    answer_tasks(FakeBackend(script=[None, BackendError("no memory")]), source, out)
    out.seek(0)
    kind, pictures = pickle.load(out)
    assert (kind, len(pictures)) == ("pictures", 2)
    assert pickle.load(out) == ("BackendError", "no memory")


def test_a_process_that_ends_is_said_with_its_device() -> None:
    config = BackendConfig(kind="diffusers", model="m", device="cuda:1")
    drawer = ProcessDrawer(config, [sys.executable, "-c", "raise SystemExit(9)"])
    with pytest.raises(Died, match="cuda:1 ended with"):
        drawer.render(TASKS[:1])
    drawer.interrupt()
    drawer.close()


@pytest.mark.parametrize(
    ("settings", "noun"),
    [
        ({"devices": ["cuda:0", "cuda:0"]}, "twice"),
        ({"devices": ["cuda:0"], "device": "cuda:1"}, "either"),
    ],
)
def test_devices_that_cannot_be_meant(settings: dict[str, object], noun: str) -> None:
    with pytest.raises(ValidationError, match=noun):
        BackendConfig.model_validate({"kind": "diffusers", "model": "m", **settings})
