"""What comes from outside is read in time that grows no faster than its length, or is cut before it is read.

Regular expressions do their work where no tracer counts it, so this counts processor time, with wide margins: four
times as much text may take eight times as long, where a quadratic reader takes sixteen times and a cubic one 64 times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.linear_readers import PIECES, READERS

ENOUGH_S = 0.04
"""Less is not looked at: the measure is too coarse."""
AT_MOST_S = 4.0
"""What the longest text may take that a reader with a bound of its own is ever given. Such readers run in threads."""
BOUNDED = 4000
"""A request, and a prompt, have at most so many characters (`rewriter.request.MAX_CHARS`)."""


def seconds(read: Callable[[str], object], text: str) -> float:
    """The least processor time of three readings; one is enough if it is short. A refusal is an answer as well."""
    least = float("inf")
    for _ in range(3):
        started = time.process_time()
        with suppress(Exception):
            read(text)
        least = min(least, time.process_time() - started)
        if least < ENOUGH_S:
            break
    return least


@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_readers_of_outside_text(name: str, share: int) -> None:
    """A quarter of what they are given at most, and all of it in scripts/ci_slow.sh."""
    read, most = READERS[name]
    bounded = most <= BOUNDED
    most = most if bounded and "phrase book" not in name else most // share
    seconds(read, "Warm up, please.")
    for piece in PIECES:
        whole = piece * (most // len(piece))
        # From short to long: a reader that explodes fails before it takes for ever.
        took = [seconds(read, whole[: most // part]) for part in (16, 8, 4)]
        assert took[-1] < AT_MOST_S / 4, (name, piece, took)
        took += [seconds(read, whole[: most // part]) for part in (2, 1)]
        if bounded:
            assert took[-1] < AT_MOST_S, (name, piece, took)
        elif took[-1] > ENOUGH_S:
            assert took[-1] <= 8 * took[-3] + ENOUGH_S, (name, piece, took)
