"""Thoughts about pictures of mini, made by rule, the lessons of a listener, and its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluator.train.records import load_judgements
from mini.judge.listening import decide, list_states, measure, state_words, think, write
from mini.world import questions
from mini.world.scene import CutOut, Scene

SCENE = Scene(
    "mint",
    (
        CutOut("star", "red", "plain", 0.2, 0.3, 0.06),
        CutOut("circle", "blue", "striped", 0.7, 0.32, 0.15),
        CutOut("heart", "pink", "plain", 0.5, 0.8, 0.1),
    ),
)


@pytest.mark.parametrize(
    ("question", "agrees", "contradicts"),
    [
        ("Is the red star left of the blue circle?", {"the red star left of the blue circle"}, None),
        ("Is the red star smaller than the blue circle?", {"the red star smaller than the blue circle"}, None),
        ("Is there a green star?", {"there exactly zero green stars"}, {"there exactly one green star"}),
        ("Is the picture free of crosses?", {"there exactly zero crosses"}, {"there exactly one cross"}),
        ("Are there exactly two stars?", {"there exactly one star"}, {"there exactly two stars"}),
        ("Is the blue circle plain?", {"the blue circle striped"}, {"the blue circle plain"}),
        ("Is the sheet mint?", {"the sheet mint"}, None),
        ("Is the heart at the top?", {"the heart at the bottom"}, {"the heart at the top"}),
    ],
)
def test_a_thought_decides_the_question_one_way_or_the_other(
    question: str, agrees: set[str], contradicts: set[str] | None
) -> None:
    query = questions.parse(question)
    assert query is not None
    made = think(np.random.default_rng(0), SCENE, query)
    assert made is not None
    agreeing, contradicting, silent = (set(text.removesuffix(".").split(". ")) for text in made)
    assert agreeing - silent == agrees
    truth = questions.answer(query, SCENE)
    [turned] = contradicting - silent
    assert contradicts is None or {turned} == contradicts
    ways = {state_words(state): decide(state, query) for state in list_states(query)}
    assert {ways[words] for words in agrees} == {truth}
    assert ways[turned] != truth


def test_questions_without_an_opposite_are_left_out() -> None:
    inside = questions.parse("Is the red star inside the blue circle?")
    level = questions.parse("Is the star above the circle?")
    assert inside is not None
    assert level is not None
    assert think(np.random.default_rng(0), SCENE, inside) is None
    assert think(np.random.default_rng(0), SCENE, level) is None, "neither above nor below by enough"


def test_lessons_are_records_in_the_words_of_the_listener(tmp_path: Path) -> None:
    count = write(tmp_path, 10, seed=1)
    loaded = load_judgements([tmp_path], tmp_path / "spool")
    assert not loaded.bad
    assert len(loaded.records) == count > 15
    assert all(r.check.question.startswith("<thought>\n") for r in loaded.records)
    assert {r.picture.path.stem.endswith("_empty") for r in loaded.records} == {True, False}


def test_figures_are_those_counted_by_hand() -> None:
    rewards = np.array([[0.9, 0.8, 0.4, 0.7], [0.1, 0.8, 0.6, 0.2], [0.5, 0.5, 0.5, 0.5]])
    made = measure([rewards, rewards], [0, 0, 1, 2], resamples=30)
    agreeing, silent, contradicting, apart, area, caught, wrongly = (one.mean for one in made)
    assert (agreeing, silent, contradicting) == pytest.approx((0.7, 0.5, 0.425))
    assert apart == pytest.approx(2.5 / 4)
    assert area == pytest.approx(12.5 / 16)
    assert (caught, wrongly) == (0.5, 0.25)
    assert all(one.low is not None and one.low <= one.mean for one in made)
