"""The criterion `views`: a thing in space, judged by views of it (VLM3D).

[[evaluator.criteria]]
use = "views"
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from evaluator.criteria.checks import judge_checks
from evaluator.types import Case, Check, Judge, Need, Outcome, Reading, Shot
from redraft.errors import ConfigError

if TYPE_CHECKING:
    from evaluator.criteria import Parts

MEANING = Check("other", "Is this a view of the thing that the request describes?")
GEOMETRY = Check("object_morphology", "Seen from here, does the thing have a whole, consistent and possible shape?")
_MOST = 20.0
"""Log-odds beyond which an answer is as sure as can be: one view of certainty must not decide for all."""


class Views:
    """Each frame of a shot is a view. The judge is asked two questions about each, one of meaning and one of geometry; the value
    is the mean of their log-odds, log P(yes) - log P(no), over views and questions, as a probability (VLM3D rewards the mean
    log-odds themselves). A view of which an answer FAILED is left out; without any it FAILED."""

    name = "views"
    absolute = True
    needs: frozenset[Need] = frozenset()

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        return [await self._read(case, shot) for shot in shots]

    async def _read(self, case: Case, shot: Shot) -> Reading:
        asked = (judge_checks(self._judge, f, request=case.request, checks=(MEANING, GEOMETRY)) for f in shot.frames)
        views = await asyncio.gather(*asked)
        odds = [
            [log_odds(verdict.probability) for verdict in verdicts if verdict.probability is not None]
            for verdicts in views
            if all(verdict.outcome is Outcome.SCORED for verdict in verdicts)
        ]
        if not odds:
            return Reading(Outcome.FAILED, reason=views[0][0].reason if views else "there are no views")
        value = 1 / (1 + math.exp(-fmean(fmean(each) for each in odds)))
        return Reading(Outcome.SCORED, value, reason=f"{len(odds)} of {len(shot.frames)} views")


def log_odds(p: float) -> float:
    """log p - log (1 - p), within bounds.

    >>> log_odds(0.5)
    0.0
    """
    if p <= 0 or p >= 1:
        return -_MOST if p <= 0 else _MOST
    return min(_MOST, max(-_MOST, math.log(p) - math.log1p(-p)))


def open_views(parts: Parts) -> Views:
    """The criterion, by the profile's judge. Raises ConfigError if it cannot be asked anything."""
    if not parts.profile.need_judge().asks_freely:
        raise ConfigError("views needs a judge that can be asked anything, and this profile's has asks_freely = false")
    return Views(parts.judge)
