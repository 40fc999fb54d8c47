"""The cost frontier: what is not beaten, what is measured, and a real search on the mini world."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval_suites.frontier import Point, Setting, Space, choose, find_front, front_table, main, profile_snippet, search


def point(steps: int, quality: float, seconds: float) -> Point:
    return Point(Setting(steps), (quality,), seconds)


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    slow, fast, dear, bad = point(30, 0.9, 3.0), point(6, 0.7, 0.6), point(20, 0.6, 2.0), point(2, 0.7, 0.9)
    assert find_front([slow, fast, dear, bad]) == [fast, slow]
    assert find_front([fast, fast]) == [fast, fast]


def test_failed_pictures_do_not_count_as_zero() -> None:
    assert Point(Setting(2), (0.5, None, 1.0), 1.0).quality == 0.75
    assert Point(Setting(2), (None,), 1.0).quality == 0.0


def test_a_search_finds_the_front_of_a_known_world_and_measures_nothing_twice() -> None:
    """Quality rises to 10 steps and is best at guidance 2; a step costs a second."""
    measured: list[Setting] = []

    def measure(setting: Setting) -> Point:
        measured.append(setting)
        guidance = setting.guidance or 0.0
        return Point(setting, (min(setting.steps, 10) / 10 - abs(guidance - 2) / 10,), float(setting.steps))

    points = search(measure, Space((1, 30), (1.0, 4.0)), evaluations=60)
    assert len(measured) == len(set(measured)) == len(points) <= 60
    front = find_front(points)
    assert all(one.setting.steps <= 10 for one in front)
    best = max(front, key=lambda one: one.quality)
    assert best.quality > 0.9
    assert choose(front, within=0.5).seconds < best.seconds


def test_a_small_world_is_searched_whole_and_ends() -> None:
    points = search(lambda setting: Point(setting, (0.5,), 1.0), Space((1, 3)), evaluations=50)
    assert {one.setting.steps for one in points} == {1, 2, 3}


def test_a_setting_is_written_as_a_profile_takes_it() -> None:
    chosen = Point(Setting(8, 2.5, 0.1), (0.9, 0.8), 1.5)
    assert profile_snippet(chosen) == (
        '[generator]\nsteps = 8\nguidance = 2.5\ncache = { kind = "first_block", threshold = 0.1 }'
    )
    assert "| 8 | 2.5 | 0.1 | 0.850" in front_table([chosen])[-1]


def test_bad_input_is_said_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red star\n")
    for arguments, says in [
        (["--prompts", str(tmp_path / "none.txt")], "none.txt"),
        (["--prompts", str(prompts), "--steps", "9", "3"], "--steps"),
        (["--prompts", str(prompts), "--profile", "small"], "no generator"),
    ]:
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.integration
def test_a_search_on_mini_prints_a_table_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red star\na blue circle above a green square\n")
    arguments = ["--prompts", str(prompts), "--evaluations", "3", "--steps", "2", "4", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert "| steps | guidance |" in first
    assert "steps = " in first
    assert main(arguments) == 0
    assert capsys.readouterr().out == first, "what was measured is not measured again"
