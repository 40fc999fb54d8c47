"""People's words for the things of the mini world: the names that its shapes, colours, sizes, patterns, sheets, counts,
places and relations go by, for prompts (mini/world/wording.py) and for edits (mini/editor/wording.py).

A word listed twice is drawn twice as often. The trained models know these words in these shares: their order is part of
every seeded sentence.
"""

from __future__ import annotations

from mini.world.sampling import Rng

SHAPES = {
    "circle": ("circle", "circle", "disc", "disk", "round"),
    "square": ("square", "square", "box", "block"),
    "triangle": ("triangle", "triangle", "wedge", "three-cornered shape"),
    "star": ("star", "star", "starlet", "five-pointed star"),
    "heart": ("heart", "heart", "love heart", "valentine"),
    "diamond": ("diamond", "diamond", "rhombus", "lozenge"),
    "cross": ("cross", "cross", "plus sign", "plus"),
    "moon": ("moon", "moon", "crescent", "half-moon"),
}
_PLURALS = {"box": "boxes", "cross": "crosses", "rhombus": "rhombuses", "plus": "pluses"}
COLORS = {
    "red": ("red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "golden", "lemon"),
    "green": ("green", "green", "emerald", "grass-green"),
    "blue": ("blue", "blue", "azure", "navy"),
    "purple": ("purple", "purple", "violet", "plum"),
    "pink": ("pink", "pink", "rose", "magenta"),
    "brown": ("brown", "brown", "chocolate", "tan"),
}
SIZES = {
    "small": ("small", "small", "tiny", "little", "mini"),
    "medium": ("medium", "medium-sized", "mid-sized"),
    "large": ("large", "large", "big", "huge", "giant"),
}
FILLS = {
    "plain": ("plain", "solid", "unpatterned"),
    "striped": ("striped", "stripy", "banded"),
    "dotted": ("dotted", "spotted", "polka-dot"),
}
FILL_TAILS = {
    "plain": ("without a pattern", "in one flat colour"),
    "striped": ("with stripes", "with bands across"),
    "dotted": ("with dots", "with spots", "covered in polka dots"),
}
SHEETS = {
    "white": ("white", "snow-white"),
    "cream": ("cream", "ivory", "off-white"),
    "sky": ("sky-blue", "pale blue", "sky", "light blue"),
    "mint": ("mint", "pale green", "mint-green"),
    "grey": ("grey", "gray", "silver"),
    "lilac": ("lilac", "lavender", "pale purple"),
}
COUNTS = {
    1: ("a", "a", "a", "one", "a single", "1"),
    2: ("two", "two", "2", "a pair of", "a couple of"),
    3: ("three", "three", "3", "a trio of"),
    4: ("four", "4"),
    5: ("five", "5"),
    6: ("six", "6", "half a dozen"),
}
PLACES = {
    "left": ("at the left", "on the left side", "on the left", "near the left edge"),
    "right": ("at the right", "on the right side", "on the right", "near the right edge"),
    "top": ("at the top", "up top", "near the top edge", "in the upper part"),
    "bottom": ("at the bottom", "down at the bottom", "near the bottom edge", "in the lower part"),
}
RELATIONS = {
    "left": ("left of", "to the left of", "on the left side of", "on the left of"),
    "right": ("right of", "to the right of", "on the right side of", "on the right of"),
    "above": ("above", "over", "higher up than"),
    "below": ("below", "under", "beneath", "underneath", "lower down than"),
    "inside": ("inside", "within", "enclosed by", "surrounded by"),
    "larger": ("larger than", "bigger than"),
    "smaller": ("smaller than", "littler than"),
}
AROUND = ("around", "wrapped around")


def one_of(rng: Rng, options: tuple[str, ...]) -> str:
    """One of the options, each as likely as it is often listed."""
    return options[int(rng.random() * len(options))]


def shape_name(rng: Rng, shape: str, many: bool) -> str:
    """A name of the shape, for one or for many."""
    name = one_of(rng, SHAPES[shape])
    if name == "round" and many:
        name = "circle"
    if name == "round":
        return "round shape"
    return plural_name(name) if many else name


def plural_name(name: str) -> str:
    """The plural of one of the names of shapes."""
    return _PLURALS.get(name, f"{name}s")


def with_article(phrase: str) -> str:
    """ "a" before a vowel sound becomes "an"."""
    return f"an {phrase[2:]}" if phrase.startswith("a ") and phrase[2] in "aeiou" else phrase
