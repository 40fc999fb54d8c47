"""Edits through the whole graph, with fakes in place of models: of a picture of the user's, and in the draw loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from agent.events import Event, Planned, Pruned, RunStarted
from agent.models import Models
from agent.run import Run, RunResult
from agent.testing import CHECKS, fake_models, paint, with_judge
from agent.types import StopReason
from editors.backend import ImageTask, Mode, StepCallback
from editors.testing import FakeBackend
from evaluator.types import Check, Outcome
from redraft.errors import BackendError, ConfigError, InputError
from redraft.limits import Limits, TreeLimits
from rewriter.plan import FailedQuestion, Plan, Step
from rewriter.testing import FakePlanner, FakeRewriter

Q1, Q2, Q3 = (check.question for check in CHECKS)
Answers = tuple[float | Outcome, ...]
NONE, GOOD = (0.1, 0.2, 0.9), (0.97, 0.98, 0.99)


def source() -> Image.Image:
    return paint(ImageTask("the given picture", 0))


def opinion(**by_word: Answers) -> Callable[[str, int], Answers]:
    """The opinion of the last word of the prompt that is named, else NONE."""

    def answers(prompt: str, seed: int) -> Answers:
        return next((by_word[word] for word in reversed(prompt.split()) if word in by_word), NONE)

    return answers


TWO = Limits(tree=TreeLimits(width=2))
"""Two results of each step."""


async def edited(
    models: Models,
    out: Path,
    *,
    limits: Limits | None = None,
    instruction: str = "make it so",
    mask: Image.Image | None = None,
) -> tuple[RunResult, list[Event]]:
    session = Run.start(
        instruction, models, limits=limits or TWO, out=out, seed=7, source=source(), mask=mask, retry_wait_s=0.01
    )
    events = [event async for event in session.stream()]
    assert session.result is not None
    return session.result, events


def steps(*instructions: str, questions: Sequence[tuple[str, ...]] | None = None) -> Plan:
    asked = questions or [(Q1,), (Q2,), (Q3,)]
    return Plan("edit", "as told", tuple(Step(text, "hm", asked[n]) for n, text in enumerate(instructions)))


async def test_a_picture_is_edited_judged_and_accepted(tmp_path: Path) -> None:
    planner = FakePlanner([steps("make it fine")])
    result, events = await edited(fake_models(opinion(fine=GOOD), planner=planner), tmp_path)
    assert result.stop is StopReason.ACCEPTED
    assert result.source is not None
    assert result.source.is_file()
    best = result.best_attempt
    assert best is not None
    assert (best.kind, best.prompt, best.steps) == ("edit", "make it fine", ("make it fine",))
    assert best.parent == best.root
    started = events[0]
    assert isinstance(started, RunStarted)
    assert started.source == result.source
    [situation] = planner.situations
    assert (situation.editing, situation.request, situation.passed) == (True, "make it so", (Q3,))
    assert situation.faults == (FailedQuestion(Q1), FailedQuestion(Q2))
    record = json.loads((result.folder / "run.json").read_text())
    assert record["source"] == best.parent
    assert record["source_report"]["score"] == pytest.approx(0.4)
    assert record["rounds"][0]["plan"]["steps"][0]["instruction"] == "make it fine"


async def test_what_a_picture_must_keep_is_asked_only_where_it_had_it(tmp_path: Path) -> None:
    kept = (Check("state", "Is the sun there?"), Check("state", "Is the moon there?"))

    def answers(prompt: str, seed: int) -> Answers:
        return (*GOOD, 0.9, 0.9) if "fine" in prompt else (*NONE, 0.9, 0.2)

    models = fake_models(answers, planner=FakePlanner([steps("fine")]), kept=kept)
    result, _ = await edited(models, tmp_path)
    assert [check.question for check in result.checklist] == [Q1, Q2, Q3, "Is the sun there?"]


async def test_a_repair_starts_again_from_the_source_with_all_instructions(tmp_path: Path) -> None:
    planner = FakePlanner([steps("first"), steps("second", questions=[(Q2,)])])
    backend = FakeBackend(paint=paint)
    models = fake_models(opinion(first=(0.9, 0.3, 0.9), second=GOOD), planner=planner, editor=backend)
    result, _ = await edited(models, tmp_path)
    assert result.stop is StopReason.ACCEPTED
    best = result.best_attempt
    assert best is not None
    assert (best.prompt, best.steps) == ("first; second", ("first", "second"))
    assert best.parent == best.root == result.attempts[0].parent
    assert planner.situations[1].done == ("first",)
    assert planner.situations[1].faults == (FailedQuestion(Q2),)
    given = [task.source for task in backend.calls[-1]]
    assert all(picture is not None and picture.tobytes() == source().tobytes() for picture in given)


async def test_a_repair_may_start_from_the_latest_result_instead(tmp_path: Path) -> None:
    planner = FakePlanner([steps("first"), steps("second")])
    models = fake_models(opinion(first=(0.9, 0.3, 0.9), second=GOOD), planner=planner)
    result, _ = await edited(models, tmp_path, limits=Limits(tree=TreeLimits(width=2, base="step")))
    best = result.best_attempt
    assert best is not None
    assert (best.prompt, best.steps) == ("second", ("first", "second"))
    assert best.parent in [attempt.image for attempt in result.attempts[:2]]
    assert best.root == result.attempts[0].parent


async def test_a_chain_is_capped_and_begins_anew(tmp_path: Path) -> None:
    planner = FakePlanner(lambda situation: steps(f"step{len(situation.done)}"))
    growing = {f"step{n}": (0.3 + n / 10, 0.3, 0.9) for n in range(4)}
    limits = Limits(max_rounds=3, patience=9, tree=TreeLimits(depth=2, width=1, confidence=0.0))
    result, _ = await edited(fake_models(opinion(**growing), planner=planner), tmp_path, limits=limits)
    assert [attempt.steps for attempt in result.attempts] == [("step0",), ("step0", "step1"), ("step0",)]
    assert [situation.edits_left for situation in planner.situations] == [2, 1, 2]


async def test_an_editor_that_changes_nothing_has_failed_which_is_not_zero(tmp_path: Path) -> None:
    class Lazy(FakeBackend):
        def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
            super().render(tasks, on_step)
            return [task.source.copy() for task in tasks if task.source is not None]

    planner = FakePlanner(lambda situation: steps("fine"))
    result, _ = await edited(fake_models(opinion(fine=GOOD), planner=planner, editor=Lazy(paint=paint)), tmp_path)
    assert result.stop is StopReason.FAILED
    assert result.error is not None
    assert "unchanged" in result.error
    assert all(attempt.unchanged and attempt.score is None for attempt in result.attempts)
    assert all(v.outcome is Outcome.FAILED for attempt in result.attempts for v in attempt.report.verdicts)
    assert len(result.attempts) > 2, "it was tried again before it was given up"


async def test_one_lazy_result_does_not_spoil_the_others(tmp_path: Path) -> None:
    class HalfLazy(FakeBackend):
        def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
            _, *rest = super().render(tasks, on_step)
            assert tasks[0].source is not None
            return [tasks[0].source, *rest]

    models = fake_models(opinion(fine=GOOD), planner=FakePlanner([steps("fine")]), editor=HalfLazy(paint=paint))
    result, _ = await edited(models, tmp_path)
    assert result.stop is StopReason.ACCEPTED
    assert [attempt.unchanged for attempt in result.attempts] == [True, False]
    assert result.best == 1


@pytest.mark.parametrize("modes", [frozenset({"edit", "inpaint"}), frozenset({"edit"})])
async def test_outside_the_mask_nothing_changes_whatever_the_editor_can(tmp_path: Path, modes: frozenset[Mode]) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 40))
    editor = FakeBackend(modes=modes)
    models = fake_models(lambda prompt, seed: GOOD, planner=FakePlanner([steps("fine")]), editor=editor)
    seen: list[Image.Image] = []
    # The editor's tiles hold no prompt that the fake judge could read, so this one looks at nothing.
    models = _judged_blindly(models, seen)
    result, _ = await edited(models, tmp_path, mask=mask)
    assert result.image is not None
    given = source()
    with Image.open(result.image) as picture:
        assert picture.crop((0, 41, 64, 64)).tobytes() == given.crop((0, 41, 64, 64)).tobytes()
        assert picture.crop((0, 0, 64, 39)).tobytes() != given.crop((0, 0, 64, 39)).tobytes()
    assert (editor.calls[0][0].mask is not None) == ("inpaint" in modes)


def _judged_blindly(models: Models, seen: list[Image.Image]) -> Models:
    from dataclasses import replace

    from evaluator.testing import FakeJudge

    judge = FakeJudge(lambda image, prompt, check: seen.append(image) or 0.99)  # type: ignore[func-returns-value]
    return replace(models, editing=with_judge(models, judge))


async def test_profiles_without_an_editor_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="editor"):
        Run.start("x", fake_models(opinion()), limits=Limits(), out=tmp_path, source=source())
    with pytest.raises(InputError, match="mask"):
        Run.start("x", fake_models(opinion()), limits=Limits(), out=tmp_path, mask=Image.new("L", (64, 64)))


class TestInTheDrawLoop:
    """After judging, the planner chooses between a new prompt and an edit of the best picture."""

    async def test_the_best_picture_is_edited_where_the_planner_says_so(self, tmp_path: Path) -> None:
        planner = FakePlanner([steps("mend", questions=[(Q2,)])])
        models = fake_models(
            opinion(nearly=(0.9, 0.1, 0.9), mend=GOOD), rewriter=FakeRewriter([["nearly"]]), planner=planner
        )
        result, events = await drawn(models, tmp_path)
        assert result.stop is StopReason.ACCEPTED
        best = result.best_attempt
        assert best is not None
        assert (best.kind, best.round, best.prompt) == ("edit", 2, "mend")
        assert best.parent == result.attempts[1].image
        [situation] = planner.situations
        assert (situation.editing, situation.prompt, situation.faults) == (False, "nearly", (FailedQuestion(Q2),))
        [planned] = [event for event in events if isinstance(event, Planned)]
        assert planned.plan.reason == "as told"
        rounds = json.loads((result.folder / "run.json").read_text())["rounds"]
        assert rounds[1]["plan"]["choice"] == "edit"
        assert rounds[1]["rewrites"] == []

    async def test_a_new_picture_where_it_does_not(self, tmp_path: Path) -> None:
        planner = FakePlanner([Plan("redraw", "it misses the point")])
        models = fake_models(opinion(fine=GOOD), rewriter=FakeRewriter([["poor"], ["fine"]]), planner=planner)
        result, _ = await drawn(models, tmp_path)
        assert result.stop is StopReason.ACCEPTED
        assert {attempt.kind for attempt in result.attempts} == {"generate"}
        rounds = json.loads((result.folder / "run.json").read_text())["rounds"]
        assert rounds[1]["plan"]["reason"] == "it misses the point"

    async def test_the_same_picture_is_not_edited_twice_in_vain(self, tmp_path: Path) -> None:
        planner = FakePlanner(lambda situation: steps("vain"))
        models = fake_models(
            opinion(nearly=(0.9, 0.4, 0.9), vain=(0.9, 0.1, 0.1), fine=GOOD),
            rewriter=FakeRewriter([["nearly"], ["fine"]]),
            planner=planner,
        )
        result, events = await drawn(models, tmp_path, Limits(tree=TreeLimits(width=1)))
        assert result.stop is StopReason.ACCEPTED
        choices = [event.plan.choice for event in events if isinstance(event, Planned)]
        assert choices == ["edit", "redraw"], "planned; there were no other words for it"
        assert planner.situations[1].refused is not None

    async def test_drawings_are_not_edited_where_the_limits_forbid_it(self, tmp_path: Path) -> None:
        planner = FakePlanner(lambda situation: steps("mend", questions=[(Q2,)]))
        models = fake_models(
            opinion(nearly=(0.9, 0.1, 0.9), mend=GOOD, fine=GOOD),
            rewriter=FakeRewriter([["nearly"], ["fine"]]),
            planner=planner,
        )
        result, events = await drawn(models, tmp_path / "drawn", Limits(edit_draws=False))
        assert result.stop is StopReason.ACCEPTED
        assert {attempt.kind for attempt in result.attempts} == {"generate"}
        assert not any(isinstance(event, Planned) for event in events)
        given, _ = await edited(models, tmp_path / "edited", limits=Limits(edit_draws=False))
        assert {attempt.kind for attempt in given.attempts} == {"edit"}, "a given picture is edited all the same"

    async def test_a_server_fault_while_planning_is_tried_again(self, tmp_path: Path) -> None:
        planner = FakePlanner([BackendError("no planner here; start it")])
        result, _ = await drawn(fake_models(opinion(), planner=planner), tmp_path)
        assert (result.stop, result.error) == (StopReason.FAILED, "no planner here; start it")
        again = Run.open(result.folder, fake_models(opinion(mend=GOOD), planner=FakePlanner([steps("mend")])))
        assert (await again.run()).stop is StopReason.ACCEPTED


class TestTree:
    async def test_each_sub_task_has_candidates_and_the_best_goes_on(self, tmp_path: Path) -> None:
        def answers(prompt: str, seed: int) -> Answers:
            if prompt == "second":
                return GOOD
            return ((0.6 + (seed % 1000) / 4000), 0.2, 0.9) if prompt == "first" else NONE

        planner = FakePlanner([steps("first", "second")])
        limits = Limits(max_images=20, tree=TreeLimits(width=3, merge=1))
        result, events = await edited(fake_models(answers, planner=planner), tmp_path, limits=limits)
        assert result.stop is StopReason.ACCEPTED
        level = result.attempts[:3]
        best = max(level, key=lambda attempt: attempt.report.verdicts[0].probability or 0)
        assert {attempt.parent for attempt in result.attempts[3:]} == {best.image}
        assert {attempt.steps for attempt in result.attempts[3:]} == {("first", "second")}
        [pruned] = [event for event in events if isinstance(event, Pruned)]
        assert sorted(branch.fate for _, branch in pruned.branches) == ["kept", "pruned", "pruned"]
        told = json.loads((result.folder / "run.json").read_text())["rounds"][0]["branches"]
        assert [one["number"] for one in told] == [1, 2, 3]

    async def test_several_may_be_kept(self, tmp_path: Path) -> None:
        planner = FakePlanner([steps("first", "second")])
        limits = Limits(max_images=20, tree=TreeLimits(width=2, keep=2, merge=1))
        models = fake_models(opinion(first=(0.9, 0.2, 0.9), second=GOOD), planner=planner)
        result, _ = await edited(models, tmp_path, limits=limits)
        assert len(result.attempts) == 2 + 4
        assert {a.parent for a in result.attempts[2:]} == {a.image for a in result.attempts[:2]}

    async def test_anew_each_edit_starts_from_the_picture_as_it_was_given(self, tmp_path: Path) -> None:
        planner = FakePlanner(lambda situation: steps("first", "second"))
        together = planner.join(["first", "second"])
        limits = Limits(max_images=4, max_rounds=9, patience=9, tree=TreeLimits(width=2, merge=2, base="anew"))
        models = fake_models(lambda prompt, seed: (0.9, 0.3, 0.9), planner=planner)
        result, _ = await edited(models, tmp_path, limits=limits)
        assert [attempt.prompt for attempt in result.attempts] == [together] * 4
        assert len({attempt.parent for attempt in result.attempts}) == 1
        assert all(attempt.steps == (together,) for attempt in result.attempts)

    async def test_after_that_the_best_goes_on_all_the_same(self, tmp_path: Path) -> None:
        planner = FakePlanner([steps("first", "second"), steps("other")])

        def answers(prompt: str, seed: int) -> Answers:
            if prompt == "second":
                return GOOD
            return (0.1, 0.2, 0.9) if prompt == "first" else (0.2 + (seed % 1000) / 5000, 0.2, 0.9)

        limits = Limits(max_images=20, patience=9, tree=TreeLimits(width=2, merge=1))
        result, events = await edited(fake_models(answers, planner=planner), tmp_path, limits=limits)
        assert result.stop is StopReason.ACCEPTED
        assert [attempt.prompt for attempt in result.attempts] == ["first"] * 2 + ["other"] * 2 + ["second"] * 2
        others = result.attempts[2:4]
        best = max(others, key=lambda attempt: attempt.report.verdicts[0].probability or 0)
        assert {attempt.parent for attempt in result.attempts[4:]} == {best.image}
        fates = [sorted(b.fate for _, b in event.branches) for event in events if isinstance(event, Pruned)]
        assert fates == [["below", "below"], ["kept", "pruned"]]

    async def test_a_sub_task_that_fails_is_planned_anew_once(self, tmp_path: Path) -> None:
        planner = FakePlanner([steps("first", "second"), steps("other")])
        words = opinion(first=(0.1, 0.2, 0.9), other=(0.9, 0.2, 0.9), second=GOOD)
        limits = Limits(max_images=20, tree=TreeLimits(width=2, merge=1))
        result, _ = await edited(fake_models(words, planner=planner), tmp_path, limits=limits)
        assert result.stop is StopReason.ACCEPTED
        assert [attempt.prompt for attempt in result.attempts] == ["first"] * 2 + ["other"] * 2 + ["second"] * 2
        refused = planner.situations[1].refused
        assert refused is not None
        assert refused.instruction == "first"

    async def test_independent_sub_tasks_are_made_together(self, tmp_path: Path) -> None:
        planner = FakePlanner([steps("first", "second")])
        models = fake_models(opinion(second=GOOD), planner=planner)
        result, _ = await edited(models, tmp_path, limits=Limits(tree=TreeLimits(width=2, merge=2)))
        assert result.attempts[0].prompt == "first; second"


async def drawn(models: Models, out: Path, limits: Limits | None = None) -> tuple[RunResult, list[Event]]:
    session = Run.start("three circles", models, limits=limits or TWO, out=out, seed=7, retry_wait_s=0.01)
    events = [event async for event in session.stream()]
    assert session.result is not None
    return session.result, events


async def test_a_finished_edit_run_opens_again_as_it_was(tmp_path: Path) -> None:
    planner = FakePlanner([steps("first", "second")])
    models = fake_models(opinion(first=(0.9, 0.2, 0.9), second=GOOD), planner=planner)
    result, _ = await edited(models, tmp_path, limits=Limits(tree=TreeLimits(width=2, merge=1)))
    again = await Run.open(result.folder, models).run()
    assert again.attempts == result.attempts
    assert again.source == result.source


async def test_what_was_right_and_is_broken_is_edited_from_the_picture_as_it_was(tmp_path: Path) -> None:
    planner = FakePlanner(lambda situation: steps("again" if planner.situations[1:] else "first"))
    models = fake_models(opinion(first=(0.9, 0.9, 0.1), again=GOOD), planner=planner)
    result, _ = await edited(models, tmp_path, limits=Limits(tree=TreeLimits(width=2, base="step")))
    assert result.stop is StopReason.ACCEPTED
    best = result.best_attempt
    assert best is not None
    assert (best.prompt, best.steps) == ("again", ("again",))
    assert best.parent == best.root == result.attempts[0].parent
    assert planner.situations[1].done == ()
