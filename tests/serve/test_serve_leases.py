"""Who works on a turn: a server that lives keeps it, one that is gone loses it, whatever any wall clock says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.serve.database import LEASE_S, Database, EventRow, Sqlite, TurnRow
from agent.serve.errors import Busy, NotFound, TooMany
from redraft.journal import Occupied

TURN = TurnRow("id", "conversation", "client", 1, {"request": "a star", "answers": False}, cancelled=False)


class Watch:
    """A monotonic clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def accept(database: Database, turn: TurnRow, record: int, most: int = 10) -> int:
    event = EventRow(0, turn.number, "turn_queued", {})
    return await database.accept_turn(
        turn, {"is": "turn", "turn": turn.number}, record, event=event, key="queued", title="", owner="one", most=most
    )


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[tuple[Database, Database, Watch]]:
    """Two servers on one database, and the clock of the second. The first one works on a turn."""
    watch = Watch()
    one, two = Database(Sqlite(tmp_path / "a.db")), Database(Sqlite(tmp_path / "a.db"), clock=watch)
    await one.add_conversation(TURN.conversation, TURN.client, "", "mini", None)
    await accept(one, TURN, 0)
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


async def test_a_turn_is_accepted_as_a_whole_or_not_at_all(servers: tuple[Database, Database, Watch]) -> None:
    one, two, _ = servers
    other = replace(TURN, id="other", number=2)
    for error, turn, record, most in (
        (Busy, other, 1, 10),
        (TooMany, other, 1, 1),
        (NotFound, replace(other, conversation="gone"), 0, 10),
        (NotFound, replace(other, client="bob"), 1, 10),
    ):
        with pytest.raises(error):
            await accept(two, turn, record, most)
    await one.end_turn(TURN.id)
    with pytest.raises(Occupied):
        await accept(two, other, 0)
    assert (len(await one.records("conversation")), len(await one.events("conversation", 0))) == (1, 1)
    assert await accept(two, other, 1) == 2


async def test_a_conversation_is_deleted_only_while_it_rests(servers: tuple[Database, Database, Watch]) -> None:
    one, two, _ = servers
    with pytest.raises(Busy):
        await two.delete_conversation("client", "conversation")
    await one.end_turn(TURN.id)
    with pytest.raises(NotFound):
        await two.delete_conversation("bob", "conversation")
    await two.delete_conversation("client", "conversation")
    assert (await one.records("conversation"), await one.events("conversation", 0)) == ([], [])
