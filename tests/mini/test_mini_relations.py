"""Relations of the mini world, read from the request by rules."""

from __future__ import annotations

import pytest

from eval_suites.benchmarks.cutouts import prompts
from evaluator.types import Check
from mini.judge.relations import mend_checks

STAR, CIRCLES = Check("attribute", "Is there a red star?"), Check("counting", "Are there exactly two blue circles?")
MOON = Check("attribute", "Is there a red moon?")
THINGS = (STAR, CIRCLES, MOON)


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("The starlet is over the discs.", "Is the red star above the blue circles?"),
        ("The crimson star is to the left of the azure circles", "Is the red star left of the blue circles?"),
        ("The circles must be bigger than the half-moon.", "Are the blue circles larger than the red moon?"),
        ("The star is wrapped around the crescent.", "Is the red moon inside the red star?"),
    ],
)
def test_a_relation_that_is_left_out_is_read_from_the_request(sentence: str, question: str) -> None:
    made = mend_checks(f"a red star, two blue circles and a red moon. {sentence}", THINGS)
    assert made[:-1] == THINGS
    assert made[-1].question == question


def test_a_relation_of_the_wrong_things_is_replaced() -> None:
    wrong = Check("entity_layout", "Is the red moon above the blue circles?")
    made = mend_checks("a red star, two blue circles and a red moon. The star is above the circles.", (*THINGS, wrong))
    assert wrong not in made
    assert made[-1].question == "Is the red star above the blue circles?"


def test_what_a_rule_cannot_tell_is_left_as_the_model_has_it() -> None:
    own = Check("entity_layout", "Is the red star above the blue circles?")
    assert mend_checks("a red star and two blue circles. It is above them.", (STAR, CIRCLES, own)) == (
        STAR,
        CIRCLES,
        own,
    )
    assert mend_checks("a red star, a moon: the red one is above the circles", THINGS) == THINGS


def test_where_words_are_printed_is_no_place_of_a_thing() -> None:
    made = mend_checks("a red star it should say 'TEA' at the top", (STAR,))
    assert [check.question for check in made[1:]] == ["Is the word at the top?"]
    made = mend_checks("a red star at the top, and two blue circles", (STAR, CIRCLES))
    assert made[-1].question == "Is the red star at the top?"


@pytest.mark.parametrize(
    ("request_text", "invented"),
    [
        ("two red circles and a plain blue one", "Is there a blue heart?"),
        ("A blue square. To the left of it two red hearts.", "Is the blue square left of the red hearts?"),
        ("four small stars around a large moon", "Is the moon inside the stars?"),
    ],
)
def test_checks_on_what_the_request_does_not_name_are_dropped(request_text: str, invented: str) -> None:
    things = (Check("counting", "Are there exactly four stars?"), Check("existence", "Is there a moon?"))
    made = mend_checks(request_text, (*things, Check("existence", invented)))
    assert invented not in {check.question for check in made}


@pytest.mark.parametrize(
    ("request_text", "question"),
    [
        (
            "a red star and two blue circles. The latter are left of the former.",
            "Are the blue circles left of the red star?",
        ),
        ("a red star and two blue circles. It is above them.", "Is the red star above the blue circles?"),
        (
            "a red star and two blue discs. The star is bigger than the circlees.",
            "Is the red star larger than the blue circles?",
        ),
        ("a red star and two blue circles with stripes near the top edge", "Are the blue circles at the top?"),
        (
            "a red star, two blue circles. The circles and the star share one colour.",
            "Do the blue circles and the red star have the same colour?",
        ),
        ("a red star, there blue circles", "Are there exactly three blue circles?"),
    ],
)
def test_what_else_is_read(request_text: str, question: str) -> None:
    assert question in {check.question for check in mend_checks(request_text, (STAR, CIRCLES))}


def test_of_several_things_that_a_name_fits_the_checklist_chooses_within_what_the_words_allow() -> None:
    stars = (Check("attribute", "Is there a red star?"), Check("attribute", "Is there a blue star?"), MOON)
    own = Check("entity_layout", "Is the blue star above the red moon?")
    wrong = Check("entity_layout", "Is the red moon above the red star?")
    made = mend_checks("a red star, a blue star and a red moon. The star is above the moon.", (*stars, own, wrong))
    assert made == (*stars, own)


@pytest.mark.parametrize(
    ("request_text", "questions"),
    [
        ("a red star + blue moon", ["Is there exactly one blue moon?"]),
        ("a red star. Above it there should be a pink cross", ["Is there a pink cross?"]),
        ("a red star, 3x blue heart", ["Are there exactly three blue hearts?"]),
        (
            "a red star, triangle (pink, large)",
            ["Is there exactly one pink triangle?", "Is the pink triangle large?"],
        ),
        ("a red star, no moons and not a heart", []),
        ("a red star and the word MOON", []),
        ("a red star with hearts", []),
        ("a red star as large as a moon", []),
        ("a red star and a red and blue heart", []),
    ],
)
def test_things_that_are_plainly_named_and_left_out_are_asked_about(request_text: str, questions: list[str]) -> None:
    assert [check.question for check in mend_checks(request_text, (STAR,))[1:]] == questions


def test_nothing_is_added_to_a_complete_checklist() -> None:
    for wording in prompts(300, 912):
        checks = tuple(Check(*check) for check in wording.checks)
        assert mend_checks(wording.text, checks) == checks, wording.text
