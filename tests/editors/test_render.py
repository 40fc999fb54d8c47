"""How backends are called: each task has its picture, and errors are the backend's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image

import editors
from editors.backend import ImageTask, StepCallback, render
from editors.testing import FakeBackend
from redraft.errors import BackendError, ServerError

TASKS = [ImageTask("x", 1), ImageTask("y", 2)]


class Odd(FakeBackend):
    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        return super().render(tasks, on_step)[1:]


def test_pictures_and_steps() -> None:
    steps: list[tuple[int, int]] = []
    assert len(render(FakeBackend(), TASKS, lambda *step: steps.append(step))) == 2
    assert steps == [(1, 2), (2, 2)]
    assert render(FakeBackend(), []) == []


def test_another_number_of_pictures_is_an_error() -> None:
    with pytest.raises(BackendError, match="asked for 2 pictures and gave 1"):
        render(Odd(), TASKS)


def test_errors_of_a_backend_are_backend_errors() -> None:
    with pytest.raises(BackendError, match="ValueError: no such scheduler"):
        render(FakeBackend(script=[ValueError("no such scheduler")]), TASKS)
    with pytest.raises(ServerError, match="down"):
        render(FakeBackend(script=[ServerError("down")]), TASKS)


def test_what_a_callback_raises_comes_out_as_it_is() -> None:
    def stop(done: int, total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        render(FakeBackend(), TASKS, stop)


def test_the_public_names() -> None:
    assert all(getattr(editors, name) for name in editors.__all__)
    with pytest.raises(AttributeError):
        editors.nothing  # noqa: B018
