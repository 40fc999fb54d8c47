"""Every file of a run and of a conversation is damaged at many places: one clear sentence, and no more is lost than that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.chat.conversation import Conversation, list_conversations
from agent.models import Models
from agent.run import Run, RunResult
from agent.runfolder import RunFolder, list_runs
from agent.testing import fake_models
from redraft.errors import RedraftError
from redraft.images import is_digest
from redraft.limits import Limits
from rewriter.testing import FakeRewriter, RewriterCall
from tests.agent.loop_runs import FAIR, GOOD, by_word, run

PLACES = int(os.environ.get("REDRAFT_DAMAGES", "2"))
"""How many places of a file are damaged in each way."""


def damages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Ways to damage a file: emptied, cut, a bit changed, a stretch of zeros as a disk leaves after a loss of power."""
    yield "emptied", b""
    for n in range(PLACES):
        at = len(data) * n // PLACES + n % 7
        if at < len(data):
            yield f"cut at {at}", data[:at]
            yield f"bit flipped at {at}", data[:at] + bytes([data[at] ^ (1 << n % 8)]) + data[at + 1 :]
            yield f"zeros from {at}", data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]


def models() -> Models:
    def rewrite(call: RewriterCall) -> list[str]:
        return ["a good circle" if call.feedback is not None and "fair" in call.feedback.prompt else "a fair circle"]

    return fake_models(by_word(fair=FAIR, good=GOOD), rewriter=FakeRewriter(rewrite))


def seen(result: RunResult) -> list[tuple[int, str, int, str, float | None]]:
    return [(a.round, a.prompt, a.seed, a.image, a.score) for a in result.attempts]


async def test_a_damaged_run_is_taken_up_with_all_that_is_whole(tmp_path: Path) -> None:
    whole, _ = await run(models(), tmp_path / "whole", limits=Limits(max_rounds=3, images_per_round=1))
    expected = seen(whole)
    assert len(expected) >= 2
    tried = 0
    for file in sorted(path for path in whole.folder.rglob("*") if path.is_file()):
        name = file.relative_to(whole.folder)
        ways = list(damages(file.read_bytes()))
        for how, data in ways if name.parts[0] in ("state", "run.json") else ways[:2]:
            folder = tmp_path / "runs" / "damaged"
            shutil.copytree(whole.folder, folder)
            (folder / name).write_bytes(data)
            complaints: list[str] = []
            assert len(list_runs(tmp_path / "runs", complaints.append)) + len(complaints) == 1, (name, how)
            try:
                result = await Run.open(folder, models(), retry_wait_s=0.01).run()
            except RedraftError as error:
                pytest.fail(f"{name} {how}: {error}")
            assert (seen(result), result.stop) == (expected, whole.stop), (name, how)
            assert RunFolder(folder).read_record()["request"] == "three circles"
            shutil.rmtree(folder)
            tried += 1
    assert tried > 25 * PLACES


async def test_a_damaged_conversation_says_so(tmp_path: Path) -> None:
    made = await Conversation.create(tmp_path / "whole", "one", models(), limits=Limits(max_images=1))
    for request in ("a fair circle", "a good circle", "/undo"):
        await made.turn(request)
    before = len((await made.view()).entries)
    tried = refused = 0
    for file in sorted(path for path in (tmp_path / "whole").rglob("*") if path.is_file()):
        name = file.relative_to(tmp_path / "whole")
        for how, data in damages(file.read_bytes()):
            home = tmp_path / "damaged"
            shutil.copytree(tmp_path / "whole", home)
            (home / name).write_bytes(data)
            complaints: list[str] = []
            listed = list_conversations(home, complaints.append)
            tried += 1
            try:
                again = Conversation.open(home, "one", models(), limits=Limits(max_images=1), profile=None)
                view = await again.view()
                await again.turn("/list" if view.pending is None else None)
            except RedraftError as error:
                if not is_digest(name.stem) and not (
                    name.name == "conversation.jsonl" and how in ("emptied", "cut at 0")
                ):
                    pytest.fail(f"{name} {how}: {error}")
                refused += 1
            else:
                assert len(listed) == 1, (name, how)
                assert name.name == "conversation.jsonl" or len(view.entries) == before, (name, how)
            shutil.rmtree(home)
    assert 0 < refused < tried > 25 * PLACES
