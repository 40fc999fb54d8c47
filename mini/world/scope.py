"""What the mini world knows: the words that a request for cut-outs may hold.

    Scope().words_outside("two tiny scarlet stars, please")                 # ()
    Scope().words_outside("an astronaut on a horse, on mint paper")         # ("astronaut", "horse")

Pure, and no guess: the words are those of the world's shapes, colours and so on (mini/world/scene.py), of people's names
for them (mini/world/synonyms.py), and of the sentences around them (mini/world/wording.py). A slip of the finger such as
`mini.world.wording.typo` makes is still the word. The words that the world can print ("BIRD") are known only as words to
be printed. What is NOT covered: known words that ask for something else than cut-outs ("an orange", the fruit), more
things than fit on a sheet, and what only the sense of a sentence gives away.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

from mini.world import synonyms
from mini.world.scene import COLORS, FILLS, PLACES, SHAPES, SHEETS, SIZES, WORDS
from mini.world.wording import CLOSERS, OPENERS, slips

_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_PARTS = re.compile(r"['-]")
_SENTENCE_WORDS = """
a an the of and with without in on at to no not nothing any anything all both every each one them they it is are be
there this that than as by but or only just
should must have has share same colour color colours colors make sure placed put
word text say says saying reads reading caption printed writing
don't dont include leave out avoid former latter
background backdrop paper sheet against shape shapes thing things cut-out cut-outs cutout cutouts
draw paint show give create make me us please thanks thank could can would will you i i'd like want need hi hello now
picture image drawing
side upper lower part edge higher down up near left right top bottom middle centre center
"""
"""The words of the sentences that `mini.world.wording` makes, and their nearest kin."""
_PRINTED = re.compile(
    rf"""["'“”](?:{"|".join(WORDS)})["'“”]|\b(?:word|text|say|says|saying|reads|reading)\s+(?:{"|".join(WORDS)})\b""",
    re.IGNORECASE,
)
_DETERMINERS = frozenset({"a", "an", "the", "this", "that", "any", "no", "single", "pair", "of"}).union(
    *(set(names) for names in synonyms.COUNTS.values())
)
_ONLY_BESIDE = {
    slip: partner
    for word, partner in (("sign", "plus"), ("signs", "plus"), ("love", "heart"))
    for slip in (word, *slips(word))
}
"""Words that are known only in the name of a shape: "plus sign", "love heart"."""


class Scope:
    """What a profile whose models are mini's can be asked for."""

    def words_outside(self, request: str) -> tuple[str, ...]:
        """The words of `request` that the mini world does not know, folded, each once, in their order; () if it knows
        all of them. Letter case, spaces of any kind, and invisible characters do not matter."""
        text = _PRINTED.sub(" word ", _strip_politeness(fold(request)))
        words = ["", *_words(text), ""]
        triples = zip(words, words[1:], words[2:], strict=False)
        return tuple(dict.fromkeys(word for before, word, after in triples if not _is_known(before, word, after)))


def fold(text: str) -> str:
    """`text` in lower case, in one kind of space, and without invisible characters such as a byte order mark."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    visible = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    return " ".join(visible.split())


def _strip_politeness(text: str) -> str:
    """`text` without what is said around a request in words of its own: "for a birthday card I need …"."""
    openers, closers = _polite_phrases()
    opener = max((phrase for phrase in openers if text.startswith(phrase)), key=len, default="")
    closer = max((phrase for phrase in closers if text.endswith(phrase)), key=len, default="")
    return text.removeprefix(opener).removesuffix(closer)


def _words(text: str) -> Iterator[str]:
    """Words, and pictograms, which are words too, in their order."""
    at = 0
    for match in _TOKEN.finditer(text):
        yield from (char for char in text[at : match.start()] if unicodedata.category(char) == "So")
        yield match[0]
        at = match.end()
    yield from (char for char in text[at:] if unicodedata.category(char) == "So")


def _is_known(before: str, word: str, after: str) -> bool:
    known, partner = _vocabulary(), _ONLY_BESIDE.get(word)
    if partner is not None:
        return any(slip in f"{before} {after}" for slip in (partner, *slips(partner)))
    if word in _colors() and before in _DETERMINERS and after not in _described():
        return False
    return word in known or all(part in known for part in _PARTS.split(word.removesuffix("'s")))


@cache
def _colors() -> frozenset[str]:
    """The names of colours, also in the plural that they have as things: "lemons"."""
    names = {name for names in (*synonyms.COLORS.values(), *synonyms.SHEETS.values()) for name in names}
    return frozenset({*names, *(f"{name}s" for name in names)})


@cache
def _described() -> frozenset[str]:
    """What may follow a colour that describes it."""
    names = [name for names in synonyms.SHAPES.values() for name in names]
    tables = (*synonyms.COLORS.values(), *synonyms.SHEETS.values(), *synonyms.FILLS.values(), *synonyms.SIZES.values())
    phrases = [*names, *map(synonyms.plural_name, names), *(name for names in tables for name in names)]
    phrases += ["background", "backdrop", "paper", "sheet", "shape", "shapes", "thing", "things", "one", "ones", "and"]
    words = {word for phrase in phrases for word in _words(phrase)}
    return frozenset(slip for word in words for slip in (word, *slips(word)))


@cache
def _polite_phrases() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What requests may begin and end with, with its slips of the finger."""
    openers = [fold(phrase) + " " for phrase in OPENERS if phrase]
    closers = [" " + fold(phrase) for phrase in CLOSERS if phrase]
    with_slips = [tuple({slip for phrase in side for slip in (phrase, *slips(phrase))}) for side in (openers, closers)]
    return with_slips[0], with_slips[1]


@cache
def _vocabulary() -> frozenset[str]:
    """Every word that is known by itself, also with a slip of the finger."""
    tables: list[Iterable[str]] = [SHAPES, COLORS, FILLS, SIZES, SHEETS, PLACES, synonyms.AROUND]
    for names in (
        synonyms.SHAPES, synonyms.COLORS, synonyms.SIZES, synonyms.FILLS, synonyms.FILL_TAILS, synonyms.SHEETS,
        synonyms.COUNTS, synonyms.PLACES, synonyms.RELATIONS,
    ):  # fmt: skip
        tables += names.values()
    phrases = [phrase for table in tables for phrase in table]
    phrases += [synonyms.plural_name(name) for names in synonyms.SHAPES.values() for name in names]
    words = {word for phrase in (*phrases, *_SENTENCE_WORDS.split()) for word in _words(fold(phrase))}
    words -= _ONLY_BESIDE.keys()
    return frozenset(slip for word in words for slip in (word, *slips(word)))
