"""A server for the page's own tests: `python -m tests.browser.driver DATA PORT`. Its models are fakes.

Its judge points: every verdict has a region. Prompts with a star are accepted, others miss their first check; nothing
checks a boat. Pictures are twice as wide as high, so that what mixes up the sides shows. While a file DATA.hold is there,
pictures whose prompt holds its word are not drawn.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw

from agent.serve.command import run_server
from agent.serve.metrics import Metrics, set_up_logs
from agent.serve.models import Served
from agent.serve.settings import ServerSettings
from agent.testing import fake_models, with_judge
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from evaluator.reward import checks_reward
from evaluator.testing import FakeChecklistBuilder
from evaluator.types import Check, Outcome, RequestChecks, Verdict
from redraft.limits import Limits
from rewriter.plan import Plan, Step
from rewriter.testing import FakePlanner, FakeRewriter

SIZE = (320, 160)
CHECKS = {
    Check("counting", "Are there exactly three circles?"): (0.125, 0.25, 0.375, 0.75),
    Check("entity_layout", "Is the star above the circles?"): (0.5, 0.5, 1.0, 1.0),
    Check("negation", "Is the picture free of squares?"): None,
}
LEFT_OUT = RequestChecks(tuple(CHECKS), unchecked=("<b>boat</b>", "sea"), warnings=("no check asks about <i>boat</i>",))
PLACE = (0.25, 0.0, 0.75, 0.5)


def paint(task: ImageTask) -> Image.Image:
    """A sheet with one rectangle, of colours that the task makes."""
    digest = hashlib.sha256(f"{task.prompt} {task.seed}".encode()).digest()
    picture = Image.new("RGB", SIZE, (200 + digest[0] % 50, 200 + digest[1] % 50, 200 + digest[2] % 50))
    ImageDraw.Draw(picture).rectangle((40, 40, 120, 120), fill=(digest[3] // 2, digest[4] // 2, digest[5] // 2))
    return picture


class Painter(FakeBackend):
    def __init__(self, name: str, hold: Path) -> None:
        super().__init__(name=name, paint=paint)
        self._hold = hold

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        while (word := self._held()) and any(word in task.prompt for task in tasks):
            if on_step is not None:
                on_step(1, 10)
            time.sleep(0.05)
        return super().render(tasks, on_step)

    def _held(self) -> str:
        try:
            return self._hold.read_text()
        except FileNotFoundError:
            return ""


class PointingJudge:
    name = "pointing judge"

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        del image
        verdicts = []
        for number, check in enumerate(checks):
            sure = 0.97 if "star" in request or number > 0 else 0.2
            verdict = Verdict(check, Outcome.SCORED, sure, label_mass=1.0, reason="as far as it can be seen")
            verdicts.append(replace(verdict, region=CHECKS[check]))
        return verdicts


def main(data: Path, port: int) -> None:
    set_up_logs(with_prompts=True)
    metrics = Metrics()
    hold = data.with_name(f"{data.name}.hold")
    judge = PointingJudge()
    step = {"region": PLACE, "draft": "a star"}
    made = fake_models(
        lambda prompt, seed: (),
        checks=tuple(CHECKS),
        rewriter=FakeRewriter(
            lambda call: [f"{call.request}, finely" if call.feedback is None else "once more, finely"]
        ),
        planner=FakePlanner(lambda situation: Plan("edit", "one step", (Step(situation.request, **step),))),
        backend=Painter("painter", hold),
        editor=Painter("editor", hold),
    )
    maker = FakeChecklistBuilder(lambda request: LEFT_OUT if "boat" in request else RequestChecks(tuple(CHECKS)))
    models = replace(
        made, checklist_maker=maker, judge=judge, reward=checks_reward(judge), editing=with_judge(made, judge)
    )
    limits = Limits(max_rounds=2, max_images=4, edit_draws=False, edit_drafts=True)
    served = Served.of("fake", models, limits, metrics)
    plain = Served.of("drawing alone", replace(models, editing=None), limits, metrics)
    asyncio.run(run_server(ServerSettings(data=data, port=port), [served, plain], metrics))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
