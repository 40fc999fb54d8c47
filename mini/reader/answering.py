"""What the reader says of a sheet, and the reader as a judge: each check is answered from scenes that are drawn from the
description by its probabilities. Importing this is cheap; torch is imported in the worker thread."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluator.judge import failed_verdict
from evaluator.types import Check, Outcome, Verdict
from mini.world import questions
from mini.world.raster import REACH, polygon
from mini.world.scene import FILLS, SHAPES, SHEETS, WORDS, CutOut, PrintedWord, Scene
from redraft.local_models import LOADING
from redraft.profiles import model_place
from redraft.worker import GATHER_S, Worker

if TYPE_CHECKING:
    from mini.reader.model import Reader

FOLDER = "package:mini/weights/reader"
SCENES = 96
"""Scenes that are drawn from a description."""
KINDS = (*SHAPES, "unknown")
"""Shapes, and what is none of them: clipped or covered ones."""
MATTERS = 0.05
"""A thing that is less likely there touches nothing."""
MOST_TOUCHING = 40
"""Things of which it is looked at whether they touch, the likeliest: a stranger's picture may hold hundreds."""
_SHEETS = tuple(SHEETS)


@dataclass(frozen=True)
class Thing:
    """A cut-out as the reader sees it: `there` is the probability that it is one, `kinds` and `fills` those of each shape (and
    unknown) and pattern. `place_off`, `radius_off`: the mean by which the reader expects x and y, and the radius, to be off."""

    color: str
    there: float
    kinds: NDArray[np.float32]
    fills: NDArray[np.float32]
    x: float
    y: float
    radius: float
    place_off: float = 0.0
    radius_off: float = 0.0


@dataclass(frozen=True)
class Description:
    """What a picture shows, with probabilities; `word` holds (there, each of WORDS, x, y), None if there is none."""

    sheets: NDArray[np.float32]
    things: tuple[Thing, ...]
    word: tuple[float, NDArray[np.float32], float, float] | None

    def likeliest(self) -> Scene:
        """The scene in which everything is as it most likely is."""
        cuts = tuple(
            CutOut(KINDS[int(t.kinds.argmax())], t.color, FILLS[int(t.fills.argmax())], t.x, t.y, t.radius)
            for t in self.things
            if t.there >= 0.5
        )
        word = None
        if self.word is not None and self.word[0] >= 0.5:
            word = PrintedWord(WORDS[int(self.word[1].argmax())], self.word[2], self.word[3])
        return Scene(_SHEETS[int(self.sheets.argmax())], cuts, word)


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
            with LOADING:
                from mini.reader.model import load_reader

                self._reader = load_reader(self._folder)
        described = self._reader.describe([image for image, _ in asked])
        return [answer(description, wanted) for description, (_, wanted) in zip(described, asked, strict=True)]


def answer(description: Description, asked: Sequence[str]) -> list[float | None]:
    """P(yes) of each question, None if it is not of the grammar."""
    queries = [questions.parse(question) for question in asked]
    scenes = draw_scenes(description)
    return [
        None if query is None else (sum(questions.answer(query, scene) for scene in scenes) + 0.5) / (len(scenes) + 1)
        for query in queries
    ]


def find_touching(things: Sequence[Thing]) -> list[tuple[int, int, float]]:
    """Pairs of things of one colour by their numbers, with the probability that they are one piece.

    By the world's rule a piece is a connected patch of one colour, so that what touches its like is no longer the shape that
    it was. Of 500 pairs that the rasteriser drew, the oracle took those apart whose outlines were more than 1.5 pixels (of 256)
    apart, and in nine of ten of those nearer than 1 saw no two shapes.
    """
    found = []
    likely = [number for number, thing in enumerate(things) if thing.there >= MATTERS]
    likely = sorted(sorted(likely, key=lambda number: -things[number].there)[:MOST_TOUCHING])
    for first, second in itertools.combinations(likely, 2):
        a, b = things[first], things[second]
        if a.color != b.color:
            continue
        reach = sum(REACH[shape] * thing.radius for shape, thing in ((_shape(a), a), (_shape(b), b)))
        if math.hypot(a.x - b.x, a.y - b.y) > reach + 0.01:
            continue
        apart = _outline(a)[:, None] - _outline(b)[None]
        gap = 256 * float(np.sqrt((apart**2).sum(-1).min()))
        chance = 0.92 / (1 + math.exp((gap - 1.2) / 0.35))
        if chance > 0.005:
            found.append((first, second, chance))
    return found


def _shape(thing: Thing) -> str:
    """The likeliest of the known shapes."""
    return SHAPES[int(thing.kinds[: len(SHAPES)].argmax())]


def _outline(thing: Thing) -> NDArray[np.float64]:
    """Points of a thing's outline, a pixel of 256 apart or less, (points, 2)."""
    corners = np.asarray(polygon(_shape(thing), thing.x, thing.y, thing.radius))
    sides = np.roll(corners, -1, 0) - corners
    steps = np.maximum(1, np.ceil(np.hypot(*sides.T) * 256).astype(int))
    return np.concatenate(
        [
            corner + side * (np.arange(count)[:, None] / count)
            for corner, side, count in zip(corners, sides, steps, strict=True)
        ]
    )


def draw_scenes(description: Description, count: int = SCENES) -> list[Scene]:
    """Scenes by the probabilities of a description; always the same ones for the same description."""
    rng = np.random.default_rng(0)
    sheets = _pick(rng, description.sheets, count)
    cuts: list[dict[int, CutOut]] = [{} for _ in range(count)]
    for number, thing in enumerate(description.things):
        there = rng.random(count) < thing.there
        kinds, fills = _pick(rng, thing.kinds, count), _pick(rng, thing.fills, count)
        x, y, radius = (
            middle + rng.laplace(0, off, count)
            for middle, off in (
                (thing.x, thing.place_off),
                (thing.y, thing.place_off),
                (thing.radius, thing.radius_off),
            )
        )
        for n in np.flatnonzero(there):
            cuts[n][number] = CutOut(
                KINDS[kinds[n]], thing.color, FILLS[fills[n]], float(x[n]), float(y[n]), float(radius[n])
            )
    for first, second, chance in find_touching(description.things):
        for own, merged in zip(cuts, rng.random(count) < chance, strict=True):
            if merged and first in own and second in own:
                a, b = own[first], own.pop(second)
                size = max(a.radius, b.radius, math.hypot(a.x - b.x, a.y - b.y))
                own[first] = replace(a, shape="unknown", x=(a.x + b.x) / 2, y=(a.y + b.y) / 2, radius=size)
    words: list[PrintedWord | None] = [None] * count
    if description.word is not None:
        chance, texts, across, down = description.word
        for number, which in enumerate(_pick(rng, texts, count).tolist()):
            if rng.random() < chance:
                words[number] = PrintedWord(WORDS[which], across, down)
    return [
        Scene(_SHEETS[sheet], tuple(own.values()), word) for sheet, own, word in zip(sheets, cuts, words, strict=True)
    ]  # fmt: skip


def _pick(rng: np.random.Generator, chances: np.ndarray, count: int) -> np.ndarray:
    """`count` numbers of classes, each as likely as `chances` say."""
    picked: np.ndarray = np.minimum(
        np.searchsorted(np.cumsum(chances.astype(np.float64)), rng.random(count)), len(chances) - 1
    )
    return picked
