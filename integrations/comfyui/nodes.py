"""Four nodes over redraft's models, in this process. The models of a profile are opened once and kept.

IMAGE is ComfyUI's: a float tensor (batch, height, width, 3) with values in [0, 1]; MASK (batch, height, width), 1 = change.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_api.latest import ComfyAPI, ComfyExtension, io
from PIL import Image

from agent.decide import acceptable
from agent.events import ChecklistMade, Event, Judged, StepProgress
from agent.models import Models, open_models
from agent.run import Run, RunResult, choose_result
from agent.types import StopReason, passes
from evaluator.reward import case_of
from evaluator.types import Outcome, Report, Shot
from redraft.errors import BackendError, InputError
from redraft.images import fit_mask
from redraft.limits import Limits
from redraft.options import MAX_N, MAX_SEED, DrawOptions, value_type
from redraft.profiles import Profile, load_profile
from rewriter.batch import find_outside
from rewriter.request import clean_request

CATEGORY = "redraft"
_STEPS_PER_ROUND = 100
"""Of the progress bar."""
_SEED = {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": True}
_PROFILE = "A profile that comes with redraft (mini, workstation, remote), or the path of a .toml file."


class EnhancePrompt(io.ComfyNode):
    """Makes a better prompt of a request."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="RedraftEnhancePrompt",
            display_name="Enhance prompt (redraft)",
            category=CATEGORY,
            description="Writes a better prompt for your request: an intent guard checks that it keeps what you wrote.",
            inputs=[
                io.String.Input("request", multiline=True, default="", tooltip="What the picture is to show."),
                io.String.Input("profile", default="mini", tooltip=_PROFILE),
                io.Int.Input("seed", **_SEED),
                io.String.Input(
                    "target",
                    default="",
                    optional=True,
                    tooltip="Image model that the prompt is for (flux, sdxl, ... or a .toml file); empty: the profile's.",
                ),
            ],
            outputs=[
                io.String.Output("better", display_name="prompt"),
                io.String.Output("negative", display_name="negative prompt"),
                io.String.Output("thought", display_name="thought"),
                io.String.Output("findings", display_name="findings"),
            ],
        )

    @classmethod
    async def execute(cls, request: str, profile: str, seed: int, target: str = "") -> Any:
        _, models = await _open(profile, target)
        request = clean_request(request)
        if models.scope is not None and (findings := find_outside(request, models.scope)):
            return io.NodeOutput(request, "", "", "\n".join(findings))
        async with models.calls:
            (rewrite,) = await models.rewriter(request, n=1, seed=seed)
        return io.NodeOutput(
            rewrite.prompt, rewrite.negative_prompt or "", rewrite.thought, "\n".join(rewrite.findings)
        )


class JudgeImage(io.ComfyNode):
    """Judges each picture of a batch against the request, and picks the best."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="RedraftJudgeImage",
            display_name="Judge image (redraft)",
            category=CATEGORY,
            description="Turns the request into yes/no questions, asks them of each picture, and hands on the best one.",
            inputs=[
                io.Image.Input("images"),
                io.String.Input(
                    "request", multiline=True, default="", tooltip="Your own words, not a rewrite of them."
                ),
                io.String.Input("profile", default="mini", tooltip=_PROFILE),
            ],
            outputs=[
                io.Image.Output("best", display_name="best image"),
                io.Float.Output("score", display_name="score"),
                io.Boolean.Output("accepted", display_name="accepted"),
                io.Int.Output("index", display_name="index"),
                io.String.Output("report", display_name="report"),
            ],
        )

    @classmethod
    async def execute(cls, images: torch.Tensor, request: str, profile: str) -> Any:
        described, models = await _open(profile)
        limits = described.limits
        request = clean_request(request)
        async with models.calls:
            checks = await models.checklist_maker(request)
        pictures = to_pictures(images)
        if not pictures:
            raise InputError("the batch holds no picture to judge")

        shots = [Shot((picture,)) for picture in pictures]
        reports = await models.reward(case_of(request, checks), shots, calls=models.calls)
        if all(report.score is None for report in reports):
            reasons = (v.reason for report in reports for v in report.verdicts if v.outcome is Outcome.FAILED)
            raise BackendError(f"the judge could not score any picture: {next(reasons, '') or 'no answer'}")

        def rank(index: int) -> tuple[bool, float, int]:
            score = reports[index].score
            return acceptable(reports[index], limits), -1.0 if score is None else score, -index

        best = max(range(len(reports)), key=rank)
        score = reports[best].score
        assert score is not None
        accepted = acceptable(reports[best], limits)
        report = report_lines(reports[best], limits.pass_at)
        return io.NodeOutput(images[best : best + 1], score, accepted, best, report)


class DrawUntilAccepted(io.ComfyNode):
    """Rewrites, draws and judges until a picture is accepted."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="RedraftDrawUntilAccepted",
            display_name="Draw until accepted (redraft)",
            category=CATEGORY,
            description="Rewrites, draws with the profile's generator, judges, and goes round until every check passes "
            "or the budget is spent. Hands on the best picture it has seen.",
            inputs=_run_inputs(
                "request",
                "What the picture is to show.",
                io.Float.Input("accept_at", default=0.85, min=0.05, max=1.0, step=0.01, tooltip="Score to reach."),
                io.Int.Input("max_rounds", default=4, min=1, max=100),
                io.Int.Input("max_images", default=8, min=1, max=1000),
            ),
            outputs=_run_outputs(),
        )

    @classmethod
    async def execute(
        cls,
        request: str,
        profile: str,
        seed: int,
        accept_at: float,
        max_rounds: int,
        max_images: int,
        runs: str = "",
        references: torch.Tensor | None = None,
        n: int = 1,
        **more: Any,
    ) -> Any:
        options = _options(more, seed=seed, accept_at=accept_at, max_rounds=max_rounds, max_images=max_images)
        return await _run_to_end(request, profile, options.with_seeds(n), runs, references)


class EditImage(io.ComfyNode):
    """Changes a picture as an instruction says, and keeps the rest."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="RedraftEditImage",
            display_name="Edit until accepted (redraft)",
            category=CATEGORY,
            description="Changes the picture with the profile's editor, judges what was to change and what was to stay, and "
            "goes round until both are right or the budget is spent.",
            inputs=[
                io.Image.Input("source", tooltip="The picture to change; of a batch the first."),
                *_run_inputs(
                    "instruction",
                    "What to change.",
                    io.Mask.Input("mask", optional=True, tooltip="Where it may change; everywhere without one."),
                    limits=("max_rounds", "max_images"),
                ),
            ],
            outputs=_run_outputs(),
        )

    @classmethod
    async def execute(
        cls,
        source: torch.Tensor,
        instruction: str,
        profile: str,
        seed: int,
        mask: torch.Tensor | None = None,
        runs: str = "",
        references: torch.Tensor | None = None,
        n: int = 1,
        **more: Any,
    ) -> Any:
        pictures = to_pictures(source)
        if not pictures:
            raise InputError("the batch holds no picture to edit")
        area = None if mask is None else fit_mask(to_mask(mask), pictures[0].size)
        options = _options(more, seed=seed).with_seeds(n)
        return await _run_to_end(instruction, profile, options, runs, references, source=pictures[0], mask=area)


_MORE = ("size", "negative_prompt", "steps", "guidance", "search", "max_seconds", "max_steps")


def _run_inputs(words: str, tip: str, *own: Any, limits: Sequence[str] = ()) -> list[Any]:
    """What a run is given: its `words`, then what the node has for itself, then what both run nodes have. The order is kept:
    saved workflows hold values by it."""
    return [
        io.String.Input(words, multiline=True, default="", tooltip=tip),
        io.String.Input("profile", default="mini", tooltip=_PROFILE),
        io.Int.Input("seed", **_SEED),
        *own,
        io.String.Input("runs", default="", optional=True, tooltip="Folder for runs; empty: the profile's."),
        io.Image.Input("references", optional=True, tooltip="Pictures to go by, if the profile takes some."),
        *_option_inputs(*limits),
        io.Int.Input(
            "n", default=1, min=1, max=MAX_N, optional=True, tooltip="Pictures, each found by a run of its own."
        ),
    ]


def _run_outputs() -> list[Any]:
    """What the runs of a node hand on: all pictures as a batch, the best first; the rest is that one's."""
    return [
        io.Image.Output("image", display_name="image"),
        io.Float.Output("score", display_name="score"),
        io.Boolean.Output("accepted", display_name="accepted"),
        io.String.Output("drawn_from", display_name="prompt"),
        io.String.Output("report", display_name="report"),
        io.String.Output("trace", display_name="trace.html"),
    ]


def _option_inputs(*others: str) -> list[Any]:
    """An optional input for each option; empty, or 0, leaves it as the profile has it."""
    inputs = []
    for name in (*_MORE, *others):
        kind, tip = value_type(name), f"{DrawOptions.model_fields[name].description} Empty or 0: the profile's."
        if kind is str:
            inputs.append(io.String.Input(name, default="", optional=True, tooltip=tip))
        elif kind is int:
            inputs.append(io.Int.Input(name, default=0, min=0, max=10_000_000, optional=True, tooltip=tip))
        else:
            inputs.append(
                io.Float.Input(name, default=0.0, min=0.0, max=100_000.0, step=0.1, optional=True, tooltip=tip)
            )
    return inputs


def _options(more: dict[str, Any], **own: object) -> DrawOptions:
    return DrawOptions.read({name: value for name, value in more.items() if value not in ("", 0)} | own)


async def _run_to_end(
    request: str,
    profile: str,
    options: Sequence[DrawOptions],
    runs: str,
    references: torch.Tensor | None,
    *,
    source: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> Any:
    """A run for each of `options`, one after the other."""
    described, models = await _open(profile)
    limits = options[0].limits(described.limits)
    bar = _Bar(limits, len(options))
    results: list[RunResult] = []
    for each in options:
        run = Run.start(
            request,
            models,
            limits=limits,
            out=Path(runs or described.runs),
            profile=described,
            options=each,
            references=[] if references is None else to_pictures(references),
            source=source,
            mask=mask,
        )
        async for event in run.stream():
            await bar.show(event, len(results))
            if interrupted():
                run.cancel()
        result = run.result
        assert result is not None
        if interrupted():
            raise_interrupted()
        if result.stop is StopReason.FAILED or result.image is None:
            raise BackendError(f"{result.error or result.why} (the run is in {result.folder})")
        results.append(result)
    chosen = choose_result(results)
    best = chosen.best_attempt
    assert best is not None
    ordered = [chosen.image, *(each.image for each in results if each.folder != chosen.folder)]
    pictures = await asyncio.to_thread(lambda: [_load(path) for path in ordered if path is not None])
    return io.NodeOutput(
        to_tensor(pictures),
        0.0 if best.score is None else best.score,
        chosen.stop is StopReason.ACCEPTED,
        best.prompt,
        f"{chosen.stop.value}: {chosen.why}\n{report_lines(best.report, limits.pass_at)}",
        str(chosen.trace.resolve()),
    )


class RedraftExtension(ComfyExtension):
    async def get_node_list(self) -> list[Any]:
        return [EnhancePrompt, JudgeImage, DrawUntilAccepted, EditImage]


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls when it loads the package."""
    return RedraftExtension()


class _Bar:
    """The node's progress bar over its `runs`, with each judged picture as its preview."""

    def __init__(self, limits: Limits, runs: int) -> None:
        self._rounds = limits.max_rounds
        self._whole = runs * limits.max_rounds * _STEPS_PER_ROUND
        self._at = 0.0
        self._api = ComfyAPI()

    async def show(self, event: Event, finished: int) -> None:
        """`finished`: how many runs are behind the one that tells of the event."""
        before = finished * self._rounds
        match event:
            case StepProgress(step="render", round=number, done=done, total=total) if total:
                await self._set(before + number - 1 + 0.8 * done / total)
            case Judged(attempt=attempt, path=path):
                await self._set(before + attempt.round - 0.1, await asyncio.to_thread(_load, path))
            case ChecklistMade():
                await self._set(before + 0.05)

    async def _set(self, rounds: float, picture: Image.Image | None = None) -> None:
        self._at = max(self._at, rounds * _STEPS_PER_ROUND)  # a bar that runs back reads as an error
        await self._api.execution.set_progress(self._at, self._whole, preview_image=picture)


def report_lines(report: Report, pass_at: float) -> str:
    """A report as lines of text."""
    lines = []
    for verdict in report.verdicts:
        if verdict.outcome is Outcome.SCORED:
            mark, value = ("+" if passes(verdict, pass_at) else "-"), f"{verdict.probability:.2f}"
        else:
            mark, value = "?" if verdict.outcome is Outcome.FAILED else " ", verdict.outcome.value
        reason = f" ({verdict.reason})" if verdict.reason else ""
        lines.append(f"{mark} {value} {verdict.check.question}{reason}")
    return "\n".join(lines)


def to_pictures(images: torch.Tensor) -> list[Image.Image]:
    """(batch, height, width, 3) in [0, 1] to RGB pictures."""
    whole = (images.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return [Image.fromarray(np.ascontiguousarray(one[..., :3]), "RGB") for one in whole]


def to_mask(mask: torch.Tensor) -> Image.Image:
    """(batch, height, width) in [0, 1], of which the first counts, to a mask (L, white = change)."""
    whole = (mask.detach().cpu().float().reshape(-1, *mask.shape[-2:])[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(whole.numpy()), "L")


def to_tensor(pictures: Iterable[Image.Image]) -> torch.Tensor:
    """RGB pictures of one size to (batch, height, width, 3) in [0, 1]."""
    arrays = [np.asarray(picture.convert("RGB"), dtype=np.float32) / 255 for picture in pictures]
    return torch.from_numpy(np.stack(arrays))


def interrupted() -> bool:
    """Whether the user has pressed Cancel."""
    try:
        from comfy.model_management import processing_interrupted
    except ModuleNotFoundError:
        return False
    return bool(processing_interrupted())


def raise_interrupted() -> None:
    """Ends the workflow the way ComfyUI ends it."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    throw_exception_if_processing_interrupted()


_lock = threading.Lock()
_models: dict[tuple[str, str], tuple[Profile, Models]] = {}


async def _open(name: str, target: str = "") -> tuple[Profile, Models]:
    """A profile and its models, opened once for each target of the rewriter. Node classes hold no state in ComfyUI, the
    module does."""

    def work() -> tuple[Profile, Models]:
        with _lock:
            if (name, target) not in _models:
                profile = load_profile(name)
                if target:
                    aimed = profile.rewriter.model_copy(update={"target": target})
                    profile = profile.model_copy(update={"rewriter": aimed})
                _models[name, target] = (profile, open_models(profile))
            return _models[name, target]

    return await asyncio.to_thread(work)


def _load(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
