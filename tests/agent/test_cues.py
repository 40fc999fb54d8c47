"""Interleaved reasoning: where a sub-task is made, who says so, and what the planner sees of the story."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from agent.events import Planned
from agent.graph import mask_of_box
from agent.models import Models
from agent.run import Run, RunResult
from agent.testing import CHECKS, fake_models, paint
from agent.types import StopReason, is_box
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from evaluator.testing import FakeGrounder
from redraft.images import ImageStore
from redraft.limits import Limits, TreeLimits
from rewriter.plan import Plan, Situation, Step
from rewriter.testing import FakePlanner

Q1, Q2, Q3 = (check.question for check in CHECKS)
GOOD = (0.97, 0.98, 0.99)
BOX = (0.25, 0.25, 0.5, 0.5)
LIMITS = Limits(max_images=20, tree=TreeLimits(merge=1, width=1))


def opinion(prompt: str, seed: int) -> tuple[float, ...]:
    return {"first": (0.9, 0.2, 0.9), "second": GOOD}.get(prompt, (0.1, 0.2, 0.9))


def planned(*steps: Step, by: str = "rules") -> FakePlanner:
    return FakePlanner(lambda situation: Plan("edit", "as told", steps, by=by))


async def edited(
    models: Models, out: Path, mask: Image.Image | None = None, limits: Limits = LIMITS
) -> tuple[RunResult, list[Planned]]:
    given = paint(ImageTask("given", 0))
    session = Run.start("do it", models, limits=limits, out=out, seed=7, source=given, mask=mask)
    events = [event async for event in session.stream() if isinstance(event, Planned)]
    assert session.result is not None
    return session.result, events


def area_in(result: RunResult, number: int) -> tuple[Image.Image, str]:
    record = json.loads((result.folder / "run.json").read_text())
    plan = record["rounds"][number]["plan"]
    step = plan["steps"][plan["at"]]
    return ImageStore(result.folder / "state" / "images").get(step["area"]), step["area_from"]


async def test_a_region_becomes_a_picture_in_store_and_trace(tmp_path: Path) -> None:
    steps = (Step("first", questions=(Q1,), region=BOX), Step("second", questions=(Q2,)))
    result, events = await edited(fake_models(opinion, planner=planned(*steps, by="planner-model")), tmp_path)
    area, by = area_in(result, 0)
    assert by == "planner-model"
    pixels = area.convert("L")
    assert pixels.getpixel((24, 24)) == 255
    assert pixels.getpixel((50, 50)) == 0
    assert events[0].area is not None
    assert events[0].area.is_file()
    assert events[1].area is None
    assert "Where: planner-model" in result.trace.read_text()


async def test_regions_of_rules_come_from_the_judge(tmp_path: Path) -> None:
    steps = (Step("first", questions=(Q1,), region=BOX), Step("second", questions=(Q2,)))
    result, _ = await edited(fake_models(opinion, planner=planned(*steps)), tmp_path)
    assert area_in(result, 0)[1] == "the judge"


async def test_a_grounder_is_asked_where_nobody_says_where_and_only_once(tmp_path: Path) -> None:
    grounder = FakeGrounder(lambda instruction: BOX if instruction == "second" else None)
    steps = (Step("first", questions=(Q1,)), Step("second", questions=(Q2,)))
    models = fake_models(opinion, planner=planned(*steps), grounder=grounder)
    result, events = await edited(models, tmp_path)
    assert grounder.instructions == ["first", "second"]
    assert events[0].area is None, "it could not tell"
    assert area_in(result, 1)[1] == "fake-grounder"


async def test_the_users_mask_comes_before_all_others(tmp_path: Path) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 62))
    grounder = FakeGrounder(lambda instruction: BOX)
    steps = (Step("second", questions=(Q1, Q2), region=BOX, local=True),)
    models = fake_models(opinion, planner=planned(*steps), grounder=grounder)
    result, _ = await edited(models, tmp_path, mask)
    assert area_in(result, 0)[1] == "the user's mask"
    assert grounder.instructions == []


async def test_only_local_sub_tasks_are_held_to_their_place(tmp_path: Path) -> None:
    editor = FakeBackend(paint=paint)
    steps = (
        Step("first", questions=(Q1,), region=BOX),
        Step("second", questions=(Q2,), region=(0.0, 0.0, 1.0, 0.9), local=True),
    )
    await edited(fake_models(opinion, planner=planned(*steps), editor=editor), tmp_path)
    masks = [task.mask for call in editor.calls for task in call]
    assert masks[0] is None
    assert masks[1] is not None


class TestDrafts:
    """What an edit brings into the picture, drawn by itself first."""

    steps = (Step("first", questions=(Q1,), draft="a tall red hat"), Step("second", questions=(Q2,)))
    limits = LIMITS.changed(edit_drafts=True)

    async def test_it_is_a_picture_in_store_and_trace_and_a_reference_of_the_editor(self, tmp_path: Path) -> None:
        editor, generator = FakeBackend(paint=paint), FakeBackend(paint=paint)
        models = replace(fake_models(opinion, planner=planned(*self.steps), editor=editor), generator=generator)
        result, events = await edited(models, tmp_path, limits=self.limits)
        [[drawn]] = generator.calls
        assert (drawn.prompt, drawn.source) == ("a tall red hat", None)
        given = [task.references for call in editor.calls for task in call]
        assert [reference.tobytes() for reference in given[0]] == [paint(drawn).tobytes()]
        assert given[1] == (), "the second sub-task brings nothing new"
        assert events[0].draft is not None
        assert events[0].draft.is_file()
        assert events[1].draft is None
        assert "What is to come: a tall red hat" in result.trace.read_text()

    async def test_the_planner_sees_it_in_the_story(self, tmp_path: Path) -> None:
        seen: list[Situation] = []

        def script(situation: Situation) -> Plan:
            seen.append(situation)
            if situation.refused is None and not situation.done:
                return Plan("edit", "x", self.steps[:1])
            return Plan("edit", "x", (Step("second", questions=(Q2,)),))

        await edited(fake_models(opinion, planner=FakePlanner(script)), tmp_path, limits=self.limits)
        told = [part for situation in seen[1:] for part in situation.chain if isinstance(part, str)]
        assert any("drawn by itself" in part for part in told)

    async def test_it_is_given_up_at_once_where_the_run_is_stopped(self, tmp_path: Path) -> None:
        stops: list[Run] = []

        class Stopping(FakeBackend):
            def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
                assert on_step is not None
                stops[0].cancel()
                on_step(1, 1000)
                raise AssertionError("it was to stop at the step")

        models = replace(fake_models(opinion, planner=planned(*self.steps)), generator=Stopping())
        given = paint(ImageTask("given", 0))
        stops.append(Run.start("do it", models, limits=self.limits, out=tmp_path, seed=7, source=given))
        result = await stops[0].run()
        assert result.stop is StopReason.CANCELLED

    async def test_none_is_drawn_unless_asked_for(self, tmp_path: Path) -> None:
        generator = FakeBackend(paint=paint)
        models = replace(fake_models(opinion, planner=planned(*self.steps)), generator=generator)
        await edited(models, tmp_path)
        assert generator.calls == []


async def test_the_planner_sees_the_story_in_text_and_pictures_by_turns(tmp_path: Path) -> None:
    seen: list[Situation] = []

    def script(situation: Situation) -> Plan:
        seen.append(situation)
        if len(seen) == 1:
            return Plan("edit", "x", (Step("first", "too few", (Q1,), region=BOX), Step("poor", questions=(Q2,))))
        return Plan("edit", "x", (Step("second", questions=(Q2,)),))

    await edited(fake_models(opinion, planner=FakePlanner(script)), tmp_path)
    kinds = ["text" if isinstance(part, str) else "picture" for part in seen[0].chain]
    assert kinds == ["text", "picture"]
    again = seen[1]
    assert again.refused is not None
    texts = [part for part in again.chain if isinstance(part, str)]
    assert ["text" if isinstance(part, str) else "picture" for part in again.chain] == [
        "text", "picture", "text", "picture", "text", "picture", "picture",
    ]  # fmt: skip
    assert "Not good enough" in texts[0]
    assert "The picture that the user gave" in texts[1]
    assert "too few" in texts[2]
    assert "<edit>\nfirst\n</edit>" in texts[2]


def test_a_cue_covers_its_box_and_a_margin() -> None:
    area = mask_of_box((0.5, 0.5, 0.75, 1.0), (100, 40))
    assert area.getbbox() == (46, 18, 80, 40)


def test_boxes_are_checked() -> None:
    assert is_box((0.0, 0.0, 1.0, 1.0))
    for box in (None, (0.5, 0.5, 0.5, 1.0), (0.0, 0.0, 2.0, 1.0), (0.0, 0.0, 1.0)):
        assert not is_box(box)
