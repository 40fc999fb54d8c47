"""The intent guard: does a rewrite still ask for what the user asked for?

It knows no model. Each rule is a small function that names what it found; together they are meant to raise no alarm on
99 of 100 good rewrites, so where a rule cannot be sure it keeps silent.
"""

from __future__ import annotations

from functools import lru_cache

from redraft.errors import ConfigError
from rewriter.guard import colours, names, negation, numbers, remnants, rules, same_language
from rewriter.guard.base import Case, Finding, GuardSettings, Passage, Rule

__all__ = ["RULES", "Finding", "GuardSettings", "check_intent"]

RULES: dict[str, Rule] = {
    "empty": rules.empty,
    "length": rules.length,
    "repetition": rules.repetition,
    "remnants": remnants.remnants,
    "apostrophes": rules.apostrophes,
    "quoted_text": rules.quoted_text,
    "added_text": rules.added_text,
    "numbers": numbers.numbers,
    "counts": numbers.counts,
    "negations": negation.negations,
    "names": names.names,
    "colours": colours.colours,
    "language": same_language.language,
}
"""Every rule by its name, in the order in which they are asked."""

_GATES = ("empty", "length")
"""A rewrite that one of these refuses is not looked at further: there is nothing to see, or no end to it."""

_DEFAULT = GuardSettings()
_passage = lru_cache(maxsize=256)(Passage)


def check_intent(original: str, rewrite: str, settings: GuardSettings = _DEFAULT) -> tuple[Finding, ...]:
    """What `rewrite` breaks of `original`; empty where it passes. Never raises for the texts.

    Raises ConfigError where `settings` switch off a rule that does not exist.
    """
    if unknown := set(settings.off) - RULES.keys():
        raise ConfigError(f"no such guard rule: {', '.join(sorted(unknown))}; there are {', '.join(RULES)}")
    case = Case(_passage(original), Passage(rewrite), settings)
    asked = {name: rule for name, rule in RULES.items() if name not in settings.off}
    for gate in _GATES:
        if gate in asked and (found := tuple(asked[gate](case))):
            return found
    return tuple(finding for rule in asked.values() for finding in rule(case))
