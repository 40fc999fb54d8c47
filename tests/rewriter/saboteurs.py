"""Scripted bad rewriters: each breaks one promise of the intent guard, in every way it knows.

They work from annotated samples, not from what the guard can find in a text, so that the guard is not its own judge.
Samples lie in JSONL files, one object a line:

id         language and number
language   two-letter code
prompt     what the user wrote
rewrite    a good rewrite of it
exercises  what makes the prompt hard
quotes     text that the picture shows, which stands in both to the letter
breaks     [{rule, from, to}]: put `to` for `from` in the rewrite, and it breaks that rule
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MARKS = "\"'“”‘’„‚«»‹›「」『』《》〈〉`"
# A word that denies, where taking it out turns the phrase around.
_DENIAL = re.compile(
    r"\b(?:without (?:any )?|no |ohne |keine[nrms]? |kein |sans |aucun[e]? |sin |ningún |ninguna |senza |nessun[a]? "
    r"|sem "
    r"|nenhum[a]? |zonder |geen |без )|没有|بدون |بلا ",
    re.IGNORECASE,
)
_SWITCHES = 4
"""Other languages that a sample is answered in."""


@dataclass(frozen=True)
class Break:
    """One way to break a rewrite: `old` stands in it once and gives way to `new`."""

    rule: str
    old: str
    new: str


@dataclass(frozen=True)
class Sample:
    """A prompt, a good rewrite, and what must not be done to it."""

    id: str
    language: str
    prompt: str
    rewrite: str
    exercises: tuple[str, ...]
    quotes: tuple[str, ...]
    breaks: tuple[Break, ...]


@dataclass(frozen=True)
class Leak:
    """What a language model says around a rewrite, or in place of it. `{}` in `text` stands for the rewrite."""

    language: str
    """Two-letter code, or "any"."""
    kind: str
    text: str

    def around(self, rewrite: str) -> str:
        """The reply that leaks."""
        return self.text.replace("{}", rewrite)


def load_samples(folder: Path) -> list[Sample]:
    """The samples of every xx.jsonl in `folder`. Raises OSError, ValueError or KeyError where a file is broken."""
    return [sample for path in sorted(folder.glob("??.jsonl")) for sample in read_samples(path)]


def read_samples(path: Path) -> list[Sample]:
    """The samples of one file; raises like `load_samples`."""
    return [
        Sample(
            id=row["id"],
            language=row["language"],
            prompt=row["prompt"],
            rewrite=row["rewrite"],
            exercises=tuple(row["exercises"]),
            quotes=tuple(row["quotes"]),
            breaks=tuple(Break(b["rule"], b["from"], b["to"]) for b in row["breaks"]),
        )
        for row in _rows(path)
    ]


def load_leaks(path: Path) -> list[Leak]:
    """The leaks of a JSONL file: {language, kind, text} a line."""
    return [Leak(row["language"], row["kind"], row["text"]) for row in _rows(path)]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Saboteurs:
    """Every bad rewriter there is; `bad(sample)` yields what they make of one sample."""

    def __init__(self, samples: Sequence[Sample], leaks: Sequence[Leak]) -> None:
        self._by_language: dict[str, list[Sample]] = {}
        for sample in samples:
            self._by_language.setdefault(sample.language, []).append(sample)
        self._leaks = leaks
        self._known: dict[str, tuple[Callable[[Sample], Iterator[str]], frozenset[str]]] = {
            "drop a quote": (_drop_quote, frozenset({"quoted_text"})),
            "alter a quote": (_alter_quote, frozenset({"quoted_text"})),
            "unmark a quote": (_unmark_quote, frozenset({"quoted_text"})),
            "add a quote": (_add_quote, frozenset({"added_text"})),
            "change a number": (_broken("numbers"), frozenset({"numbers", "counts"})),
            "drop a number": (_dropped("numbers"), frozenset({"numbers", "counts"})),
            "turn a negation": (_broken("negations"), frozenset({"negations"})),
            "drop a negation": (_undenied, frozenset({"negations"})),
            "change a name": (_broken("names"), frozenset({"names"})),
            "drop a name": (_dropped("names"), frozenset({"names"})),
            "change a colour": (_broken("colours"), frozenset({"colours"})),
            "switch language": (self._switch, frozenset({"language"})),
            "drift to another language": (self._drift, frozenset({"language"})),
            "run on": (_run_on, frozenset({"length"})),
            "loop": (_loop, frozenset({"repetition"})),
            "say nothing": (_nothing, frozenset({"empty"})),
            "leak": (self._leak, frozenset({"remnants"})),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """What each does."""
        return tuple(self._known)

    def bad(self, sample: Sample) -> Iterator[tuple[str, frozenset[str], str]]:
        """(name of the saboteur, rules of which one must find fault, bad rewrite)."""
        for name, (sabotage, rules) in self._known.items():
            for text in sabotage(sample):
                if text != sample.rewrite:
                    yield name, rules, text

    def _others(self, sample: Sample) -> Iterator[Sample]:
        """A few samples of other languages, not always the same ones."""
        languages = [language for language in self._by_language if language != sample.language]
        at = int(sample.id.rpartition("-")[2])
        for step in range(_SWITCHES):
            rows = self._by_language[languages[(at + 3 * step) % len(languages)]]
            yield rows[at % len(rows)]

    def _switch(self, sample: Sample) -> Iterator[str]:
        yield from (other.rewrite for other in self._others(sample))

    def _drift(self, sample: Sample) -> Iterator[str]:
        yield from (f"{sample.rewrite} {other.rewrite}" for other in self._others(sample))

    def _leak(self, sample: Sample) -> Iterator[str]:
        """Leaks in the language of the sample, those that know no language, and the odd English one."""
        english = [leak for leak in self._leaks if leak.language == "en"]
        at = int(sample.id.rpartition("-")[2])
        mine = [leak for leak in self._leaks if leak.language in (sample.language, "any")]
        for leak in dict.fromkeys([*mine, english[at % len(english)], english[(at + 7) % len(english)]]):
            yield leak.around(sample.rewrite)


def _broken(rule: str) -> Callable[[Sample], Iterator[str]]:
    def sabotage(sample: Sample) -> Iterator[str]:
        yield from (sample.rewrite.replace(b.old, b.new) for b in sample.breaks if b.rule == rule)

    return sabotage


def _dropped(rule: str) -> Callable[[Sample], Iterator[str]]:
    """Leaves out what a break would have changed, and no more than that."""

    def sabotage(sample: Sample) -> Iterator[str]:
        for b in sample.breaks:
            if b.rule == rule:
                yield sample.rewrite.replace(b.old, _without_difference(b.old, b.new) if rule == "numbers" else "")

    return sabotage


def _without_difference(old: str, new: str) -> str:
    """`old` without the words in which it differs from `new`; in text without spaces, without the characters."""
    ours, theirs = (text.split(" ") if " " in text else list(text) for text in (old, new))
    joint = " " if " " in old else ""
    head = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    tails = zip(reversed(ours[head:]), reversed(theirs[head:]), strict=False)
    tail = next((i for i, (a, b) in enumerate(tails) if a != b), min(len(ours), len(theirs)) - head)
    return joint.join([*ours[:head], *ours[len(ours) - tail :]])


def _undenied(sample: Sample) -> Iterator[str]:
    for b in sample.breaks:
        if b.rule == "negations" and len(_DENIAL.findall(b.old)) == 1:
            yield sample.rewrite.replace(b.old, _DENIAL.sub("", b.old))


def _drop_quote(sample: Sample) -> Iterator[str]:
    for quote in sample.quotes:
        yield re.sub(f"[{_MARKS}]? ?{re.escape(quote)} ?[{_MARKS}]?", "", sample.rewrite)


def _alter_quote(sample: Sample) -> Iterator[str]:
    """One character changed, left out, doubled; case and spaces "mended"; all of it translated."""
    for quote in sample.quotes:
        at = [i for i, char in enumerate(quote) if char.isalnum()]
        for i in {at[0], at[len(at) // 2], at[-1]}:
            other = chr(ord(quote[i]) + 1) if quote[i] not in "zZ9" else "a"
            for altered in (
                quote[:i] + other + quote[i + 1 :],
                quote[:i] + quote[i + 1 :],
                quote[:i] + quote[i] + quote[i:],
            ):
                yield sample.rewrite.replace(quote, altered)
        mended = {
            quote.swapcase(),
            quote.replace(" ", "  ", 1),
            quote.replace(" ", "", 1),
            quote.replace("?", "").replace("!", ""),
            quote + "!",
            "ABRACADABRA",
        }
        yield from (sample.rewrite.replace(quote, other) for other in sorted(mended - {quote}) if other)


def _unmark_quote(sample: Sample) -> Iterator[str]:
    for quote in sample.quotes:
        yield re.sub(f"[{_MARKS}]{re.escape(quote)}[{_MARKS}]", lambda match: match[0][1:-1], sample.rewrite)


def _add_quote(sample: Sample) -> Iterator[str]:
    if any(f"《{quote}》" not in sample.prompt for quote in sample.quotes):
        yield f'{sample.rewrite} "GRAND OPENING SALE"'
        yield f"{sample.rewrite} “Est. 2099”"


def _run_on(sample: Sample) -> Iterator[str]:
    yield " ".join(f"{sample.rewrite} ({i})" for i in range(1, 200))


def _loop(sample: Sample) -> Iterator[str]:
    yield sample.rewrite + " " + "soft light, " * 12
    yield sample.rewrite * 7


def _nothing(_: Sample) -> Iterator[str]:
    yield " … "
    yield ""
    yield '""'
