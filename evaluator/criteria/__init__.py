"""Criteria: what scores pictures of a case. A file a kind; docs/rewards.md lists them and says how to write one.

criterion = open_criterion(CriterionConfig(use="pairwise"), parts)
criterion = open_criterion(CriterionConfig(use="my_package.taste:Taste"), parts)     # one of your own
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator.types import Case, Criterion, Judge, Need, Reading, Shot
from redraft.chat import ChatModel, open_chat
from redraft.errors import ConfigError
from redraft.profiles import CriterionConfig, ModelConfig, PartConfig, Profile, load_part

CRITERIA = {
    "pairwise": "evaluator.criteria.pairs:open_pairwise",
    "likert": "evaluator.criteria.pairs:open_likert",
    "subject": "evaluator.criteria.likeness:open_subject",
    "person": "evaluator.criteria.likeness:open_person",
    "style": "evaluator.criteria.likeness:open_style",
    "consistency": "evaluator.criteria.asked:open_consistency",
    "real": "evaluator.criteria.asked:open_real",
    "dimension": "evaluator.criteria.asked:open_dimension",
    "hallucination": "evaluator.criteria.asked:open_hallucination",
    "points": "evaluator.criteria.asked:open_points",
    "artifacts": "evaluator.criteria.asked:open_artifacts",
    "regions": "evaluator.criteria.asked:open_regions",
    "sane": "evaluator.criteria.sane:open_sane",
    "views": "evaluator.criteria.views:open_views",
    "http": "evaluator.criteria.http:open_http",
    "score_head": "evaluator.criteria.score_head:open_score_head",
    "detector": "evaluator.criteria.detector:open_detector",
}
"""Name to what opens it: a function of `Parts` and of the criterion's settings. `checks`, `preserved` and `edit_score` are made
by `evaluator.reward`, because every profile has them."""


@dataclass(frozen=True)
class Parts:
    """What a profile lends to its criteria. `open_chat` opens chat models, each only once."""

    profile: Profile
    judge: Judge
    open_chat: Callable[[ModelConfig], ChatModel] = open_chat

    @functools.cached_property
    def chat(self) -> ChatModel:
        """The judge's model as a chat model that sees pictures."""
        return self.open_chat(self.profile.need_judge().model)

    def talking(self, who: str) -> ChatModel:
        """The same for `who`, which needs more than answers to trained questions. Raises ConfigError if it can give no more."""
        if not self.profile.need_judge().asks_freely:
            raise ConfigError(
                f"{who} needs a judge that can be asked anything, and this profile's has asks_freely = false"
            )
        return self.chat


def open_criterion(config: CriterionConfig, parts: Parts) -> Criterion:
    """The criterion that a profile names. Raises ConfigError for a name that is none, settings that it does not have, and for
    a class that is no criterion."""
    if ":" in config.use:
        criterion = _make(load_part(PartConfig(use=config.use)), config)
        lacking = [name for name in ("name", "absolute", "needs") if not hasattr(criterion, name)]
        if lacking or not callable(criterion):
            raise ConfigError(f'use = "{config.use}": no criterion; it lacks {", ".join(lacking) or "__call__"}')
    elif config.use in CRITERIA:
        criterion = _make(functools.partial(load_part(PartConfig(use=CRITERIA[config.use])), parts), config)
    else:
        known = ", ".join(["checks", "preserved", "edit_score", *CRITERIA])
        raise ConfigError(
            f'unknown criterion "{config.use}"; there are {known}, or give "package.module:Class" of your own'
        )
    made: Criterion = criterion
    return made if config.name is None else Renamed(made, config.name)


def _make(opener: Callable[..., Any], config: CriterionConfig) -> Any:
    try:
        inspect.signature(opener).bind(**config.args)
    except TypeError as error:
        raise ConfigError(f"the criterion {config.use!r} cannot be made of args {config.args}: {error}") from None
    except ValueError:
        pass  # a class of C code, whose arguments nobody knows
    return opener(**config.args)


@dataclass(frozen=True)
class Renamed:
    """A criterion under another name."""

    criterion: Criterion
    name: str

    @property
    def absolute(self) -> bool:
        return self.criterion.absolute

    @property
    def needs(self) -> frozenset[Need]:
        return self.criterion.needs

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        return await self.criterion(case, shots)
