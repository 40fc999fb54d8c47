"""Turns of a conversation about cut-outs, read with the phrase book: what is an edit; and answers to open questions, which a
judge that only says yes or no can give by being asked of each thing that the answer might be."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from PIL import Image

from evaluator.answering import JudgeAnswerer
from evaluator.types import Check
from mini.phrasebook.phrases import LONGEST, NUMBERS, Counting, load_phrases
from mini.world import synonyms
from mini.world.questions import Noun, Query, plural
from mini.world.scene import COLORS, FILLS, SHAPES, SHEETS, SIZES
from rewriter.turns import RuleReader

_HOW_MANY = re.compile(
    r"how many (?P<things>.+?)(?: (?:are there|do you see|can you see|are in the picture).*)?", re.IGNORECASE
)

_WHAT_QUALITY = re.compile(
    r"(?:what|which) (?P<what>colou?rs?|sizes?|patterns?)(?: (?:is|are|has|have|does|do))? (?P<thing>[\w -]{1,60})|"
    r"how (?P<how>big|large|small) (?:is|are) (?P<thing_how>[\w -]{1,60})",
    re.IGNORECASE,
)
_WHAT_IS_THERE = re.compile(
    r"what(?: else)? (?:do you see|can you see|is there|is (?:in|on) (?:it|this|that|the (?:picture|image|sheet))|is it|is this"
    r"|does (?:it|the picture|this) show)(?: (?:in|on) .{1,30})?"
    r"|(?:what|which) (?:shapes?|things?|cut-?outs?|objects?)(?: are there| do you see| can you see| are| is)?"
    r"(?: (?:in|on) .{1,30})?",
    re.IGNORECASE,
)
_VALUES = {"colour": tuple(COLORS), "size": tuple(SIZES), "pattern": tuple(FILLS)}
_KINDS = {"colour": "color", "size": "size", "pattern": "fill"}
_SHEET = ("background", "backdrop", "paper", "sheet")
_SHAPES = {name: (shape, False) for shape, names in synonyms.SHAPES.items() for name in names} | {
    synonyms.plural_name(name): (shape, True) for shape, names in synonyms.SHAPES.items() for name in names
}
_COLOURS = {name: color for color, names in synonyms.COLORS.items() for name in names}


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
        if len(question) <= LONGEST and (answer := await self._answer_openly(image, question)) is not None:
            return answer
        return await super().__call__(image, question)

    async def _answer_openly(self, image: Image.Image, question: str) -> str | None:
        """The answer to a question about colour, size or pattern of a thing, or about what there is; None for others."""
        words = " ".join(question.split()).rstrip("? ")
        if _WHAT_IS_THERE.fullmatch(words):
            return await self._list_shapes(image)
        match = _WHAT_QUALITY.fullmatch(words)
        if match is None:
            return None
        what = (match["what"] or "size").casefold().rstrip("s").replace("color", "colour")
        thing = (match["thing"] or match["thing_how"]).casefold().split()
        if what == "colour" and any(word in _SHEET for word in thing):
            asked = {sheet: Query("sheet", value=sheet) for sheet in SHEETS}
        else:
            noun = _read_noun(thing)
            asked = {value: Query(_KINDS[what], noun, value=value) for value in _VALUES[what]}
        p, value = await self._surest(image, asked)
        return "I cannot tell." if p < 0.5 else f"{value.capitalize()} ({100 * p:.0f}% sure)."

    async def _list_shapes(self, image: Image.Image) -> str:
        questions = [str(Query("exists", Noun(shape))) for shape in SHAPES]
        verdicts = await self.judge(image, questions[0], [Check("probe", ask) for ask in questions])
        seen = [shape for shape, v in zip(SHAPES, verdicts, strict=True) if (v.probability or 0.0) >= 0.5]
        return f"I see: {', '.join(map(plural, seen))}." if seen else "I see none of the shapes that I know."

    async def _surest(self, image: Image.Image, asked: Mapping[str, Query]) -> tuple[float, str]:
        """What the judge says yes to with the most confidence, and with how much."""
        checks = [Check("probe", str(query)) for query in asked.values()]
        verdicts = await self.judge(image, checks[0].question, checks)
        return max((v.probability or 0.0, value) for v, value in zip(verdicts, asked, strict=True))

    async def _count(self, image: Image.Image, counting: Counting) -> str:
        verdicts = await self.judge(image, counting.asks[0], [Check("counting", ask) for ask in counting.asks])
        seen = [(v.probability, number) for number, v in enumerate(verdicts) if v.probability is not None]
        if not seen:
            return "I cannot tell."
        p, number = max(seen)
        return f"{NUMBERS[number].capitalize()} ({100 * p:.0f}% sure)."


def _read_noun(words: Sequence[str]) -> Noun:
    """What is spoken of: a shape by any of its names, and its colour; any shape if none is named."""
    color = next((_COLOURS[word] for word in words if word in _COLOURS), None)
    for length in (2, 1):
        for at in range(len(words) - length + 1):
            if (found := _SHAPES.get(" ".join(words[at : at + length]))) is not None:
                shape, many = found
                return Noun(shape, color, many)
    return Noun("shape", color)
