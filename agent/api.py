"""The calls behind `import redraft`: draw, edit, judge and check from Python.

    >>> import redraft
    >>> redraft.check("three red stars", "three red stars on white paper")
    ()

Each opens the models of its profile and lets go of them at its end. A program that draws often opens them once and hands
them over as `models`:

    >>> from agent.models import open_models
    >>> profile = redraft.load_profile("mini")
    >>> models = open_models(profile)
    >>> one_image = redraft.Limits(max_rounds=1, max_images=1)
    >>> results = [redraft.draw("a red star", profile=profile, models=models, limits=one_image, seed=n) for n in range(2)]
    >>> len({result.image for result in results})
    2
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from agent.models import Models, open_models
from agent.run import Run, RunResult
from agent.types import StopReason
from evaluator.reward import case_of, open_evaluator
from evaluator.types import Outcome, Report
from redraft.coroutines import run_coroutine
from redraft.errors import BackendError, ConfigError
from redraft.images import fit_mask, open_image, open_mask, to_rgb
from redraft.limits import Limits
from redraft.profiles import Profile, load_profile
from rewriter.guard import Finding, check_intent, detect_language
from rewriter.request import clean_request

Picture = str | Path | Image.Image
"""A file or a picture that is open already."""


def draw(
    request: str,
    *,
    profile: str | Path | Profile = "mini",
    out: str | Path | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    search: str | None = None,
    size: tuple[int, int] | None = None,
    models: Models | None = None,
) -> RunResult:
    """Draws `request` until a picture is right or the budget is spent; the best picture is `result.image`, a file.

    >>> import redraft
    >>> limits = redraft.Limits(max_rounds=1, max_images=1)
    >>> result = redraft.draw("a red star on white paper", profile="mini", out="runs", seed=7, limits=limits)
    >>> result.best_attempt.kind, len(result.images)
    ('generate', 1)

    profile: a built-in profile, a .toml file, or a Profile.
    out:     folder for the run's own folder; the profile's `runs` if None.
    seed:    in [0, 2**31), repeats a run; drawn at random if None, and kept in run.json.
    limits:  the fields that were set change the profile's; the others stay as the profile has them.
    search:  how the budget is used: "loop", "best_of", "draft" (docs/search.md); the profile's if None.
    size:    (width, height) in pixels; the model's own if None.
    models:   the models of `profile`, opened once by `agent.models.open_models` for many runs.

    Raises UsageError for anything that cannot be used, and BackendError if a model or server fails; the run is then
    kept, and `redraft resume` continues it. Works in a notebook, too.
    """
    return run_coroutine(
        draw_async(
            request,
            profile=profile,
            out=out,
            seed=seed,
            limits=limits,
            search=search,
            size=size,
            models=models,
        )
    )


async def draw_async(
    request: str,
    *,
    profile: str | Path | Profile = "mini",
    out: str | Path | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    search: str | None = None,
    size: tuple[int, int] | None = None,
    models: Models | None = None,
) -> RunResult:
    """`draw` for a program with an event loop."""
    opened = _with_limits(profile, limits).searching(search)
    opened.require_size(size)
    return await _finish(clean_request(request), opened, out=out, seed=seed, size=size, models=models)


def edit(
    image: Picture,
    instruction: str,
    *,
    mask: Picture | None = None,
    profile: str | Path | Profile = "mini",
    out: str | Path | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    search: str | None = None,
    size: tuple[int, int] | None = None,
    models: Models | None = None,
) -> RunResult:
    """Changes `image` as `instruction` says and keeps the rest; the result is `result.image`, a file.

    >>> import redraft
    >>> limits = redraft.Limits(max_rounds=1, max_images=1)
    >>> drawn = redraft.draw("a red star on white paper", out="runs", seed=7, limits=limits)
    >>> edited = redraft.edit(drawn.image, "make the star blue", out="runs", seed=7, limits=limits)
    >>> edited.source.name
    'source.png'

    mask: white where the picture may change, of the picture's size; everywhere if None. The other arguments and the
    errors are those of `draw`. Raises ConfigError if the profile has no editor.
    """
    return run_coroutine(
        edit_async(
            image, instruction, mask=mask, profile=profile, out=out, seed=seed, limits=limits, search=search, size=size,
            models=models,
        )
    )  # fmt: skip


async def edit_async(
    image: Picture,
    instruction: str,
    *,
    mask: Picture | None = None,
    profile: str | Path | Profile = "mini",
    out: str | Path | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    search: str | None = None,
    size: tuple[int, int] | None = None,
    models: Models | None = None,
) -> RunResult:
    """`edit` for a program with an event loop."""
    instruction = clean_request(instruction, kind="instruction")
    picture = _open(image)
    where = None if mask is None else _open_mask(mask, picture.size)
    opened = _with_limits(profile, limits).searching(search, editing=True)
    opened.require_size(size, editing=True)
    if opened.editor is None:
        raise ConfigError(f"the profile {opened.name!r} has no [editor]; add one, or choose another profile")
    return await _finish(
        instruction, opened, out=out, seed=seed, size=size, models=models, source=picture, mask=where,
    )  # fmt: skip


def judge(image: Picture, request: str, *, profile: str | Path | Profile = "mini") -> Report:
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
    return run_coroutine(judge_async(image, request, profile=profile))


async def judge_async(image: Picture, request: str, *, profile: str | Path | Profile = "mini") -> Report:
    """`judge` for a program with an event loop."""
    request, picture = clean_request(request), _open(image)
    make_checklist, reward = open_evaluator(_load(profile), detect_language=detect_language)
    report = await reward.judge(picture, case_of(request, await make_checklist(request)))
    if report.score is None and report.failed:
        reasons = [v.reason for v in report.verdicts if v.outcome is Outcome.FAILED and v.reason]
        raise BackendError(f"the judge could not score the picture: {reasons[0] if reasons else 'no answer'}")
    return report


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
    profile: Profile,
    *,
    out: str | Path | None,
    seed: int | None,
    size: tuple[int, int] | None,
    models: Models | None,
    source: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> RunResult:
    with ExitStack() as exits:
        if models is None:
            models = open_models(profile, editing=source is not None or profile.limits.edit_draws, conversing=False)
            exits.callback(models.close)
        run = Run.start(
            request,
            models,
            limits=profile.limits,
            out=Path(profile.runs if out is None else out),
            profile=profile,
            seed=seed,
            size=size,
            source=source,
            mask=mask,
        )
        result = await run.run()
    if result.stop is StopReason.FAILED:
        raise BackendError(f"{result.error}\nwhen that is mended, continue with: redraft resume {result.folder}")
    return result


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
