"""Which words of a request a checklist asks about: by hand, and for any request."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluator.coverage import Coverage, Lexicon, Mention, find_coverage, load_lexicon
from evaluator.types import Check

SYNONYMS = {
    "circle": ("disc", "disk", "round"),
    "moon": ("crescent", "half-moon"),
    "red": ("crimson", "scarlet"),
    "2": ("two", "a pair of", "a couple of"),
    "left": ("to the left of", "on the left side of"),
}


def cover(request: str, *questions: str, language: str = "en", lexicon: Lexicon | None = None) -> Coverage:
    checks = [Check("any", question) for question in questions]
    return find_coverage(request, checks, lexicon or load_lexicon(language))


def test_words_that_nobody_asks_about_are_left_over() -> None:
    coverage = cover("a red star between two blue circles", "Is there a red star?")
    assert coverage.covered == ("red", "star")
    assert coverage.uncovered == ("between", "two", "blue", "circles")
    assert coverage.uncovered_phrases == ("between two blue circles",)
    assert list(coverage.anchored_by.values()) == [("red", "star")]
    assert not coverage.complete
    assert not coverage.invented


def test_a_check_without_a_word_of_the_request_is_invented_and_covers_nothing() -> None:
    coverage = cover("a panda", "Is there a purple cross?", "Is there a panda?")
    assert [check.question for check in coverage.invented] == ["Is there a purple cross?"]
    assert coverage.complete
    assert cover("Two Red Stars", "Are there exactly two diamonds?").covered == (), "a number alone is no anchor"
    assert cover("Two Red Stars", "Are there exactly two?").covered == ("Two",), "but it may be asked about alone"


@pytest.mark.parametrize(
    ("request_", "questions", "uncovered"),
    [
        ("TWO RED\u00a0STARS", ["Are there exactly two red stars?"], ()),
        ("2 red stars", ["Are there exactly two red stars?"], ()),
        ("12 men and a dozen mice", ["Are there twelve men?", "Is there a mouse?"], ("dozen",)),
        ("no scallions in the soup", ["Is there a soup?", "Are there scallions?"], ("no",)),
        ("no scallions in the soup", ["Is the soup free of scallions?"], ()),
        ("a dog that isn't barking", ["Is the dog barking?"], ("isn't",)),
        ('a sign that says "OPEN late"', ["Is there a sign?", "Does it say “Open Late”?"], ()),
        ('a sign that says "OPEN late"', ["Is there a sign that says open?"], ("OPEN late",)),
        ("a fox, watercolour, --ar 16:9 <lora:fox:0.8> (moody:1.2)", ["Is it a moody watercolour of a fox?"], ()),
        ("the panda's hat", ["Does the panda wear a hat?"], ()),
        ("the moon left of the leaves", ["Are there leaves?", "Is there a moon?"], ("left",)),
        ("the scaarlet cirle", ["Is the circle scarlet?"], ()),
        ("the house", ["Is there a horse?"], ("house",)),
        ("a cat left of a dog and a fox left of a hen", ["Is the cat left of the dog?", "Is the fox left of the hen?"], ()),
        ("a cat left of a dog and a fox left of a hen", ["Is the cat left of the dog?", "Is there a fox and a hen?"],
         ("left",)),
        # A trait that is said of two things is asked about twice, or of all.
        ("two red stars and two blue circles", ["Are there two red stars?", "Is there a blue circle?"], ("two",)),
        ("two red stars and two blue circles", ["Are there two red stars?", "Are there two blue circles?"], ()),
        ("a red hat and a red scarf", ["Is the hat red?", "Is there a scarf?"], ("red",)),
        ("a red hat and a red scarf", ["Is there a hat?", "Is there a scarf?", "Are both red?"], ()),
        ("a red hat and a red scarf", ["Are all hats red?", "Is there a scarf?"], ("red",)),
        ("a warrior wombat with a sword. The wombat stands in mist.",
         ["Is there a warrior wombat?", "Is there a sword?", "Does it stand in mist?"], ()),
    ],
)  # fmt: skip
def test_english(request_: str, questions: list[str], uncovered: tuple[str, ...]) -> None:
    assert cover(request_, *questions).uncovered == uncovered


@pytest.mark.parametrize(
    ("language", "request_", "question", "uncovered"),
    [
        ("de", "zwei rote Sterne zwischen blauen Kreisen", "Gibt es genau 2 rote Sterne?",
         ("zwischen", "blauen", "Kreisen")),
        ("fr", "l'ours brun sans chapeau", "Y a-t-il un ours brun ?", ("sans", "chapeau")),
        ("es", "tres gatos negros", "¿Hay exactamente 3 gatos?", ("negros",)),
        ("ru", "две красные звезды под луной", "Есть ли две звезды?", ("красные", "под", "луной")),
        ("zh", "两只红色的猫在桌子上", "是否恰好有两只红色的猫？", ("桌子上",)),
        ("ja", "赤い星と青い丸", "赤い星がありますか？", ("青い丸",)),
        ("th", "แมวสีแดงสองตัว", "มีแมวไหม", ("สีแดงสองตัว",)),
        ("ko", "빨간 별과 파란 원", "빨간 별이 있나요?", ("파란", "원")),
        ("xx", "blorp zad", "Blorp?", ("zad",)),
    ],
)  # fmt: skip
def test_other_languages(language: str, request_: str, question: str, uncovered: tuple[str, ...]) -> None:
    coverage = cover(request_, question, language=language)
    assert coverage.uncovered == uncovered
    assert not coverage.invented


def test_a_check_in_another_script_covers_nothing_but_is_not_called_invented() -> None:
    coverage = cover("一只熊猫", "Is there a panda?", language="zh")
    assert "".join(coverage.uncovered).endswith("熊猫")
    assert not coverage.invented


def test_synonyms_of_a_style_count() -> None:
    lexicon = load_lexicon().extended(SYNONYMS)
    request = "a pair of crimson discs to the left of a half-moon"
    coverage = cover(request, "Are there exactly two red circles?", "Is the circle left of the moon?", lexicon=lexicon)
    assert coverage.complete
    assert coverage.covered == ("a pair of", "crimson", "discs", "to the left of", "half-moon")
    assert cover("a scarlet disc", "Is there a blue circle?", lexicon=lexicon).uncovered == ("scarlet",)
    assert not cover("a scarlet disc", "Is there a red circle?").covered, "without the table they are other words"


def test_phrases_that_ask_for_nothing_are_no_content() -> None:
    request = "Hello! I was thinking of a red star, for my aunt's birthday. That's all, thank you so much!"
    assert cover(request, "Is there a red star?").uncovered == ("aunt's", "birthday")
    lexicon = load_lexicon().extended(fillers=["for my aunt's birthday"])
    assert cover(request, "Is there a red star?", lexicon=lexicon).complete


def test_readers_of_the_guard_can_be_handed_in() -> None:
    def read_colours(text: str) -> list[Mention]:
        at = text.find("verdigris")
        return [Mention(at, at + len("verdigris"), "green")] if at >= 0 else []

    def read_green(text: str) -> list[Mention]:
        at = text.find("green")
        return [Mention(at, at + len("green"), "green")] if at >= 0 else []

    lexicon = load_lexicon().extended(readers=[read_colours, read_green])
    assert cover("a verdigris roof", "Is the roof green?", lexicon=lexicon).complete


def test_an_empty_checklist_covers_nothing_and_an_empty_request_wants_nothing() -> None:
    assert cover("a red star").uncovered == ("red", "star")
    assert cover("the picture of a", "Is there a star?").complete


_WORDS = (
    """a|the|red|blue|star|stars|two|3|no|without|between|of|and|in|'x'|"big sign"|panda|circles,|fox.|left|猫|红色的"""
)
WORDS = st.sampled_from(_WORDS.split("|"))
REQUESTS = st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=60)
QUESTIONS = st.lists(st.lists(WORDS, max_size=6).map(lambda words: f"Is there {' '.join(words)}?"), max_size=4)


@settings(max_examples=300, deadline=None)
@given(REQUESTS)
@example("\u0e33")  # a vowel that folding takes apart
@example("\u0e19\u0e49\u0e33")
def test_a_question_that_quotes_the_whole_request_covers_it(request_: str) -> None:
    coverage = cover(request_, f"Does the picture show: {request_}?")
    assert coverage.complete
    assert bool(coverage.covered) or not cover(request_).uncovered
    assert not (coverage.covered and coverage.invented)


@settings(max_examples=300, deadline=None)
@given(REQUESTS, QUESTIONS, QUESTIONS)
def test_more_checks_never_cover_less_and_their_order_does_not_matter(
    request_: str, some: list[str], more: list[str]
) -> None:
    few, many = cover(request_, *some), cover(request_, *some, *more)
    assert set(few.covered) <= set(many.covered)
    assert set(many.uncovered) <= set(few.uncovered)
    turned = cover(request_, *reversed([*some, *more]))
    assert (turned.covered, turned.uncovered) == (many.covered, many.uncovered)
    assert set(many.covered) | set(many.uncovered) == set(cover(request_).uncovered) | set(many.covered)


@settings(max_examples=300, deadline=None)
@given(REQUESTS, QUESTIONS)
def test_only_checks_with_an_anchor_cover(request_: str, questions: list[str]) -> None:
    coverage = cover(request_, *questions)
    anchors = {
        word for check, words in coverage.anchored_by.items() if check not in coverage.invented for word in words
    }
    assert set(coverage.covered) <= anchors
    assert set(coverage.invented) <= set(coverage.anchored_by)
    without = find_coverage(request_, [check for check in coverage.anchored_by if check not in coverage.invented])
    assert (without.covered, without.uncovered) == (coverage.covered, coverage.uncovered)
