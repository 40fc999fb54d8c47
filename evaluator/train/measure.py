"""What a judge says of records: asked as it is asked in use, through the Judge protocol."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from evaluator.train.figures import Answer
from evaluator.train.records import Judgement
from evaluator.types import Judge, Outcome


async def ask(
    judge: Judge, records: Sequence[Judgement], *, at_once: int = 8, told: Callable[[int], None] | None = None
) -> list[Answer]:
    """An answer for each record, in order. The judge's temperature must be 1: answers are calibrated afterwards.

    Records about one picture and prompt are asked together, so that the judge computes the picture once; `at_once`
    pictures run side by side. `told` is called with the number of records answered so far.
    """
    together: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        together[record.picture.digest, record.prompt].append(index)
    groups = list(together.values())
    answers: dict[int, Answer] = {}
    for start in range(0, len(groups), at_once):
        chunk = groups[start : start + at_once]
        for indices, found in zip(chunk, await asyncio.gather(*(_one(judge, records, g) for g in chunk)), strict=True):
            answers.update(zip(indices, found, strict=True))
        if told is not None:
            told(len(answers))
    return [answers[index] for index in range(len(records))]


async def _one(judge: Judge, records: Sequence[Judgement], indices: Sequence[int]) -> list[Answer]:
    mine = [records[index] for index in indices]
    image = await asyncio.to_thread(mine[0].picture.open)
    verdicts = await judge(image, mine[0].prompt, [one.check for one in mine])
    return [
        Answer(
            key_point=one.check.key_point,
            picture=one.picture.digest,
            accept=one.accept,
            probability=verdict.probability if verdict.outcome is Outcome.SCORED else None,
            mass=verdict.label_mass,
        )
        for one, verdict in zip(mine, verdicts, strict=True)
    ]
