"""The phrase book on forty ordinary edits (mini/phrasebook/ordinary_edits.toml): what it reads, what it has the judge
asked, and what it says that the world does not have."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from evaluator.checklist import OVERALL
from evaluator.testing import FakeJudge
from evaluator.types import Check
from mini.editor.edits import parse_edit
from mini.editor.sampling import sample_edit
from mini.editor.wording import say_edit
from mini.phrasebook.checks import PhraseEditChecks
from mini.phrasebook.ordinary import OrdinaryEdit, load_ordinary_edits
from mini.phrasebook.phrases import load_phrases
from mini.phrasebook.planner import PhrasePlanner
from mini.world import questions
from mini.world.scene import CutOut, Scene
from redraft.errors import InputError
from rewriter.plan import Situation

EDITS = load_ordinary_edits()
READ = [edit for edit in EDITS if edit.reads]
LACKING = [edit for edit in EDITS if edit.lacks]
BLANK = Image.new("RGB", (8, 8))
MINI = load_phrases()


async def ask_for(says: str, scene: Scene) -> tuple[Check, ...]:
    """What the phrase book has the judge asked for, if the judge sees the picture as it is."""

    def see(image: Image.Image, request: str, check: Check) -> float:
        query = questions.parse(check.question)
        return float(query is not None and questions.answer(query, scene))

    return (await PhraseEditChecks(FakeJudge(see))(BLANK, says)).wanted


@pytest.mark.parametrize("edit", READ, ids=lambda edit: edit.says)
def test_it_is_read(edit: OrdinaryEdit) -> None:
    for says in (edit.says, edit.says.upper(), edit.says.title()):
        clauses = MINI.read(says)
        assert all(clause.known for clause in clauses)
        assert MINI.join([clause.canonical for clause in clauses]) == edit.reads
    assert parse_edit(edit.reads) is not None


@pytest.mark.parametrize("edit", LACKING, ids=lambda edit: edit.says)
async def test_what_the_world_does_not_have_is_refused_with_the_reason(edit: OrdinaryEdit) -> None:
    with pytest.raises(InputError, match=edit.lacks):
        await ask_for(edit.says, edit.scene)


async def test_at_least_36_of_the_40_have_a_main_check_that_the_judge_can_answer() -> None:
    answerable = []
    for edit in READ:
        main, *_ = await ask_for(edit.says, edit.scene)
        query = questions.parse(main.question)
        if query is None:
            assert main.key_point == OVERALL
        else:
            assert not questions.answer(query, edit.scene), f"{edit.says}: {main.question} before the edit"
            answerable.append(edit)
    assert len(EDITS) == 40
    assert len(answerable) >= 36


@pytest.mark.parametrize(
    ("says", "because"),
    [
        ("rotate the star", "turned"),
        ("make the star black", "black"),
        ("change the background to blue", "blue sheet"),
        ("put the star next to the circle", "places"),
        ("make the star red and zoom out", "zoom"),
    ],
)
def test_other_things_that_the_world_lacks_are_named(says: str, because: str) -> None:
    lack = MINI.find_lack(MINI.read(says))
    assert lack is not None
    assert because in lack


async def test_a_place_that_nobody_can_ask_about_is_a_question_without_an_answer() -> None:
    scene = Scene("mint", (CutOut("star", "red", "plain", 0.3, 0.3, 0.1),))
    wanted = [check.question for check in await ask_for("put a green moon in the middle", scene)]
    assert wanted == ["Is there exactly one green moon?", "Is the green moon in the middle?"]
    assert questions.parse(wanted[1]) is None


async def test_the_editor_is_told_in_its_own_words_what_it_was_not_trained_on() -> None:
    async def instruction(says: str) -> str:
        plan = await PhrasePlanner()(Situation(says, editing=True))
        return plan.steps[0].instruction

    assert await instruction("make them blue") == "recolour shapes to blue"
    assert await instruction("make the star blue") == "make the star blue"


def test_held_out_instructions_are_read_as_without_the_loose_patterns() -> None:
    strict = type(MINI)(MINI.book.model_copy(update={"loose": ()}))
    rng = np.random.default_rng(78)
    for _ in range(200):
        case = sample_edit(rng, "test")
        says = say_edit(rng, case.spec, case.before).text
        before, now = strict.read(says), MINI.read(says)
        if all(clause.known for clause in before):
            assert now == before
        elif now != before:
            assert parse_edit(MINI.join([clause.canonical for clause in now])) == case.spec
        assert MINI.find_lack(now) is None
