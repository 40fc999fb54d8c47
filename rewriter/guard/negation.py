"""Negations: what the user does not want is left out, or said to be absent; it is never described as present.

Looked for: no X, without X, X-free, not a X, "don't add X", X is not Y and their like, in every language whose file has a
table [negation] or [absence]. Not looked for: double negation, and absence said by other words ("bare-headed").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice

from rewriter.guard.language import Absence, Language, Languages, Negation
from rewriter.guard.passage import Finding, Passage, TextPair, TextWord, have_common_beginning, singular

_MOST = 64
"""Denied things looked at; a text with more of them is a loop, not a prompt."""
_DEPICTED = 4
"""Words between "statue" and whom it shows."""
_SENTENCE = re.compile("[。！？；]")
_CLAUSES = re.compile(r"[^,.;:!?।、。，；\n]+")


@dataclass(frozen=True)
class _Denied:
    """A thing the user does not want: its noun last, what narrows it down before that."""

    words: tuple[str, ...]
    start: int
    end: int


def negations(case: TextPair) -> Iterator[Finding]:
    """Nothing that the request denies is described as present."""
    reported = set()
    request = case.request
    language = request.grammar
    if request.language is None and not request.spaced:
        language = case.languages.unspaced[0]
    things = _in_words(case, language) if language.absence is None else _in_characters(case, language.absence)
    for thing, start, end in things:
        if thing not in reported:
            reported.add(thing)
            message = f"The request wants no {thing!r}, but the rewrite describes it as present."
            yield Finding("negations", message, case.rewrite.text[start:end], "rewrite", start, end)


# ---- languages in words


class _WordSet:
    """Words, in which * at an end stands for any letters."""

    def __init__(self, words: Iterable[str]) -> None:
        words = set(words)
        self._whole = {word for word in words if "*" not in word}
        self._heads = tuple(word[:-1] for word in words if word.endswith("*"))
        self._tails = tuple(word[1:] for word in words if word.startswith("*"))

    def __contains__(self, word: str) -> bool:
        return word in self._whole or word.startswith(self._heads) or word.endswith(self._tails)


@dataclass(frozen=True, eq=False)
class _Common:
    """Words of all languages, since the little ones of a prompt may be in another than the rest."""

    stops: frozenset[str]
    lists: frozenset[str]
    not_denied: frozenset[str]
    too_general: frozenset[str]
    denies_all: _WordSet
    denies_clause: _WordSet
    needs_from: dict[str, str]
    denies_before: frozenset[str]
    asserts: frozenset[str]
    asserts_not_after: frozenset[str]
    elided: re.Pattern[str]


@cache
def _common(languages: Languages) -> _Common:
    tables = [language.negation for language in languages if language.negation]

    def pool(pick: Callable[[Negation], Iterable[str]]) -> frozenset[str]:
        return frozenset(word for table in tables for word in pick(table))

    return _Common(
        stops=pool(lambda table: table.stops),
        lists=pool(lambda table: table.lists),
        not_denied=pool(lambda table: table.not_denied),
        too_general=pool(lambda table: table.too_general),
        denies_all=_WordSet(pool(lambda table: table.denies_all)),
        denies_clause=_WordSet(pool(lambda table: table.denies_clause)),
        needs_from={pair[0]: pair[1] for table in tables for pair in table.needs_from},
        denies_before=pool(lambda table: table.denies_before),
        asserts=pool(lambda table: table.asserts),
        asserts_not_after=pool(lambda table: table.asserts_not_after),
        elided=re.compile(f"^(?:{'|'.join(languages.all_words(lambda language: language.elided))})'"),
    )


@dataclass(frozen=True, eq=False)
class _Grammar:
    """How one language denies a thing by words before it."""

    language: Language
    table: Negation
    cues: frozenset[str]
    cue_pairs: frozenset[tuple[str, ...]]
    skipped: frozenset[str]
    negators: frozenset[str]
    verbs: frozenset[str]
    no_verbs: frozenset[str]
    not_so: re.Pattern[str] | None
    persons: _WordSet
    depicted: frozenset[str]

    def is_verb(self, word: str) -> bool:
        """Whether a word ends a noun phrase by its form."""
        return bool(self.table.verb_endings) and word.endswith(self.table.verb_endings) and word not in self.no_verbs


@cache
def _grammar(language: Language, languages: Languages) -> _Grammar:
    table = language.negation
    if table is None:
        return _grammar(languages.english, languages)
    but = "|".join(sorted(word for other in languages if other.negation for word in other.negation.but))
    not_so = rf"\b(?:{table.not_so})\s+([^\W\d_]{{3,}})(?=\s*(?:[,.;!?]|$|(?:{but})\b))"
    return _Grammar(
        language=language,
        table=table,
        cues=frozenset(table.cues),
        cue_pairs=frozenset(table.cue_pairs),
        skipped=frozenset(table.skipped),
        negators=frozenset(table.negators),
        verbs=frozenset(table.verbs),
        no_verbs=frozenset(table.no_verbs),
        not_so=re.compile(not_so, re.IGNORECASE) if table.not_so else None,
        persons=_WordSet(table.nobody_means),
        depicted=frozenset(table.depicted),
    )


def _in_words(case: TextPair, language: Language) -> Iterator[tuple[str, int, int]]:
    """Denied things that the rewrite describes as present: the thing, and its place in the rewrite."""
    common = _common(case.languages)
    inflected = language.inflected
    denied = list(islice(_denied(case.request, language), _MOST))
    wanted, got = case.request.words, case.rewrite.words
    spans = [(thing.start, thing.end) for thing in denied]
    yield from _persons_in_words(case, _grammar(language, case.languages))
    for words in dict.fromkeys(thing.words for thing in denied):
        if any(
            not any(start <= wanted[at].start < end for start, end in spans) and not _is_denied(wanted, at, common)
            for at in _mentions(wanted, words, inflected, common)
        ):
            continue  # a man without a hat beside a man with a hat
        mentions = _mentions(got, words, inflected, common)
        shown = next((got[at] for at in mentions if not _is_denied(got, at, common)), None)
        if shown is not None:
            yield " ".join(words), shown.start, shown.end


def _persons_in_words(case: TextPair, grammar: _Grammar) -> Iterator[tuple[str, int, int]]:
    """The first person in the rewrite, if the request wants nobody and has none itself."""
    nobody = grammar.table.nobody.search(case.request.plain) if grammar.table.nobody else None
    if nobody is None:
        return
    common = _common(case.languages)

    def places(words: tuple[TextWord, ...]) -> Iterator[TextWord]:
        for at, word in enumerate(words):
            if _bare(word.text, common) not in grammar.persons or word.gap == "-" or _is_denied(words, at, common):
                continue
            if grammar.depicted.isdisjoint(other.text for other in words[max(0, at - _DEPICTED) : at]):
                yield word

    asked = (word for word in places(case.request.words) if not nobody.start() <= word.start < nobody.end())
    if next(asked, None) is None:
        yield from ((word.text, word.start, word.end) for word in islice(places(case.rewrite.words), 1))


def _denied(passage: Passage, language: Language) -> Iterator[_Denied]:
    grammar = _grammar(language, passage.languages)
    words = passage.words
    starts: list[int] = []  # indices of words behind which a denied noun phrase begins
    for i, word in enumerate(words[:-1]):
        following = words[i + 1].text
        if word.text in grammar.cues and not word.ends_clause and word.gap != "-":
            starts.append(i)
        elif (word.text in grammar.negators and following in grammar.verbs) or (word.text, following) in (
            grammar.cue_pairs
        ):
            starts.append(i + 1)
        elif "'" in following and (word.text, following[: following.index("'") + 1]) in grammar.cue_pairs:
            starts.append(i)
    yield from _without_quality(passage, grammar)
    ends = {word.end: i for i, word in enumerate(words)} if grammar.table.phrases else {}
    for pattern in grammar.table.phrases:
        starts += [ends[m.end()] for m in pattern.finditer(passage.plain) if m.end() in ends]
    for start in sorted(set(starts)):
        yield from _phrases(passage, start, grammar)


def _without_quality(passage: Passage, grammar: _Grammar) -> Iterator[_Denied]:
    """What is denied without a noun phrase behind it: not green, sugar-free."""
    table = grammar.table
    for pattern, exceptions in ((grammar.not_so, table.no_qualities), (table.free, table.not_free)):
        for match in pattern.finditer(passage.plain) if pattern else ():
            if match[1].lower() not in exceptions:
                yield _Denied((match[1].lower(),), match.start(), match.end())


def _phrases(passage: Passage, cue: int, grammar: _Grammar) -> Iterator[_Denied]:
    """The noun phrases behind a cue: one, or those of a list that ends in "or"."""
    words, common = passage.words, _common(passage.languages)
    noun_first = grammar.language.noun_first
    denied: list[_Denied] = []
    sure = 0  # how many of `denied` belong to the list for certain
    i = cue + 1
    while i < len(words) and len(denied) < 6:
        phrase: list[TextWord] = []
        while i < len(words) and words[i].text in grammar.skipped:
            i += 1
        while (
            i < len(words)
            and len(phrase) < 3
            and words[i].text not in common.stops
            and not grammar.is_verb(words[i].text)
        ):
            phrase.append(words[i])
            i += 1
            if phrase[-1].ends_clause or (grammar.language.capital_nouns and phrase[-1].capital):
                break
        if not phrase or phrase[0].text in common.not_denied:
            break
        noun = phrase[0] if noun_first else phrase[-1]
        narrowed = [] if noun_first else phrase[:-1]
        if noun.text not in common.too_general:
            denied.append(_Denied((*(w.text for w in narrowed), noun.text), words[cue].start, phrase[-1].end))
        sure = sure or len(denied)
        if i >= len(words):
            break
        if words[i].text in common.lists and words[i - 1].gap.strip() in ("", ","):
            i += 1
            sure = len(denied) + 1  # what follows "or", and all before it
        elif words[i - 1].gap.strip() != "," or words[i].text in grammar.cues:
            break
    yield from denied[:sure]


def _mentions(words: tuple[TextWord, ...], thing: tuple[str, ...], inflected: bool, common: _Common) -> Iterator[int]:
    """The places of the thing's noun, if what narrows it down is among the three words before."""
    *narrowed, noun = thing
    for at, word in enumerate(words):
        if _same(word.text, noun, inflected, common):
            before = [other.text for other in words[max(0, at - 3) : at]]
            if all(any(_same(other, part, inflected, common) for other in before) for part in narrowed):
                yield at


def _same(word: str, other: str, inflected: bool, common: _Common) -> bool:
    """Whether two words are forms of one: by plural in Latin letters, by a long common beginning in others."""
    if word == other:
        return True
    if not inflected and word.isascii() and other.isascii():
        return _key(word, common) == _key(other, common)
    return have_common_beginning(_key(word, common), _key(other, common))


def _bare(word: str, common: _Common) -> str:
    """Without what French elides: d'arbres, l'ours."""
    return common.elided.sub("", word) if "'" in word else word


@lru_cache(maxsize=8192)
def _key(word: str, common: _Common) -> str:
    word = _bare(word, common)
    if "\u0600" <= word[:1] <= "\u06ff":
        word = re.sub("^(?:[وبلف]?ال|و(?=.{3}))", "", word)
    if len(word) > 5 and word.endswith("es") and word[-3] in "lnrdj":
        return word[:-2]
    if len(word) > 5 and word.endswith(("ern", "eln", "en")):
        return word[:-1]  # German Fenstern, Blumen
    return singular(word)


def _bites(words: tuple[TextWord, ...], at: int, common: _Common) -> bool:
    """Whether a weak cue denies what follows: not in a compound ("sugar-free", "empty-handed"), and with its "of"."""
    if words[at].gap == "-" or (at and words[at - 1].gap == "-"):
        return False
    needed = common.needs_from.get(words[at].text)
    return needed is None or words[at + 1].text == needed


def _is_denied(words: tuple[TextWord, ...], at: int, common: _Common) -> bool:
    """Whether the word at `at` stands under a negation: "without any hat", "hat-free", "no hats, scarves or gloves"."""
    clause = True  # whether `i` is still in the clause of the word
    for i in range(at - 1, max(-1, at - 10), -1):
        if any(ch in ".;!?。؛؟" for ch in words[i].gap):
            break
        clause = clause and not words[i].ends_clause
        cue = _bare(words[i].text, common)
        if cue in common.denies_all or (clause and cue in common.denies_clause and _bites(words, i, common)):
            return True
        if words[i].text in common.asserts:
            return any(
                word.text in common.asserts_not_after or word.text.endswith("n't") for word in words[max(0, i - 2) : i]
            )
    for i in range(at, min(len(words) - 1, at + 4)):
        if any(ch in ".;!?" for ch in words[i].gap):
            break
        if " ".join(word.text for word in words[i + 1 : i + 3]) == "none of":
            break  # glasses, and none of the books
        if words[i + 1].text in common.denies_before or words[i + 1].text.endswith("n't"):
            return True
    return False


# ---- languages read by characters


def _in_characters(case: TextPair, table: Absence) -> Iterator[tuple[str, int, int]]:
    """Denied things that the rewrite describes as present: the thing, and its place in the rewrite."""
    for match in table.denied.finditer(case.request.plain):
        thing = next(group for group in match.groups() if group)
        if table.mention and thing not in table.skipped:
            stem = thing[:-1] if len(thing) >= table.stem_from else thing  # Hindi मोमबत्ती, मोमबत्तियाँ
            yield from _affirmed(thing, re.compile(table.mention.replace("{thing}", stem)), table.cues, case)
        elif not table.mention:
            for part in table.between.split(thing) if table.between else (thing,):
                yield from _shown(part, match, table, case)
    if table.nobody and table.persons and (nobody := table.nobody.search(case.request.plain)):
        yield from _persons(nobody, table.persons, table, case)
    if table.not_done:
        yield from _done(table.not_done, table.cues, case)


def _shown(thing: str, denied: re.Match[str], table: Absence, case: TextPair) -> Iterator[tuple[str, int, int]]:
    """The first place in the rewrite at which the thing stands without a cue, unless the request has one too."""
    request, rewrite = case.request.plain, case.rewrite.plain
    elsewhere = request[: denied.start()] + "。" + request[denied.end() :]
    if any(not _is_denied_at(elsewhere, at, len(thing), table) for at in _lone(thing, elsewhere)):
        return
    for at in _lone(thing, rewrite):
        if not _is_denied_at(rewrite, at, len(thing), table):
            yield thing, at, at + len(thing)
            return


def _persons(
    nobody: re.Match[str], persons: re.Pattern[str], table: Absence, case: TextPair
) -> Iterator[tuple[str, int, int]]:
    """The first person in the rewrite, if the request wants nobody and has none itself."""

    def places(text: str) -> Iterator[re.Match[str]]:
        for clause in _CLAUSES.finditer(text):
            if table.mention and table.cues.search(clause[0]):
                continue
            for match in persons.finditer(text, clause.start(), clause.end()):
                if table.mention or not _is_denied_at(text, match.start(), len(match[0]), table):
                    yield match

    request = case.request.plain
    if next(places(request[: nobody.start()] + "。" + request[nobody.end() :]), None) is None:
        yield from ((match[0], *match.span()) for match in islice(places(case.rewrite.plain), 1))


def _is_denied_at(text: str, at: int, size: int, table: Absence) -> bool:
    """Chinese denies before the noun, Japanese behind it."""
    if table.cue_behind:
        return table.cues.search(_SENTENCE.split(text[at + size : at + size + table.reach])[0]) is not None
    return table.cues.search(_SENTENCE.split(text[max(0, at - table.reach) : at])[-1]) is not None


def _done(not_done: re.Pattern[str], cues: re.Pattern[str], case: TextPair) -> Iterator[tuple[str, int, int]]:
    """A hat that is not worn: the noun may come back, but not with its verb affirmed."""
    for match in not_done.finditer(case.request.plain):
        pattern = rf"{re.escape(match[1])}[をがは][^。、]{{0,8}}?{re.escape(match[2])}[^。、]{{0,6}}"
        for again in re.finditer(pattern, case.rewrite.plain):
            if not cues.search(case.rewrite.plain[again.start() : again.end() + 4]):
                yield match[1], again.start(), again.end()
                break


def _lone(thing: str, text: str) -> Iterator[int]:
    """The places of `thing` in `text`; a single character only if it is surely no part of a longer word."""
    pattern = re.escape(thing)
    if len(thing) == 1:
        pattern = rf"(?:(?<![\u4e00-\u9fff])|(?<=[的扇棵朵只条辆艘盏座])){pattern}(?![\u4e00-\u9fff々])"
    yield from (match.start() for match in re.finditer(pattern, text))


def _affirmed(
    thing: str, pattern: re.Pattern[str], cues: re.Pattern[str], case: TextPair
) -> Iterator[tuple[str, int, int]]:
    """The first clause of the rewrite that names the thing and denies nothing, unless the request has one too."""

    def places(text: str) -> Iterator[re.Match[str]]:
        for clause in _CLAUSES.finditer(text):
            if not cues.search(clause[0]):
                yield from pattern.finditer(text, clause.start(), clause.end())

    if next(places(case.request.plain), None) is None and (match := next(places(case.rewrite.plain), None)):
        yield thing, match.start(), match.end()
