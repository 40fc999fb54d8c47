"""The checklist of a request, held to its words: invented checks, words asked for once more, words that nobody checks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from evaluator.checklist import OWN_WORDS, ChecklistResult, CoveredChecklists, overall_check, own_words_check
from evaluator.testing import FakeChecklistBuilder
from evaluator.types import Check, Checklist
from redraft.errors import ServerError
from redraft.scope import Scope

REQUEST = "a red star between two blue circles"
STAR = Check("attribute", "Is there a red star?")
CIRCLES = Check("counting", "Are there exactly two blue circles?")
BETWEEN = Check("entity_layout", "Is the star between the circles?")
CROSS = Check("counting", "Is there a purple cross?")


class Writer:
    """A ChecklistWriter with a first reply and a second one."""

    def __init__(self, first: Checklist, second: Checklist | ChecklistResult = ()) -> None:
        self.replies = [first, second]
        self.left_out: list[tuple[str, ...]] = []

    async def build(self, request: str, left_out: Sequence[str] = ()) -> ChecklistResult:
        self.left_out.append(tuple(left_out))
        reply = self.replies.pop(0)
        return reply if isinstance(reply, ChecklistResult) else ChecklistResult(reply)


class Words:
    """A vocabulary that knows nothing of astronauts and horses."""

    def words_outside(self, request: str) -> tuple[str, ...]:
        return tuple(word for word in request.lower().split() if word in ("astronaut", "horse"))


async def test_a_complete_checklist_is_taken_as_it_is_and_asked_for_once() -> None:
    writer = Writer((STAR, CIRCLES, BETWEEN))
    made = await CoveredChecklists(writer, asks_freely=False)(REQUEST)
    assert (made.checks, made.unchecked, made.invented, made.warnings) == ((STAR, CIRCLES, BETWEEN), (), (), ())
    assert writer.left_out == [()]


async def test_an_invented_check_never_judges_and_the_user_is_told() -> None:
    made = await CoveredChecklists(Writer((STAR, CIRCLES, BETWEEN, CROSS)), asks_freely=False)(REQUEST)
    assert CROSS not in made.checks
    assert made.invented == (CROSS,)
    assert CROSS.question in made.warnings[0]


async def test_words_that_are_left_out_are_asked_for_once_by_name() -> None:
    writer = Writer((STAR,), (CIRCLES, BETWEEN, CROSS))
    made = await CoveredChecklists(writer, asks_freely=False)(REQUEST)
    assert writer.left_out == [(), ("between two blue circles",)]
    assert made.checks == (STAR, CIRCLES, BETWEEN)
    assert made.unchecked == ()


async def test_the_second_reply_adds_nothing_but_checks_on_words_that_were_left_out() -> None:
    again = Check("attribute", "Is the star red all over?")
    made = await CoveredChecklists(Writer((STAR,), (again, CIRCLES)), asks_freely=False)(REQUEST)
    assert again not in made.checks


async def test_a_judge_that_can_be_asked_anything_is_asked_about_the_users_own_words() -> None:
    made = await CoveredChecklists(Writer((STAR,)), asks_freely=True)(REQUEST)
    assert made.checks == (STAR, own_words_check("between two blue circles"))
    assert made.checks[1].key_point == OWN_WORDS
    assert made.unchecked == ()


async def test_what_is_still_left_out_is_unchecked_if_the_judge_cannot_be_asked() -> None:
    made = await CoveredChecklists(Writer((STAR,)), asks_freely=False)(REQUEST)
    assert made.unchecked == ("between", "two", "blue", "circles")
    assert "no picture will be accepted" in made.warnings[-1]


@pytest.mark.parametrize("request_text", ["a panda", "ein Panda auf dem Mond", "一只熊猫"])
async def test_a_checklist_about_something_else_leaves_everything_unchecked(request_text: str) -> None:
    made = await CoveredChecklists(Writer((CROSS,), (CROSS,)), asks_freely=False)(request_text)
    assert made.checks == ()
    assert made.unchecked


async def test_a_request_without_content_is_never_called_checked() -> None:
    made = await CoveredChecklists(Writer((CROSS,), (CROSS,)), asks_freely=False)("draw it, please")
    assert made.checks == ()
    assert made.unchecked


async def test_without_a_checklist_only_a_judge_that_can_be_asked_anything_judges_the_whole() -> None:
    fallback = ChecklistResult((overall_check(REQUEST),), fallback=True)
    free = await CoveredChecklists(Writer((), fallback), asks_freely=True)(REQUEST)
    assert free.unchecked == ()
    bound = await CoveredChecklists(Writer((), fallback), asks_freely=False)(REQUEST)
    assert bound.checks == ()
    assert len(bound.unchecked) == 6


async def test_words_outside_the_scope_are_one_warning_and_unchecked_whatever_is_asked_about_them() -> None:
    request = "a red star and an astronaut on a horse"
    checks = (STAR, Check("entity", "Is there an astronaut?"), Check("entity", "Is there a horse?"))
    scope = Scope("mini", "paper cut-outs", Words())
    made = await CoveredChecklists(Writer(checks), asks_freely=False, scope=scope)(request)
    assert made.unchecked == ("astronaut", "horse")
    assert made.warnings == ("mini draws paper cut-outs only; it does not know: astronaut, horse",)


async def test_a_server_that_is_down_is_an_error_and_no_checklist() -> None:
    with pytest.raises(ServerError):
        await CoveredChecklists(FakeChecklistBuilder(lambda _: ServerError("down")))(REQUEST)
