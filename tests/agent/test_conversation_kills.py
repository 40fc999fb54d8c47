"""A conversation that is killed at any of its records goes on as if nothing had happened, whatever the clock says."""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.chat.conversation import LOG, Conversation, ConversationStatus, Storage, list_conversations
from agent.chat.journal import DAMAGED, FileLog, Record, fold_records
from agent.chat.values import Enclosed, Replied
from redraft.errors import InputError
from redraft.journal import Entry, JournalFile
from redraft.limits import Limits
from tests.agent.test_conversation import models

REQUESTS = (
    "/seed 5",
    "a star",
    "make the star blue",
    "two hearts",
    "change this one",  # the answer to a question
    "undo",
    "/branch other",
    "/back 2",
    "perfect, thanks!",
    "/accept 0.5",
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


class Deadly(FileLog):
    """Dies at its `at`-th record, before it is written or right after."""

    written = 0

    def __init__(self, path: Path, at: int, *, after: bool) -> None:
        super().__init__(path)
        self._at = at
        self._after = after

    async def append(self, number: int, record: Record) -> None:
        Deadly.written += 1
        if Deadly.written == self._at and not self._after:
            raise Killed
        await super().append(number, record)
        if Deadly.written == self._at:
            raise Killed


def reopened(home: Path, at: int = 0, *, after: bool = False) -> Conversation:
    storage = replace(
        Storage.in_files(home),
        open_log=lambda name: Deadly(home / name / LOG, at, after=after) if at else FileLog(home / name / LOG),
    )
    return Conversation(home, "one", models(), limits=Limits(), profile=None, storage=storage)


async def converse(chat: Conversation, requests: Sequence[str]) -> None:
    """Says what was not yet said, as a user does who sees how the conversation stands."""
    while True:
        view = await chat.view()
        said = sum(1 + bool(entry.answer) for entry in view.entries) + (view.waiting is not None)
        if view.pending is not None:
            await chat.turn(None)
        elif said == len(requests):
            return
        else:
            await chat.turn(requests[said])


async def left(home: Path) -> tuple[ConversationStatus, object]:
    view = await reopened(home).view()
    others = sorted((summary.name, summary.parent) for summary in list_conversations(home))
    other = Conversation.open(home, "other", models(), limits=Limits(), profile=None)
    return replace(view, replied=None), (others, replace(await other.view(), replied=None))


async def created(home: Path) -> None:
    await Conversation.create(home, "one", models(), limits=Limits())


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
async def test_killed_at_any_record_it_goes_on_as_if_nothing_had_happened(tmp_path: Path, stride: int) -> None:
    whole = tmp_path / "whole"
    await created(whole)
    await converse(reopened(whole), REQUESTS)
    expected = await left(whole)
    records = len(list(await FileLog(whole / "one" / LOG).read())) + 1  # and the first of the branch
    assert records > 2 * len(REQUESTS)
    for after in (False, True):
        for at in range(1 + 2 * after, records, stride):
            home = tmp_path / f"{at}{after}"
            await created(home)
            Deadly.written = 0
            with pytest.raises(Killed):
                await converse(reopened(home, at, after=after), REQUESTS)
            await converse(reopened(home), REQUESTS)
            assert await left(home) == expected, (at, after)


async def test_a_torn_record_was_never_written(tmp_path: Path) -> None:
    await created(tmp_path)
    await reopened(tmp_path).turn("a star")
    before = await reopened(tmp_path).view()
    with (tmp_path / "one" / LOG).open("ab") as file:
        file.write(b'{"crc": "0000')
    assert await reopened(tmp_path).view() == before
    await reopened(tmp_path).turn("/undo")
    assert (await reopened(tmp_path).view()).current == 0


def damage(path: Path, first: int, *, records: int = 1, joined: bool = False) -> None:
    """Damages lines of the log: a bit of each, or (`joined`) all of them are zeros, their ends too but the last one."""
    lines = path.read_bytes().splitlines(keepends=True)
    hit = range(1 + first, 1 + first + records)  # the first line is the journal's head
    for number in hit:
        line = lines[number]
        lines[number] = line[:20] + bytes([line[20] ^ 1]) + line[21:]
    if joined:
        lines[hit.start : hit.stop] = [bytes(sum(len(lines[number]) for number in hit) - 1) + b"\n"]
    path.write_bytes(b"".join(lines))


def turn_of(record: Record) -> int | None:
    return record["entry"]["turn"] if record["is"] == "end" else record.get("turn")


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("records", "joined"), [(1, False), (2, True), (3, False)])
async def test_damaged_records_cost_what_they_held_and_no_more(
    tmp_path: Path, records: int, joined: bool, stride: int
) -> None:
    whole = tmp_path / "whole"
    await created(whole)
    await converse(reopened(whole), REQUESTS)
    expected = await reopened(whole).view()
    log = await FileLog(whole / "one" / LOG).read()
    for first in range(0, len(log) - records + 1, stride):
        home = tmp_path / str(first)
        shutil.copytree(whole, home)
        path = home / "one" / LOG
        damage(path, first, records=records, joined=joined)
        hit = {turn_of(record) for record in log[first : first + records]}
        before = await reopened(home).view()
        chat = reopened(home)
        if before.pending is not None:
            await chat.turn(None)
        reply = await chat.turn("/draw a star")
        view = await chat.view()

        at_end = first + records == len(log)
        assert before.damaged == view.damaged == (1 if at_end else records), first
        if before.pending is None:
            assert view.entries[: len(before.entries)] == before.entries, "writing the file anew changes nothing"
        assert path.with_name(f"{LOG}.damaged").is_file()
        assert isinstance(reply, Replied), first
        assert not reply.entry.error, (first, reply)
        assert reply.entry.turn > expected.turn - at_end, "no number, and no run, is used again"
        entries = {entry.turn: entry for entry in view.entries}
        for entry in expected.entries:
            if at_end and entry.turn in hit and entries[entry.turn].turn == reply.entry.turn:
                continue  # a last turn without a folder has left nothing
            assert entries[entry.turn].request in ({entry.request} | ({DAMAGED} if entry.turn in hit else set()))
            if entry.turn not in hit:
                assert (entries[entry.turn].reply, entries[entry.turn].error) == (entry.reply, entry.error), first
        pictures = {picture.number: picture for picture in view.pictures}
        for picture in expected.pictures:
            if picture.run is not None and int(picture.run[-4:]) not in hit:
                assert pictures[picture.number].image == picture.image, "pictures keep their numbers"
        assert len(pictures) == len(view.pictures)
        for entry in view.entries:
            assert set(entry.pictures) <= set(pictures), first
        page = (await chat.export()).read_text()
        assert all(entry.request in html.unescape(page) for entry in view.entries)
        await chat.turn("/back 1")
        await chat.turn("/undo")
        await chat.turn("/redo")
        await chat.turn("/branch third")


async def test_a_file_without_a_whole_line_is_one_clear_sentence(tmp_path: Path) -> None:
    await created(tmp_path)
    path = tmp_path / "one" / LOG
    path.write_bytes(path.read_bytes().replace(b'"crc": "', b'"crc": "x'))
    with pytest.raises(InputError, match="no journal"):
        await reopened(tmp_path).view()
    with pytest.raises(InputError, match="cannot be read"):
        fold_records([{"is": "nosuch"}])


async def test_a_turn_that_cannot_be_finished_can_be_given_up(tmp_path: Path) -> None:
    await created(tmp_path)
    at = 3  # the record of the end
    Deadly.written = 0
    with pytest.raises(Killed):
        await reopened(tmp_path, at).turn("a star")
    chat = reopened(tmp_path)
    await chat.give_up("the disk was full")
    view = await chat.view()
    assert (view.pending, view.entries[-1].reply, view.entries[-1].error) == (None, "the disk was full", True)
    assert (await chat.turn("/draw a star")) is not None
    assert (await chat.view()).turn == 2, "the number of the turn is not used again"


async def test_what_is_enclosed_holds_after_a_kill(tmp_path: Path) -> None:
    await created(tmp_path)
    Deadly.written = 0
    enclosed = Enclosed(seed=7, limits=Limits(max_images=1), accept_at=0.5)
    with pytest.raises(Killed):
        await reopened(tmp_path, 1, after=True).turn("a star", enclosed)
    await reopened(tmp_path).turn(None)
    run = (tmp_path / "one" / "turn-0001" / "run.json").read_text()
    assert '"seed": 7' in run
    assert '"max_images": 1,' in run
    assert (await reopened(tmp_path).view()).accept_at == 0.5


async def test_an_earlier_version_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "conversation.json").write_text("{}")
    with pytest.raises(InputError, match="version"):
        Conversation.open(tmp_path, "old", models(), limits=Limits(), profile=None)
    await created(tmp_path)
    path = tmp_path / "one" / LOG
    path.unlink()
    with JournalFile(path, "conversation", version=99) as file:
        list(file.load())
        file.append([Entry("x", {})])
    with pytest.raises(InputError, match="version"):
        Conversation.open(tmp_path, "one", models(), limits=Limits(), profile=None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes, and this system has no fork")
def test_clocks_that_move_between_its_processes_change_nothing(tmp_path: Path) -> None:
    def drive(folder: Path, *arguments: int) -> dict[str, Any]:
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "tests.agent.chat_clock_driver", str(folder), *map(str, arguments)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        left: dict[str, Any] = json.loads(done.stdout)
        return left

    whole = drive(tmp_path / "whole", 0)
    for writes in (14,):  # less than a batch of pictures needs would never get on
        moved = drive(tmp_path / str(writes), writes, 3600, 0, -3600, 60, -60)
        assert moved["kills"] >= 8
        assert moved["left"] == whole["left"]
