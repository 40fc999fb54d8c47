"""What each search makes of its budget: the tables and curves of docs/search.md.

    redraft eval cutouts-search --judge first --limit 200
    redraft eval cutouts-search --judge first --variant requests --limit 200

Part `captions`: true captions of held-out prompts, made hard on purpose (each relation is told from one side alone, which
the mini generator often gets wrong), drawn as they are. `loops`: the loop with and without drafts inside, with a rewriter
that gives this caption. `evolve`: children of drafts against as many fresh drafts; `gallery`: three generators, routed.
`requests`: the two loops on people's words, rewritten by the profile's own rewriter, as in `redraft draw`.

The strategies are those of `agent.strategies`; the profile's own judge and checklist
choose, and an oracle that reads the pixels only reports. Searches with a fixed cost end when it is spent; the loops also
when a picture is accepted. All prompts go forward together, so that pictures are drawn in large batches, and no picture is
drawn or judged twice, whichever row asks for it; parts and limits share one folder, so that what one part made the next
one does not make again.

`--judge first` takes the judge without its second looks: figures stay comparable when a profile switches them on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from agent.decide import best_of, decide
from agent.models import Models, open_models
from agent.strategies import MakePictures, MakeRewrites, Move, Stop, Strategy, View, loop
from agent.strategies.drafts import best_of_n, draft
from agent.strategies.evolution import evolve
from agent.strategies.galleries import route, tabulate
from agent.types import Attempt, Task, cost_of, stable_key
from editors.backend import ImageBackend, ImageTask, open_backend, render, steps_at
from eval_suites.benchmarks.cutouts import asked, prompts
from eval_suites.pictures import seed_of
from eval_suites.report import Section, Table
from eval_suites.runner import Evaluation, note_count, write_tables
from eval_suites.stats import interval, paired_difference
from eval_suites.tables import TableSuite, interval_text, tables_text
from evaluator.reward import case_of
from evaluator.types import Check, Outcome, Report, RequestChecks, Verdict
from mini.world import oracle
from mini.world.captions import caption_unaware
from mini.world.wording import Wording
from redraft.errors import InputError
from redraft.images import ImageStore
from redraft.journal import Journal
from redraft.limits import Limits
from redraft.profiles import Profile, load_profile
from rewriter.types import Rewrite

PROMPTS = 200
JUDGEMENT = 6
"""Denoiser steps that a judgement costs: a fifth of a picture of 30 steps, as measured."""
UNBOUNDED = {"max_rounds": 1000, "patience": 1000, "max_seconds": 1e6, "max_images": 1000}


@dataclass(frozen=True)
class SearchRow:
    """A way to spend a budget. `by_oracle`: the oracle chooses, for the ceiling."""

    name: str
    title: str
    strategy: Strategy
    limits: Mapping[str, Any]
    by_oracle: bool = False


def few_steps(strategy: Strategy, effort: float) -> Strategy:
    """The pictures of a strategy, whole ones at a part of the steps."""

    def cheaper(view: View) -> Move:
        move = strategy(view)
        if isinstance(move, MakePictures):
            return replace(move, tasks=tuple(replace(task, effort=effort) for task in move.tasks))
        return move

    return cheaper


def random_routing(names: Sequence[str]) -> Strategy:
    """One picture by a generator that the seed chooses."""

    def strategy(view: View) -> Move:
        move = best_of_n(1, rewrite=False)(view)
        if isinstance(move, MakePictures):
            return replace(move, tasks=tuple(replace(t, backend=names[view.seed % len(names)]) for t in move.tasks))
        return move

    return strategy


def on(backend: str, n: int = 1) -> Strategy:
    """The best of n pictures by one generator of the gallery."""

    def strategy(view: View) -> Move:
        move = best_of_n(n, rewrite=False)(view)
        if isinstance(move, MakePictures):
            return replace(move, tasks=tuple(replace(task, backend=backend) for task in move.tasks))
        return move

    return strategy


FIXED = {**UNBOUNDED, "accept_at": 1.0}
"""Limits of a search that spends all that it was given."""


def within(limits: Mapping[str, Any], images: int) -> dict[str, Any]:
    """So many pictures in at most two rounds of whole ones."""
    return {**limits, "max_images": images, "max_rounds": 2}


def list_rows(part: str, profile: Profile) -> list[SearchRow]:
    own = profile.limits.model_dump(include={"accept_at", "images_per_round", "rewrites", "max_rounds", "max_images"})
    loops = {**own, "patience": 1000, "max_seconds": 1e6}
    looping = [
        SearchRow("loop", "the loop, at most 8 pictures", loop, loops),
        SearchRow("loop_12", "the loop, at most 12 pictures", loop, {**loops, "max_images": 12}),
        SearchRow("loop_drafts", "drafts inside, at most 2 x (8x6 + 1)", draft(8, 0.2, 1), within(loops, 18)),
        SearchRow("loop_drafts_6", "drafts inside, at most 2 x (6x6 + 1)", draft(6, 0.2, 1), within(loops, 14)),
        SearchRow("loop_drafts_own", "drafts inside, at most 8 pictures: 7x6 + 1", draft(8, 0.2, 1), loops),
    ]
    if part in ("loops", "requests"):
        return looping

    def once(n: int, finish: int) -> dict[str, Any]:
        return {**FIXED, "max_images": n + finish, "max_rounds": 1}

    if part == "evolve":
        evolving = evolve(8, 4 / 30, 1, generations=4, rewrite=False)
        return [
            SearchRow("evolve", "evolve 4 x 8 at 4 steps, + 1", evolving, once(32, 1)),
            SearchRow("draft_32", "draft 32x4 + 1", draft(32, 4 / 30, 1, rewrite=False), once(32, 1)),
        ]
    if part == "gallery":
        return []
    cheap = few_steps(best_of_n(8, rewrite=False), 0.2)
    return [
        *(SearchRow(f"best_{n}", f"best of {n}", best_of_n(n, rewrite=False), FIXED) for n in (1, 2, 3, 4)),
        SearchRow("few_8", "best of 8 at 6 steps", cheap, FIXED),
        *(
            SearchRow(f"draft_{n}_{k}", f"draft {n}x6 + {k}", draft(n, 0.2, k, rewrite=False), once(n, k))
            for n, k in ((8, 1), (8, 2), (6, 1))
        ),
    ]


COMPARED = (
    ("draft_8_1", "best_3"),
    ("draft_8_1", "best_4"),
    ("draft_8_2", "best_4"),
    ("draft_8_1", "few_8"),
    ("draft_6_1", "best_3"),
    ("evolve", "draft_32"),
    ("loop_drafts", "loop"),
    ("loop_drafts", "loop_12"),
    ("loop_drafts_6", "loop"),
    ("loop_drafts_6", "loop_12"),
    ("loop_drafts_own", "loop"),
    ("routed", "best_single"),
    ("routed", "random"),
)


class Pool:
    """Pictures, reports and truths of all prompts, each made once."""

    def __init__(self, part: str, models: Models, profile: Profile, journal: Journal, store: ImageStore) -> None:
        self.draws_captions = part != "requests"
        self._part, self._models, self._journal, self._store = part, models, journal, store
        drawing = profile.need_generator()
        self._size = drawing.batch_size
        self.backends: dict[str, ImageBackend] = {"": models.generator}
        if part == "gallery":
            for name, guidance in (("guidance 1", 1.0), ("guidance 3", 3.0)):
                self.backends[name] = open_backend(drawing.model_copy(update={"guidance": guidance}))

    async def draw(self, tasks: Sequence[Task]) -> list[str]:
        """The hashes of the tasks' pictures."""
        keys = [_picture_key(task) for task in tasks]
        new = {key: task for key, task in zip(keys, tasks, strict=True) if self._journal.get(("picture", key)) is None}
        groups: dict[tuple[str, float], list[tuple[str, Task]]] = {}
        for key, task in new.items():
            groups.setdefault((task.backend, task.effort), []).append((key, task))
        running = asyncio.get_running_loop()
        for (backend, _), members in groups.items():
            for start in range(0, len(members), self._size):
                batch = members[start : start + self._size]
                asked_for = [
                    ImageTask(t.prompt, t.seed, negative_prompt=t.negative_prompt, noise=t.noise, effort=t.effort)
                    for _, t in batch
                ]
                pictures = await running.run_in_executor(
                    self._models.renderer, render, self.backends[backend], asked_for
                )
                self._journal.put_all(
                    {
                        ("picture", key): self._store.put(picture)
                        for (key, _), picture in zip(batch, pictures, strict=True)
                    }
                )
        return [str(self._journal.get(("picture", key))) for key in keys]

    async def checklist(self, wording: Wording) -> RequestChecks:
        async def make() -> list[list[str]]:
            async with self._models.calls:
                made = await self._models.checklist_maker(wording.text)
            return [[check.key_point, check.question] for check in made.checks]

        rows = await self._journal.aonce(("checklist", wording.text), make)
        return RequestChecks(tuple(Check(*row) for row in rows))

    async def report(self, image: str, wording: Wording, checks: RequestChecks) -> Report:
        """The profile's judge on a picture."""

        async def make() -> dict[str, Any]:
            picture = await asyncio.to_thread(self._store.get, image)
            case = case_of(wording.text, checks)
            report = await self._models.reward.judge(picture, case, calls=self._models.calls)
            return {
                "score": report.score,
                "verdicts": [[v.outcome.value, v.probability, v.label_mass] for v in report.verdicts],
            }

        made = await self._journal.aonce(("report", f"{image} {wording.text}"), make)
        verdicts = tuple(
            Verdict(check, Outcome(outcome), p, mass)
            for check, (outcome, p, mass) in zip(checks.checks, made["verdicts"], strict=True)
        )
        return Report(verdicts, made["score"], sum(v.outcome is Outcome.FAILED for v in verdicts))

    async def is_right(self, image: str, wording: Wording) -> bool:
        """Whether every true check holds, by the oracle."""

        async def look() -> bool:
            return await asyncio.to_thread(lambda: all(oracle.answers(self._store.get(image), asked(wording))))

        return bool(await self._journal.aonce(("right", f"{image} {wording.text}"), look))

    async def rewrite(self, request: str, move: MakeRewrites, caption: str) -> tuple[Rewrite, ...]:
        """In part `captions` the rewriter is one that gives the hard caption."""
        if self._part != "requests":
            return (Rewrite(caption),)
        feedback = None if move.feedback is None else [move.feedback.prompt, *move.feedback.failed]
        key = stable_key({"request": request, "n": move.n, "seed": move.seed, "feedback": feedback})

        async def make() -> list[list[str | None]]:
            async with self._models.calls:
                made = await self._models.rewriter(request, n=move.n, seed=move.seed, feedback=move.feedback)
            return [[each.prompt, each.negative_prompt] for each in made]

        rows = await self._journal.aonce(("rewrite", key), make)
        return tuple(Rewrite(str(prompt), negative_prompt=negative) for prompt, negative in rows)


def _picture_key(task: Task) -> str:
    """The same for the same picture, whatever round asks for it."""
    return stable_key(
        {
            "prompt": task.prompt,
            "seed": task.seed,
            "negative": task.negative_prompt,
            "noise": [list(pair) for pair in task.noise],
            "steps": steps_at(30, task.effort),
            "backend": task.backend,
        }
    )


@dataclass
class Searching:
    """One prompt under way in a row."""

    wording: Wording
    caption: str
    checks: RequestChecks
    view: View
    done: bool = False


async def search(field: Pool, row: SearchRow, items: Sequence[Searching]) -> None:
    """Takes all items to the end of their budget, together."""
    while waiting := [item for item in items if not item.done]:
        proposed = await asyncio.gather(*(_propose(field, row, item) for item in waiting))
        moves = [(item, move) for item, move in zip(waiting, proposed, strict=True) if move is not None]
        images = iter(await field.draw([task for _, move in moves for task in move.tasks]))
        drawn = [(item, move, [next(images) for _ in move.tasks]) for item, move in moves]
        await asyncio.gather(*(_take_in(field, item, move, pictures) for item, move, pictures in drawn))


async def _propose(field: Pool, row: SearchRow, item: Searching) -> MakePictures | None:
    """The next pictures of an item; None, and it is done, if there are none."""
    attempts = list(item.view.attempts.values())
    if not attempts or decide(attempts, item.view.limits, 0.0).stop is None:
        move = row.strategy(item.view)
        if isinstance(move, MakeRewrites):
            made = await field.rewrite(item.wording.text, move, item.caption)
            move = row.strategy(replace(item.view, rewrites=made))
        if isinstance(move, MakePictures):
            return move
        assert isinstance(move, Stop)
    item.done = True
    return None


async def _take_in(field: Pool, item: Searching, move: MakePictures, images: Sequence[str]) -> None:
    reports = await asyncio.gather(*(field.report(image, item.wording, item.checks) for image in images))
    latest = {
        task.key: Attempt(
            task.round,
            "generate",
            task.prompt,
            task.seed,
            image,
            task.parent,
            report,
            task.negative_prompt,
            draft=task.draft,
            denoiser_steps=steps_at(field.backends[task.backend].steps or 30, task.effort),
            noise=task.noise,
            backend=task.backend,
        )
        for task, image, report in zip(move.tasks, images, reports, strict=True)
    }
    attempts = {**item.view.attempts, **latest}
    item.view = replace(
        item.view,
        round=item.view.round + 1,
        attempts=attempts,
        latest=latest,
        rewrites=None,
        phase=move.phase,
        began=move.began,
        spent=cost_of(list(attempts.values())),
    )


async def measure_row(field: Pool, row: SearchRow, items: Sequence[Searching]) -> list[dict[str, Any]]:
    """For each prompt, what the search made of it."""
    own = [
        replace(item, view=replace(item.view, limits=Limits.model_validate(row.limits)), done=False) for item in items
    ]
    if field.draws_captions and "loop" not in row.name:
        own = [replace(item, view=replace(item.view, request=item.caption)) for item in own]
    await search(field, row, own)
    made = []
    for item in own:
        attempts = list(item.view.attempts.values())
        spent = cost_of(attempts)
        truths = [await field.is_right(a.image, item.wording) for a in attempts] if row.by_oracle else []
        best = best_of(attempts, item.view.limits)
        right = any(truths) if row.by_oracle else await field.is_right(attempts[best or 0].image, item.wording)
        made.append({"right": right, "images": spent.images, "steps": spent.steps, "judged": spent.judgements})
    return made


async def measure_gallery(field: Pool, items: Sequence[Searching], seed: int) -> dict[str, list[dict[str, Any]]]:
    """One picture a prompt by each generator, by one that is drawn by lot, and by the one that the table of the prompts
    before promises most: the table grows prompt by prompt, as it does from run to run."""
    names = list(field.backends)
    rows = {}
    for name in names:
        rows[name] = await measure_row(field, SearchRow(name, name, on(name), FIXED), items)
    own = [
        replace(item, view=replace(item.view, request=item.caption, limits=Limits.model_validate(FIXED)))
        for item in items
    ]
    pictures: dict[str, list[Attempt]] = {name: [] for name in names}
    for name in names:
        fresh = [replace(item, done=False) for item in own]
        await search(field, SearchRow(name, name, on(name), FIXED), fresh)
        pictures[name] = [next(iter(item.view.attempts.values())) for item in fresh]
    chance = np.random.default_rng(seed)
    seen: list[Attempt] = []
    routed, lot = [], []
    for index, item in enumerate(own):
        # The first prompts try every generator, as a first round does.
        if index < 3 * len(names):
            chosen = names[index % len(names)]
        else:
            chosen = route(names, tabulate(seen, {}), [check.key_point for check in item.checks.checks])
        seen.append(pictures[chosen][index])
        routed.append(rows[chosen][index])
        lot.append(rows[names[int(chance.integers(len(names)))]][index])
    single = max(names, key=lambda name: fmean(each["right"] for each in rows[name]))
    return {**{f"gallery {name or 'own'}": made for name, made in rows.items()}, "random": lot, "routed": routed,
            "best_single": rows[single]}  # fmt: skip


def choose_judge(profile: Profile, name: str | None) -> Profile:
    """The profile, with the judge that is to choose: its own, or "first", its own without second looks. Raises InputError."""
    if name is None:
        return profile
    if name != "first":
        raise InputError(f"--judge {name} does not fit a search: give first, or leave it out")
    alone = {"looks": 0, "second": None, "zoom": False, "again": 0}
    return profile.model_copy(update={"judge": profile.need_judge().model_copy(update=alone)})


def work(evaluation: Evaluation) -> dict[str, Any]:
    options, part = evaluation.options, evaluation.variant
    profile = choose_judge(load_profile(options.profile), options.judge)
    wordings = prompts(options.limit or PROMPTS, options.seed)
    rng = np.random.default_rng(options.seed)
    captions = [caption_unaware(rng, wording.spec, 1.0) for wording in wordings]
    rows = list_rows(part, profile)

    # Parts and limits share a journal: its keys name what was drawn, read and judged.
    with evaluation.open(profile=profile.model_dump(mode="json"), seed=options.seed, part="any") as journal:
        models = open_models(profile, editing=False, conversing=False)
        store = ImageStore(evaluation.out / "state" / "images")
        field = Pool(part, models, profile, journal, store)

        async def measure(advance: Callable[[str], None]) -> dict[str, list[dict[str, Any]]]:
            checks = await asyncio.gather(*(field.checklist(wording) for wording in wordings))
            items = [
                Searching(
                    wording,
                    caption,
                    made,
                    View(
                        wording.text,
                        seed_of(options.seed, wording.text, 0),
                        profile.limits,
                        backends=field.backends,
                        checks=made.checks,
                    ),
                )
                for wording, caption, made in zip(wordings, captions, checks, strict=True)
            ]
            results = {}
            for row in rows:
                results[row.name] = await measure_row(field, row, items)
                advance("rows")
            if part == "gallery":
                results = await measure_gallery(field, items, options.seed)
            return results

        try:
            results = evaluation.wait_for({"rows": ("rows", max(1, len(rows)))}, measure)
        finally:
            models.close()
        titles = {row.name: row.title for row in rows} | {
            "random": "gallery of 3, one picture, by lot",
            "routed": "gallery of 3, one picture, routed",
            "best_single": "the best single generator of the three",
        }
        table = {name: summarise(titles.get(name, name), made) for name, made in results.items()}
        right = {name: [float(each["right"]) for each in made] for name, made in results.items()}
        pairs = {
            f"{ours} - {theirs}": asdict(paired_difference(right[ours], right[theirs]))
            for ours, theirs in COMPARED
            if ours in right and theirs in right
        }
        figures = {"prompts": len(wordings), "rows": table, "pairs": pairs}
        whole = evaluation.report(figures, sections, notes=note_count(len(wordings), len(wordings), "prompts"))
    if options.tables is not None:
        name = f"cutouts-search-{part}"
        first = f"{len(wordings)} held-out prompts, by the oracle."
        files = {
            f"{name}.json": json.dumps(figures, indent=1) + "\n",
            f"{name}.md": tables_text(first, whole["command"], evaluation.sections),
            f"{name}.svg": curve_svg(table),
        }
        write_tables(options.tables, files)
    return whole


def summarise(title: str, made: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    steps, judged = fmean(each["steps"] for each in made), fmean(each["judged"] for each in made)
    return {
        "title": title,
        "right": interval([float(each["right"]) for each in made]),
        "images": fmean(each["images"] for each in made),
        "steps": steps,
        "judged": judged,
        "cost": steps + JUDGEMENT * judged,
    }


def curve_svg(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Share of right pictures over cost, with intervals: filled dots over denoiser steps, rings over steps and judgements.
    The line goes through the rows of best of n."""
    width, height, pad = 560, 300, 44
    most = 1.05 * max(float(row["cost"]) for row in rows.values())
    least = min(float(row["right"]["low"] or 0.0) for row in rows.values())
    floor = max(0.0, round(least - 0.05, 1))

    def x(cost: float) -> float:
        return pad + cost / most * (width - 2 * pad)

    def y(share: float) -> float:
        return height - pad - (share - floor) / (1 - floor) * (height - 2 * pad)

    parts = []
    for kind, dash in (("steps", ""), ("cost", ' stroke-dasharray="4"')):
        line = " ".join(
            f"{x(row[kind]):.1f},{y(row['right']['mean']):.1f}"
            for name, row in rows.items()
            if name.startswith("best_")
        )
        parts.append(f'<polyline points="{line}" fill="none" stroke="#999"{dash}/>')
    for name, row in rows.items():
        right, color = row["right"], "#999" if name.startswith("best_") else "#2662c8"
        low, high = (right["mean"] if right[end] is None else right[end] for end in ("low", "high"))
        at = x(row["steps"])
        parts += [
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{color}" opacity="0.5"/>',
            f'<circle cx="{at:.1f}" cy="{y(right["mean"]):.1f}" r="4" fill="{color}"/>',
            f'<circle cx="{x(row["cost"]):.1f}" cy="{y(right["mean"]):.1f}" r="4" fill="none" stroke="{color}"/>',
            f'<text x="{at + 6:.1f}" y="{y(right["mean"]) - 6:.1f}">{row["title"]}</text>',
        ]
    ticks = [
        f'<text x="{x(v):.0f}" y="{height - pad + 16}" text-anchor="middle">{v:.0f}</text>' for v in (0, 60, 120, 180)
    ]
    ticks += [f'<text x="{pad - 6}" y="{y(v) + 4:.0f}" text-anchor="end">{v:.2f}</text>' for v in (floor, 1.0)]
    label = f"denoiser steps; rings: + {JUDGEMENT} a judgement"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts + ticks)}'
        f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">{label}</text>'
        f'<text x="12" y="{height / 2}" transform="rotate(-90 12 {height / 2})" text-anchor="middle">every check right</text>'
        "</svg>\n"
    )


def sections(figures: Mapping[str, Any]) -> list[Section]:
    rows = [
        [
            row["title"],
            interval_text(row["right"]),
            *(f"{row[name]:.0f}" for name in ("steps", "cost")),
            f"{row['images']:.1f}",
        ]
        for row in figures["rows"].values()
    ]
    titles = {name: row["title"] for name, row in figures["rows"].items()}
    pairs = []
    for name, figure in figures["pairs"].items():
        ours, theirs = name.split(" - ")
        pairs.append([titles[ours], titles[theirs], interval_text(figure)])
    head = ["search", "every check right", "steps", f"steps + {JUDGEMENT} a judgement", "pictures, drafts among them"]
    return [
        Section(
            "Searches", f"{figures['prompts']} held-out prompts, the picture that is handed back.", Table(head, rows)
        ),
        Section("Paired differences", "The same prompts and noises.", Table(["ours", "against", "difference"], pairs)),
    ]


SUITE = TableSuite(
    name="cutouts-search",
    title="Searches over cut-outs",
    measure="What strategies make of a budget on the mini world, by an oracle that reads the pixels; the profile's judge "
    "chooses. Not a published benchmark.",
    work=work,
    variants=("captions", "loops", "requests", "evolve", "gallery"),
    takes=("seed", "tables", "judge"),
)
