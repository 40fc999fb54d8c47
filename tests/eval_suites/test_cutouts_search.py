"""The suite of searches: what its rows spend, and what it says of them, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast
from xml.etree import ElementTree

from agent.strategies import MakeRewrites, View
from agent.types import Task
from editors.testing import FakeBackend
from eval_suites.benchmarks.cutouts import prompts
from eval_suites.benchmarks.cutouts_search import (
    Pool,
    Searching,
    curve_svg,
    list_rows,
    measure_gallery,
    measure_row,
    sections,
    summarise,
)
from evaluator.types import Check, Outcome, Report, RequestChecks, Verdict
from mini.world.wording import Wording
from redraft.profiles import load_profile
from rewriter.types import Rewrite

CHECKS = RequestChecks((Check("counting", "Are there two?"),))


class World:
    """A Pool without models: the judge's score is a number drawn from the noise, the oracle is content above .8."""

    draws_captions = True

    def __init__(self) -> None:
        self.backends = {name: FakeBackend(steps=30) for name in ("", "b", "c")}

    async def draw(self, tasks: Sequence[Task]) -> list[str]:
        return [f"{task.prompt} {task.backend} {task.seed} {task.noise} {task.effort}" for task in tasks]

    async def report(self, image: str, wording: Wording, checks: RequestChecks) -> Report:
        p = sum(map(ord, image)) % 97 / 100
        return Report((Verdict(CHECKS.checks[0], Outcome.SCORED, p, 1.0),), p, 0)

    async def is_right(self, image: str, wording: Wording) -> bool:
        return sum(map(ord, image)) % 97 / 100 > 0.8

    async def rewrite(self, request: str, move: MakeRewrites, caption: str) -> tuple[Rewrite, ...]:
        return (Rewrite(caption),)


def items(world: World, count: int = 12) -> list[Searching]:
    profile = load_profile("mini")
    return [
        Searching(wording, f"caption {n}", CHECKS, View(wording.text, n, profile.limits, backends=world.backends))
        for n, wording in enumerate(prompts(count, 0))
    ]


async def test_rows_spend_what_their_titles_say() -> None:
    world, profile = World(), load_profile("mini")
    spent: dict[str, tuple[float, float, float]] = {}
    tables: dict[str, dict[str, Any]] = {}
    for part in ("captions", "evolve", "loops"):
        for row in list_rows(part, profile):
            made = await measure_row(cast(Pool, world), row, items(world))
            figures = summarise(row.title, made)
            tables[row.name] = figures
            spent[row.name] = (figures["images"], figures["steps"], figures["judged"])
    assert spent["best_1"] == (1, 30, 1)
    assert spent["best_4"] == (4, 120, 4)
    assert spent["few_8"] == (8, 48, 8)
    assert spent["draft_8_1"] == (9, 78, 9)
    assert spent["draft_8_2"] == (10, 108, 10)
    assert spent["evolve"] == spent["draft_32"] == (33, 158, 33)
    assert spent["loop"][0] <= 8
    drawing = ElementTree.fromstring(curve_svg(tables))
    assert len(drawing.findall(".//{*}circle")) == 2 * len(tables)
    assert spent["loop_drafts"][0] <= 18


async def test_a_row_draws_the_noises_of_the_others() -> None:
    """So that differences are paired."""
    world, profile = World(), load_profile("mini")
    rows = {row.name: row for row in list_rows("captions", profile)}
    drawn: dict[str, list[Task]] = {}
    for name in ("best_4", "draft_8_1"):
        own = items(world, 1)
        view = replace(own[0].view, request="caption", limits=profile.limits.changed(max_images=20))
        drawn[name] = list(cast(Any, rows[name].strategy(view)).tasks)
    assert [task.seed for task in drawn["best_4"]] == [task.seed for task in drawn["draft_8_1"]][:4]


async def test_the_gallery_is_routed_by_what_came_before() -> None:
    world = World()
    made = await measure_gallery(cast(Pool, world), items(world), 0)
    assert set(made) == {"gallery own", "gallery b", "gallery c", "random", "routed", "best_single"}
    assert all(len(rows) == 12 for rows in made.values())
    table = {name: summarise(name, rows) for name, rows in made.items()}
    pair = {"mean": 0.1, "low": 0.0, "high": 0.2}
    first, second = sections({"prompts": 12, "rows": table, "pairs": {"routed - random": pair}})
    assert first.table is not None
    assert len(first.table.rows) == 6
    assert second.table is not None
    assert second.table.rows[0][2] == "0.100 [0.000, 0.200]"
