"""Looking again: the least certain checks first, within a budget; readers that disagree let nothing pass."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from PIL import Image
from pydantic import ValidationError

from evaluator.criteria.checks import write_feedback
from evaluator.looks import Again, DescribingReader, LooksAgain, SecondReader, Zoom, crop, move, pool, widen
from evaluator.testing import FakeJudge, JudgeAnswer
from evaluator.types import Check, Outcome, Verdict
from redraft.chat import ChatReply, ChatRequest
from redraft.errors import BackendError
from redraft.profiles import JudgeConfig, ModelConfig, SecondReaderConfig
from redraft.testing import FakeChat

PICTURE = Image.new("RGB", (100, 50), "white")
MODEL = ModelConfig(kind="transformers", model="nowhere")
STAR, MOON, BOAT = (Check("attribute_consistency", f"Is there a {thing}?") for thing in ("star", "moon", "boat"))


def judge(answers: Mapping[Check, JudgeAnswer], name: str = "judge") -> FakeJudge:
    return FakeJudge(lambda image, request, check: answers[check], name=name)


async def look(again: LooksAgain) -> list[Verdict]:
    return await again(PICTURE, "a star, a moon and a boat", [STAR, MOON, BOAT])


async def test_the_least_certain_checks_are_looked_at_first_and_no_more_than_the_budget_allows() -> None:
    second = judge({MOON: 0.9, BOAT: 0.9}, "second")
    verdicts = await look(LooksAgain(judge({STAR: 0.99, MOON: 0.5, BOAT: 0.3}), [SecondReader(second)], most=2))
    assert [call[2] for call in second.calls] == [(MOON, BOAT)]
    assert [verdict.looks for verdict in verdicts] == [1, 2, 2]
    assert [verdict.probability for verdict in verdicts] == pytest.approx([0.99, 0.75, 0.6627], abs=1e-4)
    assert [verdict.by for verdict in verdicts] == ["judge", "judge, second", "judge, second"]


async def test_a_check_passes_if_both_readers_say_yes() -> None:
    second = judge({STAR: 0.1, MOON: 0.6, BOAT: 0.9}, "second")
    verdicts = await look(LooksAgain(judge({STAR: 0.99, MOON: 0.9, BOAT: 0.4}), [SecondReader(second)], most=3))
    assert [verdict.passes(0.5) for verdict in verdicts] == [False, True, False]
    assert [verdict.reason for verdict in verdicts] == [
        "the readers disagree: judge 0.99, second 0.10",
        "",
        "the readers disagree: judge 0.40, second 0.90",
    ]
    assert len(write_feedback(verdicts, 0.5)) == 2, "what is not agreed upon is fed back, too"


def test_two_readers_make_one_probability() -> None:
    assert pool(0.8, 0.8) == pytest.approx(0.8), "who err alike are no surer together"
    assert pool(0.8, 0.8, independence=2) == pytest.approx(16 / 17), "the odds of 4 to 1, twice"
    assert pool(0.3, 0.9, weight=0) == pytest.approx(0.3)
    assert pool(0.2, 0.8, independence=2) == pytest.approx(0.5)
    assert 0 < pool(0.0, 1.0, weight=0.3) < 0.5, "nobody has the last word"


async def test_without_an_answer_of_the_second_reader_the_first_one_stands() -> None:
    second = judge({STAR: Outcome.FAILED, MOON: BackendError("gone"), BOAT: 0.9}, "second")
    verdicts = await look(
        LooksAgain(judge({STAR: 0.8, MOON: 0.8, BOAT: Outcome.FAILED}), [SecondReader(second)], most=9)
    )
    assert [verdict.probability for verdict in verdicts] == [0.8, 0.8, None]
    assert verdicts[2].outcome is Outcome.FAILED, "a second reader does not make up for a judge that failed"


async def test_zoom_keeps_the_surer_of_two_answers_and_looks_at_nothing_that_was_sure() -> None:
    def answer(image: Image.Image, request: str, check: Check) -> JudgeAnswer:
        near = image.size != PICTURE.size
        return {STAR: 0.6, MOON: 0.45, BOAT: 0.95}[check] if not near else {STAR: 0.98, MOON: 0.52}[check]

    one = FakeJudge(answer, name="judge")

    async def locate(image: Image.Image, check: Check) -> tuple[float, float, float, float]:
        return (0.1, 0.1, 0.3, 0.5)

    verdicts = await look(LooksAgain(one, [Zoom(one, locate)], most=9))
    assert [verdict.probability for verdict in verdicts] == [0.98, 0.45, 0.95]
    assert [verdict.looks for verdict in verdicts] == [2, 2, 1]
    assert verdicts[0].region == (0.1, 0.1, 0.3, 0.5)
    assert verdicts[0].by == "judge, zoom"


async def test_a_place_that_is_most_of_the_picture_or_cannot_be_found_is_not_zoomed_into() -> None:
    one = judge({STAR: 0.6, MOON: 0.6, BOAT: 0.6})

    async def locate(image: Image.Image, check: Check) -> tuple[float, float, float, float] | None:
        if check == BOAT:
            raise BackendError("gone")
        return (0.0, 0.0, 0.9, 0.9) if check == STAR else None

    verdicts = await look(LooksAgain(one, [Zoom(one, locate)], most=9))
    assert [verdict.probability for verdict in verdicts] == [0.6, 0.6, 0.6]
    assert len(one.calls) == 1


async def test_answers_that_scatter_from_look_to_look_are_not_trusted() -> None:
    first = iter([0.6, 0.1])
    one = FakeJudge(lambda image, request, check: next(first), name="judge")
    [verdict] = await LooksAgain(one, [Again(one)], most=9)(PICTURE, "a star", [STAR])
    assert verdict.probability == pytest.approx(0.35)
    assert verdict.spread == pytest.approx(0.25)


async def test_the_second_reader_answers_from_a_description_without_having_seen_the_question() -> None:
    asked: list[ChatRequest] = []

    def answer(request: ChatRequest) -> ChatReply:
        asked.append(request)
        if request.choices:
            return ChatReply("yes", logprobs={"yes": math.log(0.9), "no": math.log(0.1)})
        return ChatReply("A red star above a boat.")

    chat = FakeChat(answer)
    [star, boat] = await DescribingReader(chat, chat, JudgeConfig(model=MODEL))(PICTURE, "a star", [STAR, BOAT])
    assert (star.probability, boat.raw) == (pytest.approx(0.9), "A red star above a boat.")
    describing, *answering = asked
    assert not any(STAR.question in str(part) for part in describing.messages[0].content)
    assert all(isinstance(request.messages[0].content, str) for request in answering), "they are shown no picture"
    assert all("A red star above a boat." in str(request.messages[0].content) for request in answering)


def test_a_region_is_widened_within_the_picture_and_enlarged() -> None:
    box = widen((0.0, 0.5, 0.5, 1.0), 0.2)
    assert box == pytest.approx((0.0, 0.4, 0.6, 1.0))
    assert max(crop(PICTURE, (0.1, 0.2, 0.3, 0.6)).size) == 100


def test_a_picture_that_is_moved_keeps_its_size_and_its_edge() -> None:
    picture = Image.new("RGB", (10, 10), "white")
    picture.putpixel((0, 0), (255, 0, 0))
    moved = move(picture, 0.2, 0.1)
    assert moved.size == (10, 10)
    assert moved.getpixel((2, 1)) == (255, 0, 0)
    assert moved.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("settings", [{"looks": 3}, {"again": 1}, {"zoom": True}])
def test_a_judge_that_looks_again_is_told_how_often_and_how(settings: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="both"):
        JudgeConfig.model_validate({"model": MODEL, **settings})


def test_a_second_reader_is_a_judge_of_ones_own_or_a_model_that_describes() -> None:
    with pytest.raises(ValidationError, match="either"):
        SecondReaderConfig()
