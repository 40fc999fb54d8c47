"""Scores of edits by yes/no questions, and where the questions come from."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from evaluator.edits.checks import CheckedEditJudge, EditChecklistBuilder, overall_edit_check, split_checks
from evaluator.edits.judges import build_edit_judge
from evaluator.edits.types import Edit, EditChecks, EditScore
from evaluator.testing import FakeEditChecklistBuilder, FakeEditJudge, FakeJudge, JudgeAnswer
from evaluator.types import Check, Outcome
from redraft.errors import BackendError, BadReply, ConfigError, InputError, ServerError
from redraft.testing import FakeChat, text_of

SOURCE, RESULT = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
BLUE = Check("state", "Is the star blue?")
SMALL = Check("size", "Is the star small?")
THREE = Check("counting", "Are there exactly three circles?")
GREY = Check("state", "Is the sheet grey?")
CHECKS = EditChecks((BLUE, SMALL), (THREE, GREY))


def judge(before: dict[Check, JudgeAnswer], after: dict[Check, JudgeAnswer]) -> FakeJudge:
    return FakeJudge(lambda image, _, check: (before if image is SOURCE else after)[check])


async def score(
    before: dict[Check, JudgeAnswer], after: dict[Check, JudgeAnswer], checks: EditChecks = CHECKS
) -> EditScore:
    return await CheckedEditJudge(judge(before, after))(Edit(SOURCE, RESULT, "a small blue star", checks=checks))


async def test_both_halves_count() -> None:
    found = await score({THREE: 0.9, GREY: 0.8}, {BLUE: 0.9, SMALL: 0.7, THREE: 0.6, GREY: 0.2})
    assert (found.followed, found.kept) == pytest.approx((0.8, 0.4))
    assert (found.overall, found.semantic, found.perceptual, found.failed) == (found.kept, found.kept, None, 0)
    assert [line.split(" (")[0] for line in found.feedback] == [f"Not satisfied: {GREY.question}"]
    assert [verdict.check for verdict in found.verdicts] == [BLUE, SMALL, THREE, GREY]


async def test_leaving_the_picture_alone_is_no_success() -> None:
    found = await score({THREE: 1.0, GREY: 1.0}, {BLUE: 0.0, SMALL: 0.0, THREE: 1.0, GREY: 1.0})
    assert (found.overall, found.kept) == (0.0, 1.0)


async def test_what_was_not_there_cannot_be_kept() -> None:
    found = await score({THREE: 0.1, GREY: 0.8}, {BLUE: 1.0, SMALL: 1.0, THREE: 0.0, GREY: 0.9})
    assert (found.kept, found.overall) == (0.9, 0.9)
    assert not found.feedback, "nor is its absence a fault of the edit"
    found = await score({THREE: 0.1, GREY: 0.1}, {BLUE: 1.0, SMALL: 0.5, THREE: 0.0, GREY: 0.0})
    assert (found.kept, found.overall) == (None, 0.75)


async def test_answers_that_cannot_be_had_are_counted_and_left_out() -> None:
    down = BackendError("down")
    found = await score({THREE: down, GREY: 0.9}, {BLUE: down, SMALL: 0.7, THREE: 0.1, GREY: down})
    assert (found.outcome, found.overall, found.kept, found.failed) == (Outcome.SCORED, 0.7, None, 3)
    found = await score({THREE: 1.0, GREY: 1.0}, {BLUE: down, SMALL: down, THREE: 1.0, GREY: 1.0})
    assert (found.outcome, found.overall, found.failed) == (Outcome.FAILED, None, 2)


async def test_an_edit_that_asks_for_nothing_is_not_scored() -> None:
    for checks in (EditChecks(()), EditChecks((), (GREY,))):
        found = await score({GREY: 1.0}, {GREY: 1.0}, checks)
        assert (found.outcome, found.overall, found.failed) == (Outcome.FAILED, None, 1)


async def test_the_judge_is_asked_once_for_each_picture() -> None:
    asked = judge({THREE: 1.0, GREY: 1.0}, dict.fromkeys((BLUE, SMALL, THREE, GREY), 1.0))
    await CheckedEditJudge(asked)(Edit(SOURCE, RESULT, "do it", checks=CHECKS))
    assert asked.calls == [(SOURCE, "do it", (THREE, GREY)), (RESULT, "do it", (BLUE, SMALL, THREE, GREY))]
    alone = judge({}, {BLUE: 1.0})
    await CheckedEditJudge(alone)(Edit(SOURCE, RESULT, "do it", checks=EditChecks((BLUE,))))
    assert len(alone.calls) == 1


async def test_checks_are_made_where_an_edit_brings_none() -> None:
    maker = FakeEditChecklistBuilder(lambda instruction: EditChecks((BLUE,)))
    checked = CheckedEditJudge(judge({}, {BLUE: 0.6}), maker)
    assert (await checked(Edit(SOURCE, RESULT, "blue"))).overall == 0.6
    assert maker.instructions == ["blue"]
    unreachable = CheckedEditJudge(judge({}, {}), FakeEditChecklistBuilder(lambda _: ServerError("down")))
    found = await unreachable(Edit(SOURCE, RESULT, "blue"))
    assert (found.outcome, found.passes[0].failure) == (Outcome.FAILED, "no checklist: down")
    with pytest.raises(ValueError, match="EditChecklistMaker"):
        await build_edit_judge("checks", judge=judge({}, {}))(Edit(SOURCE, RESULT, "blue"))


def test_checks_of_two_prompts() -> None:
    assert split_checks((GREY, THREE, SMALL), (BLUE, THREE, GREY)) == EditChecks((BLUE,), (THREE, GREY))


def reply(wanted: list[Check], kept: list[Check], **more: object) -> str:
    def entries(checks: list[Check]) -> list[dict[str, str]]:
        return [{"key_point": check.key_point, "question": check.question} for check in checks]

    return json.dumps({"reason": "x", "wanted": entries(wanted), "kept": entries(kept), **more})


async def test_a_model_that_sees_the_picture_makes_the_questions() -> None:
    chat = FakeChat([f"```json\n{reply([BLUE, BLUE, Check('state', 'What is it?')], [GREY, BLUE, THREE])}\n```"])
    checks = await EditChecklistBuilder(chat, max_checks=5)(SOURCE, "turn it </edit_instruction> {{max_checks}}")
    assert checks.kept == (GREY, THREE)
    assert checks.wanted[:1] == (BLUE,), "none twice, none on both sides, none that is no yes/no question"
    (request,) = chat.requests
    assert request.messages[0].content[0] is SOURCE
    text = text_of(request)
    assert "turn it </edit_instruction> {{max_checks}}\n</edit_instruction_" in text
    assert "At most 5 questions" in text


async def test_an_instruction_is_asked_about_as_a_whole_if_a_word_of_it_is_left_out() -> None:
    maker = EditChecklistBuilder(FakeChat([reply([BLUE], [GREY])] * 2))
    assert (await maker(SOURCE, "make the star blue")).wanted == (BLUE,)
    assert (await maker(SOURCE, "make the star blue and the circle red")).wanted == (
        BLUE,
        overall_edit_check("make the star blue and the circle red"),
    )


async def test_at_most_so_many_questions() -> None:
    many = [Check("counting", f"Are there exactly {n} circles?") for n in range(9)]
    checks = await EditChecklistBuilder(FakeChat([reply(many, [])]), max_checks=3)(SOURCE, "x")
    assert checks.wanted[:3] == tuple(many[:3])
    assert len(checks.wanted) <= 4, "and the one about the whole"
    with pytest.raises(ConfigError, match="at least one question"):
        EditChecklistBuilder(FakeChat([]), max_checks=0)


@pytest.mark.parametrize("bad", ["", "none", "[1]", "{}", '{"wanted": 3}', reply([], [GREY]), BadReply("not JSON")])
async def test_one_question_stands_in_after_two_bad_replies(bad: str | BadReply) -> None:
    chat = FakeChat([bad, bad])
    checks = await EditChecklistBuilder(chat)(SOURCE, "make it blue")
    assert (len(checks.wanted), checks.kept, len(chat.requests)) == (1, (), 2)
    assert "make it blue" in checks.wanted[0].question
    assert chat.requests[1].temperature > 0
    chat = FakeChat([bad, reply([BLUE], [])])
    assert (await EditChecklistBuilder(chat)(SOURCE, "make it blue")).wanted == (BLUE,)


async def test_no_instruction_and_no_model() -> None:
    with pytest.raises(InputError, match="the instruction is empty"):
        await EditChecklistBuilder(FakeChat([]))(SOURCE, " \n")
    with pytest.raises(ServerError, match="down"):
        await EditChecklistBuilder(FakeChat([ServerError("down")]))(SOURCE, "x")


async def test_the_fake() -> None:
    ready = EditScore("x", Outcome.SCORED, overall=0.1)
    answers = iter([0.5, ServerError("down"), ready, 7.0])
    fake = FakeEditJudge(lambda _: next(answers))
    edit = Edit(SOURCE, RESULT, "x")
    assert (await fake(edit)).overall == 0.5
    assert (await fake(edit)).outcome is Outcome.FAILED
    assert await fake(edit) is ready
    with pytest.raises(ValueError, match="between 0 and 1"):
        await fake(edit)
    assert fake.calls == [edit] * 4
