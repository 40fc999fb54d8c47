"""What a run may spend and when it is satisfied: one `Limits` for profiles, runs, the command line and the server.

    >>> Limits(max_images=4).changed(accept_at=0.9).accept_at
    0.9

A new limit is a field here and a line where it is used. Profiles read it under `[limits]`, the command line gets an
option from its name and docstring, and run.json keeps it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _LimitSection(BaseModel):
    # Infinity and NaN have no JSON, which run.json is written in.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class TreeLimits(_LimitSection):
    """How an edit in steps branches; see `agent.strategies`."""

    width: int = Field(default=1, ge=1, le=64)
    """Results made of each step, for the best to be chosen. More than one was measured to gain nothing."""
    keep: int = Field(default=1, ge=1, le=16)
    """How many of these are worked on further."""
    depth: int = Field(default=4, ge=1, le=32)
    """Most steps on top of one another; after that a new picture is drawn."""
    merge: int = Field(default=2, ge=1, le=32)
    """Most steps that are put into one instruction, if none depends on another."""
    confidence: float = Field(default=0.5, ge=0, le=1)
    """Below this the result of a step is dropped."""
    base: Literal["source", "step", "anew"] = "source"
    """What a repair of a finished edit starts from: the picture that was first edited, with all instructions together,
    so that nothing drifts; or the latest result, with the new instruction alone. "anew": a user's picture is not
    repaired, but edited anew as it was given."""


class Limits(_LimitSection):
    """What a run may spend and when it is satisfied.

    >>> import redraft
    >>> redraft.Limits(max_images=4).max_images
    4
    """

    accept_at: float = Field(default=0.95, gt=0, le=1)
    """Score from which a picture is accepted."""
    pass_at: float = Field(default=0.5, gt=0, lt=1)
    """A check passes if P(yes) / (P(yes) + P(no)) is at least this."""
    max_rounds: int = Field(default=4, ge=1, le=1000)
    """Most rounds."""
    max_images: int = Field(default=8, ge=1, le=10000)
    """Most pictures, drafts among them."""
    max_seconds: float = Field(default=600.0, gt=0)
    """Most seconds of work."""
    max_steps: int = Field(default=0, ge=0, le=10_000_000)
    """Most denoiser steps of all pictures together. 0: no bound."""
    max_judgements: int = Field(default=0, ge=0, le=100_000)
    """Most pictures judged. 0: no bound."""
    patience: int = Field(default=3, ge=1)
    """Stop after this many rounds in a row without a better score."""
    rewrites: int = Field(default=1, ge=1, le=64)
    """Rewrites made for a round, besides the request itself in the first."""
    images_per_round: int = Field(default=2, ge=1, le=64)
    """Most pictures drawn in a round."""
    edit_draws: bool = True
    """Whether edits may mend drawings, too, if there is an editor. Edits of a user's picture always do."""
    edit_drafts: bool = False
    """Whether the generator first draws what an edit adds to the picture, for the trace, and as a reference for editors
    that take several pictures."""
    tree: TreeLimits = TreeLimits()

    def changed(self, **changes: object) -> Limits:
        """These limits with `changes`; a change to None leaves a limit as it is. Raises pydantic's ValidationError."""
        kept = {name: value for name, value in changes.items() if value is not None}
        return type(self).model_validate(self.model_dump() | kept)


ALIASES = {"accept_at": "accept", "max_rounds": "rounds", "max_images": "images"}
"""Limits whose option on the command line has a shorter name."""

CLIENT_LIMITS = ("accept_at", "max_rounds", "max_images", "max_seconds", "max_steps")
"""What a client of the server may change. The server's own bounds apply as well."""


def option_name(limit: str) -> str:
    """The option of the command line that changes `limit`: `--rounds` for max_rounds."""
    return f"--{ALIASES.get(limit, limit).replace('_', '-')}"
