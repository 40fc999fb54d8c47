"""One worker for all runs: in turn by client, together where they fit, and none pays for another's mistake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from agent.serve.metrics import Metrics
from agent.serve.models import Served
from agent.serve.queue import RenderQueue
from agent.testing import paint
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from redraft.errors import BackendError
from tests.serve.conftest import Start
from tests.serve.fakes import fake_served

THREADS = ThreadPoolExecutor(32)
"""asyncio's own has too few for all that wait here."""


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not true():  # noqa: ASYNC110 - what happens in the worker's thread sets no asyncio.Event
            await asyncio.sleep(0.002)


class Slow(FakeBackend):
    """Holds its first call until it is let; `bad` prompts break whatever call they are in."""

    def __init__(self, bad: str = "") -> None:
        super().__init__(paint=paint, steps=3)
        self.drawing = threading.Event()
        self.let = threading.Event()
        self._bad = bad

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        self.drawing.set()
        assert self.let.wait(120)
        pictures = super().render(tasks, on_step)
        if self._bad and any(self._bad in task.prompt for task in tasks):
            raise BackendError("this cannot be drawn")
        return pictures


def task(prompt: str) -> ImageTask:
    return ImageTask(prompt, 1)


async def ask(queue: RenderQueue, client: str, *prompts: str, on_step: StepCallback | None = None) -> list[Image.Image]:
    handle, tasks = queue.handle(client), [task(p) for p in prompts]
    return await asyncio.get_running_loop().run_in_executor(THREADS, handle.render, tasks, on_step)


async def lined_up(queue: RenderQueue, *those: tuple[str, tuple[str, ...]]) -> list[asyncio.Task[list[Image.Image]]]:
    """Drawings that wait in this order, behind one that is held."""
    waiting = []
    for client, prompts in those:
        before = queue.waiting()
        waiting.append(asyncio.create_task(ask(queue, client, *prompts)))
        await until(lambda before=before: queue.waiting() != before)  # type: ignore[misc]
    return waiting


async def held(backend: Slow, queue: RenderQueue) -> asyncio.Task[list[Image.Image]]:
    first = asyncio.create_task(ask(queue, "first", "held"))
    assert await asyncio.to_thread(backend.drawing.wait, 120)
    return first


def drawn(backend: FakeBackend) -> list[list[str]]:
    return [[t.prompt for t in call] for call in backend.calls]


async def test_each_client_gets_its_turn_however_much_others_have_asked_for() -> None:
    backend = Slow()
    queue = RenderQueue(backend, 1)
    first = await held(backend, queue)
    greedy = [("greedy", (f"g{n}",)) for n in range(4)]
    waiting = await lined_up(queue, *greedy, ("modest", ("m0",)), ("third", ("t0",)), ("modest", ("m1",)))
    backend.let.set()
    await asyncio.gather(first, *waiting)
    assert drawn(backend) == [["held"], ["g0"], ["m0"], ["t0"], ["g1"], ["m1"], ["g2"], ["g3"]]
    queue.close()


async def test_what_waits_is_drawn_together_as_far_as_it_fits_and_each_gets_its_own() -> None:
    backend = Slow()
    queue = RenderQueue(backend, 4)
    first = await held(backend, queue)
    waiting = await lined_up(queue, ("a", ("a0", "a1")), ("b", ("b0",)), ("c", ("c0", "c1", "c2")), ("d", ("d0",) * 9))
    assert queue.waiting() == 15
    backend.let.set()
    await first
    pictures = await asyncio.gather(*waiting)
    assert drawn(backend) == [["held"], ["a0", "a1", "b0"], ["c0", "c1", "c2"], ["d0"] * 9]
    assert [p.tobytes() for p in pictures[2]] == [paint(task(f"c{n}")).tobytes() for n in range(3)]
    queue.close()


async def test_one_that_cannot_be_drawn_fails_alone() -> None:
    backend = Slow(bad="bad")
    queue = RenderQueue(backend, 8)
    first = await held(backend, queue)
    waiting = await lined_up(queue, ("a", ("fine",)), ("b", ("bad",)), ("c", ("fine too",)))
    backend.let.set()
    await first
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[1], BackendError)
    assert [len(d) for d in (done[0], done[2]) if isinstance(d, list)] == [1, 1]
    queue.close()


async def test_a_run_that_gives_up_leaves_its_companions_alone_and_a_drawing_nobody_wants_stops() -> None:
    class Enough(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    backend = Slow()
    queue = RenderQueue(backend, 8)
    first = await held(backend, queue)
    [companion] = await lined_up(queue, ("a", ("fine",)))
    caught: list[BaseException] = []

    def leave(client: str) -> None:
        try:
            queue.handle(client).render([task("left")], stop)
        except Enough as error:
            caught.append(error)

    leavers = [asyncio.create_task(asyncio.to_thread(leave, "b"))]
    async with asyncio.timeout(120):
        await asyncio.gather(*leavers)  # it waits in line, and is told to stop there
    assert queue.waiting() == 1
    backend.let.set()
    await asyncio.gather(first, companion)
    await asyncio.to_thread(leave, "b")  # it is drawn, and told to stop at the first step
    assert len(caught) == 2
    assert drawn(backend)[-1] == ["left"]
    queue.close()


async def test_whoever_waits_is_told_how_many_come_first_and_a_closed_queue_fails() -> None:
    backend = Slow()
    queue = RenderQueue(backend, 1)
    first = await held(backend, queue)
    [one] = await lined_up(queue, ("a", ("x", "y")))
    told: list[int] = []
    two = asyncio.create_task(asyncio.to_thread(queue.handle("b", told.append).render, [task("z")]))
    await until(lambda: told)
    assert set(told) == {3}, "the one under way, and the two in line"
    queue.close()
    for waiting in (one, two):
        with pytest.raises(BackendError, match="going down"):
            await waiting
    backend.let.set()
    await first
    with pytest.raises(BackendError, match="going down"):
        await ask(queue, "a", "late")


async def test_what_is_drawn_together_is_not_ahead_and_a_change_of_place_is_told() -> None:
    backend = Slow()
    queue = RenderQueue(backend, 4)
    first = await held(backend, queue)
    leave = threading.Event()

    def stop(done: int, total: int) -> None:
        if leave.is_set():
            raise BackendError("enough")

    full = asyncio.create_task(ask(queue, "a", "a0", "a1", "a2", on_step=stop))
    await until(lambda: queue.waiting() == 3)
    waiting = await lined_up(queue, ("b", ("b0",)))
    told: dict[str, list[int]] = {"c": [], "d": []}
    for client, prompts in (("c", ("c0", "c1")), ("d", ("d0",))):
        handle, tasks = queue.handle(client, told[client].append), [task(p) for p in prompts]
        waiting.append(asyncio.create_task(asyncio.to_thread(handle.render, tasks)))
        await until(lambda client=client: told[client])  # type: ignore[misc]
    # One is under way; then a0 to b0 make a batch, which c and d are not in; they make the next one, together.
    assert {client: set(places) for client, places in told.items()} == {"c": {5}, "d": {5}}
    leave.set()
    with pytest.raises(BackendError, match="enough"):
        await full
    await until(lambda: told["c"][-1] == told["d"][-1] == 1)  # b, c and d fit into one batch now
    backend.let.set()
    await asyncio.gather(first, *waiting)
    assert drawn(backend) == [["held"], ["b0", "c0", "c1", "d0"]]
    queue.close()


async def test_a_conversation_that_waits_for_another_ones_drawing_is_told_its_place(start: Start) -> None:
    backend = Slow()
    async with start(lambda metrics: [fake_served(metrics, backend=backend)]) as server:
        first, second = await server.new(), await server.new()
        assert (await server.post(first, "a star")).status_code == 202
        assert await asyncio.to_thread(backend.drawing.wait, 120)
        assert (await server.post(second, "another star")).status_code == 202
        waiting = await server.follow(second, until=("queue",))
        assert (waiting[-1]["ahead"], waiting[-1]["turn"], waiting[-1]["id"]) == (2, 1, None), "both of the first one's"
        backend.let.set()
        for conversation in (first, second):
            told = await server.follow(conversation)
            assert told[-1]["event"] == "replied"
            assert "queue" not in [event["event"] for event in told], "a place in line is told, and not kept"


async def test_the_pictures_of_several_conversations_are_drawn_in_one_call(start: Start) -> None:
    backend = Slow()
    made: list[Served] = []

    def models(metrics: Metrics) -> list[Served]:
        made.append(fake_served(metrics, backend=backend, batch_size=64))
        return made

    async with start(models) as server:
        ids = [await server.new() for _ in range(8)]
        posted = [await server.post(id, "a star") for id in ids]
        assert all(answer.status_code == 202 for answer in posted)
        queue = made[0].drawing
        assert queue is not None
        await until(lambda: queue.waiting() == 7 * 2)
        backend.let.set()
        await asyncio.gather(*(server.follow(id) for id in ids))
        assert [len(call) for call in backend.calls[:2]] == [2, 14]
        page = server.service.metrics.page().decode()
        assert "redraft_image_queue_seconds_count 8.0" in page


async def test_calls_of_models_in_this_process_run_as_many_at_once_as_there_are() -> None:
    served = fake_served(Metrics())
    inside, most = 0, 0

    async def call() -> None:
        nonlocal inside, most
        async with served.models.calls:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(call() for _ in range(40)))
    assert most == 40, "what they can take together is the models' own affair"
    served.close()
