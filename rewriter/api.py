"""Better prompts for requests, from Python, in one call.

    from rewriter.api import enhance, enhance_pipeline

    better = enhance("three red stars", profile="workstation", target="flux")     # one Enhanced
    several = enhance(["a fox", "a castle at night"], target="sdxl")               # a list, in order
    pipe = enhance_pipeline(FluxPipeline.from_pretrained(...), profile="workstation")
    image = pipe("three red stars").images[0]                                      # enhances first

For files, and whatever must survive a kill, use `redraft enhance`.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, overload

from redraft.coroutines import run_coroutine
from redraft.errors import BackendError, ModelMissing
from redraft.profiles import Profile, load_profile
from redraft.scope import open_scope
from rewriter.batch.engines import BatchEngine, EngineName
from rewriter.batch.maker import Kit, Maker, ScoreSelector, failed_record, load_scorer, open_kit, pick_target
from rewriter.batch.work import Keys, Record, Status
from rewriter.request import clean_request
from rewriter.target import Target, load_target, target_of_pipeline

T = TypeVar("T")


@dataclass(frozen=True)
class Enhanced:
    """A request and the prompt that was made of it. `str()` of it is the prompt.

    `prompt` is the request itself, cleaned, if `status` is KEPT (no rewrite could be used: see `findings`), OUT_OF_SCOPE (it
    has words that the profile does not know) or FAILED.
    """

    request: str
    prompt: str
    status: Status
    negative_prompt: str | None = None
    thought: str = ""
    model: str = ""
    findings: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    seed: int = 0

    def __str__(self) -> str:
        return self.prompt


class Enhancer:
    """An open rewriter, for many calls: its model is loaded once.

    `profile` is a name, a file or a Profile. `target` is the image model that the prompts are for; if it is None, the
    profile's own or `generic`. `engine` as for `redraft enhance`, or a BatchEngine. With `n` rewrites of a request,
    `select` names the scorer that picks one. Equal requests of a call are rewritten once, and equal calls with the same
    `seed` give the same prompts.

    Raises ConfigError if a setting cannot be used, ModelMissing if a model folder is not there.
    """

    def __init__(
        self,
        profile: str | Profile = "mini",
        target: str | Target | None = None,
        *,
        n: int = 1,
        select: str | None = None,
        seed: int = 0,
        engine: EngineName | BatchEngine = "auto",
        concurrency: int | None = None,
    ) -> None:
        opened = load_profile(profile) if isinstance(profile, str) else profile
        self._kit: Kit = open_kit(
            opened.rewriter, target=target, engine=engine, concurrency=concurrency, n=n,
            scope=None if engine == "fake" else open_scope(opened),
        )  # fmt: skip
        self._keys = Keys({**self._kit.settings, "select": select}, seed)
        selector = None if select is None else ScoreSelector(load_scorer(select))
        self._maker = Maker(self._kit.rewriter, self._keys, n=n, selector=selector, scope=self._kit.scope)

    @property
    def target(self) -> Target | None:
        return self._kit.target

    async def enhance(self, requests: Sequence[str]) -> list[Enhanced]:
        """One Enhanced for each request, in order.

        Raises InputError if a request cannot be used, before any model is asked, and BackendError if the model failed on
        every one of them.
        """
        cleaned = [clean_request(request) for request in requests]
        todo = iter(dict.fromkeys(cleaned))
        made: dict[str, Record] = {}
        errors: list[BackendError] = []

        async def serve() -> None:
            for request in todo:
                try:
                    made[request] = await self._maker(request)
                except ModelMissing:
                    raise
                except BackendError as error:
                    errors.append(error)
                    made[request] = failed_record(request, Keys.seed(self._keys.key(request)), error)

        served = (serve() for _ in range(min(len(cleaned), self._kit.engine.window)))
        # All of them end before the first error is raised.
        for outcome in await asyncio.gather(*served, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        if errors and len(errors) == len(made):
            raise errors[0]
        return [_enhanced(request, made[request]) for request in cleaned]

    async def aclose(self) -> None:
        """Let go of the model or the connections."""
        await self._kit.aclose()


@overload
async def enhance_async(requests: str, **settings: Any) -> Enhanced: ...
@overload
async def enhance_async(requests: Iterable[str], **settings: Any) -> list[Enhanced]: ...
async def enhance_async(requests: str | Iterable[str], **settings: Any) -> Enhanced | list[Enhanced]:
    """`enhance` for a program with an event loop."""
    enhancer = Enhancer(**settings)
    try:
        results = await enhancer.enhance([requests] if isinstance(requests, str) else list(requests))
    finally:
        await enhancer.aclose()
    return results[0] if isinstance(requests, str) else results


@overload
def enhance(requests: str, **settings: Any) -> Enhanced: ...
@overload
def enhance(requests: Iterable[str], **settings: Any) -> list[Enhanced]: ...
def enhance(requests: str | Iterable[str], **settings: Any) -> Enhanced | list[Enhanced]:
    """Better prompts: one Enhanced for a string, a list of them for several. `settings` are those of Enhancer
    (`profile`, `target`, `n`, ...). Works inside a running event loop too, such as a notebook's.

    >>> import redraft
    >>> better = redraft.enhance("Could you draw two little scarlet stars?", profile="mini")
    >>> str(better.status), redraft.check(better.request, better.prompt)
    ('rewritten', ())

    Opens the model, and lets go of it; for many calls keep an Enhancer. Raises as Enhancer and its `enhance` do.
    """
    return run_coroutine(enhance_async(requests, **settings))


_OWN = frozenset({"_pipeline", "_enhancer", "_loop", "last"})
"""Attributes of an EnhancedPipeline that are not its pipeline's."""


class EnhancedPipeline:
    """A diffusers pipeline that enhances the prompts it is called with; all else is the pipeline's own: attributes are
    read from it and set on it, and what its methods give back for itself (`.to("cuda")`) is this wrapper.

    `last` holds what was made of the prompts of the latest call. A negative prompt of the rewriter is passed on if
    the pipeline takes one and the caller gave none.
    """

    def __init__(self, pipeline: Any, enhancer: Enhancer) -> None:
        self._pipeline = pipeline
        self._enhancer = enhancer
        self._loop = _Loop()
        self.last: list[Enhanced] = []

    def __call__(self, prompt: str | Sequence[str] | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the pipeline is called. A call without a prompt (with prompt embeddings, say) goes through as it is."""
        if prompt is None:
            return self._pipeline(*args, **kwargs)
        single = isinstance(prompt, str)
        self.last = self._loop.run(self._enhancer.enhance([prompt] if isinstance(prompt, str) else list(prompt)))
        if self._takes_negative and kwargs.get("negative_prompt") is None:
            negatives = [enhanced.negative_prompt or "" for enhanced in self.last]
            if any(negatives):
                kwargs["negative_prompt"] = negatives[0] if single else negatives
        prompts = [enhanced.prompt for enhanced in self.last]
        return self._pipeline(prompts[0] if single else prompts, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:  # not set yet: the wrapper is being copied
            raise AttributeError(name)
        value = getattr(self._pipeline, name)
        if not inspect.ismethod(value) or value.__self__ is not self._pipeline:
            return value

        @wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            return self if result is self._pipeline else result

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            super().__setattr__(name, value)
        else:
            setattr(self._pipeline, name, value)

    @property
    def _takes_negative(self) -> bool:
        return "negative_prompt" in inspect.signature(self._pipeline.__call__).parameters


def enhance_pipeline(
    pipeline: Any, *, profile: str | Profile = "mini", target: str | Target | None = None, **settings: Any
) -> EnhancedPipeline:
    """`pipeline` in a wrapper that enhances first. If `target` is None, the one that names the pipeline's
    class, else the profile's. Raises as Enhancer does."""
    opened = load_profile(profile) if isinstance(profile, str) else profile
    chosen = load_target(target) if isinstance(target, str) else target
    chosen = chosen or target_of_pipeline(pipeline) or pick_target(opened.rewriter, None)
    return EnhancedPipeline(pipeline, Enhancer(opened, chosen, **settings))


def _enhanced(request: str, record: Record) -> Enhanced:
    return Enhanced(
        request=request,
        prompt=record.prompt,
        status=record.status,
        negative_prompt=record.negative_prompt,
        thought=record.thought,
        model=record.model,
        findings=record.findings,
        candidates=record.candidates,
        seed=record.seed,
    )


class _Loop:
    """An event loop in a thread of its own, for as long as the process lives: connections stay open between calls."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="redraft-enhance", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
