"""Reading an answer off the first token: which tokens count as "yes", and what they add up to.

A model may open its answer with "yes", "Yes", " yes" or "YES", as its training and tokenizer have it. These are
different tokens that say the same, so the probability of a choice is the SUM over its spellings. Whoever reads choices,
from a server or in this process, uses the functions here, so that figures can be compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from redraft.errors import BackendError

NEVER = -9999.0
"""Log probability of what a server did not report (the convention of OpenAI-style servers; exp of it is 0)."""


def spellings(choices: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each choice with the strings that count as it: with and without a leading space, in its own case, in lower case,
    Capitalised and in UPPER CASE. A choice of one letter keeps its case: "a" opens too many other answers.

    No string counts for two choices: one that is literally offered belongs to that choice, any other to none.
    """
    if len(set(choices)) != len(choices) or not all(choice.strip() == choice and choice for choice in choices):
        raise ValueError(f"choices must be different words without spaces around them, not {list(choices)}")
    cased = {choice: {choice} if len(choice) == 1 else _cases(choice) for choice in choices}
    owned = {
        choice: [
            word
            for word in sorted(words, key=lambda word: (word != choice, word))
            if word == choice or sum(word in others for others in cased.values()) == 1
        ]
        for choice, words in cased.items()
    }
    return {choice: tuple(w for word in words for w in (word, f" {word}")) for choice, words in owned.items()}


def choice_ids(
    choices: Sequence[str], encode: Callable[[str], Sequence[int]], model: str, *, strict: bool = True
) -> dict[str, tuple[int, ...]]:
    """The token ids that count as each choice: those of its spellings that `encode` (text to ids, without special
    tokens) makes one token of. No token counts for two choices: one that spells several, as the unknown token of a
    small vocabulary does, says nothing. Raises BackendError if a choice has none; with `strict` False it gets ()."""
    single: dict[str, list[int]] = {}
    for choice, words in spellings(choices).items():
        encoded = (tuple(encode(word)) for word in words)
        single[choice] = list(dict.fromkeys(tokens[0] for tokens in encoded if len(tokens) == 1))
    claims = Counter(token for tokens in single.values() for token in tokens)
    ids = {choice: tuple(t for t in tokens if claims[t] == 1) for choice, tokens in single.items()}
    lost = [choice for choice, tokens in ids.items() if not tokens]
    if strict and lost:
        raise BackendError(f"the choice {lost[0]!r} is not a single token of {model}; offer a shorter, commoner word")
    return ids


def add_logs(logprobs: Sequence[float]) -> float:
    """log of the sum of exp: the log probability that any of several tokens comes. NEVER if there are none."""
    top = max(logprobs, default=NEVER)
    if top <= NEVER:
        return NEVER
    return min(0.0, top + math.log(sum(math.exp(value - top) for value in logprobs)))


def by_spelling(choices: Sequence[str], logprobs: Mapping[str, float]) -> dict[str, float]:
    """The log probability of each choice from those of token strings."""
    return {
        choice: add_logs([logprobs[word] for word in words if word in logprobs])
        for choice, words in spellings(choices).items()
    }


def _cases(word: str) -> set[str]:
    return {word, word.lower(), word.upper(), word[:1].upper() + word[1:].lower()}
