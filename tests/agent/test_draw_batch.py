"""`redraft draw --prompts`: files of requests to pictures, each exactly once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.cli import main
from agent.commands import read_request
from agent.draw_batch import LocalPainter, PictureMaker, ServedPainter, keep_random_seed
from agent.enhance_judge import PictureRanker
from agent.testing import CHECKS, drawn_from, paint
from editors.backend import ImageTask
from editors.testing import FakeBackend
from evaluator.reward import checks_reward
from evaluator.testing import FakeChecklistBuilder, FakeJudge
from redraft.errors import BackendError, InputError
from redraft.limits import Limits
from rewriter.batch.run import BatchPlan, run_batch
from rewriter.batch.tables import open_source
from rewriter.batch.work import Record, Shard, Status, WorkFolder

Serve = Callable[..., Any]
REQUESTS = tuple(f"circle number {at}" for at in range(12))
FINE = "three red circles on a white background, arranged finely in a row"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_TEST_KEY", "sk-testing")


def here(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    code = stopped.value.code
    return 0 if code is None else int(code)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Killed(Exception):  # noqa: N818
    """What ends a batch in the middle."""


class CountingPainter:
    """Draws, counts what each prompt was drawn, and stops working after `stops_after` pictures."""

    slots = 2

    def __init__(self, stops_after: int | None = None) -> None:
        self.drawn: Counter[str] = Counter()
        self._left = stops_after

    async def __call__(self, tasks: Sequence[ImageTask]) -> list[Image.Image]:
        if self._left is not None:
            if self._left == 0:
                raise Killed
            self._left -= 1
        self.drawn.update(task.prompt for task in tasks)
        return [paint(task) for task in tasks]

    async def aclose(self) -> None:
        pass


async def rewrite(request: str, key: bytes) -> Record:
    return Record(status=Status.REWRITTEN, prompt=f"{request}, finely", seed=len(request))


async def draw(folder: Path, painter: CountingPainter, shard: Shard | None = None) -> list[dict[str, Any]]:
    source = folder / "in.txt"
    source.write_text("\n".join(REQUESTS + REQUESTS[:3]))
    shard = shard or Shard()
    plan = BatchPlan({}, ("request", "prompt", "status", "image"), shard=shard)
    maker = PictureMaker(rewrite, painter, folder)
    out = folder / f"rows-{shard}.jsonl"
    with WorkFolder(folder / "work", shard) as work:
        await run_batch(open_source(str(source)), out, work, plan, maker, window=1)
    return rows(out)


async def test_what_was_drawn_before_a_kill_is_not_drawn_again(tmp_path: Path) -> None:
    first = CountingPainter(stops_after=5)
    with pytest.raises(Killed):
        await draw(tmp_path, first)
    second = CountingPainter()
    found = await draw(tmp_path, second)
    assert first.drawn + second.drawn == Counter(f"{request}, finely" for request in REQUESTS)
    assert [row["request"] for row in found] == [*REQUESTS, *REQUESTS[:3]]
    for row in found:
        with Image.open(tmp_path / row["image"]) as picture:
            assert drawn_from(picture)[0] == row["prompt"]
            assert picture.info["request"] == row["request"]
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == len(REQUESTS)


async def test_shares_draw_each_request_on_one_machine(tmp_path: Path) -> None:
    painters = [CountingPainter() for _ in range(3)]
    for at, painter in enumerate(painters, start=1):
        await draw(tmp_path, painter, Shard(at, 3))
    assert sum((painter.drawn for painter in painters), Counter()) == Counter(f"{r}, finely" for r in REQUESTS)
    whole = CountingPainter()
    assert len(await draw(tmp_path, whole)) == len(REQUESTS) + 3
    assert not whole.drawn


async def test_of_several_pictures_the_best_is_kept(tmp_path: Path) -> None:
    judge = FakeJudge(lambda image, request, check: 0.99 if drawn_from(image)[1] == 12 else 0.2)
    ranker = PictureRanker(FakeChecklistBuilder(lambda _: CHECKS), checks_reward(judge), Limits())
    record = await PictureMaker(rewrite, CountingPainter(), tmp_path, ranker=ranker, images=3)("ten  chars", b"1" * 16)
    assert (record.seed, record.accepted) == (12, True)
    assert record.score == pytest.approx(0.99)
    with Image.open(tmp_path / record.image) as picture:
        assert drawn_from(picture)[1] == 12


async def test_local_pictures_are_drawn_in_batches_of_what_fits_and_come_to_their_callers() -> None:
    backend = FakeBackend(paint=paint)
    painter = LocalPainter(backend, 4)
    drawn = await asyncio.gather(*(painter([ImageTask("a fox", seed)]) for seed in range(8)))
    assert [drawn_from(picture)[1] for [picture] in drawn] == list(range(8))
    assert max(len(call) for call in backend.calls) <= 4
    await painter.aclose()


async def test_served_pictures_are_drawn_each_on_its_own() -> None:
    backend = FakeBackend(paint=paint)
    painter = ServedPainter(backend, 2)
    pictures = await painter([ImageTask("a fox", seed) for seed in range(3)])
    assert [drawn_from(picture)[1] for picture in pictures] == [0, 1, 2]
    assert [len(call) for call in backend.calls] == [1, 1, 1]
    await painter.aclose()


def test_a_file_from_the_command_line(tmp_path: Path, model_server: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": at, "text": f"three red circles, {at}"}) + "\n" for at in range(2)))
    out = tmp_path / "drawn"
    with model_server(FINE, good="finely") as server:
        command = ("draw", "--prompts", source, "--out", out, "--profile", server.profile(tmp_path), "--json")
        assert here(*command) == 0
        summary = json.loads(capfd.readouterr().out)
        before = len(server.seen)
        assert here(*command) == 0
        assert len(server.seen) == before
    assert (summary["rows"], summary["failed"], summary["images"]) == (2, 0, 2)
    found = rows(out / "pictures.jsonl")
    assert [row["id"] for row in found] == [0, 1]
    for row in found:
        assert row["status"] == "rewritten"
        assert row["score"] == pytest.approx(0.98)
        assert (out / row["image"]).is_file()
    assert json.loads(capfd.readouterr().out)["reused"] == 2


def test_pictures_that_a_server_refuses_exit_3_and_are_tried_again(
    tmp_path: Path, model_server: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("a fox\na hen\n")
    refused = b'{"error": {"message": "not this"}}'
    with model_server("a finely drawn fox", good="finely") as server:
        server.fault = lambda path, body, headers: (403, refused) if "images" in path else None
        command = ("draw", "--prompts", tmp_path / "in.txt", "--out", tmp_path, "--profile", server.profile(tmp_path))
        assert here(*command) == 3
        assert "not this" in capfd.readouterr().err
        server.fault = lambda path, body, headers: None
        assert here(*command) == 0
    assert all(row["image"] for row in rows(tmp_path / "pictures.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "noun"),
    [
        (["--prompts", "in.txt", "a fox"], "leave out the request"),
        (["--prompts", "in.txt", "--rounds", "3"], "--rounds"),
        (["--prompts", "in.txt", "--images", "65"], "--images"),
        (["--prompts", "in.txt", "--shard", "3/2"], "i/n"),
        (["--prompts", "nosuch.txt"], "no file"),
        (["--prompts", "in.txt", "--profile", "small"], "no [generator]"),
        ([], "say what to draw"),
    ],
)
def test_what_cannot_be_meant_exits_2(
    tmp_path: Path, arguments: list[str], noun: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("a fox\n")
    files = [str(tmp_path / word) if word.endswith(".txt") else word for word in arguments]
    assert here("draw", *files, "--out", tmp_path / "out") == 2
    assert noun in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["in.txt"]


def test_a_request_from_stdin() -> None:
    assert read_request("-", lambda: "a red star\n") == "a red star\n"
    assert read_request("a fox") == "a fox"
    with pytest.raises(InputError, match="stdin"):
        read_request(None)


async def test_a_backend_that_fails_fails_only_its_own_request() -> None:
    backend = FakeBackend(paint=paint, script=[BackendError("no memory"), None])
    painter = LocalPainter(backend, 1)
    with pytest.raises(BackendError, match="no memory"):
        await painter([ImageTask("a fox", 1)])
    assert len(await painter([ImageTask("a hen", 2)])) == 1
    await painter.aclose()


def test_a_random_seed_is_drawn_once_for_a_folder(tmp_path: Path) -> None:
    seeds = [keep_random_seed(tmp_path / str(number)) for number in range(4)]
    assert len(set(seeds)) > 1
    assert [keep_random_seed(tmp_path / str(number)) for number in range(4)] == seeds, "the same command goes on"
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["random-seed"]
    (tmp_path / "0" / "random-seed").write_text("many")
    with pytest.raises(InputError, match="random-seed"):
        keep_random_seed(tmp_path / "0")


@pytest.mark.parametrize(("options", "first"), [(["--seed", "-1"], None), (["--seed", "7"], 7), ([], 0)])
def test_minus_one_is_a_random_seed_for_files_too(
    tmp_path: Path, model_server: Serve, capfd: pytest.CaptureFixture[str], options: list[str], first: int | None
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("a fox\na hen\n")
    with model_server("a finely drawn fox", good="finely") as server:
        command = (
            "draw",
            "--prompts",
            source,
            "--out",
            tmp_path / "out",
            "--profile",
            server.profile(tmp_path),
            *options,
        )
        assert here(*command, "--json") == 0
    seed = json.loads(capfd.readouterr().out)["seed"]
    drawn = [row["seed"] for row in rows(tmp_path / "out" / "pictures.jsonl")]
    assert len(set(drawn)) == 2, "each request has its own"
    kept = tmp_path / "out" / "work" / "random-seed"
    assert kept.exists() is (first is None)
    assert seed == (int(kept.read_text()) if first is None else first)
