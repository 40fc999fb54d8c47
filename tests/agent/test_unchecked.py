"""What nobody checks is never accepted: in a run, after a kill, by the user's word, in a report, and for edits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from agent.chat.conversation import Conversation
from agent.chat.values import Replied
from agent.commands import drawn_json, judged_json
from agent.decide import acceptable, decide, meets_bar
from agent.edit_judging import unanswerable_edit
from agent.events import ChecklistMade, ImageDrawn, NeedsAnswer, Warned
from agent.models import Models
from agent.run import Run, RunResult
from agent.serve.events import describe_picture, to_wire
from agent.testing import CHECKS, fake_models, paint
from agent.types import Attempt, StopReason
from editors.backend import ImageTask
from evaluator.checklist import CoveredChecklists
from evaluator.edits.types import EditChecks
from evaluator.reward import case_of, edit_reward
from evaluator.testing import FakeChecklistBuilder, FakeJudge
from evaluator.types import Case, Check, Checklist, Outcome, Report, Verdict
from redraft.limits import Limits

REQUEST = "a star above three circles, no squares, and a boat"
LIMITS = Limits(max_rounds=2, max_images=2, images_per_round=1)
CROSS = Check("counting", "Is there a purple cross?")


def models(checks: Checklist = CHECKS, *, asks_freely: bool = False) -> Models:
    """Models whose judge likes every picture, with a checklist that is held to the request's words."""
    made = fake_models(lambda prompt, seed: (1.0,) * 9, checks=(*CHECKS, CROSS))
    builder = FakeChecklistBuilder(lambda _: checks)
    return replace(made, checklist_maker=CoveredChecklists(builder, asks_freely=asks_freely))


async def draw(tmp_path: Path, made: Models, request: str = REQUEST) -> RunResult:
    return await Run.start(request, made, limits=LIMITS, out=tmp_path, seed=7).run()


async def test_a_picture_that_meets_the_bar_is_not_accepted_if_a_word_is_unchecked(tmp_path: Path) -> None:
    result = await draw(tmp_path, models())
    assert result.stop is StopReason.UNCHECKED
    assert result.unchecked == ("boat",)
    assert result.image is not None
    shown = drawn_json(result)
    assert (shown["accepted"], shown["unchecked"], shown["stop"]) == (False, ["boat"], "unchecked")
    assert any("boat" in warning for warning in shown["warnings"])
    record = result.trace.with_name("run.json").read_text()
    assert '"unchecked": [\n    "boat"' in record
    assert "Nothing checks: boat" in result.trace.read_text()


async def test_the_same_picture_is_accepted_if_every_word_is_checked(tmp_path: Path) -> None:
    result = await draw(tmp_path, models(), "a star above three circles, no squares")
    assert (result.stop, result.unchecked) == (StopReason.ACCEPTED, ())


async def test_an_invented_check_never_judges_and_the_warning_comes_before_the_picture(tmp_path: Path) -> None:
    run = Run.start(REQUEST, models((*CHECKS, CROSS)), limits=LIMITS, out=tmp_path, seed=7)
    events = [event async for event in run.stream()]
    made = next(event for event in events if isinstance(event, ChecklistMade))
    assert (made.invented, CROSS in made.checks, made.unchecked) == ((CROSS,), False, ("boat",))
    warned = [n for n, event in enumerate(events) if isinstance(event, Warned)]
    assert max(warned) < min(n for n, event in enumerate(events) if isinstance(event, ImageDrawn))
    assert run.result is not None
    assert run.result.best_attempt is not None
    assert CROSS not in [verdict.check for verdict in run.result.best_attempt.report.verdicts]


async def test_a_request_that_nothing_checks_gets_one_round_and_no_score(tmp_path: Path) -> None:
    result = await draw(tmp_path, models((CROSS,)), "a panda")
    assert (result.stop, result.unchecked, result.best_attempt is not None) == (StopReason.UNCHECKED, ("panda",), True)
    assert result.best_attempt is not None
    assert result.best_attempt.score is None
    assert len(result.attempts) == 1


async def test_a_run_that_was_left_keeps_what_is_unchecked(tmp_path: Path) -> None:
    run = Run.start(REQUEST, models(), limits=LIMITS, out=tmp_path, seed=7)
    stream = run.stream()
    async for event in stream:
        if isinstance(event, ImageDrawn):
            break
    await stream.aclose()
    # The checklist is in the journal: another one would not be asked for.
    again = Run.open(run.folder.path, models((CROSS,)))
    result = await again.run()
    assert (result.stop, result.unchecked, result.checklist) == (StopReason.UNCHECKED, ("boat",), CHECKS)


async def test_the_user_may_take_a_picture_but_it_is_not_called_accepted(tmp_path: Path) -> None:
    run = Run.start(REQUEST, models(), limits=LIMITS, out=tmp_path, seed=7, ask=True)
    last = [event async for event in run.stream()][-1]
    assert isinstance(last, NeedsAnswer)
    _ = [event async for event in run.stream("accept")]
    assert run.result is not None
    assert (run.result.stop, run.result.image is not None) == (StopReason.UNCHECKED, True)
    assert drawn_json(run.result)["accepted"] is False


async def test_a_conversation_takes_a_picture_and_does_not_call_it_accepted(tmp_path: Path) -> None:
    chat = await Conversation.create(tmp_path, "one", models(), limits=LIMITS, profile=None)
    assert isinstance(await chat.turn(f"/draw {REQUEST}"), Replied)
    taken = await chat.turn("/accept")
    assert isinstance(taken, Replied)
    assert taken.entry.reply == "picture 1 is taken; nothing checks: boat"
    view = await Conversation.open(tmp_path, "one", models(), limits=LIMITS, profile=None).view()
    [picture] = view.pictures
    assert (picture.accepted, picture.unchecked) == (False, ("boat",))
    listed = await chat.turn("/list")
    assert isinstance(listed, Replied)
    assert listed.entry.reply.splitlines()[0].endswith("; nothing checks: boat")
    assert describe_picture(picture).unchecked == ["boat"]


def verdict(question: str, p: float | None, mass: float | None = None) -> Verdict:
    outcome = Outcome.FAILED if p is None else Outcome.SCORED
    return Verdict(Check("x", question), outcome, probability=p, label_mass=mass)


def test_a_report_with_unchecked_words_may_meet_the_bar_and_is_never_acceptable() -> None:
    report = Report((verdict("a?", 1.0),), 1.0, 0, unchecked=("boat",))
    assert meets_bar(report, LIMITS)
    assert not acceptable(report, LIMITS)


@pytest.mark.parametrize(("mass", "stop"), [(0.01, StopReason.UNCHECKED), (None, StopReason.FAILED)])
def test_a_judge_without_an_answer_ends_the_run_and_one_that_is_down_lets_it_be_resumed(
    mass: float | None, stop: StopReason
) -> None:
    report = Report((verdict("a?", None, mass),), None, 1, unchecked=("boat",))
    attempt = Attempt(1, "generate", "p", 1, "x", None, report)
    assert decide([attempt], LIMITS, 0.0).stop is stop


class TestEdits:
    wanted, kept = Check("edit", "Was it done?"), Check("preservation", "Is the moon there?")
    before = Image.new("RGB", (64, 64), "white")

    async def test_an_edit_whose_own_checks_failed_has_no_score_whatever_was_kept(self) -> None:
        judge = FakeJudge(lambda image, request, check: Outcome.FAILED if check == self.wanted else 1.0)
        case = Case("x", (self.wanted,), (self.kept,), source=self.before)
        report = await edit_reward(judge).judge(self.before, case)
        assert report.score is None
        assert report.failed == 1

    async def test_a_question_without_an_answer_is_not_asked_again(self) -> None:
        judge = FakeJudge(lambda image, request, check: 1.0)
        source = Report((verdict("Was it done?", None, 0.0),), None, 1)
        checks = EditChecks((source.verdicts[0].check,), (self.kept,))
        known = unanswerable_edit(checks, source)
        case = Case("x", checks.wanted, checks.kept, source=self.before, known=known)
        report = await edit_reward(judge).judge(self.before, case)
        assert [check for _, _, asked in judge.calls for check in asked] == [self.kept]
        assert report.score is None

    def test_a_judge_that_was_down_is_asked_again(self) -> None:
        source = Report((verdict("Was it done?", None),), None, 1)
        assert unanswerable_edit(EditChecks((source.verdicts[0].check,)), source) == ()


class TestJudgeAndDoors:
    async def test_a_report_of_the_judge_names_what_no_check_covers(self) -> None:
        made = models()
        checklist = await made.checklist_maker(REQUEST)
        picture = paint(ImageTask("p", 1))
        report = await made.reward.judge(picture, case_of(REQUEST, checklist))
        assert report.unchecked == ("boat",)
        assert judged_json(report)["unchecked"] == ["boat"]
        assert not acceptable(report, LIMITS)

    async def test_events_on_the_wire_name_it(self, tmp_path: Path) -> None:
        run = Run.start(REQUEST, models(), limits=LIMITS, out=tmp_path, seed=7)
        wired = [to_wire(event, "c", LIMITS) async for event in run.stream()]
        told = {event.name: event.data for event in wired}
        assert told["checklist"]["unchecked"] == ["boat"]
        assert told["run_finished"]["unchecked"] == ["boat"]
        assert told["run_finished"]["stop"] == "unchecked"
