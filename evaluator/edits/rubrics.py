"""How published methods have an edit scored: which questions, on which scale, and what the numbers come to.

    editscore   EditScore (arXiv 2509.23909), 0-25. Two calls. Semantic, on both pictures: success, restraint (nothing
                was changed too much). Perceptual, on the result alone: naturalness, cleanness (no artifacts).
    viescore    VIEScore (Ku et al. 2024), the same questions and formulas on 0-10.
                    semantic = min(success, restraint)      perceptual = min(naturalness, cleanness)
                    overall  = sqrt(semantic * perceptual)
    editreward  EditReward (arXiv 2509.26346), 1-4. One call on both pictures: following (accuracy, completeness,
                exclusivity), quality (plausibility, no artifacts, looks).
                    overall = following + quality, 2-8

All of them are mapped linearly to [0, 1] here: EditScore's own 0-10 is ten times these. The wording is our own
(`templates/edit/`); a judge that was trained on other words is given them as a folder of templates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Parts:
    """The scores in [0, 1] that a pass's numbers come to; None is "not measured"."""

    overall: float
    semantic: float
    perceptual: float
    followed: float | None = None
    kept: float | None = None


@dataclass(frozen=True)
class Call:
    """One question to the judge: its template, the names of the two numbers it answers with, and what it is shown."""

    template: str
    names: tuple[str, str]
    sees_source: bool


@dataclass(frozen=True)
class Rubric:
    """A method: its calls, its scale, and its formula on numbers that are already mapped to [0, 1]."""

    name: str
    low: float
    high: float
    calls: tuple[Call, ...]
    formula: Callable[[Mapping[str, float]], Parts]

    def parts(self, numbers: Mapping[str, float]) -> Parts:
        """What the judge's numbers, one for each name of the calls, come to."""
        return self.formula({name: (value - self.low) / (self.high - self.low) for name, value in numbers.items()})


def _weakest_link(share: Mapping[str, float]) -> Parts:
    semantic = min(share["success"], share["restraint"])
    perceptual = min(share["naturalness"], share["cleanness"])
    return Parts(math.sqrt(semantic * perceptual), semantic, perceptual, share["success"], share["restraint"])


def _sum_of_two(share: Mapping[str, float]) -> Parts:
    return Parts((share["following"] + share["quality"]) / 2, share["following"], share["quality"])


_SEMANTIC_AND_PERCEPTUAL = (
    Call("semantic", ("success", "restraint"), sees_source=True),
    Call("perceptual", ("naturalness", "cleanness"), sees_source=False),
)

RUBRICS: Mapping[str, Rubric] = {
    rubric.name: rubric
    for rubric in (
        Rubric("editscore", 0, 25, _SEMANTIC_AND_PERCEPTUAL, _weakest_link),
        Rubric("viescore", 0, 10, _SEMANTIC_AND_PERCEPTUAL, _weakest_link),
        Rubric("editreward", 1, 4, (Call("reward", ("following", "quality"), sees_source=True),), _sum_of_two),
    )
}
