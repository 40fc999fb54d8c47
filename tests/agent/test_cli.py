"""The command line as a user has it: a real (small) model server, exit codes, stdout and stderr."""

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
from agent.testing import paint
from editors.backend import ImageTask
from tests.agent.conftest import KEY, Redraft

Serve = Callable[..., Any]

ASK = "three red circles on a white background"
POOR = "three red circles on a white background, drawn plainly"
FINE = "three red circles on a white background, arranged finely in a row"
ENVIRONMENT = {**os.environ, "REDRAFT_TEST_KEY": KEY, "OMP_NUM_THREADS": "1"}


def environment() -> dict[str, str]:
    return {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_draw_prints_one_json_object_and_leaves_a_run_folder(
    tmp_path: Path, model_server: Serve, redraft: Redraft
) -> None:
    with model_server(POOR, FINE, good="finely") as server:
        profile = server.profile(tmp_path)
        done = redraft("draw", ASK, "--profile", profile, "--out", "here", "--seed", 5, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["stop"] == "accepted"
    assert result["accepted"] is True
    assert result["score"] == pytest.approx(0.98, abs=1e-3)
    assert (result["prompt"], result["request"], result["seed"]) == (FINE, ASK, 5)
    assert (result["rounds"], result["images"]) == (2, 4)
    assert [attempt["prompt"] for attempt in result["attempts"]] == [ASK, POOR, FINE, FINE]
    assert list(result) == [
        "run", "stop", "score", "accepted", "unchecked", "warnings", "request", "prompt", "image", "rounds", "images",
        "seed", "trace", "checks", "attempts", "readings",
    ]  # fmt: skip
    assert set(result["attempts"][0]) == {"round", "kind", "prompt", "seed", "score", "image", "parent", "draft"}
    assert [check["question"] for check in result["checks"]] == list(server.questions)
    assert set(result["checks"][0]) == {"key_point", "question", "outcome", "p", "by", "reason"}
    assert (result["unchecked"], result["warnings"]) == ([], [])
    for path in (result["image"], result["trace"], *(attempt["image"] for attempt in result["attempts"])):
        assert (tmp_path / path).is_file()
    assert "What matters is the count." in done.stderr
    written = b"".join(path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file())
    assert KEY.encode() not in written


def test_a_judge_that_explains_tells_the_rewriter_why(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    with model_server(POOR, FINE, good="finely") as server:
        server.box = [0, 500, 250, 1000]
        profile = server.profile(tmp_path)
        profile.write_text(profile.read_text().replace("[judge]", "[judge]\nexplain = true"))
        done = redraft("draw", ASK, "--profile", profile, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [str(body["messages"]) for _, body in server.seen if not body.get("logprobs") and "messages" in body]
    assert any(server.reason in messages and "last_rewrite" in messages for messages in told)
    [record] = tmp_path.glob("runs/*/run.json")
    verdicts = json.loads(record.read_text())["attempts"][0]["report"]["verdicts"]
    assert [verdict["reason"] for verdict in verdicts] == [server.reason] * 2
    assert [verdict["region"] for verdict in verdicts] == [[0.0, 0.5, 0.25, 1.0]] * 2
    assert "box 2, bottom left" in record.with_name("trace.html").read_text()


def test_draw_for_people(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    with model_server(FINE, good="finely") as server:
        done = redraft("draw", ASK, "--profile", server.profile(tmp_path), "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accepted: all 2 checks passed" in done.stdout
    assert "trace.html" in done.stdout


def test_limits_from_the_command_line(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    with model_server(POOR, good="finely") as server:
        profile = server.profile(tmp_path, max_images=8)
        done = redraft(
            "draw",
            ASK,
            "--profile",
            profile,
            "--images",
            "3",
            "--accept",
            "0.1",
            "--rounds",
            "2",
            "--json",
            cwd=tmp_path,
        )
    result = json.loads(done.stdout)
    assert (done.returncode, result["stop"], result["images"], result["accepted"]) == (0, "budget", 3, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["draw", "  "], "the request is empty"),
        (["draw", "x" * 5000], "shorten it"),
        (["draw", "x", "--profile", "nosuch"], "unknown profile 'nosuch'"),
        (["draw", "x", "--rounds", "0"], "--rounds 0"),
        (["draw", "x", "--accept", "1.5"], "--accept 1.5"),
        (["draw", "x", "--out", "file.txt/runs"], "cannot write to the output folder"),
        (["draw", "x", "--ask"], "stdin is no terminal"),
        (["draw", "x", "--size", "512x512"], "the profile 'mini' makes pictures of 256x256 alone"),
        (["draw", "x", "--size", "huge"], "'huge' is no size"),
        (["draw", "x", "--size", "8x8"], "16 to 8192"),
        (["draw", "x", "--search", "nonsense"], "can search by loop, best_of, draft"),
        (["draw", "x", "--search", "gallery"], "needs further generators"),
        (["draw"], "say what to draw"),
        (["draw", "x", "--nosuch"], "No such option"),
        (["judge", "nosuch.png", "x"], "nosuch.png"),
        (["judge", "file.txt", "x"], "file.txt"),
        (["resume", "nosuch"], "not the folder of a run"),
    ],
)
def test_what_a_user_can_mend_exits_2_in_plain_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    file = tmp_path / "file.txt"
    file.write_text("no picture")
    with pytest.raises(SystemExit) as stopped:
        main([*(argument.replace("file.txt", str(file)) for argument in arguments), "--json"])
    told = capfd.readouterr()
    assert stopped.value.code == 2
    assert said in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_images", "max_imagez", "limits.max_imagez: no such setting"),
        ("http://", "http://user:hunter2@", "api_key_env"),
    ],
)
def test_what_is_wrong_with_a_profile_is_named(
    tmp_path: Path, model_server: Serve, capfd: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    with model_server(FINE, good="finely") as server:
        profile = server.profile(tmp_path, max_images=3)
    profile.write_text(profile.read_text().replace(old, new))
    with pytest.raises(SystemExit) as stopped:
        main(["draw", "x", "--profile", str(profile)])
    told = capfd.readouterr().err
    assert stopped.value.code == 2
    assert said in told
    assert "hunter2" not in told


def test_a_server_that_is_down_exits_3_with_nothing_on_stdout(
    tmp_path: Path, model_server: Serve, redraft: Redraft
) -> None:
    with model_server(FINE, good="finely") as server:
        profile = server.profile(tmp_path)
    done = redraft("draw", ASK, "--profile", profile, "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "127.0.0.1" in done.stderr
    assert "redraft resume" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_weights_exit_3_and_leave_no_run_behind(tmp_path: Path, redraft: Redraft) -> None:
    profile = tmp_path / "local.toml"
    model = '{ kind = "transformers", model = "./nosuch" }'
    profile.write_text(
        f'[rewriter]\nmodel = {model}\n[generator]\nkind = "diffusers"\nmodel = "./nosuch"\n[judge]\nmodel = {model}\n'
    )
    done = redraft("draw", ASK, "--profile", profile, cwd=tmp_path)
    assert done.returncode == 3
    assert "nosuch" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_ctrl_c_exits_130_says_how_to_resume_and_resuming_works(
    tmp_path: Path, model_server: Serve, redraft: Redraft
) -> None:
    with model_server(FINE, good="finely") as server:
        server.hold.clear()
        profile = server.profile(tmp_path)
        command = [sys.executable, "-m", "agent.cli", "draw", ASK, "--profile", str(profile), "--out", "my runs"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert server.drawing.wait(200)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 130, stderr
        assert stdout == ""
        assert "Traceback" not in stderr
        line = next(line for line in stderr.splitlines() if "redraft resume" in line)
        _, resume, folder = shlex.split(line.partition("continue with: ")[2])
        assert resume == "resume"
        server.hold.set()
        done = redraft("resume", folder, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stop"] == "accepted"
    asked = [body for _, body in server.seen if "checks" in json.dumps(body.get("response_format", {}))]
    assert len(asked) == 1, "the checklist was made before the interruption"


def test_ask_waits_for_a_person_and_takes_the_answer(tmp_path: Path, model_server: Serve) -> None:
    pty = pytest.importorskip("pty", reason="needs pseudo-terminals, which this system does not have")
    ours, theirs = pty.openpty()
    with model_server(POOR, good="finely") as server:
        profile = server.profile(tmp_path)
        command = [sys.executable, "-m", "agent.cli", "draw", ASK, "--profile", str(profile), "--ask", "--json"]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(ours, b"what?\nr\na\n")
        stdout, stderr = process.communicate(timeout=120)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0, stderr
    result = json.loads(stdout)
    assert (result["accepted"], result["rounds"]) == (True, 2)
    assert json.loads((tmp_path / result["run"] / "run.json").read_text())["why"] == "accepted by the user"
    assert stderr.count("[a]ccept") == 3, "asked, asked again after an unknown answer, asked after the second round"
    assert "best so far" in stderr


def test_judge(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    paint(ImageTask(FINE, 1)).save(tmp_path / "picture.png")
    with model_server(FINE, good="finely") as server:
        done = redraft("judge", "picture.png", ASK, "--profile", server.profile(tmp_path), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["failed"], result["score"]) == (0, pytest.approx(0.98, abs=1e-3))
    assert [check["question"] for check in result["checks"]] == list(server.questions)
    assert set(result["checks"][0]) == {"key_point", "question", "outcome", "p", "by", "reason"}
    assert set(result) == {"score", "failed", "unchecked", "checks", "readings"}
    assert result["readings"]["checks"]["value"] == result["score"]


def test_judge_with_its_server_down(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    paint(ImageTask(FINE, 1)).save(tmp_path / "picture.png")
    with model_server(FINE, good="finely") as server:
        profile = server.profile(tmp_path)
    done = redraft("judge", "picture.png", ASK, "--profile", profile, "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")


def test_profiles(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["profiles"])
    told = capfd.readouterr().out
    assert stopped.value.code == 0
    assert "mini" in told
    assert "cut-outs" in told


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['redraft', '--help']\n"
        "from agent.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'openai', 'langgraph', 'pydantic', 'PIL', 'numpy'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "draw" in done.stdout


def test_a_library_that_prints_does_not_reach_stdout(tmp_path: Path) -> None:
    code = (
        "import os\nfrom agent.terminal import stdout_for_results as results\n"
        "with results() as out:\n    print('noise')\n    os.system('echo more noise')\n    out.write('result')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "result"
    assert "noise" in done.stderr


def test_runs_are_listed_and_the_last_is_resumed(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    with model_server(FINE, good="finely") as server:
        profile = server.profile(tmp_path)
        first = json.loads(redraft("draw", "a star", "--profile", profile, "--json", cwd=tmp_path).stdout)
        time.sleep(1.1)  # folders are named by the second
        second = json.loads(redraft("draw", ASK, "--profile", profile, "--json", cwd=tmp_path).stdout)
        last = redraft("resume", "--last", "--json", cwd=tmp_path)
    assert json.loads(last.stdout) == second
    old = tmp_path / "runs" / "old"
    old.mkdir()
    (old / "run.json").write_text('{"format": 1}')
    listed = json.loads(redraft("runs", "--json", cwd=tmp_path).stdout)["runs"]
    assert [(row["request"], row["stop"], row["score"]) for row in listed] == [
        (ASK, "accepted", second["score"]),
        ("a star", first["stop"], first["score"]),
    ]
    table = redraft("runs", cwd=tmp_path).stdout
    assert ASK in table
    assert "accepted" in table
    refused = redraft("resume", old, cwd=tmp_path)
    assert (refused.returncode, "another version" in refused.stderr) == (2, True)
    for arguments in (["resume"], ["resume", old, "--last"], ["resume", "--last", "--out", "nosuch"]):
        assert redraft(*arguments, cwd=tmp_path).returncode == 2


def test_pictures_have_the_size_that_was_asked_for(tmp_path: Path, model_server: Serve, redraft: Redraft) -> None:
    with model_server(FINE, good="finely") as server:
        done = redraft(
            "draw",
            ASK,
            "--profile",
            server.profile(tmp_path),
            "--size",
            "96x48",
            "--images",
            2,
            "--json",
            "--out",
            "o",
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert [Image.open(tmp_path / attempt["image"]).size for attempt in result["attempts"]] == [(96, 48)] * 2
        asked = [body for path, body in server.seen if path.endswith("generations")]
        assert {body["size"] for body in asked} == {"96x48"}
        record = json.loads((tmp_path / result["run"] / "run.json").read_text())
        assert (record["size"], record["cost"]["images"]) == ([96, 48], 2)


def test_drafts_over_an_image_server_are_refused_with_the_mend(
    tmp_path: Path, model_server: Serve, redraft: Redraft
) -> None:
    with model_server(POOR, FINE, good="finely") as server:
        profile = server.profile(tmp_path)
        done = redraft("draw", ASK, "--profile", profile, "--search", "draft", "--json", "--out", "o", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "which an image server cannot: take loop or best_of" in done.stderr
    assert not (tmp_path / "o").exists(), "nothing was begun"
