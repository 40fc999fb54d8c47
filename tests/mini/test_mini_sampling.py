"""Specs and scenes: they fit together, nothing overlaps, and what is held out stays out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mini.judge.questioning import GRID, MIDDLING, ask, mess, patch_labels
from mini.world import questions
from mini.world.captions import caption
from mini.world.questions import Query
from mini.world.raster import REACH, draw
from mini.world.sampling import Split, resolve, sample_pair, sample_scene, truths
from mini.world.scene import (
    COLORS,
    MAX_CUTOUTS,
    RELATIONS,
    SHAPES,
    SHEETS,
    SIZE_EDGES,
    WORDS,
    CutOut,
    Group,
    PrintedWord,
    Relation,
    Scene,
    Spec,
    held_out,
)
from mini.world.wording import turned

Pair = tuple[Spec, Scene]


@pytest.fixture(scope="module")
def train() -> list[Pair]:
    rng = np.random.default_rng(301)
    return [sample_pair(rng) for _ in range(3000)]


@pytest.fixture(scope="module")
def test() -> list[Pair]:
    rng = np.random.default_rng(302)
    return [sample_pair(rng, "test") for _ in range(600)]


def _triples_of(spec: Spec) -> set[tuple[str, str, str]]:
    plain = resolve(spec)
    named = [(r.kind, plain.groups[r.a].color, plain.groups[r.a].shape) for r in spec.relations]
    return {(kind, color, shape) for kind, color, shape in named if color is not None}


def _from_the_other_side(spec: Spec) -> Spec:
    turns = [turn for r in spec.relations if (turn := turned(r)) is not None]
    return replace(spec, relations=tuple(turns), groups=resolve(spec).groups)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_same_seed_makes_the_same_world(split: Split) -> None:
    one, two = np.random.default_rng(303), np.random.default_rng(303)
    other = np.random.default_rng(304)
    first = [sample_pair(one, split) for _ in range(20)]
    assert first == [sample_pair(two, split) for _ in range(20)]
    assert first != [sample_pair(other, split) for _ in range(20)]


def test_every_scene_is_as_its_spec_asks(train: list[Pair], test: list[Pair]) -> None:
    for spec, scene in train + test:
        assert all(questions.answer(query, scene) for query in truths(spec)), (spec, scene)
        assert len(scene.cutouts) == sum(group.count for group in spec.groups) <= MAX_CUTOUTS
        assert (scene.word is None) == (spec.word is None)


def test_specs_differ_widely(train: list[Pair]) -> None:
    groups = [group for spec, _ in train for group in spec.groups]
    assert {group.shape for group in groups} == set(SHAPES)
    assert {group.color for group in groups} == {*COLORS, None}
    assert {group.count for group in groups} == set(range(1, MAX_CUTOUTS + 1))
    assert {r.kind for spec, _ in train for r in spec.relations} == set(RELATIONS)
    assert {spec.sheet for spec, _ in train} == {*SHEETS, None}
    assert {spec.word for spec, _ in train} == {*WORDS, None}
    assert len({caption(spec) for spec, _ in train}) > 0.9 * len(train)


def _overlap(a: CutOut, b: CutOut) -> bool:
    """By the circles around them; one may lie inside the other only as a small one in a container."""
    apart = (a.x - b.x) ** 2 + (a.y - b.y) ** 2
    if apart >= (REACH[a.shape] * a.radius + REACH[b.shape] * b.radius) ** 2:
        return False
    outer, inner = (a, b) if a.radius > b.radius else (b, a)
    return not questions.answer(
        Query("inside", questions.Noun(inner.shape, inner.color), questions.Noun(outer.shape, outer.color)),
        Scene("white", (outer, inner)),
    )


def test_nothing_overlaps_or_leaves_the_sheet(train: list[Pair], test: list[Pair]) -> None:
    for _, scene in train + test:
        for i, a in enumerate(scene.cutouts):
            assert a.radius <= min(a.x, a.y, 1 - a.x, 1 - a.y)
            assert not any(_overlap(a, b) for b in scene.cutouts[i + 1 :])
            # A size must be told from the picture, half a pixel of blur or not.
            assert all(abs(a.radius - edge) > 0.004 for edge in SIZE_EDGES)


def test_a_word_lies_on_bare_paper(train: list[Pair]) -> None:
    worded = [scene for _, scene in train if scene.word is not None][:150]
    for scene in worded:
        assert scene.word is not None
        top = scene.word.y < 0.5
        assert all(cut.y - cut.radius > 0.16 if top else cut.y + cut.radius < 0.84 for cut in scene.cutouts)


def test_training_asks_for_no_held_out_triple(train: list[Pair]) -> None:
    for spec, _ in train:
        assert not any(held_out(*triple) for triple in _triples_of(spec) | _triples_of(_from_the_other_side(spec)))


def test_tests_ask_for_at_least_one(test: list[Pair]) -> None:
    for spec, _ in test:
        assert any(held_out(*triple) for triple in _triples_of(spec) | _triples_of(_from_the_other_side(spec)))


def test_some_triples_are_held_out_and_most_are_not() -> None:
    triples = [(kind, color, shape) for kind in RELATIONS for color in COLORS for shape in SHAPES]
    share = sum(held_out(*triple) for triple in triples) / len(triples)
    assert 0.08 < share < 0.22


def test_training_asks_of_pictures_no_held_out_question(train: list[Pair]) -> None:
    rng = np.random.default_rng(305)
    for _, scene in train[:800]:
        for _ in range(5):
            query, _ = ask(rng, scene)
            if query.kind in RELATIONS and query.noun is not None and query.noun.color is not None:
                assert not held_out(query.kind, query.noun.color, query.noun.shape)


def test_a_mess_is_no_spec_any_more(train: list[Pair]) -> None:
    rng = np.random.default_rng(306)
    changed = 0
    for _, scene in train[:400]:
        messy = mess(rng, scene)
        assert len(messy.cutouts) <= MAX_CUTOUTS
        assert (messy.sheet, messy.word) == (scene.sheet, scene.word)
        changed += messy != scene
    assert changed > 350


def test_the_same_colour_is_asked_for_by_name_in_the_end() -> None:
    spec = Spec((Group(1, "star"), Group(2, "moon", "pink")), (Relation("same_color", 0, 1), Relation("left", 0, 1)))
    plain = resolve(spec)
    assert plain.groups[0].color == "pink"
    assert plain.relations == (Relation("left", 0, 1),)
    assert resolve(plain) == plain
    asked = [str(query) for query in truths(spec)]
    assert asked == [
        "Is there a star?",
        "Are there exactly two pink moons?",
        "Do the star and the pink moons have the same colour?",
        "Is the star left of the pink moons?",
    ]


def test_what_has_no_layout_has_no_scene() -> None:
    rng = np.random.default_rng(307)
    spec = Spec((Group(1, "star", "red"), Group(1, "circle", "blue")), (Relation("inside", 0, 1),))
    assert sample_scene(rng, spec) is not None
    narrow = replace(spec, groups=(spec.groups[0], Group(1, "cross", "blue")))
    assert sample_scene(rng, narrow) is None
    circular = replace(spec, relations=(Relation("larger", 0, 1), Relation("larger", 1, 0)))
    assert sample_scene(rng, circular) is None


def test_smaller_cutouts_lie_on_top() -> None:
    large, small = CutOut("square", "red", "plain", 0.5, 0.5, 0.16), CutOut("circle", "blue", "plain", 0.5, 0.5, 0.06)
    for cutouts in ((large, small), (small, large)):
        assert draw(Scene("white", cutouts)).getpixel((128, 128)) == COLORS["blue"]


@pytest.mark.parametrize("side", [96, 256, 300])
def test_a_picture_is_square_and_rgb(side: int) -> None:
    image = draw(Scene("sky", (CutOut("star", "red", "dotted", 0.5, 0.5, 0.1),), PrintedWord("TEA", 0.5, 0.1)), side)
    assert image.size == (side, side)
    assert image.mode == "RGB"


def test_cutouts_may_reach_over_the_edge() -> None:
    """A generator that has not learnt its bounds draws such scenes."""
    scene = Scene(
        "sky", (CutOut("star", "red", "dotted", -0.2, 1.3, 0.5), CutOut("moon", "red", "striped", 1, 1, 0.02))
    )
    assert draw(scene).size == (256, 256)


def test_patches_are_labelled_with_what_lies_in_them() -> None:
    cut = CutOut("square", "blue", "striped", 0.5 + 0.5 / GRID, 0.5 + 0.5 / GRID, 0.17)
    labels = patch_labels(Scene("mint", (cut,), PrintedWord("ZOO", 0.5, 0.1)))
    here = (GRID // 2) * GRID + GRID // 2  # the middle of the square is the middle of this patch
    assert labels.thing[here] == 1 + SHAPES.index("square")
    assert labels.color[here] == list(COLORS).index("blue")
    assert labels.fill[here] == 1
    assert labels.middle.sum() == labels.middle[here] == 1
    np.testing.assert_allclose(labels.lengths[here], (0.5, 0.5, (0.17 - MIDDLING) * 3 * GRID), atol=1e-5)
    assert labels.thing[-1] == 0
    assert labels.color[-1] == -100
    worded = labels.word >= 0
    assert set(labels.word[worded]) == {WORDS.index("ZOO")}
    assert set(np.flatnonzero(worded) // GRID) <= {0, 1}
