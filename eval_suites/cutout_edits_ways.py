"""The four ways of editing that `eval_suites.cutout_edits` compares, and drawing with and without edits.

Each pair, turn and prompt is done once and noted in the journal. The system's own judge chooses; what is noted
of a result is the oracle's.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agent.decide import acceptable
from agent.edit_judging import wanted_and_kept
from agent.models import Models
from agent.run import Run
from agent.types import StopReason
from editors.backend import ImageTask, render
from editors.changes import is_unchanged
from eval_suites.generation.cutouts import asked
from eval_suites.painting import seed_of
from evaluator.edits.types import Edit
from mini.editor.edits import EditSpec
from mini.editor.figures import items
from mini.editor.sampling import sample_edit
from mini.editor.truth import kept, ops_followed
from mini.editor.wording import say_edit
from mini.world import oracle
from mini.world.raster import draw
from mini.world.sampling import sample_pair
from mini.world.wording import Wording
from redraft.errors import BackendError
from redraft.images import open_image
from redraft.journal import Journal
from redraft.limits import Limits
from redraft.profiles import Profile
from redraft.store import ImageStore

WAYS = {
    "single": "single edit call",
    "best": "best of {best} by the judge",
    "loop": "edit loop, at most {loop} edits",
    "tree": "tree, at most {tree} edits",
}
MOST = {"best": 4, "loop": 4, "tree": 8}
TURNS = 3
"""Of a session."""
AT_ONCE = 12
"""Pairs under way at once; their pictures are edited one batch at a time all the same."""
_SEED = 731_001
_A_DAY = 86_400.0


def limits_of(way: str, profile: Profile) -> Limits:
    """The profile's limits, with what makes a way of editing out of them. Pictures are the budget: seconds would
    measure how many pairs are worked on side by side."""
    own = profile.limits
    most = MOST[way]
    own = own.changed(max_images=most, max_rounds=most, patience=most, max_seconds=_A_DAY)
    if way == "loop":
        # One result a round, of all sub-tasks together; where it fails, the picture as it was given is edited anew.
        return own.changed(tree=own.tree.model_copy(update={"width": 1, "keep": 1, "merge": 32, "depth": 1}))
    # Four results of all that does not depend on one another; where none is good enough, in smaller parts.
    return own.changed(
        tree=own.tree.model_copy(update={"width": 4, "keep": 1, "merge": 32, "depth": 4, "base": "anew"})
    )


@dataclass(frozen=True)
class Asked:
    """An instruction, the edit that it says, and the picture it is about."""

    name: str
    spec: EditSpec
    picture: Image.Image
    prompt: str
    seed: int


class Editing:
    """Edits by every way, each once, and notes what came of it."""

    def __init__(self, models: Models, profile: Profile, journal: Journal, out: Path) -> None:
        self._models, self._profile, self._journal, self._out = models, profile, journal, out
        self._store = ImageStore(out / "state" / "images")
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def edited(self, way: str, asked: Asked) -> dict[str, Any]:
        """{"image": hash, "drawn": pictures made, "stop": why, "followed": of each sub-task, "kept": the rest}."""

        async def make() -> dict[str, Any]:
            async with self._gate:
                image, drawn, stop = await self._ways()[way](way, asked)
            before, after = oracle.read_scene(asked.picture), oracle.read_scene(image)
            return {
                "image": self._store.put(image),
                "drawn": drawn,
                "stop": stop,
                "kinds": [op.kind for op in asked.spec.ops],
                "followed": [bool(done) for done in ops_followed(asked.spec, before, after)],
                "kept": bool(kept(asked.spec, before, after)),
            }

        made: dict[str, Any] = await self._journal.aonce(("edit", f"{way} {asked.name}"), make)
        return made

    def _ways(self) -> Mapping[str, Callable[[str, Asked], Awaitable[tuple[Image.Image, int, str]]]]:
        return {"single": self._single, "best": self._best, "loop": self._run, "tree": self._run}

    async def _drawn(self, asked: Asked, count: int) -> list[Image.Image]:
        assert self._models.editing is not None
        editor = self._models.editing.editor
        tasks = [
            ImageTask(asked.prompt, seed_of(asked.seed, asked.prompt, k), source=asked.picture) for k in range(count)
        ]
        return await asyncio.get_running_loop().run_in_executor(self._models.renderer, render, editor, tasks)

    async def _single(self, way: str, asked: Asked) -> tuple[Image.Image, int, str]:
        return (await self._drawn(asked, 1))[0], 1, ""

    async def _best(self, way: str, asked: Asked) -> tuple[Image.Image, int, str]:
        """The best result by the questions and the order of `redraft edit`: acceptable ones first, then by score."""
        models = self._models
        assert models.editing is not None
        results = await self._drawn(asked, MOST[way])
        checks = await models.editing.checks(asked.picture, asked.prompt)
        async with models.calls:
            seen = await models.evaluator.score(asked.picture, asked.prompt, (*checks.wanted, *checks.kept))
        questions = wanted_and_kept(checks, seen, self._profile.limits.pass_at)
        reports = []
        for result in results:
            async with models.calls:
                reports.append(await models.editing.evaluator(Edit(asked.picture, result, asked.prompt), questions))
        able = [n for n, result in enumerate(results) if not is_unchanged(asked.picture, result)] or [0]
        limits = self._profile.limits
        best = max(able, key=lambda n: (acceptable(reports[n], limits), reports[n].score or 0.0, -n))
        return results[best], len(results), ""

    async def _run(self, way: str, asked: Asked) -> tuple[Image.Image, int, str]:
        """As `redraft edit` does it. A run that a kill cut short begins anew."""
        folder = self._out / "runs" / way / asked.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        session = Run.start(
            asked.prompt,
            self._models,
            limits=limits_of(way, self._profile),
            out=folder.parent,
            folder=folder,
            seed=asked.seed,
            source=asked.picture,
        )
        result = await session.run()
        if result.image is None:
            if result.stop is StopReason.FAILED and all(attempt.unchanged for attempt in result.attempts):
                return asked.picture, len(result.attempts), result.stop
            raise BackendError(f"the edit {asked.name} failed: {result.error or result.why}")
        return open_image(result.image), len(result.attempts), result.stop

    async def drawn(self, way: str, wording: Wording, name: str, seed: int) -> dict[str, Any]:
        """A prompt drawn by the loop, "with" or "without" its edit branch: {"right": of each check, ...}."""

        async def make() -> dict[str, Any]:
            async with self._gate:
                folder = self._out / "runs" / f"draw-{way}" / name
                shutil.rmtree(folder, ignore_errors=True)
                folder.parent.mkdir(parents=True, exist_ok=True)
                limits = self._profile.limits
                session = Run.start(
                    wording.text,
                    self._models,
                    limits=limits.changed(max_seconds=_A_DAY, edit_draws=way == "with"),
                    out=folder.parent,
                    folder=folder,
                    seed=seed,
                )
                result = await session.run()
            if result.image is None:
                raise BackendError(f"the loop failed on {name}: {result.error or result.why}")
            right = oracle.answers(open_image(result.image), asked(wording))
            edits = sum(attempt.kind == "edit" for attempt in result.attempts)
            by_edit = result.best_attempt is not None and result.best_attempt.kind == "edit"
            return {
                "right": [bool(yes) for yes in right],
                "drawn": len(result.attempts),
                "edits": edits,
                "best_is_edit": by_edit,
                "stop": result.stop,
            }

        made: dict[str, Any] = await self._journal.aonce(("draw", f"{way} {name}"), make)
        return made


def pairs(count: int, seed: int) -> list[Asked]:
    """Held-out instructions with their pictures; the first ones of any greater count."""
    return [
        Asked(f"p{n:04d}", item.case.spec, item.source, item.prompt, seed_of(seed, item.prompt, 0))
        for n, item in enumerate(items(count, _SEED + seed, "test", "human"))
    ]


def next_asked(seed: int, session: int, turn: int, picture: Image.Image, way: str) -> Asked | None:
    """What the user of a session says next, None where no held-out edit of the picture was found: it holds what the
    oracle cannot name."""
    rng = np.random.default_rng((_SEED, seed, session, turn))
    try:
        case = sample_edit(rng, "test", oracle.read_scene(picture))
        text = say_edit(rng, case.spec, case.before).text
    except (ValueError, KeyError):
        return None
    return Asked(f"{way}-s{session:04d}-t{turn}", case.spec, picture, text, seed_of(seed, text, turn))


async def session_of(editing: Editing, way: str, seed: int, session: int, store: ImageStore) -> list[dict[str, Any]]:
    """The turns of a session, as `Editing.edited` has them."""
    picture = draw(sample_pair(np.random.default_rng((_SEED, seed, session)), "train")[1])
    turns: list[dict[str, Any]] = []
    for turn in range(TURNS):
        said = await asyncio.to_thread(next_asked, seed, session, turn, picture, way)
        if said is None:
            break
        turns.append(await editing.edited(way, said))
        picture = await asyncio.to_thread(store.get, turns[-1]["image"])
    return turns
