"""The questions of an edit, against scenes of which the truth is known: the judge here reads the scene itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from evaluator.checklist import OVERALL
from evaluator.edits.types import EditChecks
from evaluator.testing import FakeJudge
from evaluator.types import Check
from mini.editor.sampling import EditCase, sample_edit
from mini.editor.wording import say_edit
from mini.phrasebook.checks import PhraseEditChecks
from mini.world import questions
from mini.world.scene import CutOut, Scene

BLANK = Image.new("RGB", (8, 8))


def yes(question: str, scene: Scene) -> bool:
    query = questions.parse(question)
    return query is not None and questions.answer(query, scene)


async def checks(scene: Scene, instruction: str) -> EditChecks:
    def seen(image: Image.Image, prompt: str, check: Check) -> float:
        return float(yes(check.question, scene))

    return await PhraseEditChecks(FakeJudge(seen))(BLANK, instruction)


def asked(found: EditChecks) -> set[str]:
    return {check.question for check in found.wanted}


@pytest.fixture(scope="module")
def cases() -> list[tuple[EditCase, str]]:
    """Edits of held-out combinations, in people's words."""
    rng = np.random.default_rng(77)
    made = [sample_edit(rng, "test") for _ in range(300)]
    return [(case, say_edit(rng, case.spec, case.before).text) for case in made]


class TestManyEdits:
    async def test_a_right_result_passes_every_question(self, cases: list[tuple[EditCase, str]]) -> None:
        for case, said in cases:
            found = await checks(case.before, said)
            # An instruction that was not read throughout is asked about as a whole.
            whole = any(check.key_point == OVERALL for check in found.wanted)
            for check in (*found.wanted, *found.kept):
                assert whole or yes(check.question, case.after), f"{said}: {check.question}"

    async def test_a_result_that_lacks_something_is_mostly_told(self, cases: list[tuple[EditCase, str]]) -> None:
        told = {"before": 0, "lost": 0}
        for case, said in cases:
            found = await checks(case.before, said)
            told["before"] += not all(yes(check.question, case.before) for check in found.wanted)
            rest = dataclasses.replace(case.after, cutouts=case.after.cutouts[:-1])
            told["lost"] += not all(yes(check.question, rest) for check in (*found.wanted, *found.kept))
        # Of several things alike hardly anything can be asked.
        assert told["before"] >= 0.95 * len(cases)
        assert told["lost"] >= 0.85 * len(cases)


def cut(shape: str, color: str, fill: str = "plain", x: float = 0.5, y: float = 0.5, radius: float = 0.1) -> CutOut:
    return CutOut(shape, color, fill, x, y, radius)


class TestNamesOfAfterwards:
    """Two yellow squares, one of them at the top, and a blue circle."""

    scene = Scene(
        "mint",
        (cut("square", "yellow", y=0.2), cut("square", "yellow", y=0.8), cut("circle", "blue", "dotted", 0.2)),
    )

    async def test_what_is_painted_is_asked_about_by_its_new_colour(self) -> None:
        found = asked(
            await checks(self.scene, "paint the square at the top orange and make the square at the top dotted")
        )
        assert {"Is there exactly one orange square?", "Is there exactly one yellow square?"} <= found
        assert "Is the orange square dotted?" in found
        assert not [question for question in found if "yellow square dotted" in question]

    async def test_of_several_alike_one_cannot_be_asked_about(self) -> None:
        found = await checks(self.scene, "make the square at the top dotted")
        assert [check.key_point for check in found.wanted] == [OVERALL]

    async def test_a_neighbour_is_called_as_it_is_then(self) -> None:
        found = asked(await checks(self.scene, "add a red star left of the circle; paint the circle green"))
        assert "Is the red star left of the green circle?" in found

    async def test_what_keeps_its_looks_under_a_new_name(self) -> None:
        found = await checks(self.scene, "turn the circle into a red moon")
        assert {"Is the picture free of blue circles?", "Is there exactly one red moon?"} <= asked(found)
        kept = {check.question for check in found.kept}
        assert {
            "Is the red moon dotted?",
            "Is the red moon at the left?",
            "Are there exactly two yellow squares?",
        } <= kept

    async def test_a_name_without_a_colour_is_the_thing_that_is_there(self) -> None:
        assert "Is the blue circle striped?" in asked(await checks(self.scene, "make the circle striped"))

    async def test_a_step_in_size_leads_to_the_next_one(self) -> None:
        size = next(s for s in ("small", "medium") if yes(f"Is the blue circle {s}?", self.scene))
        found = asked(await checks(self.scene, "make the circle bigger"))
        assert found == {f"Is the blue circle {'medium' if size == 'small' else 'large'}?"}

    async def test_two_of_three_alike_go_and_one_stays(self) -> None:
        scene = dataclasses.replace(self.scene, cutouts=(*self.scene.cutouts, cut("square", "red", x=0.8)))
        found = await checks(scene, "remove two squares")
        assert asked(found) == {"Is there exactly one square?"}
        assert "Is there exactly one blue circle?" in {check.question for check in found.kept}

    async def test_all_of_a_kind_are_another_kind_then(self) -> None:
        found = asked(await checks(self.scene, "all squares should be hearts"))
        assert {"Is the picture free of yellow squares?", "Are there exactly two yellow hearts?"} <= found

    async def test_one_letter_wrong_is_read_all_the_same(self) -> None:
        assert "Is the blue circle striped?" in asked(await checks(self.scene, "make the cirlce stripped"))


class TestUncheckedWords:
    SCENE = Scene(
        "white", (CutOut("star", "red", "plain", 0.3, 0.3, 0.1), CutOut("circle", "blue", "plain", 0.7, 0.7, 0.1))
    )

    @pytest.mark.parametrize(
        "said", ["make the star blue", "change the colour of the star to pink", "take away the star"]
    )
    async def test_an_instruction_that_is_asked_about_has_none(self, said: str) -> None:
        assert (await checks(self.SCENE, said)).unchecked == ()

    async def test_words_that_the_book_does_not_know_are_named(self) -> None:
        assert "glitter" in (await checks(self.SCENE, "paint the star blue with glitter")).unchecked

    async def test_a_clause_without_a_question_is_named(self) -> None:
        assert (await checks(self.SCENE, "make the star yellow and remove the text")).unchecked == ("remove", "text")
