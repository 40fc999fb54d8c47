"""From a request to its record: ask for rewrites, pick one, say what became of it.

kit = open_kit(load_profile("mini").rewriter)
keys = Keys({**kit.settings, "select": None}, seed=0)
record = await Maker(kit.rewriter, keys)("two red stars")
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from math import isfinite
from typing import Protocol

from redraft.chat import Usage
from redraft.errors import BackendError, ConfigError, InputError, one_line
from redraft.profiles import RewriterConfig
from redraft.scope import Scope
from rewriter.batch.engines import BatchEngine, EngineName, open_engine
from rewriter.batch.reviews import ReviewPool
from rewriter.batch.work import Keys, Record, Status
from rewriter.cot import Asking, CoTRewriter
from rewriter.target import Target, load_target
from rewriter.types import Rewrite, Rewriter


@dataclass(frozen=True)
class Choice:
    """Which of the candidates to take: an index into them, or None for the request itself. `scores` has one for each
    candidate, and then one for the request if it was scored too."""

    index: int | None
    scores: tuple[float | None, ...] = ()
    findings: tuple[str, ...] = ()


class Selector(Protocol):
    """Picks one of several rewrites of a request. May raise BackendError."""

    async def __call__(self, request: str, rewrites: Sequence[Rewrite], seed: int) -> Choice: ...


_FORMAT = 1
"""Raised when equal settings no longer make equal records."""


@dataclass(frozen=True)
class Kit:
    """An engine with a rewriter on it. `settings` names everything that shapes a rewrite, except the run's seed."""

    engine: BatchEngine
    rewriter: CoTRewriter
    reviews: ReviewPool
    settings: dict[str, object]
    scope: Scope | None = None

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
    scope: Scope | None = None,
) -> Kit:
    """Opens the engine and the rewriter of a profile. `scope`: what the rewriter knows, None for everything.

    Raises ConfigError if a setting cannot be used, ModelMissing if a model folder is not there.
    """
    opened = open_engine(config.model, engine, concurrency) if isinstance(engine, str) else engine
    chosen = target if isinstance(target, Target) else pick_target(config, target)
    asking = Asking.of(config, chosen)
    reviews = ReviewPool(asking.rules, workers)
    rewriter = CoTRewriter(opened, config, target=chosen, reviewer=reviews)
    settings = settings_of(asking, opened.name, n) | ({} if scope is None else {"scope": scope.describe()})
    return Kit(opened, rewriter, reviews, settings, scope)


def settings_of(asking: Asking, model: str, n: int) -> dict[str, object]:
    """Everything that shapes a rewrite, as plain values."""
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
    thoughts = ("thought",) if thought else ()
    many = ("candidates", *(f"candidate_{name}s" for name in (*thoughts, *negative))) if n > 1 else ()
    many += ("scores",) if scored else ()
    return ("request", "prompt", *negative, "status", "findings", *thoughts, "model", "seed", *many)


class Maker:
    """Makes the record of a request: the same one in every process that has the same settings and the same model. A request
    with words outside the scope is kept as it is, and no model is asked.

    Raises InputError for a request that cannot be used, BackendError if the model or the selector failed.
    """

    def __init__(
        self,
        rewriter: Rewriter,
        keys: Keys,
        *,
        n: int = 1,
        selector: Selector | None = None,
        scope: Scope | None = None,
    ) -> None:
        self._scope = scope
        self._rewriter = rewriter
        self._keys = keys
        self._n = n
        self._selector = selector

    async def __call__(self, request: str, key: bytes | None = None) -> Record:
        """`key` is that of `request`, if the caller has it already."""
        seed = self._keys.seed(self._keys.key(request) if key is None else key)
        if self._scope is not None and (findings := await asyncio.to_thread(find_outside, request, self._scope)):
            return Record(status=Status.OUT_OF_SCOPE, prompt=request, seed=seed, findings=findings)
        rewrites = await self._rewriter(request, n=self._n, seed=seed)
        lost = [finding for rewrite in rewrites if rewrite.fallback for finding in rewrite.findings]
        if all(rewrite.fallback for rewrite in rewrites) and (broken := [f for f in lost if f.startswith("server: ")]):
            # This is not the model's judgement of the request: the second try never came through.
            raise BackendError(broken[0].removeprefix("server: "))
        choice = Choice(0) if self._selector is None else await self._selector(request, rewrites, seed)
        return make_record(request, rewrites, choice=choice, seed=seed, many=self._n > 1)


def find_outside(request: str, scope: Scope) -> tuple[str, ...]:
    """What a row says of a request with words outside the scope: one finding; () if it has none."""
    outside = scope.words_outside(request)
    return (f"scope: {scope.warn(outside)}",) if outside else ()


def make_record(request: str, rewrites: Sequence[Rewrite], *, choice: Choice, seed: int, many: bool = False) -> Record:
    """The record of a request from its rewrites. `many`: more than one was asked for."""
    usage = sum((rewrite.usage for rewrite in rewrites), Usage())
    taken = rewrites[0 if choice.index is None else choice.index]
    kept = choice.index is None or taken.fallback
    return Record(
        status=Status.KEPT if kept else Status.REWRITTEN,
        prompt=request if kept else taken.prompt,
        seed=seed,
        negative_prompt=None if kept else taken.negative_prompt,
        thought=taken.thought,
        model=taken.model,
        findings=taken.findings + choice.findings,
        candidates=tuple(rewrite.prompt for rewrite in rewrites) if many else (),
        candidate_thoughts=tuple(rewrite.thought for rewrite in rewrites) if many else (),
        candidate_negative_prompts=tuple(rewrite.negative_prompt for rewrite in rewrites) if many else (),
        scores=choice.scores,
        tokens=(usage.prompt_tokens, usage.completion_tokens),
    )


def make_result(request: str, record: Record, own: tuple[str, ...]) -> dict[str, object]:
    """redraft's columns of a row. `own` names them, "request" first."""
    value: dict[str, object] = {"request": request}
    for name in own[1:]:
        item = getattr(record, name)
        value[name] = list(item) if isinstance(item, tuple) else str(item) if name == "status" else item
    return value


def failed_record(request: str, seed: int, error: BackendError) -> Record:
    return Record(status=Status.FAILED, prompt=request, seed=seed, findings=(f"failed: {error}",))


Scorer = Callable[[str, Sequence[str]], Sequence[float]]
"""Called with the request and the candidates; returns a figure for each candidate, the higher the better."""

_GRAMS = (2, 3, 4)


def consensus(request: str, candidates: Sequence[str]) -> list[float]:
    """How much each candidate has in common with the others: the one that they agree with most wins.

    Minimum Bayes risk decoding (Kumar and Byrne, 2004), with the mean F1 of character 2-, 3- and 4-grams as utility.
    Figures are in [0, 1]; a single candidate has 1.
    """
    bags = [_grams(candidate) for candidate in candidates]
    return [
        sum(_f1(bag, other) for i, other in enumerate(bags) if i != at) / (len(bags) - 1) if len(bags) > 1 else 1.0
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
        scorer: Scorer = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"the scorer {name} cannot be loaded: {error}") from error
    return scorer


class ScoreSelector:
    """A Selector by a scorer. Rewrites that the guard let through come before the request itself; of equal figures the
    first wins."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def __call__(self, request: str, rewrites: Sequence[Rewrite], seed: int) -> Choice:
        try:
            scores = tuple(float(score) for score in self._scorer(request, [rewrite.prompt for rewrite in rewrites]))
        except Exception as error:
            raise InputError(
                f"the scorer failed on {request[:60]!r}: {type(error).__name__}: {one_line(error)}"
            ) from error
        if len(scores) != len(rewrites) or not all(map(isfinite, scores)):
            raise InputError(f"the scorer gave {list(scores)} for {len(rewrites)} candidates")
        best = max(range(len(rewrites)), key=lambda at: (not rewrites[at].fallback, scores[at], -at))
        return Choice(best, scores)


def _grams(text: str) -> list[Counter[str]]:
    plain = " ".join(text.casefold().split())
    return [Counter(plain[at : at + size] for at in range(max(1, len(plain) - size + 1))) for size in _GRAMS]


def _f1(bags: Sequence[Counter[str]], others: Sequence[Counter[str]]) -> float:
    shares = [2 * (a & b).total() / (a.total() + b.total()) for a, b in zip(bags, others, strict=True)]
    return sum(shares) / len(shares)
