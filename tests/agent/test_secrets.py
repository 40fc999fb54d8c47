"""No key is in anything that the commands write, whatever a server repeats of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from rewriter.train.teach import main as teach
from tests.ugly_keys import REFUSED, UGLY, everything_in, leaks, spellings

Serve = Callable[..., Any]

REQUEST = "three red circles on a white background"
FINE = "three red circles on a white background, arranged finely in a row"
POOR = "three red circles on a white background, drawn plainly"


def run(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, bytes]:
    """The exit code of a command, and what it printed."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return int(ended.value.code or 0), f"{out}\n{err}".encode()


def test_the_search_would_find_every_spelling(tmp_path: Path) -> None:
    for key in UGLY:
        for name, spelling in spellings(key.strip()).items():
            (tmp_path / "row").write_text(spelling)
            assert leaks(key, everything_in(tmp_path)), name


MANY = [*UGLY[2:4], *(pytest.param(key, marks=pytest.mark.slow) for key in (*UGLY[:2], *UGLY[4:]))]
"""The two with the most characters that are escaped somewhere; the others in scripts/ci_slow.sh."""


@pytest.mark.parametrize("key", MANY)
def test_servers_that_repeat_the_key_in_their_replies(
    key: str,
    tmp_path: Path,
    model_server: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REDRAFT_TEST_KEY", key)
    monkeypatch.chdir(tmp_path)
    told = list(spellings(key.strip()).values())
    rewrites = [f"{FINE if number % 2 else POOR} {text}" for number, text in enumerate(told)]
    with model_server(*rewrites, good="finely") as server:
        server.questions = (
            "Are there three red circles?",
            "Is the background white?",
            *(f"Is {t} there?" for t in told),
        )
        server.reason = " and ".join(told)
        profile = server.profile(tmp_path, max_rounds=3)
        profile.write_text(profile.read_text().replace("[judge]", "[judge]\nexplain = true"))
        code, printed = run(capfd, "draw", REQUEST, "--profile", profile, "--json")
        assert code == 0
        (tmp_path / "in.txt").write_text(f"{REQUEST}\n" * 3 + "".join(f"{REQUEST}, picture {n}\n" for n in range(20)))
        code, more = run(capfd, "enhance", "in.txt", "out.jsonl", "--profile", profile)
        assert code == 0
        options = ["--model", "m", "--base-url", server.address, "--api-key-env", "REDRAFT_TEST_KEY", "--no-critic"]
        teach(["in.txt", "taught.jsonl", *options])
        printed += more + "".join(capfd.readouterr()).encode()
    written = everything_in(tmp_path)
    assert b"***" in written
    assert leaks(key, written + printed) == []


@pytest.mark.parametrize("key", MANY)
def test_servers_that_repeat_the_key_in_their_errors(
    key: str,
    tmp_path: Path,
    model_server: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REDRAFT_TEST_KEY", key)
    monkeypatch.chdir(tmp_path)
    told = list(spellings(key.strip()).values())
    shapes = [
        (lambda text: (401, json.dumps({"error": {"message": f"Incorrect API key provided: {text}"}}).encode())),
        (lambda text: (400, json.dumps({"detail": [{"loc": ["headers"], "input": {"authorization": text}}]}).encode())),
        (lambda text: (500, f"<html>{text}</html>".encode())),
        (lambda text: (200, text.encode())),
        (lambda text: (200, json.dumps({"error": text, "choices": []}).encode())),
        (lambda text: (200, json.dumps({"choices": [{"message": {"content": ""}, "finish_reason": text}]}).encode())),
        (lambda text: (422, (" " * 250 + text).encode())),
    ]
    answers = cycle([shape(text) for text in told for shape in shapes])
    printed = b""
    with model_server(FINE, good="finely") as server:
        profile = server.profile(tmp_path, max_rounds=2)
        server.fault = lambda path, asked, headers: next(answers)
        options = ["--model", "m", "--base-url", server.address, "--api-key-env", "REDRAFT_TEST_KEY", "--no-critic"]
        (tmp_path / "in.txt").write_text("".join(f"{REQUEST}, picture {n}\n" for n in range(40)))
        for _ in range(3):
            printed += run(capfd, "draw", REQUEST, "--profile", profile, "--json")[1]
        printed += run(capfd, "enhance", "in.txt", "out.jsonl", "--profile", profile)[1]
        teach(["in.txt", "taught.jsonl", "--patience", "100", *options])
        server.fault = lambda path, asked, headers: next(answers) if "images" in path else None
        for _ in range(4):
            printed += run(capfd, "draw", REQUEST, "--profile", profile)[1]
        server.fault = lambda path, asked, headers: next(answers) if asked.get("logprobs") else None
        printed += run(capfd, "draw", REQUEST, "--profile", profile)[1]
        printed += "".join(capfd.readouterr()).encode()
    assert leaks(key, everything_in(tmp_path) + printed) == []


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_is_refused_is_not_shown_and_nothing_is_sent(
    key: str,
    tmp_path: Path,
    model_server: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REDRAFT_TEST_KEY", key)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text(REQUEST)
    with model_server(FINE, good="finely") as server:
        profile = server.profile(tmp_path)
        for command in (("draw", REQUEST), ("enhance", "in.txt", "out.jsonl")):
            code, printed = run(capfd, *command, "--profile", profile)
            assert code == 2
            assert b"REDRAFT_TEST_KEY" in printed
            assert len(key.strip()) < 5 or key.strip().encode() not in printed + everything_in(tmp_path)
        assert server.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("key", UGLY[2:4])
def test_what_a_server_of_ours_writes(key: str, tmp_path: Path, model_server: Serve) -> None:
    """`redraft serve` before a server that repeats the key: answers, log, database and run folders."""
    told = list(spellings(key).values())
    answers = cycle([(401, json.dumps({"error": {"message": text}}).encode()) for text in told])
    script = tmp_path / "ask.py"
    script.write_text(ASK_SERVER)
    with model_server(*[f"{FINE} {text}" for text in told], good="finely") as server:
        profile = server.profile(tmp_path, max_rounds=1)
        calls = iter(range(10**6))
        server.fault = lambda path, asked, headers: next(answers) if next(calls) % 3 == 2 else None
        done = subprocess.run(
            [sys.executable, script, profile, tmp_path / "data"],
            env={**os.environ, "REDRAFT_TEST_KEY": key, "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=tmp_path,
            capture_output=True,
            timeout=240,
            check=False,
        )
    assert b"ALL ASKED" in done.stdout, done.stderr.decode()
    assert server.seen
    assert leaks(key, everything_in(tmp_path) + done.stdout + done.stderr) == []
    shutil.rmtree(tmp_path / "data")


ASK_SERVER = """
import json, logging, re, socket, subprocess, sys, time, urllib.error, urllib.request
with socket.socket() as s:
    s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
command = [sys.executable, "-m", "agent.cli", "serve", "--profile", sys.argv[1], "--port", str(port), "--data", sys.argv[2]]
server = subprocess.Popen([*command, "--log-prompts"])
url = f"http://127.0.0.1:{port}"
def ask(path, **body):
    data = json.dumps(body).encode() if body else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, {"Content-Type": "application/json"})) as r:
            return r.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
try:
    for _ in range(1200):
        try:
            ask("/healthz"); break
        except OSError:
            time.sleep(0.1)
    for n in range(8):
        request = f"three red circles on a white background, number {n}"
        print(ask("/v1/images/generations", prompt=request, n=1)[:4000])
        print(ask("/v1/chat/completions", model="server", messages=[{"role": "user", "content": request}])[:4000])
    print(ask("/metrics"))
    print("ALL ASKED")
finally:
    server.terminate(); server.wait(120)
"""
