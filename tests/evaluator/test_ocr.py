"""Checks of writing are answered by what is read in the picture, and by the judge if reading cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image

from evaluator.ocr import Line, RapidReader, TextTool, read_question, sort_lines
from evaluator.testing import FakeJudge
from evaluator.tools import ToolJudge, open_tools
from evaluator.types import Check, Outcome, Verdict
from mini.world.raster import draw
from mini.world.scene import CutOut, PrintedWord, Scene
from redraft.errors import BackendError, ConfigError

PICTURE = Image.new("RGB", (64, 64), "white")
REQUEST = 'a shop with a sign "OPEN"'
JUDGE = 0.77
"""What the judge says to everything."""


class FakeReader:
    """A TextReader that reads the same in every picture."""

    def __init__(self, *lines: Line | str, fails: bool = False) -> None:
        self.lines = tuple(line if isinstance(line, Line) else Line(line, (0.3, 0.1, 0.7, 0.2), 0.95) for line in lines)
        self.read = 0
        self.fails = fails

    async def __call__(self, image: Image.Image) -> tuple[Line, ...]:
        self.read += 1
        if self.fails:
            raise BackendError("the reader broke")
        return self.lines

    def knows(self, text: str) -> bool:
        return text.isascii()


async def ask(
    reader: FakeReader, *questions: str, request: str = REQUEST, key: str = "text_rendering"
) -> list[Verdict]:
    judge = ToolJudge(FakeJudge(lambda *_: JUDGE, name="vlm"), (TextTool(reader),))
    return await judge(PICTURE, request, [Check(key, question) for question in questions])


async def say(
    lines: Sequence[Line | str], question: str, *, request: str = REQUEST, key: str = "text_rendering"
) -> str:
    """ "yes" or "no" of the reader, "judge" if the judge answered."""
    [verdict] = await ask(FakeReader(*lines), question, request=request, key=key)
    assert verdict.outcome is Outcome.SCORED
    assert verdict.probability is not None
    if verdict.by == "vlm":
        return "judge"
    assert verdict.by == "ocr"
    return "yes" if verdict.probability >= 0.5 else "no"


@pytest.mark.parametrize(
    ("lines", "question", "answer"),
    [
        (["OPEN"], 'Does the sign read "OPEN"?', "yes"),
        (["Open!"], 'Does the sign read "OPEN"?', "yes"),
        (["OPNE"], 'Does the sign read "OPEN"?', "no"),
        (["OPENING"], 'Does the sign read "OPEN"?', "no"),
        ([], 'Does the sign read "OPEN"?', "no"),
        (["OPEN"], "Does the sign read OPEN?", "yes"),
        (["CLOSED"], "Does the sign read OPEN?", "no"),
        (["HAPPY", "BIRTHDAY"], "Does the cake say “Happy Birthday”?", "judge"),
        (["HAPPY", "BIRTHDAY"], "Does the card say “Happy Birthday”?", "yes"),
        (["BIRTHDAY HAPPY"], "Does the card say “Happy Birthday”?", "no"),
        (["HAPPYBIRTHDAY"], "Does the card say “Happy Birthday”?", "yes"),
        (["HAPPY BIRTHDAY MUM"], "Does the card say “Happy Birthday”?", "yes"),
        (["HAPPY BIRTHDAY MUM"], "Does the card say exactly “Happy Birthday”?", "no"),
        (["OPEN", Line("DAILY", (0.3, 0.8, 0.7, 0.9), 0.9)], 'Does the sign read exactly "OPEN"?', "yes"),
        (["OPEN", Line("DAILY", (0.3, 0.8, 0.7, 0.9), 0.9)], 'Is "OPEN" the only text in the picture?', "no"),
        (["OPEN", Line("C", (0.3, 0.8, 0.4, 0.9), 0.9)], 'Is "OPEN" the only text in the picture?', "yes"),
        (["OPEN"], "Is the picture free of text?", "no"),
        ([], "Is the picture free of any writing?", "yes"),
        (["OPEN"], 'Is there no sign with the word "SALE"?', "yes"),
        (["OPEN"], 'Is "OPEN" written in red letters?', "judge"),
        (["SALE"], 'Is "OPEN" written in red letters?', "no"),
        ([Line("OPEN", (0.3, 0.1, 0.7, 0.2), 0.4)], 'Does the sign read "OPEN"?', "judge"),
        ([Line("OPFN", (0.3, 0.1, 0.7, 0.2), 0.4)], 'Does the sign read "OPEN"?', "judge"),
        (["OPEN"], "Is the sign easy to read?", "judge"),
        (["ОТКРЫТО"], 'Does the sign read "ОТКРЫТО"?', "judge"),
    ],
)
async def test_a_question_about_words_is_answered_by_what_is_read(
    lines: list[Line | str], question: str, answer: str
) -> None:
    assert await say(lines, question) == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is the word at the top?", "yes"),
        ("Is the word at the bottom?", "no"),
        ('Is "OPEN" at the top left?', "yes"),
        ('Is "OPEN" at the top right?', "no"),
        ('Is "OPEN" above "DAILY"?', "yes"),
        ('Is "DAILY" above "OPEN"?', "no"),
        ('Does "OPEN" stand left of "DAILY"?', "yes"),
        ('Is "OPEN" written to the left of "DAILY"?', "yes"),
        ('Is "OPEN" before "DAILY"?', "yes"),
        ('Is "OPEN" centred at the top?', "no"),
        ('Is "OPEN" at the top in a serif typeface?', "judge"),
    ],
)
async def test_where_words_are_is_read_off_their_boxes(question: str, answer: str) -> None:
    lines = [Line("DAILY", (0.6, 0.8, 0.9, 0.9), 0.9), Line("OPEN", (0.1, 0.1, 0.3, 0.2), 0.9)]
    assert await say(lines, question, key="text_layout") == answer


async def test_the_word_of_a_place_may_be_a_wrong_one() -> None:
    assert await say(["OPNE"], "Is the word at the top?", key="text_layout") == "yes"
    assert await say([], "Is the word at the top?", key="text_layout") == "no"


async def test_a_near_miss_is_nearer_than_another_word_and_passes_neither() -> None:
    near, far = [(await ask(FakeReader(word), 'Does the sign read "OPEN"?'))[0] for word in ("OPNE", "ZOO")]
    assert near.probability is not None
    assert far.probability is not None
    assert far.probability < near.probability < 0.5
    assert near.reason == 'the picture reads "OPNE"'


async def test_other_checks_are_the_judges_and_all_come_back_in_order() -> None:
    reader = FakeReader("OPEN")
    judge = ToolJudge(FakeJudge(lambda *_: JUDGE, name="vlm"), (TextTool(reader),))
    checks = [
        Check("attribute_consistency", "Is the door red?"),
        Check("text_rendering", 'Does the sign read "OPEN"?'),
        Check("artistic_style", 'Is the style "cyberpunk"?'),
        Check("text_rendering", 'Does the sign read "SALE"?'),
    ]
    verdicts = await judge(PICTURE, REQUEST, checks)
    assert [verdict.check for verdict in verdicts] == checks
    assert [verdict.by for verdict in verdicts] == ["vlm", "ocr", "vlm", "ocr"]
    assert reader.read == 1


async def test_a_reader_that_breaks_leaves_the_check_to_the_judge() -> None:
    [verdict] = await ask(FakeReader("OPEN", fails=True), 'Does the sign read "OPEN"?')
    assert (verdict.by, verdict.probability) == ("vlm", JUDGE)


def test_a_question_takes_its_words_from_the_request_if_it_quotes_none() -> None:
    question = read_question("a card that says 'get well soon'", Check("text_rendering", "Does it say get well soon?"))
    assert question is not None
    assert question.texts == ("get well soon",)


def test_lines_are_read_from_the_top_and_each_row_from_the_left() -> None:
    boxes = {"c": (0.0, 0.5, 1.0, 0.6), "b": (0.5, 0.12, 1.0, 0.2), "a": (0.0, 0.1, 0.4, 0.2)}
    lines = [Line(text, box, 1.0) for text, box in boxes.items()]
    assert "".join(line.text for line in sort_lines(lines)) == "abc"


def test_a_tool_that_cannot_be_imported_is_a_mistake_in_the_profile() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        open_tools(["nowhere:Tool"])


async def test_rapidocr_reads_the_word_on_a_sheet_and_where_it_is() -> None:
    pytest.importorskip("rapidocr")
    scene = Scene("cream", (CutOut("star", "red", "plain", 0.5, 0.6, 0.1),), PrintedWord("NORTH", 0.55, 0.1))
    lines = await RapidReader()(draw(scene))
    [word] = [line for line in lines if line.text == "NORTH"]
    assert word.confidence > 0.9
    assert (word.box[0] + word.box[2]) / 2 == pytest.approx(0.55, abs=0.05)
    assert word.box[3] < 0.25
