"""The phrase book of edits: which instruction mends a failed check, and which checks an instruction asks for.

    phrases = load_phrases()
    phrases.read("make the little star blue, please")[0].canonical      # "recolour small star to blue"

It is data, `edits.toml` beside this module, in this format:

    joiner = "; "                       between the instructions of one edit
    split = [";"]                       what divides an instruction into changes
    split_known = [" and "]             what divides only if a rule knows each piece
    plain = [["discs?", "circle"]]      [pattern, replacement]: other words for the book's own, put right one after the
                                        other in each change before it is read; a ";" in it makes two changes
    loose = [["\\bboth\\b", "the"]]        as `plain`, for instructions that the book does not know otherwise: words that the
                                        editor was not trained on; it then gets the instruction in the book's words
    pronouns = "\\b(?:it|them)\\b"       what stands for the `subject` of the change before, such as "the <pick>"
    loose_pronouns = ""                 the same for instructions that the book does not know otherwise

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
    checks = ["Is the sheet {sheet}?"]          what must be true afterwards; left out if a slot is empty
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
                                                {size2} is the size after the one it has, or the one before it if
                                                {degree} is not "larger", in the order of the slot
    count_of = "{color} {shape}"                what there is more of afterwards, by {number} or one
    sign = 1                                    -1: fewer of

    [[lack]]                                    what the pictures of this style do not have, if no rule knows it
    pattern = "\\b(?:flip|mirror)\\b"
    because = "nothing can be flipped"          ends the sentence "the cut-outs editor cannot do that: ..."

    [[keep]]                                    what pictures are asked about, to find out what an edit must keep
    thing = "[{color} ]{shape}"                 for each value of each slot; the slots are what things are called by
    there = "Is there a {color} {shape}?"       if the answer is yes, `asks` tell more of it
    asks.fill = ["Is the {color} {shape} {fill}?"]       of each quality; those of `count`, for one, two and so on,
                                                tell how many there are
    asks_all.fill = ["Are all ..?"]             the same if there are several

In patterns `[...]` is optional, `(a|b)` a choice, `{slot2}` another value of `{slot}`; all else is literal. A rule with
`count` instead of `edit` mends a number: `count` has the questions by which the present number is found, for none, for
one and for {number}; `more` and `fewer` are its instructions, for a difference of one and for one of {number}.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from redraft.errors import ConfigError

_SLOT = re.compile(r"\{(~?)([a-z]+)(\d*)\}")
_MACRO = re.compile(r"<([a-z]+)(\d*)>")
_TOKEN = re.compile(r"\{[a-z]+\d*\}|[\[\]()|]|[^\[\](){}|]+")
_CHOICE = re.compile(r"\(([^()]*)\)")
_ALIKE = 0.8
"""`difflib`'s ratio from which on a word is another one misspelled: one letter of five exchanged with its neighbour."""
LONGEST = 600
"""Longest instruction that is read, in characters: some 40 ms of work."""
COUNT = "count"
"""The quality in a [[keep]] whose questions tell how many there are."""
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Steps(BaseModel):
    """A quality that is relative to what was there: `along` the values of a slot, in their order."""

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


class Lack(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: str
    because: str


class Book(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    joiner: str = ". "
    split: tuple[str, ...] = ()
    split_known: tuple[str, ...] = ()
    plain: tuple[tuple[str, str], ...] = ()
    loose: tuple[tuple[str, str], ...] = ()
    lack: tuple[Lack, ...] = ()
    pronouns: str = ""
    loose_pronouns: str = ""
    subject: str = ""
    slots: dict[str, str] = {}
    macros: dict[str, str] = {}
    plurals: dict[str, str] = {}
    anything: str = ""
    """The word that stands for every kind of thing, such as "shape"."""
    rule: tuple[Rule, ...] = ()
    keep: tuple[Keep, ...] = ()


@dataclass(frozen=True)
class Clause:
    """One change of an instruction. `canonical` is the instruction in the book's own words; `known` False if no
    rule knows it, and it stands there as it came; `loose` True if only the loose patterns made it known. `checks`: (key
    point, question). `makes` and `uses`: what it brings
    into the picture, and what must be there for it; `draft`: a prompt that draws what it brings. `subject`: what "it"
    means after it. `touches`: what may not be as before afterwards, in the qualities that it `alters`, or in all if
    that is empty. `more`: (thing, how many more of it there are), which is negative for fewer. `rule` and `values`:
    what was read, slot by slot. `said`: the piece of the instruction that it comes from."""

    canonical: str
    known: bool
    loose: bool = False
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
    said: str = field(default="", compare=False)


@dataclass(frozen=True)
class QualityQuestion:
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
    asks: tuple[QualityQuestion, ...] = ()
    asks_all: tuple[QualityQuestion, ...] = ()


@dataclass(frozen=True)
class Counting:
    """A number that is wrong, of a `thing`. `asks`: the questions, by number from zero on, that tell how many there are
    now. `more` and `fewer`: the instructions that add and take away so many, by number from one on."""

    thing: str
    wanted: int
    asks: tuple[str, ...]
    more: tuple[str, ...]
    fewer: tuple[str, ...]


class Phrases:
    """A loaded phrase book. Raises ConfigError if it cannot be used."""

    def __init__(self, book: Book) -> None:
        self.book = book
        try:
            self._plain, self._loose = (
                [(re.compile(pattern, re.IGNORECASE), text) for pattern, text in patterns]
                for patterns in (book.plain, book.loose)
            )
            self._lacks = [(re.compile(lack.pattern, re.IGNORECASE), lack.because) for lack in book.lack]
            self._pronouns, self._loose_pronouns = (
                re.compile(pattern, re.IGNORECASE) if pattern else None
                for pattern in (book.pronouns, book.loose_pronouns)
            )
        except re.error as error:
            raise ConfigError(f"edits.toml: a pattern cannot be read: {error}") from None
        self._rules = [
            (rule, [self._regex(q) for q in rule.questions], [self._regex(s) for s in (rule.edit, *rule.says) if s])
            for rule in book.rule
        ]
        texts = [text for rule in book.rule for text in (rule.edit, *rule.says)]
        texts += [
            *book.slots.values(),
            *book.plurals.values(),
            *(re.sub(r"\\.", " ", found) for found, _ in book.plain),
        ]
        self._words = sorted({word for text in texts for word in re.findall("[a-z]{4,}", text)})
        self._singular = {many: one for one, many in book.plurals.items()}

    def join(self, instructions: Sequence[str]) -> str:
        """One instruction from several."""
        return self.book.joiner.join(text.strip() for text in instructions)

    def mend(self, question: str) -> Clause | Counting | None:
        """What would make the answer to `question` yes; None if the book knows nothing for it."""
        for rule, patterns, _ in self._rules:
            for pattern in patterns:
                match = pattern.fullmatch(question.strip())
                if match is None:
                    continue
                values = self._values(match)
                if rule.count:
                    return self._counting(rule, values)
                text = self._fill(rule.edit, values)
                if text is not None:
                    return self._clause(rule, text, values)
        return None

    def counting(self, thing: str) -> Counting | None:
        """The questions and instructions about how many there are of a thing, None if the book does not count it."""
        rule = self.mend(f"Is there exactly one {thing}?")
        return rule if isinstance(rule, Counting) else None

    @cached_property
    def things(self) -> tuple[Thing, ...]:
        """All that pictures of this style may hold, none if the book does not say."""
        things = []
        for keep in self.book.keep:
            for values in self._values_of(keep.thing):
                name, there = self._fill(keep.thing, values), self._fill(keep.there, values)
                if name and there:
                    counts = self._asks({COUNT: keep.asks.get(COUNT, ())}, values)
                    one, several = (
                        self._asks({quality: texts for quality, texts in asks.items() if quality != COUNT}, values)
                        for asks in (keep.asks, keep.asks_all)
                    )
                    things.append(Thing(name, values, there, tuple(ask.question for ask in counts), one, several))
        return tuple(things)

    def _asks(self, asks: Mapping[str, Sequence[str]], values: Mapping[str, str]) -> tuple[QualityQuestion, ...]:
        """The questions of a thing, for each value of each quality."""
        return tuple(
            QualityQuestion(quality, next(iter(more.values()), ""), text)
            for quality, templates in asks.items()
            for ask in templates
            for more in self._values_of(ask, values)
            if (text := self._fill(ask, {**values, **more}))
        )

    def called(self, values: Mapping[str, str]) -> str:
        """What a thing is called, by the values of some of the slots of its name; "" if that is no name."""
        names = (self._fill(keep.thing, values) for keep in self.book.keep)
        return next((name for name in names if name), "")

    def naming(self, clause: Clause, which: str = "") -> dict[str, str]:
        """The values by which a clause calls what it speaks of; `which`: "2" for the second thing, and so on."""
        values = {slot: self._value_of(slot, which, clause.values) for slot in self._naming_slots}
        return {slot: value for slot, value in values.items() if value and value != self.book.anything}

    def qualities(self, clause: Clause, which: str = "") -> dict[str, str]:
        """What else a clause says to tell the thing that it means from others."""
        slots = dict.fromkeys(quality for keep in self.book.keep for quality in keep.asks)
        return {slot: clause.values[slot + which] for slot in slots if slot + which in clause.values}

    def new_name(self, clause: Clause) -> dict[str, str]:
        """The values by which a clause calls its first thing from then on."""
        becomes = {} if clause.rule is None else clause.rule.becomes
        slots = {slot: self._value_of(source[:-1], source[-1], clause.values) for slot, source in becomes.items()}
        return {slot: value for slot, value in slots.items() if value}

    def is_many(self, clause: Clause, which: str = "") -> bool:
        """Whether a clause speaks of all such things, not of one."""
        return any(f"{slot}s{which}" in clause.values for slot in self._naming_slots)

    def questions(
        self, clause: Clause, names: Mapping[str, tuple[Mapping[str, str], bool] | None], more: Mapping[str, str]
    ) -> list[tuple[str, str]]:
        """A clause's (key point, question) with other names: by `which` as in `naming`, the values and whether there
        are several; None if it has no name that could be asked about. `more`: values of other slots."""
        if clause.rule is None:
            return list(clause.checks)
        values = {**clause.values, **more}
        for which, name in names.items():
            for slot in self._naming_slots:
                values.pop(f"{slot}s{which}", None)
                values.pop(slot + which, None)
            slots, many = name if name is not None else ({}, False)
            for slot, value in slots.items():
                plural = self.book.plurals.get(value) if many else None
                values |= {f"{slot}s{which}": plural} if plural else {slot + which: value}
        filled = (self._fill(check, values) for check in clause.rule.checks)
        return [(clause.rule.key_point, question) for question in filled if question]

    def next_value(self, slot: str, value: str, up: bool) -> str | None:
        """The value after or before another in the order of the slot; None beyond its ends."""
        order = self.book.slots[slot].split("|")
        at = order.index(value) + (1 if up else -1)
        return order[at] if 0 <= at < len(order) else None

    def speaks_of(self, clause: Clause, question: str) -> bool:
        """Whether the answer to a question, by whatever name of the thing, is for that clause to mend."""
        if any(question == known for _, known in clause.checks):
            return True
        mending = self.mend(question)
        if isinstance(mending, Counting):
            return mending.thing in clause.touches or (clause.more is not None and mending.thing == clause.more[0])
        return mending is not None and mending.rule is not None and mending.rule == clause.rule

    def touched_by_word(self, thing: Thing, clause: Clause) -> bool:
        """Whether a clause that names nothing by slots speaks of a thing: "word" means the word, whatever it says."""
        words = set(thing.name.split())
        return any(words >= set(what.split()) for what in clause.touches)

    @cached_property
    def _naming_slots(self) -> list[str]:
        return list(dict.fromkeys(m[2] for keep in self.book.keep for m in _SLOT.finditer(keep.thing)))

    def _value_of(self, slot: str, which: str, values: Mapping[str, str]) -> str | None:
        return values.get(slot + which) or self._singular.get(values.get(f"{slot}s{which}", ""))

    def _values_of(self, template: str, given: Mapping[str, str] = MappingProxyType({})) -> list[dict[str, str]]:
        """All ways to fill the slots of a template that are not given, but for the word that means anything; plurals
        follow their singular."""
        names = dict.fromkeys(match[2] + match[3] for match in _SLOT.finditer(template) if not match[1])
        free = [name for name in names if name not in given and name.removesuffix("s") not in given]
        values = [self.book.slots[name.rstrip("0123456789")].split("|") for name in free]
        return [dict(zip(free, chosen, strict=True)) for chosen in product(*values) if self.book.anything not in chosen]

    def read(self, instruction: str) -> tuple[Clause, ...]:
        """The changes of an instruction in anybody's words, at least one. One of more than LONGEST characters is not looked
        into: the book does not know it."""
        if len(instruction) > LONGEST:
            return (Clause(instruction, known=False),)
        clauses = self._read_all(instruction, loosely=False)
        if all(clause.known for clause in clauses):
            return clauses
        loose = self._read_all(instruction, loosely=True)
        return loose if all(clause.known for clause in loose) else clauses

    def find_lack(self, clauses: Sequence[Clause]) -> str | None:
        """Why what is asked for cannot be done, by the first clause that says so; None if the book knows no reason."""
        for clause in clauses:
            plain = _replace_all(self._plain, clause.canonical)
            for pattern, because in () if clause.known else self._lacks:
                if match := pattern.search(plain):
                    return match.expand(because)
        return None

    def _read_all(self, instruction: str, *, loosely: bool) -> tuple[Clause, ...]:
        parts = [instruction]
        for mark in self.book.split:
            parts = [piece for part in parts for piece in re.split(mark, part, flags=re.IGNORECASE)]
        # By all marks at once first: of "a, b and c" neither mark alone leaves pieces that are known.
        known = self.book.split_known
        for mark in (*(["|".join(known)] if len(known) > 1 else []), *known):
            parts = [piece for part in parts for piece in self._split(part, mark, loosely)]
        clauses: list[Clause] = []
        for part in parts:
            clauses += self._read(part, clauses[-1].subject if clauses else "", loosely)
        return tuple(clauses) or (Clause(instruction, known=False, said=instruction),)

    def _split(self, text: str, mark: str, loosely: bool) -> list[str]:
        """The pieces if each of them makes sense by itself, else the whole."""
        pieces = re.split(mark, text, flags=re.IGNORECASE)
        subject = ""
        for piece in pieces:
            read = self._read(piece, subject, loosely)
            if not all(clause.known for clause in read):
                return [text]
            subject = read[-1].subject if read else subject
        return pieces

    def _read(self, text: str, subject: str, loosely: bool) -> list[Clause]:
        """The changes of a piece; none if nothing is left of it but politeness. `subject`: what "it" means."""
        text = " ".join(text.split()).strip(" ,;.!?")
        plain = _replace_all(self._plain, _name(subject, self._pronouns, text))
        if not any(char.isalnum() for char in plain):
            return []
        read = self._match_all(plain)
        if not read and loosely:
            plain = _name(subject, self._loose_pronouns, text)
            for patterns in (self._loose, self._plain) * 2:  # each may put right what the other needs
                plain = _replace_all(patterns, plain)
            read = [replace(clause, loose=True) for clause in self._match_all(plain)]
        if read:
            return [replace(clause, said=text) for clause in read]
        spelled = self._respelled(text)
        again = self._read(spelled, subject, loosely) if spelled != text else []
        return again if again and all(clause.known for clause in again) else [Clause(text, known=False, said=text)]

    def _match_all(self, plain: str) -> list[Clause]:
        """The changes of a piece in the book's own words; none if a rule is missing for any of them."""
        read = [self._match(piece.strip()) for piece in plain.split(";")]
        known = [clause for clause in read if clause is not None]
        return known if len(known) == len(read) else []

    def _respelled(self, text: str) -> str:
        """The text with words that the book does not have put right if one of its own is close: "trinagle"."""

        def right(match: re.Match[str]) -> str:
            word = match[0]
            if word in self._words:
                return word
            likely = [known for known in self._words if known[0] == word[0]]
            return next(iter(get_close_matches(word, likely, n=1, cutoff=_ALIKE)), word)

        return re.sub(r"\b[a-z]{4,}\b", right, text)

    def _match(self, plain: str) -> Clause | None:
        for rule, _, patterns in self._rules:
            for pattern in patterns:
                match = pattern.fullmatch(plain)
                if match is None:
                    continue
                values = self._values(match)
                canonical = self._fill(rule.edit, values)
                if canonical is not None:
                    return self._clause(rule, canonical, values)
        return None

    def _clause(self, rule: Rule, canonical: str, values: Mapping[str, str]) -> Clause:
        filled = (self._fill(check, values) for check in (*rule.there, *rule.checks))
        return Clause(
            canonical,
            known=True,
            checks=tuple((rule.key_point, question) for question in filled if question),
            local=rule.local,
            makes=self._fill(rule.creates, values) or "",
            draft=self._fill(rule.draft, values) or "",
            uses=tuple(thing for need in rule.needs if (thing := self._fill(need, values))),
            subject=self._fill(self.book.subject, values) or "" if rule.needs else "",
            touches=tuple(thing for what in rule.touches if (thing := self._fill(what, values))),
            alters=rule.alters,
            more=self._more(rule, values),
            rule=rule,
            values=values,
        )

    def _more(self, rule: Rule, values: Mapping[str, str]) -> tuple[str, int] | None:
        thing = self._fill(rule.count_of, values) if rule.count_of else None
        word = values.get("number", NUMBERS[1])
        return (thing, rule.sign * NUMBERS.index(word)) if thing and word in NUMBERS else None

    def _counting(self, rule: Rule, values: dict[str, str]) -> Counting | None:
        word = values.get("number", NUMBERS[1])
        if word not in NUMBERS or (len(rule.count), len(rule.more), len(rule.fewer)) != (3, 2, 2):
            return None

        def texts(template: str) -> tuple[str, ...]:
            return tuple(self._fill(template, values | {"number": word}) or "" for word in NUMBERS)

        nothing, one, many = (texts(template) for template in rule.count)
        more, fewer = ((texts(one)[1], *texts(several)[2:]) for one, several in (rule.more, rule.fewer))
        thing = self.called({slot: v for slot in self._naming_slots if (v := self._value_of(slot, "", values))})
        return Counting(thing, NUMBERS.index(word), (nothing[0], one[1], *many[2:7]), more, fewer)

    def _regex(self, template: str) -> re.Pattern[str]:
        out = []
        for token in _TOKEN.findall(self._expanded(template)):
            if slot := _SLOT.fullmatch(token):
                if slot[2] not in self.book.slots:
                    raise ConfigError(f"edits.toml: no slot {slot[2]!r} for {template!r}")
                out.append(f"(?P<{slot[2]}{slot[3]}>{self.book.slots[slot[2]]})")
            elif token in "[]()|":
                out.append({"[": "(?:", "]": ")?", "(": "(?:"}.get(token, token))
            else:
                out.append(re.escape(token))
        try:
            return re.compile("".join(out), re.IGNORECASE)
        except re.error as error:
            raise ConfigError(f"edits.toml: {template!r} cannot be read: {error}") from None

    def _expanded(self, template: str) -> str:
        def piece(match: re.Match[str]) -> str:
            if match[1] not in self.book.macros:
                raise ConfigError(f"edits.toml: no macro {match[1]!r} for {template!r}")
            return _SLOT.sub(lambda slot: f"{{{slot[1]}{slot[2]}{match[2]}}}", self.book.macros[match[1]])

        return _MACRO.sub(piece, template)

    def _values(self, match: re.Match[str]) -> dict[str, str]:
        values = {name: value for name, value in match.groupdict().items() if value is not None}
        # As the book spells it, whatever case the user has.
        return {name: self._spelled(name.rstrip("0123456789"), value) for name, value in values.items()}

    def _spelled(self, slot: str, value: str) -> str:
        return next((word for word in self.book.slots[slot].split("|") if word.casefold() == value.casefold()), value)

    def _value(self, match: re.Match[str], values: Mapping[str, str]) -> str | None:
        name, digits = match[2], match[3]
        if name + digits in values or not match[1]:
            return values.get(name + digits)
        if name.endswith("s") and (one := values.get(name[:-1] + digits)):
            return self.book.plurals.get(one)
        many = values.get(f"{name}s{digits}")
        return None if many is None else self._singular.get(many)

    def _fill(self, template: str, values: Mapping[str, str]) -> str | None:
        """The template filled: optional parts whose slots have no value are left out, of choices the first that has
        all its values is taken. None if a slot has no value."""

        def part(text: str) -> str | None:
            wanted = [(match[0], self._value(match, values)) for match in _SLOT.finditer(text)]
            for slot, value in wanted:
                if value is None:
                    return None
                text = text.replace(slot, value, 1)
            return text

        def choice(match: re.Match[str]) -> str:
            return next((text for option in match[1].split("|") if (text := part(option)) is not None), "{none}")

        text = _CHOICE.sub(choice, self._expanded(template))
        filled = part(re.sub(r"\[([^\]]*)\]", lambda match: part(match[1]) or "", text))
        return None if filled is None else re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", filled)


def _name(subject: str, pronouns: re.Pattern[str] | None, text: str) -> str:
    """The text with its subject for the pronouns that stand for it."""
    return pronouns.sub(lambda _: subject, text) if subject and pronouns is not None else text


def _replace_all(patterns: Sequence[tuple[re.Pattern[str], str]], text: str) -> str:
    for pattern, replacement in patterns:
        text = pattern.sub(replacement, text).strip(" ,")
    return text


@lru_cache(maxsize=1)
def load_phrases() -> Phrases:
    """The phrase book of the cut-outs editor. Raises ConfigError if its file cannot be used."""
    path = Path(__file__).with_name("edits.toml")
    try:
        return Phrases(Book.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigError(f"cannot use {path}: {error}") from None
