"""The open world's words, from `words/*.toml`, and the little grammar that puts them into phrases.

One in ten nouns, and one in eight of most other lists, is held out: it is in no lesson of the training split.
"""

from __future__ import annotations

import random
import re
import tomllib
import zlib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal

Split = Literal["train", "test"]

_FOLDER = resources.files("rewriter.small") / "words"
_GROUP_FILES = ("animals", "people", "food", "things", "nature")
_LISTS = ("traits", "actions", "hands", "states", "places", "details", "wear", "faces")
_KNOWN_PLURALS = """scissors pliers jeans trousers shorts glasses sunglasses binoculars overalls headphones suspenders bagpipes
maracas pyjamas ruins fries dungarees goggles"""
_ONLY_PLURAL = frozenset(_KNOWN_PLURALS.split())
_KNOWN_NAMES = "saturn mars jupiter lasagne shakshuka tiramisu seaweed ivy bamboo"
_NO_ARTICLE = frozenset(_KNOWN_NAMES.split())
_KNOWN_UNCHANGED = "sheep deer moose elk bison fish trout salmon cod squid shrimp swordfish series"
_UNCHANGED = frozenset(_KNOWN_UNCHANGED.split())
_IRREGULAR = {
    "mouse": "mice", "goose": "geese", "ox": "oxen", "child": "children", "man": "men", "woman": "women", "person": "people",
    "tooth": "teeth", "foot": "feet", "leaf": "leaves", "loaf": "loaves", "knife": "knives", "shelf": "shelves",
    "wolf": "wolves", "calf": "calves", "hoof": "hooves", "elf": "elves", "dwarf": "dwarves", "scarf": "scarves",
    "half": "halves", "thief": "thieves", "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes", "cactus": "cacti",
    "octopus": "octopuses", "bus": "buses", "dice": "dice", "quiz": "quizzes", "werewolf": "werewolves",
}  # fmt: skip
_AN = re.compile(r"(?:[aeio]|u(?!ni|ku|til|kr)|hour|honest|x-ray|f1\b)", re.IGNORECASE)
_A = re.compile(r"(?:one-|once|ewe|eu)", re.IGNORECASE)
_OF = re.compile(r"^(.*?)( (?:of|in|with|and|on|for) .*)$")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SOUNDS = """bo ka zu li mor ten fra gli sno pex vam tor bli dra quo nim sel ur ath ven kor blum fiz wop zan tri el dor
mip lo ras neb gul hax jin yol crum plo ske"""
_SYLLABLES = _SOUNDS.split()


@dataclass(frozen=True)
class Group:
    """Nouns of a kind, and the words that fit them. Lists that a file does not give are empty."""

    name: str
    kind: str
    nouns: tuple[str, ...]
    traits: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    hands: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    wear: tuple[str, ...] = ()
    faces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Noun:
    """A noun and the group that says what fits it."""

    word: str
    group: Group

    @property
    def only_plural(self) -> bool:
        return self.word.split()[-1] in _ONLY_PLURAL


@dataclass(frozen=True)
class Words:
    """All that may be used in a split."""

    groups: tuple[Group, ...]
    lists: dict[str, tuple[str, ...]]
    ideas: dict[str, str]
    by_kind: dict[str, tuple[Noun, ...]] = field(default_factory=dict)

    def noun(self, rng: random.Random, *kinds: str) -> Noun:
        """A noun of one of these kinds, of a word that nobody has read before in five of a hundred."""
        chosen = rng.choice(self.by_kind[rng.choice(kinds)])
        return Noun(made_up(rng), chosen.group) if rng.random() < 0.05 else chosen


def is_held_out(text: str, share: int = 10) -> bool:
    """Whether a word or phrase is kept from training: one in `share`, always the same ones."""
    return zlib.crc32(text.encode()) % share == 0


@cache
def load_words(split: Split) -> Words:
    """The words of a split: for training all but the held-out nouns, for tests the held-out nouns alone, and what else
    was held out of longer lists."""
    groups = tuple(_group(entry, split) for name in _GROUP_FILES for entry in _read(name)["group"])
    lists = {}
    for name, value in (_read("craft") | _read("known")).items():
        if isinstance(value, str):
            items = _items(value, ";" if ";" in value else ",")
            lists[name] = _kept(items, split, 8) if len(items) >= 40 else items
    ideas = _read("known")["ideas"]
    kept = _kept(tuple(ideas), split, 6)
    by_kind: dict[str, tuple[Noun, ...]] = {}
    for group in groups:
        by_kind[group.kind] = (*by_kind.get(group.kind, ()), *(Noun(word, group) for word in group.nouns))
    return Words(groups, lists, {idea: ideas[idea] for idea in kept}, by_kind)


def made_up(rng: random.Random) -> str:
    """A word that is in no dictionary: it can only be copied."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 2, 3))))


def plural(noun: str) -> str:
    """The plural of a noun phrase without an article."""
    if match := _OF.match(noun):
        return plural(match[1]) + match[2]
    *before, last = noun.split(" ")
    start, dash, last = last.rpartition("-")
    return " ".join((*before, start + dash + _plural_word(last)))


def _plural_word(word: str) -> str:
    low = word.lower()
    if low in _UNCHANGED or low in _ONLY_PLURAL or low.endswith("fish"):
        return word
    for ending, many in _IRREGULAR.items():
        if low == ending or (
            len(ending) > 2 and low.endswith(ending) and ending in ("man", "woman", "child", "mouse", "leaf")
        ):
            return word[: len(word) - len(ending)] + many
    if low.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if low.endswith("y") and low[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def with_article(phrase: str) -> str:
    """The phrase behind "a" or "an", as it is read aloud."""
    return f"{'an' if _AN.match(phrase) and not _A.match(phrase) else 'a'} {phrase}"


def needs_no_article(noun: str) -> bool:
    return noun in _NO_ARTICLE or noun.split()[-1] in _ONLY_PLURAL


def number(count: int, digits: bool = False) -> str:
    return str(count) if digits or count >= len(NUMBERS) else NUMBERS[count]


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?", '."', '!"', '?"')) else text + "."


@cache
def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _group(entry: dict[str, str], split: Split) -> Group:
    parts = {name: _items(entry[name]) for name in _LISTS if name in entry}
    return Group(entry["name"], entry["kind"], _kept(_items(entry["nouns"]), split, 10), **parts)


def _items(text: str, mark: str = ",") -> tuple[str, ...]:
    return tuple(dict.fromkeys(" ".join(item.split()) for item in text.split(mark) if item.strip()))


def _kept(items: tuple[str, ...], split: Split, share: int) -> tuple[str, ...]:
    return tuple(item for item in items if is_held_out(item, share) == (split == "test")) or items
