"""Many criteria, one number: combining, floors, comparing, failing, and criteria of one's own by a profile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.decide import acceptable
from evaluator.combine import Pareto, Pooled, RankSum, WinRate, open_combine
from evaluator.criteria.checks import Checks
from evaluator.reward import Reward, checks_reward, edit_reward, open_reward
from evaluator.testing import FakeEditJudge, FakeJudge
from evaluator.types import Case, Check, Need, Outcome, Reading, Shot, Verdict
from redraft.errors import ConfigError
from redraft.limits import Limits
from redraft.profiles import Profile, builtin_profiles, load_profile

CHECK, OTHER = Check("counting", "Are there two stars?"), Check("negation", "Is it free of boats?")
CASE = Case("two stars, no boat", (CHECK, OTHER))
LIMITS = Limits(accept_at=0.5)


def picture(value: float) -> Shot:
    """A picture whose brightness is what the fakes see in it."""
    return Shot((Image.new("L", (8, 8), round(255 * value)).convert("RGB"),))


def brightness(shot: Shot) -> float:
    return float(shot.image.getpixel((0, 0))[0]) / 255  # type: ignore[index]


class Bright:
    """A criterion by a function of the picture's brightness; `sizes` are those of the groups it was called with."""

    def __init__(
        self,
        name: str = "bright",
        say: Callable[[float], Any] = float,
        *,
        absolute: bool = True,
        needs: Sequence[Need] = (),
    ) -> None:
        self.name, self.absolute, self.needs = name, absolute, frozenset(needs)
        self.sizes: list[int] = []
        self._say = say

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        self.sizes.append(len(shots))
        said = [self._say(brightness(shot)) for shot in shots]
        return [value if isinstance(value, Reading) else Reading(Outcome.SCORED, value) for value in said]


def reward(*criteria: Any, combine: str = "weighted_sum", **settings: Any) -> Reward:
    checks = Checks(FakeJudge(lambda *_: 0.8))
    pairs = tuple(pair if isinstance(pair, tuple) else (pair, 1.0) for pair in criteria)
    return Reward(((checks, 1.0), *pairs), open_combine(combine), **settings)


def rows(*values: Mapping[str, float | None]) -> list[dict[str, Reading]]:
    return [
        {k: Reading(Outcome.FAILED) if v is None else Reading(Outcome.SCORED, v) for k, v in row.items()}
        for row in values
    ]


def answers(*pairs: tuple[str, float]) -> Reading:
    verdicts = tuple(Verdict(Check(point, "?"), Outcome.SCORED, p) for point, p in pairs)
    return Reading(Outcome.SCORED, 0.5, verdicts=verdicts)


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            # of answers 0.2 (weight 1), 0.6 (weight 1) and a criterion of 0.9 with weight 2
            ("mean", (0.2 + 0.6 + 2 * 0.9) / 4),
            ("group_mean", (0.2 + 0.6 + 2 * 0.9) / 4),  # two key-point groups, and one of its own that weighs two
            ("min", 0.2),
            ("geometric", (0.2 * 0.6 * 0.9 * 0.9) ** 0.25),
            ("weighted_sum", (0.5 + 2 * 0.9) / 3),
            ("lambda_harmonic", 3 / (1 / 0.5 + 2 / 0.9)),
        ],
    )
    def test_absolute_rules_by_hand(self, rule: str, expected: float) -> None:
        row = {"checks": answers(("counting", 0.2), ("negation", 0.6)), "bright": Reading(Outcome.SCORED, 0.9)}
        [score] = open_combine(rule)([row], {"checks": 1.0, "bright": 2.0})
        assert score == pytest.approx(expected)

    def test_checks_weigh_by_their_key_points(self) -> None:
        row = {"checks": answers(("counting", 0.0), ("negation", 1.0))}
        assert Pooled("mean", {"counting": 3.0})([row], {}) == [0.25]
        assert Pooled("mean", {"counting": 0.0})([row], {}) == [1.0]

    def test_a_failed_criterion_is_left_out_and_is_no_zero(self) -> None:
        [score] = open_combine("weighted_sum")(rows({"a": None, "b": 0.8}), {})
        assert score == 0.8
        assert open_combine("lambda_harmonic")(rows({"a": None}), {}) == [None]

    def test_the_harmonic_mean_needs_both(self) -> None:
        weights = {"checks": 0.7, "subject": 0.3}
        [poor, fair] = open_combine("lambda_harmonic")(
            rows({"checks": 1.0, "subject": 0.0}, {"checks": 0.5, "subject": 0.5}), weights
        )
        assert poor is not None
        assert fair is not None
        assert poor < 1e-6 < fair

    @pytest.mark.parametrize("rule", [RankSum(), Pareto(), WinRate()])
    def test_relative_rules_order_a_group_and_leave_out_what_failed(self, rule: Any) -> None:
        group = rows({"a": 0.9, "b": 0.9}, {"a": 0.1, "b": 0.5}, {"a": None, "b": 1.0}, {"a": 0.5, "b": 0.6})
        best, worst, lost, middle = rule(group, {})
        assert lost is None
        assert best > middle > worst
        assert all(0 <= value <= 1 for value in (best, middle, worst))
        assert not rule.absolute

    def test_a_pareto_front_comes_before_a_greater_sum(self) -> None:
        group = rows({"a": 1.0, "b": 0.0}, {"a": 0.9, "b": 0.9}, {"a": 0.89, "b": 0.89})
        extreme, best, dominated = Pareto()(group, {})
        assert None not in (extreme, best, dominated)
        assert best > extreme > dominated  # type: ignore[operator]


class TestReward:
    async def test_readings_of_all_criteria_are_in_the_report(self) -> None:
        [report] = await reward((Bright(), 3.0))(CASE, [picture(0.4)])
        assert report.score == pytest.approx((0.8 + 3 * 0.4) / 4)
        assert {name: row["outcome"] for name, row in report.reading_rows().items()} == {
            "checks": "scored", "bright": "scored",
        }  # fmt: skip
        assert len(report.verdicts) == report.readings["checks"].answers == 2

    async def test_a_picture_below_a_floor_is_never_accepted(self) -> None:
        floored = reward((Bright(), 0.0), floors={"bright": 0.5})
        low, high = await floored(CASE, [picture(0.4), picture(0.6)])
        assert low.score == high.score
        assert (low.below, high.below) == (("bright",), ())
        assert (acceptable(low, LIMITS), acceptable(high, LIMITS)) == (False, True)
        assert "bright is 0.40, below 0.5" in low.feedback

    @pytest.mark.parametrize(
        ("say", "words"),
        [
            (lambda _: math.nan, "no number"),
            (lambda _: "good", "no number"),
            (lambda _: True, "no number"),
            (lambda _: 1.5, "outside 0 to 1"),
            (lambda _: 1 / 0, "ZeroDivisionError"),
        ],
    )
    async def test_what_is_no_reading_failed_with_its_words_and_is_counted(self, say: Any, words: str) -> None:
        [report] = await reward(Bright("mine", say))(CASE, [picture(0.4)])
        reading = report.readings["mine"]
        assert (reading.outcome, reading.value) == (Outcome.FAILED, None)
        assert words in reading.reason
        assert report.failed == 1
        assert report.score == pytest.approx(0.8), "what failed is left out"
        assert not acceptable(report, LIMITS)

    async def test_a_criterion_that_gives_too_few_failed_for_all(self) -> None:
        class Few(Bright):
            async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
                return (await super().__call__(case, shots))[1:]

        reports = await reward(Few(needs=("group",)))(CASE, [picture(0.1), picture(0.2)])
        assert [report.readings["bright"].reason for report in reports] == ["bright gave 1 readings for 2 pictures"] * 2

    async def test_a_group_criterion_sees_the_group_and_others_each_picture(self) -> None:
        whole, single = Bright("whole", needs=("group",)), Bright("single")
        await reward(whole, single)(CASE, [picture(0.1), picture(0.2), picture(0.3)])
        assert (whole.sizes, single.sizes) == ([3], [1, 1, 1])

    async def test_what_a_case_lacks_is_not_asked_for(self) -> None:
        like = Bright(needs=("references",))
        [report] = await reward(like)(CASE, [picture(0.1)])
        assert report.readings["bright"].outcome is Outcome.NOT_APPLICABLE
        assert (like.sizes, report.failed) == ([], 0)

    async def test_nobody_knows_what_is_right_if_the_checks_failed_however_good_the_rest_is(self) -> None:
        blind = Checks(FakeJudge(lambda *_: Outcome.FAILED))
        [report] = await Reward(((blind, 1.0), (Bright(), 1.0)))(CASE, [picture(0.9)])
        assert (report.score, report.failed) == (None, 2)

    async def test_reports_come_as_they_are_known_and_all_calls_share_one_limit(self) -> None:
        running, most, seen = 0, 0, []

        @asynccontextmanager
        async def gate() -> Any:
            nonlocal running, most
            async with slots:
                running += 1
                most = max(most, running)
                yield
                running -= 1

        class Calls:
            """A context manager that can be entered many times at once."""

            def __init__(self) -> None:
                self._open: dict[Any, Any] = {}

            async def __aenter__(self) -> None:
                self._open[asyncio.current_task()] = entered = gate()
                await entered.__aenter__()

            async def __aexit__(self, *error: Any) -> None:
                await self._open.pop(asyncio.current_task()).__aexit__(*error)

        class Slow(Bright):
            async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
                await asyncio.sleep(0.01)
                return await super().__call__(case, shots)

        async def note(index: int, report: Any) -> None:
            seen.append(index)

        slots = asyncio.Semaphore(3)
        shots = [picture(0.1 * n) for n in range(6)]
        reports = await reward(Slow("a"), Slow("b"))(CASE, shots, calls=Calls(), seen=note)
        assert most == 3
        assert sorted(seen) == list(range(6))
        assert len(reports) == 6

    async def test_pictures_are_compared_by_what_is_relative_and_scored_by_the_rest(self) -> None:
        taste = Bright("taste", absolute=False, needs=("group",))
        compared = reward((taste, 1.0))
        shots = [picture(0.2), picture(0.6)]
        reports = await compared(CASE, shots)
        assert compared.is_relative
        assert [report.score for report in reports] == [pytest.approx(0.8)] * 2
        low, high = await compared.compare(CASE, shots, reports)
        assert (low.value, high.value) == (pytest.approx(0.5), pytest.approx(0.7))
        assert high.readings["taste"].value == pytest.approx(0.6)

    async def test_a_relative_rule_orders_and_the_score_stays_absolute(self) -> None:
        ranked = reward(Bright(), combine="rank_sum")
        shots = [picture(0.2), picture(0.6)]
        reports = await ranked(CASE, shots)
        assert all(report.score is not None for report in reports)
        low, high = await ranked.compare(CASE, shots, reports)
        assert (low.value, high.value) == (pytest.approx(1 / 3), pytest.approx(2 / 3)), "equal in two columns of three"

    async def test_one_judge_of_checks_is_todays_evaluator(self) -> None:
        report = await checks_reward(FakeJudge(lambda image, request, check: 0.4 if check == CHECK else 0.9)).judge(
            picture(0.5).image, CASE
        )
        assert report.score == pytest.approx(0.65)
        assert report.reading_lines() == []

    async def test_an_edit_has_three_criteria(self) -> None:
        case = Case("make it bright", (CHECK,), source=picture(0.2).image)
        report = await edit_reward(FakeJudge(lambda *_: 0.9), FakeEditJudge(lambda edit: 0.6)).judge(
            picture(0.3).image, case
        )
        assert list(report.readings) == ["checks", "preserved", "edit_score"]
        assert report.readings["edit_score"].value == 0.6


def taught_by_the_docs() -> str:
    """The criterion that docs/rewards.md shows, as a stranger would copy it."""
    text = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
    code = text.partition("## A criterion of your own")[2].partition("```python\n")[2].partition("```")[0]
    assert "class Darkness" in code
    return code


def profile(tmp_path: Path, evaluator: str) -> Profile:
    """The profile `mini` with other settings of the evaluator."""
    text = builtin_profiles()["mini"].read_text()
    path = tmp_path / "mine.toml"
    path.write_text(
        text.replace('[evaluator]\nedit_aggregation = "min"\n', f'[evaluator]\nedit_aggregation = "min"\n{evaluator}\n')
    )
    return load_profile(str(path))


class TestProfiles:
    async def test_a_criterion_of_ones_own_is_one_file_and_a_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "taste_of_mine.py").write_text(taught_by_the_docs())
        monkeypatch.syspath_prepend(str(tmp_path))
        made = open_reward(
            profile(
                tmp_path,
                'combine = "weighted_sum"\n[[evaluator.criteria]]\nuse = "taste_of_mine:Darkness"\nweight = 0.5\nfloor = 0.6',
            )
        )
        assert made.weights == {"checks": 1.0, "darkness": 0.5}
        [report] = await Reward(made.criteria[1:], made.combine, floors=made.floors)(CASE, [picture(0.5)])
        assert report.readings["darkness"].value == pytest.approx(0.5, abs=0.01)
        assert report.below == ("darkness",)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ('[[evaluator.criteria]]\nuse = "beauty"', "unknown criterion"),
            ('[[evaluator.criteria]]\nuse = "no_such_package:Taste"', "cannot be imported"),
            ('[[evaluator.criteria]]\nuse = "json:dumps"', "cannot be made"),
            ('[[evaluator.criteria]]\nuse = "collections:OrderedDict"', "no criterion"),
            ('[[evaluator.criteria]]\nuse = "checks"\nweight = -1', "weight"),
            ('[[evaluator.criteria]]\nuse = "checks"\nfloor = 1.5', "floor"),
            ('[[evaluator.criteria]]\nuse = "checks"\nweight = nan', "weight"),
            ('[[evaluator.criteria]]\nuse = "pairwise"\nfloor = 0.5', "only orders"),
            ('[[evaluator.criteria]]\nuse = "subject"', "cannot be made"),
            ('[[evaluator.criteria]]\nuse = "points"', "asks_freely"),
            ('[[evaluator.criteria]]\nuse = "http"\nargs = { url = "ftp://x" }', "http"),
            ('[[evaluator.criteria]]\nuse = "checks"\n[[evaluator.criteria]]\nuse = "checks"', "twice"),
            ('[[evaluator.criteria]]\nuse = "edit_score"', "edit_score"),
            ('combine = "rank_sum"', "floor"),
            ('combine = "best"', "combine"),
            ("key_points = { beauty = 2.0 }", "no key point"),
            ("key_points = { counting = -2.0 }", "counting"),
        ],
    )
    def test_what_cannot_be_used_is_refused_with_the_thing_and_the_mend(
        self, tmp_path: Path, settings: str, words: str
    ) -> None:
        with pytest.raises(ConfigError, match=words):
            open_reward(profile(tmp_path, settings))

    def test_a_relative_rule_may_order_if_a_floor_accepts(self, tmp_path: Path) -> None:
        made = open_reward(profile(tmp_path, 'combine = "pareto"\n[[evaluator.criteria]]\nuse = "checks"\nfloor = 0.9'))
        assert made.is_relative
        assert made.floors == {"checks": 0.9}

    @pytest.mark.parametrize("method", ["editscore", "viescore", "editreward", "digit", "multireward"])
    def test_judges_of_edits_need_a_judge_that_chats(self, tmp_path: Path, method: str) -> None:
        with pytest.raises(ConfigError, match="asks_freely"):
            open_reward(profile(tmp_path, f'edit_score = "{method}"'), edits=True)

    def test_edits_get_their_criteria_by_one_key(self, tmp_path: Path) -> None:
        made = open_reward(profile(tmp_path, 'edit_score = "checks"'), edits=True)
        assert list(made.weights) == ["checks", "preserved", "edit_score"]
        assert list(open_reward(profile(tmp_path, 'edit_score = "checks"')).weights) == ["checks"]
