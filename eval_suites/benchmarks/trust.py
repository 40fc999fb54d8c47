"""What is accepted though nobody checked it, and what the user said that is lost in silence: the figures of docs/trust.md.

    redraft eval trust --variant partiprompts --data PartiPrompts.tsv
    redraft eval trust --variant held-out        # the loop, and beside it the best of eight pictures of one rewrite
    redraft eval trust --variant checklists
    redraft eval trust --variant outside
    redraft eval trust --variant outside-2
    redraft eval trust --variant edits

On `mini`, whose truth the pixel oracle knows. The system under test sees the request alone; the oracle only reports.
"""

from __future__ import annotations

import asyncio
import random
import tomllib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from agent.decide import meets_bar
from agent.models import Models, open_models
from agent.run import Run, RunResult
from agent.types import StopReason
from editors.backend import ImageTask, render
from eval_suites.benchmarks.cutouts import asked, prompts
from eval_suites.benchmarks.partiprompts import load as load_partiprompts
from eval_suites.pictures import seed_of
from eval_suites.report import Section, Table
from eval_suites.runner import Evaluation, hash_data, note_count, write_tables
from eval_suites.stats import interval, paired_difference
from eval_suites.tables import TableSuite, interval_text, tables_text
from evaluator.criteria.edits import DONE, KEPT
from evaluator.reward import case_of
from evaluator.types import Outcome, Shot
from mini.editor.edits import parse_edit
from mini.editor.truth import followed, kept
from mini.phrasebook.ordinary import OrdinaryEdit, load_ordinary_edits
from mini.world import oracle, questions
from mini.world.questions import Query
from mini.world.raster import draw
from mini.world.scene import INVERSE
from redraft.errors import InputError
from redraft.images import open_image
from redraft.journal import Journal
from redraft.limits import Limits
from redraft.profiles import Profile, load_profile
from rewriter.batch.maker import Maker, open_kit, own_columns
from rewriter.batch.run import BatchPlan
from rewriter.request import clean_request

Advance = Callable[[str], None]
DRAWN = {"partiprompts": 50, "held-out": 200, "checklists": 1000, "outside": 60, "outside-2": 60, "edits": 40}
"""Requests that are drawn; of PartiPrompts a seeded sample. Checklists are only written."""
BEST_OF = 8
"""Pictures of the one rewrite that the loop is compared with: as many as it may draw."""
AT_ONCE = 16
_A_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class OutsideRequest:
    """A request in words outside the suite's grammar. `must`: questions that a picture of it answers with yes;
    `cannot`: words of it for what the world cannot hold, or cannot be asked about. `sample`: the first was there before the last
    rules were written, the second came after them."""

    kind: str
    says: str
    sample: int = 1
    must: tuple[str, ...]
    cannot: tuple[str, ...] = ()


def load_outside_requests(sample: int = 1) -> tuple[OutsideRequest, ...]:
    """The requests of a sample in trust_requests.toml, in its order."""
    file = resources.files("eval_suites") / "benchmarks" / "trust_requests.toml"
    rows = tomllib.loads(file.read_text(encoding="utf-8"))["request"]
    requests = (OutsideRequest(**{name: _freeze(value) for name, value in row.items()}) for row in rows)
    return tuple(request for request in requests if request.sample == sample)


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass
class TrustBench:
    """Everything that the parts share. Each piece of work is in the journal, and is done once."""

    models: Models
    profile: Profile
    journal: Journal
    out: Path
    seed: int

    def __post_init__(self) -> None:
        self._gate = asyncio.Semaphore(AT_ONCE)
        # Pictures are the budget: seconds would measure how many runs are under way.
        self._limits: Limits = self.profile.limits.changed(max_seconds=_A_DAY)

    async def checks(self, request: str) -> dict[str, Any]:
        """The checklist of a request as the product makes it: questions, unchecked words, warnings."""

        async def make() -> dict[str, Any]:
            async with self._gate, self.models.calls:
                made = await self.models.checklist_maker(clean_request(request))
            return {
                "questions": [check.question for check in made.checks],
                "unchecked": list(made.unchecked),
                "warnings": list(made.warnings),
            }

        found: dict[str, Any] = await self.journal.aonce(("checks", request), make)
        return found

    async def draw(self, request: str, source: Image.Image | None = None) -> dict[str, Any]:
        """A run of the product, with the profile's own limits but for the clock."""

        async def make() -> dict[str, Any]:
            async with self._gate:
                run = Run.start(
                    request,
                    self.models,
                    limits=self._limits,
                    out=self.out / "runs",
                    seed=seed_of(self.seed, request, 0),
                    source=source,
                )
                try:
                    result = await run.run()
                except InputError as error:
                    return {"refused": str(error), "accepted": False, "score": None, "images": 0, "image": None}
                return _in_short(result, self.out)

        found: dict[str, Any] = await self.journal.aonce(("draw", request), make)
        return found

    async def best_of_eight(self, request: str, asked_of_it: Sequence[str]) -> dict[str, Any]:
        """The picture of one rewrite that the product's own reward likes best of BEST_OF: whether it meets the bar, and whether
        the oracle finds all of `asked_of_it` in it."""

        async def make() -> dict[str, Any]:
            async with self._gate:
                made = await self.models.checklist_maker(clean_request(request))
                [rewrite] = await self.models.rewriter(request, n=1, seed=seed_of(self.seed, request, 0))
                tasks = [
                    ImageTask(rewrite.prompt, seed_of(self.seed, request, k), negative_prompt=rewrite.negative_prompt)
                    for k in range(BEST_OF)
                ]
                loop = asyncio.get_running_loop()
                images = await loop.run_in_executor(self.models.renderer, render, self.models.generator, tasks)
                shots = [Shot((image,)) for image in images]
                reports = await self.models.reward(case_of(request, made), shots, calls=self.models.calls)
            ranks = [(meets_bar(report, self._limits), report.score or 0.0) for report in reports]
            best = max(range(BEST_OF), key=lambda n: (ranks[n], -n))
            rights = [all(oracle.answers(image, list(asked_of_it))) for image in images]
            return {"meets_bar": ranks[best][0], "right": rights[best], "possible": any(rights)}

        found: dict[str, Any] = await self.journal.aonce(("best of eight", request), make)
        return found

    def answers(self, run: Mapping[str, Any], asked_of_it: Sequence[str]) -> list[bool]:
        """The oracle's answers about the picture that a run handed back."""
        if run["image"] is None:
            return [False] * len(asked_of_it)
        return oracle.answers(open_image(self.out / run["image"]), list(asked_of_it))


def _in_short(result: RunResult, out: Path) -> dict[str, Any]:
    best = result.best_attempt
    verdicts = () if best is None else best.report.verdicts
    own = [verdict for verdict in verdicts if verdict.check not in (KEPT, DONE)]
    return {
        "stop": str(result.stop),
        "accepted": result.stop is StopReason.ACCEPTED,
        "score": None if best is None else best.score,
        "images": len(result.attempts),
        "image": None if result.image is None else str(result.image.relative_to(out)),
        "unchecked": list(result.unchecked),
        "warnings": list(result.warnings),
        "main": None if not own else own[0].outcome is Outcome.SCORED,
        "error": result.error,
        "answers": {verdict.check.question: verdict.probability for verdict in verdicts},
    }


async def _gather(advance: Advance, name: str, works: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    async def one(work: Coroutine[Any, Any, Any]) -> Any:
        value = await work
        advance(name)
        return value

    return list(await asyncio.gather(*(one(work) for work in works)))


def _sample(items: Sequence[str], count: int, seed: int) -> list[str]:
    return random.Random(seed).sample(list(items), min(count, len(items)))


async def measure_partiprompts(
    bench: TrustBench, requests: Sequence[str], drawn: int, advance: Advance
) -> dict[str, Any]:
    """Real prompts, hardly any about cut-outs. Words outside the scope are unchecked, so that no picture of such a request
    is ever accepted; that is counted for all of them, and seen in the runs of a sample."""
    scope = bench.models.scope
    if scope is None:
        raise InputError(f"the profile {bench.profile.name!r} has no scope, so that nothing is outside of it")
    inside = [text for text in requests if not scope.words_outside(clean_request(text))]
    outside = [text for text in requests if text not in inside]
    kit = open_kit(bench.profile.rewriter, scope=scope)
    columns = own_columns(kit.target, thought=False, n=1, scored=False)
    maker = Maker(kit.rewriter, BatchPlan({**kit.settings, "select": None}, columns).keys, scope=scope)
    records = await _gather(advance, "enhance", [maker(clean_request(text)) for text in requests])
    statuses = {text: str(record.status) for text, record in zip(requests, records, strict=True)}
    sample = [*inside, *_sample(outside, max(0, drawn - len(inside)), bench.seed)]
    runs = dict(zip(sample, await _gather(advance, "draw", [bench.draw(text) for text in sample]), strict=True))
    return {
        "prompts": len(requests),
        "outside": len(outside),
        "inside": [
            {"request": text, "accepted": runs[text]["accepted"], "status": statuses[text]}
            for text in inside
            if text in runs
        ],
        "drawn_outside": sum(text in runs for text in outside),
        "accepted_outside": sum(runs[text]["accepted"] for text in outside if text in runs),
        "warned_outside": sum(bool(runs[text]["unchecked"]) for text in outside if text in runs),
        "rewritten_outside": sum(statuses[text] == "rewritten" for text in outside),
        "kept_with_finding": sum(
            bool(record.findings) for text, record in zip(requests, records, strict=True) if text in set(outside)
        ),
    }


async def measure_checklists(bench: TrustBench, count: int, advance: Advance) -> dict[str, Any]:
    """The checklists of held-out prompts in the suite's own wordings, against their true checks. Nothing is drawn."""
    wordings = prompts(count, bench.seed)
    made = await _gather(advance, "checks", [bench.checks(wording.text) for wording in wordings])
    shares: list[float] = []
    missing, silent = [], []
    for wording, checks in zip(wordings, made, strict=True):
        known = {same for question in checks["questions"] for same in _sayings(question)}
        left = [question for question in asked(wording) if question not in known]
        shares += [0.0] * len(left) + [1.0] * (len(asked(wording)) - len(left))
        if left:
            missing.append(wording.text)
            if not checks["unchecked"]:
                silent.append({"request": wording.text, "missing": left})
    return {
        "prompts": len(wordings),
        "checks_asked": interval(shares),
        "missing": len(missing),
        "silent": silent,
        "unchecked": sum(bool(checks["unchecked"]) for checks in made),
        "unchecked_though_complete": sum(
            bool(checks["unchecked"]) and wording.text not in missing
            for wording, checks in zip(wordings, made, strict=True)
        ),
    }


async def measure_held_out(bench: TrustBench, count: int, advance: Advance) -> dict[str, Any]:
    """Held-out prompts in the suite's own wordings, drawn by the loop, and by the best of eight of one rewrite."""
    wordings = prompts(count, bench.seed)
    runs = await _gather(advance, "draw", [bench.draw(wording.text) for wording in wordings])
    eight = await _gather(advance, "eight", [bench.best_of_eight(wording.text, asked(wording)) for wording in wordings])
    answers = [bench.answers(run, asked(wording)) for wording, run in zip(wordings, runs, strict=True)]
    right = [float(all(own)) for own in answers]
    accepted = [run["accepted"] for run in runs]
    wrong = [
        {
            "request": wording.text,
            "lacks": [
                [question, run["answers"].get(question)]
                for question, yes in zip(asked(wording), own, strict=True)
                if not yes
            ],
        }
        for wording, run, own in zip(wordings, runs, answers, strict=True)
        if run["accepted"] and not all(own)
    ]
    met = [float(not one["right"]) for one in eight if one["meets_bar"]]
    return {
        "drawn": len(wordings),
        "right": interval(right),
        "accepted": interval([float(one) for one in accepted]),
        "accepted_wrong": interval([float(not truth) for truth, yes in zip(right, accepted, strict=True) if yes]),
        "accepted_count": sum(accepted),
        "wrong": wrong,
        "images": interval([float(run["images"]) for run in runs]),
        "eight_right": interval([float(one["right"]) for one in eight]),
        "eight_met": interval([float(one["meets_bar"]) for one in eight]),
        "eight_wrong": interval(met),
        "eight_possible": interval([float(one["possible"]) for one in eight]),
        "loop_gain": asdict(paired_difference(right, [float(one["right"]) for one in eight])),
    }


def _sayings(question: str) -> set[str]:
    """The question, and the same one from the other side: a star above a moon is a moon below a star."""
    query = questions.parse(question)
    inverse = None if query is None else next((to for kind, to in INVERSE.items() if kind == query.kind), None)
    if query is None or (inverse is None and query.kind != "same_color"):
        return {question}
    return {question, str(Query(inverse or query.kind, query.other, query.noun))}


async def measure_outside(bench: TrustBench, sample: int, count: int, advance: Advance) -> dict[str, Any]:
    """Requests about cut-outs in other wordings: a part that a picture lacks, or that cannot be told, is never accepted."""
    chosen = load_outside_requests(sample)[:count]
    made = await _gather(advance, "checks", [bench.checks(one.says) for one in chosen])
    runs = await _gather(advance, "draw", [bench.draw(one.says) for one in chosen])
    rows = []
    for one, checks, run in zip(chosen, made, runs, strict=True):
        lost = [q for q, yes in zip(one.must, bench.answers(run, one.must), strict=True) if not yes]
        rows.append(
            {
                "kind": one.kind,
                "request": one.says,
                "cannot": list(one.cannot),
                "unchecked": checks["unchecked"],
                "said": bool(checks["unchecked"] or checks["warnings"]),
                "accepted": run["accepted"],
                "lost": lost,
                "score": run["score"],
            }
        )
    return {"requests": rows}


async def measure_edits(bench: TrustBench, count: int, advance: Advance) -> dict[str, Any]:
    """Forty ordinary edits: is there a check that can be answered, and what is accepted."""
    edits = load_ordinary_edits()[:count]
    runs = await _gather(advance, "draw", [bench.draw(edit.says, draw(edit.scene, 256)) for edit in edits])
    rows = []
    for edit, run in zip(edits, runs, strict=True):
        rows.append(
            {
                "says": edit.says,
                "refused": run.get("refused") or (run["error"] if run["images"] == 0 else None),
                "main_answered": run.get("main"),
                "score": run["score"],
                "accepted": run["accepted"],
                "right": _edit_right(edit, bench, run),
            }
        )
    return {"edits": rows}


def _edit_right(edit: OrdinaryEdit, bench: TrustBench, run: Mapping[str, Any]) -> bool | None:
    spec = parse_edit(edit.reads) if edit.reads else None
    if spec is None or run["image"] is None:
        return None
    after = oracle.read_scene(open_image(bench.out / run["image"]))
    before = oracle.read_scene(draw(edit.scene, 256))
    if any(op.pick is not None and not op.targets(before) for op in spec.ops):
        return None  # it speaks of what it brings itself ("in the top right corner"), for which there is no rule
    return followed(spec, before, after) and kept(spec, before, after)


def sections(figures: Mapping[str, Any]) -> list[Section]:
    part = {
        "partiprompts": _partiprompts,
        "held-out": _held_out,
        "checklists": _checklists,
        "outside": _outside,
        "outside-2": _outside,
        "edits": _edits,
    }
    rows = part[figures["part"]](figures)
    return [Section(figures["part"], figures["text"], Table(["", ""], rows))]


def _partiprompts(figures: Mapping[str, Any]) -> list[list[str]]:
    inside = figures["inside"]
    return [
        ["prompts", f"{figures['prompts']}"],
        ["with words outside the scope: never accepted", f"{figures['outside']}"],
        ["of these drawn; accepted", f"{figures['drawn_outside']}; {figures['accepted_outside']}"],
        ["of these drawn, words named before drawing", f"{figures['warned_outside']}"],
        ["of these rewritten by `enhance`", f"{figures['rewritten_outside']}"],
        ["of these kept by `enhance` with a finding", f"{figures['kept_with_finding']}"],
        ["about cut-outs; accepted", f"{len(inside)}; {sum(row['accepted'] for row in inside)}"],
    ]


def _checklists(figures: Mapping[str, Any]) -> list[list[str]]:
    return [
        ["prompts", f"{figures['prompts']}"],
        ["true checks asked about", interval_text(figures["checks_asked"])],
        ["prompts with a true check missing", f"{figures['missing']}"],
        ["of these in silence (no unchecked words)", f"{len(figures['silent'])}"],
        ["prompts with unchecked words", f"{figures['unchecked']}"],
        ["of these with every true check asked", f"{figures['unchecked_though_complete']}"],
    ]


def _held_out(figures: Mapping[str, Any]) -> list[list[str]]:
    return [
        ["drawn", f"{figures['drawn']}"],
        ["right by the oracle", interval_text(figures["right"])],
        ["accepted", interval_text(figures["accepted"])],
        [
            f"accepted although wrong: {len(figures['wrong'])} of {figures['accepted_count']}",
            interval_text(figures["accepted_wrong"]),
        ],
        ["pictures a prompt", interval_text(figures["images"])],
        [f"best of {BEST_OF} of one rewrite, right", interval_text(figures["eight_right"])],
        ["of these any is right", interval_text(figures["eight_possible"])],
        ["the best meets the bar", interval_text(figures["eight_met"])],
        ["wrong, of those that meet it", interval_text(figures["eight_wrong"])],
        [f"the loop less best of {BEST_OF}, paired", interval_text(figures["loop_gain"])],
    ]


def _outside(figures: Mapping[str, Any]) -> list[list[str]]:
    rows = figures["requests"]
    cannot = [row for row in rows if row["cannot"]]
    kinds = dict.fromkeys(row["kind"] for row in rows)
    return [
        ["requests", f"{len(rows)}"],
        ["accepted", f"{sum(row['accepted'] for row in rows)}"],
        ["accepted with a part lost", f"{sum(is_lost(row) for row in rows)}"],
        ["what the world cannot hold: requests", f"{len(cannot)}"],
        ["of these said before drawing", f"{sum(row['said'] for row in cannot)}"],
        *(
            [kind, f"{sum(r['accepted'] for r in of)} accepted, {sum(map(is_lost, of))} with a part lost, of {len(of)}"]
            for kind in kinds
            if (of := [row for row in rows if row["kind"] == kind])
        ),
    ]


def is_lost(row: Mapping[str, Any]) -> bool:
    """Whether a request was accepted although the picture lacks a part of it, or a part cannot be told."""
    return bool(row["accepted"] and (row["lost"] or row["cannot"]))


def _edits(figures: Mapping[str, Any]) -> list[list[str]]:
    rows = figures["edits"]
    unanswered = [row for row in rows if row["main_answered"] is False]
    return [
        ["edits", f"{len(rows)}"],
        ["refused before drawing, with the reason", f"{sum(row['refused'] is not None for row in rows)}"],
        ["main check answered", f"{sum(row['main_answered'] is True for row in rows)}"],
        ["main check without an answer; of these with a score", _of(unanswered)],
        ["accepted", f"{sum(row['accepted'] for row in rows)}"],
        ["accepted although wrong by the oracle", f"{sum(row['accepted'] and row['right'] is False for row in rows)}"],
        ["right by the oracle", f"{sum(row['right'] is True for row in rows)}"],
    ]


def _of(unanswered: Sequence[Mapping[str, Any]]) -> str:
    return f"{len(unanswered)}; {sum(row['score'] is not None for row in unanswered)}"


def work(evaluation: Evaluation) -> dict[str, Any]:
    options, part = evaluation.options, evaluation.variant
    profile = load_profile(options.profile)
    drawn = options.limit or DRAWN[part]
    settings: dict[str, Any] = {"profile": profile.model_dump(mode="json"), "seed": options.seed}
    requests: tuple[str, ...] = ()
    bars = {"draw": ("drawing", drawn)}
    if part == "partiprompts":
        if options.data is None:
            raise InputError("trust --variant partiprompts needs --data, the file PartiPrompts.tsv")
        data = load_partiprompts(options.data, "")
        requests = tuple(item.prompt for item in data.items)
        settings["data"] = hash_data(data)
        bars = {"enhance": ("enhance", len(requests)), **bars}
    elif part == "checklists":
        bars = {"checks": ("checklists", drawn)}
    elif part == "held-out":
        bars |= {"eight": (f"best of {BEST_OF}", drawn)}
    elif part != "edits":
        bars = {"checks": ("checklists", drawn), **bars}
    with evaluation.open(**settings) as journal:
        models = open_models(profile)
        bench = TrustBench(models, profile, journal, evaluation.out, options.seed)
        measures: dict[str, Callable[[Advance], Coroutine[Any, Any, dict[str, Any]]]] = {
            "partiprompts": lambda advance: measure_partiprompts(bench, requests, drawn, advance),
            "held-out": lambda advance: measure_held_out(bench, drawn, advance),
            "checklists": lambda advance: measure_checklists(bench, drawn, advance),
            "outside": lambda advance: measure_outside(bench, 1, drawn, advance),
            "outside-2": lambda advance: measure_outside(bench, 2, drawn, advance),
            "edits": lambda advance: measure_edits(bench, drawn, advance),
        }
        try:
            measured = evaluation.wait_for(bars, measures[part])
        finally:
            models.close()
        text = f"Seed {options.seed}, profile {profile.name}, {drawn} drawn:"
        figures = evaluation.report(
            {"part": part, "text": text, "count": drawn, **measured}, sections, notes=note_count(drawn, drawn)
        )
    if options.tables is not None:
        name = f"trust_{part.replace('-', '_')}.md"
        write_tables(options.tables, {name: tables_text("By the oracle,", figures["command"], sections(figures))})
    return figures


SUITE = TableSuite(
    name="trust",
    title="Trust",
    measure="What the mini profile accepts though nobody checked it, and what of a request is lost in silence; not a "
    "published benchmark.",
    work=work,
    variants=("held-out", "checklists", "partiprompts", "outside", "outside-2", "edits"),
    takes=("data", "seed", "tables"),
)
