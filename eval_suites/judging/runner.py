"""Asks a judge about every pair, in both orders, several times, and under what should not move it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from agent.models import Evaluator
from eval_suites.judging import measures
from eval_suites.judging.attacks import WRITTEN, Attack, padded
from eval_suites.judging.comparers import whole
from eval_suites.judging.types import Comparer, JudgeData, Pair, Preference, Rated, Shown
from redraft.images import open_image
from redraft.journal import Journal


@dataclass(frozen=True)
class Plan:
    """What is measured. `tie`: margins up to this are no preference; `passes`: times that each pair is asked anew."""

    tie: float = 0.0
    passes: int = 1
    attacks: bool = True
    both_orders: bool = True
    at_once: int = 8


async def judge_pairs(
    pairs: Sequence[Pair],
    judge: Comparer,
    second: Comparer | None,
    plan: Plan,
    journal: Journal,
    done: Callable[[], None] = lambda: None,
    *,
    attacks: Sequence[Attack] = (WRITTEN,),
    defences: Mapping[str, Comparer] = MappingProxyType({}),
) -> dict[str, Any]:
    """Every measure of the plan. With both orders, accuracy is that of their mean.

    A pair is shown as it is ("plain"), the other way round ("swapped"), with each attack painted into the worse one,
    and with a wordy prompt ("padded"). Attacks meet the judge as it is used and its likes in `defences`: the same judge
    without what defends it, or with more.
    """
    painters = {attack.name: attack for attack in attacks}
    gate = asyncio.Semaphore(plan.at_once)
    asked: set[str] = set()

    async def all_of(who: Comparer, art: str, run: int = 0) -> list[Preference]:
        async def one(pair: Pair) -> Preference:
            key = f"{who.name} | {art} {run} | {pair.id}"

            async def make() -> dict[str, Any]:
                async with gate:
                    shown = await asyncio.to_thread(_shown, pair, art, painters)
                    asked.add(key)
                    return asdict(await who(shown, run))

            known = journal.get(("preference", key))
            failed = known is not None and known["p_first"] is None and key not in asked
            told = await journal.aonce(("preference", key), make, again=failed)
            done()
            scores = told["scores"]
            found = Preference(told["p_first"], None if scores is None else (scores[0], scores[1]), told["failure"])
            return measures.swapped(found) if art == "swapped" else found

        return list(await asyncio.gather(*(one(pair) for pair in pairs)))

    plain = await all_of(judge, "plain")
    figures: dict[str, Any] = {}
    main = plain
    if judge.ordered and plan.both_orders:
        turned = await all_of(judge, "swapped")
        figures["position"] = measures.position_bias(plain, turned, plan.tie)
        main = [measures.both_orders(a, b) for a, b in zip(plain, turned, strict=True)]
    figures |= {
        "accuracy": measures.accuracy(pairs, main, plan.tie),
        "perspectives": measures.perspectives(pairs, main, plan.tie),
        "calibration": measures.reliability(pairs, main),
    }
    if plan.passes > 1:
        passes = [plain, *[await all_of(judge, "plain", run) for run in range(1, plan.passes)]]
        figures["consistency"] = measures.self_consistency(passes, plan.tie)
    if plan.attacks:
        figures["attacks"] = {}
        for title, who in {"as used": judge, **defences}.items():
            clean = plain if who is judge else await all_of(who, "plain")
            for attack in attacks:
                found = await all_of(who, attack.name)
                fit = [n for n, pair in enumerate(pairs) if attack.fits(pair)]
                row = measures.attack(
                    [pairs[n] for n in fit], [clean[n] for n in fit], [found[n] for n in fit], plan.tie
                )
                figures["attacks"].setdefault(attack.told, {})[title] = row
        figures["verbosity"] = measures.moved(plain, await all_of(judge, "padded"), plan.tie)
    if second is not None:
        other = await all_of(second, "plain")
        figures["second"] = {"name": second.name, **measures.accuracy(pairs, other, plan.tie)}
        figures["agreement"] = measures.agreement(plain, other, plan.tie)
    failures = [preference.failure for preference in main if preference.p_first is None]
    figures["first_failure"] = failures[0] if failures else None
    return figures


async def judge_ratings(
    rated: Sequence[Rated], evaluator: Evaluator, name: str, plan: Plan, journal: Journal, done: Callable[[], None]
) -> dict[str, Any]:
    """Rank correlation of the judge's scores with people's ratings."""
    gate = asyncio.Semaphore(plan.at_once)
    asked: set[str] = set()

    async def one(item: Rated) -> float | None:
        key = f"{name} | {item.id}"

        async def make() -> float | None:
            async with gate:
                image = await asyncio.to_thread(open_image, item.picture)
                asked.add(key)
                return (await evaluator.score(image, item.prompt, (whole(item.prompt),))).score

        known = journal.get(("score", key))
        score: float | None = await journal.aonce(("score", key), make, again=known is None and key not in asked)
        done()
        return score

    scores = await asyncio.gather(*(one(item) for item in rated))
    return {"ratings": measures.correlation(rated, scores), "rating_tags": dict(measures.by_tag(rated, scores))}


def asked_of(
    data: JudgeData, judge: Comparer, second: Comparer | None, plan: Plan, attacks: int = 1, defences: int = 0
) -> int:
    """How many answers the plan takes."""
    times = 1 + (judge.ordered and plan.both_orders) + (plan.passes - 1) + (second is not None)
    times += plan.attacks * (1 + defences + attacks * (1 + defences))
    return len(data.pairs) * times + len(data.rated)


def _shown(pair: Pair, art: str, attacks: Mapping[str, Attack]) -> Shown:
    first, second = open_image(pair.first), open_image(pair.second)
    prompt = pair.prompt
    if art == "swapped":
        first, second = second, first
    elif art in attacks and pair.label == "first":
        second = attacks[art].paint(second)
    elif art in attacks and pair.label == "second":
        first = attacks[art].paint(first)
    elif art == "padded":
        prompt = padded(prompt)
    source = None if pair.source is None else open_image(pair.source)
    return Shown(prompt, first, second, source, pair.check, pair.perspective)
