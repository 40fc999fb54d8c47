"""Journals: what was written is there again, wherever a process was killed; nothing is made twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from redraft.errors import InputError
from redraft.journal import Entry, Journal, JournalFile, Key, Occupied, OtherJournal, lock, read_entry, read_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "journal.jsonl"


def open_journal(path: Path, **options: object) -> Journal:
    return Journal(path, "test", **options)


def write_some(path: Path) -> None:
    with open_journal(path) as journal:
        journal.put("a", 1)
        journal.put(("kind", "b"), {"x": "naïve\u2028日本\ud83d"}, seconds=0.5)
        journal.put("a", [2, None])


def read(path: Path) -> list[tuple[Key, object]]:
    return [(entry.key, entry.value) for entry in read_journal(path, "test")]


def test_what_was_written_is_there_again_in_order(path: Path) -> None:
    write_some(path)
    with open_journal(path) as journal:
        assert [entry.key for entry in journal] == ["a", ("kind", "b"), "a"]
        assert journal.get("a") == [2, None]
        assert journal.get(("kind", "b")) == {"x": "naïve\u2028日本\ud83d"}
        assert [entry.seconds for entry in journal] == [0.0, 0.5, 0.0]
        assert journal.values("kind") == [{"x": "naïve\u2028日本\ud83d"}]
        assert journal.seconds() == {"a": 0.0, "kind": 0.5}
        assert "a" in journal
        assert "c" not in journal
        assert journal.get("c") is None


def test_every_line_is_json_with_its_key_and_value(path: Path) -> None:
    write_some(path)
    first, second, *_ = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert (first["journal"], first["version"]) == ("test", 1)
    assert (second["key"], second["value"]) == ("a", 1)


def test_a_torn_end_is_cut_off_wherever_it_is_torn(path: Path) -> None:
    write_some(path)
    data = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        whole = max(0, sum(end <= cut for end in ends) - 1)
        assert len(read(path)) == whole
        assert path.stat().st_size == cut, "reading cuts nothing off"
        with open_journal(path) as journal:
            assert len(list(journal)) == whole
            journal.put("after", cut)
        assert read(path)[-1] == ("after", cut)
        assert len(read(path)) == whole + 1


def test_zeros_that_a_loss_of_power_left_at_the_end_are_cut_off(path: Path) -> None:
    write_some(path)
    path.write_bytes(path.read_bytes() + bytes(100))
    with open_journal(path) as journal:
        assert len(list(journal)) == 3


def test_what_was_written_together_is_there_whole_or_not_at_all(path: Path) -> None:
    with open_journal(path) as journal:
        journal.put("before", 0)
        begin = path.stat().st_size
        journal.put_all({"a": 1, "b": 2, "c": 3}, seconds=3.0)
    data = path.read_bytes()
    for cut in range(begin, len(data)):
        path.write_bytes(data[:cut])
        assert read(path) == [("before", 0)]
        with open_journal(path) as journal:
            assert [entry.key for entry in journal] == ["before"]
    path.write_bytes(data)
    with open_journal(path) as journal:
        assert [(entry.key, entry.seconds) for entry in journal][1:] == [("a", 1.0), ("b", 1.0), ("c", 1.0)]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_any_other_damaged_line_is_an_error_that_names_it(path: Path, at: int) -> None:
    write_some(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[at + 1] = lines[at + 1].replace(b'"value"', b'"valve"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=f"line {at + 2}, is damaged.*use another --out"):
        open_journal(path, advice="use another --out")


@pytest.mark.parametrize("content", [b"nonsense\n", b'{"is": "report"}\n', b"no newline", b"\xff\xfe\n", b"\n"])
def test_a_file_of_something_else_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(OtherJournal, match="no journal"):
        open_journal(path)
    assert path.read_bytes() == content


def test_another_kind_version_or_settings_are_refused(path: Path) -> None:
    with open_journal(path, about={"model": "m", "more": {"seed": 1}}) as journal:
        pass
    with pytest.raises(OtherJournal, match="kind 'other'"):
        Journal(path, "other")
    with pytest.raises(OtherJournal, match="version is 1, this one reads 2"):
        open_journal(path, version=2)
    with pytest.raises(OtherJournal, match="other settings") as error:
        open_journal(path, about={"model": "m", "more": {"seed": 2}})
    assert error.value.changed == ("more.seed",)
    with open_journal(path, about={"model": "m", "more": {"seed": 1}}) as journal:
        journal.put("a", 1)
    assert read(path) == [("a", 1)]


def test_a_second_process_is_kept_out_until_the_first_ends(path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        open_journal(path).put("a", 1)
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    with pytest.raises(Occupied, match="another process works on"):
        open_journal(path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with open_journal(path) as journal:
        assert journal.get("a") == 1


def test_a_folder_can_be_locked(tmp_path: Path) -> None:
    with lock(tmp_path / "lock"), pytest.raises(Occupied, match=tmp_path.name), lock(tmp_path / "lock"):
        pass
    with lock(tmp_path / "lock"):
        pass
    with pytest.raises(InputError, match="cannot write"), lock(tmp_path / "no" / "lock"):
        pass


def test_a_journal_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        open_journal(tmp_path / "file" / "journal")


def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def fails(handle: int, data: bytes) -> int:
        if len(data) > 7:
            return write(handle, bytes(data)[:7])
        raise OSError(28, "No space left on device")

    with open_journal(path) as journal:
        journal.put("a", 1)
        monkeypatch.setattr(os, "write", fails)
        with pytest.raises(InputError, match="No space left"):
            journal.put("b", 2)
        monkeypatch.setattr(os, "write", write)
        assert "b" not in journal
        journal.put("c", 3)
    assert read(path) == [("a", 1), ("c", 3)]


# Kills. A child writes until it dies by SIGKILL at its n-th write or sync; what it had acknowledged has to be there.


def killed_child(path: Path, acknowledged: Path, die_at: int) -> bool:
    """Whether the child came to its end before its `die_at`-th event."""
    child = os.fork()
    if child == 0:
        count = 0
        real_write = os.write

        def tick(half: Callable[[], object]) -> None:
            nonlocal count
            count += 1
            if count == die_at:
                half()
                os.kill(os.getpid(), signal.SIGKILL)

        def write(handle: int, data: bytes) -> int:
            tick(lambda: real_write(handle, bytes(data)[: len(data) // 2]))
            return real_write(handle, data)

        os.write = write  # type: ignore[assignment]
        os.fsync = lambda handle: tick(lambda: None)  # type: ignore[assignment,misc]
        code = 1
        try:
            with open_journal(path) as journal:
                for number in range(4):
                    journal.once(f"key {number}", lambda number=number: number)
                    acknowledged.write_text(str(number))
                if "pair 0" not in journal:
                    journal.put_all({"pair 0": 0, "pair 1": 1})
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        return True
    return False


def test_a_process_may_be_killed_at_any_write_or_sync(tmp_path: Path) -> None:
    whole = [(f"key {number}", number) for number in range(4)] + [("pair 0", 0), ("pair 1", 1)]
    for die_at in range(1, 100):
        path, acknowledged = tmp_path / f"{die_at}.jsonl", tmp_path / f"{die_at}.txt"
        ended = killed_child(path, acknowledged, die_at)
        kept = read(path) if path.exists() else []
        assert kept == whole[: len(kept)]
        assert len(kept) != 5, "half of a pair"
        if acknowledged.exists():
            assert len(kept) > int(acknowledged.read_text())
        assert killed_child(path, acknowledged, 10_000), "the second run ends"
        assert read(path) == whole, "each once"
        if ended:
            break
    else:
        pytest.fail("the child never came to its end")
    assert die_at > 10


# Making things once.


def test_a_piece_of_work_is_made_once(path: Path) -> None:
    made: list[int] = []
    for _ in range(2):
        with open_journal(path) as journal:
            assert journal.once("a", lambda: made.append(1) or "x") == "x"
            assert journal.once("a", lambda: made.append(1) or "x") == "x"
    assert made == [1]
    with open_journal(path) as journal:
        assert journal.once("a", lambda: "y", again=True) == "y"
        assert journal.get("a") == "y"


def test_what_failed_is_made_again(path: Path) -> None:
    with open_journal(path) as journal:
        with pytest.raises(ZeroDivisionError):
            journal.once("a", lambda: 1 // 0)
        assert "a" not in journal
        assert journal.once("a", lambda: 1) == 1


def test_threads_share_what_is_being_made(path: Path) -> None:
    made, gate, results = [], threading.Event(), []

    def make() -> int:
        gate.wait(60)
        made.append(1)
        return len(made)

    with open_journal(path) as journal:
        threads = [threading.Thread(target=lambda: results.append(journal.once("a", make))) for _ in range(5)]
        for thread in threads:
            thread.start()
        gate.set()
        for thread in threads:
            thread.join()
    assert results == [1] * 5


async def test_coroutines_share_what_is_being_made(path: Path) -> None:
    made: list[int] = []

    async def make() -> int:
        made.append(1)
        await asyncio.sleep(0.01)
        return len(made)

    async def fail() -> int:
        await asyncio.sleep(0.01)
        raise InputError("down")

    with open_journal(path) as journal:
        assert await asyncio.gather(*(journal.aonce("a", make) for _ in range(5))) == [1] * 5
        assert journal.seconds()["a"] > 0
        failures = await asyncio.gather(*(journal.aonce("b", fail) for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in failures] == ["down"] * 3
        assert await journal.aonce("b", make) == 2


async def test_when_the_maker_is_cancelled_another_caller_makes_it(path: Path) -> None:
    made: list[int] = []

    async def make() -> int:
        made.append(1)
        await asyncio.sleep(0.01)
        return 7

    with open_journal(path) as journal:
        first, second, third = (asyncio.create_task(journal.aonce("a", make)) for _ in range(3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        third.cancel()
        assert await second == 7
        assert [first.cancelled(), third.cancelled()] == [True, True]
    assert len(made) == 2


# Files that several processes write, and files of which nothing is held in memory.


def test_processes_may_share_a_journal(path: Path) -> None:
    with open_journal(path, shared=True) as one, open_journal(path, shared=True) as two:
        one.put("a", 1)
        assert two.get("a") == 1
        two.put("b", 2)
        one.put("c", 3)
        assert one.get("b") == 2
        with path.open("ab") as file:
            file.write(b'{"crc": "half')  # a third process was killed
        two.put("d", 4)
        assert one.get("d") == 4
    assert [key for key, _ in read(path)] == ["a", "b", "c", "d"]


def test_many_processes_write_at_once_and_nothing_is_lost(path: Path) -> None:
    children = []
    for name in range(4):
        child = os.fork()
        if child == 0:
            with open_journal(path, shared=True) as journal:
                for number in range(25):
                    journal.put(f"{name}/{number}", number, sync=False)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert len({key for key, _ in read(path)}) == 100


def test_entries_are_found_by_their_offsets(path: Path) -> None:
    with JournalFile(path, "test") as file:
        offsets = file.append([Entry("a", 1), Entry("b", "x" * 5000)])
        offsets += file.append([Entry("c", 3)], sync=False)
    with JournalFile(path, "test") as file:
        assert [(entry.key, entry.offset) for entry in file.load()] == list(zip("abc", offsets, strict=True))
        offsets += file.append([Entry("d", 4)])
    with path.open("rb") as opened:
        assert [read_entry(opened.fileno(), offset).key for offset in offsets] == ["a", "b", "c", "d"]
        assert read_entry(opened.fileno(), offsets[1]).value == "x" * 5000
        with pytest.raises(ValueError, match="checksum"):
            read_entry(opened.fileno(), offsets[1] + 1)
