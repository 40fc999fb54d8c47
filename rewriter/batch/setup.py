"""From a profile's rewriter and a target to what a batch works with. Shared by the command line and the Python API."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from redraft.profiles import RewriterConfig
from rewriter.batch.engines import EngineName, open_engine
from rewriter.batch.reviews import ReviewPool
from rewriter.batch.types import Engine
from rewriter.cot import Asking, CoTRewriter
from rewriter.target import Target, load_target

_FORMAT = 1
"""Raised where an equal request no longer makes an equal record."""


@dataclass(frozen=True)
class Kit:
    """An engine with a rewriter on it. `settings` names all that shapes a rewrite, but for the run's seed."""

    engine: Engine
    rewriter: CoTRewriter
    reviews: ReviewPool
    settings: dict[str, object]

    @property
    def target(self) -> Target | None:
        return self.rewriter.asking.rules.target

    async def aclose(self) -> None:
        await self.reviews.aclose()
        await self.engine.aclose()


def pick_target(config: RewriterConfig, name: str | None) -> Target:
    """The target of that name, else the profile's, else `generic`. Raises ConfigError."""
    return load_target(name or config.target or "generic")


def open_kit(
    config: RewriterConfig,
    *,
    target: str | Target | None = None,
    engine: EngineName | Engine = "auto",
    concurrency: int | None = None,
    n: int = 1,
    workers: int = 0,
) -> Kit:
    """Raises ConfigError where a setting cannot be used, ModelMissing where a model folder is not there."""
    chosen = target if isinstance(target, Target) else pick_target(config, target)
    asking = Asking.of(config, chosen)
    opened = open_engine(config.model, engine, concurrency) if isinstance(engine, str) else engine
    reviews = ReviewPool(asking.rules, workers)
    rewriter = CoTRewriter(opened, config, target=chosen, reviewer=reviews)
    return Kit(opened, rewriter, reviews, settings_of(asking, opened.name, n))


def settings_of(asking: Asking, model: str, n: int) -> dict[str, object]:
    """All that shapes a rewrite, as plain values."""
    config, target = asking.config, asking.rules.target
    style = {name: value for name, value in asdict(asking.style).items() if name != "settings"}
    return {
        "format": _FORMAT,
        "model": model,
        "template_args": dict(config.model.template_args),
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_tokens": config.max_tokens,
        "n": n,
        "style": {**style, **asking.style.settings.model_dump(mode="json", exclude={"guard"})},
        "guard": asking.rules.guard.model_dump(mode="json"),
        "target": None if target is None else target.model_dump(mode="json", exclude={"description", "pipelines"}),
    }


def own_columns(target: Target | None, *, thought: bool, n: int, scored: bool) -> tuple[str, ...]:
    """redraft's own columns of the output, in order."""
    negative = ("negative_prompt",) if target is not None and target.negative_prompt else ()
    many = (("candidates",) if n > 1 else ()) + (("scores",) if scored else ())
    return (
        "original",
        "rewrite",
        *negative,
        *(("thought",) if thought else ()),
        "model",
        "findings",
        "status",
        "seed",
        *many,
    )
