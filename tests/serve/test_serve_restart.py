"""Servers die and are started again: nothing that was said or made is lost."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from agent.serve.database import sole_server
from redraft.errors import ConfigError
from tests.serve.conftest import follow
from tests.serve.processes import Process, begin, nothing_lost

WORDS = [f"a heart, the {n}th" for n in range(8)]


async def seen(http: httpx.AsyncClient, ids: list[str], name: str) -> None:
    """Until one of the conversations has told of `name`."""
    tasks = [asyncio.create_task(follow(http, id, until=(name,))) for id in ids]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.slow
async def test_nothing_is_lost_when_it_is_killed_again_and_again_under_load(tmp_path: Path) -> None:
    with Process.driver(tmp_path / "data") as server:
        async with server.client() as http:
            ids = await begin(http, WORDS)
            await seen(http, ids, "image")
        for name in ("attempt", "decided"):
            assert server.end(signal.SIGKILL) == -signal.SIGKILL
            server.start()
            async with server.client() as http:
                await seen(http, ids, name)
        server.end(signal.SIGKILL)
        server.start()
        async with server.client() as http:
            await nothing_lost(http, ids, WORDS)
            more = await http.post(f"/api/conversations/{ids[0]}/turns", json={"request": "/draw a star"})
            assert more.status_code == 202
            events = await follow(http, ids[0], after=more.json()["last_event"])
            assert (events[-1]["event"], events[-1]["turn"]) == ("replied", 2)


async def test_a_turn_whose_end_was_made_but_not_told_is_told_after_the_restart(tmp_path: Path) -> None:
    """Killed early, in the middle, and when the run is over and the reply is being made."""
    with Process.driver(tmp_path / "data", seconds=0.05) as server:
        for name in ("turn_began", "decided", "run_finished"):
            async with server.client() as http:
                ids = await begin(http, WORDS[:3])
                await seen(http, ids, name)
            server.end(signal.SIGKILL)
            server.start()
            async with server.client() as http:
                await nothing_lost(http, ids, WORDS[:3])


@pytest.mark.parametrize("clocks", [(-3600, 60), pytest.param((3600, -60), marks=pytest.mark.slow)])
async def test_a_clock_that_moves_while_a_server_is_dead_loses_nothing(tmp_path: Path, clocks: tuple[int, int]) -> None:
    with Process.driver(tmp_path / "data", seconds=0.1) as server:
        async with server.client() as http:
            ids = await begin(http, WORDS[:4])
            await seen(http, ids, "image")
        for clock, name in zip(clocks, ("attempt", "decided"), strict=True):
            server.end(signal.SIGKILL)
            server.move_clock(clock)
            server.start()
            async with server.client() as http:
                await seen(http, ids, name)
        async with server.client() as http:
            await nothing_lost(http, ids, WORDS[:4])


async def test_sigterm_lets_turns_finish_and_takes_no_new_ones(tmp_path: Path) -> None:
    with Process.driver(tmp_path / "data", seconds=0.05, drain_s=600) as server:
        assert server.process is not None
        async with server.client() as http:
            with server.holding():
                ids = await begin(http, WORDS[:4])
                streams = [asyncio.create_task(follow(http, id)) for id in ids]
                await seen(http, ids, "rewrite")
                server.process.send_signal(signal.SIGTERM)
                while (await http.get("/readyz")).status_code != 503:  # noqa: ASYNC110 - a process
                    await asyncio.sleep(0.02)
                refused = await http.post("/api/conversations", json={})
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert [events[-1]["event"] for events in await asyncio.gather(*streams)] == ["replied"] * 4
        assert await asyncio.to_thread(server.process.wait, 120) == 0


async def test_what_sigterm_does_not_wait_for_goes_on_at_the_next_start(tmp_path: Path) -> None:
    with Process.driver(tmp_path / "data", seconds=0.5, drain_s=0) as server:
        async with server.client() as http:
            ids = await begin(http, WORDS[:4])
            await seen(http, ids, "image")
        assert server.end(signal.SIGTERM) == 0
        server.start()
        async with server.client() as http:
            await nothing_lost(http, ids, WORDS[:4])


async def test_a_cancelled_turn_stays_cancelled(tmp_path: Path) -> None:
    with Process.driver(tmp_path / "data", seconds=0.05) as server:
        with server.holding():
            async with server.client() as http:
                [id] = await begin(http, WORDS[:1])
                await seen(http, [id], "rewrite")
                assert (await http.post(f"/api/conversations/{id}/cancel")).json() == {"cancelled": True}
            server.end(signal.SIGKILL)
        server.start()
        async with server.client() as http:
            events = await follow(http, id)
        assert [e["stop"] for e in events if e["event"] == "run_finished"] == ["cancelled"]


def test_two_servers_cannot_share_a_folder_without_a_database_that_both_can_use(tmp_path: Path) -> None:
    with sole_server(tmp_path), pytest.raises(ConfigError, match="REDRAFT_DATABASE_URL"), sole_server(tmp_path):
        pass
