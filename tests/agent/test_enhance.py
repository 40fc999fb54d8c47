"""`redraft enhance` as a user has it: real processes, the mini models, a real (small) server, exit codes, streams."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.cli import main
from agent.enhance_judge import KEPT, JudgeSelector, PictureRanker
from agent.testing import drawn_from, paint
from editors.testing import FakeBackend
from evaluator.reward import checks_reward
from evaluator.testing import FakeChecklistBuilder, FakeJudge
from evaluator.types import Check, Outcome
from redraft.errors import BackendError
from redraft.limits import Limits
from rewriter.types import Rewrite
from tests.agent.conftest import Redraft

Serve = Callable[..., Any]

ASK = "three red circles on a white background"
POOR = "three red circles on a white background, drawn plainly"
FINE = "three red circles on a white background, arranged finely in a row"
ENVIRONMENT = {**os.environ, "REDRAFT_TEST_KEY": "sk-testing", "OMP_NUM_THREADS": "1"}
ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    return {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}


def here(*arguments: str | Path | int) -> int:
    """The command in this process: its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    code = stopped.value.code
    return 0 if code is None else int(code)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def prompts(tmp_path: Path, *words: str) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": at, "prompt": word}) + "\n" for at, word in enumerate(words)))
    return path


def test_the_mini_profile_from_a_file_to_a_file(tmp_path: Path, redraft: Redraft) -> None:
    (tmp_path / "in.txt").write_text("two tiny crimson stars above a big blue disc\nthree red circles\n\n\x01\n")
    done = redraft("enhance", "in.txt", "out.jsonl", "--thought", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["rejected"], told["failed"], told["target"]) == (2, 1, 0, "mini")
    assert told["rewritten"] + told["kept"] == 2
    assert told["counted_tokens"] is True
    found = rows(tmp_path / "out.jsonl")
    assert [row["request"] for row in found] == ["two tiny crimson stars above a big blue disc", "three red circles"]
    assert all(row["prompt"] and row["thought"] and row["model"] == "package:mini/weights/rewriter" for row in found)
    assert rows(tmp_path / "out.jsonl.rejects.jsonl")[0]["where"] == "line 4"
    assert "Traceback" not in done.stderr


def test_for_people(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = prompts(tmp_path, ASK, "a fox", ASK), tmp_path / "out.csv.jsonl"
    assert here("enhance", source, out, "--engine", "fake", "--profile", "workstation") == 0
    told = capfd.readouterr()
    assert "3 rows in " in told.out
    assert "3 rewritten" in told.out
    assert "estimated" in told.out
    assert here("enhance", source, out, "--engine", "fake", "--profile", "workstation") == 0
    assert "3 were done before" in capfd.readouterr().out


def test_a_dry_run_asks_no_model_and_writes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = prompts(tmp_path, "a fox", "a fox", "a hen", " ")
    before = set(tmp_path.iterdir())
    command = ("enhance", source, tmp_path / "out.jsonl", "--profile", "workstation", "--target", "sdxl", "--dry-run")
    assert here(*command, "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["rows"], told["to_rewrite"], told["already_done"], told["rejects"]) == (3, 2, 0, 1)
    assert told["target"] == "sdxl"
    assert "negative_prompt" in told["columns"]
    assert "a fox" in told["messages"][-1]["content"]
    assert "Stable Diffusion XL" in told["messages"][0]["content"]
    assert set(tmp_path.iterdir()) == before
    assert here(*command) == 0
    assert "2 requests to rewrite" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch.jsonl", "out.jsonl"], "there is no file"),
        (["in.jsonl", "out.doc"], "must end in"),
        (["in.jsonl", "in.jsonl"], "is the input"),
        (["in.jsonl", "out.csv"], "columns of their own"),
        (["in.jsonl", "out.jsonl", "--field", "nosuch"], "no row of "),
        (["in.jsonl", "out.jsonl", "--target", "nosuch"], "unknown target"),
        (["in.jsonl", "out.jsonl", "--target", "sdxl", "--profile", "mini"], "leave --target out"),
        (["in.jsonl", "out.jsonl", "--shard", "3/2"], "write i/n"),
        (["in.jsonl", "out.jsonl", "--engine", "warp"], "--engine 'warp'"),
        (["in.jsonl", "out.jsonl", "--judge", "--select", "consensus"], "give one of them"),
        (["in.jsonl", "out.jsonl", "--n", "2", "--images", "2"], "give --judge too"),
        (["in.jsonl", "out.jsonl", "--select", "nosuch"], "unknown scorer"),
        (["in.jsonl", "out.jsonl", "--n", "0"], "--n"),
    ],
)
def test_what_a_user_can_mend_exits_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    prompts(tmp_path, "a fox")
    files = [str(tmp_path / word) if word.endswith((".jsonl", ".doc", ".csv")) else word for word in arguments]
    code = here("enhance", "--engine", "fake", "--json", *files)
    told = capfd.readouterr()
    assert code == 2, told
    assert said in told.err
    assert told.out == ""


def test_a_server_that_is_down_exits_3_and_the_next_run_goes_on(
    tmp_path: Path, model_server: Serve, redraft: Redraft
) -> None:
    source = prompts(tmp_path, *[f"{ASK}, number {at}" for at in range(24)])
    with model_server(FINE, good="finely") as server:
        profile = server.profile(tmp_path)
    done = redraft("enhance", source, "out.jsonl", "--profile", profile, "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "cannot be reached" in done.stderr
    assert "resume with: redraft enhance" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()
    with model_server(FINE, good="finely") as server:
        again = redraft("enhance", source, "out.jsonl", "--profile", server.profile(tmp_path), "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(rows(tmp_path / "out.jsonl")) == 24


def test_some_rows_fail_and_are_told(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    def fault(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, bytes] | None:
        return (400, b'{"error": {"message": "not this"}}') if "a fox" in str(body["messages"]) else None

    with model_server(FINE, good="finely") as server:
        server.fault = fault
        source = prompts(tmp_path, ASK, "a fox")
        done = redraft("enhance", source, "out.jsonl", "--profile", server.profile(tmp_path), "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert json.loads(done.stdout)["failed"] == 1
    assert [row["status"] for row in rows(tmp_path / "out.jsonl")] == ["rewritten", "failed"]
    assert "failed on 1 rows" in done.stderr
    assert "not this" in done.stderr


def test_ctrl_c_exits_130_and_the_same_command_goes_on(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    with model_server(FINE, good="finely") as server:
        served: list[float] = []

        def slowly(path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
            served.append(time.monotonic())
            time.sleep(0.1 if len(served) < 60 else 20)

        server.fault = slowly
        source = prompts(tmp_path, *[f"{ASK}, number {at}" for at in range(100)])
        arguments = ["enhance", str(source), "my out.jsonl", "--profile", str(server.profile(tmp_path))]
        command = [sys.executable, "-m", "agent.cli", *arguments, "--concurrency", "8", "--no-resume"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 200
        while len(served) < 60 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 130, stderr
        assert stdout == ""
        assert "Traceback" not in stderr
        line = next(line for line in stderr.splitlines() if "resume with: " in line)
        words = shlex.split(line.partition("resume with: ")[2])
        assert words[:2] == ["redraft", "enhance"]
        assert "--no-resume" not in words
        assert not (tmp_path / "my out.jsonl").exists()
        server.fault = lambda path, body, headers: None
        before = len(served)
        seen = len(server.seen)
        done = redraft(*words[1:], "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["reused"] >= 20, f"{before} requests were served, two a prompt: what came back is kept"
    assert len(server.seen) - seen >= 100 - told["reused"]
    assert len(rows(tmp_path / "my out.jsonl")) == 100


def test_shares_on_two_machines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = prompts(tmp_path, *[f"a fox, number {at}" for at in range(40)])
    common = ("--engine", "fake", "--profile", "workstation", "--work", tmp_path / "work", "--json")
    counts = []
    for at in (1, 2):
        assert here("enhance", source, tmp_path / f"{at}.jsonl", "--shard", f"{at}/2", *common) == 0
        counts.append(json.loads(capfd.readouterr().out)["rows"])
    assert sum(counts) == 40
    assert here("enhance", source, tmp_path / "all.jsonl", *common) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["rows"], told["reused"], told["requests"]) == (40, 40, 0)


def test_judge_draws_and_judges_each(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    """Two rewrites of one prompt, of which the second draws the better picture: both servers' models are real."""
    with model_server(POOR, FINE, good="finely") as server:
        profile = server.profile(tmp_path)
        source = prompts(tmp_path, ASK)
        arguments = ("enhance", source, "out.jsonl", "--profile", profile, "--n", 2, "--judge", "--json")
        done = redraft(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [row] = rows(tmp_path / "out.jsonl")
    assert (row["prompt"], row["status"]) == (FINE, "rewritten")
    assert sorted(row["candidates"]) == sorted([POOR, FINE])
    poor, fine = (row["scores"][row["candidates"].index(words)] for words in (POOR, FINE))
    assert fine == pytest.approx(0.98, abs=1e-3)
    assert poor < 0.5
    assert len(row["scores"]) == 3
    drawn = [body["prompt"] for path, body in server.seen if path.endswith("/images/generations")]
    assert sorted(drawn) == sorted([ASK, POOR, FINE]), "the user's own prompt is drawn too"


CHECK = (Check("counting", "Are there three?"),)


def selector(answers: dict[str, float | None]) -> JudgeSelector:
    """A selector whose judge gives each prompt's picture its own answer; None: it fails."""

    def opinion(image: Image.Image, prompt: str, check: Check) -> float | Outcome:
        answer = answers[drawn_from(image)[0]]
        return Outcome.FAILED if answer is None else answer

    builder = FakeChecklistBuilder(lambda prompt: CHECK)
    ranker = PictureRanker(builder, checks_reward(FakeJudge(opinion)), Limits())
    return JudgeSelector(FakeBackend(paint=paint), ranker)


async def test_the_best_picture_wins_and_ties_go_to_the_rewrite() -> None:
    two = [Rewrite("b"), Rewrite("c")]
    best = await selector({"a": 0.2, "b": 0.4, "c": 0.9})("a", two, 1)
    assert (best.index, best.scores) == (1, (0.4, 0.9, 0.2))
    assert (await selector({"a": 0.9, "b": 0.9, "c": 0.9})("a", two, 1)).index == 0
    own = await selector({"a": 0.9, "b": 0.4, "c": None})("a", two, 1)
    assert (own.index, own.scores, own.findings) == (None, (0.4, None, 0.9), (KEPT,))


async def test_the_best_mean_over_several_pictures_wins() -> None:
    answers = {"a": (0.2, 0.2), "b": (0.9, 0.3), "c": (0.7, 0.7), "d": (1.0, None)}

    def opinion(image: Image.Image, prompt: str, check: Check) -> float | Outcome:
        words, seed = drawn_from(image)
        answer = answers[words][seed - 5]
        return Outcome.FAILED if answer is None else answer

    builder = FakeChecklistBuilder(lambda prompt: CHECK)
    ranker = PictureRanker(builder, checks_reward(FakeJudge(opinion)), Limits())
    choose = JudgeSelector(FakeBackend(paint=paint), ranker, images=2)
    best = await choose("a", [Rewrite("b"), Rewrite("c"), Rewrite("d")], 5)
    assert best.index == 1
    assert best.scores == pytest.approx((0.6, 0.7, None, 0.2))
    answers["c"] = answers["a"] = (0.1, None)
    answers["b"] = (None, 0.5)
    with pytest.raises(BackendError, match="all pictures of any prompt"):
        await choose("a", [Rewrite("b"), Rewrite("c"), Rewrite("d")], 5)


async def test_what_cannot_be_judged() -> None:
    with pytest.raises(BackendError, match="could not score any picture"):
        await selector({"a": None, "b": None})("a", [Rewrite("b")], 1)
    fallen = await selector({})("a", [Rewrite("a", fallback=True)], 1)
    assert fallen.index is None
    one = await selector({"a": 0.2, "c": 0.9})("a", [Rewrite("a", fallback=True), Rewrite("c")], 1)
    assert (one.index, one.scores) == (1, (None, 0.9, 0.2))


def test_help_tells_of_it(redraft: Redraft) -> None:
    done = redraft("enhance", "--help", cwd=ROOT)
    assert done.returncode == 0
    assert "--shard" in done.stdout
