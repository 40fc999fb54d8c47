"""The calls behind `import redraft`: draw, edit, judge and check from Python.

    >>> import redraft
    >>> redraft.check("three red stars", "three red stars on white paper")
    ()

Each opens the models of its profile and lets go of them at its end. A program that draws often opens them once and hands
them over as `models`:

    >>> from agent.models import open_models
    >>> profile = redraft.load_profile("mini")
    >>> models = open_models(profile)
    >>> results = [redraft.draw("a red star", profile=profile, models=models, max_images=1, seed=n) for n in range(2)]
    >>> len({result.image for result in results})
    2

What a user may set of a run is one value, `redraft.options.DrawOptions`: its fields are the keywords of `draw` and `edit`.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from PIL import Image

from agent.models import Models, open_models
from agent.run import Run, RunResult, choose_result
from agent.types import StopReason
from evaluator.reward import case_of, open_evaluator
from evaluator.types import Outcome, Report
from redraft.coroutines import run_coroutine
from redraft.errors import BackendError, ConfigError
from redraft.images import fit_mask, open_image, open_mask, to_rgb
from redraft.limits import Limits
from redraft.options import DrawOptions
from redraft.profiles import Profile, load_profile
from rewriter.guard import Finding, check_intent, detect_language
from rewriter.request import clean_request

Picture = str | Path | Image.Image
"""A file or a picture that is open already."""
P = ParamSpec("P")
T = TypeVar("T")


def _twin_of(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[[Callable[[], None]], Callable[P, T]]:
    """Makes the call for programs without an event loop of the one for those with; what is decorated has its docstring."""

    def decorate(described: Callable[[], None]) -> Callable[P, T]:
        @functools.wraps(call)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> T:
            return run_coroutine(call(*args, **kwargs))

        blocking.__name__ = blocking.__qualname__ = described.__name__
        blocking.__doc__ = described.__doc__
        return blocking

    return decorate


async def draw_async(
    request: str,
    *,
    profile: str | Path | Profile = "mini",
    out: str | Path | None = None,
    limits: Limits | None = None,
    references: Sequence[Picture] = (),
    models: Models | None = None,
    n: int = 1,
    **options: object,
) -> RunResult:
    """`draw` for a program with an event loop."""
    chosen = DrawOptions.read(options)
    return await _finish(
        clean_request(request),
        chosen,
        _with_limits(profile, limits),
        n=n,
        out=out,
        models=models,
        references=references,
    )


@_twin_of(draw_async)
def draw() -> None:
    """Draws `request` until a picture is right or the budget is spent; the best picture is `result.image`, a file.

    >>> import redraft
    >>> result = redraft.draw("a red star on white paper", profile="mini", out="runs", seed=7, max_rounds=1, max_images=1)
    >>> result.best_attempt.kind, len(result.images)
    ('generate', 1)

    profile:    a built-in profile, a .toml file, or a Profile.
    out:        folder for the run's own folder; the profile's `runs` if None.
    limits:     the fields that were set change the profile's; the others stay as the profile has them.
    references: pictures to go by, for generators that take some.
    models:     the models of `profile`, opened once by `agent.models.open_models` for many runs.
    n:          how many pictures, 1 to 10: each is found by a run of its own, from seeds in a row. The result is that of the
                best; `result.pictures` has the results of all.
    options:    the fields of `redraft.options.DrawOptions`: size ("1024x768", "16:9", "portrait", (1024, 768)),
                negative_prompt, steps, guidance, seed (in [0, 2**64), repeats a run; drawn at random if None or -1, and kept
                in run.json), search ("loop", "best_of", "draft": docs/search.md), and each limit, such as max_images.

    Raises UsageError for anything that cannot be used, also for an option that the profile cannot do, and BackendError if a
    model or server fails; the run is then kept, and `redraft resume` continues it. Works in a notebook, too.
    """


async def edit_async(
    image: Picture,
    instruction: str,
    *,
    mask: Picture | None = None,
    profile: str | Path | Profile = "mini",
    out: str | Path | None = None,
    limits: Limits | None = None,
    references: Sequence[Picture] = (),
    models: Models | None = None,
    n: int = 1,
    **options: object,
) -> RunResult:
    """`edit` for a program with an event loop."""
    instruction, chosen = clean_request(instruction, kind="instruction"), DrawOptions.read(options)
    picture = _open(image)
    where = None if mask is None else _open_mask(mask, picture.size)
    opened = _with_limits(profile, limits)
    if opened.editor is None:
        raise ConfigError(f"the profile {opened.name!r} has no [editor]; add one, or choose another profile")
    return await _finish(
        instruction, chosen, opened, n=n, out=out, models=models, references=references, source=picture, mask=where
    )


@_twin_of(edit_async)
def edit() -> None:
    """Changes `image` as `instruction` says and keeps the rest; the result is `result.image`, a file.

    >>> import redraft
    >>> drawn = redraft.draw("a red star on white paper", out="runs", seed=7, max_rounds=1, max_images=1)
    >>> edited = redraft.edit(drawn.image, "make the star blue", out="runs", seed=7, max_rounds=1, max_images=1)
    >>> edited.source.name
    'source.png'

    mask: white where the picture may change, of the picture's size; everywhere if None. `search` is "edit" or "tree". The
    other arguments and the errors are those of `draw`. Raises ConfigError if the profile has no editor.
    """


async def judge_async(image: Picture, request: str, *, profile: str | Path | Profile = "mini") -> Report:
    """`judge` for a program with an event loop."""
    request, picture = clean_request(request), _open(image)
    make_checklist, reward = open_evaluator(_load(profile), detect_language=detect_language)
    report = await reward.judge(picture, case_of(request, await make_checklist(request)))
    if report.score is None and report.failed:
        reasons = [v.reason for v in report.verdicts if v.outcome is Outcome.FAILED and v.reason]
        raise BackendError(f"the judge could not score the picture: {reasons[0] if reasons else 'no answer'}")
    return report


@_twin_of(judge_async)
def judge() -> None:
    """Judges a picture against `request`, point by point.

    >>> import redraft
    >>> from PIL import Image
    >>> report = redraft.judge(Image.new("RGB", (64, 64), "white"), "a red star", profile="mini")
    >>> report.score < 0.5
    True
    >>> [verdict.check.question for verdict in report.verdicts]
    ['Is there a red star?']

    `report.unchecked` holds the words of the request that no check asks about. Raises UsageError for anything that cannot
    be used, BackendError if the judge could not answer a single check.
    """


def check(request: str, rewrite: str) -> tuple[Finding, ...]:
    """What `rewrite` breaks of `request`, as the guard has it: lost words, other numbers, another language and so on.

    >>> import redraft
    >>> [finding.rule for finding in redraft.check("three red stars", "a photo of two red stars")]
    ['numbers', 'counts']

    Empty if the rewrite may be used. Asks no model, and never raises for the texts.
    """
    return check_intent(request, rewrite)


async def _finish(
    request: str,
    options: DrawOptions,
    profile: Profile,
    *,
    n: int,
    out: str | Path | None,
    models: Models | None,
    references: Sequence[Picture],
    source: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> RunResult:
    pictures = [_open(picture) for picture in references]
    # What the profile alone can tell is refused before its models are opened.
    profile = profile.searching(options.search, editing=source is not None)
    profile.pixels(options, None if source is None else source.size)
    limits, wanted = options.limits(profile.limits), options.with_seeds(n)
    results: list[RunResult] = []
    with ExitStack() as exits:
        if models is None:
            models = open_models(profile, editing=source is not None or limits.edit_draws, conversing=False)
            exits.callback(models.close)
        for each in wanted:
            run = Run.start(
                request,
                models,
                limits=limits,
                out=Path(profile.runs if out is None else out),
                profile=profile,
                options=each,
                references=pictures,
                source=source,
                mask=mask,
            )
            result = await run.run()
            if result.stop is StopReason.FAILED:
                made = "".join(f"\nmade before it: {before.image}" for before in results if before.image is not None)
                again = f"redraft resume {shlex.quote(str(result.folder))}"
                raise BackendError(f"{result.error}{made}\nwhen that is mended, continue with: {again}")
            results.append(result)
    return choose_result(results)


def _load(profile: str | Path | Profile) -> Profile:
    return profile if isinstance(profile, Profile) else load_profile(str(profile))


def _with_limits(profile: str | Path | Profile, limits: Limits | None) -> Profile:
    opened = _load(profile)
    if limits is None:
        return opened
    changes = limits.model_dump(exclude_unset=True)
    if "tree" in changes:
        changes["tree"] = opened.limits.tree.model_dump() | changes["tree"]
    return opened.model_copy(update={"limits": opened.limits.changed(**changes)})


def _open(picture: Picture) -> Image.Image:
    return to_rgb(picture) if isinstance(picture, Image.Image) else open_image(Path(picture))


def _open_mask(mask: Picture, size: tuple[int, int]) -> Image.Image:
    return fit_mask(mask, size) if isinstance(mask, Image.Image) else open_mask(Path(mask), size)
