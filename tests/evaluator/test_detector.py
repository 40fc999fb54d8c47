"""Real or drawn: a head on features, trained, saved, read by a profile's criterion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluator.criteria import CRITERIA
from evaluator.criteria.detector import Detector, Head, open_detector
from evaluator.criteria.likeness import Embedding
from evaluator.train import detector
from evaluator.types import Case, Outcome, Shot
from redraft.errors import ConfigError
from redraft.statistics import area_under_curve

EMBEDDER = "tests.evaluator.test_detector:Colors"


class Colors:
    """The mean colour as the whole, each quarter's as patches; nothing in pictures of one pixel."""

    def __call__(self, images: Sequence[Image.Image]) -> list[Embedding | None]:
        return [None if image.width == 1 else self._embed(image) for image in images]

    def _embed(self, image: Image.Image) -> Embedding:
        quarters = np.asarray(image.convert("RGB").resize((2, 2), Image.Resampling.BOX), dtype=np.float32) / 255
        return Embedding(quarters.reshape(-1, 3).mean(axis=0), quarters)


def paint(folder: Path, count: int, redness: float, seed: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for n in range(count):
        pixels = rng.normal((255 * redness, 128, 128), 40, size=(8, 8, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")


def test_a_trained_head_tells_real_from_drawn_on_what_it_has_not_seen(tmp_path: Path) -> None:
    paint(tmp_path / "real", 40, 0.7, 1)
    paint(tmp_path / "drawn", 40, 0.4, 2)
    places = [str(tmp_path / name) for name in ("real", "drawn", "out")]
    assert detector.main([*places, "--embedder", EMBEDDER]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["area_under_curve"] > 0.95
    assert (report["held_out_real"], report["held_out_drawn"], report["learnt"]) == (8, 8, 64)


async def test_the_criterion_reads_it_and_a_picture_without_features_failed(tmp_path: Path) -> None:
    Head((np.array([4, 0, 0], dtype=np.float32), -2.0), (np.array([0, 0, 0], dtype=np.float32), 0.0)).save(tmp_path)
    criterion = open_detector(None, head=str(tmp_path), embedder=EMBEDDER)  # type: ignore[arg-type]
    assert isinstance(criterion, Detector)
    shots = [
        Shot((Image.new("RGB", size, color),)) for size, color in (((8, 8), "red"), ((8, 8), "black"), ((1, 1), "red"))
    ]
    red, black, nothing = await criterion(Case("a fox"), shots)
    by_hand = 1 / (1 + np.exp(-2))
    assert red.value == pytest.approx(0.7 * by_hand + 0.3 * 0.5)
    assert black.value == pytest.approx(0.7 * (1 - by_hand) + 0.3 * 0.5)
    assert (nothing.outcome, nothing.value) == (Outcome.FAILED, None)


def test_a_head_that_is_not_there_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    assert "detector" in CRITERIA
    with pytest.raises(ConfigError, match=r"python -m evaluator\.train\.detector REAL DRAWN"):
        open_detector(None, head=str(tmp_path), embedder=EMBEDDER)  # type: ignore[arg-type]


def test_too_few_pictures_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paint(tmp_path / "real", 3, 0.7, 1)
    assert detector.main([str(tmp_path / "real"), str(tmp_path), str(tmp_path / "out"), "--embedder", EMBEDDER]) == 2
    assert "has 3 pictures that the embedder can read; give at least 10" in capsys.readouterr().err


def test_the_area_counts_a_tie_half() -> None:
    assert area_under_curve([3, 2], [1, 2]) == (1 + 1 + 1 + 0.5) / 4
