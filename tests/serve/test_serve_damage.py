"""What a server keeps in its database is damaged: each row and each place of the file costs what it held, and no more."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.serve.database import Database, Sqlite, load_text
from redraft.errors import ConfigError
from tests.serve.conftest import Running, Start, follow

FILE = "server.sqlite"
PAGE = 4096
COLUMNS = {
    "redraft_conversations": ("title", "profile", "parent", "created", "updated", "turns", "thumb", "last_event"),
    "redraft_records": ("number", "record"),
    "redraft_turns": ("client", "number", "body", "owner", "beat", "cancelled"),
    "redraft_events": ("seq", "turn", "key", "name", "data"),
    "redraft_runs": ("client", "folder", "created"),
    "redraft_leftovers": ("image",),
}


def flip(value: Any) -> Any:
    if isinstance(value, str) and value:
        middle = len(value) // 2
        return value[:middle] + chr(ord(value[middle]) ^ 1) + value[middle + 1 :]
    return value ^ 4 if isinstance(value, int) else "x"


WAYS: dict[str, Callable[[Any], Any]] = {
    "flipped": flip,
    "cut": lambda value: str(value)[: len(str(value)) // 2],
    "emptied": lambda value: "",
    "nothing": lambda value: None,
    "bytes": lambda value: b"\xff\x00\xfe" * 9,
    "a number": lambda value: 2**60,
    "half an emoji": lambda value: b"\xf0\x9f{",
}


@pytest.fixture
async def whole(start: Start, tmp_path: Path) -> tuple[Path, list[str], list[dict[str, Any]]]:
    """A server's folder with two conversations of two turns each; their ids and views."""
    async with start() as server:
        ids = [await server.new(title=name) for name in ("one", "other")]
        for id in ids:
            await server.say(id, "a star")
            await server.say(id, "make the star blue")
        gone = await server.new()
        await server.say(gone, "/draw a heart")
        views = [{**(await server.http.get(f"/api/conversations/{id}")).json(), "updated": ""} for id in ids]
    folder = tmp_path / "whole"
    shutil.move(tmp_path / "data", folder)
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        # As a server leaves it that was killed: a turn under way, and a picture that is to be removed.
        connection.execute("DELETE FROM redraft_conversations WHERE id = ?", (gone,))
        connection.execute("INSERT INTO redraft_leftovers VALUES ('local', ?)", ("0" * 64,))
        connection.execute(
            "INSERT INTO redraft_turns (id, conversation, client, number, body) VALUES ('t', ?, 'local', 2, '{}')",
            (ids[0],),
        )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    return folder, ids, views


async def check_served(server: Running, ids: list[str]) -> list[dict[str, Any] | None]:
    """No answer is a mistake of the server's, and what is there can be used. The views of the conversations."""
    http, views = server.http, []
    listed = await http.get("/api/conversations")
    assert listed.status_code == 200, listed.text
    there = {info["id"] for info in listed.json()["conversations"]}
    for path in ("/api/pictures", "/metrics"):
        assert (await http.get(path)).status_code == 200, path
    for id in ids:
        if id not in there:
            views.append(None)
            continue
        async with asyncio.timeout(60):
            while True:
                answer = await http.get(f"/api/conversations/{id}")
                if answer.status_code != 200 or answer.json()["working"] is None:
                    break
                await asyncio.sleep(0.01)
        assert answer.status_code < 500, answer.text
        assert answer.status_code == 200 or "cannot be read" in answer.text or "no profile" in answer.text, answer.text
        views.append({**answer.json(), "updated": ""} if answer.status_code == 200 else None)
        if answer.status_code != 200:
            continue
        for run in {picture["run"] for picture in answer.json()["pictures"]} - {None}:
            assert (await http.get(f"/api/runs/{run}")).status_code in (200, 404)
        [*_, end] = await server.say(id, "/list")
        assert end["event"] == "replied", "the conversation can be used"
        await follow(http, id, until=(), last=end["id"])
    return views


def rows(folder: Path, table: str) -> list[int]:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        where = "" if table == "redraft_leftovers" else "ORDER BY rowid"
        return [rowid for (rowid,) in connection.execute(f"SELECT rowid FROM {table} {where}")]


def damage_row(folder: Path, table: str, rowid: int, column: str, way: Callable[[Any], Any]) -> bool:
    """False if the database refuses it."""
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        [value] = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        cast = "CAST(? AS TEXT)" if way is WAYS["half an emoji"] else "?"
        try:
            connection.execute(f"UPDATE {table} SET {column} = {cast} WHERE rowid = ?", (way(value), rowid))
        except sqlite3.IntegrityError:
            return False
    return True


def cases(folder: Path) -> Iterator[tuple[str, int, str, str]]:
    for table, columns in COLUMNS.items():
        numbers = rows(folder, table)
        for number, column in enumerate(columns):
            for turn, way in enumerate(WAYS):
                yield table, numbers[(number * 7 + turn * 3) % len(numbers)], column, way


@pytest.mark.parametrize("stride", [41, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_damaged_row_costs_what_it_held(
    whole: tuple[Path, list[str], list[dict[str, Any]]],
    start: Start,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    stride: int,
) -> None:
    folder, ids, before = whole
    tried = 0
    for table, rowid, column, way in list(cases(folder))[::stride]:
        data = tmp_path / f"{table}-{column}-{way}"
        shutil.copytree(folder, data)
        with closing(sqlite3.connect(data / FILE)) as connection:
            key = "id" if table == "redraft_conversations" else "conversation"
            owner = "" if table == "redraft_leftovers" else connection.execute(
                f"SELECT {key} FROM {table} WHERE rowid = ?", (rowid,)
            ).fetchone()[0]  # fmt: skip
        if not damage_row(data, table, rowid, column, WAYS[way]):
            continue
        tried += 1
        async with start(data=data) as server:
            views = await check_served(server, ids)
        for id, view, was in zip(ids, views, before, strict=True):
            if id != owner and not (id == ids[0] and table == "redraft_turns"):
                assert view == was, (table, rowid, column, way)
        assert not [r for r in caplog.records if r.levelno >= logging.ERROR], (table, rowid, column, way)
        shutil.rmtree(data)
    assert tried > 100 / stride


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_damaged_page_costs_what_it_held(
    whole: tuple[Path, list[str], list[dict[str, Any]]], start: Start, tmp_path: Path, stride: int
) -> None:
    folder, ids, before = whole
    data = (folder / FILE).read_bytes()
    pages = range(1, len(data) // PAGE, stride)
    same = 0
    for page in pages:
        place = tmp_path / f"page{page}"
        shutil.copytree(folder, place)
        (place / FILE).write_bytes(data[: page * PAGE] + bytes(PAGE) + data[(page + 1) * PAGE :])
        async with start(data=place) as server:
            views = await check_served(server, ids)
        assert None not in views, f"page {page}: what is lost of a conversation's row stands in the others"
        same += sum(view == was for view, was in zip(views, before, strict=True))
        shutil.rmtree(place)
    assert same >= len(pages), "most pages are of one conversation, or of none"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: data[:50], "nothing of it can be read"),
        (lambda data: bytes(len(data)), "nothing of it can be read"),
        (lambda data: bytes(100) + data[100:], "nothing of it can be read"),
        (lambda data: data[:100] + bytes(PAGE - 100) + data[PAGE:], "nothing of it can be read"),
        (lambda data: data[: len(data) // 2], None),
        (lambda data: data[: -3 * PAGE], None),
    ],
)
def test_a_damaged_file_is_one_sentence_or_mended(
    tmp_path: Path, damage: Callable[[bytes], bytes], said: str | None
) -> None:
    async def fill(path: Path) -> None:
        database = Database(Sqlite(path))
        for number in range(40):
            await database.add_conversation(f"c{number}", "local", "a title", "mini", None)
            for record in range(5):
                await database.add_record(f"c{number}", record, {"is": "settings", "settings": {"mask": "x" * 100}})
        await database.close()

    path = tmp_path / FILE
    (tmp_path / "clients" / "local" / "conversations" / "c0").mkdir(parents=True)
    asyncio.run(fill(path))
    path.write_bytes(damage(path.read_bytes()))
    if said is not None:
        with pytest.raises(ConfigError, match=said):
            Sqlite(path)
        return

    async def read() -> None:
        database = Database(Sqlite(path))
        assert len(await database.conversations("local")) >= 10
        await database.add_conversation("new", "local", "", "mini", None)
        await database.close()

    asyncio.run(read())
    assert path.with_name(f"{FILE}.damaged").is_file()
    asyncio.run(read())


def test_texts_of_earlier_versions_have_no_checksum() -> None:
    assert load_text('{"is": "turn"}') == {"is": "turn"}
    for text in ('{"is": "turn"', "[1]", None, 3, b"{}", '{"is": "turn"}\n00000000', "[" * 100_000):
        assert load_text(text) is None
