"""What the trainer calls as it goes: sample pages, and the state of the reward in its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from rewriter.train.adapter import RewriteReward
from rewriter.train.samples import write_page
from rewriter.train.script import console
from rewriter.train.shaping import Shaper


class SamplePages(TrainerCallback):
    """Writes `folder`/step-N.html every `every` steps, with `count` prompts of the batch that was just learnt from.

    A page that cannot be written is told and stops nothing.
    """

    def __init__(self, reward: RewriteReward, folder: Path, every: int, count: int) -> None:
        self._reward = reward
        self._folder = folder
        self._every = every
        self._count = count

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step
        if not state.is_world_process_zero or step % self._every or not self._reward.last:
            return
        path = self._folder / f"step-{step}.html"
        try:
            write_page(path, self._reward, state.log_history, count=self._count, step=step, steps=state.max_steps)
        except OSError as error:
            console.print(f"warning: no sample page {path}: {error.strerror or error}")


class ShaperState(TrainerCallback, ExportableState):
    """Keeps the shaper's state in trainer_state.json, and takes it up from the checkpoint `start`."""

    def __init__(self, shaper: Shaper, start: Path | None) -> None:
        self._shaper = shaper
        if start is not None:
            saved = json.loads((start / "trainer_state.json").read_text(encoding="utf-8"))
            shaper.restore(saved.get("stateful_callbacks", {}).get(type(self).__name__, {}).get("attributes", {}))

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": self._shaper.state()}
