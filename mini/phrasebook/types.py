"""What a phrase book makes of words: the sub-tasks of an instruction, things and the questions about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mini.phrasebook.format import Rule


@dataclass(frozen=True)
class Clause:
    """One sub-task of an instruction. `canonical` is the instruction in the book's own words; `known` False where no
    rule knows it, and it stands there as it came. `checks`: (key point, question). `makes` and `uses`: what it brings
    into the picture, and what must be there for it; `draft`: a prompt that draws what it brings. `subject`: what "it"
    means after it. `touches`: what may not be as before afterwards, in the qualities that it `alters`, or in all where
    that is empty. `more`: (thing, how many more of it there are), which is negative for fewer. `rule` and `values`:
    what was read, slot by slot."""

    canonical: str
    known: bool
    checks: tuple[tuple[str, str], ...] = ()
    local: bool = False
    makes: str = ""
    draft: str = ""
    uses: tuple[str, ...] = ()
    subject: str = ""
    touches: tuple[str, ...] = ()
    alters: tuple[str, ...] = ()
    more: tuple[str, int] | None = None
    rule: Rule | None = field(default=None, repr=False)
    values: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Ask:
    """A question that tells more of a thing: whether it has that value of that quality."""

    quality: str
    value: str
    question: str


@dataclass(frozen=True)
class Thing:
    """Something that may be in a picture: what it is called by, slot by slot, the question whether it is there, and the
    questions that tell more of it: how many there are, from one on, what one is like, and what several all are."""

    name: str
    values: Mapping[str, str]
    there: str
    counts: tuple[str, ...] = ()
    asks: tuple[Ask, ...] = ()
    asks_all: tuple[Ask, ...] = ()


@dataclass(frozen=True)
class Counting:
    """A number that is wrong, of a `thing`. `asks`: the questions, by number from zero on, that tell how many there are
    now. `more` and `fewer`: the instructions that add and take away so many, by number from one on."""

    thing: str
    wanted: int
    asks: tuple[str, ...]
    more: tuple[str, ...]
    fewer: tuple[str, ...]
