"""Options of a run: they reach the backend, survive in run.json, and are refused by what cannot do them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from agent.run import Run
from agent.testing import fake_models, paint
from editors.backend import Ability, ImageTask
from editors.testing import FakeBackend
from redraft.errors import InputError
from redraft.limits import Limits
from redraft.options import MAX_SEED, DrawOptions
from rewriter.plan import Plan, Step
from rewriter.testing import FakePlanner

ALL = frozenset(get_args(Ability))
PLANNER = FakePlanner(lambda situation: Plan("edit", "as told", (Step(situation.request),)))
OPTIONS = DrawOptions(size="96x64", negative_prompt="text", steps=3, guidance=2.5, seed=MAX_SEED, max_images=2)
RED = Image.new("RGB", (8, 8), "red")


def bad(prompt: str, seed: int) -> tuple[float, ...]:
    return (0.1, 0.2, 0.3)


async def test_what_was_set_reaches_every_picture_and_is_kept(tmp_path: Path) -> None:
    backend = FakeBackend(abilities=ALL, paint=paint)
    models = fake_models(bad, backend=backend)
    run = Run.start("a fox", models, limits=Limits(), out=tmp_path, options=OPTIONS, references=[RED])
    result = await Run.open(run.folder.path, models).run()
    tasks = [task for call in backend.calls for task in call]
    assert len(tasks) == len(result.attempts) == 2
    assert {(t.size, t.negative_prompt, t.steps, t.guidance) for t in tasks} == {((96, 64), "text", 3, 2.5)}
    assert [len(task.references) for task in tasks] == [1, 1]
    assert tasks[0].seed == result.seed == MAX_SEED
    assert {attempt.negative_prompt for attempt in result.attempts} == {"text"}
    assert {attempt.denoiser_steps for attempt in result.attempts} == {3}
    record = json.loads((result.folder / "run.json").read_text())
    assert record["options"] == OPTIONS.set_fields()
    assert record["size"] == [96, 64]


async def test_an_edit_is_adjusted_at_its_editor_alone(tmp_path: Path) -> None:
    editor, generator = FakeBackend(name="editor", abilities=ALL, paint=paint), FakeBackend(name="generator")
    models = fake_models(bad, backend=generator, planner=PLANNER, editor=editor)
    source = paint(ImageTask("a circle", 1))
    options = DrawOptions(steps=3, max_images=1)
    run = Run.start("blue", models, limits=Limits(), out=tmp_path, options=options, source=source, references=[RED])
    await run.run()
    assert {(task.steps, len(task.references)) for call in editor.calls for task in call} == {(3, 1)}


@pytest.mark.parametrize(
    ("options", "references", "said"),
    [
        (DrawOptions(steps=3), 0, "steps: fake draws at its own number of steps alone"),
        (DrawOptions(guidance=3), 0, "guidance: fake has no guidance"),
        (DrawOptions(negative_prompt="text"), 0, "negative_prompt: fake takes no negative prompts"),
        (DrawOptions(), 1, "references: fake draws from no reference pictures"),
    ],
)
def test_what_a_backend_cannot_do_is_refused_before_a_run_begins(
    tmp_path: Path, options: DrawOptions, references: int, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        Run.start(
            "a fox", fake_models(bad), limits=Limits(), out=tmp_path, options=options, references=[RED] * references
        )
    assert said in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_the_negative_prompts_of_user_and_rewriter_stand_together_once() -> None:
    from types import SimpleNamespace

    from agent.graph import _with_own_negative
    from agent.types import Task

    ctx = SimpleNamespace(negative_prompt="text")
    task = Task(1, "generate", "a fox", 1, "blur")
    once = _with_own_negative(task, {}, ctx)  # type: ignore[arg-type]
    assert once.negative_prompt == "text, blur"
    assert _with_own_negative(once, {}, ctx) == once  # type: ignore[arg-type]
    assert _with_own_negative(task, {"source": "ab"}, ctx) == task  # type: ignore[arg-type]
