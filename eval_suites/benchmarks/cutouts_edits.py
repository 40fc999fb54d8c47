"""Edits of the mini world by four ways of editing, conversations of three turns, and drawing with and without edits: the
tables of docs/editing.md.

    redraft eval cutouts-edits --variant pairs --limit 300 --tables docs/results
    redraft eval cutouts-edits --variant eight --limit 100

The instructions are people's words for edits of held-out combinations. The profile's own judge chooses and decides when
to stop; the oracle, which reads the pixels, only reports. In a conversation the next instruction is about the picture
that the turn before it left: its user looks with the oracle's eyes. Each pair, turn and prompt is done once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from agent.decide import acceptable
from agent.edit_judging import keep_what_was_there
from agent.models import Models, open_models
from agent.run import Run
from agent.types import StopReason
from editors.backend import ImageTask, render
from editors.changes import is_unchanged
from eval_suites.benchmarks.cutouts import asked, prompts
from eval_suites.pictures import seed_of
from eval_suites.report import Section, Table
from eval_suites.runner import Evaluation, note_count, write_tables
from eval_suites.stats import bootstrap, paired_difference
from eval_suites.tables import TableSuite, interval_text, tables_text
from evaluator.types import Case, Shot
from mini.editor.edits import EditSpec
from mini.editor.figures import sample_examples
from mini.editor.sampling import sample_edit
from mini.editor.truth import kept, ops_followed
from mini.editor.wording import say_edit
from mini.world import oracle
from mini.world.raster import draw
from mini.world.sampling import sample_pair
from mini.world.wording import Wording
from redraft.errors import BackendError
from redraft.images import ImageStore, open_image
from redraft.journal import Journal
from redraft.limits import Limits
from redraft.profiles import Profile, load_profile

T = TypeVar("T")
WAYS = {
    "single": "single edit call",
    "best": "best of {best} by the judge",
    "loop": "edit loop, at most {loop} edits",
    "tree": "tree, at most {tree} edits",
}
MOST = {"best": 4, "loop": 4, "tree": 8}
EIGHT = 8
"""Results of a long instruction, among which a judge is to find a right one."""
TURNS = 3
"""Of a conversation."""
AT_ONCE = 12
"""Pairs under way at once; their pictures are edited one batch at a time all the same."""
_SEED = 731_001
_A_DAY = 86_400.0


def limits_of(way: str, profile: Profile) -> Limits:
    """The profile's limits, with what makes a way of editing out of them. Pictures are the budget: seconds would
    measure how many pairs are worked on side by side."""
    own = profile.limits
    most = MOST[way]
    own = own.changed(max_images=most, max_rounds=most, patience=most, max_seconds=_A_DAY)
    if way == "loop":
        # One result a round, of all sub-tasks together; if it fails, the picture as it was given is edited anew.
        return own.changed(tree=own.tree.model_copy(update={"width": 1, "keep": 1, "merge": 32, "depth": 1}))
    # Four results of all that does not depend on one another; if none is good enough, in smaller parts.
    return own.changed(
        tree=own.tree.model_copy(update={"width": 4, "keep": 1, "merge": 32, "depth": 4, "base": "anew"})
    )


@dataclass(frozen=True)
class EditRequest:
    """An instruction, the edit that it says, and the picture it is about."""

    name: str
    spec: EditSpec
    picture: Image.Image
    prompt: str
    seed: int


class EditWays:
    """Edits by every way, each once, and notes what came of it."""

    def __init__(self, models: Models, profile: Profile, journal: Journal, out: Path) -> None:
        self._models, self._profile, self._journal, self._out = models, profile, journal, out
        self.store = ImageStore(out / "state" / "images")
        self._gate = asyncio.Semaphore(AT_ONCE)

    @contextlib.contextmanager
    def plain_models(self) -> Iterator[Models]:
        """The models with the profile's judge as it is without tools and second looks."""
        judge = self._profile.need_judge().model_copy(update={"tools": (), "looks": 0, "second": None})
        models = open_models(self._profile.model_copy(update={"judge": judge}))
        try:
            yield models
        finally:
            models.close()

    async def edit(self, way: str, asked: EditRequest) -> dict[str, Any]:
        """{"image": hash, "drawn": pictures made, "stop": why, "followed": of each sub-task, "kept": the rest}."""

        async def make() -> dict[str, Any]:
            async with self._gate:
                image, drawn, stop = await self._ways()[way](way, asked)
            before, after = oracle.read_scene(asked.picture), oracle.read_scene(image)
            return {
                "image": self.store.put(image),
                "drawn": drawn,
                "stop": stop,
                "kinds": [op.kind for op in asked.spec.ops],
                "followed": [bool(done) for done in ops_followed(asked.spec, before, after)],
                "kept": bool(kept(asked.spec, before, after)),
            }

        made: dict[str, Any] = await self._journal.aonce(("edit", f"{way} {asked.name}"), make)
        return made

    def _ways(self) -> Mapping[str, Callable[[str, EditRequest], Awaitable[tuple[Image.Image, int, str]]]]:
        return {"single": self._single, "best": self._best, "loop": self._run, "tree": self._run}

    async def _drawn(self, asked: EditRequest, count: int) -> list[Image.Image]:
        assert self._models.editing is not None
        editor = self._models.editing.editor
        tasks = [
            ImageTask(asked.prompt, seed_of(asked.seed, asked.prompt, k), source=asked.picture) for k in range(count)
        ]
        return await asyncio.get_running_loop().run_in_executor(self._models.renderer, render, editor, tasks)

    async def _single(self, way: str, asked: EditRequest) -> tuple[Image.Image, int, str]:
        return (await self._drawn(asked, 1))[0], 1, ""

    async def _best(self, way: str, asked: EditRequest) -> tuple[Image.Image, int, str]:
        results = await self._drawn(asked, MOST[way])
        best, _ = await self._choose(self._models, asked, results)
        return results[best], len(results), ""

    async def eight(self, asked: EditRequest, plain: Models) -> dict[str, Any]:
        """Of EIGHT results of the whole instruction: how many are right, and whether the profile's judge ("own") and that of
        `plain` choose a right one and accept it."""

        async def make() -> dict[str, Any]:
            async with self._gate:
                results = await self._drawn(asked, EIGHT)
                chosen = {
                    name: await self._choose(models, asked, results)
                    for name, models in (("own", self._models), ("plain", plain))
                }
            before = oracle.read_scene(asked.picture)
            right = []
            for result in results:
                after = oracle.read_scene(result)
                right.append(bool(all(ops_followed(asked.spec, before, after)) and kept(asked.spec, before, after)))
            return {
                "right": sum(right),
                **{name: {"right": right[best], "accepted": took} for name, (best, took) in chosen.items()},
            }

        made: dict[str, Any] = await self._journal.aonce(("edit", f"eight {asked.name}"), make)
        return made

    async def _choose(self, models: Models, asked: EditRequest, results: Sequence[Image.Image]) -> tuple[int, bool]:
        """The best result by the questions and the order of `redraft edit`, acceptable ones first, then by score; and whether
        it is acceptable."""
        assert models.editing is not None
        checks = await models.editing.checks(asked.picture, asked.prompt)
        both = Case(asked.prompt, (*checks.wanted, *checks.kept))
        seen = await models.reward.only("checks").judge(asked.picture, both, calls=models.calls)
        questions = keep_what_was_there(checks, seen, self._profile.limits.pass_at)
        case = Case(asked.prompt, questions.wanted, questions.kept, source=asked.picture)
        reports = await models.editing.reward(case, [Shot((result,)) for result in results], calls=models.calls)
        able = [n for n, result in enumerate(results) if not is_unchanged(asked.picture, result)] or [0]
        limits = self._profile.limits
        best = max(able, key=lambda n: (acceptable(reports[n], limits), reports[n].score or 0.0, -n))
        return best, acceptable(reports[best], limits)

    async def _run(self, way: str, asked: EditRequest) -> tuple[Image.Image, int, str]:
        """As `redraft edit` does it. A run that a kill cut short begins anew."""
        folder = self._out / "runs" / way / asked.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        session = Run.start(
            asked.prompt,
            self._models,
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

    async def draw(self, way: str, wording: Wording, name: str, seed: int) -> dict[str, Any]:
        """A prompt drawn by the loop, "with" or "without" its edit branch: {"right": of each check, ...}."""

        async def make() -> dict[str, Any]:
            async with self._gate:
                folder = self._out / "runs" / f"draw-{way}" / name
                shutil.rmtree(folder, ignore_errors=True)
                folder.parent.mkdir(parents=True, exist_ok=True)
                limits = self._profile.limits
                session = Run.start(
                    wording.text,
                    self._models,
                    limits=limits.changed(max_seconds=_A_DAY, edit_draws=way == "with"),
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

        made: dict[str, Any] = await self._journal.aonce(("draw", f"{way} {name}"), make)
        return made


def sample_pairs(count: int, seed: int) -> list[EditRequest]:
    """Held-out instructions with their pictures; the first ones of any greater count."""
    return [
        EditRequest(f"p{n:04d}", item.case.spec, item.source, item.prompt, seed_of(seed, item.prompt, 0))
        for n, item in enumerate(sample_examples(count, _SEED + seed, "test", "human"))
    ]


def next_asked(seed: int, number: int, turn: int, picture: Image.Image, way: str) -> EditRequest | None:
    """What the user of a conversation says next, None if no held-out edit of the picture was found: it holds what the
    oracle cannot name."""
    rng = np.random.default_rng((_SEED, seed, number, turn))
    try:
        case = sample_edit(rng, "test", oracle.read_scene(picture))
        text = say_edit(rng, case.spec, case.before).text
    except (ValueError, KeyError):
        return None
    return EditRequest(f"{way}-s{number:04d}-t{turn}", case.spec, picture, text, seed_of(seed, text, turn))


async def converse(editing: EditWays, way: str, seed: int, number: int) -> list[dict[str, Any]]:
    """The turns of a conversation, as `EditWays.edit` has them."""
    picture = draw(sample_pair(np.random.default_rng((_SEED, seed, number)), "train")[1])
    turns: list[dict[str, Any]] = []
    for turn in range(TURNS):
        wording = await asyncio.to_thread(next_asked, seed, number, turn, picture, way)
        if wording is None:
            break
        turns.append(await editing.edit(way, wording))
        picture = await asyncio.to_thread(editing.store.get, turns[-1]["image"])
    return turns


MANY_OPS = 3
"""From so many sub-tasks on an instruction is a long one."""


def _both(one: Mapping[str, Any]) -> float:
    return float(all(one["followed"]) and one["kept"])


def edit_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Figures of pairs: of each way, and what one way has over another on the same pairs."""
    rows = {}
    for way, results in found.items():
        long = [_both(result) for result in results if len(result["followed"]) >= MANY_OPS]
        rows[way] = {
            "followed": asdict(bootstrap([float(all(result["followed"])) for result in results])),
            "kept": asdict(bootstrap([float(result["kept"]) for result in results])),
            "both": asdict(bootstrap([_both(result) for result in results])),
            "both_long": asdict(bootstrap(long)) if long else None,
            "long": len(long),
            "images": fmean(result["drawn"] for result in results),
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


def turn_table(sessions: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Figures of conversations: turns that were right, and conversations in which all were. A turn that a spoilt picture made
    impossible is wrong."""
    rows = {}
    for way, talks in sessions.items():
        turns = [[_both(turn) for turn in talk] + [0.0] * (TURNS - len(talk)) for talk in talks]
        rows[way] = {
            "turns": asdict(bootstrap([fmean(turn) for turn in turns])),
            "whole": asdict(bootstrap([float(all(turn)) for turn in turns])),
            "by_turn": [fmean(turn[n] for turn in turns) for n in range(TURNS)],
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


def edit_sections(figures: Mapping[str, Any]) -> list[Section]:
    rows, gains = figures["edits"]["rows"], figures["edits"]["gains"]
    text = (
        f"{figures['count']} held-out (scene, instruction) pairs, of which {rows['single']['long']} have {MANY_OPS} or "
        "more sub-tasks:"
    )
    long = f"both, {MANY_OPS} or more sub-tasks"
    table = [
        [
            _title(way),
            *(interval_text(row[k]) for k in ("followed", "kept", "both", "both_long")),
            f"{row['images']:.2f}",
        ]
        for way, row in rows.items()
    ]
    kinds = [[kind, f"{share:.2f}", f"{of}"] for kind, (share, of) in figures["edits"]["kinds"].items()]
    return [
        Section("Pairs", text, Table(["row", "instruction followed", "the rest kept", "both", long, "images"], table)),
        Section(
            "Both, on the same pairs",
            "",
            Table(
                ["both, on the same pairs", "difference"], [[name, interval_text(gain)] for name, gain in gains.items()]
            ),
        ),
        Section("By sub-task", "", Table(["sub-task, single edit call", "done", "of"], kinds)),
    ]


def turn_sections(figures: Mapping[str, Any]) -> list[Section]:
    table = [
        [
            _title(way),
            interval_text(row["turns"]),
            interval_text(row["whole"]),
            ", ".join(f"{share:.2f}" for share in row["by_turn"]),
            f"{row['images']:.2f}",
        ]
        for way, row in figures["turns"]["rows"].items()
    ]
    head = ["row", "turns right (followed and kept)", "conversations with every turn right", "turn 1, 2, 3"]
    text = f"{figures['count']} conversations of {TURNS} turns:"
    return [Section("Conversations", text, Table([*head, "images a turn"], table))]


def draw_sections(figures: Mapping[str, Any]) -> list[Section]:
    keys = ("every_check_right", "checks_right", "accepted", "images")
    rows = [
        [f"{way} edits", *(interval_text(row[k]) for k in keys), f"{row['edits']:.2f}"]
        for way, row in figures["drawing"]["rows"].items()
    ]
    gains = figures["drawing"]["with_over_without"]
    rows.append(
        ["with minus without", interval_text(gains["every_check_right"]), "", "", interval_text(gains["images"]), ""]
    )
    head = ["the loop", "every check right", "checks right", "accepted by the judge", "images", "of them edits"]
    return [Section("Drawing", f"{figures['count']} held-out prompts drawn:", Table(head, rows))]


def eight_table(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of choosing among EIGHT results of long instructions, by the profile's judge and by the plain one."""
    right = {name: [float(one[name]["right"]) for one in found] for name in ("own", "plain")}
    rows = {
        name: {
            "found": asdict(bootstrap(right[name])),
            "accepted": asdict(bootstrap([float(one[name]["accepted"]) for one in found])),
            "wrong": [
                sum(one[name]["accepted"] and not one[name]["right"] for one in found),
                sum(one[name]["accepted"] for one in found),
            ],
        }
        for name in right
    }
    return {
        "rows": rows,
        "possible": asdict(bootstrap([float(one["right"] > 0) for one in found])),
        "one": asdict(bootstrap([one["right"] / EIGHT for one in found])),
        "gain": asdict(paired_difference(right["own"], right["plain"])),
    }


def eight_sections(figures: Mapping[str, Any]) -> list[Section]:
    eight = figures["eight"]
    rows = [
        [title, interval_text(row["found"]), interval_text(row["accepted"]), f"{row['wrong'][0]} of {row['wrong'][1]}"]
        for title, row in (
            ("the judge alone", eight["rows"]["plain"]),
            ("the profile's judge, with its second reader and tools", eight["rows"]["own"]),
        )
    ]
    text = (
        f"{figures['count']} held-out instructions of {MANY_OPS} or more sub-tasks, {EIGHT} results each, of which one is right "
        f"in {interval_text(eight['one'])} and any in {interval_text(eight['possible'])}. The second row less the first, paired: "
        f"{interval_text(eight['gain'])}."
    )
    return [Section("Of eight results", text, Table(["chosen by", "right", "accepted", "wrong, of these"], rows))]


def _title(way: str) -> str:
    return WAYS[way].format(**MOST)


Advance = Callable[[str], None]


async def measure_pairs(editing: EditWays, count: int, seed: int, advance: Advance) -> dict[str, Any]:
    requests = sample_pairs(count, seed)
    results = {way: await _gather(way, advance, (editing.edit(way, request) for request in requests)) for way in WAYS}
    return {"edits": edit_table(results)}


async def measure_turns(editing: EditWays, count: int, seed: int, advance: Advance) -> dict[str, Any]:
    results = {
        way: await _gather(way, advance, (converse(editing, way, seed, n) for n in range(count))) for way in WAYS
    }
    return {"turns": turn_table(results)}


async def measure_drawing(editing: EditWays, count: int, seed: int, advance: Advance) -> dict[str, Any]:
    wordings = prompts(count, seed)
    results = {
        way: await _gather(
            way,
            advance,
            (editing.draw(way, w, f"{n:05d}", seed_of(seed, w.text, 0)) for n, w in enumerate(wordings)),
        )
        for way in ("without", "with")
    }
    return {"drawing": draw_table(results)}


async def measure_eight(editing: EditWays, count: int, seed: int, advance: Advance) -> dict[str, Any]:
    pairs: list[EditRequest] = []
    drawn = count
    while len(pairs) < count:
        drawn *= 2
        pairs = [pair for pair in sample_pairs(drawn, seed) if len(pair.spec.ops) >= MANY_OPS]
    with editing.plain_models() as plain:
        works = (editing.eight(pair, plain) for pair in pairs[:count])
        return {"eight": eight_table(await _gather("eight", advance, works))}


async def _gather(way: str, advance: Advance, works: Iterable[Awaitable[T]]) -> list[T]:
    async def one(work: Awaitable[T]) -> T:
        value = await work
        advance(way)
        return value

    return list(await asyncio.gather(*(one(work) for work in works)))


_PARTS = {
    "pairs": (measure_pairs, edit_sections, 300, [*WAYS]),
    "turns": (measure_turns, turn_sections, 200, [*WAYS]),
    "drawing": (measure_drawing, draw_sections, 500, ["without", "with"]),
    "eight": (measure_eight, eight_sections, 100, ["eight"]),
}


def work(evaluation: Evaluation) -> dict[str, Any]:
    options = evaluation.options
    measure, sections, usual, ways = _PARTS[evaluation.variant]
    count = options.limit or usual
    profile = load_profile(options.profile)
    # The count may grow from one call to the next; what was measured stays.
    with evaluation.open(profile=profile.model_dump(mode="json"), seed=options.seed, most=MOST) as journal:
        models = open_models(profile)
        editing = EditWays(models, profile, journal, evaluation.out)
        try:
            measured = evaluation.wait_for(
                {way: (f"{evaluation.variant}, {way}", count) for way in ways},
                lambda advance: measure(editing, count, options.seed, advance),
            )
        finally:
            models.close()
        figures = evaluation.report({"count": count, **measured}, sections, notes=note_count(count, count))
    if options.tables is not None:
        name = f"edits_{evaluation.variant}"
        text = tables_text("By the oracle,", figures["command"], sections(figures))
        data = json.dumps({"count": count, **measured}, indent=1) + "\n"
        write_tables(options.tables, {f"{name}.json": data, f"{name}.md": text})
    return figures


SUITE = TableSuite(
    name="cutouts-edits",
    title="Edits of cut-outs",
    measure="Held-out edits of the mini world in people's words, by an oracle that reads the pixels; not a published "
    "benchmark.",
    work=work,
    variants=("pairs", "turns", "drawing", "eight"),
)
