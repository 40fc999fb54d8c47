"""What is read from a judge's explanation: the reason always, the region only where it is a box inside the picture."""

from __future__ import annotations

import json

import pytest

from evaluator.server_judge import MAX_REASON, Explanation, read_explanation

SIZE = (200, 100)


def reply(box: object) -> str:
    return json.dumps({"reason": "It is red.", "verdict": "no", "box": box})


def read(text: str) -> Explanation:
    return read_explanation(text, "thousandths", SIZE)


@pytest.mark.parametrize(
    "box",
    [
        [100, 200, 300],
        [100, 200, 300, 400, 500],
        [100, 200, 1100, 400],
        [-1, 200, 300, 400],
        [300, 200, 100, 400],
        [100, 400, 300, 200],
        [100, 200, 100, 400],
        ["100", "200", "300", "400"],
        [True, 200, 300, 400],
        [100, 200, float("nan"), 400],
        [100, 200, float("inf"), 400],
        [100, 200, 10**400, 400],
        [[100, 200], [300, 400]],
        {"left": 100},
        "top left",
        500,
    ],
)
def test_what_is_no_box_inside_the_picture_is_dropped_and_the_reason_kept(box: object) -> None:
    assert read(reply(box)) == Explanation("It is red.", None)


def test_a_place_that_is_said_to_be_none_or_left_out_is_none() -> None:
    assert read(reply(None)) == read('{"reason": "It is red.", "verdict": "no"}') == Explanation("It is red.", None)


def test_the_sides_of_the_picture_belong_to_it() -> None:
    assert read(reply([0, 0, 1000, 1000])).region == (0.0, 0.0, 1.0, 1.0)
    assert read_explanation(reply([0, 0, 200, 100]), "pixels", SIZE).region == (0.0, 0.0, 1.0, 1.0)
    assert read_explanation(reply([0, 0, 201, 100]), "pixels", SIZE) == Explanation("It is red.", None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("There are only two.", "There are only two."),
        ("No, there are\n\n only two.", "No, there are only two."),
        ("<think>Count: one, two.</think>There are only two.", "There are only two."),
        ('Here it is:\n```json\n{"reason": "Two.", "verdict": "No"}\n```', "Two."),
        ('{"reason": "Two \\"red\\" ones.", "verdict": "no", "box": [10 20 30]}', 'Two "red" ones.'),
        ('{"reason": "Two.", "verdict": "no", "box": [10, 2', "Two."),
    ],
)
def test_reasons_in_plain_text_and_in_broken_json_are_kept(text: str, reason: str) -> None:
    assert read(text) == Explanation(reason, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "No.",
        "null",
        "Yes, all three are there.",
        "<think>Count: one, two",
        '{"reason": "There are',
        '{"verdict": "no"}',
        '{"reason": 5, "verdict": "no"}',
        '{"reason": "  ", "verdict": "no"}',
        '{"reason": "All there.", "verdict": "yes", "box": [1, 2, 3',
        "[1, 2, 3, 4]",
    ],
)
def test_what_gives_no_reason_gives_none(text: str) -> None:
    assert read(text) == Explanation()


def test_a_reason_is_one_line_that_ends_and_can_be_written_to_a_file() -> None:
    assert len(read("word " * 1000).reason) == MAX_REASON
    assert read(r'{"reason": "half \ud800 pair", "verdict": "no"}').reason == "half ? pair"
