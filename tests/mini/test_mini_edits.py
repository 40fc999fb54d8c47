"""The canonical edit language, the truth about edits, and edits drawn at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mini.editor.edits import OP_KINDS, EditSpec, Op, Pick, parse_edit
from mini.editor.layout import EditCase, in_slot_order
from mini.editor.sampling import describe, holds_out, sample_edit
from mini.editor.truth import followed, kept, ops_followed, pair_up
from mini.world import oracle
from mini.world.codec import from_rows
from mini.world.raster import draw
from mini.world.sampling import Split, sample_pair
from mini.world.scene import MAX_CUTOUTS, CutOut, Group, PrintedWord, Scene

STAR = CutOut("star", "red", "plain", 0.2, 0.3, 0.10)
HEART = CutOut("heart", "pink", "striped", 0.7, 0.3, 0.10)
ONE = CutOut("circle", "green", "plain", 0.25, 0.75, 0.06)
TWO = CutOut("circle", "green", "dotted", 0.5, 0.7, 0.10)
MOON = CutOut("moon", "blue", "plain", 0.8, 0.7, 0.10)
BEFORE = Scene("sky", (STAR, HEART, ONE, TWO, MOON), PrintedWord("TEA", 0.5, 0.1))


def _edit(text: str) -> EditSpec:
    spec = parse_edit(text)
    assert spec is not None
    return spec


def _with(*changed: tuple[CutOut, CutOut | None], added: tuple[CutOut, ...] = (), scene: Scene = BEFORE) -> Scene:
    becomes = dict(changed)
    cuts = [becomes.get(cut, cut) for cut in scene.cutouts]
    return replace(scene, cutouts=(*(cut for cut in cuts if cut is not None), *added))


# The canonical language


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("recolour red star to blue", Op("recolour", Pick("star", "red"), "blue")),
        ("remove two circles", Op("remove", Pick("circle", many=True), count=2)),
        ("remove one circle", Op("remove", Pick("circle"), count=1)),
        ("remove striped crosses", Op("remove", Pick("cross", fill="striped", many=True))),
        ("move heart left of moon", Op("move", Pick("heart"), relation="left", anchor=Pick("moon"))),
        ("move star at the left to the right", Op("move", Pick("star", place="left"), place="right")),
        ("move small circle inside large red square",
         Op("move", Pick("circle", size="small"), relation="inside", anchor=Pick("square", "red", "large"))),
        ("replace blue shapes with hearts", Op("replace", Pick("shape", "blue", many=True), "heart")),
        ("replace star with pink moon", Op("replace", Pick("star"), "moon", color="pink")),
        ("resize star to larger", Op("resize", Pick("star"), "larger")),
        ("refill dotted heart to plain", Op("refill", Pick("heart", fill="dotted"), "plain")),
        ("add two small blue striped stars at the top",
         Op("add", group=Group(2, "star", "blue", "small", "striped", "top"))),
        ("add one cross below red moon at the top",
         Op("add", group=Group(1, "cross"), relation="below", anchor=Pick("moon", "red", place="top"))),
        ("write JAZZ at the bottom", Op("write", value="JAZZ", place="bottom")),
        ("write JAZZ", Op("write", value="JAZZ")),
        ("move word to the top", Op("write", place="top")),
        ("erase word", Op("write")),
        ("change sheet to mint", Op("sheet", value="mint")),
    ],
)  # fmt: skip
def test_the_canonical_language(text: str, op: Op) -> None:
    assert _edit(text) == EditSpec((op,))
    assert str(EditSpec((op,))) == text


def test_sub_tasks_are_clauses() -> None:
    text = "recolour red star to blue; remove two circles; move heart left of moon"
    assert [op.kind for op in _edit(text).ops] == ["recolour", "remove", "move"]
    assert str(_edit(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "recolour", "make the star blue", "recolour star to teal", "recolour dog to blue", "remove", "add stars",
        "add one shape", "move star to the middle", "move star beside moon", "write tea", "write FOO", "erase",
        "change sheet to black", "resize star to blue", "replace star with shape", "replace star with large moon",
        "replace star with moons", "recolour star to blue; and so on", "recolour star to blue;", "refill star to red",
        "add two small", "add one star left of dog", "move star to the left to the", "remove ten stars",
    ],
)  # fmt: skip
def test_other_texts_are_not_of_it(text: str) -> None:
    assert parse_edit(text) is None


# The truth

DONE: list[tuple[str, Scene]] = [
    ("recolour star to blue", _with((STAR, replace(STAR, color="blue")))),
    ("recolour green circles to pink", _with((ONE, replace(ONE, color="pink")), (TWO, replace(TWO, color="pink")))),
    ("refill heart to plain", _with((HEART, replace(HEART, fill="plain")))),
    ("resize star to large", _with((STAR, replace(STAR, radius=0.15)))),
    ("resize star to smaller", _with((STAR, replace(STAR, radius=0.06)))),
    ("replace star with cross", _with((STAR, replace(STAR, shape="cross")))),
    ("replace star with pink cross", _with((STAR, replace(STAR, shape="cross", color="pink")))),
    ("remove star", _with((STAR, None))),
    ("remove circles", _with((ONE, None), (TWO, None))),
    ("remove two green circles", _with((ONE, None), (TWO, None))),
    ("remove one circle", _with((TWO, None))),
    ("move star to the bottom", _with((STAR, replace(STAR, y=0.75, x=0.45)))),
    ("move star right of heart", _with((STAR, replace(STAR, x=0.9)))),
    ("move moon above heart", _with((MOON, replace(MOON, y=0.1)))),
    ("add one small red cross", _with(added=(CutOut("cross", "red", "plain", 0.45, 0.45, 0.06),))),
    ("add one cross left of heart", _with(added=(CutOut("cross", "brown", "dotted", 0.45, 0.45, 0.1),))),
    ("add one cross at the top", _with(added=(CutOut("cross", "red", "plain", 0.45, 0.25, 0.06),))),
    ("write ZOO", replace(BEFORE, word=PrintedWord("ZOO", 0.5, 0.1))),
    ("write ZOO at the bottom", replace(BEFORE, word=PrintedWord("ZOO", 0.4, 0.9))),
    ("move word to the bottom", replace(BEFORE, word=PrintedWord("TEA", 0.5, 0.9))),
    ("erase word", replace(BEFORE, word=None)),
    ("change sheet to mint", replace(BEFORE, sheet="mint")),
    ("recolour star to blue; refill star to dotted; move star to the bottom",
     _with((STAR, replace(STAR, color="blue", fill="dotted", y=0.8)))),
    ("remove heart; add two brown crosses",
     _with((HEART, None), added=(CutOut("cross", "brown", "plain", 0.7, 0.32, 0.06),
                                 CutOut("cross", "brown", "plain", 0.45, 0.45, 0.06)))),
]  # fmt: skip
"""An edit of BEFORE and a picture that it may lead to."""


@pytest.mark.parametrize(("text", "after"), DONE)
def test_an_edit_done(text: str, after: Scene) -> None:
    spec = _edit(text)
    assert followed(spec, BEFORE, after)
    assert kept(spec, BEFORE, after)
    backwards = replace(after, cutouts=after.cutouts[::-1])  # the oracle reads in no particular order
    assert followed(spec, BEFORE, backwards)
    assert kept(spec, BEFORE, backwards)


@pytest.mark.parametrize(("text", "after"), DONE)
def test_nothing_done(text: str, after: Scene) -> None:
    assert not followed(_edit(text), BEFORE, BEFORE)
    assert kept(_edit(text), BEFORE, BEFORE)


@pytest.mark.parametrize(("text", "after"), DONE)
def test_done_with_something_else(text: str, after: Scene) -> None:
    """Each thing that an edit does not name, changed beside it, is seen."""
    spec = _edit(text)
    named = {i for op in spec.ops for i in op.targets(BEFORE)}
    other = next(cut for i, cut in enumerate(BEFORE.cutouts) if i not in named)
    spoiled = [
        _with((other, replace(other, x=other.x + 0.06)), scene=after),
        _with((other, replace(other, radius=other.radius + 0.04)), scene=after),
        _with((other, replace(other, color="orange")), scene=after),
        _with((other, replace(other, shape="diamond")), scene=after),
        _with((other, replace(other, fill="plain" if other.fill != "plain" else "dotted")), scene=after),
        _with((other, None), scene=after),
        _with(added=(CutOut("square", "orange", "plain", 0.05, 0.95, 0.05),), scene=after),
        _with(added=(CutOut("unknown", "orange", "plain", 0.05, 0.95, 0.05),), scene=after),
    ]
    if all(op.kind != "sheet" for op in spec.ops):
        spoiled.append(replace(after, sheet="grey"))
    if all(op.kind != "write" for op in spec.ops):
        spoiled += [
            replace(after, word=word) for word in (None, PrintedWord("ZOO", 0.5, 0.1), PrintedWord("TEA", 0.5, 0.2))
        ]
    for scene in spoiled:
        assert not kept(spec, BEFORE, scene), scene


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("recolour star to blue", _with((STAR, replace(STAR, color="brown")))),
        ("recolour star to blue", _with((STAR, None))),
        ("recolour circles to pink", _with((ONE, replace(ONE, color="pink")))),
        ("resize star to large", _with((STAR, replace(STAR, radius=0.115)))),
        ("resize star to larger", _with((STAR, replace(STAR, radius=0.105)))),
        ("replace star with pink cross", _with((STAR, replace(STAR, shape="cross")))),
        ("remove circles", _with((ONE, None))),
        ("remove one circle", _with((ONE, None), (TWO, None))),
        ("remove star", _with((HEART, None))),
        ("move star right of heart", _with((STAR, replace(STAR, x=0.5)))),
        ("move star right of heart", _with((STAR, replace(STAR, x=0.9)), (HEART, None))),
        ("add two crosses", _with(added=(CutOut("cross", "red", "plain", 0.4, 0.4, 0.06),))),
        ("add one cross", _with(added=tuple(CutOut("cross", "red", "plain", x, 0.5, 0.06) for x in (0.4, 0.6)))),
        ("add one large cross", _with(added=(CutOut("cross", "red", "plain", 0.4, 0.4, 0.06),))),
        ("add one cross at the top", _with(added=(CutOut("cross", "red", "plain", 0.4, 0.5, 0.06),))),
        ("write ZOO at the bottom", replace(BEFORE, word=PrintedWord("ZOO", 0.5, 0.1))),
        ("move word to the bottom", replace(BEFORE, word=PrintedWord("ZOO", 0.5, 0.9))),
        ("recolour cross to blue", BEFORE),
        ("remove crosses", BEFORE),
    ],
)  # fmt: skip
def test_an_edit_not_done(text: str, after: Scene) -> None:
    assert not followed(_edit(text), BEFORE, after)


def test_named_cut_outs_keep_what_is_not_named() -> None:
    blue = replace(STAR, color="blue")
    spec = _edit("recolour star to blue")
    for change in ({"x": 0.3}, {"fill": "dotted"}, {"radius": 0.15}, {"shape": "cross"}):
        after = _with((STAR, replace(blue, **change)))  # type: ignore[arg-type]
        assert not kept(spec, BEFORE, after)
    assert followed(spec, BEFORE, _with((STAR, replace(blue, x=0.3))))


def test_no_more_go_than_asked() -> None:
    both_gone = _with((ONE, None), (TWO, None))
    assert not kept(_edit("remove one circle"), BEFORE, both_gone)
    assert kept(_edit("remove circles"), BEFORE, both_gone)


def test_a_sub_task_at_a_time() -> None:
    spec = _edit("recolour star to blue; remove heart; erase word")
    after = _with((STAR, replace(STAR, color="blue")))
    assert ops_followed(spec, BEFORE, after) == (True, False, False)


def test_tolerance() -> None:
    spec = _edit("recolour star to blue")
    after = _with((STAR, replace(STAR, color="blue")), (MOON, replace(MOON, x=MOON.x + 0.04)))
    assert not kept(spec, BEFORE, after)
    assert kept(spec, BEFORE, after, tolerance=0.05)


def test_a_name_for_several_may_mean_any_of_them() -> None:
    spec = _edit("recolour circle to pink")
    assert followed(spec, BEFORE, _with((TWO, replace(TWO, color="pink"))))
    assert not followed(_edit("recolour circles to pink"), BEFORE, _with((TWO, replace(TWO, color="pink"))))


def test_twins_are_told_apart_by_where_they_lie() -> None:
    twin = replace(STAR, x=0.8, y=0.8)
    before = Scene("white", (STAR, twin))
    moved = replace(STAR, y=0.8)
    after = Scene("white", (twin, moved))
    spec = _edit("move star at the top to the bottom")
    assert pair_up(spec, before, after) == [1, 0]
    assert followed(spec, before, after)
    assert kept(spec, before, after)


def test_an_empty_sheet() -> None:
    empty = Scene("white", ())
    spec = _edit("add one red star")
    assert followed(spec, empty, Scene("white", (STAR,)))
    assert kept(spec, empty, Scene("white", (STAR,)))
    assert not followed(spec, empty, empty)


# Edits drawn at random


@pytest.fixture(scope="module")
def train() -> list[EditCase]:
    rng = np.random.default_rng(801)
    return [sample_edit(rng) for _ in range(400)]


@pytest.fixture(scope="module")
def test() -> list[EditCase]:
    rng = np.random.default_rng(802)
    return [sample_edit(rng, "test") for _ in range(150)]


def test_each_leads_where_it_says(train: list[EditCase], test: list[EditCase]) -> None:
    for case in (*train, *test):
        assert followed(case.spec, case.before, case.after)
        assert kept(case.spec, case.before, case.after)
        assert not followed(case.spec, case.before, case.before)
        assert parse_edit(str(case.spec)) == case.spec


def test_the_pixels_say_the_same(train: list[EditCase]) -> None:
    right = 0
    for case in train[:60]:
        before, after = oracle.read_scene(draw(case.before)), oracle.read_scene(draw(case.after))
        right += followed(case.spec, before, after) and kept(case.spec, before, after)
        assert not followed(case.spec, before, before)
    assert right >= 59  # a patch that touches another may be misread


def test_every_kind_and_number_of_sub_tasks(train: list[EditCase]) -> None:
    kinds = {op.kind for case in train for op in case.spec.ops}
    assert kinds == set(OP_KINDS)
    assert {len(case.spec.ops) for case in train} == {1, 2, 3, 4}
    ops = [op for case in train for op in case.spec.ops]
    assert any(op.relation == "inside" for op in ops)
    assert any(op.kind == "write" and not op.value for op in ops)
    assert any(op.pick is not None and op.pick.many for op in ops)
    assert any(op.pick is not None and op.pick.place for op in ops)
    rng = np.random.default_rng(803)
    assert all(len(sample_edit(rng, ops=3).spec.ops) == 3 for _ in range(5))


def test_names_mean_what_they_change(train: list[EditCase]) -> None:
    for case in train:
        for op in case.spec.ops:
            if op.pick is not None and op.count is None:
                found = len(op.targets(case.before))
                assert found >= 2 if op.pick.many else found == 1
            if op.anchor is not None:
                assert len(op.anchor.find(case.before)) == 1


def test_nothing_held_out_is_trained_on(train: list[EditCase], test: list[EditCase]) -> None:
    for case in train:
        assert not holds_out(case.spec, case.before)
    assert all(holds_out(case.spec, case.before) for case in test)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("recolour star to green", True),
        ("recolour red star to green", True),
        ("recolour heart to blue", False),
        ("replace star with yellow cross", True),
        ("add one pink heart", True),
        ("add one pink moon", False),
        ("add one purple diamond left of blue moon", True),
        ("change sheet to mint", False),
        ("write ZOO", False),
    ],
)
def test_what_is_held_out(text: str, held: bool) -> None:
    assert holds_out(_edit(text), BEFORE) == held


def test_some_sub_tasks_of_some_cut_outs_are_held_out() -> None:
    """By a hash, about one in seven (kind, colour, shape): said by colour or not."""
    before = in_slot_order(BEFORE)
    found = {
        (kind, cut.shape): holds_out(EditSpec((Op(kind, Pick(cut.shape), value),)), before)
        for cut in before.cutouts
        for kind, value in (("remove", ""), ("resize", "larger"), ("refill", "dotted"), ("move", "x"))
    }  # type: ignore[misc]
    assert 0 < sum(found.values()) < len(found) / 2


def test_slots(train: list[EditCase]) -> None:
    for case in train:
        before, after = case.rows()
        assert len(from_rows(before).cutouts) == len(case.before.cutouts)
        assert [cut.x for cut in case.before.cutouts] == sorted(cut.x for cut in case.before.cutouts)
        assert len(case.after.cutouts) <= MAX_CUTOUTS
        named = {i for op in case.spec.ops for i in op.targets(case.before)}
        for i, cut in enumerate(case.before.cutouts):
            if i not in named:
                np.testing.assert_array_equal(before[i], after[i])
            if case.slots[i] is None:
                assert not after[i].any()
            else:
                assert abs(after[i, 0] - case.slots[i].x) < 1e-6 or cut is None  # type: ignore[union-attr]
        assert len(from_rows(after).cutouts) == len(case.after.cutouts)


def test_a_scene_of_one_s_own() -> None:
    rng = np.random.default_rng(804)
    case = sample_edit(rng, scene=Scene("white", (STAR, MOON)))
    assert case.before == Scene("white", (STAR, MOON))
    with pytest.raises(ValueError, match="no edit of the test split"):
        sample_edit(rng, "test", Scene("white", ()), ops=9)  # six cut-outs, a word and a sheet at the most


def test_the_same_seed_the_same_edits(train: list[EditCase]) -> None:
    rng = np.random.default_rng(801)
    assert [sample_edit(rng) for _ in range(5)] == train[:5]


def test_descriptions_fit_one() -> None:
    rng = np.random.default_rng(805)
    for split in ("train", "test"):
        for _ in range(30):
            chosen: Split = "train" if split == "train" else "test"
            scene = sample_pair(rng, chosen)[1]
            for i in range(len(scene.cutouts)):
                pick = describe(rng, scene, i)
                assert pick is None or pick.find(scene) == (i,)
    twins = Scene("white", (STAR, replace(STAR, x=0.3)))
    assert describe(rng, twins, 0) is None
