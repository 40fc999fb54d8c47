"""What goes wrong outside of redraft, met through the command line: never a traceback, a wrong score or a key."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.models import open_models
from agent.run import run_draw
from agent.testing import paint
from editors.backend import ImageTask
from redraft.profiles import load_profile
from tests.agent.conftest import KEY, Redraft

Serve = Callable[..., Any]

ASK = "three red circles on a white background"
POOR = "three red circles on a white background, drawn plainly"
FINE = "three red circles on a white background, arranged finely in a row"
ENVIRONMENT = {
    **os.environ,
    "REDRAFT_TEST_KEY": KEY,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}


def started(*arguments: str | bytes | Path, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent.cli", *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def only_run(folder: Path) -> Path:
    [run] = (folder / "runs").glob("[!.]*")
    return run


def everything_written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


ECHO = "no entry for {Authorization}\x1b]0;owned\x07"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, json.dumps({"error": {"message": ECHO}}), "check the environment variable REDRAFT_TEST_KEY"),
        (404, json.dumps({"error": {"message": ECHO}}), "check `model`"),
        (500, ECHO, "answers with an error (500"),
    ],
)
def test_a_server_that_refuses_or_breaks_and_tells_the_key(
    tmp_path: Path, model_server: Serve, status: int, body: str, said: str, redraft: Redraft
) -> None:
    with model_server(FINE, good="finely") as server:
        server.fault = lambda path, asked, headers: (status, body.replace("{Authorization}", KEY).encode())
        code, stdout, stderr = redraft("draw", ASK, "--profile", server.profile(tmp_path), "--json", cwd=tmp_path)
    assert (code, stdout) == (3, "")
    assert said in stderr
    assert server.address in stderr
    assert "redraft resume" in stderr
    assert "Traceback" not in stderr
    assert "\x1b" not in stderr
    assert KEY not in stderr
    record = json.loads((only_run(tmp_path) / "run.json").read_text())
    assert (record["stop"], record["attempts"]) == ("failed", [])
    assert said in record["error"]
    assert KEY.encode() not in everything_written(tmp_path)


@pytest.mark.parametrize("body", [b"", b"<html>%s</html>" % KEY.encode(), b"\xff\xfe", b'{"choices": [{}]}'])
def test_a_judge_that_answers_garbage_gives_no_score(
    tmp_path: Path, model_server: Serve, body: bytes, redraft: Redraft
) -> None:
    with model_server(FINE, good="finely") as server:
        server.fault = lambda path, asked, headers: (200, body) if asked.get("logprobs") else None
        code, stdout, stderr = redraft("draw", ASK, "--profile", server.profile(tmp_path), "--json", cwd=tmp_path)
    assert (code, stdout) == (3, "")
    assert "the judge could not score any picture" in stderr
    assert "Traceback" not in stderr
    assert KEY not in stderr
    record = json.loads((only_run(tmp_path) / "run.json").read_text())
    assert [attempt["score"] for attempt in record["attempts"]] == [None, None]
    assert [attempt["failed"] for attempt in record["attempts"]] == [2, 2]
    assert KEY.encode() not in everything_written(tmp_path)


async def test_a_fifth_of_all_calls_fail_and_every_draw_ends_well(
    tmp_path: Path, model_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRAFT_TEST_KEY", KEY)
    dice = random.Random(14)
    garbage = (b"no picture", b'{"data": []}', b'{"data": [{"b64_json": "aGVsbG8="}]}', b"")

    def fault(path: str, asked: dict[str, Any], headers: dict[str, str]) -> tuple[int, bytes] | None:
        if dice.random() >= 0.2:
            return None
        return (200, dice.choice(garbage)) if "images" in path else (503, b"busy")

    with model_server(FINE, good="finely") as server:
        server.fault = fault
        path = server.profile(tmp_path)
        path.write_text(path.read_text().replace("max_retries = 0", "max_retries = 4"))
        profile = load_profile(str(path))
        models = open_models(profile, editing=False, conversing=False)
        draws = (
            run_draw(ASK, models, limits=profile.limits.changed(max_images=2), out=tmp_path, seed=n) for n in range(25)
        )
        results = await asyncio.gather(*draws)
    assert [result.error for result in results] == [None] * 25


def test_an_image_server_that_answers_garbage(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    with model_server(FINE, good="finely") as server:
        server.fault = lambda path, asked, headers: (200, b"no picture") if "images" in path else None
        code, stdout, stderr = redraft("draw", ASK, "--profile", server.profile(tmp_path), "--json", cwd=tmp_path)
    assert (code, stdout) == (3, "")
    assert "test-painter" in stderr
    assert "not JSON" in stderr
    assert "Traceback" not in stderr


def test_a_writer_that_answers_garbage_leaves_the_users_own_prompt(
    tmp_path: Path, model_server: Serve, redraft: Redraft
) -> None:
    def fault(path: str, asked: dict[str, Any], headers: dict[str, str]) -> tuple[int, bytes] | None:
        return (200, b"garbage") if "chat" in path and not asked.get("logprobs") else None

    with model_server(FINE, good="circles") as server:
        server.fault = fault
        code, stdout, stderr = redraft("draw", ASK, "--profile", server.profile(tmp_path), "--json", cwd=tmp_path)
    assert code == 0, stderr
    assert {attempt["prompt"] for attempt in json.loads(stdout)["attempts"]} == {ASK}
    assert "the picture is judged as a whole" in stderr
    record = json.loads((only_run(tmp_path) / "run.json").read_text())
    assert [check["key_point"] for check in record["checklist"]] == ["overall"]
    assert record["rounds"][0]["rewrites"][0]["fallback"] is True


def test_a_slow_server(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    with model_server(FINE, good="finely") as server:
        server.hold.clear()
        profile = server.profile(tmp_path, timeout_s=0.5)
        code, stdout, stderr = redraft("draw", ASK, "--profile", profile, "--json", cwd=tmp_path)
    assert (code, stdout) == (3, "")
    assert "did not answer within 0.5 s" in stderr
    assert "Traceback" not in stderr


def test_a_run_killed_while_drawing_ends_like_one_that_was_not(
    tmp_path: Path, model_server: Serve, redraft: Redraft
) -> None:
    def told(folder: Path) -> list[tuple[object, ...]]:
        record = json.loads((folder / "run.json").read_text())
        return [(a["prompt"], a["seed"], a["score"], a["sha256"]) for a in record["attempts"]] + [(record["stop"],)]

    second_round = threading.Event()
    go_on = threading.Event()

    def fault(path: str, asked: dict[str, Any], headers: dict[str, str]) -> None:
        if asked.get("prompt") == FINE:
            second_round.set()
            go_on.wait(200)

    with model_server(POOR, FINE, good="finely") as server:
        options = ("--profile", server.profile(tmp_path), "--seed", "5", "--json")
        code, _, stderr = redraft("draw", ASK, *options, cwd=tmp_path)
        assert code == 0, stderr
        whole = only_run(tmp_path)
        server.turn, server.fault = 0, fault
        server.seen.clear()
        process = started("draw", ASK, *options, "--out", "killed", cwd=tmp_path)
        assert second_round.wait(200)
        process.kill()
        process.communicate()
        go_on.set()
        [killed] = (tmp_path / "killed").glob("[!.]*")
        code, stdout, stderr = redraft("resume", killed, "--json", cwd=tmp_path)
    assert code == 0, stderr
    assert json.loads(stdout)["stop"] == "accepted"
    assert told(killed) == told(whole)
    drawn = [body["prompt"] for path, body in server.seen if "images" in path]
    assert (drawn.count(ASK), drawn.count(POOR)) == (1, 1), "the first round was finished"


def test_ctrl_c_while_judging_exits_130_at_once(tmp_path: Path, model_server: Serve) -> None:
    judging, leave = threading.Event(), threading.Event()

    def fault(path: str, asked: dict[str, Any], headers: dict[str, str]) -> None:
        judging.set()
        leave.wait(200)

    paint(ImageTask(FINE, 1)).save(tmp_path / "picture.png")
    with model_server(FINE, good="finely") as server:
        server.fault = fault
        process = started("judge", "picture.png", ASK, "--profile", server.profile(tmp_path), cwd=tmp_path)
        assert judging.wait(200)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
        leave.set()
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take Unicode names only")
def test_folders_need_not_be_unicode(tmp_path: Path, model_server: Serve) -> None:
    with model_server(FINE, good="finely") as server:
        options = ("--profile", server.profile(tmp_path), "--out", b"caf\xe9", "--json")
        process = started("draw", ASK, *options, cwd=tmp_path)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert (tmp_path / json.loads(stdout)["image"]).is_file()


def test_a_generator_without_weights_is_found_out_before_the_run(
    tmp_path: Path, model_server: Serve, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRAFT_TEST_KEY", KEY)
    with model_server(FINE, good="finely") as server:
        profile = server.profile(tmp_path)
        text = profile.read_text().replace('kind = "openai_images"', 'kind = "diffusers"')
        profile.write_text(text.replace('"test-painter"', '"package:editors/nosuch"'))
        with pytest.raises(SystemExit) as stopped:
            main(["draw", ASK, "--profile", str(profile), "--out", str(tmp_path / "runs")])
    told = capfd.readouterr()
    assert (stopped.value.code, told.out) == (3, "")
    assert "package:editors/nosuch: there is no folder" in told.err
    assert "train" in told.err
    assert list((tmp_path / "runs").iterdir()) == []
    assert server.seen == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"limits": {"max_rounds": "many"}}, "limits.max_rounds"),
        ({"request": None}, "request"),
        ({"format": 99}, "another version"),
        ({"format": 1}, "start the run again"),
        ({"profile": {"name": "p"}}, "the profile in"),
    ],
)
def test_a_damaged_run_json_is_named(
    tmp_path: Path,
    model_server: Serve,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: dict[str, object],
    said: str,
) -> None:
    monkeypatch.setenv("REDRAFT_TEST_KEY", KEY)
    with model_server(FINE, good="finely") as server:
        draw = ["draw", ASK, "--profile", str(server.profile(tmp_path, max_images=1)), "--out", str(tmp_path / "runs")]
        with pytest.raises(SystemExit):
            main(draw)
    path = only_run(tmp_path) / "run.json"
    record = {name: value for name, value in json.loads(path.read_text()).items() if name != "checksum"}
    path.write_text(json.dumps(record | damage))  # without a checksum, as earlier versions wrote it
    (path.parent / "state" / "journal.jsonl").unlink()
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["resume", str(path.parent)])
    told = capfd.readouterr()
    assert (stopped.value.code, told.out) == (2, "")
    assert said in told.err
