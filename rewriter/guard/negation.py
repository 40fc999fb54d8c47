"""Negations: what the user does not want is left out, or said to be absent; it is never described as present.

Looked for: no X, without X, X-free, not a X, "don't add X", X is not Y and their like in English, German, French,
Spanish, Italian, Portuguese, Dutch, Russian and Arabic; `negation_east` knows Chinese, Japanese, Korean and Hindi. Not
looked for: double negation, and absence said by other words ("bare-headed").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from rewriter.guard import negation_east
from rewriter.guard.base import Case, Finding, Passage, Word, singular, word_set


@dataclass(frozen=True)
class _Grammar:
    """How one language denies a thing by words before it."""

    cues: frozenset[str]
    """Words behind which a denied noun phrase begins."""
    skipped: frozenset[str]
    """What may stand between a cue and the noun phrase."""
    noun_first: bool = False
    """Whether the noun comes before its adjectives."""
    capital_nouns: bool = False
    negators: frozenset[str] = frozenset()
    """Words that deny the verb behind them: no quiero flores."""
    verbs: frozenset[str] = frozenset()
    """Those verbs, where what follows is a thing to be left out."""
    predicate: re.Pattern[str] | None = None
    """A quality that something does not have: n'est pas verte."""


_PREDICATE_END = r"\s+([^\W\d_]{3,})(?=\s*(?:[,.;!?]|$|(?:sino|mais|ma|mas|sondern|maar|aber|but|а)\b))"


def _predicate(cue: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{cue}){_PREDICATE_END}", re.IGNORECASE)


_EN = _Grammar(
    word_set("no without lacking excluding avoid exclude omit minus zero neither"),
    word_set(
        "any a an the some single visible of his her its their my your sign signs trace traces hint kind type sort "
        "even actual real"
    ),
    negators=word_set("not isn't aren't doesn't don't never"),
    verbs=word_set("wearing wear holding hold carrying carry having have using use include add draw show want put"),
    predicate=_predicate(r"nothing (?:is|looks)|(?:isn|aren|wasn|doesn|don)['’]t"),
)
_GRAMMARS = {
    "en": _EN,
    "de": _Grammar(
        word_set("ohne kein keine keinen keiner keinem keinerlei weder"),
        word_set("jede jeden jegliche jeglichen irgendwelche einen eine ein den die das sichtbare sichtbaren"),
        capital_nouns=True,
        predicate=_predicate("nicht"),
    ),
    "fr": _Grammar(
        word_set("sans aucun aucune ni"),
        word_set("aucun aucune un une le la les de du des"),
        noun_first=True,
        predicate=_predicate(r"n['’](?:est|sont|était) pas"),
    ),
    "es": _Grammar(
        word_set("sin ningún ninguna ningun hay nada ni"),
        word_set("ningún ninguna un una el la los las de"),
        noun_first=True,
        negators=word_set("no jamás nunca"),
        verbs=word_set("quiero pongas pongan añadas incluyas dibujes muestres tiene tienen lleva llevan usa haya veo"),
        predicate=_predicate("no (?:es|son|está|están)"),
    ),
    "it": _Grammar(
        word_set("senza nessun nessuna niente né"),
        word_set("alcun alcuna un una il la i le di"),
        noun_first=True,
        negators=word_set("non mai"),
        verbs=word_set("voglio aggiungere mettere disegnare mostrare ha hanno porta usa ci"),
        predicate=_predicate("non (?:è|sono)"),
    ),
    "pt": _Grammar(
        word_set("sem nenhum nenhuma nem"),
        word_set("nenhum nenhuma um uma o a os as de"),
        noun_first=True,
        negators=word_set("não nunca jamais"),
        verbs=word_set("quero coloque adicione inclua desenhe mostre tem têm usa usam há ponha leva"),
        predicate=_predicate("não (?:é|são|está|estão)"),
    ),
    "nl": _Grammar(word_set("zonder geen noch"), word_set("enige een de het"), predicate=_predicate("niet")),
    "ru": _Grammar(
        word_set("без нет никаких ни"),
        word_set("единого единой одного одной всяких каких-либо любых видимых"),
        negators=word_set("не"),
        verbs=word_set("рисуй рисуйте добавляй добавляйте показывай надо нужно хочу включай изображай"),
        predicate=_predicate("не"),
    ),
    "ar": _Grammar(
        word_set("بدون بلا دون وبدون وبلا"),
        word_set("أي اي"),
        noun_first=True,
        negators=word_set("لا ولا"),
        verbs=word_set("يوجد توجد تضع ترسم تضف تظهر أريد"),
    ),
}
_STOPS = word_set(
    "and or nor but with in on at to from by under over near behind beside between for is are as that which who into "
    "onto around against inside outside above below visible present anywhere allowed whatsoever please just only "
    "wearing while when where there here then than also was were be being can will should within along across through "
    "und oder mit im am auf unter über neben von vor hinter aber et ou avec dans sur sous ni mais y o con en sobre "
    "pero и или с на в под над но e ed com su في على مع أو و من ins an beim vom zum zur durch um nach bei aus in "
    "während als "
    "wie da mehr only только nur solo só sólo alleen maar bij op van met voor en of naast onder но он она dans en "
    "na no nas "
    "nos num numa nel nella sul sulla por para par pour desde hasta ما لكن فقط"
)
_LISTS = word_set("or nor oder noch ou ni o или أو")
# No more than three, no longer, no other people: nothing is denied.
_NOT_DENIED = word_set("longer matter more less fewer doubt idea need problem other others such later sooner wonder")
# Words for which a good rewrite finds a positive side: no background becomes a plain white background.
_TOO_GENERAL = word_set(
    "background backgrounds color colors colour colours light lighting detail details style effect effects expression "
    "emotion emotions look way thing things end limit limits time sense idea problem hintergrund fond fondo фона фон "
    "one else filter filters distractions clutter"
)
_NOUNS_IN_ING = word_set(
    "clothing ceiling building ring string painting writing lettering lighting railing wing king earring icing swing "
    "being thing spring lightning awning"
)
_DO_NOT = re.compile(
    r"\b(?:do not|don't|don’t|please no|never) (?:include|add|draw|show|use|put|want|have|paint|place|render)\b",
    re.IGNORECASE,
)
_NOT_A = re.compile(r"\b(?:not|(?:is|are|was|does|do)n['’]t) (?:an?|any)\b", re.IGNORECASE)
_NOT_PLAIN = re.compile(r"\b(?:not|nothing) ([^\W\d_]{3,})(?=\s*(?:[,.;!?]|$| but\b))", re.IGNORECASE)
_PLAIN_EXCEPTIONS = word_set(
    "only just too very quite far yet even much sure necessarily else special moving shown visible"
)
_NOBODY = re.compile(
    r"\b(?:no one|nobody|no-one)\b(?=\s*(?:[,.;!?]|$)|\s+(?:there|around|in|on|at|inside|outside|visible|present)\b)",
    re.IGNORECASE,
)
_FREE = re.compile(r"\b([^\W\d_]{3,})-free\b", re.IGNORECASE)
_FREE_EXCEPTIONS = word_set("hands care duty royalty trouble worry stress hassle")
_CUE = re.compile(
    r"(?:no|not|non|never|none|nor|neither|nothing|nobody|nowhere|zero|without|cannot|\w+n't"
    r"|ohne|kein\w*|nicht|weder|noch|sans|pas|aucun\w*|ni|jamais|sin|jamás|nunca|nooit|никогда|ningun\w*|ningún"
    r"|nada|tampoco|senza|né|sem|nem|não"
    r"|nessun\w*|nenhum\w*|niente|zonder|geen|niet|без|нет|не|ни|никак\w*|بدون|بلا|دون|لا|ولا|ليس|وليس|وبدون|وبلا"
    r"|يخلو|تخلو)"
)
"""Words that deny all that follows them, lists included."""
_WEAK_CUE = re.compile(
    r"(?:lack\w*|devoid|void|absen\w+|avoid\w*|exclud\w*|omit\w*|eliminat\w*|remov\w*|prevent\w*|instead|rather"
    r"|free|bare"
    r"|empty|deserted|minus|replac\w*|stripped|clear|missing|miss\w*|hid\w*|left|un(?:adorned|touched|marked"
    r"|obstructed"
    r"|cluttered|spoiled|broken)|frei|leer\w*|statt|fehl\w*|point|exempt\w*|vide|dépourvu\w*|libre|vací\w+|carente"
    r"|ausencia"
    r"|falta\w*|manca\w*|libero|vrij|leeg|отсутств\w*|пуст\w*|лишен\w*|лишён\w*|вместо|свобод\w*|غياب|غير|خال|خالية"
    r"|خالي)"
)
"""Words that deny what follows in the same clause."""
_CUE_BEHIND = word_set(
    "free less absent omitted missing excluded removed nowhere not none gone lacking avoided invisible frei fehlt "
    "nicht niet "
    "fehlen absente absents absentes absent ausente ausentes отсутствует отсутствуют нет"
)
_ASSERTS = word_set(
    "with wearing wears holding has have having featuring showing carrying but includes including contains mit trägt "
    "aber avec mais con pero с но مع"
)
_STRICT = word_set(
    "no not never nobody none nothing without one nicht kein keine keinen ohne ne pas sans sin не без никто لا لم بدون"
)
_MOST = 64
"""Denied things looked at; a text with more of them is a loop, not a prompt."""
_ELIDED = re.compile(r"^(?:[dlnscjmt]|qu)'")


@dataclass(frozen=True)
class _Denied:
    """A thing the user does not want: its noun last, what narrows it down before that."""

    words: tuple[str, ...]
    start: int
    end: int


def negations(case: Case) -> Iterator[Finding]:
    """Nothing that the original denies is described as present."""
    told = set()
    language = case.original.language
    if case.original.is_cjk or language in negation_east.LANGUAGES:
        found = negation_east.denied_things(case, language or "zh")
    else:
        found = _spelled(case, language or "en")
    for what, start, end in found:
        if what not in told:
            told.add(what)
            message = f"The request wants no {what!r}, but the rewrite describes it as present."
            yield Finding("negations", message, case.rewrite.text[start:end], "rewrite", start, end)


def _spelled(case: Case, language: str) -> Iterator[tuple[str, int, int]]:
    denied = list(islice(_denied(case.original, language), _MOST))
    asked, got = case.original.words, case.rewrite.words
    spans = [(thing.start, thing.end) for thing in denied]
    for words in dict.fromkeys(thing.words for thing in denied):
        if any(
            not any(start <= asked[at].start < end for start, end in spans) and not _is_denied(asked, at)
            for at in _mentions(asked, words)
        ):
            continue  # a man without a hat beside a man with a hat
        shown = next((got[at] for at in _mentions(got, words) if not _is_denied(got, at)), None)
        if shown is not None:
            yield " ".join(words), shown.start, shown.end


def _denied(passage: Passage, language: str) -> Iterator[_Denied]:
    grammar = _GRAMMARS.get(language, _EN)
    words = passage.words
    starts: list[int] = []  # indices of words behind which a denied noun phrase begins
    english = grammar is _EN
    for i, word in enumerate(words[:-1]):
        following = words[i + 1].text
        if word.text in grammar.cues and not word.ends_clause and word.gap != "-":
            if word.text == "hay" and (i == 0 or words[i - 1].text != "no"):
                continue
            starts.append(i)
        elif (word.text in grammar.negators and following in grammar.verbs) or (
            word.text == "pas" and following in ("de", "un", "une")
        ):
            starts.append(i + 1)
        elif word.text == "pas" and following.startswith("d'"):
            starts.append(i)
        elif english and word.text in ("free", "devoid", "absence", "void") and following == "of":
            starts.append(i + 1)
    if grammar.predicate:
        for match in grammar.predicate.finditer(passage.plain):
            if match[1].lower() not in _PLAIN_EXCEPTIONS:
                yield _Denied((match[1].lower(),), match.start(), match.end())
    if english:
        yield from _denied_in_english(passage, starts)
    for start in sorted(set(starts)):
        yield from _phrases(words, start, grammar)


def _denied_in_english(passage: Passage, starts: list[int]) -> Iterator[_Denied]:
    """What only English says; adds to `starts`."""
    ends = {word.end: i for i, word in enumerate(passage.words)}
    for pattern in (_DO_NOT, _NOT_A):
        starts += [ends[m.end()] for m in pattern.finditer(passage.plain) if m.end() in ends]
    for match in _NOT_PLAIN.finditer(passage.plain):
        if match[1].lower() not in _PLAIN_EXCEPTIONS:
            yield _Denied((match[1].lower(),), match.start(), match.end())
    for match in _FREE.finditer(passage.plain):
        if match[1].lower() not in _FREE_EXCEPTIONS:
            yield _Denied((match[1].lower(),), match.start(), match.end())
    for match in _NOBODY.finditer(passage.plain):
        yield from (_Denied((who,), match.start(), match.end()) for who in ("people", "crowd", "pedestrians"))


def _phrases(words: tuple[Word, ...], cue: int, grammar: _Grammar) -> Iterator[_Denied]:
    """The noun phrases behind a cue: one, or those of a list that ends in "or"."""
    found: list[_Denied] = []
    sure = 0  # how many of `found` belong to the list for certain
    i = cue + 1
    while i < len(words) and len(found) < 6:
        phrase: list[Word] = []
        while i < len(words) and words[i].text in grammar.skipped:
            i += 1
        while (
            i < len(words) and len(phrase) < 3 and words[i].text not in _STOPS and not _is_verb(words[i].text, grammar)
        ):
            phrase.append(words[i])
            i += 1
            if phrase[-1].ends_clause or (grammar.capital_nouns and phrase[-1].capital):
                break
        if not phrase or phrase[0].text in _NOT_DENIED:
            break
        noun = phrase[0] if grammar.noun_first else phrase[-1]
        narrowed = [] if grammar.noun_first else phrase[:-1]
        if noun.text not in _TOO_GENERAL:
            found.append(_Denied((*(w.text for w in narrowed), noun.text), words[cue].start, phrase[-1].end))
        sure = sure or len(found)
        if i >= len(words):
            break
        if words[i].text in _LISTS and words[i - 1].gap.strip() in ("", ","):
            i += 1
            sure = len(found) + 1  # what follows "or", and all before it
        elif words[i - 1].gap.strip() != "," or words[i].text in grammar.cues:
            break
    yield from found[:sure]


def _is_verb(word: str, grammar: _Grammar) -> bool:
    return grammar is _EN and word.endswith("ing") and word not in _NOUNS_IN_ING


def _mentions(words: tuple[Word, ...], thing: tuple[str, ...]) -> Iterator[int]:
    """Where the thing is named: the places of its noun, with what narrows it down among the three words before."""
    *narrowed, noun = thing
    for at, word in enumerate(words):
        if _same(word.text, noun):
            before = [other.text for other in words[max(0, at - 3) : at]]
            if all(any(_same(other, part) for other in before) for part in narrowed):
                yield at


def _same(word: str, other: str) -> bool:
    """Whether two words are forms of one: by plural in Latin letters, by a long common beginning in others."""
    if word == other:
        return True
    if word.isascii() and other.isascii():
        return _key(word) == _key(other)
    word, other = _key(word), _key(other)
    shorter = min(len(word), len(other))
    common = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), shorter)
    return common >= max(3, shorter - 2) and abs(len(word) - len(other)) <= 3


def _bare(word: str) -> str:
    """Without what French elides: d'arbres, l'ours."""
    return _ELIDED.sub("", word) if "'" in word else word


@lru_cache(maxsize=8192)
def _key(word: str) -> str:
    word = _bare(word)
    if "\u0600" <= word[:1] <= "\u06ff":
        word = re.sub("^(?:[وبلف]?ال|و(?=.{3}))", "", word)
    if len(word) > 5 and word.endswith("es") and word[-3] in "lnrdj":
        return word[:-2]
    if len(word) > 5 and word.endswith(("ern", "eln", "en")):
        return word[:-1]  # German Fenstern, Blumen
    return singular(word)


def _bites(words: tuple[Word, ...], at: int) -> bool:
    """Whether a weak cue denies what follows: not in a compound ("sugar-free", "empty-handed"); Arabic wants "of"."""
    if words[at].gap == "-" or (at and words[at - 1].gap == "-"):
        return False
    return not words[at].text.startswith("خال") or words[at + 1].text == "من"


def _is_denied(words: tuple[Word, ...], at: int) -> bool:
    """Whether the word at `at` stands under a negation: "without any hat", "hat-free", "no hats, scarves or gloves"."""
    clause = True  # whether `i` is still in the clause of the word
    for i in range(at - 1, max(-1, at - 10), -1):
        if any(ch in ".;!?。؛؟" for ch in words[i].gap):
            break
        clause = clause and not words[i].ends_clause
        cue = _bare(words[i].text)
        if _CUE.fullmatch(cue) or (clause and _WEAK_CUE.fullmatch(cue) and _bites(words, i)):
            return True
        if words[i].text in _ASSERTS:
            return any(word.text in _STRICT or word.text.endswith("n't") for word in words[max(0, i - 2) : i])
    for i in range(at, min(len(words) - 1, at + 4)):
        if any(ch in ".;!?" for ch in words[i].gap):
            break
        if " ".join(word.text for word in words[i + 1 : i + 3]) == "none of":
            break  # glasses, and none of the books
        if words[i + 1].text in _CUE_BEHIND or words[i + 1].text.endswith("n't"):
            return True
    return False
