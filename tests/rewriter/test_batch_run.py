"""Batches without a model: order, duplicates, resuming, shares, candidates, failures, full disks."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from redraft.chat import ChatReply, ChatRequest
from redraft.errors import BackendError, InputError, ModelMissing, ServerError
from redraft.journal import JournalFile
from redraft.testing import text_of
from rewriter.batch.engines import BatchEngine, ChatEngine, FakeEngine
from rewriter.batch.maker import Choice, consensus
from rewriter.batch.run import work_path
from rewriter.batch.work import WHOLE, Record, Shard, Status, WorkFolder
from rewriter.types import Rewrite
from tests.rewriter.batches import read_jsonl, run, write_jsonl

ROOT = Path(__file__).parents[2]


def prompts(tmp_path: Path, count: int, repeat: int = 1) -> Path:
    different = count // repeat
    rows = [{"id": at, "prompt": f"a fox with sign {at % different}"} for at in range(count)]
    return write_jsonl(tmp_path / "in.jsonl", rows)


def same(text: str, number: int) -> str:
    """An answer that asks for what was asked."""
    return "a fox with sign " + text.split("sign ")[1].split()[0]


class Scripted:
    """An engine whose answer is a function of the request's text."""

    def __init__(self, answer, window: int = 4) -> None:  # type: ignore[no-untyped-def]
        self.requests: list[ChatRequest] = []
        self.name, self.window = "scripted", window
        self._answer = answer

    async def __call__(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        answer = self._answer(text_of(request), len(self.requests))
        if isinstance(answer, Exception):
            raise answer
        return ChatReply(f"<think>so</think><answer>{answer}</answer>", model="scripted")

    async def aclose(self) -> None:
        pass


def test_equal_prompts_are_rewritten_once_and_rows_keep_their_order(tmp_path: Path) -> None:
    engine = FakeEngine(window=16, delay_s=0.001)
    counts = run(prompts(tmp_path, 2000, repeat=4), tmp_path / "out.jsonl", engine)
    assert engine.requests == 500
    found = read_jsonl(tmp_path / "out.jsonl")
    assert [row["id"] for row in found] == list(range(2000))
    assert all(row["prompt"].startswith(row["request"] + ", ") for row in found)
    assert (counts.rows, counts.requests, counts.statuses) == (2000, 500, {Status.REWRITTEN: 2000})


def test_white_space_around_a_prompt_makes_no_other_prompt(tmp_path: Path) -> None:
    engine = FakeEngine()
    source = write_jsonl(tmp_path / "in.jsonl", [{"prompt": "a fox"}, {"prompt": " a fox\r\n"}])
    run(source, tmp_path / "out.jsonl", engine)
    assert engine.requests == 1
    assert [row["input_prompt"] for row in read_jsonl(tmp_path / "out.jsonl")] == ["a fox", " a fox\r\n"]


def test_another_run_asks_only_what_is_new(tmp_path: Path) -> None:
    out, source = tmp_path / "out.jsonl", prompts(tmp_path, 50)
    run(source, out, FakeEngine())
    first = out.read_bytes()
    engine = FakeEngine()
    counts = run(source, out, engine)
    assert (engine.requests, counts.reused, counts.requests) == (0, 50, 0)
    assert out.read_bytes() == first
    write_jsonl(source, [*read_jsonl(source), {"id": 50, "prompt": "a new one"}])
    counts = run(source, out, engine)
    assert (engine.requests, counts.reused, counts.requests, counts.rows) == (1, 50, 1, 51)
    run(source, out, engine, fresh=True)
    assert engine.requests == 52


@pytest.mark.parametrize("change", ["seed", "target", "n", "temperature"])
def test_other_settings_make_other_records(tmp_path: Path, change: str) -> None:
    from tests.rewriter.batches import CONFIG

    source, out = prompts(tmp_path, 8), tmp_path / "out.jsonl"
    run(source, out, FakeEngine())
    engine = FakeEngine()
    changes = {
        "seed": {"seed": 1},
        "target": {"target": "flux"},
        "n": {"n": 2},
        "temperature": {"config": CONFIG.model_copy(update={"temperature": 0.5})},
    }
    run(source, out, engine, **changes[change])  # type: ignore[arg-type]
    assert engine.requests >= 8


def test_seeds_belong_to_prompts(tmp_path: Path) -> None:
    source = prompts(tmp_path, 30)
    run(source, tmp_path / "out.jsonl", FakeEngine())
    seeds = {row["request"]: row["seed"] for row in read_jsonl(tmp_path / "out.jsonl")}
    assert len(set(seeds.values())) == 30
    write_jsonl(source, read_jsonl(source)[::-1])
    run(source, tmp_path / "turned.jsonl", FakeEngine())
    assert {row["request"]: row["seed"] for row in read_jsonl(tmp_path / "turned.jsonl")} == seeds


def test_shares_cover_all_and_can_be_put_together(tmp_path: Path) -> None:
    """Three machines with a folder in common; then one command without --shard, which asks nothing more."""
    source, work = prompts(tmp_path, 300, repeat=2), tmp_path / "work"
    whole = FakeEngine()
    run(source, tmp_path / "whole.jsonl", whole)
    asked, seen = 0, []
    for at in (1, 2, 3):
        engine = FakeEngine()
        run(source, tmp_path / f"part{at}.jsonl", engine, shard=f"{at}/3", work=work)
        asked += engine.requests
        ids = [row["id"] for row in read_jsonl(tmp_path / f"part{at}.jsonl")]
        assert ids == sorted(ids)
        assert len(ids) > 30
        seen += ids
    assert sorted(seen) == list(range(300))
    assert asked == whole.requests == 150
    last = FakeEngine()
    run(source, tmp_path / "all.jsonl", last, work=work)
    assert last.requests == 0
    assert (tmp_path / "all.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"])
def test_shares_that_make_no_sense(text: str) -> None:
    with pytest.raises(InputError, match="write i/n"):
        Shard.parse(text)


def test_a_limit(tmp_path: Path) -> None:
    engine = FakeEngine()
    counts = run(prompts(tmp_path, 100), tmp_path / "out.jsonl", engine, limit=7)
    assert (counts.rows, engine.requests, len(read_jsonl(tmp_path / "out.jsonl"))) == (7, 7, 7)


def test_what_was_repaired_or_kept_says_so(tmp_path: Path) -> None:
    def answer(text: str, number: int) -> str:
        if "four hens" in text:
            return "two hens on a wall"
        if "three foxes" in text and "was refused" not in text:
            return "five foxes on a wall"
        return "three foxes on a wall" if "foxes" in text else "a tree on a hill"

    source = write_jsonl(tmp_path / "in.jsonl", [{"prompt": p} for p in ("three foxes", "four hens", "a tree")])
    counts = run(source, tmp_path / "out.jsonl", Scripted(answer), thought=True)
    repaired, kept, fine = read_jsonl(tmp_path / "out.jsonl")
    assert (repaired["status"], repaired["prompt"], repaired["thought"]) == ("rewritten", "three foxes on a wall", "so")
    assert any(finding.startswith("numbers: ") for finding in repaired["findings"])
    assert (kept["status"], kept["prompt"]) == ("kept", "four hens")
    assert any(finding.startswith("numbers: ") for finding in kept["findings"])
    assert (fine["status"], fine["findings"]) == ("rewritten", [])
    assert counts.made == {Status.KEPT: 1, Status.REWRITTEN: 2}


def test_candidates_and_their_selection(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"prompt": "a fox"}])
    moods = ["in fog", "in fog at dawn", "on the moon, neon, chrome"]
    engine = Scripted(lambda text, number: f"a fox {moods[number - 1]}", window=1)
    run(source, tmp_path / "out.jsonl", engine, n=3, select="consensus")
    [row] = read_jsonl(tmp_path / "out.jsonl")
    assert sorted(row["candidates"]) == sorted(f"a fox {mood}" for mood in moods)
    assert row["prompt"] in ("a fox in fog", "a fox in fog at dawn")
    assert len(row["scores"]) == 3
    assert row["prompt"] == row["candidates"][max(range(3), key=row["scores"].__getitem__)]
    assert "candidate_thoughts" not in row
    run(source, tmp_path / "plain.jsonl", FakeEngine(), n=3, thought=True)
    [row] = read_jsonl(tmp_path / "plain.jsonl")
    assert row["prompt"] == row["candidates"][0]
    assert row["thought"] == row["candidate_thoughts"][0]
    assert len(row["candidate_thoughts"]) == len(row["candidates"])
    assert "scores" not in row


def test_negative_prompts_of_candidates_are_kept_for_targets_that_take_them(tmp_path: Path) -> None:
    import pyarrow.parquet

    source = write_jsonl(tmp_path / "in.jsonl", [{"prompt": "a fox"}])
    engine = Scripted(
        lambda text, number: ["red fox, wall\nNegative prompt: hats", "red fox, sun"][number - 1], window=1
    )
    for name in ("out.jsonl", "out.parquet"):
        engine.requests.clear()
        run(source, tmp_path / name, engine, target="sdxl", n=2)
    [row] = read_jsonl(tmp_path / "out.jsonl")
    assert dict(zip(row["candidates"], row["candidate_negative_prompts"], strict=True)) == {
        "red fox, wall": "hats",
        "red fox, sun": None,
    }
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()[0]["candidates"] == row["candidates"]


def test_consensus_scores() -> None:
    assert consensus("", ["a fox in fog"]) == [1.0]
    alike, other, far = consensus("", ["a red fox in fog", "a red fox in thick fog", "zzz"])
    assert alike > far
    assert other > far
    assert consensus("", ["same words", "same words"]) == [1.0, 1.0]


def test_a_selector_may_keep_the_users_own(tmp_path: Path) -> None:
    class Keeps:
        async def __call__(self, prompt: str, rewrites: Sequence[Rewrite], seed: int) -> Choice:
            return Choice(None, (0.1, 0.9), ("judge: better",))

    run(
        write_jsonl(tmp_path / "in.jsonl", [{"prompt": "a fox"}]),
        tmp_path / "out.jsonl",
        FakeEngine(),
        selector=Keeps(),
    )
    [row] = read_jsonl(tmp_path / "out.jsonl")
    assert (row["status"], row["prompt"], row["scores"]) == ("kept", "a fox", [0.1, 0.9])
    assert row["findings"] == ["judge: better"]


def test_a_prompt_on_which_the_model_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    source, out = prompts(tmp_path, 30), tmp_path / "out.jsonl"

    def answer(text: str, number: int) -> str | Exception:
        return ServerError("too long for me") if "sign 7\n" in text else same(text, number)

    counts = run(source, out, Scripted(answer))
    assert counts.statuses == {Status.REWRITTEN: 29, Status.FAILED: 1}
    failed = read_jsonl(out)[7]
    assert (failed["status"], failed["prompt"]) == ("failed", "a fox with sign 7")
    assert failed["findings"] == ["failed: too long for me"]
    again = Scripted(same)
    counts = run(source, out, again)
    assert (len(again.requests), counts.reused, counts.statuses) == (1, 29, {Status.REWRITTEN: 30})


def test_a_server_that_goes_down_on_the_second_try_loses_no_row(tmp_path: Path) -> None:
    def answer(text: str, number: int) -> str | Exception:
        return ServerError("gone") if "was refused" in text else "five foxes"

    counts = run(
        write_jsonl(tmp_path / "in.jsonl", [{"prompt": "three foxes"}]), tmp_path / "out.jsonl", Scripted(answer)
    )
    assert counts.statuses == {Status.FAILED: 1}


def test_a_server_that_is_down_ends_the_batch_and_loses_nothing(tmp_path: Path) -> None:
    source, out = prompts(tmp_path, 400), tmp_path / "out.jsonl"
    down = Scripted(lambda text, number: same(text, number) if number <= 60 else ServerError("refused"))
    with pytest.raises(ServerError, match="refused\n20 requests in a row failed"):
        run(source, out, down)
    assert not out.exists()
    assert len(down.requests) < 60 + 20 + down.window
    up = Scripted(same)
    counts = run(source, out, up)
    assert len(up.requests) == 340
    assert counts.statuses == {Status.REWRITTEN: 400}


def test_a_model_that_never_works_ends_the_batch(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="broken"):
        run(prompts(tmp_path, 100), tmp_path / "out.jsonl", Scripted(lambda text, number: BackendError("broken")))
    missing = Scripted(lambda text, number: ModelMissing("no weights"))
    with pytest.raises(ModelMissing, match="no weights"):
        run(prompts(tmp_path, 100), tmp_path / "out.jsonl", missing)
    assert len(missing.requests) <= missing.window


def test_replies_are_read_in_other_processes_all_the_same(tmp_path: Path) -> None:
    source = prompts(tmp_path, 1300)
    run(source, tmp_path / "here.jsonl", FakeEngine(spoil=0.1), workers=0)
    run(source, tmp_path / "there.jsonl", FakeEngine(spoil=0.1), workers=2)
    assert (tmp_path / "here.jsonl").read_bytes() == (tmp_path / "there.jsonl").read_bytes()


def test_two_processes_cannot_work_on_one_share(tmp_path: Path) -> None:

    out = tmp_path / "out.jsonl"
    with WorkFolder(work_path(out), WHOLE), pytest.raises(InputError, match="another process"):
        run(prompts(tmp_path, 3), out, FakeEngine())


def test_a_torn_line_counts_for_nothing_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    source, out = prompts(tmp_path, 20), tmp_path / "out.jsonl"
    run(source, out, FakeEngine())
    whole = out.read_bytes()
    [records] = work_path(out).glob("records-*.jsonl")
    lines = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join(lines[:11]) + lines[11][:60])
    engine = FakeEngine()
    run(source, out, engine)
    assert engine.requests == 10
    assert out.read_bytes() == whole
    second = sorted(work_path(out).glob("records-*.jsonl"))[1]
    second.write_bytes(second.read_bytes().replace(b'"prompt": "', b'"prompt": x"', 1))
    with pytest.raises(InputError, match="line 2, is damaged"):
        run(source, out, FakeEngine())
    second.write_bytes(b"something else\n")
    with pytest.raises(InputError, match="no journal"):
        run(source, out, FakeEngine())


def test_a_record_that_is_damaged_while_a_run_works_is_named(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "work", WHOLE) as work:
        [(_, place)] = work.append([(b"0" * 16, Record(Status.KEPT, "a", 1))])
        assert work.get(place) == Record(Status.KEPT, "a", 1)
        [path] = (tmp_path / "work").glob("records-*.jsonl")
        path.write_bytes(path.read_bytes().replace(b'"prompt": "a"', b'"prompt": "b"'))
        with pytest.raises(InputError, match="is damaged at byte"):
            work.get(place)


FULL = """
import resource, sys
from pathlib import Path
sys.path[:0] = [{root!r}]
from rewriter.batch.engines import FakeEngine
from tests.rewriter.batches import run
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
run(Path({source!r}), Path({out!r}), FakeEngine(window=32))
"""


def test_files_that_cannot_grow_and_then_can(tmp_path: Path) -> None:
    """A real limit of the system: files end at 20,000 bytes, in the middle of a record."""
    source, out = prompts(tmp_path, 400), tmp_path / "out.jsonl"
    script = FULL.format(root=str(ROOT), source=str(source), out=str(out))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 1
    assert "InputError: cannot write" in done.stderr
    assert not out.exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    run(source, out, FakeEngine())
    assert [row["id"] for row in read_jsonl(out)] == list(range(400))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which this system does not have")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    source, out = prompts(tmp_path, 50), tmp_path / "out.jsonl"

    full = tmp_path / "full.jsonl"
    try:
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))  # a /dev/full of our own: links are not followed
    except PermissionError:
        pytest.skip("device files can be made by root alone")
    with WorkFolder(tmp_path / "work", WHOLE) as work:
        work._journal = JournalFile(full, "enhance")
        with pytest.raises(InputError, match="No space left on device; nothing that was finished is lost"):
            work.append([(b"0" * 16, Record(Status.KEPT, "a", 1))])
        work._journal.close()
    run(source, out, FakeEngine())
    assert len(read_jsonl(out)) == 50


def test_the_settings_are_noted_without_keys(tmp_path: Path) -> None:
    run(prompts(tmp_path, 2), tmp_path / "out.jsonl", FakeEngine(), seed=5)
    noted = json.loads((work_path(tmp_path / "out.jsonl") / "settings.json").read_text())
    assert noted["seed"] == 5
    assert noted["settings"]["model"] == "fake"


def test_fakes_are_engines() -> None:
    engines: list[BatchEngine] = [FakeEngine(), Scripted(lambda text, number: ""), ChatEngine(FakeEngine(), 3)]
    assert [engine.window for engine in engines] == [256, 4, 3]
