"""A style's phrase book of edits: which instruction mends a failed check, and which checks an instruction asks for.

`edits.toml` in the folder of a rewriter style:

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
    checks = ["Is the sheet {sheet}?"]          what must be true afterwards; left out where a slot is empty
    key_point = "state"
    local = false                               whether nothing beyond what it names may change
    creates = "{color} {~shape}"                what it brings into the picture, by which others depend on it
    needs = ["{color} {~shape}"]                what it speaks of
    touches = ["{color} {~shape}"]              what is not as before afterwards, or may not be
    alters = ["fill"]                           in which of its qualities; left out: in any, and it may be gone
    count_of = "{color} {shape}"                what there is more of afterwards, by {number} or one
    sign = 1                                    -1: fewer of

    [[keep]]                                    what pictures are asked about, to find out what an edit must keep
    thing = "{color} {shape}"                   for each value of each slot, where no sub-task touches it
    there = "Is there a {color} {shape}?"       where the answer is yes, `asks` tell more of it
    asks.fill = ["Are all {color} {shapes} {fill}?"]     of each quality

In patterns `[...]` is optional, `(a|b)` a choice, `{slot2}` another value of `{slot}`; all else is literal. A rule with
`count` in place of `edit` mends a number: `count` has the questions by which the present number is found, for none, for
one and for {number}; `more` and `fewer` are its instructions, for a difference of one and for one of {number}.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import ConfigError
from core.templates import style_folder

_SLOT = re.compile(r"\{(~?)([a-z]+)(\d*)\}")
_MACRO = re.compile(r"<([a-z]+)(\d*)>")
_TOKEN = re.compile(r"\{[a-z]+\d*\}|[\[\]()|]|[^\[\](){}|]+")
_CHOICE = re.compile(r"\(([^()]*)\)")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: tuple[str, ...] = ()
    edit: str = ""
    says: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    key_point: str = "state"
    local: bool = False
    creates: str = ""
    needs: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()
    alters: tuple[str, ...] = ()
    count_of: str = ""
    sign: Literal[1, -1] = 1
    count: tuple[str, ...] = Field(default=(), max_length=3)
    more: tuple[str, ...] = Field(default=(), max_length=2)
    fewer: tuple[str, ...] = Field(default=(), max_length=2)


class _Keep(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    thing: str
    there: str
    asks: dict[str, tuple[str, ...]] = {}


class _Book(BaseModel):
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
    rule: tuple[_Rule, ...] = ()
    keep: tuple[_Keep, ...] = ()


@dataclass(frozen=True)
class Clause:
    """One sub-task of an instruction. `canonical` is the instruction in the book's own words; `known` False where no
    rule knows it, and it stands there as it came. `checks`: (key point, question). `makes` and `uses`: what it brings
    into the picture, and what must be there for it. `subject`: what "it" means after it. `touches`: what may not be as
    before afterwards, in the qualities that it `alters`, or in all where that is empty. `more`: (thing, how many
    more of it there are), which is negative for fewer."""

    canonical: str
    known: bool
    checks: tuple[tuple[str, str], ...] = ()
    local: bool = False
    makes: str = ""
    uses: tuple[str, ...] = ()
    subject: str = ""
    touches: tuple[str, ...] = ()
    alters: tuple[str, ...] = ()
    more: tuple[str, int] | None = None


@dataclass(frozen=True)
class Thing:
    """Something that may be in a picture: the question whether it is, and (quality, question) that tell more of it."""

    name: str
    there: str
    asks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Counting:
    """A number that is wrong. `asks`: the questions, by number from zero on, that tell how many there are now. `more`
    and `fewer`: the instructions that add and take away so many, by number from one on."""

    wanted: int
    asks: tuple[str, ...]
    more: tuple[str, ...]
    fewer: tuple[str, ...]


class Phrases:
    """A loaded phrase book. Raises ConfigError for one that cannot be used."""

    def __init__(self, book: _Book) -> None:
        self._book = book
        try:
            self._plain = [(re.compile(pattern, re.IGNORECASE), text) for pattern, text in book.plain]
            self._pronouns = re.compile(book.pronouns, re.IGNORECASE) if book.pronouns else None
        except re.error as error:
            raise ConfigError(f"edits.toml: a pattern of `plain` cannot be read: {error}") from None
        self._rules = [
            (rule, [self._regex(q) for q in rule.questions], [self._regex(s) for s in (rule.edit, *rule.says) if s])
            for rule in book.rule
        ]
        self._singular = {many: one for one, many in book.plurals.items()}

    def join(self, instructions: Sequence[str]) -> str:
        """One instruction from several."""
        bare = [text.strip() for text in instructions]
        if self._book.joiner.startswith("."):
            bare = [*(text.rstrip(".") for text in bare[:-1]), bare[-1]] if bare else []
        return self._book.joiner.join(bare)

    def mend(self, question: str) -> Clause | Counting | None:
        """What would make the answer to `question` yes; None where the book knows nothing for it."""
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
        if not self._book.fallback:
            return None
        return Clause(self._book.fallback.replace("{question}", question.strip()), known=False)

    def counting(self, thing: str) -> Counting | None:
        """The questions and instructions about how many there are of a thing, None where the book does not count it."""
        found = self.mend(f"Is there exactly one {thing}?")
        return found if isinstance(found, Counting) else None

    def things(self) -> tuple[Thing, ...]:
        """All that pictures of this style may hold, none where the book does not say."""
        found = []
        for keep in self._book.keep:
            for values in self._values_of(keep.thing):
                name, there = self._fill(keep.thing, values), self._fill(keep.there, values)
                asks = (
                    (quality, self._fill(ask, values | more))
                    for quality, templates in keep.asks.items()
                    for ask in templates
                    for more in self._values_of(ask, values)
                )
                if name and there:
                    found.append(Thing(name, there, tuple((quality, text) for quality, text in asks if text)))
        return tuple(found)

    def left_alone(self, thing: Thing, clauses: Sequence[Clause]) -> Thing | None:
        """A thing with the questions that no sub-task touches, None where one may take it away: "star" means each star,
        whatever its colour."""
        words = {*thing.name.split(), self._book.anything}
        touching = [clause for clause in clauses if any(words >= set(what.split()) for what in clause.touches)]
        if not all(clause.alters for clause in touching):
            return None
        altered = {quality for clause in touching for quality in clause.alters}
        return Thing(thing.name, thing.there, tuple(ask for ask in thing.asks if ask[0] not in altered))

    def _values_of(self, template: str, given: Mapping[str, str] = MappingProxyType({})) -> list[dict[str, str]]:
        """All ways to fill the slots of a template that are not given, but for the word that means anything; plurals
        follow their singular."""
        names = dict.fromkeys(match[2] + match[3] for match in _SLOT.finditer(template) if not match[1])
        free = [name for name in names if name not in given and name.removesuffix("s") not in given]
        values = [self._book.slots[name.rstrip("0123456789")].split("|") for name in free]
        return [
            dict(zip(free, chosen, strict=True)) for chosen in product(*values) if self._book.anything not in chosen
        ]

    def read(self, instruction: str) -> tuple[Clause, ...]:
        """The sub-tasks of an instruction in anybody's words, at least one."""
        parts = [instruction]
        for mark in self._book.split:
            parts = [piece for part in parts for piece in re.split(mark, part, flags=re.IGNORECASE)]
        # By all marks at once first: of "a, b and c" neither mark alone leaves pieces that are known.
        known = self._book.split_known
        for mark in (*(["|".join(known)] if len(known) > 1 else []), *known):
            parts = [piece for part in parts for piece in self._split(part, mark)]
        clauses: list[Clause] = []
        for part in parts:
            clauses += self._read(part, clauses[-1].subject if clauses else "")
        return tuple(clauses) or (Clause(instruction, known=False),)

    def _split(self, text: str, mark: str) -> list[str]:
        """The pieces where each of them makes sense by itself, else the whole."""
        pieces = re.split(mark, text, flags=re.IGNORECASE)
        subject = ""
        for piece in pieces:
            read = self._read(piece, subject)
            if not all(clause.known for clause in read):
                return [text]
            subject = read[-1].subject if read else subject
        return pieces

    def _read(self, text: str, subject: str) -> list[Clause]:
        """The sub-tasks of a piece; none where nothing is left of it but politeness. `subject`: what "it" means."""
        text = " ".join(text.split()).strip(" ,;.!")
        plain = text
        if subject and self._pronouns is not None:
            plain = self._pronouns.sub(lambda _: subject, plain)
        for found, replacement in self._plain:
            plain = found.sub(replacement, plain).strip(" ,")
        if not any(char.isalnum() for char in plain):
            return []
        read = [self._match(piece.strip()) for piece in plain.split(";")]
        known = [clause for clause in read if clause is not None]
        return known if len(known) == len(read) else [Clause(text, known=False)]

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

    def _clause(self, rule: _Rule, canonical: str, values: Mapping[str, str]) -> Clause:
        filled = (self._fill(check, values) for check in rule.checks)
        return Clause(
            canonical,
            known=True,
            checks=tuple((rule.key_point, question) for question in filled if question),
            local=rule.local,
            makes=self._fill(rule.creates, values) or "",
            uses=tuple(thing for need in rule.needs if (thing := self._fill(need, values))),
            subject=self._fill(self._book.subject, values) or "" if rule.needs else "",
            touches=tuple(thing for what in rule.touches if (thing := self._fill(what, values))),
            alters=rule.alters,
            more=self._more(rule, values),
        )

    def _more(self, rule: _Rule, values: Mapping[str, str]) -> tuple[str, int] | None:
        thing = self._fill(rule.count_of, values) if rule.count_of else None
        word = values.get("number", NUMBERS[1])
        return (thing, rule.sign * NUMBERS.index(word)) if thing and word in NUMBERS else None

    def _counting(self, rule: _Rule, values: dict[str, str]) -> Counting | None:
        word = values.get("number", NUMBERS[1])
        if word not in NUMBERS or (len(rule.count), len(rule.more), len(rule.fewer)) != (3, 2, 2):
            return None

        def texts(template: str) -> tuple[str, ...]:
            return tuple(self._fill(template, values | {"number": word}) or "" for word in NUMBERS)

        nothing, one, many = (texts(template) for template in rule.count)
        more, fewer = ((texts(one)[1], *texts(several)[2:]) for one, several in (rule.more, rule.fewer))
        return Counting(NUMBERS.index(word), (nothing[0], one[1], *many[2:7]), more, fewer)

    def _regex(self, template: str) -> re.Pattern[str]:
        out = []
        for token in _TOKEN.findall(self._expanded(template)):
            if slot := _SLOT.fullmatch(token):
                if slot[2] not in self._book.slots:
                    raise ConfigError(f"edits.toml: no slot {slot[2]!r} for {template!r}")
                out.append(f"(?P<{slot[2]}{slot[3]}>{self._book.slots[slot[2]]})")
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
            if match[1] not in self._book.macros:
                raise ConfigError(f"edits.toml: no macro {match[1]!r} for {template!r}")
            return _SLOT.sub(lambda slot: f"{{{slot[1]}{slot[2]}{match[2]}}}", self._book.macros[match[1]])

        return _MACRO.sub(piece, template)

    def _values(self, match: re.Match[str]) -> dict[str, str]:
        found = {name: value for name, value in match.groupdict().items() if value is not None}
        # As the book spells it, whatever case the user has.
        return {name: self._spelled(name.rstrip("0123456789"), value) for name, value in found.items()}

    def _spelled(self, slot: str, value: str) -> str:
        return next((word for word in self._book.slots[slot].split("|") if word.casefold() == value.casefold()), value)

    def _value(self, match: re.Match[str], values: Mapping[str, str]) -> str | None:
        name, digits = match[2], match[3]
        if name + digits in values or not match[1]:
            return values.get(name + digits)
        if name.endswith("s") and (one := values.get(name[:-1] + digits)):
            return self._book.plurals.get(one)
        many = values.get(f"{name}s{digits}")
        return None if many is None else self._singular.get(many)

    def _fill(self, template: str, values: Mapping[str, str]) -> str | None:
        """The template filled: optional parts whose slots have no value are left out, of choices the first that has
        all its values is taken. None where a slot has no value."""

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


@lru_cache(maxsize=8)
def load_phrases(style: str) -> Phrases:
    """The phrase book of a rewriter style; one that knows nothing where the style has none. Raises ConfigError."""
    path = style_folder("rewriter", style) / "edits.toml"
    if not path.is_file():
        return Phrases(_Book(fallback=_PLAIN))
    try:
        return Phrases(_Book.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigError(f"cannot use {path}: {error}") from None


_PLAIN = "Change the picture so that the answer to this question is yes: {question}"
