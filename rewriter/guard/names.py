"""The rule on names: people, places, works and makers that the request names are named in the rewrite too.

A name is known by capital letters if the language gives them only to names, by what stands before it ("a girl called
Mei"), by foreign letters (an iPhone in Chinese text), by the dots in transcribed names, and from a list of well-known
ones. Not found: names in lower case, or in scripts without capitals, that are not on the list; most single names in
German; single names that begin a sentence.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from rewriter.guard.language import Languages
from rewriter.guard.passage import Finding, Passage, TextPair, TextWord, have_common_beginning

_EAST = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_DOTTED = re.compile(
    "[\u4e00-\u9fffA-Za-z]+(?:·[\u4e00-\u9fffA-Za-z]+)+|[\u30a1-\u30fa\u30fc]+(?:・[\u30a1-\u30fa\u30fc]+)+"
)
_FOREIGN = re.compile(r"(?<![A-Za-z])(?=[a-z]{0,2}[A-Z])[A-Za-z][A-Za-z0-9-]{2,}")
_CODE = re.compile(r"(?<![\w-])[A-Z][A-Za-z]*-?\d+[A-Za-z]*(?:-[A-Za-z]?\d+)?(?!\w)")
_SENTENCE_END = re.compile(r"[.!?:;\n•]")
_NOBILIARY = frozenset(["van", "von", "der", "da", "de", "del", "di"])
"""They go on with a name."""
_MOST = 24


@dataclass(frozen=True, eq=False)
class _Common:
    """What all languages have together."""

    called: re.Pattern[str]
    called_patterns: tuple[re.Pattern[str], ...]
    titles: frozenset[str]
    no_names: frozenset[str]
    measures: frozenset[str]
    peoples: tuple[re.Pattern[str], ...]
    no_peoples: frozenset[str]
    and_another: re.Pattern[str]
    place_endings: tuple[str, ...]
    words: frozenset[str]
    """Words that are no names."""

    def is_word(self, word: str) -> bool:
        return word in self.words or word.removesuffix("s") in self.words


@cache
def _common(languages: Languages) -> _Common:
    tables = [language.names for language in languages]
    called = "|".join(pattern for table in tables for pattern in table.called)
    conjunctions = "|".join(re.escape(word) for table in tables for word in table.and_another)
    return _Common(
        called=re.compile(rf"\b(?:{called})\s+([^\W\d_][\w'’-]*)", re.IGNORECASE),
        called_patterns=tuple(pattern for table in tables for pattern in table.called_patterns),
        titles=frozenset(word for table in tables for word in table.titles),
        no_names=frozenset(word for table in tables for word in table.no_names),
        measures=frozenset(word for table in tables for word in table.measures),
        peoples=tuple(table.peoples for table in tables if table.peoples),
        no_peoples=frozenset(word for table in tables for word in table.no_peoples),
        and_another=re.compile(rf" (?:{conjunctions}) ([^\W\d_])"),
        place_endings=tuple(ending for table in tables for ending in table.place_endings),
        words=languages.common_words,
    )


@dataclass(frozen=True)
class _Name:
    """A name as the request has it. `forms` are its other spellings; empty if none is known."""

    parts: tuple[str, ...]
    start: int
    end: int
    forms: tuple[str, ...] = ()


def names(case: TextPair) -> Iterator[Finding]:
    """Every name of the request comes back, whole or shortened, inflected or not; no other takes its place."""
    reported = set()
    for name in list(_names(case.request))[:_MOST]:
        text = case.request.text[name.start : name.end]
        if text not in reported and not _is_kept(name, case):
            reported.add(text)
            message = f"The name {text!r} of the request is missing or changed."
            yield Finding("names", message, text, "request", name.start, name.end)


def _names(passage: Passage) -> Iterator[_Name]:
    """Names in the order in which they are looked for; none inside another that was found before."""
    taken: list[tuple[int, int]] = []
    for look in (_known, _called, _codes, _by_capitals, _in_the_east):
        for name in look(passage):
            if not any(start < name.end and name.start < end for start, end in taken):
                taken.append((name.start, name.end))
                yield name


def _known(passage: Passage) -> Iterator[_Name]:
    """Names on the list."""
    by_word, by_char = _index()
    words, common = passage.words, _common(passage.languages)
    done = 0
    for i, word in enumerate(words):
        if i < done:
            continue
        best: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        for bare in _bare_forms(word.text):
            for parts, forms in by_word.get(bare[:3], ()):
                if (best is None or len(parts) > len(best[0])) and _stands_at(words, i, parts, common):
                    best = parts, forms
        if best is not None:
            done = i + len(best[0])
            yield _Name(best[0], word.start, words[done - 1].end, best[1])
    if passage.plain.isascii():
        return
    at = 0
    for match in _EAST.finditer(passage.plain):
        if match.start() < at:
            continue
        fits = [f for f in by_char.get(match[0], ()) if passage.plain.startswith(f[0], match.start())]
        if fits:
            form, forms = max(fits, key=lambda fit: len(fit[0]))
            at = match.start() + len(form)
            yield _Name((form,), match.start(), at, forms)


def _stands_at(words: tuple[TextWord, ...], at: int, parts: tuple[str, ...], common: _Common) -> bool:
    if at + len(parts) > len(words) or any(words[at + i].ends_clause for i in range(len(parts) - 1)):
        return False
    return all(_is_form(words[at + i].text, part, common) for i, part in enumerate(parts))


def _called(passage: Passage) -> Iterator[_Name]:
    """A girl called Mei."""
    common = _common(passage.languages)
    for match in common.called.finditer(passage.plain):
        if match[1][0].isupper():
            yield _Name((match[1].lower().replace("’", "'"),), match.start(1), match.end(1))
    if not passage.plain.isascii():
        for pattern in common.called_patterns:
            for match in pattern.finditer(passage.plain):
                group = next(i for i, text in enumerate(match.groups(), 1) if text)
                yield _Name((match[group],), match.start(group), match.end(group))


def _codes(passage: Passage) -> Iterator[_Name]:
    """C-3PO, E30."""
    for match in _CODE.finditer(passage.plain):
        yield _Name((match[0].lower(),), match.start(), match.end())


def _by_capitals(passage: Passage) -> Iterator[_Name]:
    words, common = passage.words, _common(passage.languages)
    nouns_too = passage.grammar.capital_nouns
    if not nouns_too and not passage.grammar.capital_names:
        return
    long = [word for word in words if len(word.text) >= 3]
    if not nouns_too and len(long) >= 5 and sum(word.capital for word in long) > 0.8 * len(long):
        return  # A Title In Capitals
    i = 0
    while i < len(words):
        run = [words[i]] if _may_be_name(words[i], common) else []
        while run and i + 1 < len(words) and words[i].gap in (" ", "-") and _goes_on(words[i + 1], common):
            i += 1
            run.append(words[i])
        while run and not run[-1].capital:  # "Caspar David von"
            run.pop()
        if run and _is_name(passage, run, common):
            yield _Name(tuple(word.text for word in run), run[0].start, run[-1].end)
        i += 1


def _may_be_name(word: TextWord, common: _Common) -> bool:
    return word.capital and len(word.text) > 1 and word.text not in common.no_names and not common.is_word(word.text)


def _goes_on(word: TextWord, common: _Common) -> bool:
    return _may_be_name(word, common) or word.text in _NOBILIARY


def _is_name(passage: Passage, run: list[TextWord], common: _Common) -> bool:
    """Whether capitalised words in a row are a name. At the beginning of a sentence it takes more than a capital."""
    several = sum(word.capital for word in run) >= 2
    if all(word.text in common.titles for word in run):
        return False
    if passage.grammar.capital_nouns:
        return several and run[0].text not in common.measures and all(word.gap == " " for word in run[:-1])
    before = passage.plain[: run[0].start].rstrip(" \t\"'“”‘’«»„(¿¡")
    begins_sentence = not before or _SENTENCE_END.match(before[-1]) is not None
    if not begins_sentence or several:
        return True
    first, text = run[0].text, passage.plain[run[0].start : run[0].end]
    if first.endswith("'s"):
        return True
    if any(people.fullmatch(first) for people in common.peoples) and first not in common.no_peoples:
        return True
    if not text.isupper() and any(ch.isupper() or ch.isdigit() for ch in text[1:]):
        return True  # iPhone, McLaren
    together = common.and_another.match(passage.plain, run[-1].end)
    return together is not None and together[1].isupper()


def _in_the_east(passage: Passage) -> Iterator[_Name]:
    """Names by their dots, by foreign letters, or by what they are the name of."""
    has_capitals = passage.grammar.capital_names or passage.grammar.capital_nouns
    if passage.plain.isascii() or (passage.language is not None and has_capitals):
        return
    places = passage.grammar.names.places
    no_names = _common(passage.languages).no_names
    for pattern in (_DOTTED, _FOREIGN, *([places] if places else [])):
        for match in pattern.finditer(passage.plain):
            if match[0].lower() not in no_names:
                yield _Name((match[0].lower(),) if pattern is _FOREIGN else (match[0],), match.start(), match.end())


def _is_kept(name: _Name, case: TextPair) -> bool:
    text = case.rewrite.text
    words, common = case.rewrite.words, _common(case.languages)
    if any(_EAST.search(form) and form in text for form in (*name.parts, *name.forms)):
        return True
    if len(name.parts) == 1 and _EAST.search(name.parts[0]):
        # 文森特·梵高 may become 梵高.
        return any(part in text for part in re.split("[·・]", name.parts[0])[1:])
    for form in name.forms:
        parts = tuple(form.split())
        if any(_stands_at(words, i, parts, common) for i in range(len(words))):
            return True
    if (
        len(name.parts) == 1
        and name.parts[0] in text.casefold()
        and (len(name.parts[0]) > 3 or name.parts[0][-1].isdigit())
    ):
        return True  # quoted, or written as one word with another
    places_of = {part: [i for i, word in enumerate(words) if _is_form(word.text, part, common)] for part in name.parts}
    core = [part for part in name.parts if part not in common.titles and not common.is_word(part)] or list(name.parts)
    return all(places_of.values()) or (any(places_of[part] for part in core) and not _is_renamed(places_of, case))


def _is_renamed(places_of: dict[str, list[int]], case: TextPair) -> bool:
    """Whether a new capitalised word has joined what is left of a name: Michael Jackson, Janet Jackson."""
    words, common = case.rewrite.words, _common(case.languages)
    known = {word.text for word in case.request.words}
    for i in (i for places in places_of.values() for i in places):
        before = words[i - 1] if i and words[i - 1].gap in (" ", "-") else None
        after = words[i + 1] if i + 1 < len(words) and words[i].gap in (" ", "-") else None
        for word in (before, after):
            if word and word.capital and not any(_is_form(word.text, other, common) for other in known):
                begins = word is before and (i < 2 or words[i - 2].ends_clause)
                if not (begins and common.is_word(word.text)):
                    return True
    return False


def _is_form(word: str, name: str, common: _Common) -> bool:
    """Whether a word is a name or a form of it: a genitive, a case, the adjective made of it."""
    if word == name:
        return True
    if len(word) < 3 or len(name) < 3:
        return False
    word, name = word.removesuffix("'s"), name.removesuffix("'s")
    if word[:3] != name[:3]:
        return any(bare == name for bare in _bare_forms(word)) or any(bare == word for bare in _bare_forms(name))
    if "\u0400" <= word[0] <= "\u052f":
        return have_common_beginning(word, name, 4)
    if len(name) >= 4 and word.startswith(name):
        return len(word) - len(name) <= 4
    if len(word) >= 4 and name.startswith(word):
        return len(name) - len(word) <= 4
    return word[:4] == name[:4] and word.endswith(common.place_endings) != name.endswith(common.place_endings)


def _bare_forms(word: str) -> tuple[str, ...]:
    """A word, and what is left of it without an Arabic article or preposition, or a French elision."""
    if "\u0621" <= word[0] <= "\u064a":
        return (
            word,
            re.sub("^[وبلفك]", "", word),
            re.sub("^(?:[وبفك]?ال|لل)", "", word),
            re.sub("^[وفك]?[بل]", "", word),
        )
    head, mark, tail = word.partition("'")
    return (word, tail) if mark and len(head) <= 2 and len(tail) > 2 else (word.removesuffix("'s"),)


_Entry = tuple[tuple[str, ...], tuple[str, ...]]


@cache
def _index() -> tuple[dict[str, list[_Entry]], dict[str, list[tuple[str, tuple[str, ...]]]]]:
    """The list by the first three letters of a name's first word, and by its first character in East Asian text."""
    by_word: dict[str, list[_Entry]] = {}
    by_char: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    path = Path(str(resources.files("rewriter.guard"))) / "known_names.toml"
    for row in tomllib.loads(path.read_text(encoding="utf-8"))["names"]:
        forms = tuple(form.lower().replace("-", " ") if not _EAST.search(form) else form for form in row)
        for form in forms:
            if _EAST.search(form):
                by_char.setdefault(form[0], []).append((form, forms))
            else:
                parts = tuple(form.split())
                by_word.setdefault(parts[0][:3], []).append((parts, forms))
    return by_word, by_char
