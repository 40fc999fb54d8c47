"""The phrase book: what it reads in instructions, and which instruction mends a failed check."""

from __future__ import annotations

import numpy as np
import pytest

from mini.editor.edits import parse_edit
from mini.editor.sampling import sample_edit
from mini.editor.wording import say_edit
from mini.phrasebook.phrases import Counting, load_phrases
from mini.world import questions

MINI = load_phrases()


class TestPhrases:
    @pytest.mark.parametrize(
        ("question", "edit"),
        [
            ("Is the sheet mint?", "change sheet to mint"),
            ("Does the picture say HELLO?", "write HELLO"),
            ("Is the word at the top?", "move word to the top"),
            ("Is there an orange heart?", "add one orange heart"),
            ("Is the picture free of red moons?", "remove red moons"),
            ("Is the star blue?", "recolour star to blue"),
            ("Are all red stars large?", "resize red stars to large"),
            ("Is the moon larger than the star?", "resize moon to larger"),
            ("Are all moons striped?", "refill moons to striped"),
            ("Is the star at the left?", "move star to the left"),
            ("Are the red circles left of the star?", "move red circles left of star"),
            ("Is the star inside the blue square?", "move star inside blue square"),
        ],
    )
    def test_a_failed_check_of_cut_outs_becomes_an_edit_in_their_language(self, question: str, edit: str) -> None:
        clause = MINI.mend(question)
        assert not isinstance(clause, Counting)
        assert clause is not None
        assert clause.canonical == edit
        spec = parse_edit(edit)
        assert spec is not None
        assert str(spec) == edit
        assert all(questions.parse(check) is not None for _, check in clause.checks)

    @pytest.mark.parametrize(
        ("said", "edits"),
        [
            ("make the star blue", ["recolour star to blue"]),
            ("Remove the red moon.", ["remove red moon"]),
            ("add two small green circles at the left", ["add two small green circles at the left"]),
            (
                "make the star bigger and move the heart left of the moon",
                ["resize star to larger", "move heart left of moon"],
            ),
            (
                "paint the background sky-blue, then write open at the top",
                ["change sheet to sky", "write OPEN at the top"],
            ),
            ("turn the red circle into a blue star", ["replace red circle with blue star"]),
            (
                "recolour red star to blue; move moon above heart",
                ["recolour red star to blue", "move moon above heart"],
            ),
            ("erase the word", ["erase word"]),
        ],
    )
    def test_what_people_say_of_cut_outs_is_read(self, said: str, edits: list[str]) -> None:
        clauses = MINI.read(said)
        assert [clause.canonical for clause in clauses] == edits
        assert all(clause.known for clause in clauses)
        assert parse_edit(MINI.join(edits)) is not None

    def test_what_comes_into_the_picture_has_a_draft(self) -> None:
        [added] = MINI.read("draw a little stripy scarlet star at the left")
        assert added.draft == "one small red striped star at the left"
        assert MINI.read("add two blue hearts below the moon")[0].draft == "two blue hearts"
        assert MINI.read("remove the star")[0].draft == ""

    def test_a_place_before_the_name_is_a_place(self) -> None:
        said = {
            "paint the left star yellow": "recolour star at the left to yellow",
            "make the upper red moons bigger pls": "resize red moons at the top to larger",
            "remove the rightmost heart": "remove heart at the right",
            "put the left heart left of the moon": "move heart at the left left of moon",
        }
        for text, canonical in said.items():
            assert [clause.canonical for clause in MINI.read(text)] == [canonical]

    def test_ways_to_say_it(self) -> None:
        said = {
            "another blue circle please": "add one blue circle",
            "I'd like the circle to be green": "recolour circle to green",
            "can the star be bigger?": "resize star to larger",
            "get rid of the blue one": "remove blue shape",
            "make everything blue": "recolour shapes to blue",
            "the star should be red instead of blue": "recolour star to red",
            "change the red star's colour to blue": "recolour red star to blue",
            "recolor star blue": "recolour star to blue",
            "take away a star": "remove one star",
            "add the word JAZZ": "write JAZZ",
            "change star to heart": "replace star with heart",
            "the circle is too big": "resize circle to smaller",
            "make the star green and the moon red": "recolour star to green; recolour moon to red",
            "add a red star, a blue circle and a heart": "add one red star; add one blue circle; add one heart",
        }
        for text, canonical in said.items():
            assert MINI.join([clause.canonical for clause in MINI.read(text)]) == canonical

    def test_words_that_are_nearly_the_books_own_are_read_as_them(self) -> None:
        assert [clause.canonical for clause in MINI.read("remvoe the yelow traingle")] == ["remove yellow triangle"]
        [unknown] = MINI.read("make the heart sing")
        assert (unknown.canonical, unknown.known) == ("make the heart sing", False)

    def test_what_no_rule_knows_stays_as_it_was_said(self) -> None:
        [clause] = MINI.read("make it more cheerful and bright")
        assert (clause.canonical, clause.known) == ("make it more cheerful and bright", False)

    def test_numbers_are_mended_by_the_difference(self) -> None:
        counting = MINI.mend("Are there exactly three blue circles?")
        assert isinstance(counting, Counting)
        assert counting.wanted == 3
        assert counting.asks[:3] == (
            "Is the picture free of blue circles?",
            "Is there exactly one blue circle?",
            "Are there exactly two blue circles?",
        )
        assert counting.more[:2] == ("add one blue circle", "add two blue circles")
        assert all(parse_edit(text) is not None for text in (*counting.more[:6], *counting.fewer[:6]))
        assert all(questions.parse(ask) is not None for ask in counting.asks)


def test_human_wordings_of_cut_outs_are_read_rightly_or_not_at_all() -> None:
    """Of 300 sampled wordings at least 7 in 10 are read in full, and hardly any of them wrongly."""
    rng = np.random.default_rng(11)
    read = right = 0
    for _ in range(300):
        case = sample_edit(rng)
        said = say_edit(rng, case.spec, case.before)
        clauses = MINI.read(said.text)
        if all(clause.known for clause in clauses):
            read += 1
            right += parse_edit(MINI.join([clause.canonical for clause in clauses])) == case.spec
    assert read >= 0.7 * 300
    assert right >= 0.98 * read
