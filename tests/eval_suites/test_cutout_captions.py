"""The figure of relations told by both sides and by one."""

from __future__ import annotations

import re

import pytest

from eval_suites import cutout_captions


def test_both_ways_and_their_difference_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    cutout_captions.main(["--count", "6"])
    told = dict(re.findall(r"^(both|one|one - both) +(-?[\d.]+) \[", capsys.readouterr().out, re.MULTILINE))
    assert float(told["both"]) > 0.3, "true captions are mostly drawn rightly"
    assert float(told["one - both"]) == pytest.approx(float(told["one"]) - float(told["both"]), abs=0.002)
