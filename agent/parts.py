"""The models a run works with, behind the protocols of rewriter, editors and evaluator."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

from PIL import Image

from agent.edit_judging import EditEvaluator
from editors.types import ImageBackend
from evaluator.answering import Answerer
from evaluator.edits.types import EditChecklistMaker
from evaluator.grounding import Grounder
from evaluator.pairs.judges import GroupJudge
from evaluator.types import Checklist, ChecklistMaker, Report
from rewriter.plan import Planner
from rewriter.turns import TurnReader
from rewriter.types import Rewriter


class Evaluator(Protocol):
    """Judges one picture against a checklist made from `prompt`, the user's own."""

    async def score(self, image: Image.Image, prompt: str, checklist: Checklist) -> Report: ...


@dataclass(frozen=True)
class Chooser:
    """Who chooses among pictures whose scores lie within `margin`."""

    judge: GroupJudge
    margin: float = 0.02


def _one_worker() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="redraft-render")


class CallLimit:
    """Lets at most `most` calls run at once: `async with limit: ...`. May serve one event loop after another."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        await self._gates.setdefault(loop, asyncio.Semaphore(self._most)).acquire()

    async def __aexit__(self, *_: object) -> None:
        self._gates[asyncio.get_running_loop()].release()


@dataclass(frozen=True)
class Parts:
    """What nodes reach through LangGraph's runtime context. One object may serve many runs at once.

    batch_size: pictures drawn in one call of the backend; a kill loses at most one such batch.
    pass_at:    probability from which a check counts as passed.
    names:      role to model name, written to run.json and into the pictures.
    renderer:   the one thread in which the backends work.
    calls:      shared by all chat and judge calls.

    editor, planner, edit_checks and edit_evaluator are all there, or none is: without them a run only ever draws.
    grounder:   says where a sub-task is to change something, where neither the user, the planner nor the judge did.
    turn_reader and answerer: for conversations, which know only commands without the one, and no answers without the
                other.
    chooser:    None: of equally good pictures the first is the best.
    """

    builder: ChecklistMaker
    rewriter: Rewriter
    backend: ImageBackend
    evaluator: Evaluator
    batch_size: int = 4
    pass_at: float = 0.5
    names: Mapping[str, str] = field(default_factory=dict)
    renderer: ThreadPoolExecutor = field(default_factory=_one_worker)
    calls: CallLimit = field(default_factory=CallLimit)
    editor: ImageBackend | None = None
    planner: Planner | None = None
    edit_checks: EditChecklistMaker | None = None
    edit_evaluator: EditEvaluator | None = None
    grounder: Grounder | None = None
    turn_reader: TurnReader | None = None
    answerer: Answerer | None = None
    chooser: Chooser | None = None

    @property
    def can_edit(self) -> bool:
        return self.editor is not None and self.planner is not None

    def close(self) -> None:
        """Stops a drawing under way, where the backend can, and lets go of the render thread without waiting for it."""
        for backend in (self.backend, self.editor):
            interrupt = getattr(backend, "interrupt", None)
            if interrupt is not None:
                interrupt()
        self.renderer.shutdown(wait=False, cancel_futures=True)
