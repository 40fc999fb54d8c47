"""The rule on names: people, places, works and makers that the request names are named in the rewrite too.

A name is known by capital letters where the language gives them only to names, by what stands before it ("a girl called
Mei"), by foreign letters (an iPhone in Chinese text), by the dots in transcribed names, and from a list of well-known
ones. Not found: names in lower case, or in scripts without capitals, that are not on the list; most single names in
German; single names that begin a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from rewriter.guard.base import Case, Finding, Passage, Word, word_set
from rewriter.guard.known_names import NAMES
from rewriter.guard.vocabulary import WORDS

_CAPITALS_ARE_NAMES = frozenset({"en", "fr", "es", "it", "pt", "nl", "ru", None})
_EAST = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_TITLES = word_set(
    "sir mr mrs ms dr miss queen king prince princess professor prof saint st mount mt lake river bridge street "
    "castle "
    "tower the lord lady captain president don doña dona dom frau herr el la le les los las de da do di del of van "
    "von der "
    "den und and y e et san santa são monsieur madame señor señora برج مدينة نهر جبل tour torre turm tor dom bay "
    "city park museum hotel café chef uncle aunt grandma"
)
"""Words in names that do not make one."""
_NO_NAMES = word_set(
    "i i'm i'd i'll i've it's that's let's there's here's what's who's she's he's how's where's they're we're "
    "you're ok tv dslr hdr uhd qhd hd raw cgi led vr ai usb ui ux rgb dof fps slr iso fov pbr ufo usa uk diy "
    "artstation deviantart octane unreal engine vray redshift blender cinema4d canon nikon sony leica fujifilm "
    "kodak portra "
    "imax pixiv midjourney polaroid please must very huge only exactly important note prompt always never must "
    "masterpiece "
    "art nouveau deco pop mid-century picture image photograph t-shirt tshirt x-ray mm pm am km kg cm ft"
)
_MEASURES = word_set(
    "glas tasse stück paar dutzend maß flasche schale teller kilo meter liter gruppe haufen strauß korb becher "
    "kanne scheibe "
    "linie nummer zimmer art typ form stil schild buchstabe wort text plakat aufschrift grad prozent uhr jahr farbe"
)
_CALLED = re.compile(
    r"\b(?:named|called|namens|nommée?|appelée?s?|llamad[oa]|se llama|chiamat[oa]|di nome|de nombre|chamad[oa]|de "
    r"nome|genaamd"
    r"|по имени|по кличке|под названием)\s+(?!after\b)([^\W\d_][\w'’-]*)",
    re.IGNORECASE,
)
_CALLED_EAST = re.compile(
    "(?:名叫|叫做|名字叫|名为|名前は|名は)([\u3040-\u30ff\u3400-\u9fff]{1,6}?)(?=[，。、,.！!\\s]|$|的|と|で)"
    "|([\u30a1-\u30ff\u3400-\u9fff]{1,8})という名|([가-힣]{1,6})(?:이?라는|란) 이름|이름[은이] "
    "([가-힣]{1,6}?)(?=[,.\\s]|$|이고|이며|이다)"
)
_CALLED_ELSEWHERE = re.compile(
    "(?:اسمه|اسمها|يدعى|تدعى|المسمى)\\s+([\u0621-\u064a]{2,})|नाम ([\u0900-\u0963]{2,})|([\u0900-\u0963]{2,}) "
    "नाम(?:क| का| की| के)"
)
_DOTTED = re.compile(
    "[\u4e00-\u9fffA-Za-z]+(?:·[\u4e00-\u9fffA-Za-z]+)+|[\u30a1-\u30fa\u30fc]+(?:・[\u30a1-\u30fa\u30fc]+)+"
)
_JA_PLACE = re.compile("(?<![\u3400-\u9fff])[\u3400-\u9fff]{2,3}(?:山|寺|城|神社|湖)(?![\u3400-\u9fff])")
_FOREIGN = re.compile(r"(?<![A-Za-z])(?=[a-z]{0,2}[A-Z])[A-Za-z][A-Za-z0-9-]{2,}")
_CODE = re.compile(r"(?<![\w-])[A-Z][A-Za-z]*-?\d+[A-Za-z]*(?:-[A-Za-z]?\d+)?(?!\w)")
_PEOPLES = re.compile(r"[^\W\d_]{3,}(?:(?<!c)ian|ese)")
_NO_PEOPLES = word_set(
    "pedestrian guardian librarian comedian amphibian custodian cheese equestrian barbarian vegetarian civilian "
    "centurion"
)
_AND_ANOTHER = re.compile(r" (?:and|und|et|y|e|и|en|&|vs\.?) ([^\W\d_])")
_SENTENCE_END = re.compile(r"[.!?:;\n•]")
_MOST = 24


@dataclass(frozen=True)
class _Name:
    """A name as the request has it. `forms` are its other spellings; empty where none is known."""

    parts: tuple[str, ...]
    start: int
    end: int
    forms: tuple[str, ...] = ()


def names(case: Case) -> Iterator[Finding]:
    """Every name of the original comes back, whole or shortened, inflected or not; no other takes its place."""
    told = set()
    for name in list(_names(case.original))[:_MOST]:
        text = case.original.text[name.start : name.end]
        if text not in told and not _is_kept(name, case):
            told.add(text)
            message = f"The name {text!r} of the request is missing or changed."
            yield Finding("names", message, text, "original", name.start, name.end)


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
    words = passage.words
    done = 0
    for i, word in enumerate(words):
        if i < done:
            continue
        best: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        for bare in _bare_forms(word.text):
            for parts, forms in by_word.get(bare[:3], ()):
                if (best is None or len(parts) > len(best[0])) and _stands_at(words, i, parts):
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


def _stands_at(words: tuple[Word, ...], at: int, parts: tuple[str, ...]) -> bool:
    if at + len(parts) > len(words) or any(words[at + i].ends_clause for i in range(len(parts) - 1)):
        return False
    return all(_is_form(words[at + i].text, part) for i, part in enumerate(parts))


def _called(passage: Passage) -> Iterator[_Name]:
    """A girl called Mei."""
    for match in _CALLED.finditer(passage.plain):
        if match[1][0].isupper():
            yield _Name((match[1].lower().replace("’", "'"),), match.start(1), match.end(1))
    if not passage.plain.isascii():
        for pattern in (_CALLED_EAST, _CALLED_ELSEWHERE):
            for match in pattern.finditer(passage.plain):
                group = next(i for i, text in enumerate(match.groups(), 1) if text)
                yield _Name((match[group],), match.start(group), match.end(group))


def _codes(passage: Passage) -> Iterator[_Name]:
    """C-3PO, E30."""
    for match in _CODE.finditer(passage.plain):
        yield _Name((match[0].lower(),), match.start(), match.end())


def _by_capitals(passage: Passage) -> Iterator[_Name]:
    words = passage.words
    german = passage.language == "de"
    if not german and passage.language not in _CAPITALS_ARE_NAMES:
        return
    long = [word for word in words if len(word.text) >= 3]
    if not german and len(long) >= 5 and sum(word.capital for word in long) > 0.8 * len(long):
        return  # A Title In Capitals
    i = 0
    while i < len(words):
        run = [words[i]] if _may_be_name(words[i]) else []
        while run and i + 1 < len(words) and words[i].gap in (" ", "-") and _goes_on(words[i + 1]):
            i += 1
            run.append(words[i])
        while run and not run[-1].capital:  # "Caspar David von"
            run.pop()
        if run and _is_name(passage, run, german):
            yield _Name(tuple(word.text for word in run), run[0].start, run[-1].end)
        i += 1


def _may_be_name(word: Word) -> bool:
    return word.capital and len(word.text) > 1 and word.text not in _NO_NAMES and not _is_common(word.text)


def _goes_on(word: Word) -> bool:
    return _may_be_name(word) or word.text in ("van", "von", "der", "da", "de", "del", "di")


def _is_common(word: str) -> bool:
    return word in _common_words() or word.removesuffix("s") in _common_words()


def _is_name(passage: Passage, run: list[Word], german: bool) -> bool:
    """Whether capitalised words in a row are a name. At the beginning of a sentence it takes more than a capital."""
    several = sum(word.capital for word in run) >= 2
    if all(word.text in _TITLES for word in run):
        return False
    if german:
        return several and run[0].text not in _MEASURES and all(word.gap == " " for word in run[:-1])
    before = passage.plain[: run[0].start].rstrip(" \t\"'“”‘’«»„(¿¡")
    begins_sentence = not before or _SENTENCE_END.match(before[-1]) is not None
    if not begins_sentence or several:
        return True
    first, text = run[0].text, passage.plain[run[0].start : run[0].end]
    if first.endswith("'s") or (_PEOPLES.fullmatch(first) and first not in _NO_PEOPLES):
        return True
    if not text.isupper() and any(ch.isupper() or ch.isdigit() for ch in text[1:]):
        return True  # iPhone, McLaren
    together = _AND_ANOTHER.match(passage.plain, run[-1].end)
    return together is not None and together[1].isupper()


def _in_the_east(passage: Passage) -> Iterator[_Name]:
    """Names by their dots, by foreign letters, or by what they are the name of."""
    if passage.plain.isascii() or passage.language in _CAPITALS_ARE_NAMES - {None} or passage.language == "de":
        return
    patterns = [_DOTTED, _FOREIGN]
    if passage.language == "ja":
        patterns.append(_JA_PLACE)
    for pattern in patterns:
        for match in pattern.finditer(passage.plain):
            if match[0].lower() not in _NO_NAMES:
                yield _Name((match[0].lower(),) if pattern is _FOREIGN else (match[0],), match.start(), match.end())


def _is_kept(name: _Name, case: Case) -> bool:
    text = case.rewrite.text
    words = case.rewrite.words
    if any(_EAST.search(form) and form in text for form in (*name.parts, *name.forms)):
        return True
    if len(name.parts) == 1 and _EAST.search(name.parts[0]):
        # 文森特·梵高 may become 梵高.
        return any(part in text for part in re.split("[·・]", name.parts[0])[1:])
    for form in name.forms:
        parts = tuple(form.split())
        if any(_stands_at(words, i, parts) for i in range(len(words))):
            return True
    if (
        len(name.parts) == 1
        and name.parts[0] in text.casefold()
        and (len(name.parts[0]) > 3 or name.parts[0][-1].isdigit())
    ):
        return True  # quoted, or written as one word with another
    found = {part: [i for i, word in enumerate(words) if _is_form(word.text, part)] for part in name.parts}
    core = [part for part in name.parts if part not in _TITLES and not _is_common(part)] or list(name.parts)
    return all(found.values()) or (any(found[part] for part in core) and not _is_renamed(found, case))


def _is_renamed(found: dict[str, list[int]], case: Case) -> bool:
    """Whether a new capitalised word has joined what is left of a name: Michael Jackson, Janet Jackson."""
    words = case.rewrite.words
    known = {word.text for word in case.original.words}
    for i in (i for places in found.values() for i in places):
        before = words[i - 1] if i and words[i - 1].gap in (" ", "-") else None
        after = words[i + 1] if i + 1 < len(words) and words[i].gap in (" ", "-") else None
        for word in (before, after):
            if word and word.capital and not any(_is_form(word.text, other) for other in known):
                begins = word is before and (i < 2 or words[i - 2].ends_clause)
                if not (begins and _is_common(word.text)):
                    return True
    return False


def _is_form(word: str, name: str) -> bool:
    """Whether a word is a name or a form of it: a genitive, a case, the adjective made of it."""
    if word == name:
        return True
    if len(word) < 3 or len(name) < 3:
        return False
    word, name = word.removesuffix("'s"), name.removesuffix("'s")
    if word[:3] != name[:3]:
        return any(bare == name for bare in _bare_forms(word)) or any(bare == word for bare in _bare_forms(name))
    if "\u0400" <= word[0] <= "\u052f":
        shorter = min(len(word), len(name))
        common = next((i for i, (a, b) in enumerate(zip(word, name, strict=False)) if a != b), shorter)
        return common >= max(3, shorter - 2) and abs(len(word) - len(name)) <= 4
    if len(name) >= 4 and word.startswith(name):
        return len(word) - len(name) <= 4
    if len(word) >= 4 and name.startswith(word):
        return len(name) - len(word) <= 4
    return word[:4] == name[:4] and word.endswith(_OF_A_PLACE) != name.endswith(_OF_A_PLACE)


_OF_A_PLACE = ("an", "ian", "ese", "ish", "ic", "isch", "ische", "ischen", "ais", "aise", "és", "esa")


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


@cache
def _common_words() -> frozenset[str]:
    return frozenset(word for words in WORDS.values() for word in words.split())


_Entry = tuple[tuple[str, ...], tuple[str, ...]]


@cache
def _index() -> tuple[dict[str, list[_Entry]], dict[str, list[tuple[str, tuple[str, ...]]]]]:
    """The list by the first three letters of a name's first word, and by its first character in East Asian text."""
    by_word: dict[str, list[_Entry]] = {}
    by_char: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for row in NAMES:
        forms = tuple(form.lower().replace("-", " ") if not _EAST.search(form) else form for form in row)
        for form in forms:
            if _EAST.search(form):
                by_char.setdefault(form[0], []).append((form, forms))
            else:
                parts = tuple(form.split())
                by_word.setdefault(parts[0][:3], []).append((parts, forms))
    return by_word, by_char
