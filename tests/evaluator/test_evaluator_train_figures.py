"""Figures of a judge, against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluator.judge import calibrated
from evaluator.testing import FakeJudge
from evaluator.train.compare import ComparedJudge, compare, compute_auc, compute_gains
from evaluator.train.figures import (
    RecordAnswer,
    Temperature,
    by_group,
    by_key_point,
    compute_figures,
    compute_gain,
    fit_temperature,
)
from evaluator.train.records import Judgement, PictureFile
from evaluator.train.script import ask_judge
from evaluator.types import Check


def answer(
    p: float | None, accept: bool, picture: str = "a", key_point: str = "counting", mass: float = 1.0
) -> RecordAnswer:
    return RecordAnswer(key_point, picture, accept, p, mass)


def test_figures_by_hand() -> None:
    found = compute_figures([
        answer(0.75, True, "a"), answer(0.75, False, "a"), answer(0.95, True, "b"), answer(0.15, False, "b", mass=0.6),
        answer(None, True, "c", mass=0.1),
    ])  # fmt: skip
    assert (found.count, found.failed, found.accepted) == (5, 1, 0.6)
    assert found.accuracy is not None
    assert found.accuracy.mean == 0.75
    # Bins: two at 0.75, half accepted; one at 0.95, accepted; one at 0.15, not.
    assert found.ece is not None
    assert found.ece.mean == pytest.approx((2 * 0.25 + 0.05 + 0.15) / 4)
    assert found.nll == pytest.approx(-(math.log(0.75) + math.log(0.25) + math.log(0.95) + math.log(0.85)) / 4)
    assert found.label_mass == pytest.approx((3 + 0.6 + 0.1) / 5)


def test_a_temperature_moves_probabilities_but_no_answer() -> None:
    mine = [answer(0.9, True, "a"), answer(0.8, False, "b")]
    cool = compute_figures(mine, temperature=2.0)
    assert cool.accuracy == compute_figures(mine).accuracy
    p, q = calibrated(0.9, 2.0), calibrated(0.8, 2.0)
    assert cool.nll == pytest.approx(-(math.log(p) + math.log(1 - q)) / 2)


def test_the_temperature_that_answers_were_made_with_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-logits))
    too_sure = 1 / (1 + np.exp(-2.5 * logits))
    made = [answer(float(p), bool(t), str(i)) for i, (p, t) in enumerate(zip(too_sure, truth, strict=True))]
    found = fit_temperature(made)
    assert found.value == pytest.approx(2.5, abs=0.1)
    assert not found.problem
    before, after = compute_figures(made), compute_figures(made, found.value)
    assert before.ece is not None
    assert after.ece is not None
    assert after.ece.high is not None
    assert after.ece.high < 0.03 < before.ece.mean


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([answer(0.6, True)] * 49, "49 usable answers are too few"),
        ([answer(None, True)] * 100, "0 usable answers are too few"),
        ([answer(0.6, True), answer(0.4, False)] * 50, "no temperature between"),  # never wrong: the colder the better
    ],
)
def test_where_no_temperature_can_be_fitted_it_stays_1(answers: list[RecordAnswer], problem: str) -> None:
    found = fit_temperature(answers)
    assert found.value == 1.0
    assert problem in found.problem


def test_certainty_that_is_wrong_weighs_much_but_not_infinitely() -> None:
    assert compute_figures([answer(1.0, False)]).nll == pytest.approx(9 * math.log(10), rel=1e-3)


def test_whole_pictures_are_resampled() -> None:
    # 40 pictures of 10 answers each, all right or all wrong: as uncertain as 40 answers, not as 400.
    together = [answer(0.9, picture % 2 == 0, str(picture)) for picture in range(40) for _ in range(10)]
    apart = [answer(0.9, i % 2 == 0, str(i)) for i in range(400)]
    widths = []
    for mine in (together, apart):
        found = compute_figures(mine).accuracy
        assert found is not None
        assert found.mean == 0.5
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 40), rel=0.15)
    assert widths[1] == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 400), rel=0.15)


def test_one_picture_has_no_interval() -> None:
    found = compute_figures([answer(0.9, True), answer(0.2, True)]).accuracy
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.5, None, None)
    assert str(found) == "0.500"


def test_figures_of_key_points_and_groups() -> None:
    mine = [answer(0.9, True, key_point="Counting"), answer(0.1, True, key_point="counting"),
            answer(0.9, True, key_point="size"), answer(0.9, True, key_point="glitter")]  # fmt: skip
    points = by_key_point(mine)
    assert list(points) == ["counting", "size", "glitter"]
    assert points["counting"].count == 2
    assert {name: one.count for name, one in by_group(mine).items()} == {"attributes": 3, "other": 1}


def test_what_was_gained_is_paired_and_leaves_out_what_failed() -> None:
    before = [answer(0.2, True, "a"), answer(0.9, True, "b"), answer(0.0, False, "c"), answer(None, True, "d")]
    after = [answer(0.8, True, "a"), answer(0.9, True, "b"), answer(0.9, False, "c"), answer(0.9, True, "d")]
    found = compute_gain([before], [after])
    assert found is not None
    assert found.mean == pytest.approx((1 + 0 - 1) / 3)
    assert compute_gain([before[3:]], [after[3:]]) is None


async def test_records_of_one_picture_and_prompt_are_asked_together(tmp_path: Path) -> None:
    pictures = []
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (8, 8), color).save(tmp_path / f"{name}.png")
        pictures.append(PictureFile(tmp_path / f"{name}.png", name))
    mine = [Judgement(pictures[i % 2], "a star", Check("counting", f"Question {i}?"), accept=i < 3) for i in range(5)]
    probabilities = {f"Question {i}?": i / 10 for i in range(5)}
    judge = FakeJudge(lambda _image, _prompt, check: probabilities[check.question])
    told: list[int] = []
    found = await ask_judge(judge, mine, at_once=1, on_progress=told.append)
    assert [one.probability for one in found] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert [one.accept for one in found] == [True, True, True, False, False]
    assert [one.picture for one in found] == ["a", "b", "a", "b", "a"]
    assert told == [3, 5]
    assert [(prompt, len(checks)) for _, prompt, checks in judge.calls] == [("a star", 3), ("a star", 2)]


def test_a_judge_of_several_seeds_is_compared_by_its_mean() -> None:
    def of(*ps: float) -> list[RecordAnswer]:
        points = ("counting", "counting", "size")
        return [answer(p, True, name, point) for p, name, point in zip(ps, "abc", points, strict=True)]

    one = ComparedJudge("one", [of(0.9, 0.1, 0.1)], [Temperature(1.0)])
    two = ComparedJudge("two", [of(0.9, 0.9, 0.1), of(0.9, 0.1, 0.9)], [Temperature(1.0), Temperature(2.0)])
    gains = {gain.key_point: (gain.records, gain.accuracy.mean) for gain in compute_gains(one, two)}
    assert gains == {"all": (3, pytest.approx(1 / 3)), "counting": (2, 0.25), "size": (1, 0.5)}
    text, record = compare([one, two])
    assert "| two | 2 | 0.667 [" in text
    assert "| judge | seeds | accuracy | of 0 varied | AUC |" in text
    assert "| two 2, temperature 2 | 3 |" in text
    assert "| two minus one | size | 1 | 0.500 |" in text
    assert len(record["judges"]) == 3


def test_key_points_with_one_verdict_alone_are_left_out_of_what_is_varied() -> None:
    def of(*ps: float) -> list[RecordAnswer]:
        rows = (("a", "size", True), ("b", "size", False), ("b", "text_layout", True), ("c", "text_layout", True))
        return [answer(p, accept, picture, point) for p, (picture, point, accept) in zip(ps, rows, strict=True)]

    never, always = (ComparedJudge(str(p), [of(p, p, p, p)], [Temperature(1.0)]) for p in (0.1, 0.9))
    gains = {gain.key_point: (gain.records, gain.accuracy.mean) for gain in compute_gains(never, always)}
    assert gains == {"all": (4, 0.5), "varied": (2, 0.0), "size": (2, 0.0), "text_layout": (2, 1.0)}
    assert "| 0.9 | 1 | 0.750 [0.500, 1.000] | 0.500 [" in compare([never, always])[0]
    assert compute_auc(always) == 0.5
    assert compute_auc(ComparedJudge("it looks", [of(0.3, 0.2, 0.9, 0.9)], [Temperature(1.0)])) == 1.0
