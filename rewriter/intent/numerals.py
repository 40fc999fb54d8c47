"""Numbers in prompts: digits of any script, number words of several languages, pairs and dozens.

`required` numbers are what a rewrite must say again; `present` is the far wider set of what may count as saying it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rewriter.intent.base import Passage, Word, word_set

_FROM_ZERO = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty",
    "de": "null ein/eins/eine/einen/einem/einer zwei/zwo drei vier fünf/fuenf sechs sieben acht neun zehn elf "
    "zwölf/zwoelf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig",
    "fr": "zéro un/une deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize - - - "
    "vingt/vingts",
    "es": "cero un/uno/una dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince "
    "dieciséis diecisiete dieciocho diecinueve veinte",
    "it": "zero un/uno/una due tre quattro cinque sei sette otto nove dieci undici dodici",
    "pt": "zero um/uma dois/duas três quatro cinco seis sete oito nove dez onze doze",
    "nl": "nul een/één twee drie vier vijf zes zeven acht negen tien elf twaalf",
    "ru": "ноль один/одна/одно/одного/одной/одну/одним два/две/двух/двумя/двум/двое/двоих три/трёх/трех/тремя/трём/"
    "трем/трое/троих четыре/четырёх/четырех/четырьмя/четверо пять/пяти/пятью/пятеро шесть/шести/шестью/шестеро "
    "семь/семи/семеро восемь/восьми/восемью девять/девяти/девятью десять/десяти/десятью одиннадцать двенадцать "
    "тринадцать четырнадцать пятнадцать шестнадцать семнадцать восемнадцать девятнадцать двадцать/двадцати",
    "ar": "صفر واحد/واحدة اثنان/اثنين/اثنتان/اثنتين/إثنان/إثنين ثلاث/ثلاثة أربع/أربعة/اربع/اربعة خمس/خمسة ست/ستة "
    "سبع/سبعة ثمان/ثماني/ثمانية تسع/تسعة عشر/عشرة",
}
_TENS = {  # from thirty on
    "en": "thirty forty fifty sixty seventy eighty ninety",
    "de": "dreißig/dreissig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "fr": "trente quarante cinquante soixante",
    "es": "treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    "ru": "тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто",
}
_SCALES = {
    "en": {"hundred": 100, "thousand": 1000, "million": 1_000_000},
    "de": {"hundert": 100, "tausend": 1000},
    "fr": {"cent": 100, "cents": 100, "mille": 1000},
    "es": {"cien": 100, "ciento": 100, "mil": 1000},
    "ru": {"сто": 100, "тысяча": 1000},
}
_DOZENS = {
    "en": {"dozen": 12}, "de": {"dutzend": 12}, "fr": {"douzaine": 12, "dizaine": 10}, "es": {"docena": 12},
    "it": {"dozzina": 12}, "pt": {"dúzia": 12}, "ru": {"дюжина": 12, "дюжину": 12},
}  # fmt: skip
_AND = {"en": "and", "de": "und", "fr": "et", "es": "y", "pt": "e"}
# German zweier and dreistöckig, Russian двухэтажный; an Arabic dual, which has no prefix.
_PREFIXES = {
    "zwei": 2.0, "drei": 3.0, "vier": 4.0, "fünf": 5.0, "sechs": 6.0, "sieben": 7.0, "acht": 8.0,
    "двух": 2.0, "трёх": 3.0, "трех": 3.0, "четырёх": 4.0, "четырех": 4.0, "пяти": 5.0, "шести": 6.0,
}  # fmt: skip
_INFLECTED = re.compile(
    rf"\b(?:({'|'.join(_PREFIXES)})(?!und|zehn|zig|hundert|надцат|десят)\w{{2,}}|\w{{3,}}(?:ان|ين)\b)"
)
# Said in passing they count as the number, but need not come back.
_HINTS = {
    2: "both pair pairs couple twin twins duo double twice another other second half beide beiden beider paar pärchen "
    "zweite zweiter zweiten paire couple jumeaux jumelles deuxième ambos ambas par pareja segundo segunda gemelos оба "
    "обе обоих пара пару пары парой близнецы вторая второй زوج زوجان زوجين كلا كلتا",
    3: "trio triple triplet triplets third thrice dritte dritter troisième tercer tercero trío тройка тройку третий",
    4: "quartet quadruple fourth vierte quatrième cuarto четвёртый",
    5: "quintet fifth fünfte cinquième quinto пятый",
    6: "sixth sechste sixième sexto", 7: "seventh siebte septième séptimo", 8: "eighth achte huitième octavo",
    9: "ninth neunte neuvième noveno", 10: "tenth zehnte dixième décimo decade", 12: "twelfth",
}  # fmt: skip
_DECADES = {f"{ten}ies": n for n, ten in ((20, "twent"), (30, "thirt"), (40, "fort"), (50, "fift"), (60, "sixt"),
                                          (70, "sevent"), (80, "eight"), (90, "ninet"))}  # fmt: skip


_HUGE = 10**12
"""Larger numbers are noise: a model caught in a loop says million for ever."""


def _lexicon(language: str) -> dict[str, int]:
    words: dict[str, int] = {}
    for value, forms in enumerate(_FROM_ZERO[language].split()):
        words |= dict.fromkeys(forms.split("/"), value)
    for step, forms in enumerate(_TENS.get(language, "").split()):
        words |= dict.fromkeys(forms.split("/"), 30 + 10 * step)
    if language == "de":
        tens = {word: value for word, value in words.items() if value >= 20}
        units = {word: value for word, value in words.items() if 1 < value < 10} | {"ein": 1}
        words |= {f"{unit}und{ten}": u + t for unit, u in units.items() for ten, t in tens.items()}
    if language == "es":
        units = {"uno": 1, "dós": 2, "trés": 3, "cuatro": 4, "cinco": 5, "séis": 6, "siete": 7, "ocho": 8, "nueve": 9}
        words |= {f"veinti{unit}": 20 + value for unit, value in units.items()}
    return words | _DOZENS.get(language, {})


_WORDS = {language: _lexicon(language) for language in _FROM_ZERO}
_ANY: dict[str, frozenset[float]] = {}
for _table in (*_WORDS.values(), *_SCALES.values()):
    for _word, _value in _table.items():
        _ANY[_word] = _ANY.get(_word, frozenset()) | {float(_value)}
for _value, _forms in _HINTS.items():
    for _word in _forms.split():
        _ANY[_word] = _ANY.get(_word, frozenset()) | {float(_value)}
for _word, _value in _DECADES.items():
    _ANY[_word] = frozenset({float(_value), 1900.0 + _value})

# A digit run that belongs to a name (R2, #5) is no number; nor is what steers a program instead of the picture.
_DIGITS = re.compile(r"(?<![A-Za-z\u00c0-\u052f_#\d.])(\d+(?:[.,]\d+)*)(?!\d)([A-Za-zÀ-ÿ]*)")
_SETTINGS = re.compile(
    r"--\w+(?:\s+[\d.:x]+)?|<[^<>\n]*>|:\d+(?:\.\d+)?(?=\))|\b\d{3,5}\s?[x×*]\s?\d{3,5}\b"
    r"|\b(?:16:9|9:16|4:3|3:4|1:1|2:3|3:2|21:9|4:5|5:4|16:10)\b|\b100\s?%|\b\d+/\d+\b|\b\d+\s?[-–]\s?\d+\b"
    r"|\b(?:seed|steps|cfg|sampler)\s*[:=]?\s*\d+(?:\.\d+)?",
    re.IGNORECASE,
)
_DECADE = {"s", "er", "ern"}
_NOT_COUNTED = {"k", "d", "p", "st", "nd", "rd", "th", "x", "hd", "ème", "º", "ª"}
_CJK_DIGIT = dict(zip("〇零一二三四五六七八九两兩俩仨", (0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 2, 2, 3), strict=True))
_CJK_SCALE = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "萬": 10_000}
_CJK_NUMBER = re.compile("[〇零一二三四五六七八九两兩俩仨十百千万萬]+")
_CJK_COUNTED = re.compile(
    "(?<!第)(?<![〇零一二三四五六七八九两兩十百千万萬])([〇零一二三四五六七八九两兩十百千万萬]+)"
    "(?:个|個|只|隻|条|條|张|張|朵|位|名|匹|头|頭|辆|輛|座|把|本|件|颗|顆|棵|片|块|塊|根|支|枝|杯|瓶|碗|盘|盤|群|层|層|间|間|艘|架|台|臺"
    "|幅|串|束|扇|滴|粒|盏|盞|副|套|栋|棟|株|枚|岁|歲|歳|排|つ|羽|冊|軒|着|足|機|体|人(?!称|稱|物|工|生|间|間))"
)
_CJK_PAIR = re.compile("一[对對双雙](?!眼|手|鞋|靴|袜|翅|耳|筷|腿|脚|角|一)")
_CJK_HINTS = {
    2.0: ("对", "對", "双", "雙", "両", "ペア", "ふたつ", "ふたり"),
    3.0: ("みっつ",), 4.0: ("よっつ",), 5.0: ("いつつ",), 6.0: ("むっつ", "半打"), 7.0: ("ななつ",), 8.0: ("やっつ",),
    9.0: ("ここのつ",), 12.0: ("一打", "ダース"),
}  # fmt: skip
_PAIRED = word_set(
    "glasses sunglasses spectacles goggles shoes boots sneakers sandals slippers heels gloves mittens socks stockings "
    "jeans pants trousers shorts leggings overalls scissors pliers tweezers tongs headphones earphones earbuds "
    "earrings binoculars eyes hands legs arms wings ears feet horns antlers lips skis skates dice chopsticks crutches "
    "handcuffs curtains suspenders pajamas tights"
)
_FRACTIONS = {"quarter", "quarters", "third", "thirds", "fifths", "dimensional", "fourths", "eighths", "point", "d"}
_BEFORE_TWO = {"the", "these", "those", "between", "other", "last", "first"}
_VAGUE = {"or", "to", "oder", "bis", "ou", "à", "o", "u", "или", "أو"}
_DENIED = {"not", "no", "never", "nicht", "pas", "не"}


@dataclass(frozen=True)
class Number:
    """A number as it stands in a text. `values` are its possible readings; `last` the index of its last word, or -1."""

    values: frozenset[float]
    start: int
    end: int
    last: int = -1


def required(passage: Passage) -> list[Number]:
    """The numbers of an original that a rewrite has to keep: two and more, said exactly, about the picture."""
    hidden = [match.span() for match in _SETTINGS.finditer(passage.plain)]
    numbers = [*_digits(passage, strict=True), *_spelled(passage, strict=True), *_cjk(passage)]
    return [
        number
        for number in sorted(numbers, key=lambda number: number.start)
        if min(number.values) >= 2 and not any(start < number.end and number.start < end for start, end in hidden)
    ]


def present(passage: Passage) -> set[float]:
    """All numbers that a rewrite may be said to name."""
    values = {value for number in _digits(passage, strict=False) for value in number.values}
    for language in {passage.language or "en", "en"} & _WORDS.keys():
        values |= {value for number in _spelled(passage, strict=False, language=language) for value in number.values}
    for word in passage.words:
        if word.text in _ANY:
            values |= _ANY[word.text]
    for match in _INFLECTED.finditer(passage.plain.lower()):
        values.add(_PREFIXES.get(match[1], 2.0))
    if not passage.plain.isascii():
        for match in _CJK_NUMBER.finditer(passage.plain):
            values |= {_read_cjk(match[0]), *(float(_CJK_DIGIT[ch]) for ch in match[0] if ch in _CJK_DIGIT)}
        for value, hints in _CJK_HINTS.items():
            if any(hint in passage.plain for hint in hints):
                values.add(value)
    return values


def counted(passage: Passage) -> Iterator[Number]:
    """Every exact count, one included, with the place of its last word: for what stands behind it."""
    yield from _digits(passage, strict=True)
    yield from _spelled(passage, strict=True)


def _digits(passage: Passage, *, strict: bool) -> Iterator[Number]:
    matches = list(_DIGITS.finditer(passage.plain))
    at = {word.start: i for i, word in enumerate(passage.words)} if matches else {}
    for match in matches:
        suffix = match[2].lower()
        if strict and (suffix in _NOT_COUNTED or (suffix and match[1] == "1")):
            continue
        value = _read_digits(match[1])
        values = frozenset({value})
        if suffix in _DECADE and value % 10 == 0:  # the 80s, the 1980s, in den 80ern
            values = frozenset({value % 100, 1900 + value % 100})
        yield Number(values, match.start(), match.end(1), at.get(match.start(), -1))


def _read_digits(text: str) -> float:
    if re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", text):
        return float(re.sub("[.,]", "", text))
    head, *tail = re.split("[.,]", text)
    return float(f"{head}.{''.join(tail) or 0}")


def _spelled(passage: Passage, *, strict: bool, language: str | None = None) -> Iterator[Number]:
    """Number words, compounds put together: twenty-five, two hundred and six, quatre-vingts."""
    language = language or passage.language or "en"
    table, scales = _WORDS.get(language), _SCALES.get(language, {})
    if table is None:
        return
    words = passage.words
    done = 0
    for start, first in enumerate(words):
        value = table.get(first.text)
        if value is None and language == "ar":
            value = _value_of(first.text, table, language)
        if value is None or start < done:
            continue
        i = start
        while i + 1 < len(words) and not words[i].ends_clause and value < _HUGE:
            step = 2 if words[i + 1].text == _AND.get(language) and i + 2 < len(words) and value >= 20 else 1
            following = words[i + step].text
            more = _value_of(following, table, language)
            if following in scales and step == 1:
                value = value * scales[following]
            elif following in _DOZENS.get(language, {}) and step == 1:
                value = value * _DOZENS[language][following]
            elif language == "fr" and value == 4 and following in ("vingt", "vingts") and step == 1:
                value = 80
            elif more is not None and _adds(value, more, language):
                value += more
            else:
                break
            i += step
        done = i + 1
        if value == 12 and "half" in {word.text for word in words[max(0, start - 2) : start]}:
            value = 6  # half a dozen
        if not (strict and _is_loose(words, start, i, value, language)):
            yield Number(frozenset({float(value)}), first.start, words[i].end, i)


def _value_of(word: str, table: dict[str, int], language: str) -> int | None:
    if language == "ar" and word not in table and word[:1] in ("و", "ب", "ف", "ل"):
        word = word[1:]
    return table.get(word)


def _adds(value: int, more: int, language: str) -> bool:
    if 0 < more < 10 and 20 <= value < 100 and value % 10 == 0:
        return True
    if language == "fr" and 10 <= more < 20 and value in (60, 80):
        return True
    if language == "fr" and value % 100 == 10 and more in (7, 8, 9):
        return True
    return value >= 100 and value % 100 == 0 and 0 < more < 100


def _is_loose(words: tuple[Word, ...], start: int, end: int, value: int, language: str) -> bool:
    """Whether a number word is idiom, range, fraction or back-reference rather than an exact count."""
    before = words[start - 1].text if start else ""
    after = words[end + 1].text if end + 1 < len(words) and not words[end].ends_clause else ""
    after2 = words[end + 2].text if after and end + 2 < len(words) and not words[end + 1].ends_clause else ""
    if before in _DENIED or before in _VAGUE or after in _FRACTIONS:
        return True
    if after in _VAGUE and (_ANY.get(after2) or after2.isdigit() or after2 == "more"):
        return True
    if value == 2 and before in _BEFORE_TWO:
        return True
    # "neuf" is also French for new, and then stands behind its noun.
    return language == "fr" and value == 9 and not after.endswith(("s", "x"))


def pairs(passage: Passage) -> Iterator[Number]:
    """ "a pair of …", where the pair is more than a manner of speaking (a pair of jeans)."""
    words = passage.words
    for i in range(len(words) - 2):
        of_a_kind = words[i].text == "pair" and words[i + 1].text == "of"
        if of_a_kind and not any(word.text in _PAIRED for word in words[i + 2 : i + 6]):
            yield Number(frozenset({2.0}), words[i].start, words[i].end, i + 1)


def _cjk(passage: Passage) -> Iterator[Number]:
    if passage.plain.isascii():
        return
    for match in _CJK_COUNTED.finditer(passage.plain):
        if match[1][0] in "百千万萬" or re.search("[一二三四五六七八九两][一二三四五六七八九]", match[1]):
            continue  # thousands as a manner of speaking; "three or four"
        yield Number(frozenset({_read_cjk(match[1])}), match.start(), match.end())
    for match in _CJK_PAIR.finditer(passage.plain):
        yield Number(frozenset({2.0}), match.start(), match.end())


def _read_cjk(text: str) -> float:
    total, section, digit = 0, 0, 0
    for char in text:
        if char in _CJK_DIGIT:
            digit = _CJK_DIGIT[char]
        elif _CJK_SCALE[char] == 10_000:
            total, section, digit = (total + section + digit) * 10_000, 0, 0
        else:
            section += (digit or 1) * _CJK_SCALE[char]
            digit = 0
    return float(min(total + section + digit, _HUGE))
