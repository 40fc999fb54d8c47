"""The oracle against pictures whose scenes are known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mini.world import oracle, questions
from mini.world.raster import draw
from mini.world.sampling import Split, sample_pair, truths
from mini.world.scene import SHAPES, SHEETS, WORDS, CutOut, PrintedWord, Scene, Spec

SEEDS: dict[Split, int] = {"train": 101, "test": 102}


def _same(read: Scene, drawn: Scene) -> bool:
    """Whether all that has a name agrees, and every cut-out lies where it was put, to a hundredth of the side."""
    if read.sheet != drawn.sheet or len(read.cutouts) != len(drawn.cutouts):
        return False
    if (read.word and read.word.text) != (drawn.word and drawn.word.text):
        return False
    for cut in drawn.cutouts:
        nearest = min(read.cutouts, key=lambda c: (c.x - cut.x) ** 2 + (c.y - cut.y) ** 2)
        if (nearest.shape, nearest.color, nearest.fill, nearest.size) != (cut.shape, cut.color, cut.fill, cut.size):
            return False
        if max(abs(nearest.x - cut.x), abs(nearest.y - cut.y), abs(nearest.radius - cut.radius)) > 0.01:
            return False
    return True


def _true_of(spec: Spec, scene: Scene) -> bool:
    return all(questions.answer(query, scene) for query in truths(spec))


@pytest.mark.parametrize("split", ["train", "test"])
def test_reads_its_own_renders(split: Split) -> None:
    rng = np.random.default_rng(SEEDS[split])
    right = 0
    for _ in range(150):
        spec, scene = sample_pair(rng, split)
        read = oracle.read_scene(draw(scene))
        right += _same(read, scene) and _true_of(spec, read)
    assert right >= 149  # 0.99 of 150


@pytest.mark.parametrize(("side", "of_drawn", "of_resized"), [(192, 36, 28), (384, 38, 34), (512, 38, 38)])
def test_reads_pictures_of_other_sizes(side: int, of_drawn: int, of_resized: int) -> None:
    """Drawn at another size, and resized from the usual one; made smaller, a picture loses its finest patterns."""
    rng = np.random.default_rng(side)
    drawn = resized = 0
    for _ in range(40):
        _, scene = sample_pair(rng)
        drawn += _same(oracle.read_scene(draw(scene, side)), scene)
        resized += _same(oracle.read_scene(draw(scene).resize((side, side), Image.Resampling.LANCZOS)), scene)
    assert drawn >= of_drawn
    assert resized >= of_resized


def test_reads_a_picture_with_an_alpha_channel() -> None:
    scene = Scene("mint", (CutOut("heart", "pink", "dotted", 0.4, 0.5, 0.15),))
    assert _same(oracle.read_scene(draw(scene).convert("RGBA")), scene)


@pytest.mark.parametrize("sheet", SHEETS)
def test_an_empty_sheet(sheet: str) -> None:
    assert oracle.read_scene(draw(Scene(sheet, ()))) == Scene(sheet, ())


@pytest.mark.parametrize("text", WORDS)
def test_every_word_at_both_ends_of_the_sheet(text: str) -> None:
    for y in (0.08, 0.92):
        word = oracle.read_scene(draw(Scene("grey", (), PrintedWord(text, 0.45, y)))).word
        assert word is not None
        assert word.text == text
        assert abs(word.x - 0.45) < 0.02
        assert abs(word.y - y) < 0.03


def test_a_word_that_is_none_of_the_sheet_is_not_guessed() -> None:
    scene = Scene("white", (), PrintedWord("XYLOPHON", 0.5, 0.5))
    word = oracle.read_scene(draw(scene)).word
    assert word is not None
    assert word.text == "?"


# A clipped square is a narrower rectangle and half a disc is nearly a disc: these two are still told by their outline.
@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"circle", "square"}))
def test_a_clipped_shape_is_nothing_that_was_asked_for(shape: str) -> None:
    scene = Scene("white", (CutOut(shape, "red", "plain", 0.02, 0.5, 0.10),))
    read = oracle.read_scene(draw(scene))
    assert {cut.shape for cut in read.cutouts} == {"unknown"}
    question = f"Is there a red {shape}?"
    assert oracle.answers(draw(scene), [question]) == [False]


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"circle", "moon", "triangle"}))
def test_a_covered_shape_is_nothing_that_was_asked_for(shape: str) -> None:
    lower, upper = CutOut(shape, "red", "plain", 0.5, 0.5, 0.10), CutOut("circle", "blue", "plain", 0.57, 0.5, 0.09)
    read = oracle.read_scene(draw(Scene("white", (lower, upper))))
    assert {cut.shape for cut in read.cutouts if cut.color == "red"} == {"unknown"}
    assert [cut.shape for cut in read.cutouts if cut.color == "blue"] == ["circle"]


def test_answers_in_order() -> None:
    scene = Scene("sky", (CutOut("star", "orange", "striped", 0.3, 0.3, 0.15),))
    asked = ["Is the sheet sky?", "Is the star plain?", "Is the orange star large?", "Is the picture free of moons?"]
    assert oracle.answers(draw(scene), asked) == [True, False, True, True]


def test_a_question_outside_the_grammar_is_refused() -> None:
    with pytest.raises(ValueError, match="Is it nice"):
        oracle.answers(draw(Scene("sky", ())), ["Is it nice?"])
