"""Who works on a turn: a server that lives keeps it, one that is gone loses it, whatever any wall clock says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.serve.database import LEASE_S, Database, Sqlite, TurnRow

TURN = TurnRow("id", "conversation", "client", 1, {}, cancelled=False)


class Watch:
    """A monotonic clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[tuple[Database, Database, Watch]]:
    """Two servers on one database, and the clock of the second. The first one works on a turn."""
    watch = Watch()
    one, two = Database(Sqlite(tmp_path / "a.db")), Database(Sqlite(tmp_path / "a.db"), clock=watch)
    assert await one.add_turn(TURN, "one", 10) == ""
    yield one, two, watch
    await one.close()
    await two.close()


async def test_a_server_that_renews_keeps_its_turn(servers: tuple[Database, Database, Watch]) -> None:
    one, two, watch = servers
    for _ in range(8):
        assert await two.claim_turns("two") == []
        watch.now += 0.9 * LEASE_S
        assert await one.renew("one") == {"id": False}


async def test_a_server_that_is_gone_loses_its_turn_to_one_other(servers: tuple[Database, Database, Watch]) -> None:
    one, two, watch = servers
    assert await two.claim_turns("two") == []
    watch.now += LEASE_S
    assert await two.claim_turns("two") == []
    watch.now += 0.1
    assert await two.claim_turns("two") == [TURN]
    assert await one.renew("one") == {}
    assert await two.renew("two") == {"id": False}
    assert await one.claim_turns("one") == [], "the new holder is watched anew"


async def test_a_server_that_slept_for_an_hour_takes_nothing_from_one_that_lives(
    servers: tuple[Database, Database, Watch],
) -> None:
    one, two, watch = servers
    assert await two.claim_turns("two") == []
    await one.renew("one")
    watch.now += 3600
    assert await two.claim_turns("two") == []


async def test_what_a_server_lets_go_of_is_taken_up_at_once(servers: tuple[Database, Database, Watch]) -> None:
    one, two, _ = servers
    await one.release("one")
    assert await two.claim_turns("two") == [TURN]
    assert await one.claim_turns("one") == []


async def test_a_server_that_is_alone_takes_up_everything(servers: tuple[Database, Database, Watch]) -> None:
    _, two, _ = servers
    assert await two.claim_turns("two", everything=True) == [TURN]
