"""Relative criteria: pictures compared with one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluator.pairs.judges import GroupJudge, LikertJudge, ThurstoneRanks, WinRates, WordsPairJudge, YesNoPairJudge
from evaluator.types import Case, Need, Outcome, Reading, Shot
from redraft.errors import ConfigError

if TYPE_CHECKING:
    from evaluator.criteria import Parts


class Compared:
    """A judge of groups as a criterion: each picture's probability of being better than another of its group. A picture
    that is alone, and one without a comparison that could be read, has none."""

    absolute = False
    needs: frozenset[Need] = frozenset({"group"})

    def __init__(self, judge: GroupJudge, name: str = "pairwise") -> None:
        self.name = name
        self._judge = judge

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        if len(shots) < 2:
            return [Reading(Outcome.NOT_APPLICABLE, reason="there is nothing to compare it with")] * len(shots)
        rates = await self._judge(case.request, [shot.image for shot in shots], case.source)
        return [
            Reading(Outcome.FAILED, reason=f"{self._judge.name}: no comparison could be read")
            if rate is None
            else Reading(Outcome.SCORED, rate)
            for rate in rates
        ]


def open_pairwise(parts: Parts, *, ask: str = "yes_no") -> Compared:
    """Win rates over all pairs in both orders. `ask`: "yes_no" for P(yes) of "is the second better?" (RewardDance), "words" for
    thoughts and a sentence that names the winner (UnifiedReward, Pref-GRPO)."""
    if ask == "yes_no":
        return Compared(WinRates(YesNoPairJudge(parts.chat, parts.profile.need_judge().min_label_mass)))
    if ask == "words":
        return Compared(WinRates(WordsPairJudge(parts.talking("pairwise in words"))))
    raise ConfigError(f'pairwise: ask = "{ask}" is unknown; take "yes_no" or "words"')


def open_likert(parts: Parts) -> Compared:
    """Each picture rated by a word of a scale, and compared by Thurstone's model of the ratings."""
    return Compared(ThurstoneRanks(LikertJudge(parts.chat, parts.profile.need_judge().min_label_mass)), "likert")
