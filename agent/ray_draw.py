"""Requests to judged pictures on a cluster: Ray Data rewrites with vLLM, draws in actors with a GPU each, and has a served
judge score.

    import ray
    from agent.ray_draw import draw_dataset
    from redraft.profiles import load_profile

    rows = ray.data.read_parquet("prompts/")
    drawn = draw_dataset(rows, load_profile("workstation"), field="prompt", painters=8, judges=4)
    drawn.write_parquet("drawn/")

The same steps as `redraft draw --prompts`, without its exactly-once: what Ray retries is drawn again (from the same seed). Needs
the extra `ray`, and vLLM on the workers. The classes that Ray calls are plain and need neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from PIL import Image

from agent.decide import acceptable
from agent.enhance_judge import PictureRanker, open_ranker
from editors.backend import ImageBackend, ImageTask, decode_image, open_backend, png, render
from redraft.chat import open_chat
from redraft.errors import BackendError
from redraft.extras import require
from redraft.profiles import Profile
from rewriter.batch.ray_rows import enhance_dataset
from rewriter.cot import infer_target

Batch = dict[str, Any]
"""Columns of a batch, each a sequence."""


class DrawRows:
    """Draws the prompts of a batch: adds `image`, a PNG, and `draw_error`, "" or why there is none."""

    def __init__(self, profile: Profile, backend: ImageBackend | None = None) -> None:
        self._backend = backend or open_backend(profile.need_generator())

    def __call__(self, batch: Batch) -> Batch:
        negatives = batch.get("negative_prompt", [None] * len(batch["prompt"]))
        tasks = [
            ImageTask(str(prompt), int(seed), negative_prompt=str(negative) if negative else None)
            for prompt, seed, negative in zip(batch["prompt"], batch["seed"], negatives, strict=True)
        ]
        drawn = self._draw(tasks)
        images = [b"" if isinstance(one, str) else png(one) for one in drawn]
        return {**batch, "image": images, "draw_error": [one if isinstance(one, str) else "" for one in drawn]}

    def _draw(self, tasks: Sequence[ImageTask]) -> list[Image.Image | str]:
        try:
            return list(render(self._backend, tasks))
        except BackendError as error:
            if len(tasks) == 1:
                return [str(error)]
            return [one for task in tasks for one in self._draw([task])]  # one bad prompt fails no other


class JudgeRows:
    """Judges the pictures of a batch, all at once: adds `score` (NaN if there is none), `accepted`, and `unchecked`, the words
    that no check covers, between commas."""

    def __init__(self, profile: Profile, ranker: PictureRanker | None = None) -> None:
        self._ranker = ranker or open_ranker(profile, open_chat(profile.rewriter.model))
        self._runner = asyncio.Runner()

    def __call__(self, batch: Batch) -> Batch:
        rows = zip(batch["request"], batch["prompt"], batch["seed"], batch["image"], strict=True)
        judged = self._runner.run(self._judge([(str(r), str(p), int(s), bytes(i)) for r, p, s, i in rows]))
        scores, accepted, unchecked = zip(*judged, strict=True)
        return {**batch, "score": list(scores), "accepted": list(accepted), "unchecked": list(unchecked)}

    async def _judge(self, rows: Sequence[tuple[str, str, int, bytes]]) -> list[tuple[float, bool, str]]:
        async def one(request: str, prompt: str, seed: int, image: bytes) -> tuple[float, bool, str]:
            if not image:
                return float("nan"), False, ""
            picture = decode_image(image, "the row's picture")
            try:
                report = (await self._ranker(request, [picture], [ImageTask(prompt, seed)])).reports[0]
            except BackendError:
                return float("nan"), False, ""
            score = float("nan") if report.score is None else report.score
            return score, acceptable(report, self._ranker.limits), ", ".join(report.unchecked)

        return list(await asyncio.gather(*(one(*row) for row in rows)))


def draw_dataset(
    dataset: Any,
    profile: Profile,
    *,
    field: str = "prompt",
    seed: int = 0,
    rewriters: int = 1,
    painters: int = 1,
    judges: int = 1,
    **engine: Any,
) -> Any:
    """A ray.data.Dataset with the columns of `enhance_dataset`, `image`, `draw_error`, `score`, `accepted` and `unchecked`.

    `rewriters` vLLM engines and `painters` generators of this profile have a GPU each; `judges` actors ask its judge's server.
    `engine`: vLLM's settings. Raises ConfigError, and MissingExtra if Ray is not installed.
    """
    require("ray", "this runs on Ray Data")
    target = infer_target(profile.rewriter, profile.need_generator())
    profile.need_judge()
    rows = enhance_dataset(dataset, profile, field=field, target=target, seed=seed, replicas=rewriters, **engine)
    return draw_rewritten(rows, profile, painters=painters, judges=judges)


def draw_rewritten(dataset: Any, profile: Profile, *, painters: int = 1, judges: int = 1) -> Any:
    """Adds `image`, `draw_error`, `score`, `accepted` and `unchecked` to a ray.data.Dataset with `request`, `prompt` and `seed`.
    Models whose device is "cpu" get no GPU. Raises ConfigError, and MissingExtra if Ray is not installed."""
    require("ray", "this runs on Ray Data")
    drawing, judging = profile.need_generator(), profile.need_judge().model
    drawn = dataset.map_batches(
        DrawRows,
        fn_constructor_kwargs={"profile": profile},
        batch_size=drawing.at_once,
        concurrency=painters,
        num_gpus=0 if drawing.server or drawing.device == "cpu" else 1,
    )
    return drawn.map_batches(
        JudgeRows,
        fn_constructor_kwargs={"profile": profile},
        batch_size=16,
        concurrency=judges,
        num_gpus=0 if judging.server or judging.local.device == "cpu" else 1,
    )
