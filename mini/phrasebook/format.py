"""The format of a phrase book of edits, which `mini.phrasebook.phrases` reads: `edits.toml` of a rewriter style.

    joiner = "; "                       between the instructions of one edit
    split = [";"]                       what divides an instruction into sub-tasks
    split_known = [" and "]             what divides only where a rule knows each piece
    plain = [["discs?", "circle"]]      [pattern, replacement]: other words for the book's own, put right one after the
                                        other in each sub-task before it is read; a ";" in it makes two sub-tasks
    pronouns = "\\b(?:it|them)\\b"       what stands for the `subject` of the sub-task before, such as "the <pick>"
    fallback = "..."                    instruction for a question that no rule knows; "" for none

    [slots]                             regular expressions of what stands in {braces}
    color = "red|blue"
    [macros]                            pieces of patterns: <noun>, and <noun2> with another value of each slot
    noun = "[{color} ]({shape}|{shapes})"
    [plurals]                           singular = "plural": {~shapes} is the plural of {shape}, {~shape} the other way
    circle = "circles"

    [[rule]]
    questions = ["Is the sheet {sheet}?"]       failed checks that the edit mends
    edit = "change sheet to {sheet}"            the instruction
    says = ["make the (paper|sheet) {sheet}"]   other words for the same instruction
    there = ["Is there a {color} {shape}?"]     what must be true afterwards, where numbers are not known
    checks = ["Is the sheet {sheet}?"]          what must be true afterwards; left out where a slot is empty
    key_point = "state"
    local = false                               whether nothing beyond what it names may change
    creates = "{color} {~shape}"                what it brings into the picture, by which others depend on it
    draft = "one <one>"                         what that looks like by itself, as a prompt
    needs = ["{color} {~shape}"]                what it speaks of
    touches = ["{color} {~shape}"]              what is not as before afterwards, or may not be
    alters = ["fill"]                           in which of its qualities; left out: in any, and it may be gone
    refers = ["", "2"]                          what stands in the picture before: by {color} and {shape}, by {color2};
                                                "" is what is changed
    becomes = {color = "color2"}                by which slots' values the first is called afterwards
    steps = {along = "size", by = "degree", up = "larger", to = "size2"}
                                                {size2} is the size after the one it has, or the one before it where
                                                {degree} is not "larger", in the order of the slot
    count_of = "{color} {shape}"                what there is more of afterwards, by {number} or one
    sign = 1                                    -1: fewer of

    [[keep]]                                    what pictures are asked about, to find out what an edit must keep
    thing = "[{color} ]{shape}"                 for each value of each slot; the slots are what things are called by
    there = "Is there a {color} {shape}?"       where the answer is yes, `asks` tell more of it
    asks.fill = ["Is the {color} {shape} {fill}?"]       of each quality; those of `count`, for one, two and so on,
                                                tell how many there are
    asks_all.fill = ["Are all ..?"]             the same where there are several

In patterns `[...]` is optional, `(a|b)` a choice, `{slot2}` another value of `{slot}`; all else is literal. A rule with
`count` in place of `edit` mends a number: `count` has the questions by which the present number is found, for none, for
one and for {number}; `more` and `fewer` are its instructions, for a difference of one and for one of {number}.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Steps(BaseModel):
    """A quality that is told by comparison with what was there: `along` the values of a slot, in their order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    along: str
    by: str
    up: str
    to: str


class Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: tuple[str, ...] = ()
    edit: str = ""
    says: tuple[str, ...] = ()
    there: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    key_point: str = "state"
    local: bool = False
    creates: str = ""
    draft: str = ""
    needs: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()
    refers: tuple[str, ...] = ()
    becomes: dict[str, str] = {}
    steps: Steps | None = None
    alters: tuple[str, ...] = ()
    count_of: str = ""
    sign: Literal[1, -1] = 1
    count: tuple[str, ...] = Field(default=(), max_length=3)
    more: tuple[str, ...] = Field(default=(), max_length=2)
    fewer: tuple[str, ...] = Field(default=(), max_length=2)


class Keep(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    thing: str
    there: str
    asks: dict[str, tuple[str, ...]] = {}
    asks_all: dict[str, tuple[str, ...]] = {}


class Book(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    joiner: str = ". "
    split: tuple[str, ...] = ()
    split_known: tuple[str, ...] = ()
    plain: tuple[tuple[str, str], ...] = ()
    pronouns: str = ""
    subject: str = ""
    fallback: str = ""
    slots: dict[str, str] = {}
    macros: dict[str, str] = {}
    plurals: dict[str, str] = {}
    anything: str = ""
    """The word that stands for every kind of thing, such as "shape"."""
    rule: tuple[Rule, ...] = ()
    keep: tuple[Keep, ...] = ()
