"""Rewriter and judge behind real vLLM servers: they answer as the same models do in this process.

Deselected by default; `scripts/ci_vllm.sh` runs them, or `pytest -m vllm tests/vllm` after `make vllm-install`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluator.local_judge import TransformersJudge
from evaluator.server_judge import ServerJudge
from evaluator.types import Check
from mini.judge.questioning import ask
from mini.rewriter.write_data import prompts
from mini.world.raster import draw
from mini.world.sampling import sample_pair
from redraft.chat import ChatReply
from redraft.openai_chat import OpenAIChat
from redraft.profiles import load_profile
from redraft.transformers_chat import TransformersChat
from rewriter.cot import Asking

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PROMPTS = [row["request"] for row in prompts(30, "test", seed=7)]


def redraft(*arguments: str | Path | int, cwd: Path, python: Path | str = sys.executable) -> dict[str, Any]:
    """What the command prints with --json. Fails where it exits with anything but 0."""
    # In the environment of vLLM, torchvision needs the mending of `scripts/vllm_cpu`.
    path = os.pathsep.join([str(ROOT), *([str(ROOT / "scripts/vllm_cpu")] if python != sys.executable else [])])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    command = [str(python), "-m", "agent.cli", *map(str, arguments), "--json"]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "in.jsonl"
    path.write_text("".join(json.dumps({"id": at, "prompt": prompt}) + "\n" for at, prompt in enumerate(PROMPTS)))
    return path


async def test_the_rewriter_says_what_it_says_in_process(served: Path) -> None:
    """Greedy replies, token by token: with weights in float32 no two tokens are likely enough to change places."""
    mini, profile = load_profile("mini"), load_profile(str(served))
    asking = Asking.of(profile.rewriter)
    requests = [asking.first(prompt, 0, 0) for prompt in PROMPTS]
    local, server = TransformersChat(mini.rewriter.model), OpenAIChat(profile.rewriter.model)
    here: list[ChatReply] = await asyncio.gather(*(local(request) for request in requests))
    there: list[ChatReply] = await asyncio.gather(*(server(request) for request in requests))
    await server.aclose()
    assert len({reply.text for reply in here}) > 20, "the prompts get answers of their own"
    assert [reply.text for reply in there] == [reply.text for reply in here]
    assert [reply.usage for reply in there] == [reply.usage for reply in here]
    assert [reply.truncated for reply in there] == [reply.truncated for reply in here]


async def test_the_judge_is_as_sure_as_in_process(served: Path) -> None:
    """Yes/no probabilities within 0.02, of pictures in two sizes and questions of every kind."""
    mini, profile = load_profile("mini"), load_profile(str(served))
    local = TransformersJudge(mini.judge)
    chat = OpenAIChat(profile.judge.model)
    server = ServerJudge(chat, profile.judge)
    rng = np.random.default_rng(20)
    apart: list[float] = []
    sure: list[float] = []
    for at in range(12):
        scene = sample_pair(rng)[1]
        checks = tuple(Check("any", str(ask(rng, scene)[0])) for _ in range(8))
        image = draw(scene, 256 if at % 2 else 384)
        for mine, other in zip(await local(image, "", checks), await server(image, "", checks), strict=True):
            assert mine.probability is not None, mine
            assert mine.label_mass is not None
            assert other.probability is not None, other
            assert other.label_mass is not None
            apart.append(abs(mine.probability - other.probability))
            apart.append(abs(mine.label_mass - other.label_mass))
            sure.append(mine.probability)
    await chat.aclose()
    await local.aclose()
    assert max(apart) < 0.02, f"mean {np.mean(apart):.4f}, most {max(apart):.4f}"
    assert min(sure) < 0.1 < 0.9 < max(sure), "there were clear answers of both kinds"


def test_enhance_by_server_gives_what_it_gives_in_process(served: Path, source: Path, tmp_path: Path) -> None:
    there = redraft("enhance", source, "there.jsonl", "--profile", served, "--thought", cwd=tmp_path)
    here = redraft("enhance", source, "here.jsonl", "--profile", "mini", "--thought", cwd=tmp_path)
    assert (there["rows"], there["failed"], there["model"]) == (len(PROMPTS), 0, "mini-rewriter")
    assert here["rows"] == len(PROMPTS)
    mine, other = rows(tmp_path / "here.jsonl"), rows(tmp_path / "there.jsonl")
    assert [row["id"] for row in other] == list(range(len(PROMPTS)))

    # A second try is sampled, and the two sides draw differently; the first is greedy.
    def is_first(row: dict[str, Any]) -> bool:
        return bool(row["status"] == "rewritten" and not row["findings"])

    first = [(a, b) for a, b in zip(mine, other, strict=True) if is_first(a) or is_first(b)]
    assert len(first) >= len(PROMPTS) // 2
    for a, b in first:
        assert (b["status"], b["prompt"], b["thought"]) == (a["status"], a["prompt"], a["thought"])


def test_enhance_with_n_candidates_chosen_by_drawing_and_judging(served: Path, source: Path, tmp_path: Path) -> None:
    command = ("enhance", source, "out.jsonl", "--profile", served, "--n", 2, "--judge", "--limit", 3)
    told = redraft(*command, cwd=tmp_path)
    assert (told["rows"], told["failed"]) == (3, 0)
    for row in rows(tmp_path / "out.jsonl"):
        assert len(row["scores"]) == len(row["candidates"]) + 1, "the user's own prompt is drawn and judged too"
        assert all(score is None or 0 <= score <= 1 for score in row["scores"])
        chosen = row["prompt"] if row["status"] == "kept" else row["candidates"][best(row["scores"][:-1])]
        assert row["prompt"] == chosen


def best(scores: list[float | None]) -> int:
    return max(range(len(scores)), key=lambda at: -1.0 if scores[at] is None else float(scores[at] or 0.0))


def test_many_sampled_requests_at_once(served: Path, source: Path, tmp_path: Path) -> None:
    """Seeded ones: with chunked prefill, vLLM 0.32 ended at these on a CPU."""
    command = ("enhance", source, "out.jsonl", "--profile", served, "--n", 8, "--select", "consensus")
    told = redraft(*command, "--concurrency", 240, cwd=tmp_path)
    assert (told["rows"], told["failed"]) == (len(PROMPTS), 0)
    assert any(len(row["candidates"]) > 1 for row in rows(tmp_path / "out.jsonl"))


def test_draw_with_both_models_served(served: Path, tmp_path: Path) -> None:
    told = redraft(
        "draw", "two small red stars above a big blue circle", "--profile", served, "--seed", 5, "--out", "runs",
        cwd=tmp_path,
    )  # fmt: skip
    assert told["stop"] in ("accepted", "plateau", "budget", "time")
    assert (tmp_path / told["image"]).is_file()
    assert told["score"] > 0.5
    run = json.loads(next((tmp_path / "runs").glob("*/run.json")).read_text())
    verdicts = [verdict for attempt in run["attempts"] for verdict in attempt["report"]["verdicts"]]
    assert verdicts
    assert all(verdict["outcome"] == "scored" for verdict in verdicts)


def test_enhance_with_vllm_inside_the_process(served: Path, source: Path, tmp_path: Path, vllm_python: Path) -> None:
    """--engine vllm, in vLLM's own environment: the greedy rewrites are the server's, to the letter; and many seeded
    requests at once, whose prompts together are longer than a step reads."""
    redraft("enhance", source, "there.jsonl", "--profile", served, cwd=tmp_path)
    profile = tmp_path / "inside.toml"
    text = served.read_text()
    head, _, rest = text.partition("[rewriter.model]")
    _, _, tail = rest.partition("[checklist]")
    inside = (
        '[rewriter.model]\nkind = "transformers"\nmodel = "package:mini/weights/rewriter"\n[rewriter.model.local]\n'
        'device = "cpu"\ndtype = "float32"\nvllm = { max_model_len = 512, enforce_eager = true }\n\n[checklist]'
    )
    profile.write_text(head + inside + tail)
    command = ("enhance", source, "inside.jsonl", "--profile", profile, "--engine", "vllm", "--n", 4)
    told = redraft(*command, "--select", "consensus", cwd=tmp_path, python=vllm_python)
    assert (told["rows"], told["failed"]) == (len(PROMPTS), 0)
    pairs = list(zip(rows(tmp_path / "there.jsonl"), rows(tmp_path / "inside.jsonl"), strict=True))
    greedy = [(a, b) for a, b in pairs if a["status"] == "rewritten"]
    assert len(greedy) >= len(PROMPTS) // 2
    assert all(a["prompt"] in b["candidates"] for a, b in greedy), "the first of the four is greedy"
    assert any(len(b["candidates"]) > 1 for _, b in pairs), "the others are sampled"
