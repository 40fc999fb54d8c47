"""The tables of docs/editing.md: edits of the mini world, by four ways of editing, and drawing with and without edits.

    python -m eval_suites.cutout_edits --pairs 300 --sessions 200 --prompts 200 --out docs/results

The instructions are people's words for edits of held-out combinations. The profile's own judge chooses and decides when
to stop; the oracle, which reads the pixels, only reports. In a session the next instruction is about the picture that
the turn before it left: its user looks with the oracle's eyes. The run is kept in --work, and a second call of the same
command goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from agent.decide import acceptable
from agent.edit_judging import wanted_and_kept
from agent.parts import Parts
from agent.run import Session
from agent.types import Limits, StopReason
from agent.wiring import open_parts
from core.errors import BackendError
from core.images import open_image
from core.profiles import Profile, load_profile
from core.store import ImageStore
from editors.changes import is_unchanged
from editors.types import ImageTask
from eval_suites.book import Book, opened
from eval_suites.generation.cutouts import asked, prompts
from eval_suites.painting import seed_of
from eval_suites.stats import Interval, bootstrap, paired_difference
from evaluator.edits.types import Edit
from mini import oracle
from mini.edit_figures import items
from mini.edit_sampling import sample_edit
from mini.edit_truth import kept, ops_followed
from mini.edit_wording import say_edit
from mini.edits import EditSpec
from mini.raster import draw
from mini.sampling import sample_pair
from mini.wording import Wording

WAYS = {
    "single": "single edit call",
    "best": "best of {best} by the judge",
    "loop": "edit loop, at most {loop} edits",
    "tree": "tree, at most {tree} edits",
}
MOST = {"best": 4, "loop": 4, "tree": 8}
TURNS = 3
AT_ONCE = 12
"""Pairs under way at once; their pictures are edited one batch at a time all the same."""
MANY_OPS = 3
"""From so many sub-tasks on an instruction is a long one."""
_SEED = 731_001
_A_DAY = 86_400.0

console = Console(stderr=True)


def limits_of(way: str, profile: Profile) -> Limits:
    """The profile's limits, with what makes a way of editing out of them. Pictures are the budget: seconds would
    measure how many pairs are worked on side by side."""
    own = Limits.of(profile.limits, profile.judge.pass_at)
    most = MOST[way]
    own = replace(own, max_images=most, max_rounds=most, patience=most, max_seconds=_A_DAY)
    if way == "loop":
        # One result a round, of all sub-tasks together; where it fails, the picture as it was given is edited anew.
        return replace(own, edit_width=1, edit_keep=1, edit_merge=32, edit_depth=1)
    # Four results of all that does not depend on one another; where none is good enough, in smaller parts.
    return replace(own, edit_width=4, edit_keep=1, edit_merge=32, edit_depth=4, edit_base="anew")


@dataclass(frozen=True)
class Asked:
    """An instruction, the edit that it says, and the picture it is about."""

    name: str
    spec: EditSpec
    picture: Image.Image
    prompt: str
    seed: int


class Editing:
    """Edits by every way, each once, and notes what came of it."""

    def __init__(self, parts: Parts, profile: Profile, book: Book, out: Path) -> None:
        self._parts, self._profile, self._book, self._out = parts, profile, book, out
        self._store = ImageStore(out / "state" / "images")
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def edited(self, way: str, asked: Asked) -> dict[str, Any]:
        """{"image": hash, "drawn": pictures made, "stop": why, "followed": of each sub-task, "kept": the rest}."""

        async def make() -> dict[str, Any]:
            async with self._gate:
                image, drawn, stop = await self._ways()[way](way, asked)
            before, after = oracle.read_scene(asked.picture), oracle.read_scene(image)
            return {
                "image": self._store.put(image),
                "drawn": drawn,
                "stop": stop,
                "kinds": [op.kind for op in asked.spec.ops],
                "followed": [bool(done) for done in ops_followed(asked.spec, before, after)],
                "kept": bool(kept(asked.spec, before, after)),
            }

        made: dict[str, Any] = await self._book.once("edit", f"{way} {asked.name}", make)
        return made

    def _ways(self) -> Mapping[str, Callable[[str, Asked], Awaitable[tuple[Image.Image, int, str]]]]:
        return {"single": self._single, "best": self._best, "loop": self._run, "tree": self._run}

    async def _drawn(self, asked: Asked, count: int) -> list[Image.Image]:
        editor = self._parts.editor
        assert editor is not None
        tasks = [
            ImageTask(asked.prompt, seed_of(asked.seed, asked.prompt, k), source=asked.picture) for k in range(count)
        ]
        return await asyncio.get_running_loop().run_in_executor(self._parts.renderer, editor.render, tasks)

    async def _single(self, way: str, asked: Asked) -> tuple[Image.Image, int, str]:
        return (await self._drawn(asked, 1))[0], 1, ""

    async def _best(self, way: str, asked: Asked) -> tuple[Image.Image, int, str]:
        """The best result by the questions and the order of `redraft edit`: acceptable ones first, then by score."""
        parts = self._parts
        assert parts.edit_checks is not None
        assert parts.edit_evaluator is not None
        results = await self._drawn(asked, MOST[way])
        checks = await parts.edit_checks(asked.picture, asked.prompt)
        async with parts.calls:
            seen = await parts.evaluator.score(asked.picture, asked.prompt, (*checks.wanted, *checks.kept))
        questions = wanted_and_kept(checks, seen, parts.pass_at)
        reports = []
        for result in results:
            async with parts.calls:
                reports.append(await parts.edit_evaluator(Edit(asked.picture, result, asked.prompt), questions))
        able = [n for n, result in enumerate(results) if not is_unchanged(asked.picture, result)] or [0]
        limits = Limits.of(self._profile.limits, parts.pass_at)
        best = max(able, key=lambda n: (acceptable(reports[n], limits), reports[n].score or 0.0, -n))
        return results[best], len(results), ""

    async def _run(self, way: str, asked: Asked) -> tuple[Image.Image, int, str]:
        """As `redraft edit` does it. A run that a kill cut short begins anew."""
        folder = self._out / "runs" / way / asked.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        session = Session.start(
            asked.prompt,
            self._parts,
            limits=limits_of(way, self._profile),
            out=folder.parent,
            folder=folder,
            seed=asked.seed,
            source=asked.picture,
        )
        result = await session.run()
        if result.image is None:
            if result.stop is StopReason.FAILED and all(attempt.unchanged for attempt in result.attempts):
                return asked.picture, len(result.attempts), result.stop
            raise BackendError(f"the edit {asked.name} failed: {result.error or result.why}")
        return open_image(result.image), len(result.attempts), result.stop

    async def drawn(self, way: str, wording: Wording, name: str, seed: int) -> dict[str, Any]:
        """A prompt drawn by the loop, "with" or "without" its edit branch: {"right": of each check, ...}."""

        async def make() -> dict[str, Any]:
            async with self._gate:
                folder = self._out / "runs" / f"draw-{way}" / name
                shutil.rmtree(folder, ignore_errors=True)
                folder.parent.mkdir(parents=True, exist_ok=True)
                limits = Limits.of(self._profile.limits, self._profile.judge.pass_at)
                session = Session.start(
                    wording.text,
                    self._parts,
                    limits=replace(limits, max_seconds=_A_DAY, edit_draws=way == "with"),
                    out=folder.parent,
                    folder=folder,
                    seed=seed,
                )
                result = await session.run()
            if result.image is None:
                raise BackendError(f"the loop failed on {name}: {result.error or result.why}")
            right = oracle.answers(open_image(result.image), asked(wording))
            edits = sum(attempt.kind == "edit" for attempt in result.attempts)
            by_edit = result.best_attempt is not None and result.best_attempt.kind == "edit"
            return {
                "right": [bool(yes) for yes in right],
                "drawn": len(result.attempts),
                "edits": edits,
                "best_is_edit": by_edit,
                "stop": result.stop,
            }

        made: dict[str, Any] = await self._book.once("draw", f"{way} {name}", make)
        return made


def pairs(count: int, seed: int) -> list[Asked]:
    """Held-out instructions with their pictures; the first ones of any greater count."""
    return [
        Asked(f"p{n:04d}", item.case.spec, item.source, item.prompt, seed_of(seed, item.prompt, 0))
        for n, item in enumerate(items(count, _SEED + seed, "test", "human"))
    ]


def next_asked(seed: int, session: int, turn: int, picture: Image.Image, way: str) -> Asked | None:
    """What the user of a session says next, None where no held-out edit of the picture was found: it holds what the
    oracle cannot name."""
    rng = np.random.default_rng((_SEED, seed, session, turn))
    try:
        case = sample_edit(rng, "test", oracle.read_scene(picture))
        text = say_edit(rng, case.spec, case.before).text
    except (ValueError, KeyError):
        return None
    return Asked(f"{way}-s{session:04d}-t{turn}", case.spec, picture, text, seed_of(seed, text, turn))


async def session_of(editing: Editing, way: str, seed: int, session: int, store: ImageStore) -> list[dict[str, Any]]:
    """The turns of a session, as `Editing.edited` has them."""
    picture = draw(sample_pair(np.random.default_rng((_SEED, seed, session)), "train")[1])
    turns: list[dict[str, Any]] = []
    for turn in range(TURNS):
        said = await asyncio.to_thread(next_asked, seed, session, turn, picture, way)
        if said is None:
            break
        turns.append(await editing.edited(way, said))
        picture = await asyncio.to_thread(store.get, turns[-1]["image"])
    return turns


async def measure(
    parts: Parts, profile: Profile, book: Book, options: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    """All figures, as plain numbers."""
    editing = Editing(parts, profile, book, options.work)
    store = ImageStore(options.work / "state" / "images")
    found: dict[str, Any] = {}

    async def counted(task: Any, work: Awaitable[Any]) -> Any:
        value = await work
        progress.advance(task)
        return value

    asked_for = pairs(options.pairs, options.seed)
    for way in WAYS if options.pairs else ():
        bar = progress.add_task(f"pairs, {way}", total=len(asked_for))
        found[way] = await asyncio.gather(*(counted(bar, editing.edited(way, one)) for one in asked_for))
    sessions: dict[str, Any] = {}
    for way in WAYS if options.sessions else ():
        bar = progress.add_task(f"sessions, {way}", total=options.sessions)
        talks = (session_of(editing, way, options.seed, n, store) for n in range(options.sessions))
        sessions[way] = await asyncio.gather(*(counted(bar, talk) for talk in talks))
    drawn: dict[str, Any] = {}
    wordings = prompts(options.prompts, options.seed)
    for way in ("without", "with") if options.prompts else ():
        bar = progress.add_task(f"drawing {way} edits", total=len(wordings))
        runs = (
            editing.drawn(way, wording, f"{n:05d}", seed_of(options.seed, wording.text, 0))
            for n, wording in enumerate(wordings)
        )
        drawn[way] = await asyncio.gather(*(counted(bar, run) for run in runs))
    figures: dict[str, Any] = {"pairs": options.pairs, "sessions": options.sessions, "prompts": options.prompts}
    if found:
        figures["edits"] = edit_table(found)
    if sessions:
        figures["turns"] = session_table(sessions)
    if drawn:
        figures["drawing"] = draw_table(drawn)
    return figures


def _both(one: Mapping[str, Any]) -> float:
    return float(all(one["followed"]) and one["kept"])


def edit_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Figures of pairs: of each way, and what one way has over another on the same pairs."""
    rows = {}
    for way, results in found.items():
        long = [_both(one) for one in results if len(one["followed"]) >= MANY_OPS]
        rows[way] = {
            "followed": asdict(bootstrap([float(all(one["followed"])) for one in results])),
            "kept": asdict(bootstrap([float(one["kept"]) for one in results])),
            "both": asdict(bootstrap([_both(one) for one in results])),
            "both_long": asdict(bootstrap(long)) if long else None,
            "long": len(long),
            "images": fmean(one["drawn"] for one in results),
        }
    gains = {}
    for ours, theirs in (("best", "single"), ("loop", "best"), ("tree", "loop")):
        two = list(zip(found[ours], found[theirs], strict=True))
        longer = [(a, b) for a, b in two if len(a["followed"]) >= MANY_OPS]
        gains[f"{ours} over {theirs}"] = _gain(two)
        if longer:
            gains[f"{ours} over {theirs}, long"] = _gain(longer)
    kinds: dict[str, list[float]] = {}
    for one in found["single"]:
        for kind, done in zip(one["kinds"], one["followed"], strict=True):
            kinds.setdefault(kind, []).append(float(done))
    return {"rows": rows, "gains": gains, "kinds": {k: [fmean(v), len(v)] for k, v in sorted(kinds.items())}}


def _gain(two: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, float]:
    return asdict(paired_difference([_both(a) for a, _ in two], [_both(b) for _, b in two]))


def session_table(sessions: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Figures of sessions: turns that were right, and sessions in which all were. A turn that a spoilt picture made
    impossible is wrong."""
    rows = {}
    for way, talks in sessions.items():
        turns = [[_both(turn) for turn in talk] + [0.0] * (TURNS - len(talk)) for talk in talks]
        rows[way] = {
            "turns": asdict(bootstrap([fmean(one) for one in turns])),
            "whole": asdict(bootstrap([float(all(one)) for one in turns])),
            "by_turn": [fmean(one[n] for one in turns) for n in range(TURNS)],
            "images": fmean(turn["drawn"] for talk in talks for turn in talk),
        }
    return {"rows": rows}


def draw_table(drawn: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Figures of drawing with and without the edit branch, at the same most of images."""
    rows = {}
    for way, runs in drawn.items():
        rows[way] = {
            "every_check_right": asdict(bootstrap([float(all(run["right"])) for run in runs])),
            "checks_right": asdict(bootstrap([fmean(run["right"]) for run in runs])),
            "accepted": asdict(bootstrap([float(run["stop"] == StopReason.ACCEPTED) for run in runs])),
            "images": asdict(bootstrap([float(run["drawn"]) for run in runs])),
            "edits": fmean(run["edits"] for run in runs),
            "best_is_edit": fmean(run["best_is_edit"] for run in runs),
        }
    ours, theirs = drawn["with"], drawn["without"]
    gains = {
        "every_check_right": asdict(
            paired_difference([float(all(a["right"])) for a in ours], [float(all(b["right"])) for b in theirs])
        ),
        "images": asdict(paired_difference([float(a["drawn"]) for a in ours], [float(b["drawn"]) for b in theirs])),
    }
    return {"rows": rows, "with_over_without": gains}


def _interval(figure: Mapping[str, float] | None) -> str:
    return "-" if figure is None else str(Interval(**figure))


def markdown(figures: Mapping[str, Any], command: str) -> str:
    """The tables of docs/editing.md."""
    titles = {way: title.format(**MOST) for way, title in WAYS.items()}
    lines = [f"By the oracle, 95% bootstrap intervals. Made by `{command}`."]
    if "edits" in figures:
        rows, gains = figures["edits"]["rows"], figures["edits"]["gains"]
        lines += [
            "",
            f"{figures['pairs']} held-out (scene, instruction) pairs, of which {rows['single']['long']} have "
            f"{MANY_OPS} or more sub-tasks:",
            "",
            f"| row | instruction followed | the rest kept | both | both, {MANY_OPS} or more sub-tasks | images |",
            "|---|---|---|---|---|---|",
        ]
        for way, row in rows.items():
            cells = [titles[way], *(_interval(row[k]) for k in ("followed", "kept", "both", "both_long"))]
            lines.append(f"| {' | '.join(cells)} | {row['images']:.2f} |")
        lines += ["", "| both, on the same pairs | difference |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {_interval(gain)} |" for name, gain in gains.items()]
        lines += ["", "| sub-task, single edit call | done | of |", "|---|---|---|"]
        lines += [f"| {kind} | {share:.2f} | {of} |" for kind, (share, of) in figures["edits"]["kinds"].items()]
    if "turns" in figures:
        lines += [
            "",
            f"{figures['sessions']} sessions of {TURNS} turns:",
            "",
            "| row | turns right (followed and kept) | sessions with every turn right | turn 1, 2, 3 | images a turn |",
            "|---|---|---|---|---|",
        ]
        for way, row in figures["turns"]["rows"].items():
            turns = ", ".join(f"{share:.2f}" for share in row["by_turn"])
            cells = [titles[way], _interval(row["turns"]), _interval(row["whole"]), turns, f"{row['images']:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    if "drawing" in figures:
        lines += [
            "",
            f"{figures['prompts']} held-out prompts drawn:",
            "",
            "| the loop | every check right | checks right | accepted by the judge | images | of them edits |",
            "|---|---|---|---|---|---|",
        ]
        for way, row in figures["drawing"]["rows"].items():
            cells = [_interval(row[k]) for k in ("every_check_right", "checks_right", "accepted", "images")]
            lines.append(f"| {way} edits | {' | '.join(cells)} | {row['edits']:.2f} |")
        gains = figures["drawing"]["with_over_without"]
        lines += [
            "",
            f"With minus without, on the same prompts: every check right {_interval(gains['every_check_right'])}, "
            f"images {_interval(gains['images'])}.",
        ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` in place of the process's own arguments."""
    parser = argparse.ArgumentParser(description="Evaluates editing in the mini world.")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--name", default="edits", help="of the files in --out")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("work/eval/edits"))
    options = parser.parse_args(argv)
    profile = load_profile(options.profile)
    command = (
        f"python -m eval_suites.cutout_edits --pairs {options.pairs} --sessions {options.sessions} "
        f"--prompts {options.prompts} --seed {options.seed}"
    )
    # Counts may grow from one call to the next; what was measured stays.
    settings = {"profile": profile.model_dump(mode="json"), "seed": options.seed, "most": MOST}
    with opened(options.work, settings) as book, Progress(console=console) as progress:
        parts = open_parts(profile)
        try:
            figures = asyncio.run(measure(parts, profile, book, options, progress))
        finally:
            parts.close()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (options.out / f"{options.name}.md").write_text(markdown(figures, command), encoding="utf-8")
    console.print(markdown(figures, command))


if __name__ == "__main__":
    main()
