"""redraft.servers: how many calls a server gets at once."""

from __future__ import annotations

import asyncio

import pytest

from redraft.servers import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_slots_grow_with_answers_until_the_server_pushes_back() -> None:
    clock = Clock()
    pace = Pace(2, 16, clock)
    limits = []
    for _ in range(4):
        for _ in range(pace.limit):
            pace.answered()
        limits.append(pace.limit)
    assert limits == [4, 8, 16, 16]
    clock.now = 1.0
    pace.pushed_back(begun=0.5)
    assert pace.limit == 8
    pace.pushed_back(begun=0.9)
    assert pace.limit == 8, "a call of the same flight"
    clock.now = 2.0
    pace.pushed_back(begun=1.5)
    assert pace.limit == 4
    for _ in range(5):
        pace.answered()
    assert pace.limit == 5, "one more a round trip from then on"
    for at in range(3, 20):
        clock.now = at + 0.5
        pace.pushed_back(begun=at)
    assert pace.limit == 1


async def test_callers_wait_for_their_turn() -> None:
    pace, order, most, busy = Pace(2, 2), [], 0, 0

    async def call(number: int) -> None:
        nonlocal most, busy
        async with pace.slot():
            busy += 1
            most = max(most, busy)
            order.append(number)
            await asyncio.sleep(0.001)
            busy -= 1

    await asyncio.gather(*(call(number) for number in range(9)))
    assert order == list(range(9))
    assert most == 2


@pytest.mark.parametrize("moment", ["while it waits", "as it gets its turn"])
async def test_who_gives_up_leaves_the_slot_to_others(moment: str) -> None:
    pace = Pace(1, 1)
    entered = asyncio.Event()

    async def hold() -> None:
        async with pace.slot():
            entered.set()
            await asyncio.sleep(0.01)

    async def quick() -> str:
        async with pace.slot():
            return "in"

    first = asyncio.create_task(hold())
    await entered.wait()
    gone, last = asyncio.create_task(quick()), asyncio.create_task(quick())
    await asyncio.sleep(0)
    if moment == "as it gets its turn":
        first.cancel()
        await asyncio.sleep(0)
    gone.cancel()
    assert await asyncio.wait_for(last, 60) == "in"
    assert await asyncio.wait_for(quick(), 60) == "in"
    await asyncio.gather(first, gone, return_exceptions=True)
