"""The prompts of README's first screen work however they are typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluator import ChecklistBuilder
from redraft.chat import open_chat
from redraft.profiles import load_profile
from redraft.templates import fold_text
from rewriter.styles import load_style

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
REQUESTS = [re.search(r'\*"(Could you draw [^"]+)"\*', README)[1], re.search(r'redraft draw "([^"]+)"', README)[1]]  # type: ignore[index]
TYPINGS = {
    "as it is": str,
    "Title Case": str.title,
    "UPPER CASE": str.upper,
    "lower case": str.lower,
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "tabs and lines": lambda text: "\ufeff" + text.replace(" ", "\t", 3).replace(", ", ",\n"),
}


@pytest.mark.integration
@pytest.mark.parametrize("typing", TYPINGS)
@pytest.mark.parametrize("request_", REQUESTS)
async def test_the_checklist_is_the_same_however_a_request_is_typed(request_: str, typing: str) -> None:
    profile = load_profile("mini")
    builder = ChecklistBuilder(open_chat(profile.rewriter.model), profile.checklist)
    expected = {check.question for check in (await builder.build(request_)).checks}
    assert expected
    assert {check.question for check in (await builder.build(TYPINGS[typing](request_))).checks} == expected


def test_what_is_quoted_keeps_its_case() -> None:
    assert fold_text('A Star With the Word "OPEN"') == 'A star with the word "OPEN"'
    assert fold_text("TWO RED STARS, THE WORD 'Open'") == "Two red stars, the word 'Open'"
    assert fold_text("one cross, word JAZZ at the top") == "one cross, word JAZZ at the top"
    assert (
        load_style("package:mini/rewriter/style")
        .rewrite_messages("TWO RED Stars")[-1]
        .content.endswith("Two red stars")
    )
