"""The tool that reads: checks of writing are answered by what optical character recognition finds in the picture.

    tool = TextTool(RapidReader())                  # extra `ocr`
    [verdict] = await tool(image, request, [Check("text_rendering", 'Does the sign read "OPEN"?')])
    verdict.probability, verdict.reason             # 0.01, 'the picture reads "OPNE"'

Words must be there letter for letter, one after the other in the order of reading; case, punctuation and line ends do not
count. "Exactly" lets nothing else stand in the same lines, "only" nothing else in the picture. Places and the order of two
texts are read off the lines' boxes. What is asked beside that (colour, lettering, what the text is written on) only the judge
can see: it is asked if the text is there, and not if it is missing, which is an answer.

The tool answers None, so that the judge is asked, for a question that it cannot take apart; for scripts that the reader does
not know; and if what it read is too uncertain to say yes or no.
"""

from __future__ import annotations

import asyncio
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from importlib import resources
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from evaluator.coverage import list_quotes
from evaluator.grounding import Box
from evaluator.keypoints import find_keypoint
from evaluator.tools import tool_verdict
from evaluator.types import Check, Verdict
from redraft.errors import BackendError
from redraft.extras import require
from redraft.worker import Worker

NAME = "ocr"
SURE = 0.6
"""A line that was read with less confidence does not count, unless it fits: then nobody knows, and the judge is asked."""
LIKELY, UNLIKELY = 0.99, 0.01
_NEAR_MISS = 0.3
"""Most that a near miss gets: fewer wrong letters are better, and none of them passes. Our own choice."""
_SOFT = 0.05
"""Of the edge of a place: so far from it, as a share of the picture, the answer is sure to 0.73."""
_WORDS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")

Place = Literal["top", "bottom", "left", "right", "middle"]


@dataclass(frozen=True)
class Line:
    """A line of writing in a picture: its box in fractions of the sides, and how sure the reader is of it, in [0, 1]."""

    text: str
    box: Box
    confidence: float


class TextReader(Protocol):
    """Finds the writing in a picture, in no particular order. Raises BackendError if it fails.

    `knows` says whether the reader has all the letters of a text.
    """

    async def __call__(self, image: Image.Image) -> tuple[Line, ...]: ...

    def knows(self, text: str) -> bool: ...


class RapidReader:
    """A TextReader over rapidocr, whose models (PP-OCR, Latin and Chinese letters, Japanese kana) lie in its package.

    The models are loaded at the first picture, in the worker thread. Raises MissingExtra if rapidocr is not installed.
    """

    def __init__(self) -> None:
        require("ocr", "reading the words in pictures")
        self._engine: Any = None
        self._worker: Worker[Image.Image, tuple[Line, ...]] = Worker(
            "the reader of words",
            lambda jobs: [self._read(job.request) for job in jobs],
            retry_alone=lambda error: True,
        )

    async def __call__(self, image: Image.Image) -> tuple[Line, ...]:
        return await self._worker.ask(image)

    def knows(self, text: str) -> bool:
        """Whether every letter is of a script that the models were trained on."""
        return all(
            unicodedata.name(char, "").startswith(
                ("LATIN", "CJK", "HIRAGANA", "KATAKANA", "DIGIT", "GREEK", "FULLWIDTH")
            )
            for char in text
            if char.isalnum()
        )

    def _read(self, image: Image.Image) -> tuple[Line, ...]:
        """On the worker."""
        if self._engine is None:
            from rapidocr import RapidOCR

            # Small pictures are enlarged only as far as its detector needs; rapidocr's own 736 takes three times as long.
            self._engine = RapidOCR(
                params={
                    "Global.log_level": "critical",
                    "Global.use_cls": False,
                    "Global.text_score": 0.0,
                    "Det.limit_side_len": 384,
                }
            )
        rgb = np.asarray(image.convert("RGB"))
        result = self._engine(np.ascontiguousarray(rgb[:, :, ::-1]))
        if result.txts is None or result.boxes is None:
            return ()
        height, width = rgb.shape[:2]
        lines = []
        for text, corners, score in zip(result.txts, result.boxes, result.scores, strict=True):
            xs, ys = np.asarray(corners, dtype=float).T
            box = (float(xs.min() / width), float(ys.min() / height), float(xs.max() / width), float(ys.max() / height))
            lines.append(Line(str(text), box, float(score)))
        return tuple(lines)


@dataclass(frozen=True)
class TextQuestion:
    """A question about writing in parts.

    `texts`: what it quotes; () if it asks about all writing. `loose`: the text is known from the request alone, so that "the
    word" is the word that is there, right or wrong. `plain`: nothing is asked but what the other fields say.
    """

    texts: tuple[str, ...]
    loose: bool = False
    absent: bool = False
    exact: bool = False
    alone: bool = False
    places: tuple[Place, ...] = ()
    relation: str = ""
    plain: bool = True


class _Words(BaseModel):
    """A table of ocr.toml, words with spaces between them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plain: str
    writing: str
    exact: str
    alone: str
    negation: str
    places: Mapping[Place, str]
    relations: Mapping[str, str]


@cache
def _words() -> Mapping[str, frozenset[str]]:
    """Role to words, of all languages together."""
    text = (resources.files("evaluator") / "ocr.toml").read_text(encoding="utf-8")
    table: dict[str, frozenset[str]] = {}
    for language in tomllib.loads(text).values():
        words = _Words.model_validate(language)
        roles = {
            "plain": words.plain, "writing": words.writing, "exact": words.exact, "alone": words.alone,
            "negation": words.negation, **{f"at {place}": known for place, known in words.places.items()},
            **{f"is {relation}": known for relation, known in words.relations.items()},
        }  # fmt: skip
        for role, known in roles.items():
            table[role] = table.get(role, frozenset()).union(known.split())
    return table


def read_question(request: str, check: Check) -> TextQuestion | None:
    """The question of a check in parts, None if it is not about writing.

    What the question quotes is its text; else what the request quotes and the question repeats; else what it writes in
    capitals; else, for a question about a place, the one text that the request quotes.
    """
    point = find_keypoint(check.key_point).id
    if point not in ("text_rendering", "text_layout", "negation"):
        return None
    words = _words()
    texts = list_quotes(check.question)
    rest = _without(check.question, texts)
    if not texts:
        texts = tuple(text for text in list_quotes(request) if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", rest))
        texts = texts or _list_capitals(rest)
        rest = _without(rest, texts)
    known = {word.casefold() for word in _WORDS.findall(rest)}
    writing, negated = bool(words["writing"] & known), bool(words["negation"] & known)
    if point == "negation" and not (negated and (writing or texts)):
        return None
    roles = [f"is {relation}" for relation in _RELATIONS] if len(texts) == 2 else [f"at {place}" for place in _PLACES]
    roles = [role for role in roles if words[role] & known]
    beside = known.difference(*(words[role] for role in ("plain", "writing", "exact", "alone", "negation", *roles)))
    places = tuple(place for place in _PLACES if f"at {place}" in roles)
    relation = roles[0].removeprefix("is ") if roles and not places else ""
    if texts:
        return TextQuestion(
            texts,
            absent=negated,
            exact=bool(words["exact"] & known),
            alone=bool(words["alone"] & known),
            places=places,
            relation=relation,
            plain=not beside,
        )
    if not writing or beside:
        return None
    if negated:
        return None if places else TextQuestion((), absent=True)
    quoted = list_quotes(request)
    return TextQuestion(quoted if len(quoted) == 1 else (), loose=True, places=places) if places else None


_PLACES: tuple[Place, ...] = ("top", "bottom", "left", "right", "middle")
_RELATIONS = ("above", "below", "before", "after", "left", "right")


def _without(text: str, parts: Sequence[str]) -> str:
    for part in parts:
        text = text.replace(part, " ")
    return text


def _list_capitals(text: str) -> tuple[str, ...]:
    """Runs of words in capitals."""
    runs, run = [], []
    for word in [*_WORDS.findall(text), ""]:
        if len(word) > 1 and word.isupper():
            run.append(word)
        elif run:
            runs.append(" ".join(run))
            run = []
    return tuple(runs)


class TextTool:
    """A `evaluator.tools.Tool` over a TextReader. A picture is read once for all its checks."""

    name = NAME

    def __init__(self, reader: TextReader) -> None:
        self._reader = reader

    def reads(self, request: str, check: Check) -> bool:
        question = read_question(request, check)
        return question is not None and all(_letters(text) and self._reader.knows(text) for text in question.texts)

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict | None]:
        try:
            lines = await self._reader(image)
        except BackendError:
            return [None] * len(checks)
        return await asyncio.to_thread(self._answer_all, Written(lines), request, checks)

    def _answer_all(self, written: Written, request: str, checks: Sequence[Check]) -> list[Verdict | None]:
        return [self._answer(written, request, check) for check in checks]

    def _answer(self, written: Written, request: str, check: Check) -> Verdict | None:
        question = read_question(request, check)
        if question is None:
            return None
        answer = answer_question(question, written)
        return None if answer is None else tool_verdict(check, answer[0], answer[1], NAME)


@dataclass(frozen=True)
class Found:
    """Where a text stands: the numbers of its first and last word among all, its middle, and the least confidence."""

    first: int
    last: int
    x: float
    y: float
    confidence: float


class Written:
    """The lines of a picture in the order of reading, and their words."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = sort_lines(lines)
        self.words = [(word, n) for n, line in enumerate(self.lines) for word in _list_words(line.text)]

    def find(self, text: str) -> Found | None:
        """The text, letter for letter in words that follow one another. The place that was read best, if it stands in several."""
        wanted, unspaced = _letters(text), bool(_UNSPACED.search(text))
        places = []
        for first in range(len(self.words)):
            joined = ""
            for last in range(first, len(self.words)):
                joined += self.words[last][0]
                if joined == wanted or (unspaced and wanted in joined):
                    places.append(self._found(first, last))
                if len(joined) >= len(wanted) and not (unspaced and wanted not in joined and last == first):
                    break
        return max(places, key=lambda place: place.confidence, default=None)

    def nearest(self, text: str) -> tuple[float, float]:
        """How like the text the words are that are most like it (0 to 1), and the confidence with which they were read."""
        wanted, count = _letters(text), len(_list_words(text))
        best = (0.0, 1.0)
        matcher = SequenceMatcher(None, autojunk=False)
        matcher.set_seq2(wanted)
        for first in range(len(self.words)):
            for size in (count - 1, count, count + 1):
                run = self.words[first : first + size]
                matcher.set_seq1("".join(word for word, _ in run))
                if not run or matcher.quick_ratio() <= best[0]:
                    continue
                like = matcher.ratio()
                if like > best[0]:
                    best = (like, min(self.lines[line].confidence for _, line in run))
        return best

    def others(self, found: Sequence[Found], *, same_line: bool) -> list[str]:
        """The sure words beside those that were found, in their lines or in all; single letters do not count: shapes are
        taken for them."""
        taken = {n for place in found for n in range(place.first, place.last + 1)}
        lines = {self.words[n][1] for n in taken}
        return [
            word
            for n, (word, line) in enumerate(self.words)
            if n not in taken
            and len(word) > 1
            and self.lines[line].confidence >= SURE
            and (line in lines if same_line else True)
        ]

    def everything(self) -> Found | None:
        """All sure writing as one place."""
        numbers = [n for n, (w, line) in enumerate(self.words) if len(w) > 1 and self.lines[line].confidence >= SURE]
        return self._found(numbers[0], numbers[-1]) if numbers else None

    def describe(self) -> str:
        """What was read, for a reason."""
        said = [
            f'"{line.text.strip()}"' for line in self.lines if line.confidence >= SURE and len(_letters(line.text)) > 1
        ]
        return f"the picture reads {', '.join(said)}" if said else "no writing was found"

    def _found(self, first: int, last: int) -> Found:
        lines = [self.lines[n] for n in dict.fromkeys(line for _, line in self.words[first : last + 1])]
        left, top = min(line.box[0] for line in lines), min(line.box[1] for line in lines)
        right, bottom = max(line.box[2] for line in lines), max(line.box[3] for line in lines)
        return Found(first, last, (left + right) / 2, (top + bottom) / 2, min(line.confidence for line in lines))


def sort_lines(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Lines in the order of reading: row by row from the top, a row from the left. Lines are of one row if the middle of one
    lies within the height of the other."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (line.box[1] + line.box[3]) / 2):
        middle = (line.box[1] + line.box[3]) / 2
        if rows and rows[-1][0].box[1] <= middle <= rows[-1][0].box[3]:
            rows[-1].append(line)
        else:
            rows.append([line])
    return tuple(line for row in rows for line in sorted(row, key=lambda line: line.box[0]))


def answer_question(question: TextQuestion, written: Written) -> tuple[float, str] | None:
    """P(yes) and what was read; None if reading alone cannot tell."""
    everything = written.everything()
    if question.absent and not question.texts:
        return (LIKELY, "no writing was found") if everything is None else (UNLIKELY, written.describe())
    found = [written.find(text) for text in question.texts]
    if question.loose:
        found = [found[0] or everything] if found else [everything]
    there = [place for place in found if place is not None]
    if len(there) < len(found):
        return _answer_missing(question, written)
    confidence = min(place.confidence for place in there)
    if confidence < SURE:
        return None
    reason = written.describe()
    if question.absent:
        return (UNLIKELY, reason) if question.plain else None
    if (question.exact or question.alone) and written.others(there, same_line=not question.alone):
        return UNLIKELY, reason
    p = min(confidence, LIKELY)
    if question.relation and len(there) == 2:
        p = min(p, _stand(question.relation, *there))
    for place in question.places:
        p = min(p, _lie(there[0], place))
    if question.places or question.relation:
        reason += ", with its middle at " + " and ".join(f"({place.x:.2f}, {place.y:.2f})" for place in there)
    return (p, reason) if question.plain or p < 0.5 else None


def _answer_missing(question: TextQuestion, written: Written) -> tuple[float, str] | None:
    """The answer if a text that the question needs does not stand in the picture."""
    if not question.texts:
        return UNLIKELY, written.describe()
    text = next(text for text in question.texts if written.find(text) is None)
    like, confidence = written.nearest(text)
    if like > 0.5 and confidence < SURE:
        return None
    if question.absent:
        return (LIKELY, written.describe()) if question.plain else None
    return max(UNLIKELY, _NEAR_MISS * like**2), written.describe()


def _lie(place: Found, where: Place) -> float:
    """P(a place in the picture is where it is asked for); its halves, and for the middle the middle third."""
    inside = {
        "top": 0.5 - place.y,
        "bottom": place.y - 0.5,
        "left": 0.5 - place.x,
        "right": place.x - 0.5,
        "middle": 1 / 6 - abs(place.x - 0.5),
    }[where]
    return _soft(inside)


def _stand(relation: str, one: Found, other: Found) -> float:
    match relation:
        case "above" | "below":
            return _soft((other.y - one.y) * (1 if relation == "above" else -1))
        case "left" | "right":
            return _soft((other.x - one.x) * (1 if relation == "left" else -1))
    return LIKELY if (one.first < other.first) == (relation == "before") else UNLIKELY


def _soft(distance: float) -> float:
    return float(np.clip(1 / (1 + np.exp(-distance / _SOFT)), UNLIKELY, LIKELY))


def _list_words(text: str) -> list[str]:
    return [letters for word in text.split() if (letters := _letters(word))]


def _letters(text: str) -> str:
    """The letters and digits of a text, in one case and form."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


@cache
def open_text_tool() -> TextTool:
    """The tool over rapidocr, one for the whole process: its models take 60 MB. Raises MissingExtra."""
    return TextTool(RapidReader())
