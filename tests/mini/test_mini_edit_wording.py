"""How people ask for edits."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mini.editor.edits import EditSpec, parse_edit
from mini.editor.layout import EditCase
from mini.editor.sampling import sample_edit
from mini.editor.wording import EditWording, say_edit
from mini.world import synonyms
from mini.world.scene import COLORS, CutOut, PrintedWord, Scene

BEFORE = Scene(
    "sky",
    (
        CutOut("star", "red", "plain", 0.2, 0.3, 0.1),
        CutOut("heart", "pink", "striped", 0.7, 0.3, 0.1),
        CutOut("circle", "green", "plain", 0.25, 0.75, 0.06),
        CutOut("circle", "green", "dotted", 0.5, 0.7, 0.1),
    ),
    PrintedWord("TEA", 0.5, 0.1),
)
WRONG = re.compile(r"  |\.\.| \.|,,|\bthe the\b|\ball all\b|\bof of\b|\ba [aeio]|None|them should")


def _said(text: str, times: int = 200, before: Scene = BEFORE) -> list[EditWording]:
    spec = parse_edit(text)
    assert isinstance(spec, EditSpec)
    rng = np.random.default_rng(810)
    return [say_edit(rng, spec, before) for _ in range(times)]


@pytest.fixture(scope="module")
def cases() -> list[tuple[EditCase, EditWording]]:
    rng = np.random.default_rng(811)
    made = []
    for _ in range(400):
        case = sample_edit(rng)
        made.append((case, say_edit(rng, case.spec, case.before)))
    return made


def test_the_canonical_text_says_the_same(cases: list[tuple[EditCase, EditWording]]) -> None:
    for case, said in cases:
        assert said.spec == case.spec
        assert parse_edit(said.canonical) == case.spec
        assert said.text.strip() == said.text
        assert not re.search(r"  |\.\.| \.|,,|\bthe the\b|\ball all\b|\ba [aeio]|None|them should", said.text), (
            said.text
        )


def test_people_do_not_speak_the_canonical_language(cases: list[tuple[EditCase, EditWording]]) -> None:
    assert sum(parse_edit(said.text) is not None for _, said in cases) < len(cases) / 50
    assert len({said.text for _, said in cases}) == len(cases)


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("recolour star to blue", ["make the star blue instead", "should be", "paint", "change the colo"]),
        ("refill heart to plain", ["no stripes on the", "without stripes", "solid", "take the pattern off"]),
        ("refill heart to dotted", ["with spots", "polka dots on the", "give the"]),
        ("remove star", ["get rid of", "no star", "I don't want", "delete"]),
        ("remove one circle", ["one of the"]),
        ("remove two circles", ["the two", "a pair of the", "2 of the", "the couple of"]),
        ("remove circles", ["all the circles", "every one of the", "there should be no circles"]),
        ("replace star with pink moon", ["instead of the star", "into a", "swap the star for a", "crescent"]),
        ("resize star to larger", ["enlarge", "bigger", "scale the star up"]),
        ("resize star to small", ["tiny", "little"]),
        ("move star left of heart", ["to the left of the heart", "so that it is", "put the star"]),
        ("move star to the bottom", ["down at the bottom", "move the star to the bottom", "in the lower part"]),
        ("add one moon", ["another moon", "also", "a single", "include"]),
        ("write ZOO", ['"ZOO"', "“ZOO”", "should say"]),
        ("erase word", ["remove the", "no text, please"]),
        ("move word to the bottom", ["to the bottom", "near the bottom edge"]),
        ("change sheet to mint", ["background", "pale green", "paper"]),
        ("recolour star to blue; refill star to dotted", ["it", "blue and", "and dotted", "spots"]),
    ],
)
def test_ways_of_saying(text: str, ways: list[str]) -> None:
    texts = [said.text for said in _said(text)]
    for way in ways:
        assert any(way in each for each in texts), way


def test_no_stripes_only_where_there_are_stripes() -> None:
    dotted = Scene("sky", (CutOut("heart", "pink", "dotted", 0.7, 0.3, 0.1),))
    for said in _said("refill heart to plain", before=dotted):
        assert "stripes" not in said.text
        assert "bands" not in said.text


def test_pronouns_mean_the_thing_before() -> None:
    """Only where the sub-task before speaks of the same cut-outs, and in the number of those."""
    same = [said.text for said in _said("recolour star to blue; move star to the bottom")]
    assert sum(bool(re.search(r"\bit\b", text)) for text in same) > len(same) / 3
    several = [said.text for said in _said("recolour circles to blue; refill circles to striped")]
    assert any(re.search(r"\b(them|they)\b", text) for text in several)
    other = [said.text.replace("as it is", "") for said in _said("recolour star to blue; refill heart to plain")]
    assert not any(re.search(r"\b(it|them|they)\b", text) for text in other)


def test_politeness_and_typos() -> None:
    texts = [said.text for said in _said("recolour star to blue", 400)]
    assert any(re.search("please", text, re.IGNORECASE) for text in texts)
    assert any(text.endswith("Leave the rest as it is.") for text in texts)
    names = {name for options in (*synonyms.SHAPES.values(), *synonyms.COLORS.values()) for name in options}
    known = set(re.findall(r"[a-z]+", " ".join([*names, *COLORS])))
    words = [word for text in texts for word in re.findall(r"[a-z]+", text.lower())]
    assert sum(word not in known and word.startswith("sta") for word in words) < 20
    assert len(set(words)) > 60


def test_the_thought_names_what_is_meant() -> None:
    [said] = _said("remove two circles; add one moon", 1)
    assert "small green plain circle; medium green dotted circle" in said.thought
    assert "2. add" in said.thought


def test_the_same_seed_the_same_words() -> None:
    assert _said("remove star; write ZOO") == _said("remove star; write ZOO")
