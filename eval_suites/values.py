"""From the answers on one picture to its value. A failed answer is never a wrong one: where it matters, no value."""

from __future__ import annotations

import math
from statistics import fmean

from eval_suites.types import Answers, Item


def right(answer: float | None, pass_at: float) -> bool | None:
    """Whether a question is answered right; None where the judge failed."""
    return None if answer is None else answer >= pass_at


def resolved(item: Item, answers: Answers, pass_at: float) -> list[bool | None]:
    """Each question right, wrong or open. One that needs a wrong one is wrong; one that needs an open one is open,
    unless it is wrong by itself (the rule of DPG-Bench and TIFA: what hangs on a missing thing cannot be there)."""
    states = [right(answer, pass_at) for answer in answers]
    for index, question in enumerate(item.questions):
        parents = [states[parent] for parent in question.needs]
        if False in parents:
            states[index] = False
        elif None in parents and states[index] is not False:
            states[index] = None
    return states


def every_right(item: Item, answers: Answers, pass_at: float) -> float | None:
    """1 where every question is answered right, 0 where one is wrong, None where only failed answers leave it open."""
    states = resolved(item, answers, pass_at)
    if False in states:
        return 0.0
    return None if None in states or not states else 1.0


def share_right(item: Item, answers: Answers, pass_at: float) -> float | None:
    """Share of questions answered right, of those that were answered."""
    states = [state for state in resolved(item, answers, pass_at) if state is not None]
    return fmean(states) if states else None


def mean_probability(_: Item, answers: Answers, pass_at: float) -> float | None:
    """Mean probability of the right answers (Soft-TIFA's arithmetic mean), of those that were answered."""
    known = [answer for answer in answers if answer is not None]
    return fmean(known) if known else None


def geometric_probability(_: Item, answers: Answers, pass_at: float) -> float | None:
    """Geometric mean of the probabilities (Soft-TIFA GM); None where any is missing."""
    known = [answer for answer in answers if answer is not None]
    if not known or len(known) < len(answers):
        return None
    return 0.0 if min(known) == 0 else math.exp(fmean(math.log(p) for p in known))
