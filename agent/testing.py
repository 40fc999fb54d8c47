"""Stand-ins for models, for tests and for measuring the loop alone.

A fake picture carries the prompt and seed it was drawn from in its pixels, so a fake judge in another process (after a
restart, say) can still tell what it looks at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from agent.models import Editing, Models
from editors.backend import ImageBackend, ImageTask
from editors.testing import FakeBackend
from evaluator.edits.types import EditChecks
from evaluator.grounding import Grounder
from evaluator.reward import checks_reward, edit_reward
from evaluator.testing import FakeChecklistBuilder, FakeEditChecklistBuilder, FakeJudge, JudgeAnswer
from evaluator.types import Check, Checklist, Judge
from rewriter.plan import Planner
from rewriter.testing import FakeRewriter
from rewriter.turns import RuleReader
from rewriter.types import Rewriter

SIZE = 64
_BAR = 3 * SIZE * 8
CHECKS = (
    Check("counting", "Are there exactly three circles?"),
    Check("entity_layout", "Is the star above the circles?"),
    Check("negation", "Is the picture free of squares?"),
)

Opinion = Callable[[str, int], tuple[JudgeAnswer, ...]]
"""(prompt, seed) of a picture to one answer for each check, in order."""


def paint(task: ImageTask) -> Image.Image:
    """A picture that holds the task's prompt and seed in its first pixels, room for 12,284 bytes of them, and is grey
    below, with a bar of its own colour. Drafts and mixed noises look different."""
    more = {"effort": None if task.effort == 1 else task.effort, "noise": task.noise}
    text = json.dumps({"prompt": task.prompt, "seed": task.seed} | {k: v for k, v in more.items() if v}).encode()
    data = len(text).to_bytes(4, "big") + text
    grey, colour = b"\x80" * (SIZE * SIZE * 3), hashlib.sha256(text).digest()[:3]
    whole = data + grey[len(data) : -_BAR] + (colour * (_BAR // 3))[-(len(grey) - len(data)) :]
    return Image.frombytes("RGB", (SIZE, SIZE), whole[: len(grey)])


def drawn_from(image: Image.Image) -> tuple[str, int]:
    """Prompt and seed of a picture made by `paint`; an empty prompt and 0 of any other picture."""
    data = image.convert("RGB").tobytes()
    try:
        task = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
        return task["prompt"], task["seed"]
    except (ValueError, KeyError, TypeError):
        return "", 0


def with_judge(models: Models, judge: Judge) -> Editing:
    """What `models` edit with, but for the judge of edits."""
    assert models.editing is not None
    return replace(models.editing, reward=edit_reward(judge))


class FakeAnswerer:
    """An Answerer that says what a picture of `paint` was drawn from."""

    async def __call__(self, image: Image.Image, question: str) -> str:
        return f"{question} It shows {drawn_from(image)[0]!r}."


def fake_models(
    opinion: Opinion,
    *,
    rewriter: Rewriter | None = None,
    checks: Checklist = CHECKS,
    backend: ImageBackend | None = None,
    batch_size: int = 4,
    planner: Planner | None = None,
    editor: ImageBackend | None = None,
    kept: Checklist = (),
    grounder: Grounder | None = None,
) -> Models:
    """Models whose judge has `opinion` of every picture, and whose pictures are those of `paint`.

    With a `planner` they can edit, by `editor` or else as `paint` does. The questions of an edit are `checks`, and
    those `kept`, which the opinion must then answer too.
    """
    both = (*checks, *kept)
    builder = FakeChecklistBuilder(lambda _: checks)
    judge = FakeJudge(lambda image, _, check: opinion(*drawn_from(image))[both.index(check)])
    editing = None
    if planner is not None:
        editing = Editing(
            editor=editor or FakeBackend(name="fake editor", paint=paint),
            planner=planner,
            checks=FakeEditChecklistBuilder(lambda _: EditChecks(checks, kept)),
            reward=edit_reward(judge),
            grounder=grounder,
        )
    return Models(
        checklist_maker=builder,
        rewriter=rewriter or FakeRewriter(),
        generator=backend or FakeBackend(paint=paint),
        judge=judge,
        reward=checks_reward(judge),
        batch_size=batch_size,
        names={"rewriter": "fake rewriter", "generator": "fake", "judge": judge.name},
        editing=editing,
        turn_reader=RuleReader(),
        answerer=FakeAnswerer(),
    )
