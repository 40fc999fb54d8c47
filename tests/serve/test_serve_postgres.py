"""Several servers, one PostgreSQL: a conversation started in one goes on in another. Run by scripts/ci_postgres.sh."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agent.serve.database import Postgres
from redraft.errors import BackendError, ConfigError
from tests.serve.conftest import Start, follow
from tests.serve.processes import Process, begin, nothing_lost

pytestmark = pytest.mark.postgres
WORDS = [f"a heart, the {n}th" for n in range(6)]


@pytest.fixture
def database() -> Iterator[str]:
    """A database of the test's own."""
    server = os.environ["REDRAFT_TEST_DATABASE_URL"]
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_conversation_goes_on_in_another_process(database: str, tmp_path: Path) -> None:
    env = {"REDRAFT_DATABASE_URL": database}
    with (
        Process.driver(tmp_path / "data", env=env, seconds=0.05) as one,
        Process.driver(tmp_path / "data", env=env) as two,
    ):
        async with one.client() as here, two.client() as there:
            [id] = await begin(here, ["a star"])
            told = await follow(there, id)
            assert [e["id"] for e in told if e["id"] is not None] == list(
                range(1, 1 + len([e for e in told if e["id"]]))
            )
            assert told[-1]["event"] == "replied"
            image = told[-1]["pictures"][0]["image"]
            assert (await there.get(f"/api/images/{image}")).status_code == 200

            posted = await there.post(f"/api/conversations/{id}/turns", json={"request": "make the star blue"})
            assert posted.status_code == 202
            told = await follow(here, id, after=posted.json()["last_event"])
            assert told[-1]["entry"]["kind"] == "edit"
            assert (await here.get(f"/api/conversations/{id}")).json() == (
                await there.get(f"/api/conversations/{id}")
            ).json()

            with one.holding():
                posted = await here.post(f"/api/conversations/{id}/turns", json={"request": "/draw a heart"})
                await follow(there, id, after=posted.json()["last_event"], until=("run_started",))
                busy = await there.post(f"/api/conversations/{id}/turns", json={"request": "/draw a heart"})
                assert busy.status_code == 409
                assert (await there.post(f"/api/conversations/{id}/cancel")).json() == {"cancelled": True}
                told = await follow(there, id, after=posted.json()["last_event"])
            assert [e["stop"] for e in told if e["event"] == "run_finished"] == ["cancelled"]
            assert (await there.delete(f"/api/conversations/{id}")).status_code == 204
            assert (await here.get(f"/api/conversations/{id}")).status_code == 404


async def test_what_a_killed_server_was_at_is_finished_by_another(database: str, tmp_path: Path) -> None:
    env = {"REDRAFT_DATABASE_URL": database}
    with (
        Process.driver(tmp_path / "data", env=env, seconds=0.4) as one,
        Process.driver(tmp_path / "data", env=env, seconds=0.05) as two,
    ):
        async with one.client() as http:
            ids = await begin(http, WORDS)
            await follow(http, ids[0], until=("image",))
        one.end(signal.SIGKILL)
        async with two.client() as http:
            await nothing_lost(http, ids, WORDS)


async def test_what_a_server_lets_go_of_at_sigterm_is_taken_up_at_once(database: str, tmp_path: Path) -> None:
    env = {"REDRAFT_DATABASE_URL": database}
    with (
        Process.driver(tmp_path / "data", env=env, seconds=0.5, drain_s=0) as one,
        Process.driver(tmp_path / "data", env=env, seconds=0.05) as two,
    ):
        async with one.client() as http:
            with one.holding():
                ids = await begin(http, WORDS[:3])
                await follow(http, ids[0], until=("rewrite",))
                holder = holders(database)
                assert one.end(signal.SIGTERM) == 0
                assert len(holder) == 1
                assert not holder & holders(database), "nobody has to wait until its leases run out"
        async with two.client() as http:
            await nothing_lost(http, ids, WORDS[:3])


def holders(database: str) -> set[str]:
    """The servers that hold turns."""
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT DISTINCT owner FROM redraft_turns WHERE owner IS NOT NULL")
        return {owner for (owner,) in rows.fetchall()}


async def test_servers_without_a_common_folder_share_pictures_by_a_store(database: str, tmp_path: Path) -> None:
    env = {"REDRAFT_DATABASE_URL": database, "REDRAFT_IMAGES_URL": f"file://{tmp_path / 'bucket'}"}
    with Process.driver(tmp_path / "one", env=env) as one:
        async with one.client() as http:
            [id] = await begin(http, ["a star"])
            image = (await follow(http, id))[-1]["pictures"][0]["image"]
        assert one.end(signal.SIGTERM) == 0
    with Process.driver(tmp_path / "two", env=env) as two:
        async with two.client() as http:
            assert (await http.get(f"/api/images/{image}")).status_code == 200
            posted = await http.post(f"/api/conversations/{id}/turns", json={"request": "make the star blue"})
            told = await follow(http, id, after=posted.json()["last_event"])
            assert told[-1]["entry"]["kind"] == "edit"
            assert next(e["source"] for e in told if e["event"] == "run_started") == image
    assert len(list((tmp_path / "bucket" / "local").glob("*/*.png"))) >= 2


async def test_a_database_that_goes_away_is_told_and_its_password_is_not(
    database: str, start: Start, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        await asyncio.to_thread(Postgres, "postgresql://redraft:hunter2-secret@127.0.0.1:1/none")
    assert "hunter2" not in str(error.value)
    async with start(database=database) as server:
        id = await server.new()
        assert (await server.http.get("/readyz")).text == "ready\n"
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER TABLE redraft_events RENAME TO gone")
        broken = await server.post(id, "a star")
        assert (broken.status_code, broken.json()["error"]["code"]) == (503, "unavailable")
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER TABLE gone RENAME TO redraft_events")
        assert (await server.say(id, "a star"))[-1]["event"] == "replied", "nothing stays in the way"
        with pytest.raises(BackendError):
            await server.service.database._do(lambda c: c.execute("SELECT * FROM nothing"))
