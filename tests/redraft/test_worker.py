"""The worker: calls are answered in batches and in order, and everybody who waits gets an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from redraft.errors import BackendError, InputError
from redraft.worker import Job, Worker


class Model:
    """Answers with upper case; records its batches. `gate` holds it."""

    def __init__(self, **options: Any) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.worker: Worker[str, str] = Worker("model", self.work, **options)

    def work(self, jobs: Sequence[Job[str, str]]) -> list[str]:
        self.begun.set()
        self.gate.wait(60)
        self.batches.append([job.request for job in jobs])
        self.threads.add(threading.current_thread().name)
        if any(job.request == "bad" for job in jobs):
            raise ValueError("no\nsuch thing")
        return [job.request.upper() for job in jobs]

    def hold(self) -> None:
        """Keeps the thread busy with a call, so that all that follow wait."""
        self.gate.clear()
        self.worker.submit("first")
        assert self.begun.wait(60)


async def test_calls_are_answered_in_batches_of_a_size_and_in_order() -> None:
    model = Model(size=2, gather_s=0.02)
    assert await asyncio.gather(*(model.worker.ask(word) for word in "abcde")) == list("ABCDE")
    assert model.batches == [["a", "b"], ["c", "d"], ["e"]]
    assert len(model.threads) == 1
    await model.worker.aclose()


def test_clients_take_turns_and_heavy_jobs_are_batches_of_their_own() -> None:
    model = Model(size=3)
    model.hold()
    worker = model.worker
    heavy = worker.submit("heavy", client="x", weight=9)
    jobs = [worker.submit(f"{client}{n}", client=client) for client in "ab" for n in range(3)]
    assert worker.waiting == 15
    assert [worker.count_ahead(job) for job in (heavy, jobs[0], jobs[5])] == [1, 10, 13]
    assert worker.withdraw(jobs[4])
    assert not worker.withdraw(jobs[4])
    model.gate.set()
    assert [job.answer.result(60) for job in (heavy, jobs[0], jobs[5])] == ["HEAVY", "A0", "B2"]
    assert model.batches[1:] == [["heavy"], ["a0", "b0", "a1"], ["b2", "a2"]]
    assert worker.count_ahead(heavy) == 0
    worker.close()


async def test_an_error_reaches_all_callers_of_the_batch_and_the_next_batch_works() -> None:
    model = Model(size=4, gather_s=0.02)
    outcomes = await asyncio.gather(*(model.worker.ask(word) for word in ("a", "bad")), return_exceptions=True)
    assert [str(error) for error in outcomes] == ["model failed (ValueError: no such thing)"] * 2
    assert all(isinstance(error, BackendError) for error in outcomes)
    assert await model.worker.ask("c") == "C"
    await model.worker.aclose()


async def test_jobs_that_fail_together_can_be_tried_one_by_one() -> None:
    model = Model(size=4, gather_s=0.02, retry_alone=lambda error: isinstance(error, ValueError))
    outcomes = await asyncio.gather(*(model.worker.ask(word) for word in ("a", "bad", "c")), return_exceptions=True)
    assert outcomes[::2] == ["A", "C"]
    assert isinstance(outcomes[1], BackendError)
    assert model.batches == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]
    await model.worker.aclose()


async def test_errors_of_ours_and_mapped_ones_are_raised_as_they_are() -> None:
    def work(jobs: Sequence[Job[Exception, str]]) -> list[str]:
        raise jobs[0].request

    worker = Worker("model", work)
    with pytest.raises(InputError, match="mine"):
        await worker.ask(InputError("mine"))
    await worker.aclose()
    worker = Worker("model", work, map_error=lambda error: KeyError(type(error).__name__))
    with pytest.raises(KeyError, match="ValueError"):
        await worker.ask(ValueError("x"))
    await worker.aclose()


async def test_a_call_that_is_cancelled_while_it_waits_is_not_worked_at() -> None:
    model = Model(size=1)
    model.hold()
    waits = asyncio.create_task(model.worker.ask("late"))
    await asyncio.sleep(0.01)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    model.gate.set()
    await model.worker.aclose()
    assert model.batches == [["first"]]


async def test_a_call_that_is_cancelled_while_it_is_worked_at_is_abandoned() -> None:
    seen: list[Job[str, str]] = []
    begun = threading.Event()

    def work(jobs: Sequence[Job[str, str]]) -> list[str]:
        seen.extend(jobs)
        begun.set()
        while not jobs[0].abandoned:
            pass
        return ["late"]

    worker = Worker("model", work)
    call = asyncio.create_task(worker.ask("a"))
    await asyncio.to_thread(begun.wait, 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await worker.aclose()
    assert seen[0].abandoned


async def test_work_may_take_more_jobs_while_it_runs() -> None:
    running: list[Job[str, str]] = []

    def work(jobs: Sequence[Job[str, str]]) -> None:
        running.extend(jobs)
        while running:
            running.extend(worker.take())
            job = running.pop(0)
            if job.request == "fault":
                raise RuntimeError("out of order")
            job.settle(job.request.upper())

    worker: Worker[str, str] = Worker("model", work, size=None)
    assert await asyncio.gather(*(worker.ask(str(n)) for n in range(50))) == [str(n) for n in range(50)]
    jobs = [worker.submit("fault"), worker.submit("a")]
    with pytest.raises(BackendError, match="out of order"):
        jobs[0].answer.result(60)
    running.clear()
    assert isinstance(jobs[1].answer.exception(60) or jobs[1].answer.result(60), BackendError | str)
    await worker.aclose()


async def test_a_job_that_work_forgets_fails() -> None:
    worker: Worker[str, str] = Worker("model", lambda jobs: None)
    with pytest.raises(BackendError, match="no answer"):
        await worker.ask("a")
    await worker.aclose()


def test_closing_fails_what_waits_and_interrupts_what_is_under_way() -> None:
    model = Model(size=1, interrupt=lambda: model.gate.set())
    model.hold()
    late = model.worker.submit("late")
    model.worker.close()
    with pytest.raises(BackendError, match="closed"):
        late.answer.result(60)
    with pytest.raises(BackendError, match="closed"):
        model.worker.submit("later")
    model.worker.close()


async def test_closing_in_peace_answers_all_that_was_asked() -> None:
    model = Model(size=1, gather_s=0.001)
    jobs = [model.worker.submit(word) for word in "abc"]
    await model.worker.aclose()
    assert [job.answer.result(0) for job in jobs] == ["A", "B", "C"]
    with pytest.raises(BackendError, match="closed"):
        await model.worker.ask("d")


def test_the_thread_makes_other_calls_too() -> None:
    model = Model()
    model.worker.submit("a").answer.result(60)
    assert {model.worker.run(lambda: threading.current_thread().name).result(60)} == model.threads
    model.worker.close()
