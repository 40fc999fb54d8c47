"""What the mini world says that it does not know."""

from __future__ import annotations

import numpy as np
import pytest

from evaluator.coverage import find_coverage
from evaluator.types import Check
from mini.judge.lexicon import load_lexicon
from mini.world.sampling import sample_scene, sample_spec
from mini.world.scope import CutoutScope, mend_slips
from mini.world.wording import say, slips, typo

SCOPE = CutoutScope()


def test_of_the_worlds_own_wordings_no_word_is_outside() -> None:
    """Held-out wordings, some with a slip of the finger, and each with one more."""
    rng = np.random.default_rng((5, 11))
    found = []
    while len(found) < 2000:
        spec = sample_spec(rng, "test")
        if sample_scene(rng, spec) is not None:
            found.append(say(rng, spec).text)
    assert [text for text in found if SCOPE.words_outside(text)] == []


@pytest.mark.parametrize(
    ("request_text", "outside"),
    [
        ("an astronaut on a horse, on mint paper", ("astronaut", "horse")),
        ("a panda", ("panda",)),
        ("a stop sign", ("stop", "sign")),
        ("a bird and a fish", ("bird", "fish")),
        ("love", ("love",)),
        ("an orange", ("orange",)),
        ("two lemons and a rose", ("lemons", "rose")),
        ("seven red stars", ("seven",)),
        ("four red stars and three blue circles", ("more than six things",)),
        ("six yellow squares and a pink cross", ("more than six things",)),
        ("5 brown triangles, 2 orange circles", ("more than six things",)),
        ("a dozen small moons", ("more than six things",)),
        ("a robin's egg", ("robin's", "egg")),
        ("ein roter Stern", ("ein", "roter", "stern")),
        ("一只猫", ("一只猫",)),
        ("a red star \N{PANDA FACE}", ("\N{PANDA FACE}",)),
        ("A Horse, a HORSE and a horse", ("horse",)),
    ],
)
def test_words_that_the_world_does_not_have(request_text: str, outside: tuple[str, ...]) -> None:
    assert SCOPE.words_outside(request_text) == outside


@pytest.mark.parametrize(
    "request_text",
    [
        "Two Red Stars",
        "half a dozen moons; the moons are above the sheet",
        "four stars, no hearts, a pair of circles. All four stars are red",
        "TWO RED STARS",
        "two\u00a0red\u202fstars",
        "two\tred\r\nstars",
        "\ufefftwo red stars",
        "two r\u200bed stars",
        "\uff54\uff57\uff4f red stars",
        "a plus sign and a love heart",
        "a lemon star, an orange and a rose moon",
        "a triangle that says BIRD",
        "the word “Fish” under a star",
        "Don\u2019t include any hearts, just a half-moon",
        "Could you draw two little scarlet stars over a big blue disc, on cream paper, but no hearts please?",
        "",
    ],
)
def test_what_the_world_has_in_any_spelling(request_text: str) -> None:
    assert SCOPE.words_outside(request_text) == ()


def test_a_slip_is_one_of_those_that_are_known() -> None:
    rng = np.random.default_rng(3)
    text = "three purple triangles"
    assert {typo(rng, text) for _ in range(300)} <= set(slips(text))


def test_as_large_as_is_nothing_that_the_world_knows() -> None:
    assert CutoutScope().words_outside("a purple triangle as large as a pink moon") == ("as large as",)
    assert CutoutScope().words_outside("the star should have the same colour as the moon") == ()


def test_slips_of_the_finger_are_mended() -> None:
    assert (
        mend_slips("there little five-pointed stars, two diaamonds") == "three little five-pointed stars, two diamonds"
    )
    assert mend_slips("there must be no stars") == "there must be no stars"


@pytest.mark.parametrize("request_text", ["hey can u draw me two blue hearts pls", "My kid would love a red star thx"])
def test_what_people_say_around_a_request_is_neither_outside_nor_unchecked(request_text: str) -> None:
    assert CutoutScope().words_outside(request_text) == ()
    assert CutoutScope().words_outside(f"draw my kid: {request_text}") != ()
    checks = (Check("counting", "Are there exactly two blue hearts?"), Check("attribute", "Is there a red star?"))
    assert find_coverage(request_text, checks, load_lexicon()).uncovered == ()
