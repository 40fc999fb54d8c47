"""From a prompt to its record: ask for rewrites, pick one, say what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from math import isfinite
from typing import Protocol

from redraft.chat import Usage
from redraft.errors import BackendError, ConfigError, InputError, one_line
from redraft.profiles import RewriterConfig
from rewriter.batch.engines import BatchEngine, EngineName, open_engine
from rewriter.batch.reviews import ReviewPool
from rewriter.batch.work import Keys, Record, Status
from rewriter.cot import Asking, CoTRewriter
from rewriter.target import Target, load_target
from rewriter.types import Rewrite, Rewriter


@dataclass(frozen=True)
class Choice:
    """Which of the candidates to take: an index into them, or None for the user's own prompt. `scores` are as many as
    there are candidates, then one for the original where it was scored too."""

    index: int | None
    scores: tuple[float | None, ...] = ()
    findings: tuple[str, ...] = ()


class Selector(Protocol):
    """Picks one of several rewrites of a prompt. May raise BackendError."""

    async def __call__(self, prompt: str, rewrites: Sequence[Rewrite], seed: int) -> Choice: ...


_FORMAT = 1
"""Raised where an equal request no longer makes an equal record."""


@dataclass(frozen=True)
class Kit:
    """An engine with a rewriter on it. `settings` names all that shapes a rewrite, but for the run's seed."""

    engine: BatchEngine
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
    engine: EngineName | BatchEngine = "auto",
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


class Maker:
    """Makes the record of a prompt: the same one in every process that has the same settings and the same model.

    Raises InputError for a prompt that cannot be used, BackendError where the model or the selector failed.
    """

    def __init__(self, rewriter: Rewriter, keys: Keys, *, n: int = 1, selector: Selector | None = None) -> None:
        self._rewriter = rewriter
        self._keys = keys
        self._n = n
        self._selector = selector

    async def __call__(self, prompt: str, key: bytes | None = None) -> Record:
        """`key` is that of `prompt`, where the caller has it already."""
        seed = self._keys.seed(self._keys.key(prompt) if key is None else key)
        rewrites = await self._rewriter(prompt, n=self._n, seed=seed)
        lost = [finding for rewrite in rewrites if rewrite.fallback for finding in rewrite.findings]
        if all(rewrite.fallback for rewrite in rewrites) and (broken := [f for f in lost if f.startswith("server: ")]):
            # Not the model's judgement of this prompt: the second try never came through.
            raise BackendError(broken[0].removeprefix("server: "))
        choice = Choice(0) if self._selector is None else await self._selector(prompt, rewrites, seed)
        return record_of(prompt, rewrites, choice, seed, many=self._n > 1)


def record_of(prompt: str, rewrites: Sequence[Rewrite], choice: Choice, seed: int, *, many: bool = False) -> Record:
    """The record of a prompt from its rewrites; `many` where more than one was asked for."""
    usage = sum((rewrite.usage for rewrite in rewrites), Usage())
    taken = rewrites[0 if choice.index is None else choice.index]
    kept = choice.index is None or taken.fallback
    status = Status.KEPT if kept else Status.REPAIRED if taken.tries > 1 else Status.REWRITTEN
    return Record(
        status=status,
        rewrite=prompt if kept else taken.prompt,
        seed=seed,
        negative_prompt=None if kept else taken.negative_prompt,
        thought=taken.thought,
        model=taken.model,
        findings=taken.findings + choice.findings,
        candidates=tuple(rewrite.prompt for rewrite in rewrites) if many else (),
        scores=choice.scores,
        tokens=(usage.prompt_tokens, usage.completion_tokens),
    )


def result_of(prompt: str, record: Record, own: tuple[str, ...]) -> dict[str, object]:
    """redraft's columns of a row; `own` names them, "original" first."""
    value: dict[str, object] = {"original": prompt}
    for name in own[1:]:
        item = getattr(record, name)
        value[name] = list(item) if isinstance(item, tuple) else str(item) if name == "status" else item
    return value


def failed(prompt: str, seed: int, error: BackendError) -> Record:
    return Record(Status.FAILED, prompt, seed, findings=(f"failed: {error}",))


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
