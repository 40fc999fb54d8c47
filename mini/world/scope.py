"""What the mini world knows: the words that a request for cut-outs may hold.

    CutoutScope().words_outside("two tiny scarlet stars, please")                 # ()
    CutoutScope().words_outside("an astronaut on a horse, on mint paper")         # ("astronaut", "horse")

Pure, and no guess: the words are those of the world's shapes, colours and so on (mini/world/scene.py), of people's names
for them (mini/world/synonyms.py), and of the sentences around them (mini/world/wording.py). A slip of the finger such as
`mini.world.wording.typo` makes is still the word. The words that the world can print ("BIRD") are known only as words to
be printed. What is NOT covered: known words that ask for something else than cut-outs ("an orange", the fruit), and
what only the sense of a sentence gives away.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from mini.world import synonyms
from mini.world.scene import COLORS, FILLS, MAX_CUTOUTS, PLACES, SHAPES, SHEETS, SIZES, WORDS
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
TALK_BEFORE = (
    "hey", "hey there", "hi", "hi there", "hello", "can u", "could u", "can you", "could you", "can we have", "could we have",
    "may i have", "draw me", "make me", "i think", "i guess", "i'd love", "i would love", "we need", "we want", "we'd like",
    *(f"my {who} {wants}" for who in ("son", "daughter", "kid", "mum", "dad", "wife", "husband", "boss", "friend")
      for wants in ("wants", "would like", "would love", "needs")),
)  # fmt: skip
"""What people say before a request, beside the openers of `mini.world.wording`, of which the suite's prompts are made."""
TALK_BEHIND = (
    "pls", "plz", "thx", "ty", "cheers", "thank u", "would look cool", "would look nice", "would look great", "would be nice",
    "would be cool", "would be great", "would be lovely",
)  # fmt: skip
_DETERMINERS = frozenset({"a", "an", "the", "this", "that", "any", "no", "single", "pair", "of"}).union(
    *(set(names) for names in synonyms.COUNTS.values())
)
_THERE = re.compile(r"\bthere\b")
_EQUATIVE = re.compile(r"\bas [a-z]+ as\b")
"""The world knows larger and smaller, and no "as large as"."""
_ONLY_BESIDE = {
    slip: partner
    for word, partner in (("sign", "plus"), ("signs", "plus"), ("love", "heart"))
    for slip in (word, *slips(word))
}
"""Words that are known only in the name of a shape: "plus sign", "love heart"."""


TOO_MANY = "more than six things"
"""What stands among the words outside for a request that asks for more than MAX_CUTOUTS things."""
_POLITE = 3
"""Phrases that a request may begin or end with one after the other: "hey can u draw me …"."""
_NOT_COUNTED = frozenset({"the", "no", "any", "without", "nothing", "avoid", "not", "all", "every", "each", "both"})


class CutoutScope:
    """What a profile whose models are mini's can be asked for."""

    def words_outside(self, request: str) -> tuple[str, ...]:
        """The words of `request` that the mini world does not know, folded, each once, in their order; () if it knows
        all of them; at the end TOO_MANY if it asks for more things than fit on a sheet. Letter case, spaces of
        any kind, and invisible characters do not matter."""
        text = _PRINTED.sub(" word ", _strip_politeness(fold(request)))
        words = ["", *_words(text), ""]
        triples = zip(words, words[1:], words[2:], strict=False)
        outside = dict.fromkeys(word for before, word, after in triples if not _is_known(before, word, after))
        outside |= dict.fromkeys(_EQUATIVE.findall(text))
        if _count_things(words) > MAX_CUTOUTS:
            outside[TOO_MANY] = None
        return tuple(outside)


def _count_things(words: Sequence[str]) -> int:
    """How many things the request asks for at least: the numbers that stand before shapes, each time that a shape comes
    with one. Those that it speaks of again ("the stars") or does not want ("no stars") do not count."""
    numbers, shapes, between = _numbers(), _shapes(), _adjectives()
    total, number = 0, 0
    for before, word in itertools.pairwise(words):
        if word == "dozen":
            number = 6 if number == 6 or before == "half" else 12
        elif word in ("a", "an") and before == "half":
            number = 6
        elif word in numbers:
            number = 0 if before in _NOT_COUNTED else numbers[word]
        elif word in shapes:
            total, number = total + number, 0
        elif word not in between:
            number = 0
    return total


def fold(text: str) -> str:
    """`text` in lower case, in one kind of space, and without invisible characters such as a byte order mark."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    visible = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    return " ".join(visible.split())


def mend_slips(text: str) -> str:
    """Folded text with its slips of the finger mended: "two diaamonds" becomes "two diamonds". "There" before what can only be
    counted is three."""
    table = _slip_table()
    mended = _TOKEN.sub(lambda match: table.get(match[0], match[0]), text)
    return _THERE.sub(lambda match: "three" if _is_plural_thing(mended[match.end() :]) else match[0], mended)


def _is_plural_thing(text: str) -> bool:
    """Whether adjectives and the plural of a shape begin a text, and no verb follows: "green stars on white paper"."""
    for match in _TOKEN.finditer(text):
        if match[0] in _plurals():
            return True
        if match[0] not in _adjectives() and match[0] not in _first_words():
            return False
    return False


def _strip_politeness(text: str) -> str:
    """`text` without what is said around a request in words of its own: "for a birthday card I need …"."""
    openers, closers = _polite_phrases()
    for _ in range(_POLITE):
        opener = max((phrase for phrase in openers if text.startswith(phrase)), key=len, default="")
        closer = max((phrase for phrase in closers if text.endswith(phrase)), key=len, default="")
        text = text.removeprefix(opener).removesuffix(closer)
    return text


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
        return any(slip in f"{before} {after}" for slip in (partner, *slips(partner), *slips(f"{partner}s")))
    if word in _colors() and before in _DETERMINERS and after not in _described():
        return False
    return word in known or all(part in known for part in _PARTS.split(word.removesuffix("'s")))


@cache
def _colors() -> frozenset[str]:
    """The names of colours, also in the plural that they have as things: "lemons"."""
    names = {name for names in (*synonyms.COLORS.values(), *synonyms.SHEETS.values()) for name in names}
    return frozenset({*names, *(f"{name}s" for name in names)})


@cache
def _numbers() -> dict[str, int]:
    """Words to numbers: "two", "2", "pair"."""
    names = {name.split()[-1]: n for n, names in synonyms.COUNTS.items() for name in names if not name.endswith(" of")}
    del names["dozen"]
    return names | {"an": 1, "another": 1, "pair": 2, "couple": 2, "trio": 3}


@cache
def _adjectives() -> frozenset[str]:
    """What may stand between a number and its shape."""
    tables = (synonyms.COLORS, synonyms.SIZES, synonyms.FILLS)
    names = [name for table in tables for names in table.values() for name in names]
    return frozenset({word for name in names for word in name.split()} | {"of", "more", "other", "love", "round"})


@cache
def _shapes() -> frozenset[str]:
    """The last words of the names of shapes, one and many, also with a slip of the finger."""
    names = [name for names in synonyms.SHAPES.values() for name in names]
    words = {name.split()[-1] for name in (*names, *map(synonyms.plural_name, names))} - {"shape"}
    return frozenset(slip for word in words for slip in (word, *slips(word)))


@cache
def _first_words() -> frozenset[str]:
    """What the names of shapes begin with: "five-pointed"."""
    return frozenset(name.split()[0] for names in synonyms.SHAPES.values() for name in names if " " in name)


@cache
def _plurals() -> frozenset[str]:
    """The last words of the plurals of shapes."""
    return frozenset(synonyms.plural_name(name).split()[-1] for names in synonyms.SHAPES.values() for name in names)


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
    openers = [fold(phrase) + " " for phrase in (*OPENERS, *TALK_BEFORE) if phrase]
    closers = [" " + fold(phrase) for phrase in (*CLOSERS, *TALK_BEHIND) if phrase]
    with_slips = [tuple({slip for phrase in side for slip in (phrase, *slips(phrase))}) for side in (openers, closers)]
    return with_slips[0], with_slips[1]


@cache
def _vocabulary() -> frozenset[str]:
    """Every word that is known by itself, also with a slip of the finger."""
    words = _words_as_written() - _ONLY_BESIDE.keys()
    return frozenset(slip for word in words for slip in (word, *slips(word)))


@cache
def _slip_table() -> dict[str, str]:
    """Slips of the finger that are no words themselves, to their words. None is a slip of two words."""
    words = _words_as_written()
    return {slip: word for word in sorted(words) for slip in slips(word) if slip not in words}


@cache
def _words_as_written() -> frozenset[str]:
    tables: list[Iterable[str]] = [SHAPES, COLORS, FILLS, SIZES, SHEETS, PLACES, synonyms.AROUND]
    for names in (
        synonyms.SHAPES, synonyms.COLORS, synonyms.SIZES, synonyms.FILLS, synonyms.FILL_TAILS, synonyms.SHEETS,
        synonyms.COUNTS, synonyms.PLACES, synonyms.RELATIONS,
    ):  # fmt: skip
        tables += names.values()
    phrases = [phrase for table in tables for phrase in table]
    phrases += [synonyms.plural_name(name) for names in synonyms.SHAPES.values() for name in names]
    return frozenset(word for phrase in (*phrases, *_SENTENCE_WORDS.split()) for word in _words(fold(phrase)))
