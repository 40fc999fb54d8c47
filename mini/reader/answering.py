"""The reader as a judge: it describes a sheet, and each check is answered from descriptions drawn by their probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from evaluator.judge import failed_verdict
from evaluator.types import Check, Outcome, Verdict
from mini.reader.model import KINDS, Description, Reader, load_reader
from mini.world import questions
from mini.world.scene import FILLS, SHEETS, WORDS, CutOut, PrintedWord, Scene
from redraft.profiles import model_place
from redraft.worker import GATHER_S, Worker

FOLDER = "package:mini/weights/reader"
SCENES = 48
"""Scenes that are drawn from a description."""
_SHEETS = tuple(SHEETS)


class SceneReader:
    """A Judge of the mini world's questions, and FAILED on others. P(yes) is the share of `SCENES` scenes, drawn from the
    description by its probabilities, in which the answer is yes (Laplace's estimate, so that it is never 0 or 1).

    Pictures that wait at the same time are described in one batch, in a worker thread that loads the model at its first call.
    """

    name = "scene reader"

    def __init__(self, folder: str = FOLDER) -> None:
        """Raises ModelMissing if the weights are not there."""
        self._folder = Path(model_place(folder))
        self._reader: Reader | None = None
        self._shake = (0.005, 0.002)
        self._worker: Worker[tuple[Image.Image, tuple[str, ...]], list[float | None]] = Worker(
            "the scene reader", lambda jobs: self._answer([job.request for job in jobs]), size=16, gather_s=GATHER_S
        )

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        answers = await self._worker.ask((image, tuple(check.question for check in checks)))
        return [
            failed_verdict(check, "no question about paper cut-outs")
            if p is None
            else Verdict(check, Outcome.SCORED, probability=p, by=self.name)
            for check, p in zip(checks, answers, strict=True)
        ]

    def _answer(self, asked: Sequence[tuple[Image.Image, tuple[str, ...]]]) -> list[list[float | None]]:
        """On the worker."""
        if self._reader is None:
            self._reader = load_reader(self._folder)
            figures = json.loads((self._folder / "training.json").read_text(encoding="utf-8"))
            self._shake = (figures["place_off"], figures["radius_off"])
        described = self._reader.describe([image for image, _ in asked])
        return [
            answer(description, wanted, self._shake) for description, (_, wanted) in zip(described, asked, strict=True)
        ]


def answer(description: Description, asked: Sequence[str], shake: tuple[float, float]) -> list[float | None]:
    """P(yes) of each question, None if it is not of the grammar. `shake`: standard deviations of places and radii."""
    queries = [questions.parse(question) for question in asked]
    scenes = list(draw_scenes(description, shake))
    return [
        None if query is None else (sum(questions.answer(query, scene) for scene in scenes) + 0.5) / (len(scenes) + 1)
        for query in queries
    ]


def draw_scenes(description: Description, shake: tuple[float, float], count: int = SCENES) -> list[Scene]:
    """Scenes by the probabilities of a description; always the same ones for the same description."""
    rng = np.random.default_rng(0)
    sheets = _pick(rng, description.sheets, count)
    cuts: list[list[CutOut]] = [[] for _ in range(count)]
    for thing in description.things:
        there = rng.random(count) < thing.there
        kinds, fills = _pick(rng, thing.kinds, count), _pick(rng, thing.fills, count)
        x, y, radius = (
            middle + rng.normal(0, off, count)
            for middle, off in ((thing.x, shake[0]), (thing.y, shake[0]), (thing.radius, shake[1]))
        )
        for n in np.flatnonzero(there):
            cuts[n].append(
                CutOut(KINDS[kinds[n]], thing.color, FILLS[fills[n]], float(x[n]), float(y[n]), float(radius[n]))
            )
    words: list[PrintedWord | None] = [None] * count
    if description.word is not None:
        chance, texts, across, down = description.word
        for number, which in enumerate(_pick(rng, texts, count).tolist()):
            if rng.random() < chance:
                words[number] = PrintedWord(WORDS[which], across, down)
    return [
        Scene(_SHEETS[sheet], tuple(own), word) for sheet, own, word in zip(sheets, cuts, words, strict=True)
    ]  # fmt: skip


def _pick(rng: np.random.Generator, chances: np.ndarray, count: int) -> np.ndarray:
    """`count` numbers of classes, each as likely as `chances` say."""
    picked: np.ndarray = np.minimum(
        np.searchsorted(np.cumsum(chances.astype(np.float64)), rng.random(count)), len(chances) - 1
    )
    return picked
