"""Which language a short text is in: by script, and for Latin letters by small common words.

Not covered: languages that share a script other than Latin (Russian and Ukrainian, Arabic and Persian), and Latin ones
beyond those listed. What cannot be told is None, and then nothing is claimed.
"""

from __future__ import annotations

import re

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
_SIMPLIFIED = re.compile(
    "[们这个红绿马鸟鱼车门东龙风飞书长头发两张岁边阳给爱艺术树笼过还热场务开关样细丝围间吗呢她你它]"  # not Japanese
)

# Small words, and some that prompts are full of. A word that two of these languages share counts for both.
_COMMON = {
    "en": (
        "the a an of and with in on at is are to from by under over above below near behind beside between its "
        "his her their this that no not without for as into says reading wearing holding sitting standing riding "
        "playing showing red blue green yellow black white small large big two three four five cat dog woman man "
        "girl boy house tree photo painting style background light dark old young just any only around all each "
        "some full made"
    ),
    "de": (
        "der die das ein eine einen einem einer und mit im am auf ist sind von zu zum zur unter über neben hinter "
        "vor zwischen ohne kein keine keinen für als aus nicht nur dem den des rot rote roter rotes blau blaue "
        "blauer grün grüne gelb gelbe schwarze weiße kleine kleiner große großer zwei drei vier fünf katze hund "
        "frau mann haus baum bild stil"
    ),
    "fr": (
        "le la les un une des du de et avec dans sur est sont au aux sous près contre derrière devant entre sans "
        "pas pour par qui en son sa ses rouge bleu bleue vert verte jaune noir noire blanc blanche petit petite "
        "grand grande deux trois quatre cinq chien chatte femme homme maison arbre style lumière fond mur"
    ),
    "es": (
        "el la los las un una unos unas de del y con en sobre es son al bajo cerca detrás delante entre sin no "
        "para por que su sus rojo roja azul verde amarillo amarilla negro negra blanco blanca pequeño pequeña "
        "gran grande dos tres cuatro cinco gato gata perro mujer hombre casa árbol estilo luz fondo"
    ),
    "it": (
        "il lo la gli le un una di del della con in nel nella su sul sono al alla sotto vicino dietro davanti tra "
        "senza non per che suo sua rosso rossa blu verde giallo nero bianco piccolo grande due tre quattro gatto "
        "cane donna uomo casa albero stile luce sfondo"
    ),
    "pt": (
        "os as um uma de do da dos das com em na sobre são ao sob perto atrás entre sem não para por que seu sua "
        "vermelho vermelha azul verde amarelo preto branco pequeno grande dois duas três quatro gato cachorro "
        "mulher homem casa árvore estilo luz fundo"
    ),
    "nl": (
        "de het een en met in op zijn van naar onder over naast achter voor tussen zonder geen niet als uit rood "
        "rode blauw blauwe groen groene gele zwart witte klein kleine grote twee drie vier vijf kat hond vrouw "
        "man huis boom stijl achtergrond licht"
    ),
}
# Letters, and elided articles, that tell as much as a word does.
_TELLING = {
    "de": re.compile("[äöüß]"),
    "fr": re.compile("[çœèêëîûàâ]|\\b(?:[ldncsj]|qu)['’]\\w"),
    "es": re.compile("[ñ¿¡]"),
    "pt": re.compile("[ãõ]"),
}
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {}
for _language, _words in _COMMON.items():
    for _word in _words.split():
        _LANGUAGES_OF[_word] = (*_LANGUAGES_OF.get(_word, ()), _language)
_BY_SCRIPT = {
    "cyrillic": "ru", "greek": "el", "hebrew": "he", "arabic": "ar", "devanagari": "hi", "thai": "th", "hangul": "ko",
}  # fmt: skip
NAMES = {
    "en":
    "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "nl": "Dutch",
    "ru": "Russian", "el": "Greek", "he": "Hebrew", "ar": "Arabic", "hi": "Hindi", "th": "Thai", "ko": "Korean",
    "zh": "Chinese", "ja": "Japanese",
}  # fmt: skip


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
        # Japanese without kana is short; longer or simplified Han text is Chinese.
        return "zh" if _SIMPLIFIED.search(text) or len(_LETTERS["han"].findall(text)) >= 12 else None
    script = max(share, key=lambda name: share[name])
    if share[script] < 0.6:
        return None
    return _latin(text) if script == "latin" else _BY_SCRIPT.get(script)


def _latin(text: str) -> str | None:
    text = text.lower()
    words = _WORD.findall(text)
    score: dict[str, int] = {}
    for word in words:
        for language in _LANGUAGES_OF.get(word, ()):
            score[language] = score.get(language, 0) + 1
    for language, letters in _TELLING.items():
        if letters.search(text):
            score[language] = score.get(language, 0) + 1
    if not score:
        return None
    best, *others = sorted(score, key=lambda language: -score[language])
    runner_up = score[others[0]] if others else 0
    # One telling word is enough where nothing speaks against it.
    enough = score[best] >= 2 or runner_up == 0
    return best if enough and score[best] >= 0.12 * len(words) and score[best] > 1.4 * runner_up else None
