"""What people look at while GRPO trains: pages of sample requests; and the callbacks that write them.

A page has requests of the last step with the thoughts, prompts, pictures and rewards of their best and worst rewrite.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from redraft.errors import BackendError
from redraft.files import write_atomically
from redraft.templates import load_page
from redraft.training import console
from rewriter.train.image_reward import Wish
from rewriter.train.rewards import Shaper
from rewriter.train.trl_reward import RatedSample, RewriteReward

_SIDE = 384
"""Pictures are embedded no larger than this many pixels a side."""
_CURVES = {
    "reward/total": "reward",
    "reward/alignment": "alignment",
    "reward/format": "format",
    "reward/penalty": "penalty",
    "kl": "KL to the start",
    "completions/mean_length": "reply, tokens",
    "reward/failed": "judgements failed",
    "reward/wait_share": "time waiting for rewards",
}


def write_page(
    path: Path, reward: RewriteReward, history: Sequence[Mapping[str, Any]], *, count: int, step: int, steps: int
) -> None:
    """Writes the page of the last batch of `reward`: for each of `count` requests the best and the worst rewrite of its
    group, and the curves of the trainer's log `history`. Pictures that cannot be drawn are left out.

    Everything that came from a user or a model is escaped, and the page may run no script. Raises OSError.
    """
    groups = [list(group) for _, group in groupby(reward.last, key=lambda rated: rated.sample.request)]
    shown = [_extremes(group) for group in groups[:count]]
    pictures, trouble = _draw(reward, [rated for group in shown for rated in group])
    requests = [
        {
            "text": group[0].sample.request,
            "cards": [_card(rated, pictures.get(_wish(rated))) for rated in group],
        }
        for group in shown
    ]
    curves = [curve for key, name in _CURVES.items() if (curve := _curve(name, key, history))]
    template = load_page("rewriter.train", "samples.html.j2")
    page = template.render(step=step, steps=steps, trouble=trouble, requests=requests, curves=curves)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode("utf-8", "replace"))


def _draw(reward: RewriteReward, rated: Sequence[RatedSample]) -> tuple[dict[Wish | None, Image.Image], str]:
    """The pictures by wish, and what went wrong."""
    unique = list(dict.fromkeys(wish for sample in rated if (wish := _wish(sample)) is not None))
    try:
        images = reward.draw(unique)
    except BackendError as error:
        return {}, str(error)
    return {wish: image for wish, image in zip(unique, images, strict=True) if image is not None}, ""


def _wish(rated: RatedSample) -> Wish | None:
    scored = rated.scored
    return None if scored.prompt is None else Wish(rated.sample.request, scored.prompt, scored.negative_prompt)


def _extremes(group: Sequence[RatedSample]) -> list[RatedSample]:
    """The rewrites with the greatest and the least reward; only one if all are alike."""
    known = [rated for rated in group if rated.scored.reward is not None]
    if not known:
        return [group[0]]
    ranked = sorted(known, key=lambda rated: -(rated.scored.reward or 0.0))
    first, last = ranked[0], ranked[-1]
    return [first] if first.scored.prompt == last.scored.prompt else [first, last]


def _card(rated: RatedSample, picture: Image.Image | None) -> dict[str, Any]:
    scored = rated.scored
    return {
        "thought": scored.thought,
        "prompt": scored.prompt,
        "reply": rated.sample.reply,
        "cut_off": rated.sample.truncated,
        "findings": scored.findings,
        "src": None if picture is None else _data_uri(picture),
        "parts": [
            ("reward", scored.reward),
            ("alignment", scored.alignment),
            ("format", scored.format),
            ("penalty", scored.penalty),
            ("given to TRL", rated.final),
        ],
    }


def _data_uri(picture: Image.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _curve(name: str, key: str, history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A line through the logged values in a view box of 220 x 48; None with fewer than two."""
    values = [float(entry[key]) for entry in history if isinstance(entry.get(key), int | float)]
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = 216 / (len(values) - 1)
    points = " ".join(f"{2 + i * step:.1f},{45 - 42 * (v - low) / span:.1f}" for i, v in enumerate(values))
    return {"name": name, "points": points, "first": values[0], "last": values[-1]}


class SamplePages(TrainerCallback):
    """Writes `folder`/step-N.html every `every` steps, with `count` requests of the batch that was just learnt from.

    A page that cannot be written is reported and stops nothing.
    """

    def __init__(self, reward: RewriteReward, folder: Path, *, every: int, count: int) -> None:
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
    """Keeps the shaper's state in trainer_state.json, and restores it from the checkpoint `start`."""

    def __init__(self, shaper: Shaper, start: Path | None) -> None:
        self._shaper = shaper
        if start is not None:
            saved = json.loads((start / "trainer_state.json").read_text(encoding="utf-8"))
            shaper.restore(saved.get("stateful_callbacks", {}).get(type(self).__name__, {}).get("attributes", {}))

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": self._shaper.state()}
