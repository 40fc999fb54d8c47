"""Rules on what a request is about: its subject, its medium, its colours, the text it quotes and what steers the image
program come back, and no other text joins them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from rewriter.guard.language import Language, Languages
from rewriter.guard.passage import Finding, Passage, TextPair, singular

_HAN_OR_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc\u3400-\u9fff]")
_HANGUL = re.compile("[\uac00-\ud7af]")
_STEM, _STEM_OF_SYLLABLES = 4, 2
"""Letters, or syllables of Korean, that forms of a word share."""
_SYNTAX = re.compile(
    r"<\w+:[^<>\n]+>"  # <lora:detail:0.8>
    r"|\((?=[^()\n:]*[^\W\d])[^()\n:]+:\d(?:\.\d+)?\)"  # (red hat:1.4), not (16:9)
    r"|\[[^\[\]\n:]+:[^\[\]\n:]+:\d+(?:\.\d+)?\]"  # [cat:dog:0.5]
    r"|(?<!\w)__[\w/-]+?__(?!\w)"  # __animal__
    r"|\{[^{}\n]*\|[^{}\n]*\}"  # {red|blue}
    r"|\bembedding:[\w.-]+"
    r"|(?<!\S)--[a-z]\w*(?:[ \t]+[\d.]+(?::[\d.]+)?(?!\S))?",  # --ar 16:9
    re.IGNORECASE,
)
_SYNTAX_CHARS = frozenset("<([{_")
_TRIGGER = re.compile(r"(?<![\w'’.-])(?:[b-df-hj-np-tv-xz]{3,5}|ohwx)(?![\w'’-])")
"""What nobody can pronounce: a fine-tuned model was taught a thing by such a word ("photo of sks dog")."""
_ABBREVIATIONS = """
bbq bff bmx btw bw cctv cgi cmyk dslr dvd fps ft gps hdr hmm hrs jpg kmh lbs lcd mph nft nsfw nyc pls plz png psst pst pvc rgb rpg
shh sxs tbh thx xxl vfx vhs www xml
"""


@dataclass(frozen=True, eq=False)
class _Common:
    """Words of all languages that are not what a request is about."""

    words: frozenset[str]
    characters: frozenset[str]
    media: dict[str, str]
    """The kind of picture that a word names."""
    media_unspaced: tuple[tuple[str, str], ...]


@cache
def _common(languages: Languages) -> _Common:
    words: set[str] = set()
    characters: set[str] = set()
    media: dict[str, str] = {}
    media_unspaced: dict[str, str] = {}
    for language in languages:
        for table in (language.negation, language.counts, language.colours):
            words |= set(table.stops) if table else set()
        if language.negation:
            words |= {*language.negation.cues, *language.negation.skipped, *language.negation.too_general}
        if language.numbers:
            words |= {form for forms in (*language.numbers.from_zero, *language.numbers.tens) for form in forms}
        if language.numerals:
            characters |= {*language.numerals.digits, *language.numerals.scales, *language.numerals.counters}
        if language.colours:
            (words if language.spaced else characters).update(*language.colours.words.values())
        named = {word for kind in language.media.values() for word in kind}
        (words if language.spaced else characters).update(named if language.spaced else "".join(named))
        for kind, forms in language.media.items():
            (media if language.spaced else media_unspaced).update(dict.fromkeys(forms, kind))
    media = {word: kind for word, kind in media.items() if kind != "other"}
    return _Common(
        words=frozenset(words),
        characters=frozenset(characters),
        media=media,
        media_unspaced=tuple(media_unspaced.items()),
    )


def subject(case: TextPair) -> Iterator[Finding]:
    """Something of what the request is about comes back: a cat does not become a golden retriever on a lawn.

    Numbers, colours, small words and the medium do not count, for they fit any subject.
    """
    wanted = _content(case.request)
    for group in _synonyms(case.settings.synonyms):
        wanted |= group if group & wanted else set()
    text = case.rewrite.text.casefold()
    if not wanted or any(stem in text for stem in wanted) or _content(case.rewrite) & wanted:
        return
    if any(quote.text.casefold() in text for quote in case.request.quotes):
        return
    if case.rewrite.spaced != case.request.spaced:
        return  # another script, which is the business of the rule on language
    message = "The rewrite has nothing of what the request is about."
    yield Finding("subject", message, case.request.text, "request", 0, len(case.request.text))


def medium(case: TextPair) -> Iterator[Finding]:
    """An oil painting does not become a 3D render."""
    wanted = _media(case.request)
    if not wanted:
        return
    shown = _media(case.rewrite)
    if shown and not shown & wanted:
        kinds = " or ".join(sorted(wanted))
        yield Finding("medium", f"The request wants a {kinds}, the rewrite has a {' or '.join(sorted(shown))}.")


def _media(passage: Passage) -> set[str]:
    """The kinds of pictures that a passage names."""
    common = _common(passage.languages)
    if not passage.spaced:
        return {kind for word, kind in common.media_unspaced if word in passage.plain}
    return {common.media[word.text] for word in passage.words if word.text in common.media}


def _content(passage: Passage) -> set[str]:
    """The stems of the words, or the characters, that say what a passage is about."""
    common = _common(passage.languages)
    if not passage.spaced:
        return set(_HAN_OR_KATAKANA.findall(passage.text)) - common.characters
    return {stem for word in passage.words if not _is_common(word.text, common.words) and (stem := _stem(word.text))}


def _stem(word: str) -> str:
    """What a word shares with its other forms; "" if it is too short to say anything."""
    if _HANGUL.match(word):
        return word[:_STEM_OF_SYLLABLES] if len(word) > 1 else ""
    return singular(word)[:_STEM] if len(word) > 2 else ""


@cache
def _synonyms(groups: tuple[str, ...]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(_stem(word) for word in group.split()) for group in groups)


def _is_common(word: str, words: frozenset[str]) -> bool:
    return word in words or word.removesuffix("s") in words or word.isdigit()


def find_codes(text: str) -> dict[str, re.Match[str]]:
    """What a program reads in `text`, with white space and case evened out."""
    if _SYNTAX_CHARS.isdisjoint(text) and "--" not in text and "embedding:" not in text:
        return {}  # the slow look is saved
    return {" ".join(match[0].split()).casefold(): match for match in _SYNTAX.finditer(text)}


def syntax(case: TextPair) -> Iterator[Finding]:
    """What a program reads (<lora:…>, (x:1.2), __wildcard__, {a|b}, embedding:x, --ar) is neither lost nor invented, and
    trigger words that nobody can pronounce come back."""
    ours, theirs = find_codes(case.request.text), find_codes(case.rewrite.text)
    for code, match in ours.items():
        if code not in theirs:
            message = f"{match[0]!r} is for the program that draws; it must come back as it is."
            yield Finding("syntax", message, match[0], "request", match.start(), match.end())
    for code, match in theirs.items():
        if code not in ours:
            message = f"{match[0]!r} is not in the request, and is no description of the picture."
            yield Finding("syntax", message, match[0], "rewrite", match.start(), match.end())
    if case.request.language in ("en", None):
        words = {word.text for word in case.rewrite.words}
        for match in _TRIGGER.finditer(case.request.plain):
            if match[0] not in words and match[0] not in _ABBREVIATIONS.split():
                message = f"{match[0]!r} may be the trigger word of a fine-tuned model; it must come back as it is."
                yield Finding("syntax", message, match[0], "request", match.start(), match.end())


_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_INNER = re.compile(r"['‘“\"「『](.+?)['’”\"」』](?!\w)")


def quoted_text(case: TextPair) -> Iterator[Finding]:
    """Every quoted string of the request comes back byte for byte, in quotation marks of any kind."""
    written = {_composed(quote.text) for quote in case.rewrite.quotes}
    inner = {match[1] for quote in written for match in _INNER.finditer(quote)}
    for quote in dict.fromkeys(case.request.quotes):
        # In "OPEN," the comma belongs to the sentence as often as to the sign.
        text = _composed(quote.text)
        forms = {text, text.rstrip(",."), text.strip()} - {""}
        if forms & (written | inner):
            continue
        comes_through = any(_stands_in(form, _composed(case.rewrite.text)) for form in forms)
        if comes_through and case.settings.quotes == "content":
            continue
        message = (
            f"The text {quote.text!r} lost its quotation marks."
            if comes_through
            else f"The quoted text {quote.text!r} must be kept, character by character."
        )
        yield Finding("quoted_text", message, quote.text, "request", quote.start, quote.end)


def added_text(case: TextPair) -> Iterator[Finding]:
    """If the user said which text the picture shows, no other quoted text is added."""
    if not any(not quote.is_title for quote in case.request.quotes):
        return
    known = _composed(case.request.text).casefold()
    for quote in case.rewrite.quotes:
        if not quote.is_title and _composed(quote.text).strip(" ,.;:!?。，").casefold() not in known:
            yield Finding(
                "added_text",
                f"The text {quote.text!r} was not asked for.",
                quote.text,
                "rewrite",
                quote.start,
                quote.end,
            )


def _composed(text: str) -> str:
    """Letters with their accents in one character (NFC), and apostrophes of one shape: both ways of writing them are the
    same text."""
    return text if text.isascii() else unicodedata.normalize("NFC", text).replace("’", "'").replace("ʼ", "'")


def _stands_in(text: str, rewrite: str) -> bool:
    at = rewrite.find(text)
    while at >= 0:
        before, after = rewrite[at - 1 : at], rewrite[at + len(text) : at + len(text) + 1]
        if not (_glued(before, text[0]) or _glued(text[-1], after)):
            return True
        at = rewrite.find(text, at + 1)
    return False


def _glued(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum() and not (_CJK.match(left) or _CJK.match(right))


_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class _Palette:
    """The colours of one language in words."""

    language: Language
    exact: dict[str, frozenset[str]]
    """The names of the colours of a word; of a stem, if there are endings."""
    inflected: re.Pattern[str] | None
    adjectives: re.Pattern[str] | None
    verbs: frozenset[str]
    ends_at: frozenset[str]
    """Words behind the noun of a phrase; empty if a noun is not known by them."""

    def families(self, word: str) -> frozenset[str]:
        """Names of the colours that a word may mean."""
        if self.inflected is None:
            return self.exact.get(word, _NONE)
        match = self.inflected.fullmatch(word)
        return self.exact[match[1]] if match else _NONE


@cache
def _palette(language: Language, languages: Languages) -> _Palette:
    table = language.colours
    if table is None or not language.spaced:
        return _palette(languages.english, languages)
    exact: dict[str, frozenset[str]] = {}
    for family, words in table.words.items():
        for word in words:
            exact[word] = exact.get(word, _NONE) | {family}
    stems = "|".join(sorted(exact, key=len, reverse=True))
    shades = f"(?:{'|'.join(table.shades)})?" if table.shades else ""
    return _Palette(
        language=language,
        exact=exact,
        inflected=re.compile(f"{shades}({stems}){table.endings}") if table.endings else None,
        adjectives=table.adjectives,
        verbs=frozenset(table.verbs),
        ends_at=frozenset(table.stops),
    )


@dataclass(frozen=True, eq=False)
class _ColourWords:
    """What all languages have together."""

    stops: frozenset[str]
    too_general: frozenset[str]
    families: dict[str, frozenset[str]]
    """The names of the colours that a word may mean, in text without spaces."""
    word: re.Pattern[str]
    """Such a word."""
    bound: re.Pattern[str]
    """A colour and its noun in such text."""
    short_nouns: str


@cache
def _colour_words(languages: Languages) -> _ColourWords:
    tables = [language.colours for language in languages if language.colours]
    unspaced = [language.colours for language in languages.unspaced if language.colours]
    families: dict[str, frozenset[str]] = {}
    for table in unspaced:
        for family, words in table.words.items():
            for word in words:
                families[word] = families.get(word, _NONE) | {family}
    word = "|".join(sorted(families, key=len, reverse=True))
    particles = sorted({word for table in unspaced for word in table.particles}, key=len, reverse=True)
    short_nouns = "".join(table.short_nouns for table in unspaced)
    nouns = "|".join(word for table in unspaced for word in table.nouns)
    return _ColourWords(
        stops=frozenset(word for table in tables for word in table.stops),
        too_general=frozenset(word for table in tables for word in table.too_general),
        families=families,
        word=re.compile(word),
        bound=re.compile(
            f"({word})(?:(?:{'|'.join(particles)})([\u4e00-\u9fff]{{1,2}}|[\u30a1-\u30fa\u30fc]{{2,10}})"
            f"|({nouns}|[{short_nouns}]))"
        ),
        short_nouns=short_nouns,
    )


@dataclass(frozen=True)
class _Bound:
    """A colour and the noun it stands with. `at` is the index of the colour word, or its place in CJK text."""

    noun: str
    """The noun in the singular; `form` as it is written."""
    form: str
    families: frozenset[str]
    at: int
    start: int
    end: int


def colours(case: TextPair) -> Iterator[Finding]:
    """A noun that has a colour in the request has no other in the rewrite, unless it has that one too."""
    palette = _palette(case.request.grammar, case.languages)
    bound = list(_bound(case.request, palette))
    if not bound:
        return
    # A red umbrella among black umbrellas: there the number tells which is meant.
    forms = {pair.form for pair in bound}
    apart = len(forms) > len({pair.noun for pair in bound})
    wanted: dict[str, frozenset[str]] = {}
    for pair in bound:
        noun = pair.form if apart else pair.noun
        wanted[noun] = wanted.get(noun, _NONE) | pair.families
    if finding := _replaced(case, bound, wanted, apart, palette):
        yield finding
        return
    got = [pair for pair in _bound(case.rewrite, palette) if (pair.form if apart else pair.noun) in wanted]
    for noun, families in wanted.items():
        mine = [pair for pair in got if (pair.form if apart else pair.noun) == noun]
        if not mine or any(pair.families & families for pair in mine):
            continue
        taken = {pair.at for pair in got if pair not in mine}
        if not _named_nearby(case.rewrite, families, taken, mine[0].noun, palette):
            yield _finding(case, noun, families, mine[0])


def _finding(case: TextPair, noun: str, families: frozenset[str], pair: _Bound) -> Finding:
    text = case.rewrite.text[pair.start : pair.end]
    message = f"The request has {noun!r} in {' or '.join(sorted(families))}, the rewrite has {text!r}."
    return Finding("colours", message, text, "rewrite", pair.start, pair.end)


def _replaced(
    case: TextPair, bound: list[_Bound], wanted: dict[str, frozenset[str]], apart: bool, palette: _Palette
) -> Finding | None:
    """A colour that is named nowhere any more, while its noun has one that it was not to have."""
    named = _named(case.rewrite, palette)
    for lost in bound:
        if lost.families & named:
            continue
        noun = lost.form if apart else lost.noun
        for pair in _beside(case.rewrite, noun, apart, palette):
            if not pair.families & wanted[noun]:
                return _finding(case, noun, lost.families, pair)
    return None


def _named(passage: Passage, palette: _Palette) -> frozenset[str]:
    """Every colour that a passage names."""
    if not passage.spaced:
        common = _colour_words(passage.languages)
        return frozenset(family for word in common.word.findall(passage.plain) for family in common.families[word])
    return frozenset(family for word in passage.words for family in palette.families(word.text))


def _beside(passage: Passage, noun: str, apart: bool, palette: _Palette) -> Iterator[_Bound]:
    """Colours that stand beside a noun, whether or not the phrase ends there."""
    if not passage.spaced:
        yield from (pair for pair in _bound(passage, palette) if pair.noun == noun)
        return
    words = passage.words
    for i, word in enumerate(words):
        families = palette.families(word.text)
        if not families:
            continue
        for j in (i - 1, i - 2) if palette.language.noun_first else (i + 1, i + 2):
            if not 0 <= j < len(words) or words[min(i, j)].ends_clause:
                break
            form = words[j].text
            if _same_noun(form if apart else singular(form), noun, palette):
                start, end = min(word.start, words[j].start), max(word.end, words[j].end)
                yield _Bound(noun=noun, form=form, families=families, at=i, start=start, end=end)


def _same_noun(word: str, noun: str, palette: _Palette) -> bool:
    if word == noun or not palette.inflected:
        return word == noun
    size = max(2, min(len(word), len(noun)) - 2)
    return word[:size] == noun[:size] and abs(len(word) - len(noun)) <= 3


def _bound(passage: Passage, palette: _Palette) -> Iterator[_Bound]:
    common = _colour_words(passage.languages)
    if not passage.spaced:
        for match in common.bound.finditer(passage.plain):
            noun = match[2] or match[3]
            noun = noun[0] if noun[0] in common.short_nouns else noun
            if len(noun) >= 2 or noun in common.short_nouns:
                families = common.families[match[1]]
                at, end = match.start(), match.end()
                yield _Bound(noun=noun, form=noun, families=families, at=at, start=at, end=end)
        return
    words = passage.words
    for i, word in enumerate(words):
        families = palette.families(word.text)
        if not families:
            continue
        if palette.language.noun_first:
            if i and not words[i - 1].ends_clause and len(words[i - 1].text) > 2:
                noun = words[i - 1].text
                yield _Bound(noun=noun, form=noun, families=families, at=i, start=words[i - 1].start, end=word.end)
            continue
        for j in (i + 1, i + 2):
            if j >= len(words) or words[j - 1].gap != " " or words[j].text in common.stops:
                break
            if palette.families(words[j].text):
                break
            if _ends_phrase(passage, j, palette) and words[j].text not in common.too_general:
                form = words[j].text
                yield _Bound(
                    noun=singular(form), form=form, families=families, at=i, start=word.start, end=words[j].end
                )
                break


def _ends_phrase(passage: Passage, at: int, palette: _Palette) -> bool:
    """Whether the word at `at` is the noun that a phrase is about: "car", not the car of "car windows"."""
    words = passage.words
    if palette.language.capital_nouns:
        return words[at].capital
    if not palette.ends_at:
        return palette.adjectives is None or not palette.adjectives.search(words[at].text)
    if at + 1 >= len(words) or words[at].ends_clause:
        return True
    following = words[at + 1].text
    return words[at].gap == " " and (
        following in palette.ends_at or following in palette.verbs or following.endswith("ing")
    )


def _named_nearby(rewrite: Passage, families: frozenset[str], taken: set[int], noun: str, palette: _Palette) -> bool:
    """Whether the rewrite gives the noun the request's colour in some other way: a car painted red."""
    if not rewrite.spaced:
        common = _colour_words(rewrite.languages)
        found = common.word.finditer(rewrite.plain)
        return any(common.families[match[0]] & families and match.start() not in taken for match in found)
    places = [i for i, word in enumerate(rewrite.words) if singular(word.text) == noun]
    return any(
        i not in taken and palette.families(word.text) & families and any(abs(i - place) <= 6 for place in places)
        for i, word in enumerate(rewrite.words)
    )
