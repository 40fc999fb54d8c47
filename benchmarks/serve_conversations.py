"""32 conversations at once against the same 32 one after the other, on a real `redraft serve` with the profile mini.

    python benchmarks/serve_conversations.py [--conversations 32] [--turns 1] [--steps N] [--repeats 2] [--profile mini]

Each conversation is --turns drawings, one after the other, of prompts that the models were not trained on; both orders draw
the same prompts with the same seeds. With more --steps than the profile's, drawing takes most of the time, as it is with
full-size models. Prints the ratio of throughputs, the times to the first event and to the first picture, the
share of time in which the image worker was busy, time by step, and the server's memory. What the client does runs
beside the server on the same cores. On a busy machine look at the seconds of CPU that the server used as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

import redraft
from mini.world.sampling import sample_spec
from mini.world.wording import say


@dataclass(frozen=True)
class Turn:
    first_event_s: float
    first_picture_s: float
    whole_s: float
    pictures: int


async def talk(http: httpx.AsyncClient, prompts: Sequence[str], seed: int) -> list[Turn]:
    """A conversation with a turn for each prompt; the first is timed from before the conversation is made."""
    started = time.perf_counter()
    conversation = (await http.post("/api/conversations", json={"may_ask": False})).raise_for_status().json()["id"]
    turns: list[Turn] = []
    last = ""
    for prompt in prompts:
        done, last = await turn(http, conversation, prompt, seed, started, last)
        turns.append(done)
        started = time.perf_counter()
    return turns


async def turn(
    http: httpx.AsyncClient, conversation: str, prompt: str, seed: int, started: float, last: str
) -> tuple[Turn, str]:
    """A drawing, and the id of its last event; `last`: that of the turn before."""
    body = {"request": f"/draw {prompt}", "seed": seed}
    (await http.post(f"/api/conversations/{conversation}/turns", json=body)).raise_for_status()
    first = picture = 0.0
    pictures = 0
    headers = {"Last-Event-ID": last} if last else {}
    async with http.stream("GET", f"/api/conversations/{conversation}/events", headers=headers) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("id: "):
                last = line.removeprefix("id: ")
            if not line.startswith("event: "):
                continue
            now = time.perf_counter() - started
            first = first or now
            if line == "event: image":
                picture = picture or now
                pictures += 1
            if line in ("event: replied", "event: failed"):
                if line != "event: replied":
                    raise SystemExit(f"{prompt!r} failed")
                return Turn(first, picture, now, pictures), last
    raise SystemExit("the stream ended early")


async def busy(http: httpx.AsyncClient) -> tuple[float, dict[str, float]]:
    """Seconds the image worker has drawn, and seconds spent in each step, so far."""
    page = (await http.get("/metrics")).text
    [drawn] = re.findall(r"^redraft_image_worker_busy_seconds_total (\S+)", page, re.MULTILINE)
    steps = dict(re.findall(r'^redraft_step_seconds_sum\{step="(\w+)"\} (\S+)', page, re.MULTILINE))
    return float(drawn), {step: float(seconds) for step, seconds in steps.items()}


def cpu(pid: int) -> float:
    """Seconds of CPU that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(
    http: httpx.AsyncClient, pid: int, talks: Sequence[Sequence[str]], at_once: bool, name: str
) -> dict[str, object]:
    drawn, steps = await busy(http)
    used = cpu(pid)
    started = time.perf_counter()
    if at_once:
        timings = await asyncio.gather(*(talk(http, prompts, seed) for seed, prompts in enumerate(talks)))
    else:
        timings = [await talk(http, prompts, seed) for seed, prompts in enumerate(talks)]
    turns = [turn for turns in timings for turn in turns]
    wall = time.perf_counter() - started
    drawn_now, steps_now = await busy(http)
    figures: dict[str, object] = {
        "order": name,
        "seconds": round(wall, 2),
        "server_cpu_s": round(cpu(pid) - used, 2),
        "turns_per_minute": round(60 * len(turns) / wall, 1),
        "pictures": sum(t.pictures for t in turns),
        "first_event_s": spread([t.first_event_s for t in turns]),
        "first_picture_s": spread([t.first_picture_s for t in turns]),
        "turn_s": spread([t.whole_s for t in turns]),
        "image_worker_busy": round((drawn_now - drawn) / wall, 3),
        "step_seconds": {step: round(s - steps.get(step, 0), 2) for step, s in sorted(steps_now.items())},
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    return figures | {"wall": wall}


def spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"p50": round(statistics.median(ordered), 3), "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 3)}


def memory(pid: int) -> dict[str, int]:
    """MiB that the process holds now, and has held at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {name: int(re.findall(rf"{name}:\s+(\d+)", status)[0]) // 1024 for name in ("VmRSS", "VmHWM")}


async def run(url: str, pid: int, conversations: int, turns: int, repeats: int) -> None:
    rng = np.random.default_rng(7)
    prompts = [say(rng, sample_spec(rng, "test")).text for _ in range(conversations * turns)]
    talks = [prompts[i::conversations] for i in range(conversations)]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        for _ in range(1200):
            try:
                if (await http.get("/readyz")).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
        await measure(http, pid, talks[:2], True, "warm-up")
        idle = memory(pid)
        ratios = []
        for _ in range(repeats):
            alone = await measure(http, pid, talks, False, "one after the other")
            together = await measure(http, pid, talks, True, "all at once")
            ratios.append([float(str(alone[key])) / float(str(together[key])) for key in ("wall", "server_cpu_s")])
        sys.stdout.write(
            json.dumps(
                {
                    "ratio": [[round(r, 2) for r in pair] for pair in ratios],
                    "memory_mib": {"idle": idle, "after": memory(pid)},
                }
            )
            + "\n"
        )


def stepped(profile: str, steps: int, folder: Path) -> str:
    """A copy of the profile whose generator takes so many steps."""
    path = (
        Path(profile) if profile.endswith(".toml") else Path(redraft.__file__).parent / "profiles" / f"{profile}.toml"
    )
    text, count = re.subn(r"(\[generator\][^\[]*?\nsteps = )\d+", rf"\g<1>{steps}", path.read_text(encoding="utf-8"))
    if not count:
        raise SystemExit(f"{path} says nothing of the generator's steps")
    copy = folder / "stepped.toml"
    copy.write_text(text, encoding="utf-8")
    return str(copy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=32)
    parser.add_argument("--turns", type=int, default=1, help="drawings of a conversation")
    parser.add_argument("--steps", type=int, help="steps of the generator; default: the profile's")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--profile", default="mini")
    options = parser.parse_args()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        profile = options.profile
        if options.steps is not None:
            profile = stepped(profile, options.steps, Path(folder))
        command = [sys.executable, "-m", "agent.cli", "serve", "--profile", profile]
        command += ["--port", str(port), "--data", f"{folder}/data"]
        with Path(folder, "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            asyncio.run(
                run(f"http://127.0.0.1:{port}", server.pid, options.conversations, options.turns, options.repeats)
            )
        finally:
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()
