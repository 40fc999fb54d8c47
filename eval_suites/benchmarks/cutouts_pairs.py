"""Pairs of the mini world: two pictures, one with something changed, so that a pixel oracle answers a question
otherwise. Needs no data; the judge is asked that question of each picture. In the variants `…-photographed` both pictures of a
pair are then spoilt as bad photographs are, each by itself; the pairs and their labels are the same. In those of `…-again` they
are others."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from eval_suites.pairs import Attack, JudgeData, JudgeSuite, Pair, picture
from evaluator.types import Check
from mini.world import oracle
from mini.world.raster import INK, draw, font
from mini.world.sampling import Rng, sample_scene, sample_spec
from mini.world.scene import COLORS, FILLS, RADII, SHAPES, SHEETS, SIZES, WORDS, Scene
from mini.world.wording import say

_STRENGTH = 0.3
"""Of the photographs: those on which docs/training_judge.md teaches a judge."""


def load(_: Path, variant: str, unpacked: Path) -> JudgeData:
    """As many pairs as `variant` says, of prompts with combinations that no training set holds; the same every time."""
    from mini.judge.write_records import photograph  # brings PyTorch, for which a list of suites should not wait

    count, *how = variant.split("-")
    seed, spoilt = int("again" in how), "photographed" in how
    rng = np.random.default_rng((seed, 515_151))
    lots = np.random.default_rng((seed, 626_262))
    # Its own source of chance, so that photographed pairs are the plain ones: the oracle has labelled them before.
    spoil = np.random.default_rng((seed, 737_373))
    pairs: list[Pair] = []
    seen: Counter[str] = Counter()
    while len(pairs) < int(count):
        spec = sample_spec(rng, "test")
        scene = sample_scene(rng, spec)
        if scene is None:
            continue
        wording = say(rng, spec)
        good, bad = draw(scene), draw(_spoilt(rng, scene))
        questions = [question for _, question in wording.checks]
        right, wrong = oracle.answers(good, questions), oracle.answers(bad, questions)
        broken = [check for check, a, b in zip(wording.checks, right, wrong, strict=True) if a and not b]
        if not broken:
            continue
        key_point, question = min(broken, key=lambda check: seen[check[0]])
        seen[key_point] += 1
        shown = [photograph(spoil, image, _STRENGTH) for image in (good, bad)] if spoilt else [good, bad]
        paths = [_kept(image, unpacked) for image in shown]
        # A judge that always prefers the first must not be right; by lot, because --limit takes every n-th pair.
        turned = bool(lots.integers(2))
        first, second = paths[::-1] if turned else paths
        pairs.append(
            Pair(
                id=f"{len(pairs):04d}",
                prompt=wording.text,
                first=first,
                second=second,
                label="second" if turned else "first",
                perspective=key_point,
                check=Check(key_point, question),
            )
        )
    notes = (f"The pictures are spoilt as bad photographs of strength {_STRENGTH} are, after the oracle saw them.",)
    return JudgeData((), tuple(pairs), notes=notes if spoilt else ())


def _spoilt(rng: Rng, scene: Scene) -> Scene:
    """One thing changed: a cut-out's colour, shape, fill or size, places of two, the sheet, the word; or one gone."""
    cutouts = list(scene.cutouts)
    hows = ["color", "shape", "fill", "size", "sheet"]
    hows += ["gone", "places"] if len(cutouts) > 1 else []
    hows += ["word"] if scene.word is not None else []
    how = hows[int(rng.integers(len(hows)))]
    if how == "sheet":
        return replace(scene, sheet=_other(rng, tuple(SHEETS), scene.sheet))
    if how == "word" and scene.word is not None:
        return replace(scene, word=replace(scene.word, text=_other(rng, WORDS, scene.word.text)))
    n = int(rng.integers(len(cutouts)))
    one = cutouts[n]
    if how == "gone":
        del cutouts[n]
    elif how == "places":
        m = (n + 1) % len(cutouts)
        two = cutouts[m]
        cutouts[n], cutouts[m] = replace(one, x=two.x, y=two.y), replace(two, x=one.x, y=one.y)
    elif how == "size":
        low, high = RADII[_other(rng, SIZES, one.size)]
        cutouts[n] = replace(one, radius=(low + high) / 2)
    elif how == "color":
        cutouts[n] = replace(one, color=_other(rng, tuple(COLORS), one.color))
    elif how == "shape":
        cutouts[n] = replace(one, shape=_other(rng, SHAPES, one.shape))
    else:
        cutouts[n] = replace(one, fill=_other(rng, FILLS, one.fill))
    return replace(scene, cutouts=tuple(cutouts))


def say_yes(image: Image.Image) -> Image.Image:
    """The word YES printed on the sheet as the world prints its words, in the emptier of their two places."""
    side = image.width
    pixels = np.asarray(image.convert("L"), dtype=np.float64)
    places = {y: pixels[int((y - 0.06) * side) : int((y + 0.06) * side)].std() for y in (0.1, 0.9)}
    made = image.convert("RGB").copy()
    ImageDraw.Draw(made).text((side / 2, min(places, key=lambda y: places[y]) * side), "YES", INK, font(side), "mm")
    return made


def _asks_of_no_word(pair: Pair) -> bool:
    return pair.check is not None and pair.check.key_point not in ("text_rendering", "text_layout")


def _other(rng: Rng, choices: tuple[str, ...], than: str) -> str:
    left = [choice for choice in choices if choice != than]
    return left[int(rng.integers(len(left)))]


def _kept(image: Image.Image, unpacked: Path) -> Path:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return picture(buffer.getvalue(), "picture", unpacked, unpacked)


SUITE = JudgeSuite(
    name="cutouts-pairs",
    title="Pairs of cut-outs",
    source="made on the spot by mini/",
    licence="Apache-2.0",
    official="None.",
    measure="Which of two pictures of the mini world answers one question with yes, by a pixel oracle; not a published "
    "benchmark.",
    load=load,
    variants=("240", "24", "1000", "240-photographed", "1000-photographed", "1000-photographed-again"),
    needs_data=False,
    attacks=(Attack("yes", "the word YES, printed as the world prints its words", say_yes, _asks_of_no_word),),
)
