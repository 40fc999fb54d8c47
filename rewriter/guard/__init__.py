"""The guard: does a rewrite still ask for what the user asked for?

    >>> from rewriter.guard import check_intent
    >>> [str(finding) for finding in check_intent("a man without a hat", "A man in a tall hat.")]
    ["negations: The request wants no 'hat', but the rewrite describes it as present."]

It knows no model. Each rule is a small function that yields what it found; together they raise no alarm on 99 of 100 good
rewrites, so a rule that cannot be sure keeps silent. What the rules know of a language is in its file in `languages/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from redraft.errors import ConfigError
from rewriter.guard import content, form, names, negation, numbers, same_language
from rewriter.guard.form import estimate_tokens
from rewriter.guard.language import detect_language, load_languages
from rewriter.guard.passage import Finding, GuardSettings, Passage, Rule, TextPair

__all__ = [
    "RULES",
    "Finding",
    "GuardSettings",
    "check_intent",
    "detect_language",
    "estimate_tokens",
    "findings_json",
    "load_languages",
]

RULES: dict[str, Rule] = {
    "empty": form.empty,
    "length": form.length,
    "repetition": form.repetition,
    "remnants": form.remnants,
    "apostrophes": form.apostrophes,
    "quoted_text": content.quoted_text,
    "added_text": content.added_text,
    "subject": content.subject,
    "medium": content.medium,
    "syntax": content.syntax,
    "numbers": numbers.numbers,
    "counts": numbers.counts,
    "negations": negation.negations,
    "names": names.names,
    "colours": content.colours,
    "language": same_language.language,
}
"""Every rule by its name, in the order in which they are checked."""

_GATES = ("empty", "length")
"""A rewrite that one of these refuses is not looked at further: there is nothing to see, or no end to it."""

_DEFAULT = GuardSettings()
_passage = lru_cache(maxsize=256)(Passage)


def check_intent(request: str, rewrite: str, settings: GuardSettings = _DEFAULT) -> tuple[Finding, ...]:
    """What `rewrite` breaks of `request`; empty if it passes. Never raises for the texts.

    Raises ConfigError if `settings` switch off a rule that does not exist, or name a language file that cannot be used.
    """
    if unknown := set(settings.off) - RULES.keys():
        raise ConfigError(f"no such guard rule: {', '.join(sorted(unknown))}; there are {', '.join(RULES)}")
    languages = load_languages(*settings.languages)
    case = TextPair(_passage(request, languages), Passage(rewrite, languages), settings)
    rules = {name: rule for name, rule in RULES.items() if name not in settings.off}
    for gate in _GATES:
        if gate in rules and (findings := tuple(rules[gate](case))):
            return findings
    return tuple(finding for rule in rules.values() for finding in rule(case))


def findings_json(findings: Iterable[Finding]) -> dict[str, object]:
    """Findings as `redraft check --json` prints them: {ok, findings: [{rule, detail}]}; `ok` is true if there are none."""
    rows = [{"rule": finding.rule, "detail": finding.message} for finding in findings]
    return {"ok": not rows, "findings": rows}
