"""What the words of the mini world mean, for `evaluator.coverage`: its synonyms, and what people say around a request.

find_coverage("a crimson disc", checks, load_lexicon())
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from evaluator.coverage import Lexicon
from evaluator.coverage import load_lexicon as load_english
from mini.world import synonyms
from mini.world.scope import TALK_BEFORE, TALK_BEHIND
from mini.world.wording import CLOSERS, OPENERS, slips

_MORE = {
    "sheet": ("background", "backdrop", "paper"),
    "say": ("word", "text", "caption", "lettering", "reading", "printed", "written"),
    "same colour": ("same color", "share one colour", "share one color", "share a colour", "share a color"),
    "inside": ("around", "wrapped around"),
    "circle": ("round shape", "round shapes"),
}
_FILLERS = (
    "against", "shape", "shapes", "of a picture", "for a birthday card", "for a poster", "something simple",
    "my daughter would love a paper collage", "paper collage", "let's have", "paint", "that has", "put", "exactly",
)  # fmt: skip


@cache
def load_lexicon() -> Lexicon:
    """English with the mini world's names for its shapes, colours, sizes, patterns, sheets, numbers and relations."""
    table: dict[str, tuple[str, ...]] = {}
    plurals = {shape: tuple(map(synonyms.plural_name, names)) for shape, names in synonyms.SHAPES.items()}
    kinds = (synonyms.SHAPES, synonyms.COLORS, synonyms.SIZES, synonyms.FILLS, synonyms.FILL_TAILS, synonyms.SHEETS)
    # "At the left" is not "left of".
    places = {f"at the {place}": names for place, names in synonyms.PLACES.items()}
    for names in (*kinds, plurals, places, synonyms.RELATIONS, _MORE):
        for word, others in names.items():
            # "Large" is not "larger".
            key = f"{word} than" if names is synonyms.RELATIONS and word in ("larger", "smaller") else word
            table[key] = (*table.get(key, ()), *others)
    numbers = {str(count): names for count, names in synonyms.COUNTS.items()}
    for word, others in (table | numbers).items():
        # With the slips of the finger that people make in them.
        table[word] = tuple(dict.fromkeys(slip for name in (word, *others) for slip in (name, *_slips(name))))
    around = dict.fromkeys(
        slip
        for phrase in (*_FILLERS, *OPENERS, *CLOSERS, *TALK_BEFORE, *TALK_BEHIND)
        for slip in (phrase, *slips(phrase))
    )
    english = load_english()
    # "With bands across" is a pattern here, and no relation.
    english = replace(english, relations=english.relations - {"across"})
    return english.extended(table, fillers=around, exclusive=synonyms.COLORS, things=synonyms.SHAPES, places=places)


def _slips(name: str) -> list[str]:
    """The slips of the finger in a name, but for those that are words: "there" is not three."""
    words = load_english().empty | {"there"}
    return [slip for slip in slips(name) if slip not in words]
