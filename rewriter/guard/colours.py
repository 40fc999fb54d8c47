"""Colours: what was asked for in red does not come back in blue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rewriter.guard.base import Case, Finding, Passage, singular, word_set

_FAMILIES = {
    "red": "red crimson scarlet ruby cherry vermilion maroon burgundy rust coral",
    "orange": "orange tangerine amber apricot peach rust copper coral ginger",
    "yellow": "yellow golden gold lemon mustard amber blond blonde cream",
    "green": "green emerald lime olive mint jade teal turquoise sage",
    "blue": "blue navy azure cobalt cerulean teal turquoise cyan indigo sapphire aqua",
    "purple": "purple violet lilac lavender magenta mauve plum indigo",
    "pink": "pink rose magenta fuchsia salmon coral peach",
    "brown": "brown chestnut chocolate tan beige bronze copper auburn rust amber",
    "black": "black ebony onyx charcoal",
    "white": "white ivory cream pearl alabaster beige",
    "grey": "grey gray silver slate charcoal ash",
}
_EN: dict[str, frozenset[str]] = {}
for _family, _words in _FAMILIES.items():
    for _word in _words.split():
        _EN[_word] = _EN.get(_word, frozenset()) | {_family}
_STEMS = {
    "de": {"rot": "red", "orange": "orange", "gelb": "yellow", "golden": "yellow", "grün": "green", "blau": "blue",
           "lila": "purple", "violett": "purple", "rosa": "pink", "braun": "brown", "schwarz": "black", "weiß": "white",
           "weiss": "white", "grau": "grey", "silbern": "grey"},
    "fr": {"rouge": "red", "orange": "orange", "jaune": "yellow", "doré": "yellow", "vert": "green", "bleu": "blue",
           "violet": "purple", "rose": "pink", "marron": "brown", "brun": "brown", "noir": "black", "blanc": "white",
           "blanch": "white", "gris": "grey"},
    "es": {"roj": "red", "naranja": "orange", "amarill": "yellow", "dorad": "yellow", "verde": "green", "azul": "blue",
           "morad": "purple", "violeta": "purple", "rosa": "pink", "marrón": "brown", "negr": "black", "blanc": "white",
           "gris": "grey"},
    "ru": {"красн": "red", "оранжев": "orange", "желт": "yellow", "жёлт": "yellow", "золот": "yellow", "зелен": "green",
           "зелён": "green", "син": "blue", "голуб": "blue", "фиолетов": "purple", "розов": "pink", "коричнев": "brown",
           "черн": "black", "чёрн": "black", "бел": "white", "сер": "grey", "рыж": "orange"},
    "it": {"ross": "red", "aranci": "orange", "giall": "yellow", "dorat": "yellow", "verd": "green", "blu": "blue",
           "azzurr": "blue", "viola": "purple", "rosa": "pink", "marron": "brown", "ner": "black", "bianc": "white",
           "grigi": "grey"},
    "pt": {"vermelh": "red", "laranja": "orange", "amarel": "yellow", "dourad": "yellow", "verde": "green",
           "azu": "blue", "rox": "purple", "violeta": "purple", "rosa": "pink", "marrom": "brown", "castanh": "brown",
           "pret": "black", "negr": "black", "branc": "white", "cinz": "grey"},
    "nl": {"rood": "red", "rod": "red", "oranj": "orange", "geel": "yellow", "gel": "yellow", "goud": "yellow",
           "groen": "green", "blauw": "blue", "paars": "purple", "roz": "pink", "bruin": "brown", "zwart": "black",
           "wit": "white", "grijs": "grey", "grijz": "grey"},
    "ar": {"أحمر": "red", "حمرا": "red", "برتقالي": "orange", "أصفر": "yellow", "صفرا": "yellow", "ذهبي": "yellow",
           "أخضر": "green", "خضرا": "green", "أزرق": "blue", "زرقا": "blue", "بنفسجي": "purple", "وردي": "pink",
           "بني": "brown", "أسود": "black", "سودا": "black", "أبيض": "white", "بيضا": "white", "رمادي": "grey"},
    "hi": {"लाल": "red", "नारंगी": "orange", "पील": "yellow", "सुनहर": "yellow", "हर": "green", "नील": "blue",
           "बैंगनी": "purple", "गुलाबी": "pink", "भूर": "brown", "काल": "black", "सफ़ेद": "white", "सफेद": "white",
           "धूसर": "grey"},
    "ko": {"빨간": "red", "빨강": "red", "붉은": "red", "주황": "orange", "노란": "yellow", "노랑": "yellow",
           "황금": "yellow", "초록": "green", "녹": "green", "파란": "blue", "파랑": "blue", "푸른": "blue",
           "보라": "purple", "분홍": "pink", "갈": "brown", "검은": "black", "검정": "black", "까만": "black",
           "하얀": "white", "흰": "white", "회": "grey"},
}  # fmt: skip
_ENDINGS = {
    "de": "(?:e|er|es|en|em)?", "fr": "(?:e|s|es|te|tes)?", "es": "(?:o|a|os|as|s|es)?",
    "it": "(?:o|a|i|e|he|hi|e)?", "pt": "(?:o|a|os|as|s|l|is|ento)?", "nl": "(?:e|te|en)?", "ar": "(?:ة|ء)?",
    "hi": "(?:ा|ी|े)?", "ko": "(?:색|빛)?(?:의|은)?",
    "ru": "(?:ый|ий|ой|ая|яя|ое|ее|ые|ие|ого|его|ую|юю|ым|им|ых|их|ей|ом|ем|ому|ему|ыми|ими)",
}  # fmt: skip
_INFLECTED = {
    language: re.compile(f"(?:dunkel|hell)?({'|'.join(sorted(stems, key=len, reverse=True))}){_ENDINGS[language]}")
    for language, stems in _STEMS.items()
}
_RU_ADJECTIVE = re.compile(f"{_ENDINGS['ru']}$")
_NOUN_BEFORE = {"fr", "es", "it", "pt", "ar"}
_STOPS = word_set(
    "a an the of and or with in on at to from by under over near behind beside between for is are as its his her "
    "their "
    "that which who into onto around against inside outside above below but while sits stands lies has have"
)
_VERBS = word_set(
    "races stands sits lies drives flies runs walks looks hangs rests floats glows leans gallops jumps sleeps waits "
    "moves speeds shines rises stares gazes smiles holds wears stand sit lie drive fly run walk look hang rest float "
    "glow lean sleep wait move shine rise stare gaze smile hold wear parked placed set painted sparkle"
)
# Of these there may be many in one picture, each in a colour of its own.
_TOO_GENERAL = word_set(
    "light lights tone tones hue hues shade shades accent accents glow color colour colors colours detail details "
    "palette "
    "background shadow shadows stripe stripes spot spots highlight highlights line lines edge edges pattern patterns"
)
_CJK_COLOURS = {
    char: family
    for family, chars in {
        "red": "红紅赤", "orange": "橙", "yellow": "黄金", "green": "绿緑", "blue": "蓝青", "purple": "紫",
        "pink": "粉", "brown": "棕茶", "black": "黑黒", "white": "白", "grey": "灰银銀",
    }.items()
    for char in chars
}  # fmt: skip
_CJK_BOUND = re.compile(f"([{''.join(_CJK_COLOURS)}])(?:色的|色の|色|的|い)([\u4e00-\u9fff]{{1,2}})")
_CJK_SHORT = "猫狗犬鸟鳥花车車马馬鱼魚树木球裙伞傘灯门家船云龙龍星心帽衣"


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


def colours(case: Case) -> Iterator[Finding]:
    """A noun that has a colour in the original has no other in the rewrite, unless it has that one too."""
    language = case.original.language
    asked = list(_bound(case.original, language))
    if not asked:
        return
    # A red umbrella among black umbrellas: there the number tells which is meant.
    forms = {pair.form for pair in asked}
    apart = len(forms) > len({pair.noun for pair in asked})
    wanted: dict[str, frozenset[str]] = {}
    for pair in asked:
        noun = pair.form if apart else pair.noun
        wanted[noun] = wanted.get(noun, frozenset()) | pair.families
    if finding := _replaced(case, asked, wanted, apart):
        yield finding
        return
    got = [pair for pair in _bound(case.rewrite, language) if (pair.form if apart else pair.noun) in wanted]
    for noun, families in wanted.items():
        mine = [pair for pair in got if (pair.form if apart else pair.noun) == noun]
        if not mine or any(pair.families & families for pair in mine):
            continue
        taken = {pair.at for pair in got if pair not in mine}
        if _said_nearby(case.rewrite, families, taken, mine, language):
            continue
        text = case.rewrite.text[mine[0].start : mine[0].end]
        message = f"The request has {noun!r} in {' or '.join(sorted(families))}, the rewrite has {text!r}."
        yield Finding("colours", message, text, "rewrite", mine[0].start, mine[0].end)


def _replaced(case: Case, asked: list[_Bound], wanted: dict[str, frozenset[str]], apart: bool) -> Finding | None:
    """A colour that is said nowhere any more, while its noun has one that it was not to have."""
    language = case.original.language
    said = _said(case.rewrite, language)
    for lost in asked:
        if lost.families & said:
            continue
        noun = lost.form if apart else lost.noun
        for pair in _beside(case.rewrite, noun, apart, language):
            if not pair.families & wanted[noun]:
                text = case.rewrite.text[pair.start : pair.end]
                message = f"The request has {noun!r} in {' or '.join(sorted(lost.families))}, the rewrite has {text!r}."
                return Finding("colours", message, text, "rewrite", pair.start, pair.end)
    return None


def _said(passage: Passage, language: str | None) -> frozenset[str]:
    """Every colour that a passage names."""
    if passage.is_cjk:
        return frozenset(_CJK_COLOURS[char] for char in passage.plain if char in _CJK_COLOURS)
    return frozenset(family for word in passage.words for family in _families(word.text, language))


def _beside(passage: Passage, noun: str, apart: bool, language: str | None) -> Iterator[_Bound]:
    """Colours that stand beside a noun, whether or not the phrase ends there."""
    if passage.is_cjk:
        yield from (pair for pair in _bound(passage, language) if pair.noun == noun)
        return
    words = passage.words
    for i, word in enumerate(words):
        families = _families(word.text, language)
        if not families:
            continue
        for j in (i - 1, i - 2) if language in _NOUN_BEFORE else (i + 1, i + 2):
            if not 0 <= j < len(words) or words[min(i, j)].ends_clause:
                break
            form = words[j].text
            if _same_noun(form if apart else singular(form), noun, language):
                yield _Bound(noun, form, families, i, min(word.start, words[j].start), max(word.end, words[j].end))


def _same_noun(word: str, noun: str, language: str | None) -> bool:
    if word == noun or language in (None, "en"):
        return word == noun
    size = max(2, min(len(word), len(noun)) - 2)
    return word[:size] == noun[:size] and abs(len(word) - len(noun)) <= 3


def _bound(passage: Passage, language: str | None) -> Iterator[_Bound]:
    if passage.is_cjk:
        for match in _CJK_BOUND.finditer(passage.plain):
            noun = match[2][0] if match[2][0] in _CJK_SHORT else match[2]
            if len(noun) == 2 or noun in _CJK_SHORT:
                families = frozenset({_CJK_COLOURS[match[1]]})
                yield _Bound(noun, noun, families, match.start(), match.start(), match.end())
        return
    words = passage.words
    for i, word in enumerate(words):
        families = _families(word.text, language)
        if not families:
            continue
        if language in _NOUN_BEFORE:
            if i and not words[i - 1].ends_clause and len(words[i - 1].text) > 2:
                yield _Bound(words[i - 1].text, words[i - 1].text, families, i, words[i - 1].start, word.end)
            continue
        for j in (i + 1, i + 2):
            if j >= len(words) or words[j - 1].gap != " " or words[j].text in _STOPS:
                break
            if _families(words[j].text, language):
                break
            if _ends_phrase(passage, j, language) and words[j].text not in _TOO_GENERAL:
                yield _Bound(singular(words[j].text), words[j].text, families, i, word.start, words[j].end)
                break


def _families(word: str, language: str | None) -> frozenset[str]:
    if language in _STEMS:
        match = _INFLECTED[language].fullmatch(word)
        return frozenset({_STEMS[language][match[1]]}) if match else frozenset()
    return _EN.get(word, frozenset())


def _ends_phrase(passage: Passage, at: int, language: str | None) -> bool:
    """Whether the word at `at` is the noun that a phrase is about: "car", not the car of "car windows"."""
    words = passage.words
    if language == "de":
        return words[at].capital
    if language not in (None, "en"):
        return not _RU_ADJECTIVE.search(words[at].text)
    if at + 1 >= len(words) or words[at].ends_clause:
        return True
    following = words[at + 1].text
    return words[at].gap == " " and (following in _STOPS or following in _VERBS or following.endswith("ing"))


def _said_nearby(
    rewrite: Passage, families: frozenset[str], taken: set[int], mine: list[_Bound], language: str | None
) -> bool:
    """Whether the colour asked for is said of the noun in some other way: a car painted red."""
    if rewrite.is_cjk:
        return any(
            _CJK_COLOURS.get(char) in families and i not in taken for i, char in enumerate(rewrite.plain)
        )  # fmt: skip
    noun = mine[0].noun
    places = [i for i, word in enumerate(rewrite.words) if singular(word.text) == noun]
    return any(
        i not in taken and _families(word.text, language) & families and any(abs(i - place) <= 6 for place in places)
        for i, word in enumerate(rewrite.words)
    )
