"""Checklists by rules: the request's own passages."""

from __future__ import annotations

import asyncio

import pytest

from evaluator.checklist import AS_A_WHOLE, CoveredChecklists
from evaluator.coverage import find_coverage, load_lexicon
from evaluator.passages import PassageWriter, write_checks
from redraft.errors import InputError


def fits(words: str) -> str:
    return f"Does the picture fit these words: {words}?"


@pytest.mark.parametrize(
    ("request_", "checks"),
    [
        ("a teapot", [("own_words", fits("teapot"))]),
        ("a red fox and two owls", [("own_words", fits("red fox")), ("counting", fits("two owls"))]),
        ("black and white photo, please", [("own_words", fits("black and white photo"))]),
        ("a turnip with no wheels", [("negation", fits("turnip with no wheels"))]),
        (
            "a sign that says '4 SALE'",
            [
                ("own_words", fits("sign that says '4 SALE'")),
                ("text_rendering", 'Can the text "4 SALE" be read in the picture?'),
            ],
        ),
    ],
)
def test_each_passage_is_a_check_in_the_users_own_words(request_: str, checks: list[tuple[str, str]]) -> None:
    assert [(check.key_point, check.question) for check in write_checks(request_)] == checks


@pytest.mark.parametrize(
    ("request_", "language"),
    [
        ('Three cats on a wall. They wear hats, and the wall says "NO".', "en"),
        ("eine rote Katze und zwei Hunde ohne Halsband", "de"),
        ("一只红色的猫和两只狗", "zh"),
    ],
)
def test_they_cover_every_word_of_the_request_and_invent_nothing(request_: str, language: str) -> None:
    lexicon = load_lexicon(language)
    coverage = find_coverage(request_, write_checks(request_, lexicon), lexicon)
    assert (coverage.uncovered, coverage.invented) == ((), ())


def make(request: str, most: int = 24) -> tuple[tuple[str, ...], tuple[str, ...]]:
    made = asyncio.run(CoveredChecklists(PassageWriter(lambda _: load_lexicon(), most))(request))
    return tuple(check.question for check in made.checks), made.warnings


def test_words_above_the_most_checks_are_asked_about_all_the_same() -> None:
    questions, warnings = make("a fox, an owl, a hare", most=2)
    assert questions == (fits("fox"), fits("owl"), fits("hare"))
    assert warnings == ()


def test_a_request_without_content_is_judged_as_a_whole_and_an_empty_one_is_refused() -> None:
    assert AS_A_WHOLE in make("please draw a picture")[1]
    with pytest.raises(InputError, match="empty"):
        make("  ")
