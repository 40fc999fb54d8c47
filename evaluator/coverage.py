"""Coverage: which words of a request its checklist asks about, without a model.

    checks = (Check("attribute", "Is there a red star?"),)
    coverage = find_coverage("a red star between two blue circles", checks)
    coverage.uncovered          # ("between", "two", "blue", "circles")
    coverage.uncovered_phrases  # ("between two blue circles",)
    find_coverage("a panda", (Check("counting", "Is there a purple cross?"),)).invented     # that check

Content words are all but articles, words that only join others, and words about the picture itself
(`languages/*.toml`). Numbers, negations, colours and relations are content, and quoted text is one word. Words are
compared by lemma (simplemma), numbers by value, and by a table of synonyms if there is one. Scripts without spaces
(Chinese, Japanese, Thai) are compared by pairs of characters. A word that the request says of several things ("two
stars and two circles") is covered each time by a check that names that thing, or by one that asks about all of them.

NOT covered: prepositions that say little by themselves (on, in, with, of), the number one, word order (a check "Is there
a blue star?" covers both words of "a red star and a blue circle" that it uses), a trait that is said twice in clauses of its
own ("the hat is red and the scarf is red": one check covers it), other languages than the request's, and what only
knowledge connects (a check about a lion is not anchored in "the king of animals").
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict

from evaluator.types import Check

_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff"
_TOKEN = re.compile(
    rf"[{_UNSPACED}]+|\d+(?:[.,]\d+)+|(?:[^\W_{_UNSPACED}]|[{_MARKS}])+(?:['’ʼ](?:[^\W_{_UNSPACED}]|[{_MARKS}])+)*"
)
_RUN = re.compile(rf"[{_UNSPACED}]+")
_HANGUL = re.compile(r"[\uac00-\ud7a3]+")
_QUOTED = re.compile(
    r"“([^“”\n]{1,200})”|„([^„“”\n]{1,200})[“”]|\"([^\"\n]{1,200})\"|«([^«»\n]{1,200})»|「([^」\n]{1,200})」|『([^』\n]{1,200})』"
    r"|(?<!\w)‘([^‘’\n]{1,200})’(?!\w)|(?<!\w)'([^'\n]{1,200})'(?!\w)"
)
_SYNTAX = re.compile(r"<[^<>\n]*>|(?<!\S)--\w+(?:\s+[\d.:x]+)?|:\d+(?:\.\d+)?(?=\))")
"""What steers a program and not the picture: <lora:name:1>, --ar 16:9, the weight of (word:1.2)."""
_CONTRACTED_NOT = re.compile(r"n['’ʼ]t$")
_NOT = "!"
"""What every negation means."""
_APOSTROPHE = re.compile(r"['’ʼ]")
_MARK = re.compile(r"[,.;:!?\n]")
_APART = re.compile(r"[,.;:!?\n]|\b(?:and|with|und|mit|et|avec|y|con|e|com|en|met)\b")
"""What stands between a relation and a thing that it is not about: "a heart at the top and a star"."""
_SHORTEST_TYPO = 5
"""Letters of the shortest word that is looked at for typing mistakes."""
_NOTHING = "~"
"""What a filler means."""

Kind = Literal["word", "number", "negation", "quote", "run"]


@dataclass(frozen=True)
class Mention:
    """A passage that means something by itself, as a reader of numbers or colours finds it: text[start:end] says
    `meaning`. Passages of equal meaning cover one another, whatever their words."""

    start: int
    end: int
    meaning: str
    kind: Literal["word", "number", "negation"] = "word"


Reader = Callable[[str], Iterable[Mention]]
"""Finds mentions in a text. The agent passes the guard's readers: an evaluator knows no rewriter."""


@dataclass(frozen=True)
class Coverage:
    """What a checklist asks about of a request; all words as the request has them, in its order, each once.

    `uncovered_phrases`: the passages that no check asks about, with the small words between their words.
    `anchored_by`: for each check the words it is anchored in. `invented`: the checks that are anchored nowhere.
    """

    covered: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()
    uncovered_phrases: tuple[str, ...] = ()
    anchored_by: Mapping[Check, tuple[str, ...]] = field(default_factory=dict)
    invented: tuple[Check, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every content word is asked about."""
        return not self.uncovered


class _LanguageFile(BaseModel):
    """languages/NAME.toml. Words have spaces between them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    articles: str = ""
    function: str = ""
    frame: str = ""
    negation: str = ""
    negation_phrases: tuple[str, ...] = ()
    fillers: tuple[str, ...] = ()
    """Phrases that ask for nothing."""
    edits: tuple[str, ...] = ()
    """What says in an instruction that something is to be done, and not what."""
    universal: str = ""
    relations: str = ""
    as_is: str = ""
    """Words with a lemma that means something else: "left" is no form of "leave"."""
    endings: str = ""
    noun_first: bool = False
    """Whether a noun stands before its adjectives."""
    numbers: str = ""
    """From zero."""
    more_numbers: Mapping[int, str] = {}


@dataclass(frozen=True, eq=False)
class Lexicon:
    """What `find_coverage` knows of a language. `synonyms`: words, as a tuple of their forms, to what they stand for."""

    empty: frozenset[str] = frozenset()
    """Words without content."""
    negations: frozenset[str] = frozenset()
    universal: frozenset[str] = frozenset()
    relations: frozenset[str] = frozenset()
    as_is: frozenset[str] = frozenset()
    endings: tuple[str, ...] = ()
    noun_first: bool = False
    numbers: Mapping[str, int] = field(default_factory=dict)
    language: str | None = None
    """For simplemma; None if it does not know the language. Words are then compared as they are written."""
    synonyms: Mapping[tuple[str, ...], frozenset[str]] = field(default_factory=dict)
    longest: int = 0
    """Words of the longest synonym."""
    readers: tuple[Reader, ...] = ()
    edits: tuple[str, ...] = ()
    exclusive: frozenset[str] = frozenset()
    """What traits mean of which a thing has one: a check that gives a thing another than the request does is invented."""
    things: frozenset[str] = frozenset()
    """What the things mean that have them."""
    places: frozenset[str] = frozenset()
    """What relations of one thing to the picture mean ("at the top"). Others are between two things."""

    def extended(
        self,
        synonyms: Mapping[str, Iterable[str]] | None = None,
        readers: Sequence[Reader] = (),
        fillers: Iterable[str] = (),
        exclusive: Iterable[str] = (),
        things: Iterable[str] = (),
        places: Iterable[str] = (),
    ) -> Lexicon:
        """This lexicon with a style's synonyms, as {word: its other names}, with readers of mentions, with phrases that
        ask for nothing ("thank you so much"), and with those of the words of `synonyms` that are exclusive traits, the things
        that have them, and places.

        Names may be phrases. A name that stands for several words matches each of them.
        """
        table: dict[tuple[str, ...], frozenset[str]] = dict(self.synonyms)
        entries = [(name, self._key(word)) for word, names in (synonyms or {}).items() for name in (word, *names)]
        entries += [(phrase, _NOTHING) for phrase in fillers]
        for name, key in entries:
            form = tuple(self.fold(match[0]) for match in _TOKEN.finditer(name))
            if form:
                table[form] = table.get(form, frozenset()) | {key}
        return replace(
            self,
            synonyms=table,
            longest=max(map(len, table), default=0),
            readers=(*self.readers, *readers),
            exclusive=self.exclusive.union(map(self._key, exclusive)),
            things=self.things.union(map(self._key, things)),
            places=self.places.union(map(self._key, places)),
        )

    def for_edits(self) -> Lexicon:
        """This lexicon for instructions of edits: "remove" is nothing that a check must name."""
        return self.extended(fillers=self.edits)

    def _key(self, word: str) -> str:
        """What the names of `word` mean: the number that it is, or the word itself."""
        if word == _NOT:
            return _NOT
        number = _number(_fold(word), self)
        return f"={_fold(word)}" if number is None else f"#{number}"

    def is_relation(self, passage: str) -> bool:
        """Whether a relation is among the words of a passage: "left", "to the left of"."""
        return any(_fold(match[0]) in self.relations for match in _TOKEN.finditer(passage))

    def fold(self, word: str) -> str:
        """The form in which a word is looked up."""
        return _lemma(word, self.language) if _fold(word) not in self.as_is else _fold(word)


@cache
def load_lexicon(language: str = "en") -> Lexicon:
    """The lexicon of a language, by its code. A language without a file has no words without content."""
    code = language.lower().replace("_", "-").partition("-")[0]
    path = resources.files("evaluator") / "languages" / f"{code}.toml"
    known = path.is_file()
    file = _LanguageFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))) if known else _LanguageFile()
    numbers = {word: value for value, word in enumerate(file.numbers.split())}
    numbers |= {word: value for value, words in file.more_numbers.items() for word in words.split()}
    lexicon = Lexicon(
        empty=frozenset(f"{file.articles} {file.function} {file.frame}".split()),
        negations=frozenset(file.negation.split()),
        universal=frozenset(file.universal.split()),
        relations=frozenset(file.relations.split()),
        as_is=frozenset(file.as_is.split()),
        endings=tuple(sorted(file.endings.split(), key=len, reverse=True)),
        noun_first=file.noun_first,
        numbers=numbers,
        language=code if _has_lemmas(code) else None,
        edits=file.edits,
    )
    return lexicon.extended({_NOT: file.negation_phrases}, fillers=file.fillers)


def list_quotes(text: str) -> tuple[str, ...]:
    """The texts that stand in quotation marks of any kind, in order, each once."""
    groups = (group for match in _QUOTED.finditer(text) for group in match.groups() if group is not None)
    return tuple(dict.fromkeys(groups))


def find_coverage(request: str, checks: Sequence[Check], lexicon: Lexicon | None = None) -> Coverage:
    """Compares each check's question with the content words of `request`.

    A check is invented if no word of it is in the request, or nothing but a number or a negation while it names other
    things, or if it gives a thing an exclusive trait (`Lexicon.exclusive`) that the request gives to others. Invented
    checks cover nothing. A check in another script than the request's cannot be compared: it covers nothing, and is not
    called invented.
    """
    lexicon = lexicon or load_lexicon()
    request = unicodedata.normalize("NFC", request)
    words = _read(request, lexicon, quotes=True)
    content = [word for word in words if word.content]
    companies = _find_companies(content, request, lexicon)
    owned = _find_owned(words, lexicon)
    covered: list[set[int]] = [set() for _ in content]
    anchored: dict[Check, tuple[str, ...]] = {}
    invented: list[Check] = []
    for check in dict.fromkeys(checks):
        question = _Question(check.question, lexicon)
        hits = [(word, question.find(word)) for word in content]
        anchors = [word for word, hit in hits if hit]
        anchored[check] = _unique(_surface(request, word, hit) for word, hit in hits if hit)
        counts_only = all(word.kind in ("number", "negation") for word in anchors)
        unanchored = counts_only and (not anchors or question.names_things) and not question.foreign_to(request)
        if unanchored or question.mistakes(owned):
            invented.append(check)
            continue
        for mine, company, (word, hit) in zip(covered, companies, hits, strict=True):
            asks_of_all = question.universal and all(anchor.keys & word.keys for anchor in anchors)
            if asks_of_all or all(any(question.find(other) for other in others) for others in company):
                mine |= hit
    left = [(word, word.chars - hit) for word, hit in zip(content, covered, strict=True)]
    return Coverage(
        covered=_unique(_surface(request, word, hit) for word, hit in zip(content, covered, strict=True) if hit),
        uncovered=_unique(_surface(request, word, rest) for word, rest in left if rest),
        uncovered_phrases=_join_phrases(request, words, {word.start: rest for word, rest in left if rest}),
        anchored_by=anchored,
        invented=tuple(invented),
    )


@dataclass(frozen=True)
class _Word:
    """A word of a text, text[start:end]. It means the same as another if they share a key. `group`: words that belong
    together share a number. `chars`: what is to be covered, one position unless it is a run of characters. `typo`: the
    word if no dictionary knows it, else ""."""

    start: int
    end: int
    keys: frozenset[str]
    kind: Kind = "word"
    content: bool = True
    group: int = 0
    chars: frozenset[int] = frozenset()
    typo: str = ""


class _Question:
    """A check's question, to look words of the request up in."""

    def __init__(self, text: str, lexicon: Lexicon) -> None:
        self._text = unicodedata.normalize("NFC", text)
        self._plain = " ".join(_fold(self._text).split())
        words = _read(self._text, lexicon, quotes=False)
        self._keys = {key for word in words for key in word.keys}
        self._traits = _list_traits(words, lexicon)
        self.universal = any(_fold(self._text[word.start : word.end]) in lexicon.universal for word in words)
        self.names_things = any(word.content and word.kind in ("word", "run") for word in words)

    def find(self, word: _Word) -> set[int]:
        """The characters of `word` that are asked about: all or none, but in a run."""
        if word.kind == "run":
            return self._find_run(word)
        if word.kind == "quote":
            matches = any(key in self._plain for key in word.keys)
        else:
            matches = bool(word.keys & self._keys) or (
                word.typo != "" and any(_is_typo(word.typo, key) for key in self._keys)
            )
        return set(word.chars) if matches else set()

    def _find_run(self, word: _Word) -> set[int]:
        [run] = word.keys
        starts = [at for at in range(len(run)) if not _is_mark(run[at])]
        ends = [*starts[1:], len(run)]
        content = [at + word.start in word.chars for at in starts]
        positions: set[int] = set()
        for i, at in enumerate(starts):
            if content[i]:
                pairs = [run[at : ends[i + 1]]] if i + 1 < len(starts) and content[i + 1] else []
                pairs += [run[starts[i - 1] : ends[i]]] if i and content[i - 1] else []
                if any(_fold(pair) in self._plain for pair in pairs or [run[at : ends[i]]]):
                    positions.add(at + word.start)
        return positions

    def mistakes(self, owned: Mapping[str, frozenset[str]]) -> bool:
        """Whether a thing has a trait here that is not among those it has in the request, by key."""
        for thing, traits in self._traits:
            known = frozenset().union(*(owned.get(key, ()) for key in thing.keys))
            if known and not traits <= known:
                return True
        return False

    def foreign_to(self, request: str) -> bool:
        """Whether no letter of the question is of a script that the request is written in."""
        return not (_scripts(request) & _scripts(self._text))


def _read(text: str, lexicon: Lexicon, *, quotes: bool) -> list[_Word]:
    """The words of a text in order."""
    taken = [(match.start(), match.end()) for match in _SYNTAX.finditer(text)]
    words: list[_Word] = []
    if quotes:
        for match in _QUOTED.finditer(text):
            said = next(group for group in match.groups() if group is not None)
            plain = " ".join(_fold(said).split()).strip(" .,;:!?")
            if plain:
                start = match.start() + 1
                words.append(_Word(start, match.end() - 1, frozenset({plain}), "quote", chars=frozenset({start})))
                taken.append(match.span())
    for reader in lexicon.readers:
        for mention in reader(text):
            if not _overlaps(mention.start, mention.end, taken):
                keys, chars = frozenset({f"={mention.meaning}"}), frozenset({mention.start})
                words.append(_Word(mention.start, mention.end, keys, mention.kind, chars=chars))
                taken.append((mention.start, mention.end))
    tokens = [match for match in _TOKEN.finditer(text) if not _overlaps(*match.span(), taken)]
    words += _read_tokens(text, tokens, lexicon)
    return _number_groups(text, sorted(words, key=lambda word: word.start), lexicon)


def _read_tokens(text: str, tokens: Sequence[re.Match[str]], lexicon: Lexicon) -> list[_Word]:
    words: list[_Word] = []
    forms = [lexicon.fold(token[0]) for token in tokens]
    at = 0
    while at < len(tokens):
        start, end = tokens[at].span()
        longest = min(lexicon.longest, len(tokens) - at)
        phrases = (tuple(forms[at : at + size]) for size in range(longest, 0, -1))
        phrase = next((phrase for phrase in phrases if phrase in lexicon.synonyms), ())
        meanings = lexicon.synonyms.get(phrase, frozenset())
        if _RUN.match(text, start):
            words.append(_read_run(text, start, end, lexicon))
        elif len(phrase) > 1:
            end = tokens[at + len(phrase) - 1].end()
            kind: Kind = (
                "negation" if meanings == {_NOT} else "number" if all(key[0] == "#" for key in meanings) else "word"
            )
            content = not meanings <= {"#1", _NOTHING}
            words.append(_Word(start, end, meanings, kind, content=content, chars=frozenset({start})))
        else:
            word = _read_word(tokens[at][0], forms[at], start, lexicon)
            if word.typo and not meanings:
                names = (form for form in lexicon.synonyms if len(form) == 1 and _is_typo(word.typo, form[0]))
                meanings = frozenset().union(*(lexicon.synonyms[form] for form in names))
            words.append(replace(word, keys=word.keys | meanings, content=word.content and _NOTHING not in meanings))
        at += max(1, len(phrase))
    return words


def _read_word(word: str, form: str, start: int, lexicon: Lexicon) -> _Word:
    plain, end, here = _fold(word), start + len(word), frozenset({start})
    number = _number(plain, lexicon)
    if number is not None:
        return _Word(start, end, frozenset({f"#{number}"}), "number", content=number != "1", chars=here)
    if plain in lexicon.negations or _CONTRACTED_NOT.search(plain):
        return _Word(start, end, frozenset({_NOT}), "negation", chars=here)
    # "l'ours" and "panda's": what stands before or behind an apostrophe is looked at by itself, too.
    stems = {part for part in _APOSTROPHE.split(plain) if len(part) > 1} or {plain}
    keys = {plain, form} | {lexicon.fold(part) for part in stems} | _without_ending(plain, lexicon)
    without = lexicon.empty | lexicon.universal
    empty = plain in without or stems <= without or (len(plain) == 1 and plain.isascii())
    typo = "" if empty or len(plain) < _SHORTEST_TYPO or _is_known(plain, lexicon.language) else plain
    empty = empty or (typo != "" and any(_is_typo(typo, other) for other in lexicon.empty))
    return _Word(start, end, frozenset(keys), content=not empty, chars=here, typo=typo)


def _read_run(text: str, start: int, end: int, lexicon: Lexicon) -> _Word:
    """A run of characters without spaces; those of words without content need not be covered. A vowel or tone that is
    written onto a letter is no character of its own."""
    run = text[start:end]
    chars = {at for at in range(start, end) if not _is_mark(text[at])}
    for word in sorted(lexicon.empty, key=len, reverse=True):
        at = run.find(word)
        while at >= 0:
            chars -= set(range(start + at, start + at + len(word)))
            at = run.find(word, at + 1)
    return _Word(start, end, frozenset({run}), "run", content=bool(chars), chars=frozenset(chars))


def _number_groups(text: str, words: Sequence[_Word], lexicon: Lexicon) -> list[_Word]:
    """Numbers the groups. One ends at a mark, at a relation, at a word without content, and before a negation."""
    group, end, numbered = 0, 0, []
    for word in words:
        ends = not word.content or lexicon.is_relation(text[word.start : word.end])
        if ends or word.kind == "negation" or re.search(r"[^\s\-–']", text[end : word.start]):
            group += 1
        numbered.append(replace(word, group=group))
        group += ends
        end = word.end
    return numbered


def _find_companies(content: Sequence[_Word], text: str, lexicon: Lexicon) -> list[list[tuple[_Word, ...]]]:
    """With which other words a word that is said again must be asked about: with one of each tuple.

    A trait or number needs a word of its group that the other groups do not have. A relation needs a word of the group
    before it and one of the group behind it, also if it is said once and both are there. A noun needs none: said again,
    it mostly is the same thing. A noun is what some group ends with (or begins with).
    """
    places: dict[str, set[int]] = {}
    groups: dict[int, list[_Word]] = {}
    for word in content:
        groups.setdefault(word.group, []).append(word)
        for key in word.keys:
            places.setdefault(key, set()).add(word.group)
    nouns: set[str] = set()
    for group in groups.values():
        first = next((word for word in group if word.kind == "word"), group[0])
        nouns |= (first if lexicon.noun_first else group[-1]).keys
    companies: list[list[tuple[_Word, ...]]] = []
    for at, word in enumerate(content):
        elsewhere = {place for key in word.keys for place in places[key]} - {word.group}
        is_relation = word.kind == "word" and lexicon.is_relation(text[word.start : word.end])
        if not (elsewhere or is_relation) or word.kind == "run":
            companies.append([])
        elif is_relation:
            sides = [content[at - 1] if at else None, content[at + 1] if at + 1 < len(content) else None]
            near = [side for side in sides if side and not _APART.search(text, *_between(word, side))]
            near = near[:1] if word.keys & lexicon.places else near
            said_of = [(*groups[side.group], *_words_before_quote(side, groups)) for side in near]
            companies.append(said_of if elsewhere or len(near) > 1 else [])
        elif word.keys & nouns:
            companies.append([])
        else:
            theirs = {key for place in elsewhere for other in groups[place] for key in other.keys}
            telling = tuple(other for other in groups[word.group] if not other.keys & theirs)
            companies.append([telling] if telling else [])
    return companies


def _words_before_quote(word: _Word, groups: Mapping[int, Sequence[_Word]]) -> Sequence[_Word]:
    """What a quote is called: the text "TEA"."""
    return groups.get(word.group - 1, ()) if word.kind == "quote" else ()


def _find_owned(words: Sequence[_Word], lexicon: Lexicon) -> dict[str, frozenset[str]]:
    """The exclusive traits of things that have some, by the keys of the things."""
    owned: dict[str, frozenset[str]] = {}
    for thing, traits in _list_traits(words, lexicon):
        for key in thing.keys:
            owned[key] = owned.get(key, frozenset()) | traits
    return owned


def _list_traits(words: Sequence[_Word], lexicon: Lexicon) -> list[tuple[_Word, frozenset[str]]]:
    """Things with exclusive traits of theirs. A group of nothing but traits ("both of them red") tells of the one before
    it."""
    if not lexicon.exclusive:
        return []
    groups: dict[int, list[_Word]] = {}
    for word in words:
        if word.content and word.kind == "word":
            groups.setdefault(word.group, []).append(word)
    things: list[_Word] = []
    listed: list[tuple[_Word, frozenset[str]]] = []
    for group in groups.values():
        traits = frozenset(key for word in group for key in word.keys & lexicon.exclusive)
        things = [word for word in group if word.keys & lexicon.things] or things
        listed += [(thing, traits) for thing in things if traits]
    return listed


def _between(word: _Word, other: _Word) -> tuple[int, int]:
    return min(word.end, other.end), max(word.start, other.start)


def _join_phrases(text: str, words: Sequence[_Word], left: Mapping[int, frozenset[int]]) -> tuple[str, ...]:
    """The groups of words that hold what is left over, joined if no other content is between them."""
    groups = {word.group for word in words if word.start in left and word.kind != "run"}
    phrases: list[tuple[int, int]] = []
    open_ended = False
    for word in words:
        if word.kind == "run":
            phrases += _pieces(text, word, left.get(word.start, ()))
            open_ended = False
        elif word.content and word.group not in groups:
            open_ended = False
        elif word.content:
            joined = open_ended and not _MARK.search(text, phrases[-1][1], word.start)
            start = phrases.pop()[0] if joined else word.start
            phrases.append((start, word.end))
            open_ended = True
    return tuple(dict.fromkeys(text[start:end] for start, end in phrases))


def _surface(text: str, word: _Word, hit: Iterable[int]) -> list[str]:
    """`word` as it is written; of a run, the pieces that `hit` holds."""
    if word.kind != "run":
        return [text[word.start : word.end]]
    return [text[start:end] for start, end in _pieces(text, word, hit)]


def _pieces(text: str, word: _Word, hit: Iterable[int]) -> list[tuple[int, int]]:
    """The stretches of a run that `hit` holds the characters of."""
    pieces: list[tuple[int, int]] = []
    for at in sorted(hit):
        end = at + 1
        while end < word.end and _is_mark(text[end]):
            end += 1
        if pieces and pieces[-1][1] == at:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((at, end))
    return pieces


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _unique(pieces: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(piece for some in pieces for piece in some))


def _overlaps(start: int, end: int, taken: Iterable[tuple[int, int]]) -> bool:
    return any(start < b and a < end for a, b in taken)


def _number(plain: str, lexicon: Lexicon) -> str | None:
    if plain in lexicon.numbers:
        return str(lexicon.numbers[plain])
    if plain.isdecimal():
        return str(int(plain))
    return plain.replace(",", ".") if re.fullmatch(r"\d+(?:[.,]\d+)+", plain) else None


def _without_ending(plain: str, lexicon: Lexicon) -> set[str]:
    """A Korean word without its particle."""
    if not lexicon.endings or not _HANGUL.fullmatch(plain):
        return set()
    return {plain.removesuffix(end) for end in lexicon.endings if plain.endswith(end) and len(plain) > len(end)}


@lru_cache(maxsize=4096)
def _scripts(text: str) -> frozenset[str]:
    """The scripts of a text's letters, by the first word of their Unicode names (LATIN, CYRILLIC, CJK, ...)."""
    return frozenset(unicodedata.name(char, "?").split()[0] for char in set(text) if char.isalpha())


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@lru_cache(maxsize=65536)
def _lemma(word: str, language: str | None) -> str:
    if language == "en" and word.endswith("sses"):
        return _fold(word)[:-2]  # simplemma takes "crosses" for several lacrosse sticks
    if language is None:
        return _fold(word)
    import simplemma

    # A capital can be a German noun's or a sentence's.
    return _fold(simplemma.lemmatize(_fold(word), lang=language))


@lru_cache(maxsize=65536)
def _is_known(word: str, language: str | None) -> bool:
    if language is None:
        return True
    import simplemma

    return simplemma.is_known(word, lang=language)


def _is_typo(typo: str, word: str) -> bool:
    """Whether one letter that is missing, too many or another, or two that changed places, make `word` of `typo`."""
    if not typo or abs(len(typo) - len(word)) > 1 or typo[0] != word[0]:
        return False
    same = next(i for i, (a, b) in enumerate(zip(f"{typo}\0", f"{word}\1", strict=False)) if a != b)
    typo, word = typo[same:], word[same:]
    if len(typo) == len(word):
        return typo[1:] == word[1:] or (typo[:2] == word[1::-1] and typo[2:] == word[2:])
    return typo[1:] == word or typo == word[1:]


@cache
def _has_lemmas(language: str) -> bool:
    import simplemma

    try:
        simplemma.lemmatize("a", lang=language)
    except ValueError:
        return False
    return True
