"""What the words of the mini world mean, for `evaluator.coverage`: its synonyms, and what people say around a request.

find_coverage("a crimson disc", checks, load_lexicon())
"""

from __future__ import annotations

from functools import cache

from evaluator.coverage import Lexicon
from evaluator.coverage import load_lexicon as load_english
from mini.world import synonyms

_MORE = {
    "sheet": ("background", "backdrop", "paper"),
    "say": ("word", "text", "caption", "lettering", "reading", "printed", "written"),
    "same colour": ("same color", "share one colour", "share one color", "share a colour", "share a color"),
    "inside": ("around", "wrapped around"),
}
_FILLERS = (
    "against", "shape", "shapes", "of a picture", "for a birthday card", "for a poster", "something simple",
    "my daughter would love a paper collage", "paper collage", "let's have", "paint", "that has",
)  # fmt: skip


@cache
def load_lexicon() -> Lexicon:
    """English with the mini world's names for its shapes, colours, sizes, patterns, sheets, numbers and relations."""
    table: dict[str, tuple[str, ...]] = {}
    kinds = (synonyms.SHAPES, synonyms.COLORS, synonyms.SIZES, synonyms.FILLS, synonyms.FILL_TAILS, synonyms.SHEETS)
    for names in (*kinds, synonyms.PLACES, synonyms.RELATIONS, _MORE):
        for word, others in names.items():
            table[word] = (*table.get(word, ()), *others)
    numbers = {str(count): names for count, names in synonyms.COUNTS.items()}
    return load_english().extended(table | numbers, fillers=_FILLERS)
