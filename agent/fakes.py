"""Parts without models, for tests and for measuring the loop by itself.

A fake picture carries the prompt and seed it was drawn from in its pixels, so a fake judge in another process (after a
restart, say) can still tell what it looks at.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from PIL import Image

from agent.parts import Parts
from editors.fakes import FakeBackend
from editors.types import ImageBackend, ImageTask
from evaluator.align import AlignEvaluator
from evaluator.fakes import Answer, FakeChecklistBuilder, FakeJudge
from evaluator.types import Check, Checklist
from rewriter.fakes import FakeRewriter
from rewriter.types import Rewriter

SIZE = 64
CHECKS = (
    Check("counting", "Are there exactly three circles?"),
    Check("entity_layout", "Is the star above the circles?"),
    Check("negation", "Is the picture free of squares?"),
)

Opinion = Callable[[str, int], tuple[Answer, ...]]
"""(prompt, seed) of a picture to one answer for each check, in order."""


def paint(task: ImageTask) -> Image.Image:
    """A picture that holds the task's prompt and seed in its first pixels. Room for 12,284 bytes of them."""
    text = json.dumps({"prompt": task.prompt, "seed": task.seed}).encode()
    data = len(text).to_bytes(4, "big") + text
    return Image.frombytes("RGB", (SIZE, SIZE), data.ljust(SIZE * SIZE * 3, b"\x80"))


def drawn_from(image: Image.Image) -> tuple[str, int]:
    """Prompt and seed of a picture made by `paint`."""
    data = image.convert("RGB").tobytes()
    task = json.loads(data[4 : 4 + int.from_bytes(data[:4], "big")])
    return task["prompt"], task["seed"]


def fake_parts(
    opinion: Opinion,
    *,
    rewriter: Rewriter | None = None,
    checks: Checklist = CHECKS,
    backend: ImageBackend | None = None,
    batch_size: int = 4,
) -> Parts:
    """Parts whose judge has `opinion` of every picture, and whose pictures are those of `paint`."""
    builder = FakeChecklistBuilder(lambda _: checks)
    judge = FakeJudge(lambda image, _, check: opinion(*drawn_from(image))[checks.index(check)])
    return Parts(
        builder=builder,
        rewriter=rewriter or FakeRewriter(),
        backend=backend or FakeBackend(paint=paint),
        evaluator=AlignEvaluator(builder, judge),
        batch_size=batch_size,
        names={"rewriter": "fake rewriter", "generator": "fake", "judge": judge.name},
    )
