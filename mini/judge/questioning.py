"""Training questions about a known scene, about as often yes as no, and dense labels for the patches of its picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mini.world import questions
from mini.world.questions import NUMBERS, Noun, Query
from mini.world.raster import font, polygon
from mini.world.sampling import Rng
from mini.world.scene import (
    COLORS,
    FILLS,
    PLACES,
    RELATIONS,
    SHAPES,
    SHEETS,
    SIZES,
    WORDS,
    CutOut,
    Scene,
    held_out,
)

_COLORS, _SHEETS = tuple(COLORS), tuple(SHEETS)
_KINDS = {
    "exists": 0.11, "count": 0.18, "size": 0.07, "fill": 0.07, "color": 0.05, "place": 0.09,
    "left": 0.055, "right": 0.055, "above": 0.055, "below": 0.055, "inside": 0.05, "larger": 0.05, "smaller": 0.05,
    "same_color": 0.03, "absent": 0.06, "word": 0.04, "word_place": 0.02, "sheet": 0.04,
}  # fmt: skip
_NAMES = tuple(_KINDS)
_WEIGHTS = np.cumsum(list(_KINDS.values()))
_WEIGHTS /= _WEIGHTS[-1]
_TRIES = 10


def _pick(rng: Rng, options: tuple[str, ...]) -> str:
    return options[int(rng.random() * len(options))]


def _noun(rng: Rng, scene: Scene, present: float, colored: float = 0.75) -> Noun:
    """A noun phrase that names something on the sheet with chance `present`, else a near miss of it."""
    if scene.cutouts:
        cut = scene.cutouts[int(rng.random() * len(scene.cutouts))]
        shape = cut.shape if cut.shape in SHAPES else _pick(rng, SHAPES)
        color = cut.color
    else:
        shape, color = _pick(rng, SHAPES), _pick(rng, _COLORS)
    if rng.random() >= present:
        miss = rng.random()
        if miss < 0.45:
            shape = _pick(rng, SHAPES)
        elif miss < 0.9:
            color = _pick(rng, _COLORS)
        else:
            shape, color = _pick(rng, SHAPES), _pick(rng, _COLORS)
    return Noun(shape, color if rng.random() < colored else None)


def _number(noun: Noun, scene: Scene) -> Noun:
    """The noun in the number that fits the scene: several if there are several."""
    return Noun(noun.shape, noun.color, len(noun.find(scene)) > 1)


def _forbidden(query: Query) -> bool:
    first = query.noun
    return (
        query.kind in RELATIONS
        and first is not None
        and first.color is not None
        and held_out(query.kind, first.color, first.shape)
    )


def _draft(rng: Rng, kind: str, scene: Scene) -> Query:
    match kind:
        case "word":
            near = scene.word is not None and scene.word.text in WORDS and rng.random() < 0.5
            return Query(kind, value=scene.word.text if near and scene.word else _pick(rng, WORDS))
        case "word_place":
            return Query(kind, value=_pick(rng, ("top", "bottom")))
        case "sheet":
            return Query(kind, value=scene.sheet if rng.random() < 0.4 else _pick(rng, _SHEETS))
        case "exists":
            return Query(kind, _noun(rng, scene, 0.5))
        case "absent":
            noun = _noun(rng, scene, 0.4, 0.5)
            if rng.random() < 0.3:
                noun = Noun("shape", noun.color or _pick(rng, _COLORS))
            return Query(kind, Noun(noun.shape, noun.color, True))
        case "count":
            noun = _noun(rng, scene, 0.9, 0.7)
            n = len(noun.find(scene)) + int(rng.choice((-1, 0, 0, 1, 2)))
            n = min(max(n, 1), 6)
            return Query(kind, Noun(noun.shape, noun.color, n > 1), value=NUMBERS[n])
        case "size":
            return Query(kind, _number(_noun(rng, scene, 0.9), scene), value=_pick(rng, SIZES))
        case "fill":
            return Query(kind, _number(_noun(rng, scene, 0.9), scene), value=_pick(rng, FILLS))
        case "color":
            noun = Noun(_noun(rng, scene, 0.9).shape)
            cutouts = noun.find(scene)
            color = cutouts[0].color if cutouts and rng.random() < 0.5 else _pick(rng, _COLORS)
            return Query(kind, _number(noun, scene), value=color)
        case "place":
            return Query(kind, _number(_noun(rng, scene, 0.93), scene), value=_pick(rng, PLACES))
    colored = 0.4 if kind == "same_color" else 0.75
    a, b = _noun(rng, scene, 0.95, colored), _noun(rng, scene, 0.95, colored)
    if kind == "inside" and rng.random() < 0.7:
        held = [(x, y) for x in scene.cutouts for y in scene.cutouts if x is not y and _near(x, y)]
        if held:
            x, y = held[int(rng.random() * len(held))]
            if x.shape in SHAPES and y.shape in SHAPES:
                a, b = Noun(x.shape, x.color), Noun(y.shape, y.color)
    return Query(kind, _number(a, scene), _number(b, scene))


def _near(a: CutOut, b: CutOut) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) < b.radius


def ask(rng: Rng, scene: Scene) -> tuple[Query, bool]:
    """A question of a random kind with its answer, which is wanted yes as often as no if the scene can give both."""
    while True:
        kind = _NAMES[int(np.searchsorted(_WEIGHTS, rng.random()))]
        wanted = rng.random() < 0.5
        query, truth = None, False
        for _ in range(_TRIES):
            query = _draft(rng, kind, scene)
            if query.noun is not None and query.noun == query.other:
                continue
            if _forbidden(query):
                continue
            truth = questions.answer(query, scene)
            if truth == wanted:
                return query, truth
        # Kinds that can hardly be true of this scene would teach "no" by their name alone: mostly another is asked.
        if query is not None and not _forbidden(query) and query.noun != query.other and rng.random() < 0.05:
            return query, questions.answer(query, scene)


GRID = 8
"""Patches on a side."""


@dataclass(frozen=True)
class PatchLabels:
    """What lies in each of GRID x GRID patches, row by row; arrays of (GRID * GRID,), -100 if it does not apply."""

    thing: NDArray[np.int64]
    """0 sheet, 1.. shape, last word."""
    color: NDArray[np.int64]
    fill: NDArray[np.int64]
    word: NDArray[np.int64]
    middle: NDArray[np.float32]
    """1 where the middle of a cut-out lies in the patch."""
    lengths: NDArray[np.float32]
    """(GRID * GRID, 3): middle of the cut-out relative to the picture's middle, in patches, and how much larger than
    `MIDDLING` its radius is, in thirds of a patch."""


THINGS = len(SHAPES) + 2
MIDDLING = 0.10
"""Radius of a cut-out that is neither small nor large."""


def patch_labels(scene: Scene, side: int = 96) -> PatchLabels:
    """Labels of the picture of a scene, at `side` pixels."""
    canvas = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(canvas)
    cuts = sorted(scene.cutouts, key=lambda c: -c.radius)
    for i, cut in enumerate(cuts, start=1):
        pen.polygon(polygon(cut.shape, cut.x * side, cut.y * side, cut.radius * side), fill=i)
    ink = len(cuts) + 1
    if scene.word is not None:
        x, y = scene.word.x * side, scene.word.y * side
        left, top, right, bottom = pen.textbbox((x, y), scene.word.text, font=font(side), anchor="mm")
        pen.rectangle((left, top, right, bottom), fill=ink)
    step = side // GRID
    ids = np.asarray(canvas).reshape(GRID, step, GRID, step).transpose(0, 2, 1, 3).reshape(GRID * GRID, step * step)
    counts = np.stack([(ids == i).sum(1) for i in range(1, ink + 1)], axis=1)
    owner = counts.argmax(1) + 1
    owner[counts.max(1) < 0.25 * step * step] = 0
    n = GRID * GRID
    middle = np.zeros(n, dtype=np.float32)
    for i, cut in enumerate(cuts, start=1):
        if 0 <= cut.x < 1 and 0 <= cut.y < 1:
            patch = int(cut.y * GRID) * GRID + int(cut.x * GRID)
            middle[patch] = 1.0
            owner[patch] = i
    thing = np.zeros(n, dtype=np.int64)
    color, fill, word = (np.full(n, -100, dtype=np.int64) for _ in range(3))
    lengths = np.zeros((n, 3), dtype=np.float32)
    for i, cut in enumerate(cuts, start=1):
        mine = owner == i
        thing[mine] = 1 + SHAPES.index(cut.shape)
        color[mine] = _COLORS.index(cut.color)
        fill[mine] = FILLS.index(cut.fill)
        lengths[mine] = (cut.x - 0.5) * GRID, (cut.y - 0.5) * GRID, (cut.radius - MIDDLING) * 3 * GRID
    if scene.word is not None:
        thing[owner == ink] = THINGS - 1
        word[owner == ink] = WORDS.index(scene.word.text)
    return PatchLabels(thing, color, fill, word, middle, lengths)


def mess(rng: Rng, scene: Scene) -> Scene:
    """The scene as a clumsy generator would leave it: moved, doubled, dropped, repainted, overlapping or cut off."""
    cuts = list(scene.cutouts)
    for _ in range(int(rng.integers(1, 4))):
        if not cuts:
            break
        i = int(rng.integers(len(cuts)))
        cut, pick = cuts[i], rng.random()
        large = [c for c in cuts if c.radius > 0.13 and c is not cut and c.color != cut.color]
        if pick < 0.25 and large:
            # Onto, or nearly onto, a large one: training scenes put little inside anything.
            x, y = (float(v) for v in rng.normal((large[0].x, large[0].y), 0.05))
            cuts[i] = replace(cut, x=x, y=y, radius=min(cut.radius, float(rng.uniform(0.055, 0.07))))
        elif pick < 0.38:
            x, y = (float(v) for v in np.clip(rng.normal((cut.x, cut.y), 0.15), 0.02, 0.98))
            cuts[i] = replace(cut, x=x, y=y)
        elif pick < 0.55 and len(cuts) < 6:
            x, y = (float(v) for v in np.clip(rng.normal((cut.x, cut.y), 0.2), 0.05, 0.95))
            cuts.append(replace(cut, x=x, y=y))
        elif pick < 0.65:
            del cuts[i]
        elif pick < 0.8:
            cuts[i] = replace(cut, color=_pick(rng, _COLORS))
        elif pick < 0.9:
            cuts[i] = replace(cut, shape=_pick(rng, SHAPES))
        else:
            cuts[i] = replace(cut, radius=float(np.clip(cut.radius * rng.uniform(0.7, 1.4), 0.05, 0.18)))
    return Scene(scene.sheet, tuple(cuts), scene.word)
