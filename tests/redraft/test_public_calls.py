"""`import redraft`: the public calls, each with an example in its docstring that works as it stands."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

import agent.api
import redraft
from agent.testing import fake_models, paint
from editors.testing import FakeBackend
from redraft.errors import BackendError, ConfigError, InputError

EXAMPLES = doctest.DocTestFinder(recurse=False)


def run_examples(thing: object, name: str) -> int:
    """How many examples the docstring of `thing` has; they must all give what they say."""
    tests = [test for test in EXAMPLES.find(thing, name, globs={}) if test.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        runner.run(test, clear_globs=False)
    assert runner.failures == 0
    return runner.tries


@pytest.mark.integration
@pytest.mark.parametrize("name", ["draw", "edit", "judge", "enhance", "check", "load_profile", "Limits"])
def test_the_example_of_a_public_call_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_examples(getattr(redraft, name), name) >= 2


@pytest.mark.integration
@pytest.mark.parametrize("module", [redraft, agent.api])
def test_the_example_of_a_module_works(module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_examples(module, module.__name__) >= 2


def test_importing_is_free_of_effects_and_of_other_modules() -> None:
    script = (
        "import sys, redraft; print([m for m in sys.modules if m.startswith(('redraft.', 'agent', 'PIL', 'openai'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(redraft, name) is not None for name in redraft.__all__)
    assert set(redraft.__all__) <= set(dir(redraft))
    assert redraft.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="nosuch"):
        _ = redraft.nosuch  # type: ignore[attr-defined]


def test_a_call_and_its_async_twin_take_the_same() -> None:
    for name in ("draw", "edit", "judge"):
        one, other = (inspect.signature(getattr(redraft, twin)) for twin in (name, f"{name}_async"))
        assert one == other


@pytest.mark.integration
def test_limits_that_were_set_change_those_of_the_profile(tmp_path: Path) -> None:
    limits = redraft.Limits.model_validate({"max_images": 1, "max_rounds": 1, "tree": {"depth": 3}})
    result = redraft.draw("a red star", out=tmp_path, seed=7, limits=limits)
    own = redraft.load_profile("mini").limits
    assert (result.limits.max_images, result.limits.accept_at) == (1, own.accept_at)
    assert (result.limits.tree.depth, result.limits.tree.width) == (3, own.tree.width)


@pytest.mark.integration
async def test_a_running_event_loop_is_no_obstacle() -> None:
    picture = Image.new("RGB", (64, 64), "white")
    assert redraft.judge(picture, "a red star") == await redraft.judge_async(picture, "a red star")


def test_what_cannot_be_used_is_refused_before_any_model_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        redraft.draw(" ")
    with pytest.raises(InputError):
        redraft.judge(tmp_path / "none.png", "a red star")
    with pytest.raises(ConfigError, match="nosuch"):
        redraft.draw("a red star", profile="nosuch")
    with pytest.raises(ConfigError, match="editor"):
        asyncio.run(redraft.edit_async(Image.new("RGB", (8, 8)), "make it blue", profile="remote"))


async def test_several_pictures_are_handed_back_with_the_best(tmp_path: Path) -> None:
    models = fake_models(lambda prompt, seed: (0.9, 0.9, seed % 100 / 100), backend=FakeBackend(paint=paint))
    result = await redraft.draw_async("a star", models=models, out=tmp_path, n=3, seed=4, max_rounds=1, max_images=1)
    assert [each.seed for each in result.pictures] == [4, 5, 6]
    best = [each.best_attempt for each in result.pictures]
    assert result.best_attempt is not None
    assert result.best_attempt.score == max(one.score or 0 for one in best if one is not None)
    assert len({each.folder for each in result.pictures}) == 3
    alone = await redraft.draw_async("a star", models=models, out=tmp_path, max_rounds=1, max_images=1)
    assert alone.pictures == ()
    with pytest.raises(InputError, match="from 1 to 10, not 0"):
        await redraft.draw_async("a star", models=models, out=tmp_path, n=0)


def test_what_was_made_before_a_failure_is_named_with_the_command_that_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "my runs"
    broken = FakeBackend(script=[None, BackendError("the image server is down")])
    models = fake_models(lambda prompt, seed: (0.9, 0.9, 0.9), backend=broken)
    with pytest.raises(BackendError, match="the image server is down") as caught:
        redraft.draw("a star", models=models, out=out, n=2, max_rounds=1, max_images=1)
    *_, made, hint = str(caught.value).splitlines()
    assert Path(made.removeprefix("made before it: ")).is_file()
    words = shlex.split(hint.partition("continue with: ")[2])
    assert words[:2] == ["redraft", "resume"]
    assert (Path(words[2]) / "run.json").is_file(), "a shell reads the folder as one word"
