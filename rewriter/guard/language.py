"""Which language a short text is in: by script, and for Latin letters by small common words.

Not covered: languages that share a script other than Latin (Russian and Ukrainian, Arabic and Persian), and Latin ones
beyond those listed. What cannot be told is None, and then nothing is claimed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache

from rewriter.guard.vocabulary import WORDS

_SCRIPTS = {
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
_LETTERS = {name: re.compile(f"[{ranges}]") for name, ranges in _SCRIPTS.items()}
_WORD = re.compile(f"[{_SCRIPTS['latin']}]+")
_CHINESE = re.compile(  # characters and words that Japanese does not write
    "[的们这那哪么吗吧呢啊您它她你个红绿马鸟鱼车门东龙风飞书长头发两张岁边阳给爱艺树笼过还热务关样细丝围间写没显纸说读谁课讲设许论请记认词诗"
    "岛灯灵妈图团圣坏处备够奖妆妇孙宝审宽导尘尽层师带帮广归录态总恋惊战执扩扫扬护报拥择挂挡挥损换摇敌晒术杀杂权极构枪标栋档桥梦检楼欢"
    "汉汤沟泪洁洒浇测浓涂润涨渐湿滚滩]|一只|没有|不要|不带|不戴|十二|一对"
)

# Letters, and elided articles, that tell as much as a word does.
_TELLING = {
    "de": re.compile("[äöüß]"),
    "fr": re.compile("[çœèêëîûàâù]|\\b(?:[ldncsj]|qu)['’]\\w"),
    "es": re.compile("[ñ¿¡]|ción\\b|[áéíóú]\\w*(?:o|a|os|as)\\b"),
    "it": re.compile("\\b(?:dell|all|nell|sull|dall|un)['’]\\w|zione\\b|[àèìòù]\\b"),
    "pt": re.compile("[ãõ]|ção\\b|ções\\b|[âêô]"),
    "nl": re.compile("ij|aa|uu|\\bgeen\\b"),
    "pl": re.compile("[ąęłńśźż]"),
    "sv": re.compile("å"),
    "tr": re.compile("[ğış]"),
    "vi": re.compile("[\u1ea0-\u1ef9đơư]"),
    "cs": re.compile("[ěřů]"),
}
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {}
for _language, _words in WORDS.items():
    for _word in dict.fromkeys(_words.split()):
        _LANGUAGES_OF[_word] = (*_LANGUAGES_OF.get(_word, ()), _language)
_BY_SCRIPT = {
    "cyrillic": "ru", "greek": "el", "hebrew": "he", "arabic": "ar", "devanagari": "hi", "thai": "th", "hangul": "ko",
}  # fmt: skip
NAMES = {
    "en":
    "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "nl": "Dutch",
    "ru": "Russian", "el": "Greek", "he": "Hebrew", "ar": "Arabic", "hi": "Hindi", "th": "Thai", "ko": "Korean",
    "zh": "Chinese", "ja": "Japanese", "pl": "Polish", "sv": "Swedish", "tr": "Turkish", "id": "Indonesian",
    "vi": "Vietnamese", "cs": "Czech",
}  # fmt: skip


_MIN_LETTERS = 8
_WORD_WEIGHT = 3.0
"""What a telling word adds to the log-likelihood of its language, in nats."""
_MARGIN = 3.0
"""By how much the likeliest language has to lead before it is believed, in nats."""
_LEAN = 1.0
"""By how much for a guess."""
LATIN = frozenset(language for language, words in WORDS.items() if len(words) >= 500)
"""Languages in Latin letters that are known well enough to spell by."""


def scripts(text: str) -> dict[str, float]:
    """Share of each script among the letters of `text`. Han and kana count threefold: a character says more."""
    weights = {"han": 3, "kana": 3, "hangul": 2}
    counts = {name: len(letters.findall(text)) * weights.get(name, 1) for name, letters in _LETTERS.items()}
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items() if count} if total else {}


def detect_language(text: str) -> str | None:
    """Two-letter code of the language most of `text` is in; None where that cannot be told."""
    if text.isascii():
        return _latin(text)
    share = scripts(text)
    if not share:
        return None
    east = share.get("han", 0) + share.get("kana", 0)
    if east >= 0.5:
        if share.get("kana", 0) >= 0.08 * east:
            return "ja"
        # Japanese without kana is short; longer Han text, and what only Chinese writes, is Chinese.
        return "zh" if _CHINESE.search(text) or len(_LETTERS["han"].findall(text)) >= 12 else None
    script = max(share, key=lambda name: share[name])
    if share[script] < 0.6:
        return None
    return _latin(text) if script == "latin" else _BY_SCRIPT.get(script)


def lean(text: str) -> str | None:
    """The language that `text` in Latin letters seems to be in, though not surely enough for `detect_language`."""
    words = _WORD.findall(text.lower())
    return _by_letters(words, _by_words(text.lower(), words), _LEAN)


def _latin(text: str) -> str | None:
    text = text.lower()
    words = _WORD.findall(text)
    score = _by_words(text, words)
    if score:
        best, *others = sorted(score, key=lambda language: -score[language])
        runner_up = score[others[0]] if others else 0
        # One telling word is enough where nothing speaks against it.
        enough = score[best] >= 2 or runner_up == 0
        if enough and score[best] >= 0.12 * len(words) and score[best] > 1.25 * runner_up:
            return best
    return _by_letters(words, score, _MARGIN)


def _by_words(text: str, words: list[str]) -> dict[str, float]:
    """How many words, and letters, of `text` tell of each language."""
    score: dict[str, float] = {}
    for word in words:
        languages = _LANGUAGES_OF.get(word, ())
        for language in languages:  # a word of one language says more than one that many share
            score[language] = score.get(language, 0) + (1 if len(languages) < 3 else 0.7)
    if not text.isascii() or "'" in text or "ij" in text:
        for language, letters in _TELLING.items():
            if letters.search(text):
                score[language] = score.get(language, 0) + 1
    return score


def _by_letters(words: list[str], score: dict[str, float], margin: float) -> str | None:
    """The language whose words are spelled like these; None where two are about as likely, or there are few letters.

    Naive Bayes over the trigrams of letters in `WORDS`, with add-half smoothing, and `score` of the telling words.
    """
    if sum(len(word) for word in words) < _MIN_LETTERS:
        return None
    grams = [gram for word in words for gram in _trigrams(word)]
    chance = {
        language: sum(table.get(gram, floor) for gram in grams) + _WORD_WEIGHT * score.get(language, 0)
        for language, (table, floor) in _trigram_tables().items()
    }
    best, second = sorted(chance, key=lambda language: -chance[language])[:2]
    return best if chance[best] - chance[second] > margin else None


def _trigrams(word: str) -> list[str]:
    word = f" {word} "
    return [word[i : i + 3] for i in range(len(word) - 2)]


@cache
def _trigram_tables() -> dict[str, tuple[dict[str, float], float]]:
    """Of each language: log-probability by trigram, and that of a trigram it does not have."""
    tables = {}
    for language in LATIN:
        counts = Counter(gram for word in set(WORDS[language].split()) for gram in _trigrams(word))
        total = math.log(counts.total() + 0.5 * 8000)
        table = {gram: math.log(count + 0.5) - total for gram, count in counts.items()}
        tables[language] = (table, math.log(0.5) - total)
    return tables
