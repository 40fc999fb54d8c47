"""The models a run works with, behind the protocols of rewriter, editors and evaluator."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from editors.types import ImageBackend
from evaluator.types import Checklist, ChecklistMaker, Report
from rewriter.types import Rewriter


class Evaluator(Protocol):
    """Judges one picture against a checklist made from `prompt`, the user's own."""

    async def score(self, image: Image.Image, prompt: str, checklist: Checklist) -> Report: ...


def _one_worker() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="redraft-render")


def _eight_calls() -> asyncio.Semaphore:
    return asyncio.Semaphore(8)


@dataclass(frozen=True)
class Parts:
    """What nodes reach through LangGraph's runtime context. One object may serve many runs at once.

    batch_size: pictures drawn in one call of the backend; a kill loses at most one such batch.
    pass_at:    probability from which a check counts as passed.
    names:      role to model name, written to run.json and into the pictures.
    size:       (width, height) in pixels, None leaves it to the backend.
    renderer:   the one thread in which the backend works.
    calls:      shared by all chat and judge calls.
    """

    builder: ChecklistMaker
    rewriter: Rewriter
    backend: ImageBackend
    evaluator: Evaluator
    batch_size: int = 4
    pass_at: float = 0.5
    names: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    renderer: ThreadPoolExecutor = field(default_factory=_one_worker)
    calls: asyncio.Semaphore = field(default_factory=_eight_calls)

    def close(self) -> None:
        """Stops a drawing under way, where the backend can, and lets go of the render thread without waiting for it."""
        interrupt = getattr(self.backend, "interrupt", None)
        if interrupt is not None:
            interrupt()
        self.renderer.shutdown(wait=False, cancel_futures=True)
