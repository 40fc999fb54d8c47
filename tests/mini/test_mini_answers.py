"""Answers to questions about cut-outs by a judge that only says yes or no: it is asked about each thing that may be."""

from __future__ import annotations

import pytest
from PIL import Image

from evaluator.testing import FakeJudge
from mini.phrasebook.turns import PhraseAnswerer

TRUE = {
    "Is the circle blue?", "Are all stars small?", "Is there a circle?", "Is there a star?", "Is the sheet mint?",
    "Is the red square striped?", "Is the shape blue?", "Is there exactly one circle?",
}  # fmt: skip


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what colour is the circle?", "Blue (97% sure)."),
        ("Which color does the disc have", "Blue (97% sure)."),
        ("what colour is it?", "Blue (97% sure)."),
        ("what colour is the background?", "Mint (97% sure)."),
        ("how big are the stars?", "Small (97% sure)."),
        ("what pattern has the crimson box?", "Striped (97% sure)."),
        ("what do you see?", "I see: circles, stars."),
        ("which shapes are there in the picture?", "I see: circles, stars."),
        ("what colour is the moon?", "I cannot tell."),
        ("is the circle blue", "Yes (97% sure)."),
        ("where is the circle?", "I can only answer questions with yes or no here, such as: Is the sky blue?"),
    ],
)
async def test_open_questions_are_answered_by_what_is_most_surely_so(question: str, answer: str) -> None:
    judge = FakeJudge(lambda image, request, check: 0.97 if check.question.capitalize() in _CAPITALIZED else 0.02)
    assert await PhraseAnswerer(judge)(Image.new("RGB", (8, 8)), question) == answer


_CAPITALIZED = {question.capitalize() for question in TRUE}
