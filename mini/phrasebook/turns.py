"""Turns of a conversation about cut-outs, read with the phrase book: what is an edit, and how many there are of a thing."""

from __future__ import annotations

import asyncio
import re

from PIL import Image

from evaluator.answering import JudgeAnswerer
from evaluator.types import Check
from mini.phrasebook.phrases import LONGEST, NUMBERS, Counting, load_phrases
from rewriter.turns import RuleReader

_HOW_MANY = re.compile(
    r"how many (?P<things>.+?)(?: (?:are there|do you see|can you see|are in the picture).*)?", re.IGNORECASE
)


class PhraseReader(RuleReader):
    """A TurnReader by patterns of English, and by the phrase book's edits."""

    def knows_edit(self, text: str) -> bool:
        return all(clause.known for clause in load_phrases().read(text))


class PhraseAnswerer(JudgeAnswerer):
    """An Answerer over a judge that says yes or no, and so can count what the phrase book can name."""

    async def __call__(self, image: Image.Image, question: str) -> str:
        match = _HOW_MANY.fullmatch(" ".join(question.split()).rstrip("? "))
        if match is not None and len(question) <= LONGEST:
            counting = await asyncio.to_thread(load_phrases().mend, f"Are there exactly two {match['things']}?")
            if isinstance(counting, Counting):
                return await self._count(image, counting)
        return await super().__call__(image, question)

    async def _count(self, image: Image.Image, counting: Counting) -> str:
        verdicts = await self.judge(image, counting.asks[0], [Check("counting", ask) for ask in counting.asks])
        seen = [(v.probability, number) for number, v in enumerate(verdicts) if v.probability is not None]
        if not seen:
            return "I cannot tell."
        p, number = max(seen)
        return f"{NUMBERS[number].capitalize()} ({100 * p:.0f}% sure)."
