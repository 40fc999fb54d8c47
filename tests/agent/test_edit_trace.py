"""trace.html of an edit: a story of thought, place, pictures and fates; and the command line that makes one."""

from __future__ import annotations

from pathlib import Path

from agent.run import Run
from agent.testing import CHECKS, fake_models, paint
from editors.backend import ImageTask
from redraft.limits import Limits, TreeLimits
from rewriter.plan import Plan, Step
from rewriter.testing import FakePlanner

EVIL = '<script>alert(1)</script><img src=x onerror=alert(2)>"'


async def test_the_story_of_an_edit_is_all_there_and_runs_nothing(tmp_path: Path) -> None:
    questions = [check.question for check in CHECKS]
    plan = Plan(
        "edit",
        f"two sub-tasks {EVIL}",
        (
            Step("paint it", f"the circles are too few {EVIL}", tuple(questions[:1])),
            Step("move it", "then the star", tuple(questions[1:])),
        ),
    )

    def opinion(prompt: str, seed: int) -> tuple[float, ...]:
        return {"paint it": (0.9, 0.2, 0.9), "move it": (0.95, 0.96, 0.97)}.get(prompt, (0.1, 0.2, 0.9))

    models = fake_models(opinion, planner=FakePlanner([plan]))
    given = paint(ImageTask("given", 1))
    limits = Limits(tree=TreeLimits(width=2, merge=1))
    session = Run.start(f"change it {EVIL}", models, limits=limits, out=tmp_path, seed=3, source=given)
    result = await session.run()
    page = result.trace.read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    order = ["The picture that was given", "Plan, by fixed rules", "the circles are too few", "Edit 1 of 2", "kept"]
    order += ["Round 2", "then the star", "Edit 2 of 2"]
    places = [page.index(text, 0 if text != "kept" else page.index("Edit 1 of 2")) for text in order]
    assert places == sorted(places)
    assert "before: 10%" in page
    assert "pruned, confidence" in page
    assert page.count('src="data:image/') == len(result.attempts) + 2
