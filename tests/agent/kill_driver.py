"""Kills real processes in the middle of a run, resumes them, and prints what was left, as JSON lines.

Run by test_kill.py as a program of its own: `kill_driver.py FOLDER draw|edit|SEARCH STRIDE [CLOCK]`. For every place at
which a run makes something durable (each fsync) and for every call of a model, a forked child starts a run and sends
itself SIGKILL there; a second child resumes it. The first line printed is an uninterrupted run. With "edit" it is an edit
of a given picture in sub-tasks, with "covered" a drawing whose checklist is held to the request's words, else a drawing by the
strategy of that name; of the places to die each STRIDE-th is tried.
The clock of the child that resumes is CLOCK seconds ahead (behind, if negative).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from agent.models import Models
from agent.run import Run
from agent.testing import CHECKS, drawn_from, fake_models, paint
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from evaluator.checklist import ChecklistResult, CoveredChecklists
from evaluator.reward import checks_reward
from evaluator.testing import FakeJudge
from evaluator.types import Check
from redraft.journal import Entry, read_journal
from redraft.limits import Limits, TreeLimits
from redraft.profiles import SearchConfig
from rewriter.plan import Plan, Situation, Step
from rewriter.testing import FakePlanner, FakeRewriter, RewriterCall

LIMITS = Limits(max_rounds=2, max_images=5, images_per_round=3)
EDIT_LIMITS = Limits(max_rounds=4, max_images=7, edit_drafts=True, tree=TreeLimits(width=2, merge=1, confidence=0.25))
REQUEST = "three circles"
MODE = sys.argv[2] if len(sys.argv) > 2 else "draw"
if MODE == "covered":
    REQUEST = "three circles and a star in a boat"
STRIDE = int(sys.argv[3]) if len(sys.argv) > 3 else 1
CLOCK = int(sys.argv[4]) if len(sys.argv) > 4 else 0
SEARCHES = {
    "draft": {"strategy": "draft", "n": 3, "effort": 0.5},
    "evolve": {"strategy": "evolve", "n": 2, "effort": 0.5, "generations": 2},
    "gallery": {"strategy": "gallery"},
    "best_of": {"strategy": "best_of", "n": 4},
    "then": {"parts": ({"strategy": "draft", "share": 0.6}, {"strategy": "loop", "share": 0.4}), "n": 2, "effort": 0.5},
}
Hook = Callable[[str], None]


def name_picture(prompt: str, seed: int, effort: float = 1.0, noise: Sequence[Sequence[float]] = ()) -> str:
    """The same for the same picture, in this process and in what is left of another."""
    at = "" if effort == 1 else f" at {effort}"
    return f"{prompt} {seed}{at}" + (f" from {[list(pair) for pair in noise]}" if noise else "")


def name_seen(image: Image.Image) -> str:
    """The name of a picture of `paint`."""
    data = image.convert("RGB").tobytes()
    made = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
    return name_picture(made["prompt"], made["seed"], made.get("effort", 1.0), made.get("noise", ()))


class Backend(FakeBackend):
    """Tells `hook` before, inside and after each batch; the draw itself is told for each picture."""

    def __init__(self, hook: Hook) -> None:
        super().__init__(paint=paint)
        self._hook = hook

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        for task in tasks:
            self._hook(f"draw {name_picture(task.prompt, task.seed, task.effort, task.noise)}")
        pictures = super().render(tasks, on_step)
        self._hook("drew")
        return pictures


class Writer:
    """A ChecklistWriter that leaves "boat" out, also when it is asked for it."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    async def build(self, request: str, left_out: Sequence[str] = ()) -> ChecklistResult:
        self._hook(f"checklist {' '.join(left_out)}")
        return ChecklistResult(CHECKS)


def edit_parts(hook: Hook) -> Models:
    def plan(situation: Situation) -> Plan:
        hook(f"plan {' '.join(situation.done)} {situation.refused}")
        if situation.refused is not None:
            return Plan("edit", "again", (Step("other", questions=(CHECKS[1].question,)),))
        return Plan(
            "edit", "why", (Step("one", questions=(CHECKS[0].question,), draft="a hat"), Step("two"), Step("three"))
        )

    def opinion(prompt: str, seed: int) -> tuple[float, ...]:
        hook(f"judge {prompt} {seed}")
        sure = {"one": 0.6, "two": 0.1, "other": 0.7, "three": 0.8}.get(prompt, 0.3)
        return (sure, (seed % 89) / 200, 0.2)

    return fake_models(opinion, planner=FakePlanner(plan), backend=Backend(hook), editor=Backend(hook), batch_size=2)


def models(hook: Hook) -> Models:
    if MODE == "edit":
        return edit_parts(hook)

    def rewrite(call: RewriterCall) -> list[str]:
        hook(f"rewrite {call.seed}")
        return [f"try {call.seed}"]

    def look(image: Image.Image, _: str, check: Check) -> float:
        hook(f"judge {name_seen(image)}")
        return (0.9, (drawn_from(image)[1] % 89) / 100, 0.4)[CHECKS.index(check)]

    judge = FakeJudge(look)
    made = fake_models(lambda *_: (), rewriter=FakeRewriter(rewrite), backend=Backend(hook), batch_size=2)
    made = replace(made, judge=judge, reward=checks_reward(judge))
    if MODE == "covered":
        return replace(made, checklist_maker=CoveredChecklists(Writer(hook), asks_freely=False))
    return replace(made, gallery={"other": Backend(hook)}) if MODE == "gallery" else made


async def work(session: Run) -> None:
    async for _ in session.stream():
        pass


def child(folder: Path, die_at: int | None, kind: str) -> int:
    """Starts a run in `folder`, or resumes the one that is there; dies at the die_at-th event of the kind."""
    count = 0

    def tick(happened: str) -> None:
        nonlocal count
        if happened == kind:
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def hook(line: str) -> None:
        with (folder / "calls.log").open("a") as file:
            file.write(line + "\n")
        tick("call")

    # Every durable write of ours goes through fsync. A killed process loses nothing that it has written, synced or not,
    # so the call itself, which waits for the disk, is left out.
    os.fsync = lambda file: tick("sync")
    runs = [path.parent for path in folder.glob("*/run.json")]
    if runs:
        session = Run.open(runs[0], models(hook))
    else:
        source = paint(ImageTask("given", 1)) if MODE == "edit" else None
        limits = EDIT_LIMITS if MODE == "edit" else LIMITS
        search = (
            SearchConfig(n=3) if MODE in ("draw", "edit", "covered") else SearchConfig.model_validate(SEARCHES[MODE])
        )
        session = Run.start(REQUEST, models(hook), limits=limits, out=folder, seed=7, source=source, search=search)
    asyncio.run(work(session))
    return count


def move_clock(seconds: int) -> None:
    """Moves the wall clock of this process."""
    ns, s = time.time_ns, time.time
    time.time_ns = lambda: ns() + seconds * 10**9
    time.time = lambda: s() + seconds


def forked(folder: Path, die_at: int | None = None, kind: str = "", clock: int = 0) -> bool:
    """True if the child died by SIGKILL, False if it came to its end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            move_clock(clock)
            child(folder, die_at, kind)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def journal(folder: Path) -> list[Entry]:
    """What the journal holds on disk."""
    return [entry for path in folder.glob("*/state/journal.jsonl") for entry in read_journal(path, "run")]


def done(folder: Path) -> list[str]:
    """What was finished, in the words of calls.log."""
    entries = journal(folder)
    pictures = {entry.value["image"]: entry.value["task"] for entry in entries if entry.key[0] == "image"}
    names = {image: name_picture(t["prompt"], t["seed"], t["effort"], t["noise"]) for image, t in pictures.items()}
    finished = [f"draw {name}" for name in names.values()]
    return finished + [f"judge {names[entry.key[1]]}" for entry in entries if entry.key[0] == "report"]


def left(folder: Path, kind: str, at: int, finished: list[str]) -> dict[str, object]:
    run = next(path.parent for path in folder.glob("*/run.json"))
    record = json.loads((run / "run.json").read_text())
    keep = (
        "request",
        "seed",
        "stop",
        "why",
        "best",
        "checklist",
        "rounds",
        "attempts",
        "error",
        "unchecked",
        "invented",
        "warnings",
    )
    return {
        "kind": kind,
        "at": at,
        "record": {name: record[name] for name in keep},
        "best": (run / "best.png").read_bytes().hex(),
        "files": sorted(path.name for path in run.iterdir()),
        "images": sorted(path.name for path in run.glob("state/images/*/*")),
        "calls": (folder / "calls.log").read_text().splitlines(),
        "finished": finished,
    }


def main(base: Path) -> None:
    whole = base / "whole"
    whole.mkdir()
    assert not forked(whole)
    print(json.dumps(left(whole, "none", 0, [])), flush=True)  # noqa: T201
    for kind in ("sync", "call"):
        at, died = 1, True
        while died:
            folder = base / f"{kind}{at}"
            folder.mkdir()
            died = forked(folder, at, kind)
            if died:
                finished = done(folder)
                assert not forked(folder, clock=CLOCK)
                print(json.dumps(left(folder, kind, at, finished)), flush=True)  # noqa: T201
            at += STRIDE


if __name__ == "__main__":
    main(Path(sys.argv[1]))
