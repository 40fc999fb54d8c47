"""Number words of the languages that the guard counts in; Chinese and Japanese are read by their characters instead."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

_FROM_ZERO = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty",
    "de": "null ein/eins/eine/einen/einem/einer zwei/zwo drei vier fünf/fuenf sechs sieben acht neun zehn elf "
    "zwölf/zwoelf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig",
    "fr": "zéro un/une deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize - - - "
    "vingt/vingts",
    "es": "cero un/uno/una dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince "
    "dieciséis diecisiete dieciocho diecinueve veinte",
    "it": "zero un/uno/una due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici "
    "quindici sedici diciassette diciotto diciannove venti",
    "pt": "zero um/uma dois/duas três quatro cinco seis sete oito nove dez onze doze treze catorze/quatorze quinze "
    "dezesseis/dezasseis dezessete/dezassete dezoito dezenove/dezanove vinte",
    "nl": "nul een/één twee drie vier vijf zes zeven acht negen tien elf twaalf dertien veertien vijftien zestien "
    "zeventien achttien negentien twintig",
    "ru": "ноль один/одна/одно/одного/одной/одну/одним два/две/двух/двумя/двум/двое/двоих три/трёх/трех/тремя/трём/"
    "трем/трое/троих четыре/четырёх/четырех/четырьмя/четверо пять/пяти/пятью/пятеро шесть/шести/шестью/шестеро "
    "семь/семи/семью/семеро восемь/восьми/восемью девять/девяти/девятью десять/десяти/десятью одиннадцать/"
    "одиннадцати двенадцать/двенадцати тринадцать/тринадцати четырнадцать/четырнадцати пятнадцать/пятнадцати "
    "шестнадцать/шестнадцати семнадцать/семнадцати восемнадцать/восемнадцати девятнадцать/девятнадцати "
    "двадцать/двадцати/двадцатью",
    "ar": "صفر واحد/واحدة اثنان/اثنين/اثنتان/اثنتين/إثنان/إثنين/اثنا/اثني/اثنتا/اثنتي ثلاث/ثلاثة "
    "أربع/أربعة/اربع/اربعة خمس/خمسة ست/ستة سبع/سبعة ثمان/ثماني/ثمانية تسع/تسعة عشر/عشرة",
    "hi": "शून्य एक दो तीन चार पाँच/पांच छह/छः/छै/छे सात आठ नौ दस ग्यारह बारह तेरह चौदह पंद्रह/पन्द्रह सोलह सत्रह अठारह उन्नीस बीस "
    "इक्कीस बाईस तेईस चौबीस पच्चीस छब्बीस सत्ताईस अट्ठाईस उनतीस तीस इकतीस बत्तीस तैंतीस चौंतीस पैंतीस छत्तीस सैंतीस अड़तीस उनतालीस "
    "चालीस इकतालीस बयालीस तैंतालीस चौवालीस पैंतालीस छियालीस सैंतालीस अड़तालीस उनचास पचास इक्यावन बावन तिरपन चौवन पचपन छप्पन "
    "सत्तावन अट्ठावन उनसठ साठ इकसठ बासठ तिरसठ चौंसठ पैंसठ छियासठ सड़सठ अड़सठ उनहत्तर सत्तर इकहत्तर बहत्तर तिहत्तर चौहत्तर पचहत्तर "
    "छिहत्तर सतहत्तर अठहत्तर उन्यासी अस्सी इक्यासी बयासी तिरासी चौरासी पचासी छियासी सत्तासी अट्ठासी नवासी नब्बे इक्यानवे बानवे "
    "तिरानवे चौरानवे पंचानवे छियानवे सत्तानवे अट्ठानवे निन्यानवे",
}
_TENS = {  # from thirty on
    "en": "thirty forty fifty sixty seventy eighty ninety",
    "de": "dreißig/dreissig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "fr": "trente quarante cinquante soixante septante - nonante",
    "es": "treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    "it": "trenta quaranta cinquanta sessanta settanta ottanta novanta",
    "pt": "trinta quarenta cinquenta sessenta setenta oitenta noventa",
    "nl": "dertig veertig vijftig zestig zeventig tachtig negentig",
    "ru": "тридцать/тридцати сорок/сорока пятьдесят/пятидесяти шестьдесят/шестидесяти семьдесят/семидесяти "
    "восемьдесят/восьмидесяти девяносто/девяноста",
    "ar": "ثلاثون/ثلاثين أربعون/أربعين خمسون/خمسين ستون/ستين سبعون/سبعين ثمانون/ثمانين تسعون/تسعين",
}
_HUNDREDS = {  # from two hundred on
    "es": "doscient trescient cuatrocient quinient seiscient setecient ochocient novecient",
    "pt": "duzent trezent quatrocent quinhent seiscent setecent oitocent novecent",
    "ru": "двести триста четыреста пятьсот шестьсот семьсот восемьсот девятьсот",
    "it": "duecento trecento quattrocento cinquecento seicento settecento ottocento novecento",
}
_SCALES = {
    "en": {"hundred": 100, "thousand": 1000, "million": 1_000_000},
    "de": {"hundert": 100, "tausend": 1000},
    "fr": {"cent": 100, "cents": 100, "mille": 1000},
    "es": {"cien": 100, "ciento": 100, "mil": 1000},
    "it": {"cento": 100, "mille": 1000, "mila": 1000},
    "pt": {"cem": 100, "cento": 100, "mil": 1000},
    "nl": {"honderd": 100, "duizend": 1000},
    "ru": {"сто": 100, "ста": 100, "тысяча": 1000, "тысячи": 1000, "тысяч": 1000},
    "ar": {"مئة": 100, "مائة": 100, "ألف": 1000, "آلاف": 1000},
    "hi": {"सौ": 100, "हज़ार": 1000, "हजार": 1000, "लाख": 100_000},
}
_DOZENS = {
    "en": {"dozen": 12}, "de": {"dutzend": 12}, "fr": {"douzaine": 12, "dizaine": 10, "vingtaine": 20},
    "es": {"docena": 12}, "it": {"dozzina": 12}, "pt": {"dúzia": 12}, "nl": {"dozijn": 12},
    "ru": {"дюжина": 12, "дюжину": 12, "полдюжины": 6}, "hi": {"दर्जन": 12},
}  # fmt: skip
_PLURALS = {"fr": "douzaines", "es": "docenas", "it": "dozzine", "pt": "dúzias", "ru": "дюжины"}
_AND = {"en": "and", "de": "und", "fr": "et", "es": "y", "pt": "e"}
_HALVES = {
    "en": (("and", "a", "half"),), "de": (), "fr": (("et", "demi"), ("et", "demie")),
    "es": (("y", "media"), ("y", "medio")), "it": (("e", "mezzo"), ("e", "mezza")),
    "pt": (("e", "meia"), ("e", "meio")), "ru": (("с", "половиной"),), "ar": (("ونصف",), ("والنصف",)),
}  # fmt: skip
HALF = frozenset(["half", "halbes", "halben", "halbe", "demi", "demie", "media", "mezza", "meia", "पौन", "आधा", "आधे"])
"""Words for a half that stand before a dozen, or near it."""

# Said in passing they count as the number, but need not come back.
_HINTS = {
    2: "both pair pairs couple twin twins duo double twice another other second half beide beiden beider paar pärchen "
    "zweite zweiter zweiten paire couple jumeaux jumelles deuxième ambos ambas par pareja segundo segunda gemelos оба "
    "обе обоих пара пару пары парой близнецы вторая второй زوج زوجان زوجين كلا كلتا entrambi entrambe coppia paio "
    "secondo "
    "gemelli gêmeos casal tweede beide tweeling दोनों जोड़ी जोड़ा जोड़े दूसरा दूसरे दूसरी जुड़वाँ",
    3: "trio triple triplet triplets third thrice dritte dritter troisième tercer tercero trío тройка тройку третий "
    "третья terzo terza terceiro terceira derde तीनों तीसरा तीसरी",
    4: "quartet quadruple fourth vierte quatrième cuarto четвёртый चारों quarto",
    5: "quintet fifth fünfte cinquième quinto пятый",
    6: "sixth sechste sixième sexto", 7: "seventh siebte septième séptimo", 8: "eighth achte huitième octavo",
    9: "ninth neunte neuvième noveno", 10: "tenth zehnte dixième décimo decade", 12: "twelfth",
}  # fmt: skip
_DECADES = {
    "twenties": 20, "thirties": 30, "forties": 40, "fifties": 50, "sixties": 60, "seventies": 70, "eighties": 80,
    "nineties": 90, "тридцатых": 30, "сороковых": 40, "пятидесятых": 50, "шестидесятых": 60, "семидесятых": 70,
    "восьмидесятых": 80, "девяностых": 90,
}  # fmt: skip


@dataclass(frozen=True)
class Lexicon:
    """How one language counts."""

    words: dict[str, float]
    scales: dict[str, int]
    """Words that multiply what stands before them, or stand for themselves."""
    dozens: dict[str, int]
    joiner: str | None
    """What may stand between tens and units."""
    halves: tuple[tuple[str, ...], ...]
    """What stands behind a number and adds a half."""


def _table(language: str) -> dict[str, float]:
    words: dict[str, float] = {}
    for value, forms in enumerate(_FROM_ZERO[language].split()):
        words |= dict.fromkeys(forms.split("/"), float(value))
    for step, forms in enumerate(_TENS.get(language, "").split()):
        words |= dict.fromkeys(forms.split("/"), 30.0 + 10 * step)
    for step, stem in enumerate(_HUNDREDS.get(language, "").split()):
        endings = ("os", "as") if language in ("es", "pt") else ("",)
        words |= {stem + ending: 200.0 + 100 * step for ending in endings}
    if language == "ar":
        words |= {"عشرون": 20.0, "عشرين": 20.0}
    if language in ("de", "nl"):
        words |= _germanic(language, words)
    if language == "es":
        units = ["uno", "dós", "trés", "cuatro", "cinco", "séis", "siete", "ocho", "nueve"]
        words |= {f"veinti{unit}": 21.0 + step for step, unit in enumerate(units)}
    if language == "it":
        tens = {word: value for word, value in words.items() if value in range(20, 100, 10)}
        units = ["uno", "due", "tré", "quattro", "cinque", "sei", "sette", "otto", "nove"]
        for ten, of_ten in tens.items():
            for step, unit in enumerate(units, 1):
                words[(ten[:-1] if unit[0] in "uo" else ten) + unit] = of_ten + step
    words.pop("-", None)
    return {unicodedata.normalize("NFC", word): value for word, value in words.items()}


def _germanic(language: str, words: dict[str, float]) -> dict[str, float]:
    """Einundzwanzig, tweeëntwintig; zweieinhalb."""
    joint = "und" if language == "de" else "en"
    tens = {word: value for word, value in words.items() if value >= 20}
    units = {word: value for word, value in words.items() if 1 < value < 10}
    units |= {"ein": 1.0} if language == "de" else {"een": 1.0, "één": 1.0}
    # "tweeën": the diaeresis keeps two e apart.
    made = {
        f"{unit}{'ën' if language == 'nl' and unit.endswith('e') else joint}{ten}": u + t
        for unit, u in units.items()
        for ten, t in tens.items()
    }
    if language == "de":
        made |= {f"{unit}einhalb": u + 0.5 for unit, u in units.items()} | {"anderthalb": 1.5}
    return made


LEXICONS = {
    language: Lexicon(
        _table(language) | {word: float(value) for word, value in _DOZENS.get(language, {}).items()},
        {unicodedata.normalize("NFC", word): value for word, value in _SCALES.get(language, {}).items()},
        _DOZENS.get(language, {}) | ({_PLURALS[language]: 12} if language in _PLURALS else {}),
        _AND.get(language),
        tuple(_HALVES.get(language, ())),
    )
    for language in _FROM_ZERO
}

_in_passing: dict[str, frozenset[float]] = {}
for _value, _forms in _HINTS.items():
    for _word in _forms.split():
        _in_passing[unicodedata.normalize("NFC", _word)] = frozenset({float(_value)})
for _word, _value in _DECADES.items():
    _in_passing[_word] = frozenset({float(_value), 1900.0 + _value})

IN_PASSING = _in_passing
"""Words of any language that name a number in passing, with its readings."""
NUMBER_WORDS = frozenset(word for lexicon in LEXICONS.values() for word in (*lexicon.words, *lexicon.scales))
"""Every number word of any language."""
