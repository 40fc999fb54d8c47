"""The runner with fake models: equal images, nothing paid twice, kills, failures, layouts, figures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.testing import drawn_from, fake_models, paint
from editors.testing import FakeBackend
from eval_suites import registry
from eval_suites.figures import bars, gallery, legend, picture_sections, summary
from eval_suites.pictures import Work, conditions, cost, evaluate, failures, lay_out, require_pictures
from eval_suites.report import html, markdown, write_report
from eval_suites.runner import open_journal, spread_evenly
from eval_suites.suite import (
    Answered,
    Condition,
    Data,
    Headline,
    Item,
    Question,
    Reporter,
    Results,
    Suite,
    every_right,
    share_right,
)
from evaluator.reward import checks_reward
from evaluator.testing import FakeChecklistBuilder, FakeJudge, JudgeAnswer
from evaluator.types import Check, Outcome
from redraft.errors import BackendError, InputError
from redraft.images import ImageStore
from redraft.journal import Journal
from redraft.limits import Limits
from rewriter.testing import FakeRewriter

FOX, JUG = Check("counting", "Are there two foxes?"), Check("negation", "Is it free of jugs?")
ITEMS = (
    Item("a", "two foxes", (Question(FOX, label="animals"), Question(JUG)), {"kind": ("x",)}),
    Item("b", "a jug", (Question(JUG, wanted=False),), {"kind": ("y",)}),
    Item("c", "two foxes", (Question(FOX, label="animals"),), {"kind": ("y",)}),
)


def toy(**changes: Any) -> Suite:
    base: dict[str, Any] = {
        "name": "toy",
        "title": "Toy",
        "source": "nowhere",
        "licence": "none",
        "official": "None.",
        "measure": "Not a real benchmark.",
        "value_name": "questions right",
        "load": lambda place, variant: Data(ITEMS, ()),
        "place": lambda item, k: f"{item.id}/{k}.png",
        "value": share_right,
        "headline": Headline(axis="kind"),
    }
    return Suite(**base | changes)


def judge_says(image: Image.Image, prompt: str, check: Check) -> JudgeAnswer:
    """Pictures drawn from a rewrite have foxes; every second seed has a jug."""
    drawn, seed = drawn_from(image)
    if check == FOX:
        return 0.9 if "in detail" in drawn else 0.2
    return 0.8 if seed % 2 else 0.3


class Desk:
    """A folder and models to evaluate with."""

    def __init__(self, out: Path, *, judge: Any = judge_says, backend: FakeBackend | None = None) -> None:
        self.out = out
        self.judge = FakeJudge(judge)
        self.builder = FakeChecklistBuilder(lambda _: (FOX,))
        self.rewriter = FakeRewriter()
        self.backend = backend or FakeBackend(paint=paint)
        models = fake_models(lambda *_: (0.5,) * 3, rewriter=self.rewriter, backend=self.backend, batch_size=3)
        reward = checks_reward(self.judge)
        self.models = replace(models, checklist_maker=self.builder, judge=self.judge, reward=reward)

    def work(self, journal: Journal, suite: Suite, images: int = 2, given: Path | None = None) -> Work:
        reporter = Reporter("own", self.models.reward, self.models.checklist_maker)
        return Work(
            suite=suite,
            models=self.models,
            reporter=reporter,
            limits=Limits(images_per_round=2),
            journal=journal,
            store=ImageStore(self.out / "state" / "images"),
            out=self.out,
            images=images,
            seed=7,
            given=given,
        )

    def run(
        self, rows: Sequence[Condition], *, suite: Suite | None = None, items: Sequence[Item] = ITEMS, images: int = 2
    ) -> tuple[Work, Results, dict[str, Any]]:
        suite = suite or toy()
        with open_journal(self.out, {"suite": suite.name}) as journal:
            work = self.work(journal, suite, images)
            results = asyncio.run(evaluate(work, items, rows))
            lay_out(work, suite, items, rows, results)
            return work, results, summary(suite, items, rows, results, 0.5)


ALL = conditions(2, rewriter=True, best=True, loop=True)


def drawn_pictures(backend: FakeBackend) -> int:
    return sum(len(tasks) for tasks in backend.calls)


def test_every_condition_spends_at_most_the_same_pictures_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "out")
    work, results, figures = desk.run(ALL[:-1])
    # Two distinct prompts, two pictures each, raw and rewritten; the third item has the first one's prompt.
    assert drawn_pictures(desk.backend) == 8
    assert len(desk.rewriter.calls) == 2
    assert len(desk.judge.calls) == len({(c[0].tobytes(), c[1], c[2]) for c in desk.judge.calls})
    for row in ALL[:-1]:
        assert figures["conditions"][row.name]["pictures_per_item"] == 2
        answered = results[row.name]["a"]
        assert isinstance(answered, Answered)
        assert len(answered.made.pictures) == row.shown
    assert cost(work)["pictures_drawn"] == 8


def test_the_loop_stays_within_the_same_pictures(tmp_path: Path) -> None:
    _, results, figures = Desk(tmp_path / "out").run(ALL)
    loop = figures["conditions"]["loop"]
    assert 1 <= loop["pictures_per_item"] <= 2
    answered = results["loop"]["a"]
    assert isinstance(answered, Answered)
    assert answered.made.trace is not None
    assert (tmp_path / "out" / answered.made.trace).is_file()


def test_pictures_of_a_prompt_have_the_same_seeds_in_every_condition(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "out")
    desk.run(ALL[:-1])
    seeds: dict[str, list[int]] = {}
    for task in (task for tasks in desk.backend.calls for task in tasks):
        seeds.setdefault(task.prompt, []).append(task.seed)
    assert seeds["two foxes"] == seeds["two foxes, in detail 7"]
    assert seeds["two foxes"] != seeds["a jug"]


def test_figures_by_hand(tmp_path: Path) -> None:
    def says(image: Image.Image, prompt: str, check: Check) -> JudgeAnswer:
        drawn, _ = drawn_from(image)
        if check == FOX:
            return 0.9 if "in detail" in drawn else 0.2
        return Outcome.FAILED if "jug" not in drawn else 0.1

    _, _, figures = Desk(tmp_path / "out", judge=says).run(ALL[:-1])
    raw, rewritten = figures["conditions"]["raw"], figures["conditions"]["rewritten"]
    # a: foxes wrong, jug open: 0 of 1; b: "no jug" wanted no, judged 0.1: right; c: wrong. Mean of kinds x, y.
    assert raw["value"]["mean"] == pytest.approx((0 + (1 + 0) / 2) / 2)
    assert rewritten["value"]["mean"] == pytest.approx((1 + (1 + 1) / 2) / 2)
    # Open is not wrong: a has foxes wrong in raw, and only an open answer besides a right one when rewritten.
    assert raw["every_right"]["mean"] == pytest.approx(1 / 3)
    assert (raw["answers"], raw["failed_answers"]) == (8, 2)
    against = figures["differences"]["rewritten"]
    assert (against["win"], against["tie"], against["loss"]) == (2, 1, 0)
    counting = figures["key_points"]["counting"]["conditions"]
    assert counting["raw"]["right"]["mean"] == 0
    assert counting["rewritten"]["gain"]["mean"] == 1
    assert figures["key_points"]["negation"]["conditions"]["raw"]["failed"] == 2
    assert list(figures["labels"]) == ["animals"]
    assert figures["categories"]["kind"]["y"]["items"] == 2


def test_best_of_n_takes_what_the_system_itself_likes(tmp_path: Path) -> None:
    def says(image: Image.Image, prompt: str, check: Check) -> JudgeAnswer:
        return (drawn_from(image)[1] % 100) / 100

    suite, item = toy(headline=Headline()), Item("b", "a jug", (Question(JUG),))
    _, results, _ = Desk(tmp_path / "out", judge=says).run(
        conditions(4, rewriter=False, best=True, loop=False), suite=suite, items=[item], images=4
    )
    raw, best = results["raw"]["b"], results["raw_best"]["b"]
    assert isinstance(raw, Answered)
    assert isinstance(best, Answered)
    scores = [row[0][0] for row in raw.verdicts]
    assert best.verdicts[0][0][0] == max(score for score in scores if score is not None)


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_killed_run_goes_on_and_its_figures_equal_those_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Desk(tmp_path / "whole")
    _, _, wanted = whole.run(ALL)
    for after in (1, 3, 6):
        out = tmp_path / f"killed{after}"
        left = [after]

        def dies(image: Image.Image, prompt: str, check: Check, left: list[int] = left) -> JudgeAnswer:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return judge_says(image, prompt, check)

        with pytest.raises(Killed):
            Desk(out, judge=dies).run(ALL)
        second = Desk(out)
        _, _, figures = second.run(ALL)
        assert figures == wanted
        lines = (out / "state" / "journal.jsonl").read_text().splitlines()
        keys = [tuple(json.loads(line)["key"]) for line in lines[1:]]
        assert len(keys) == len(set(keys)), "nothing was paid for twice"
        third = Desk(out)
        assert third.run(ALL)[2] == wanted
        assert not third.judge.calls
        assert not third.backend.calls


def test_a_folder_belongs_to_one_run_and_one_process(tmp_path: Path) -> None:
    data = {"suite": "toy", "data": {"prompts.txt": "abc"}, "images": 4}
    with (
        open_journal(tmp_path, data),
        pytest.raises(InputError, match="another process works on"),
        open_journal(tmp_path, data),
    ):
        pass
    with open_journal(tmp_path, data) as journal:
        journal.put(("k", "one"), 1)
    with (
        pytest.raises(InputError, match=r"prompts\.txt changed since"),
        open_journal(tmp_path, {**data, "data": {"prompts.txt": "abd"}}),
    ):
        pass
    with pytest.raises(InputError, match=r"other settings \(images\)"), open_journal(tmp_path, {**data, "images": 1}):
        pass
    with open_journal(tmp_path, data):
        pass


def test_a_failing_backend_fails_its_items_and_a_later_call_draws_them(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint, script=[BackendError("out of memory")])
    rows = conditions(2, rewriter=False, best=False, loop=False)
    _, results, figures = Desk(tmp_path / "out", backend=backend).run(rows)
    lost = failures(results)["raw"]
    assert lost
    assert set(lost.values()) == {"out of memory"}
    assert figures["conditions"]["raw"]["items_failed"] == len(lost)
    _, results, figures = Desk(tmp_path / "out").run(rows)
    assert not failures(results)["raw"]
    assert figures["conditions"]["raw"]["items_failed"] == 0


def test_a_backend_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    backend = FakeBackend(paint=paint, script=[BackendError("gone")] * 9)
    items = [Item(str(n), f"prompt {n}", (Question(FOX),), {"kind": ("x",)}) for n in range(9)]
    with pytest.raises(BackendError, match="gone"):
        Desk(tmp_path / "out", backend=backend).run(conditions(2, rewriter=False, best=False, loop=False), items=items)
    assert len(backend.calls) == 3


def test_failed_judgements_are_counted_and_asked_for_again(tmp_path: Path) -> None:
    rows = conditions(1, rewriter=False, best=False, loop=False)
    desk = Desk(tmp_path / "out", judge=lambda *_: BackendError("the judge is down"))
    _, _, figures = desk.run(rows, images=1)
    raw = figures["conditions"]["raw"]
    assert (raw["value"], raw["failed_answers"], raw["answers"]) == (None, 4, 4)
    assert raw["items_without_value"] == 3
    _, _, figures = Desk(tmp_path / "out").run(rows, images=1)
    assert figures["conditions"]["raw"]["failed_answers"] == 0
    assert figures["conditions"]["raw"]["value"] is not None


def test_a_rewriter_that_is_down_fails_only_what_is_rewritten(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "out")
    desk.models = replace(desk.models, rewriter=FakeRewriter(lambda _: BackendError("no rewriter")))
    _, results, figures = desk.run(ALL[:-1])
    assert failures(results)["rewritten"] == {"a": "no rewriter", "b": "no rewriter", "c": "no rewriter"}
    assert not failures(results)["raw"]
    assert figures["conditions"]["rewritten"]["value"] is None
    assert figures["differences"]["rewritten"] == {"pairs": 0, "difference": None, "win": 0, "tie": 0, "loss": 0}


def test_pictures_lie_where_the_official_scripts_look(tmp_path: Path) -> None:
    suite = registry.load_suite("geneval")
    items = [
        Item("00000", "two foxes", (Question(FOX),), {"task": ("counting",)}, {"tag": "counting"}),
        Item("00001", "a jug", (Question(JUG),), {"task": ("colors",)}, {"tag": "colors"}),
    ]
    work, results, _ = Desk(tmp_path / "out").run(ALL[:-1], suite=suite, items=items)
    folder = tmp_path / "out" / "images" / "raw"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "00000/metadata.jsonl",
        "00000/samples/00000.png",
        "00000/samples/00001.png",
        "00001/metadata.jsonl",
        "00001/samples/00000.png",
        "00001/samples/00001.png",
    ]
    broken = folder / "00000" / "samples" / "00000.png"
    broken.unlink()
    broken.write_bytes(b"half")
    lay_out(work, suite, items, ALL[:-1], results)
    with Image.open(broken) as picture:
        assert drawn_from(picture)[0] == "two foxes"


def test_dpg_bench_gets_its_grids(tmp_path: Path) -> None:
    suite = registry.load_suite("dpg-bench")
    Desk(tmp_path / "out").run(conditions(4, rewriter=False, best=False, loop=False), suite=suite, images=4)
    with Image.open(tmp_path / "out" / "images" / "raw" / "grid" / "a.png") as grid:
        assert grid.size == (128, 128)
        assert drawn_from(grid.crop((0, 0, 64, 64)))[0] == "two foxes"


def test_pictures_of_the_users_own_are_judged_where_they_lie(tmp_path: Path) -> None:
    suite, given = toy(), tmp_path / "given"
    Desk(tmp_path / "out").run(conditions(2, rewriter=False, best=False, loop=False))
    (tmp_path / "out" / "images" / "raw").rename(given)
    rows = [Condition("given", "given", 2, 2)]
    desk = Desk(tmp_path / "second")
    with open_journal(desk.out, {}) as journal:
        work = desk.work(journal, suite, given=given)
        require_pictures(given, suite, ITEMS, 2)
        results = asyncio.run(evaluate(work, ITEMS, rows))
    assert summary(suite, ITEMS, rows, results, 0.5)["conditions"]["given"]["items"] == 3
    assert not desk.backend.calls
    (given / "b" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1 of 6 pictures are missing.*b/1\.png"):
        require_pictures(given, suite, ITEMS, 2)


def test_values_leave_open_what_failed_answers_leave_open() -> None:
    child = Item("x", "p", (Question(FOX), Question(JUG, needs=(0,))))
    assert every_right(child, [0.9, 0.9], 0.5) == 1
    assert every_right(child, [0.9, None], 0.5) is None
    assert every_right(child, [0.1, None], 0.5) == 0
    assert share_right(child, [0.1, 0.9], 0.5) == 0, "what hangs on a missing thing is not there"
    assert share_right(child, [None, 0.9], 0.5) is None, "and is open where its parent is"
    assert share_right(child, [None, 0.1], 0.5) == 0


def test_a_limit_takes_from_all_of_the_file() -> None:
    items = [Item(str(n), "p") for n in range(100)]
    assert [item.id for item in spread_evenly(items, 4)] == ["0", "25", "50", "75"]
    assert len(spread_evenly(items, None)) == len(spread_evenly(items, 1000)) == 100


def test_the_report_says_what_is_measured_first_and_escapes_what_models_say(tmp_path: Path) -> None:
    suite = toy()
    work, results, figures = Desk(tmp_path / "out").run(ALL)
    full: dict[str, Any] = {
        "measure": f"{suite.title}: {suite.measure}",
        "title": suite.title,
        "official": suite.official,
        "source": suite.source,
        "licence": suite.licence,
        "value_name": suite.value_name,
        "notes": ["<script>alert(1)</script>"],
        "prompts": len(ITEMS),
        **figures,
        "sections": [{"heading": "Own", "told": "Told <b>", "head": ["a"], "rows": [["own cell"]]}],
        "cost": cost(work),
        "models": {},
        "command": "redraft eval toy",
        "settings": {"seed": 7},
    }
    pictures = gallery(suite, ITEMS, ALL, results, work.store, 0.5)
    drawings: dict[str, Any] = {"bars": bars(full), "legend": legend(full), "gallery": pictures}
    tables = picture_sections(full)
    page = write_report(tmp_path, full, tables, **drawings).read_text()
    assert (tmp_path / "report.md").read_text().splitlines()[0] == "Toy: Not a real benchmark."
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(full))
    assert page.index("Not a real benchmark.") < page.index("<h1>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "3 prompts, percent" in page
    assert "<td>own cell</td>" in page
    assert "Told &lt;b&gt;" in page
    assert pictures["best"]
    assert "the loop&#39;s pictures" in page or "the loop's pictures" in page
    assert page.count("data:image/webp;base64,") >= 2
    text = markdown(full, tables)
    assert "win / tie / loss" in text
    assert "| as typed, best of 2 |" in text
    nothing = {"best": [], "worst": [], "first": "x", "last": "y"}
    assert html(full, tables, **{**drawings, "gallery": nothing}).count("Nothing.") == 2


def test_one_failing_batch_of_many_pictures_does_not_end_the_run(tmp_path: Path) -> None:
    items = [Item(str(n), f"prompt {n}", (Question(JUG),), {"kind": ("x",)}) for n in range(60)]
    desk = Desk(tmp_path / "out", backend=FakeBackend(paint=paint, script=[BackendError("out of memory")]))
    desk.models = replace(desk.models, batch_size=50)
    _, results, _ = desk.run(conditions(2, rewriter=False, best=False, loop=False), items=items)
    assert len(failures(results)["raw"]) == 25


def test_a_judge_of_checklists_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    items = [Item(str(n), f"prompt {n}", (), {"kind": ("x",)}) for n in range(60)]
    desk = Desk(tmp_path / "out")
    desk.models = replace(desk.models, checklist_maker=FakeChecklistBuilder(lambda _: BackendError("no checklists")))
    with pytest.raises(BackendError, match="20 items in a row failed; the last: no checklists"):
        desk.run(conditions(1, rewriter=False, best=False, loop=False), items=items, images=1)
