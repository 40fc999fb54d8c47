import pytest
from PIL import Image

from evaluator.combine import aggregate
from evaluator.criteria.checks import write_feedback
from evaluator.reward import Reward, checks_reward
from evaluator.testing import FakeChecklistBuilder, FakeJudge, JudgeAnswer
from evaluator.types import Case, Check, Checklist, Outcome, Verdict
from redraft.errors import BackendError, ServerError

IMAGE = Image.new("RGB", (8, 8))
COUNT = Check("counting", "Are there exactly three red stars?")
SIZE = Check("size", "Is the circle big?")
LAYOUT = Check("entity_layout", "Is the circle above the stars?")
COLOUR = Check("colour", "Is the circle blue?")
ODD = Check("mood", "Is it cosy?")


def judged(script: dict[Check, JudgeAnswer]) -> FakeJudge:
    return FakeJudge(lambda image, prompt, check: script[check])


def reward(script: dict[Check, JudgeAnswer], aggregation: str = "group_mean", pass_at: float = 0.5) -> Reward:
    return checks_reward(judged(script), aggregation=aggregation, pass_at=pass_at)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # attributes: (0.5 + 0.9) / 2 = 0.7; relations: 0.2; other: (0.6 + 1) / 2 = 0.8; (0.7 + 0.2 + 0.8) / 3
        ("group_mean", 1.7 / 3),
        ("mean", 3.2 / 5),  # (0.5 + 0.9 + 0.2 + 0.6 + 1) / 5
        ("min", 0.2),
        ("geometric_mean", 0.054 ** (1 / 5)),  # 0.5 * 0.9 * 0.2 * 0.6 * 1 = 0.054
    ],
)
async def test_aggregation_by_hand(how: str, expected: float) -> None:
    script: dict[Check, JudgeAnswer] = {COUNT: 0.5, SIZE: 0.9, LAYOUT: 0.2, COLOUR: 0.6, ODD: 1.0}
    report = await reward(script, how).judge(IMAGE, Case("p", tuple(script)))
    assert report.score == pytest.approx(expected)
    assert report.failed == 0


@pytest.mark.parametrize("how", ["group_mean", "mean", "min", "geometric_mean"])
async def test_failed_and_inapplicable_checks_do_not_count(how: str) -> None:
    script: dict[Check, JudgeAnswer] = {COUNT: 0.8, SIZE: ServerError("down"), LAYOUT: Outcome.NOT_APPLICABLE}
    report = await reward(script, how).judge(IMAGE, Case("p", tuple(script)))
    assert report.score == pytest.approx(0.8)
    assert report.failed == 1
    assert [v.outcome for v in report.verdicts] == [Outcome.SCORED, Outcome.FAILED, Outcome.NOT_APPLICABLE]
    assert report.verdicts[1].reason == "down"


@pytest.mark.parametrize("how", ["group_mean", "mean", "min", "geometric_mean"])
async def test_without_a_scored_check_there_is_no_score(how: str) -> None:
    script: dict[Check, JudgeAnswer] = {COUNT: Outcome.FAILED, SIZE: BackendError("out of memory")}
    report = await reward(script, how).judge(IMAGE, Case("p", tuple(script)))
    assert (report.score, report.failed, report.feedback) == (None, 2, ())
    assert aggregate((), how) is None


@pytest.mark.parametrize("how", ["min", "geometric_mean"])
async def test_a_probability_of_zero_is_a_score(how: str) -> None:
    report = await reward({COUNT: 0.0, SIZE: 1.0}, how).judge(IMAGE, Case("p", (COUNT, SIZE)))
    assert report.score == 0.0


async def test_feedback_names_what_did_not_pass_worst_first() -> None:
    script: dict[Check, JudgeAnswer] = {COUNT: 0.4, SIZE: 0.7, LAYOUT: 0.12, COLOUR: Outcome.FAILED, ODD: 0.5}
    report = await reward(script).judge(IMAGE, Case("p", tuple(script)))
    assert report.feedback == (
        "Not satisfied: Is the circle above the stars? (p=0.12, entity_layout)",
        "Not satisfied: Are there exactly three red stars? (p=0.40, counting)",
    )
    strict = await reward(script, pass_at=0.6).judge(IMAGE, Case("p", tuple(script)))
    assert len(strict.feedback) == 3


def test_feedback_gives_the_judges_reason() -> None:
    verdict = Verdict(COUNT, Outcome.SCORED, probability=0.1, label_mass=1.0, reason="There are two.")
    [sentence] = write_feedback([verdict], 0.5)
    assert sentence == "Not satisfied: Are there exactly three red stars? (p=0.10, counting) There are two."


async def test_the_judge_is_given_picture_prompt_and_checks_as_they_are() -> None:
    judge = judged({COUNT: 1.0, SIZE: 1.0})
    checklist: Checklist = (COUNT, SIZE)
    await checks_reward(judge).judge(IMAGE, Case("three red stars", checklist))
    assert judge.calls == [(IMAGE, "three red stars", checklist)]


async def test_verdicts_on_other_checks_are_a_mistake_not_a_score() -> None:
    class Swapped:
        name = "swapped"

        async def __call__(self, image: Image.Image, request: str, checks: object) -> list[Verdict]:
            return [Verdict(check, Outcome.SCORED, probability=1.0) for check in (SIZE, COUNT)]

    with pytest.raises(AssertionError, match="swapped"):
        await checks_reward(Swapped()).judge(IMAGE, Case("p", (COUNT, SIZE)))


async def test_fakes_refuse_what_no_judge_could_say() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        await judged({COUNT: 1.5})(IMAGE, "p", [COUNT])
    with pytest.raises(ValueError, match="needs a probability"):
        await judged({COUNT: Outcome.SCORED})(IMAGE, "p", [COUNT])
    builder = FakeChecklistBuilder(lambda prompt: ServerError(f"no server for {prompt}"))
    with pytest.raises(ServerError, match="no server for stars"):
        await builder("stars")
    assert builder.requests == ["stars"]


async def test_a_report_gives_one_row_a_check_for_every_json_output() -> None:
    script: dict[Check, JudgeAnswer] = {COUNT: 0.5, SIZE: ServerError("down")}
    report = await reward(script).judge(IMAGE, Case("two stars", (COUNT, SIZE)))
    assert report.check_rows() == [
        {"key_point": "counting", "question": COUNT.question, "outcome": "scored", "p": 0.5,
         "by": "fake-judge", "reason": ""},
        {"key_point": SIZE.key_point, "question": SIZE.question, "outcome": "failed", "p": None,
         "by": "fake-judge", "reason": "down"},
    ]  # fmt: skip
    assert [verdict.passes(0.5) for verdict in report.verdicts] == [True, False]
