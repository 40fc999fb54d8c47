"""The grammar of questions and its rules."""

from __future__ import annotations

import numpy as np
import pytest

from mini.judge.questioning import ask
from mini.world import questions
from mini.world.questions import Noun, Query, parse
from mini.world.sampling import sample_pair, truths
from mini.world.scene import COLORS, FILLS, PLACES, RELATIONS, SHAPES, SHEETS, SIZES, WORDS, CutOut, PrintedWord, Scene

KINDS = {
    "exists", "count", "size", "fill", "color", "place", *RELATIONS, "absent", "word", "word_place", "sheet",
}  # fmt: skip

SHEET = Scene(
    "cream",
    (
        CutOut("circle", "red", "plain", 0.20, 0.20, 0.15),
        CutOut("star", "blue", "striped", 0.24, 0.20, 0.06),  # inside the red circle
        CutOut("star", "green", "dotted", 0.50, 0.80, 0.10),
        CutOut("moon", "red", "striped", 0.80, 0.75, 0.10),
        CutOut("moon", "red", "dotted", 0.75, 0.30, 0.06),
    ),
    PrintedWord("TEA", 0.5, 0.1),
)
ANSWERS = {
    # exists, absent: a thing, a thing of a colour, anything of a colour
    "Is there a star?": True,
    "Is there a green star?": True,
    "Is there a red star?": False,
    "Is there an orange star?": False,
    "Is there a blue shape?": True,
    "Is the picture free of hearts?": True,
    "Is the picture free of red moons?": False,
    "Is the picture free of blue moons?": True,
    "Is the picture free of pink shapes?": True,
    "Is the picture free of red shapes?": False,
    # count: exactly as many
    "Is there exactly one circle?": True,
    "Is there exactly one moon?": False,
    "Are there exactly two moons?": True,
    "Are there exactly two red moons?": True,
    "Are there exactly three red shapes?": True,
    "Are there exactly two hearts?": False,
    # size, fill, colour, place: all of several, and false of what is not there
    "Is the circle large?": True,
    "Is the circle medium?": False,
    "Is the blue star small?": True,
    "Are all stars small?": False,
    "Is the heart small?": False,
    "Is the circle plain?": True,
    "Are all moons striped?": False,
    "Is the green star dotted?": True,
    "Are all moons red?": True,
    "Are all stars blue?": False,
    "Is the heart red?": False,
    "Is the circle at the left?": True,
    "Is the circle at the right?": False,
    "Are the moons at the right?": True,
    "Are the moons at the bottom?": False,
    "Is the green star at the bottom?": True,
    "Is the green star at the left?": False,  # in the middle: at no side
    "Is the green star at the right?": False,
    "Is the heart at the left?": False,
    # relations: each of the first to each of the second
    "Is the circle left of the green star?": True,
    "Is the green star left of the circle?": False,
    "Are the stars left of the moons?": True,
    "Is the green star right of the circle?": True,
    "Are the stars right of the circle?": True,
    "Are the stars right of the moons?": False,
    "Is the circle above the green star?": True,
    "Are the moons above the green star?": True,
    "Are the moons above the circle?": False,
    "Is the green star below the circle?": True,
    "Are the stars below the circle?": False,
    "Is the heart left of the circle?": False,
    "Is the circle left of the heart?": False,
    "Is the blue star inside the circle?": True,
    "Are the stars inside the circle?": False,
    "Is the circle inside the blue star?": False,
    "Is the circle larger than the green star?": True,
    "Is the circle larger than the moons?": True,
    "Are the moons larger than the blue star?": False,
    "Is the blue star smaller than the green star?": True,
    "Are the moons smaller than the green star?": False,
    "Do the circle and the moons have the same colour?": True,
    "Do the circle and the stars have the same colour?": False,
    "Do the circle and the heart have the same colour?": False,
    # word and sheet
    "Does the picture say TEA?": True,
    "Does the picture say ZOO?": False,
    "Is the word at the top?": True,
    "Is the word at the bottom?": False,
    "Is the sheet cream?": True,
    "Is the sheet lilac?": False,
}
NONSENSE = (
    "",
    "Is there a dog?",
    "Is there a teal star?",
    "Is there a red red star?",
    "Are there exactly nine stars?",
    "Are there exactly some stars?",
    "Is the star beautiful?",
    "Is the star at the middle?",
    "Is the star beside the moon?",
    "Is the star left of the dog?",
    "Do the star and the dog have the same colour?",
    "Does the picture say WORLD?",
    "Does the picture say tea?",
    "Is the word at the left?",
    "Is the sheet black?",
    "Is there a star",
    "is there a star?",
    "Is there a star? Is there a moon?",
    "What shape is red?",
)


@pytest.mark.parametrize(("question", "truth"), ANSWERS.items())
def test_answers_by_hand(question: str, truth: bool) -> None:
    query = parse(question)
    assert query is not None
    assert questions.answer(query, SHEET) is truth


def test_the_answers_by_hand_are_of_every_kind_and_both_ways() -> None:
    given = {(query.kind, truth) for q, truth in ANSWERS.items() if (query := parse(q)) is not None}
    assert given == {(kind, truth) for kind in KINDS for truth in (True, False)}


@pytest.mark.parametrize("question", NONSENSE)
def test_what_is_no_question_of_the_grammar_is_none(question: str) -> None:
    assert parse(question) is None


def test_blanks_around_a_question_do_not_matter() -> None:
    assert parse("  Is there a star?\n") == Query("exists", Noun("star"))


def test_without_a_word_nothing_is_said_of_it() -> None:
    silent = Scene("cream", ())
    asked = ["Does the picture say TEA?", "Is the word at the top?", "Is the word at the bottom?"]
    assert not any(questions.answer(query, silent) for q in asked if (query := parse(q)) is not None)


def test_a_shape_is_not_inside_itself() -> None:
    alone = Scene("cream", (CutOut("star", "blue", "plain", 0.5, 0.5, 0.1),))
    assert not questions.answer(Query("inside", Noun("star"), Noun("star", "blue")), alone)


def test_every_noun_phrase_is_read_back() -> None:
    for shape in (*SHAPES, "shape"):
        for color in (None, *COLORS):
            for many in (False, True):
                noun = Noun(shape, color, many)
                asked = Query("absent", noun)
                assert parse(str(asked)) == asked


def test_every_value_is_read_back() -> None:
    star = Noun("star", "red")
    values = {
        "size": SIZES, "fill": FILLS, "place": PLACES, "word": WORDS, "sheet": tuple(SHEETS),
        "word_place": ("top", "bottom"),
    }  # fmt: skip
    for kind, options in values.items():
        for value in options:
            asked = Query(kind, None if kind in ("word", "sheet", "word_place") else star, value=value)
            assert parse(str(asked)) == asked
    for color in COLORS:
        for many in (False, True):
            asked = Query("color", Noun("star", None, many), value=color)
            assert parse(str(asked)) == asked


def test_what_specs_and_trainings_ask_is_read_back() -> None:
    rng = np.random.default_rng(201)
    kinds = set()
    for i in range(300):
        spec, scene = sample_pair(rng, "train" if i % 2 else "test")
        for query in [*truths(spec), *(ask(rng, scene)[0] for _ in range(8))]:
            assert parse(str(query)) == query
            kinds.add(query.kind)
    assert kinds == KINDS


def test_what_trainings_ask_is_answered_right_and_about_half_is_yes() -> None:
    rng = np.random.default_rng(202)
    truths_ = []
    for _ in range(150):
        _, scene = sample_pair(rng)
        for _ in range(10):
            query, truth = ask(rng, scene)
            assert questions.answer(query, scene) is truth
            truths_.append(truth)
    assert 0.4 < np.mean(truths_) < 0.6


def test_questions_of_an_empty_sheet() -> None:
    rng = np.random.default_rng(203)
    for _ in range(50):
        query, truth = ask(rng, Scene("white", ()))
        assert questions.answer(query, Scene("white", ())) is truth
