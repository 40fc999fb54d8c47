"""The figures of trained rewriters: rows, paired differences, key points, curves, and what is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from eval_suites.benchmarks.cutouts import prompts
from eval_suites.benchmarks.cutouts_rewriters import (
    Answer,
    Model,
    checkpoints,
    curve_point,
    curves_svg,
    difference,
    find_models,
    measure,
    points,
    row_of,
    sections,
    share,
    truth,
)
from eval_suites.command import main
from eval_suites.tables import tables_text
from redraft.errors import ModelMissing

WORDINGS = prompts(4, 3)


def _answers(wrong: int = 0, judge: float | None = 0.5) -> list[Answer]:
    """One for each wording; of the first `wrong` ones the first check is wrong."""
    return [
        Answer((i >= wrong, *(True for _ in wording.checks[1:])), judge, 1, "a star", fallback=i == 0)
        for i, wording in enumerate(WORDINGS)
    ]


def test_a_row_averages_runs_by_prompt() -> None:
    row = row_of("GRPO", [_answers(0, 0.5), _answers(2, None)])
    assert row["every_check_right"]["mean"] == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
    assert row["judge"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert (row["unscored"], row["images"], row["fallback"]) == (4, 1.0, 0.25)
    lost = [1 / len(wording.checks) for wording in WORDINGS[:2]]
    assert row["checks_right"]["mean"] == pytest.approx(1 - sum(lost) / 8)


def test_differences_are_paired() -> None:
    told = difference([_answers(0)], [_answers(4)])
    assert told["every_check_right"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert difference([_answers(1)], [_answers(1)])["checks_right"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_key_points_count_every_check_once() -> None:
    table = points([_answers(0), _answers(0)], [_answers(4)], WORDINGS)
    assert sum(one["checks"] for one in table.values()) == sum(len(wording.checks) for wording in WORDINGS)
    firsts = {wording.checks[0][0] for wording in WORDINGS}
    assert {name for name, one in table.items() if one["gain"]["mean"] > 0} == firsts
    assert all(one["after"]["mean"] == 1.0 for one in table.values())


def test_truth_is_the_rewards_own_mean_over_groups() -> None:
    assert truth(_answers(0), WORDINGS) == [1.0] * 4
    spoiled = truth(_answers(4), WORDINGS)
    assert all(0 <= value < 1 for value in spoiled)
    assert spoiled != pytest.approx(share(_answers(4)))


def test_the_gap_leaves_out_what_the_judge_could_not_score() -> None:
    answers = [*_answers(0, 0.75)[:3], *_answers(0, None)[3:]]
    point = curve_point(20, answers, WORDINGS)
    assert (point["step"], point["judge"]["mean"], point["oracle"]["mean"]) == (20, 0.75, 1.0)
    assert point["gap"]["mean"] == -0.25


def test_checkpoints_are_those_with_weights_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for name in ("checkpoint-20", "checkpoint-100", "checkpoint-40", "samples"):
        (tmp_path / name).mkdir()
        if name != "checkpoint-40":
            (tmp_path / name / "model.safetensors").write_bytes(b"")
    assert [step for step, _ in checkpoints(tmp_path)] == [20, 100]


def test_weights_have_marks(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    a, b, c = (Model.of(name, tmp_path / name).mark for name in "abc")
    assert a == b != c


def _figures() -> dict[str, Any]:
    curve = [curve_point(step, _answers(wrong, 0.9), WORDINGS) for step, wrong in ((0, 3), (20, 1))]
    return {
        "prompts": 4, "command": "redraft eval cutouts-rewriters",
        "rows": {"sft": row_of("SFT with thought", [_answers(3)]), "grpo": row_of("+ GRPO", [_answers(1)])},
        "differences": {"GRPO minus SFT": difference([_answers(1)], [_answers(3)])},
        "key_points": {"GRPO": points([_answers(1)], [_answers(3)], WORDINGS)},
        "loop_prompts": 2, "loop_seeds": 1,
        "curves": {"grpo 0": curve, "grpo 1": curve[:1]}, "curve_prompts": 4,
    }  # fmt: skip


def test_the_page_tells_all_tables() -> None:
    told = tables_text("By the oracle,", "redraft eval", sections(_figures()))
    assert "| SFT with thought | 0.250 [" in told
    assert "| GRPO minus SFT | +0.500 [" in told
    assert "The loop's rows: the first 2 prompts, GRPO's of 1 seed." in told
    assert "\n| 0 | 0.900 | " in told
    assert "\n| 20 | " not in told  # a step that only one run has reached is no mean of runs


def test_the_plot_is_svg_with_a_line_a_run_and_means() -> None:
    lines = ElementTree.fromstring(curves_svg(_figures())).iter("{http://www.w3.org/2000/svg}polyline")
    assert len(list(lines)) == 3 * (2 + 1)


def test_every_run_that_is_there_is_measured(tmp_path: Path) -> None:
    for name in ("sft", "grpo-0", "dpo-0", "dpo-2", "dpo2-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(name.encode())
    models, notes = find_models(tmp_path)
    assert list(models) == ["raw", "sft", "grpo 0", "dpo 0", "dpo 2", "dpo2 1"]
    assert len(notes) == 6
    assert "sft_plain" in notes[0]


class _Canned:
    """A Bench whose answers are known: by the number of prompts that each model gets wrong."""

    def __init__(self, wrong: dict[str, int]) -> None:
        self.wordings, self._wrong, self.looped = WORDINGS, wrong, list[str]()

    async def one_image(self, model: Model, count: int, advance: Any) -> list[Answer]:
        return _answers(self._wrong[model.name])[:count]

    async def loop(self, model: Model, count: int, advance: Any) -> list[Answer]:
        self.looped.append(model.name)
        return _answers(0)[:count]


async def test_dpo_is_paired_with_sft_and_with_grpo_and_the_loop_may_be_left_out(tmp_path: Path) -> None:
    wrong = {"raw": 4, "sft": 4, "grpo 0": 1, "dpo 0": 3, "dpo 1": 1}
    bench, models = _Canned(wrong), {name: Model(name, tmp_path, name) for name in wrong}
    figures = await measure(bench, models, 4, lambda name, number: None, loop=False)  # type: ignore[arg-type]
    assert (bench.looped, "loop_sft" in figures["rows"], list(figures["key_points"])) == ([], False, ["GRPO", "DPO"])
    gains = {name: one["every_check_right"]["mean"] for name, one in figures["differences"].items()}
    assert gains == {
        "GRPO minus SFT with thought": 0.75,
        "GRPO, seed 0, minus SFT with thought": 0.75,
        "DPO minus SFT with thought": 0.5,
        "DPO, seed 0, minus SFT with thought": 0.25,
        "DPO, seed 1, minus SFT with thought": 0.75,
        "DPO minus GRPO": -0.25,
    }
    page = tables_text("By the oracle,", "redraft eval", sections(figures))
    assert "| + DPO, mean of 2 seeds | 0.500 [" in page
    figures = await measure(bench, models, 4, lambda name, number: None)  # type: ignore[arg-type]
    assert bench.looped == ["sft", "grpo 0"]
    assert "The loop's rows: the first 4 prompts, GRPO's of 1 seed." in tables_text("", "", sections(figures))


def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="train-mini"):
        main(["cutouts-rewriters", "--limit", "1", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
