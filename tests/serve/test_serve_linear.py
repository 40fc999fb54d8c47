"""What strangers send is read in time that grows no faster than its length."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable

import pytest

from agent.serve.guard import COOKIE, read_cookie
from agent.serve.openai.wire import markdown_pictures


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python `work` runs: a measure that no clock and no other process disturbs. Nor does what the
    collector finds meanwhile, whose finalizers are lines too."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    gc.disable()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        work()
    finally:
        sys.settrace(None)
        gc.enable()
    return count


PIECES = ["![", "![](", "![]( ", "![a](b)", "![a]", "](", "![](x ![y](", "!", "[]()", "![ ](data:image/png;base64,AA) "]


@pytest.mark.parametrize("piece", PIECES)
def test_pictures_in_markdown(piece: str) -> None:
    counts = [lines_run(lambda n=n: list(markdown_pictures(piece * n))) for n in (200, 400, 800)]  # type: ignore[misc]
    assert counts[2] <= 2.2 * counts[1] + 20
    assert counts[1] <= 2.2 * counts[0] + 20


@pytest.mark.parametrize("piece", PIECES)
def test_pictures_in_markdown_are_what_the_pattern_says(piece: str) -> None:
    pattern = re.compile(r"!\[[^\]]*\]\(([^)\s]*)\)")
    for text in (piece * 3, f"{piece}![n](u){piece}", f"{piece} ](x) {piece}"):
        assert [url for _, _, url in markdown_pictures(text)] == pattern.findall(text)


@pytest.mark.parametrize("piece", ["a=b;", "=;", ";", '"', 'a="\\";', f"{COOKIE}", "\\", "a=b, "])
def test_cookies(piece: str) -> None:
    counts = [lines_run(lambda n=n: read_cookie(piece * n, COOKIE)) for n in (200, 400, 800)]  # type: ignore[misc]
    assert counts[2] <= 2.2 * counts[1] + 20


def test_a_cookie_among_others() -> None:
    assert read_cookie(f"a=b; {COOKIE}=ann.proof; c", COOKIE) == "ann.proof"
    assert read_cookie(f'{COOKIE}="ann.proof"', COOKIE) == "ann.proof"
    assert read_cookie(f"x{COOKIE}=no", COOKIE) is None
    assert read_cookie("", COOKIE) is None
