"""What a profile's models know, if that is less than the world: which words of a request lie outside.

    scope = open_scope(load_profile("mini"))
    scope.words_outside("an astronaut on a horse")     # ("astronaut", "horse")
    scope.warn(("astronaut", "horse"))                 # "mini draws paper cut-outs only; it does not know: …"

A profile without a [scope] section has none: its models are taken to know every word, in every language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from redraft.profiles import Profile, load_part

_SHOWN = 8
"""Words that a warning names."""


class Vocabulary(Protocol):
    """Made without arguments."""

    def words_outside(self, request: str) -> tuple[str, ...]:
        """The words of `request` that are not known, each once, in their order."""
        ...


@dataclass(frozen=True)
class Scope:
    """The vocabulary of a profile. `profile` is its name, `draws` what it draws, in the plural: "paper cut-outs"."""

    profile: str
    draws: str
    vocabulary: Vocabulary

    def words_outside(self, request: str) -> tuple[str, ...]:
        """The words of `request` that the profile does not know, each once, in their order."""
        return self.vocabulary.words_outside(request)

    def describe(self) -> str:
        """A name for it that changes with what it knows."""
        kind = type(self.vocabulary)
        return f"{self.profile}: {kind.__module__}:{kind.__qualname__}"

    def warn(self, words: Sequence[str]) -> str:
        """The sentence for the user about words that lie outside."""
        more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        return f"{self.profile} draws {self.draws} only; it does not know: {', '.join(words[:_SHOWN])}{more}"


def open_scope(profile: Profile) -> Scope | None:
    """The scope of `profile`, None if it has none. Raises ConfigError if its class cannot be imported."""
    if profile.scope is None:
        return None
    return Scope(profile.name, profile.scope.draws, load_part(profile.scope)())
