from pathlib import Path

import pytest

from tests.evaluator.random_vlm import save_random_llava

QUESTIONS = (
    "Are there exactly three red stars?",
    "Is the circle blue?",
    "Is the picture free of stars?",
    "Is the red star to the left of the big blue circle?",
)


@pytest.fixture(scope="session")
def questions() -> tuple[str, ...]:
    return QUESTIONS


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llava whose answers differ strongly from question to question and from picture to picture."""
    folder = tmp_path_factory.mktemp("tiny_llava")
    save_random_llava(folder, QUESTIONS, spread=0.3)
    return folder
