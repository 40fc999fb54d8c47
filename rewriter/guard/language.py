"""Languages: what the guard knows of each, and which one a short text is in.

    >>> detect_language("ein roter Ball auf der Wiese")
    'de'

A language is a file in `rewriter/guard/languages/`, named after its two-letter code, that a native speaker can review.
The rules hold no words of their own: they read a `Language`, or what all `Languages` have together. Adding a language
is adding a file. Lists of words are strings, separated by white space; `*` at an end of a word stands for any letters;
other patterns are regular expressions.

A text's language is recognised by its script, and in Latin letters by small common words. Not covered: languages that share
a script other than Latin (Russian and Ukrainian, Arabic and Persian), and Latin ones beyond those listed. If the language
cannot be recognised it is None, and no rule of a language applies.
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from redraft.errors import ConfigError

SCRIPTS = {
    "latin": r"A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff",
    "cyrillic": r"\u0400-\u052f",
    "greek": r"\u0370-\u03ff\u1f00-\u1fff",
    "hebrew": r"\u0590-\u05ff",
    "arabic": r"\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc",
    "devanagari": r"\u0900-\u097f",
    "thai": r"\u0e00-\u0e7f",
    "hangul": r"\uac00-\ud7af\u1100-\u11ff",
    "kana": r"\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff",
    "han": r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",
}
_LETTERS = {name: re.compile(f"[{ranges}]") for name, ranges in SCRIPTS.items()}
_WORD = re.compile(f"[{SCRIPTS['latin']}]+")
_MIN_LETTERS = 8
_WORD_WEIGHT = 3.0
"""What a telling word adds to the log-likelihood of its language, in nats."""
_MARGIN = 3.0
"""By how much the likeliest language must lead before it is believed, in nats."""
_LEAN = 1.0
"""By how much for a guess."""
_ENOUGH_WORDS = 70
"""Telling words from which on a language is known well enough to spell by."""


_ENOUGH_TRIGRAMS = 500
"""More of a text say no more about its language."""


def _split(value: object) -> object:
    """The words of a string, each in its composed form (NFC)."""
    return tuple(unicodedata.normalize("NFC", value).split()) if isinstance(value, str) else value


def _compile(value: object) -> object:
    return re.compile(value) if isinstance(value, str) else value


def _compile_any_case(value: object) -> object:
    return re.compile(value, re.IGNORECASE) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A string of words in the file."""
Pattern = Annotated[re.Pattern[str], BeforeValidator(_compile)]
"""A regular expression in the file."""
AnyCase = Annotated[re.Pattern[str], BeforeValidator(_compile_any_case)]
"""The same, if case does not matter."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Numbers(_Table):
    """[numbers]: number words. In the lists a string holds the forms of one number; "" if there is none."""

    from_zero: tuple[Words, ...]
    """zero, one, two, … as far as they are single words that no rule puts together."""
    tens: tuple[Words, ...] = ()
    """thirty to ninety, if `from_zero` stops before."""
    hundreds: tuple[Words, ...] = ()
    """two hundred to nine hundred, if they are single words."""
    others: dict[str, float] = {}
    dozens: dict[str, int] = {}
    """Words that count by themselves and multiply a number before them: two dozen."""
    dozens_plural: Words = ()
    """Forms of a dozen that only multiply."""
    scales: dict[str, int] = {}
    """hundred, thousand: they multiply what stands before them, or stand for themselves."""
    joiner: str | None = None
    """What may stand between tens and units."""
    and_a_half: tuple[Words, ...] = ()
    """What stands behind a number and adds a half."""
    half: Words = ()
    """Words for a half that stand before a dozen, or near it."""
    half_more: Words = ()
    """Words that add a half to the number behind them."""
    in_passing: dict[int, Words] = {}
    """Words that name a number in passing (both, third): they count as the number, but need not come back."""
    decades: dict[str, int] = {}
    """the twenties, …"""
    prefixes: dict[str, float] = {}
    """Numbers at the head of other words, German dreistöckig; not before one of `no_prefix_before`."""
    no_prefix_before: Words = ()
    dual: Words = ()
    """Endings that mean two of a thing."""
    decade_endings: Words = ()
    """Behind figures: the 80s."""
    ordinal_endings: Words = ()
    """Behind figures: 3rd."""
    range: Words = ()
    """Between two numbers: two or three."""
    or_more: Words = ()
    some: Words = ()
    """Before hundreds: a few hundred."""
    denied_by: Words = ()
    """not three."""
    fractions: Words = ()
    """Behind a number that is part of a fraction: three quarters."""
    back_references: Words = ()
    """Before a two that speaks of things named before: the two."""
    pair_of: Words = ()
    come_in_pairs: Words = ()
    """Things of which a pair is one: a pair of jeans."""
    twenties: bool = False
    """Counts in twenties, as French does: sixty and eighty take ten to nineteen, four twenties are eighty."""
    unsure: Words = ()
    """Number words that also mean something else (French neuf, new), unless a plural follows."""
    plural_endings: Words = ()
    word_prefixes: Words = ()
    """Letters that may be written together with the number behind them."""
    ten_behind_unit: Words = ()
    """Words for ten that are added to a unit before them: Arabic seven-ten."""
    ten_prefix: str = ""
    """Joins a ten to the unit before it: Arabic five-and-twenty."""


class Numerals(_Table):
    """[numerals]: numbers in text without spaces: a counting word tells them from a part of another word."""

    digits: dict[str, int]
    scales: dict[str, int]
    counters: Words
    tens: dict[str, int] = {}
    """With `units`: numbers that are words before a counter; then numbers of `digits` need a scale."""
    units: dict[str, int] = {}
    of_both: dict[str, int] = {}
    """Characters that mean two, or three, of them; they need no counter."""
    not_after: str = ""
    """What makes an ordinal of the number behind it."""
    about: Pattern | None = None
    """Two digits that mean about that many."""
    pair: Pattern | None = None
    dozen: Pattern | None = None
    half: str = ""
    in_passing: dict[int, Words] = {}


class NounCounts(_Table):
    """[counts]: which noun a number counts."""

    noun: Literal["plural", "capital", "next"]
    """How it is known among the words behind the number: by its plural, by its capital, or as the next word."""
    stops: Words
    """Words that no noun phrase goes beyond."""
    articles: Words = ()
    """They count one."""
    only_one: tuple[Words, ...] = ()
    """Before a noun of which there is no more than one: a single."""
    each: Words = ()
    """Words that share things out: then a count per thing need not come back."""
    people: Words = ()
    """Nouns of which two may be told one by one: two friends, a man and a woman."""
    one_and_another: AnyCase | None = None
    endings: Words = ()
    """Endings by which the forms of a noun differ, longest first, if it is not known by its plural: Katze, Katzen. Accents
    do not tell nouns apart either: Apfel, Äpfel."""
    adjectives: Words = ()
    """Those that stand before the noun, without their endings, if it is known as the next word."""


class Negation(_Table):
    """[negation]: how a language in separate words denies a thing."""

    cues: Words
    """Words behind which a denied noun phrase begins: no, without."""
    cue_pairs: tuple[Words, ...] = ()
    """Two words that are such a cue together: free of. The second may end in an apostrophe."""
    skipped: Words = ()
    """What may stand between a cue and the noun phrase."""
    negators: Words = ()
    """Words that deny the verb behind them: Spanish no quiero flores."""
    verbs: Words = ()
    """Those verbs, if what follows them is a thing to be left out."""
    phrases: tuple[AnyCase, ...] = ()
    """Whole phrases behind which a denied noun phrase begins: don't include."""
    verb_endings: Words = ()
    """They end a noun phrase, but for the words in `no_verbs`."""
    no_verbs: Words = ()
    not_so: str = ""
    """Words before a quality that something does not have: is not green. A pattern."""
    but: Words = ()
    """What may follow that quality: not green but blue."""
    no_qualities: Words = ()
    free: AnyCase | None = None
    """A thing that is denied in one word: sugar-free. Not if it is one of `not_free`."""
    not_free: Words = ()
    nobody: AnyCase | None = None
    nobody_means: Words = ()
    """What is not to be seen if there is to be nobody."""
    depicted: Words = ()
    """Behind them a person is none: a statue of a woman."""
    stops: Words = ()
    """Words that no noun phrase goes beyond."""
    lists: Words = ()
    """They go on with a list of denied things: or."""
    not_denied: Words = ()
    """Behind a cue they deny nothing: no longer."""
    too_general: Words = ()
    """Things for which a good rewrite finds a positive side: no background, a plain white background."""
    denies_all: Words = ()
    """Words that deny all that follows them, lists included."""
    denies_clause: Words = ()
    """Words that deny what follows them in the same clause."""
    needs_from: tuple[Words, ...] = ()
    """Those of them that deny only together with the word behind them."""
    denies_before: Words = ()
    """Words that deny what stands before them."""
    asserts: Words = ()
    """Words that end the reach of a denial: with, but. Not behind one of `asserts_not_after`."""
    asserts_not_after: Words = ()


class Absence(_Table):
    """[absence]: how a language denies a thing if that is read from characters, not from words."""

    denied: Pattern
    """Its group is the thing; the first that is not empty, if there are several."""
    cues: Pattern
    """What denies, wherever it stands in reach of the thing; in its clause, if there is a `mention`."""
    reach: int = 0
    """Characters between a cue and the thing."""
    cue_behind: bool = False
    """Whether the cue stands behind the thing."""
    between: Pattern | None = None
    """What stands between several denied things."""
    not_done: Pattern | None = None
    """A thing, and the verb that is denied of it: a hat that is not worn."""
    nobody: Pattern | None = None
    """That there is to be nobody: "no people"."""
    persons: Pattern | None = None
    """Words for persons, who are then not to be seen."""
    mention: str = ""
    """A pattern for the thing in the rewrite, with {thing} for it."""
    skipped: Words = ()
    stem_from: int = Field(default=99, ge=2)
    """Letters from which on the last letter of the thing may change."""


class Names(_Table):
    """[names]"""

    called: tuple[str, ...] = ()
    """Words before a name: called. Patterns."""
    called_patterns: tuple[Pattern, ...] = ()
    """The same if words are not set apart; the group is the name."""
    places: Pattern | None = None
    titles: Words = ()
    """Words in names that do not make one."""
    no_names: Words = ()
    """Words in capitals that are no names."""
    peoples: Pattern | None = None
    """Words for peoples, which are names; but for those in `no_peoples`."""
    no_peoples: Words = ()
    measures: Words = ()
    """Nouns before another noun that make no name: ein Glas Wein."""
    and_another: Words = ()
    """Between two names: and."""
    place_endings: Words = ()
    """Endings of adjectives made of places."""


class Colours(_Table):
    """[colours]"""

    words: dict[str, Words]
    """The words, or their stems, by the name of the colour. A word may belong to two."""
    endings: str = ""
    """A pattern of what follows a stem."""
    shades: Words = ()
    """What may stand before a stem, in one word with it."""
    adjectives: Pattern | None = None
    """Words that match it are no nouns."""
    stops: Words = ()
    """Words that end a noun phrase. With them, a noun is only what stands before one (or before one of `verbs`)."""
    verbs: Words = ()
    too_general: Words = ()
    """Things of which there may be many, each in a colour of its own: light."""
    particles: Words = ()
    """In text without spaces: what may stand between the colour and its noun."""
    short_nouns: str = ""
    """Nouns of one character."""
    nouns: Words = ()
    """Longer nouns that may follow a colour without a particle."""


class Quotes(_Table):
    """[quotes]"""

    marks: Words = ()
    """Pairs of an opening and a closing mark. The same mark may open in one language and close in another."""
    elisions: str = ""
    """Words that begin with an apostrophe: 'til, '90s. A pattern."""
    titles: str = ""
    """Opening marks around the title of a work, which is named, not written in the picture."""


class Chat(_Table):
    """[chat]: what language models say to people around a prompt, or in its place: openings, thoughts, notes, apologies."""

    opening: tuple[str, ...]
    """Patterns, at the start of a rewrite only."""
    anywhere: tuple[str, ...]
    """Patterns, wherever they stand."""
    preamble: tuple[str, ...] = ()
    """Patterns for the words before a prompt that may be cut off: "Here is the prompt:"."""


class Language(_Table):
    """A language's file."""

    code: str
    name: str
    """In English."""
    script: str
    words: Words = ()
    """Words that tell it from others in Latin letters: small ones that hold sentences together, and those that prompts
    are full of. A word that several languages share is listed under each."""
    letters: Pattern | None = None
    """Letters that tell it; in Han letters, what Japanese does not write."""
    spaced: bool = True
    """Whether there are spaces between words."""
    noun_first: bool = False
    """Whether a noun stands before its adjectives."""
    capital_nouns: bool = False
    capital_names: bool = False
    """Whether only names (and what begins a sentence) have a capital."""
    inflected: bool = False
    """Whether nouns change their endings by case: then forms are known by their common beginning."""
    elided: Words = ()
    """What is written before an apostrophe, in one with the word behind it: l'ours."""
    media: dict[str, Words] = {}
    """Words for kinds of pictures, by kind: photo, painting, drawing, render; "other" goes with any."""
    plurals: dict[str, str] = {}
    """Irregular plurals, for English."""
    numbers: Numbers | None = None
    numerals: Numerals | None = None
    counts: NounCounts | None = None
    negation: Negation | None = None
    absence: Absence | None = None
    names: Names = Names()
    colours: Colours | None = None
    quotes: Quotes = Quotes()
    chat: Chat | None = None

    def __hash__(self) -> int:
        return id(self)  # rules keep tables by language


class Languages:
    """All languages that are known, and what they have together. Hashed by identity: rules keep their tables by it."""

    def __init__(self, languages: Iterable[Language]) -> None:
        self.by_code = {language.code: language for language in languages}
        self.english = self.by_code["en"]

    def __iter__(self) -> Iterator[Language]:
        return iter(self.by_code.values())

    def get(self, code: str | None) -> Language:
        """The language of that code, English if there is none."""
        return self.by_code.get(code or "en", self.english)

    def name(self, code: str | None) -> str:
        """What it is called in English."""
        return self.by_code[code].name if code in self.by_code else str(code)

    def all_words(self, pick: Callable[[Language], Iterable[str]]) -> frozenset[str]:
        """What `pick` gives for each language, in one set."""
        return frozenset(word for language in self for word in pick(language))

    @cached_property
    def unspaced(self) -> tuple[Language, ...]:
        """The languages without spaces between words, those in Han letters first."""
        return tuple(sorted((lang for lang in self if not lang.spaced), key=lambda lang: lang.script))

    @cached_property
    def common_words(self) -> frozenset[str]:
        """The telling words of all languages."""
        return self.all_words(lambda language: language.words)

    @cached_property
    def spelled(self) -> frozenset[str]:
        """Codes of the languages in Latin letters that are known well enough to spell by."""
        return frozenset(language.code for language in self if len(language.words) >= _ENOUGH_WORDS)

    @cached_property
    def by_word(self) -> dict[str, tuple[str, ...]]:
        """Codes of the languages that a telling word belongs to."""
        by_word: dict[str, tuple[str, ...]] = {}
        for language in self:
            for word in dict.fromkeys(language.words):
                by_word[word] = (*by_word.get(word, ()), language.code)
        return by_word

    @cached_property
    def by_script(self) -> dict[str, str]:
        """The code of the one language that is known in a script."""
        return {language.script: language.code for language in self if language.script not in ("latin", "han", "kana")}

    @cached_property
    def letters(self) -> dict[str, re.Pattern[str]]:
        """What tells a language in Latin letters, by code."""
        return {lang.code: lang.letters for lang in self if lang.letters is not None and lang.script == "latin"}

    @cached_property
    def chinese(self) -> re.Pattern[str]:
        """What only Chinese writes."""
        return self.by_code["zh"].letters or re.compile("(?!)")

    @cached_property
    def trigrams(self) -> dict[str, tuple[dict[str, float], float]]:
        """By code: the log-probability of each trigram of letters, and that of one that does not occur."""
        tables = {}
        for code in self.spelled:
            counts = Counter(gram for word in set(self.by_code[code].words) for gram in _trigrams(word))
            total = math.log(counts.total() + 0.5 * 8000)
            table = {gram: math.log(count + 0.5) - total for gram, count in counts.items()}
            tables[code] = (table, math.log(0.5) - total)
        return tables


@cache
def load_languages(*folders: str) -> Languages:
    """The languages that come with redraft, and those of the TOML files in `folders`; a later file replaces an earlier
    one of the same name. Raises ConfigError if a file cannot be used."""
    files: dict[str, Path] = {}
    for folder in (Path(str(resources.files("rewriter.guard"))) / "languages", *map(Path, folders)):
        own = {path.stem: path for path in sorted(folder.expanduser().glob("*.toml"))}
        if not own:
            raise ConfigError(f"no language files (xx.toml) in {folder}")
        files |= own
    return Languages(_load(path) for path in files.values())


def _load(path: Path) -> Language:
    try:
        return Language.model_validate({"code": path.stem} | tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read language {path}: {error.strerror}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"language {path} has mistakes:\n" + "\n".join(lines)) from None
    except (ValueError, re.error) as error:
        raise ConfigError(f"language {path} cannot be used: {error}") from error


def script_shares(text: str) -> dict[str, float]:
    """Share of each script among the letters of `text`. Han and kana count threefold: a character says more."""
    weights = {"han": 3, "kana": 3, "hangul": 2}
    counts = {name: len(letters.findall(text)) * weights.get(name, 1) for name, letters in _LETTERS.items()}
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items() if count} if total else {}


def detect_language(text: str, languages: Languages | None = None) -> str | None:
    """Two-letter code of the language that most of `text` is in; None if it is not recognised."""
    languages = languages or load_languages()
    if text.isascii():
        return _detect_latin(text, languages)
    share = script_shares(text)
    if not share:
        return None
    east = share.get("han", 0) + share.get("kana", 0)
    if east >= 0.5:
        if share.get("kana", 0) >= 0.08 * east:
            return "ja"
        # Japanese without kana is short; longer Han text, and what only Chinese writes, is Chinese.
        return "zh" if languages.chinese.search(text) or len(_LETTERS["han"].findall(text)) >= 12 else None
    script = max(share, key=lambda name: share[name])
    if share[script] < 0.6:
        return None
    return _detect_latin(text, languages) if script == "latin" else languages.by_script.get(script)


def guess_language(text: str, languages: Languages | None = None) -> str | None:
    """The language that `text` in Latin letters seems to be in, though not surely enough for `detect_language`."""
    languages = languages or load_languages()
    words = _WORD.findall(text.lower())
    return _by_letters(words, _by_words(text.lower(), words, languages), _LEAN, languages)


def may_be_in(text: str, code: str, languages: Languages) -> bool:
    """Whether the words of `text` in Latin letters speak for a language, more than for any other."""
    score = _by_words(text.lower(), _WORD.findall(text.lower()), languages)
    return score.get(code, 0) > max((score[other] for other in score if other != code), default=0)


def _detect_latin(text: str, languages: Languages) -> str | None:
    text = text.lower()
    words = _WORD.findall(text)
    score = _by_words(text, words, languages)
    if score:
        best, *others = sorted(score, key=lambda language: -score[language])
        runner_up = score[others[0]] if others else 0
        # One telling word is enough if nothing speaks against it.
        enough = score[best] >= 2 or runner_up == 0
        if enough and score[best] >= 0.12 * len(words) and score[best] > 1.25 * runner_up:
            return best
    return _by_letters(words, score, _MARGIN, languages)


def _by_words(text: str, words: list[str], languages: Languages) -> dict[str, float]:
    """How many words, and letters, of `text` tell of each language."""
    score: dict[str, float] = {}
    by_word = languages.by_word
    for word in words:
        codes = by_word.get(word, ())
        for code in codes:  # a word of one language says more than one that many share
            score[code] = score.get(code, 0) + (1 if len(codes) < 3 else 0.7)
    if not text.isascii() or "'" in text or "ij" in text:
        for code, letters in languages.letters.items():
            if letters.search(text):
                score[code] = score.get(code, 0) + 1
    return score


def _by_letters(words: list[str], score: dict[str, float], margin: float, languages: Languages) -> str | None:
    """The language whose words are spelled like these; None if two are about as likely, or there are few letters.

    Naive Bayes over the trigrams of letters in the telling words, with add-half smoothing, and `score` of the words.
    """
    if sum(len(word) for word in words) < _MIN_LETTERS:
        return None
    grams = list(islice((gram for word in words for gram in _trigrams(word)), _ENOUGH_TRIGRAMS))
    chance = {
        code: sum(table.get(gram, floor) for gram in grams) + _WORD_WEIGHT * score.get(code, 0)
        for code, (table, floor) in languages.trigrams.items()
    }
    best, second = sorted(chance, key=lambda code: -chance[code])[:2]
    return best if chance[best] - chance[second] > margin else None


def _trigrams(word: str) -> list[str]:
    word = f" {word[:_ENOUGH_TRIGRAMS]} "
    return [word[i : i + 3] for i in range(len(word) - 2)]
