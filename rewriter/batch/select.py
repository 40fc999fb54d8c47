"""Picking one of several rewrites by their text alone. (With pictures: the agent's judge.)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from math import isfinite

from redraft.errors import ConfigError, InputError, one_line
from rewriter.batch.types import Choice
from rewriter.types import Rewrite

Scorer = Callable[[str, Sequence[str]], Sequence[float]]
"""(the user's prompt, the candidates) to a figure for each candidate: the higher, the better."""

_GRAMS = (2, 3, 4)


def consensus(original: str, candidates: Sequence[str]) -> list[float]:
    """How much each candidate has in common with the others: the one that most of them agree with wins.

    Minimum Bayes risk decoding (Kumar and Byrne, 2004), with the mean F1 of character 2-, 3- and 4-grams as utility.
    Figures lie in [0, 1]; a single candidate has 1.
    """
    bags = [_grams(candidate) for candidate in candidates]
    return [
        sum(_f1(bag, other) for i, other in enumerate(bags) if i != at) / max(1, len(bags) - 1)
        if len(bags) > 1
        else 1.0
        for at, bag in enumerate(bags)
    ]


SCORERS: dict[str, Scorer] = {"consensus": consensus}


def load_scorer(name: str) -> Scorer:
    """A built-in scorer, or the function of a dotted path `package.module:function`. Raises ConfigError."""
    if name in SCORERS:
        return SCORERS[name]
    module, colon, function = name.partition(":")
    if not colon:
        raise ConfigError(f"unknown scorer {name!r}; there are {', '.join(SCORERS)}, or give package.module:function")
    try:
        found: Scorer = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"the scorer {name} cannot be loaded: {error}") from error
    return found


class ScoreSelector:
    """A Selector by a scorer. Rewrites that the guard let through come before the user's own prompt; of equal figures
    the first wins."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def __call__(self, prompt: str, rewrites: Sequence[Rewrite], seed: int) -> Choice:
        try:
            scores = tuple(float(score) for score in self._scorer(prompt, [rewrite.prompt for rewrite in rewrites]))
        except Exception as error:
            raise InputError(
                f"the scorer failed on {prompt[:60]!r}: {type(error).__name__}: {one_line(error)}"
            ) from error
        if len(scores) != len(rewrites) or not all(map(isfinite, scores)):
            raise InputError(f"the scorer gave {list(scores)} for {len(rewrites)} candidates")
        best = max(range(len(rewrites)), key=lambda at: (not rewrites[at].fallback, scores[at], -at))
        return Choice(best, scores)


def _grams(text: str) -> list[Counter[str]]:
    plain = " ".join(text.casefold().split())
    return [Counter(plain[at : at + size] for at in range(max(1, len(plain) - size + 1))) for size in _GRAMS]


def _f1(one: Sequence[Counter[str]], other: Sequence[Counter[str]]) -> float:
    shares = [2 * (a & b).total() / (a.total() + b.total()) for a, b in zip(one, other, strict=True)]
    return sum(shares) / len(shares)
