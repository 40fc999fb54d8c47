"""Planning edits by the phrase book."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mini.phrasebook.planner import PhrasePlanner
from rewriter.plan import FailedQuestion, Situation, Step


class TestPlanner:
    planner = PhrasePlanner()

    async def test_mostly_right_is_edited(self) -> None:
        situation = Situation(
            "ask", prompt="p", faults=(FailedQuestion("Is the star blue?"),), passed=("Is there a star?",), edits_left=3
        )
        plan = await self.planner(situation)
        assert (plan.choice, plan.by) == ("edit", "rules")
        assert [step.instruction for step in plan.steps] == ["recolour star to blue"]
        assert plan.steps[0].questions == ("Is the star blue?",)

    async def test_mostly_wrong_is_drawn_anew(self) -> None:
        faults = (
            FailedQuestion("Is the star blue?"),
            FailedQuestion("Is there a moon?"),
            FailedQuestion("Is the sheet mint?"),
        )
        plan = await self.planner(Situation("ask", prompt="p", faults=faults, passed=("Is there a star?",)))
        assert (plan.choice, plan.steps) == ("redraw", ())
        assert "1 of 4" in plan.reason

    async def test_a_question_that_no_edit_mends_is_drawn_anew(self) -> None:
        faults = (FailedQuestion("Do the star and the moon have the same colour?"),)
        plan = await self.planner(Situation("ask", prompt="p", faults=faults, passed=("Is there a star?",)))
        assert plan.choice == "redraw"

    @pytest.mark.parametrize(
        ("there", "edit"), [(1, "add two circles"), (5, "remove two circles"), (0, "add three circles")]
    )
    async def test_the_judge_counts_before_a_number_is_mended(self, there: int, edit: str) -> None:
        async def look(asked: Sequence[str]) -> list[float | None]:
            return [0.9 if number == there else 0.1 for number in range(len(asked))]

        faults = (FailedQuestion("Are there exactly three circles?"),)
        plan = await self.planner(Situation("x", prompt="p", faults=faults, passed=("Is there a star?",), look=look))
        assert [step.instruction for step in plan.steps] == [edit]

    async def test_the_users_words_come_in_sub_tasks_with_their_questions(self) -> None:
        faults = (
            FailedQuestion("Is there a blue star?"),
            FailedQuestion("Is the picture free of moons?"),
            FailedQuestion("Is it right?"),
        )
        ask = "make the star blue, remove the moon"
        plan = await self.planner(Situation(ask, editing=True, faults=faults, edits_left=4))
        assert [(step.instruction, step.questions) for step in plan.steps] == [
            ("recolour star to blue", ("Is there a blue star?",)),
            ("remove moon", ("Is the picture free of moons?", "Is it right?")),
        ]

    async def test_a_single_wish_is_told_in_the_users_own_words(self) -> None:
        plan = await self.planner(Situation("Make the star blue!", editing=True, faults=(FailedQuestion("Q?"),)))
        assert [step.instruction for step in plan.steps] == ["Make the star blue!"]
        assert plan.steps[0].questions == ("Q?",)

    async def test_what_speaks_of_one_thing_stays_together(self) -> None:
        ask = "recolour red star to blue; move red star left of moon; change sheet to mint"
        plan = await self.planner(Situation(ask, editing=True))
        assert [step.instruction for step in plan.steps] == [
            "recolour red star to blue; move red star left of moon",
            "change sheet to mint",
        ]

    async def test_what_is_brought_in_first_comes_first(self) -> None:
        ask = "move heart left of yellow cross; add one yellow cross; change sheet to mint"
        plan = await self.planner(Situation(ask, editing=True, edits_left=9))
        texts = [step.instruction for step in plan.steps]
        assert texts.index("add one yellow cross") < texts.index("move heart left of yellow cross")
        assert plan.steps[texts.index("move heart left of yellow cross")].after

    async def test_a_number_goes_with_the_sub_task_that_changes_it(self) -> None:
        faults = (FailedQuestion("Is there a yellow star?"), FailedQuestion("Is there exactly one circle?"))
        ask = "remove one circle; recolour star to yellow"
        plan = await self.planner(Situation(ask, editing=True, faults=faults, edits_left=4))
        assert [(step.instruction, step.questions) for step in plan.steps] == [
            ("remove one circle", ("Is there exactly one circle?",)),
            ("recolour star to yellow", ("Is there a yellow star?",)),
        ]

    @pytest.mark.parametrize(
        ("wrong", "steps"),
        [
            (
                ("Is there exactly one green heart?", "Is there a green heart?", "Is the green heart at the top?"),
                {"add one small green heart at the top": 3},
            ),
            (("Is the green heart at the top?",), {"move green heart to the top": 1}),
            (
                ("Is there a green heart?", "Is the moon at the left?"),
                {"add one small green heart at the top": 1, "move moon to the left": 1},
            ),
        ],
    )
    async def test_what_is_missing_is_added_as_it_was_told(self, wrong: tuple[str, ...], steps: dict[str, int]) -> None:
        async def look(asked: Sequence[str]) -> list[float | None]:
            return [0.9 if number == 0 else 0.1 for number in range(len(asked))]

        ask = "put a little green heart at the top, and make the sheet mint"
        faults = tuple(FailedQuestion(question) for question in wrong)
        plan = await self.planner(
            Situation(
                ask, editing=True, done=(ask,), faults=faults, passed=("Is the sheet mint?",), look=look, edits_left=4
            )
        )
        assert {step.instruction: len(step.questions) for step in plan.steps} == steps

    async def test_a_refused_sub_task_is_said_in_other_words_or_smaller_parts(self) -> None:
        other = await self.planner(Situation("x", editing=True, refused=Step("more of a starry blue")))
        assert [step.instruction for step in other.steps] == ["more of a starry blue"]
        other = await self.planner(Situation("x", editing=True, refused=Step("make the star blue", questions=("Q",))))
        assert [(step.instruction, step.questions) for step in other.steps] == [("recolour star to blue", ("Q",))]
        parts = await self.planner(Situation("x", editing=True, refused=Step("remove moon; change sheet to mint")))
        assert [step.instruction for step in parts.steps] == ["remove moon", "change sheet to mint"]

    async def test_a_users_picture_is_never_drawn_anew(self) -> None:
        situation = Situation("make it so", editing=True, done=("make it so",), faults=(FailedQuestion("Hm?"),))
        plan = await self.planner(situation)
        assert [step.instruction for step in plan.steps] == ["make it so"]
