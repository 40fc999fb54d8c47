"""Which questions the picture after an edit is judged by, worked out from the instruction and the picture before it.

The names in an instruction speak of the picture before it. "Make the top square dotted and paint it orange", of a
picture with two yellow squares, leaves one yellow square, and one orange one that is dotted: questions about the result
have to use the names and numbers of then. What cannot be told is not asked: of two squares alike, neither is "the
square".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from PIL import Image

from evaluator.checklist import OVERALL
from evaluator.coverage import find_coverage
from evaluator.edits.checks import overall_edit_check
from evaluator.edits.types import EditChecks
from evaluator.types import Check, Checklist, Judge
from mini.judge.lexicon import load_lexicon
from mini.phrasebook.phrases import LONGEST, Clause, Phrases, QualityQuestion, Thing, load_phrases
from redraft.errors import InputError

Name = dict[str, str]
"""What a thing is called by, slot by slot: {"color": "red", "shape": "star"}; fewer slots call more things."""
_KEY_POINT = "counting"
_KEPT = "preservation"
"""The key point of what an edit must leave as it is."""
_SURE = 0.8
"""The judge's least P(yes) for asking again after the edit: below it the answer may turn without a cause."""


@dataclass(frozen=True)
class SeenThing:
    """A thing that is in the picture. `answers`: P(yes) by question, of those of `thing`."""

    thing: Thing
    answers: Mapping[str, float]

    def number(self, bar: float) -> int | None:
        """How many there are of it, None if the judge is not sure, or if it is nothing to be counted."""
        known = [
            (self.answers[question], n)
            for n, question in enumerate(self.thing.counts, start=1)
            if question in self.answers
        ]
        return max(known)[1] if known and max(known)[0] >= bar else None

    def asks(self, bar: float) -> tuple[QualityQuestion, ...]:
        """The questions of what it is like, or of what all of them are."""
        number = self.number(bar)
        if self.thing.counts and number is None:
            return ()
        return self.thing.asks if number in (None, 1) else self.thing.asks_all

    def holds(self, quality: str, value: str, bar: float) -> bool:
        """Whether it is known to be so."""
        asks = (ask for ask in self.thing.asks if (ask.quality, ask.value) == (quality, value))
        return any(self.answers.get(ask.question, 0.0) >= bar for ask in asks)


@dataclass(frozen=True)
class _Meant:
    """What a name means: positions of things. `whole`: all there are of each; else one of the several of one thing."""

    things: tuple[int, ...]
    whole: bool


@dataclass(frozen=True)
class _Change:
    """So many things called `before` are called `after` now; None: they were not there, or are gone. No `number`: it
    cannot be told how many."""

    before: Name | None
    after: Name | None
    number: int | None


@dataclass
class Aftermath:
    """`clauses`: the instruction, as the phrase book read it; `seen`: what is in the picture; `bar`: the P(yes) from
    which on an answer counts as a yes."""

    phrases: Phrases
    clauses: Sequence[Clause]
    seen: Sequence[SeenThing]
    bar: float = 0.5
    _names: list[Name] = field(init=False)

    def __post_init__(self) -> None:
        self._names = [dict(seen.thing.values) for seen in self.seen]

    def wanted(self) -> list[tuple[str, str]]:
        """(key point, question) of what the instruction asks for; each question once, whatever it was asked for."""
        checks: dict[str, str] = {}
        for number in range(len(self.clauses)):
            for key_point, question in self.wanted_by(number):
                checks.setdefault(question, key_point)
        return [(key_point, question) for question, key_point in checks.items()]

    def wanted_by(self, number: int) -> list[tuple[str, str]]:
        """The same of one clause, by its place."""
        return [*self._numbers_of(number), *self._asked(number)]

    def kept(self, sure: float) -> list[str]:
        """Questions about what no clause changes, that were answered before with a P(yes) of `sure`. What is called
        otherwise afterwards is asked about by its new name."""
        checks = []
        for at, one in enumerate(self.seen):
            altered = self._altered(at)
            if altered is None:
                continue
            name = self._after[at]
            if name == self._names[at]:
                alike = [ask.question for ask in one.asks(self.bar) if ask.quality not in altered]
                asks = [(question, question) for question in (one.thing.there, *one.thing.counts, *alike)]
            else:
                asks = self._renamed(at, name, altered) if name is not None else []
            checks += [now for before, now in asks if one.answers.get(before, 0.0) >= sure]
        return list(dict.fromkeys(checks))

    def _renamed(self, at: int, name: Name, altered: set[str]) -> list[tuple[str, str]]:
        """(question before, question after) of the qualities of what has a new name now, and has it alone."""
        number = self._number(at)
        now = next((thing for thing in self.phrases.things if thing.values == name), None)
        if now is None or number is None or self._count(name) != number:
            return []
        after = {(ask.quality, ask.value): ask.question for ask in (now.asks if number == 1 else now.asks_all)}
        return [
            (ask.question, after[ask.quality, ask.value])
            for ask in self.seen[at].asks(self.bar)
            if ask.quality not in altered and (ask.quality, ask.value) in after
        ]

    # What is meant

    @cached_property
    def _subjects(self) -> list[_Meant | None]:
        return [self._meant(clause, "") if self._changes(clause) else None for clause in self.clauses]

    def _changes(self, clause: Clause) -> bool:
        """Whether a clause changes things that are there, and names them."""
        return clause.rule is not None and "" in clause.rule.refers

    def _is_counted(self, at: int) -> bool:
        """Whether it is a thing of which there may be several, unlike a sheet."""
        return bool(self.seen[at].thing.counts)

    def _number(self, at: int) -> int | None:
        """How many there are of a thing before, None if the judge does not say."""
        return self.seen[at].number(self.bar)

    def _meant(self, clause: Clause, which: str) -> _Meant | None:
        """What a clause speaks of, None if that cannot be told."""
        name, qualities = self.phrases.naming(clause, which), self.phrases.qualities(clause, which)
        fit = [at for at, own in enumerate(self._names) if self._is_counted(at) and _calls(name, own)]
        if any(self._number(at) is None for at in fit):
            return None
        many = self.phrases.is_many(clause, which)
        if many and not qualities:
            return _Meant(tuple(fit), True) if fit else None
        several = [at for at in fit if self._number(at) != 1]
        sure = [at for at in fit if at not in several and self._has(at, qualities)]
        if many:
            # Of several things alike it is not known how many of them are "small" or "at the top".
            return _Meant(tuple(sure), True) if sure and not several else None
        if len(fit) == 1 or (len(sure) == 1 and qualities):
            return _Meant(tuple(sure or fit), not several or bool(sure))
        return _Meant(tuple(several), False) if qualities and not sure and len(several) == 1 else None

    def _has(self, at: int, qualities: Mapping[str, str]) -> bool:
        return all(self.seen[at].holds(quality, value, self.bar) for quality, value in qualities.items())

    # What becomes of it

    @cached_property
    def _after(self) -> list[Name | None]:
        """What each thing is called afterwards, all there are of it; None: gone."""
        after: list[Name | None] = [dict(name) for name in self._names]
        for clause, meant in zip(self.clauses, self._subjects, strict=True):
            if meant is None or not meant.whole:
                continue
            for at in meant.things:
                name = after[at]
                if self._removes(clause):
                    # "Remove two circles" of three: those that are left keep their name.
                    after[at] = None if self._takes_all(clause, meant) else name
                elif name is not None:
                    after[at] = name | self._new_name(clause)
        return after

    @staticmethod
    def _removes(clause: Clause) -> bool:
        return clause.rule is not None and clause.rule.sign < 0

    def _taken(self, clause: Clause) -> int | None:
        """How many a clause takes away, None for all that it names."""
        return None if clause.more is None else -clause.more[1]

    def _takes_all(self, clause: Clause, meant: _Meant) -> bool:
        return self._taken(clause) in (None, sum(self._number(at) or 0 for at in meant.things))

    def _pick(self, clause: Clause) -> tuple[Name, Name, bool]:
        """The words by which a clause picks what it changes: clauses with the same ones mean the same thing."""
        return self.phrases.naming(clause), self.phrases.qualities(clause), self.phrases.is_many(clause)

    def _same(self, clause: Clause) -> list[Clause]:
        """The clauses that call what they mean by the same words as this one, in their order."""
        mine = self._pick(clause)
        return [clause for clause in self.clauses if self._changes(clause) and self._pick(clause) == mine]

    def _new_name(self, clause: Clause) -> Name:
        """What a clause and others about the same thing call it afterwards, if that is not as before."""
        return {slot: value for twin in self._same(clause) for slot, value in self.phrases.new_name(twin).items()}

    def _renames(self, clause: Clause) -> bool:
        return clause.rule is not None and bool(clause.rule.becomes)

    @cached_property
    def _changed(self) -> list[_Change]:
        changes = []
        for at, (name, after) in enumerate(zip(self._names, self._after, strict=True)):
            if name != after:
                changes.append(_Change(name, after, self._number(at)))
        for clause, meant in zip(self.clauses, self._subjects, strict=True):
            changes += self._partly(clause, meant)
            if clause.rule is not None and clause.rule.creates and clause.more is not None:
                changes.append(_Change(None, self.phrases.naming(clause), clause.more[1]))
        return changes

    def _partly(self, clause: Clause, meant: _Meant | None) -> list[_Change]:
        """What a clause does to things whose others stay as they are, or of which it cannot be told which they are."""
        if not self._changes(clause) or not (self._removes(clause) or self._renames(clause)):
            return []
        name: Name = self.phrases.naming(clause)
        number: int | None = None
        if meant is not None and meant.whole:
            if not self._removes(clause) or self._takes_all(clause, meant):
                return []
            number = self._taken(clause)
        elif meant is not None:
            name = self._names[meant.things[0]]
            number = self._taken(clause) if self._removes(clause) else 1
            if self._renames(clause) and next(filter(self._renames, self._same(clause))) is not clause:
                return []  # the first of those about the same thing speaks for all
            if self._also_partly(clause, meant.things[0]):
                number = None
        elif self._removes(clause):
            number = self._taken(clause)
        return [_Change(name, None if self._removes(clause) else name | self._new_name(clause), number)]

    def _also_partly(self, clause: Clause, at: int) -> bool:
        """Whether another clause takes some of the same things away, or calls some otherwise: maybe the same ones."""
        mine = self._pick(clause)
        return any(
            meant is not None and at in meant.things and self._renames(other) and self._pick(other) != mine
            for other, meant in zip(self.clauses, self._subjects, strict=True)
        )

    def _count(self, name: Name) -> int | None:
        """How many things are called so afterwards, None if that cannot be told."""
        numbers = [self._number(at) for at, own in enumerate(self._names) if _calls(name, own)]
        total = 0
        for number in numbers:
            if number is None:
                return None
            total += number
        for change in self._changed:
            for side, sign in ((change.before, -1), (change.after, 1)):
                if side is None or not _within(name, side):
                    continue
                if not _calls(name, side) or change.number is None:
                    return None
                total += sign * change.number
        return max(total, 0)

    # What is asked of it

    def _numbers_of(self, number: int) -> list[tuple[str, str]]:
        """How many there should be of all that a clause takes away, brings or calls otherwise."""
        clause, meant = self.clauses[number], self._subjects[number]
        if clause.rule is None:
            return []
        names: list[Name] = []
        if clause.rule.creates or (self._removes(clause) and clause.rule.refers):
            name = self.phrases.naming(clause)
            # Shapes of any kind and colour are asked about by the names of those that are there.
            names = [name] if name or meant is None else [self._names[at] for at in meant.things]
        elif self._renames(clause) and meant is not None:
            for at in meant.things:
                after = self._after[at] if meant.whole else self._names[at] | self._new_name(clause)
                names += [name for name in (self._names[at], after) if name is not None]
        questions = [self._how_many(name) for name in names]
        if any(question is not None for question in questions):
            return [(_KEY_POINT, question) for question in questions if question is not None]
        return list(clause.checks) if clause.rule.creates else []

    def _how_many(self, name: Name) -> str | None:
        counting, count = self.phrases.counting(self.phrases.called(name)), self._count(name)
        return (
            counting.asks[count] if counting is not None and count is not None and count < len(counting.asks) else None
        )

    def _nothing_fits(self, clause: Clause) -> bool:
        """Whether the judge saw nothing of what a clause names: its own words are then all that can be asked."""
        return not any(_calls(self.phrases.naming(clause), own) for own in self._names)

    def _asked(self, number: int) -> list[tuple[str, str]]:
        """A clause's own questions, by the names of afterwards."""
        clause, meant = self.clauses[number], self._subjects[number]
        rule = clause.rule
        if rule is None or not (rule.refers or rule.creates):
            return list(clause.checks)
        other = {"2": self._anchor(clause)} if "2" in rule.refers else {}
        if rule.creates:
            name, many = self.phrases.naming(clause), self.phrases.is_many(clause)
            alone = clause.more is not None and self._count(name) == clause.more[1]
            return self.phrases.questions(clause, {"": (name, many), **other}, {}) if alone else []
        if meant is None:
            return list(clause.checks) if self._nothing_fits(clause) else []
        more = self._stepped(clause, meant)
        return [
            question
            for name, many in self._called_now(meant, clause)
            for question in self.phrases.questions(clause, {"": (name, many), **other}, more)
        ]

    def _called_now(self, meant: _Meant, clause: Clause) -> list[tuple[Name, bool]]:
        """The names of what is meant, each with whether there are several; none for what others are called by, too."""
        if not meant.whole:
            # One of several has a name to itself if it is called otherwise now.
            new = self._new_name(clause)
            name = self._names[meant.things[0]] | new
            return [(name, False)] if new and self._count(name) == 1 else []
        numbers: list[tuple[Name, int]] = []
        for at in meant.things:
            name_now, count = self._after[at], self._number(at) or 0
            if name_now is None:
                continue
            same = next((n for n, (name, _) in enumerate(numbers) if name == name_now), None)
            if same is None:
                numbers.append((name_now, count))
            else:
                numbers[same] = (name_now, numbers[same][1] + count)
        return [(name, count > 1) for name, count in numbers if count and self._count(name) == count]

    def _anchor(self, clause: Clause) -> tuple[Name, bool] | None:
        """What a clause's second thing is called by afterwards; its own words if the judge saw nothing of it."""
        meant = self._meant(clause, "2")
        name, many = self.phrases.naming(clause, "2"), self.phrases.is_many(clause, "2")
        if meant is None:
            return None if any(_calls(name, own) for own in self._names) else (name, many)
        called = self._called_now(meant, clause) if meant.whole else []
        return called[0] if len(called) == 1 else None

    def _stepped(self, clause: Clause, meant: _Meant) -> dict[str, str]:
        """The value after a step up or down, of a single thing whose value is known."""
        steps = None if clause.rule is None else clause.rule.steps
        if steps is None or steps.by not in clause.values or not meant.whole or len(meant.things) != 1:
            return {}
        one = self.seen[meant.things[0]]
        had = [ask.value for ask in one.thing.asks if ask.quality == steps.along]
        known = [value for value in had if one.holds(steps.along, value, self.bar)]
        if self._number(meant.things[0]) != 1 or len(known) != 1:
            return {}
        value = self.phrases.next_value(steps.along, known[0], clause.values[steps.by] == steps.up)
        return {} if value is None else {steps.to: value}

    def _altered(self, at: int) -> set[str] | None:
        """In which qualities a thing is not as before, None if in any."""
        altered: set[str] = set()
        for clause, meant in zip(self.clauses, self._subjects, strict=True):
            if clause.rule is None or not (clause.rule.refers or clause.rule.creates):
                if self.phrases.touched_by_word(self.seen[at].thing, clause):
                    return None
            elif self._changes(clause) and self._is_counted(at):
                if meant is not None and at not in meant.things:
                    continue
                if meant is None and not _within(self.phrases.naming(clause), self._names[at]):
                    continue
                if (self._removes(clause) or self._renames(clause)) and (meant is None or not meant.whole):
                    return None
                altered.update(clause.alters)
        for change in self._changed if self._is_counted(at) else ():
            # Others of its kind come or go, and its questions would mean them, too.
            sides = (change.before, change.after) if change.before != self._names[at] else ()
            if any(side is not None and _within(side, self._names[at]) for side in sides):
                return None
        return altered


def _calls(name: Name, own: Name) -> bool:
    """Whether a thing that is called `own` has all qualities of a name."""
    return name.items() <= own.items()


def _within(name: Name, own: Name) -> bool:
    """Whether a thing that is called `own` may be meant by a name: they do not contradict each other."""
    return all(own.get(slot, value) == value for slot, value in name.items())


def find_unchecked(clauses: Sequence[Clause], checked: Sequence[bool], wanted: Checklist) -> tuple[str, ...]:
    """The words of an instruction that nobody checks, each once, in their order.

    A clause that has a question of its own (`checked`) is checked whole, since the phrase book has read all of it: of "make
    the red star blue" nothing is asked about red, but whether there is a blue star. Of others the words count that some
    question names.
    """
    words: dict[str, None] = {}
    for clause, is_checked in zip(clauses, checked, strict=True):
        if not is_checked:
            asked = tuple(check for check in wanted if check.key_point != OVERALL)
            words |= dict.fromkeys(find_coverage(clause.said, asked, load_lexicon()).uncovered)
    return tuple(words)


class PhraseEditChecks:
    """An EditChecklistMaker that reads the instruction with the phrase book, and has the judge look at the picture.

    The judge is asked about everything that the book says pictures may hold; `Aftermath` works out what should be there
    afterwards, and what must stay. If the book does not know a part of the instruction, one question about the whole
    stands in for that part, and nothing is said of the rest, since the part may mean any of it. The words of clauses
    that no question asks about are unchecked. Raises InputError for what the world does not have ("flip it").
    """

    def __init__(self, judge: Judge, pass_at: float = 0.5) -> None:
        self._phrases = load_phrases()
        self._judge = judge
        self._pass_at = pass_at

    async def __call__(self, source: Image.Image, instruction: str) -> EditChecks:
        if len(instruction) > LONGEST:
            raise InputError(
                f"the instruction has {len(instruction):,} characters, and edits of paper cut-outs are read up to "
                f"{LONGEST:,}; say it shorter, or in several edits"
            )
        clauses = await asyncio.to_thread(self._phrases.read, instruction)
        lack = await asyncio.to_thread(self._phrases.find_lack, clauses)
        if lack is not None:
            raise InputError(f"pictures of paper cut-outs cannot be edited so: {lack}; ask for something else")
        if not all(clause.known for clause in clauses):
            stated = tuple(dict.fromkeys(Check(*check) for clause in clauses for check in clause.checks))
            unchecked = await asyncio.to_thread(
                find_unchecked, clauses, [bool(clause.checks) for clause in clauses], stated
            )
            return EditChecks((*stated, overall_edit_check(instruction)), unchecked=unchecked)
        after = Aftermath(self._phrases, clauses, await self._look(source, instruction), self._pass_at)
        wanted = tuple(Check(*questions) for questions in after.wanted()) or (overall_edit_check(instruction),)
        questions = {check.question for check in wanted}
        kept = [question for question in after.kept(_SURE) if question not in questions]
        checked = [bool(after.wanted_by(number)) for number in range(len(clauses))]
        unchecked = await asyncio.to_thread(find_unchecked, clauses, checked, wanted)
        return EditChecks(wanted, tuple(Check(_KEPT, question) for question in kept), unchecked)

    async def _look(self, source: Image.Image, instruction: str) -> list[SeenThing]:
        """All that is in the picture, with what the judge says of it."""
        things = self._phrases.things
        sure = await self._sure(source, instruction, [thing.there for thing in things])
        there = [thing for thing in things if sure.get(thing.there, 0.0) >= self._pass_at]
        sure |= await self._sure(source, instruction, [question for thing in there for question in thing.counts])
        seen = [SeenThing(thing, sure) for thing in there]
        more = await self._sure(
            source, instruction, [ask.question for thing in seen for ask in thing.asks(self._pass_at)]
        )
        return [SeenThing(thing.thing, sure | more) for thing in seen]

    async def _sure(self, source: Image.Image, instruction: str, questions: Sequence[str]) -> dict[str, float]:
        """P(yes) of each question that the judge could answer."""
        if not questions:
            return {}
        verdicts = await self._judge(source, instruction, tuple(Check(_KEPT, q) for q in questions))
        return {v.check.question: v.probability for v in verdicts if v.probability is not None}
