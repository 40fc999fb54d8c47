"""Lessons for a listener on mini, and whether it tells thoughts that agree with a picture from ones that contradict it.

    python -m mini.judge.listening --write work/mini/listening
    python -m mini.judge.listening --measure PROFILE [PROFILE ...] --count 200

Thoughts are made by rule, of the words that the mini judge has, which lack "is" and "are": "the sheet mint. the red star left of
the circle." A statement that decides the question stands beside true ones that do not. If it agrees, it is what the oracle sees;
if it contradicts, it is one that would turn the answer round; a silent thought leaves it out. Of the lessons' deciding
statements a share is false (--false) and the verdict is the oracle's, so that a listener has to look and to listen. In every
third lesson the picture is an empty sheet and no statement is false: there it learns to read. PROFILEs are of one listener,
trained with several seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from evaluator.judge import open_judge
from evaluator.train.figures import format_row
from evaluator.train.grpo import Listener, Sample, open_listener
from evaluator.train.rewards import read_reasoned
from evaluator.train.tasks import ListenerWording
from evaluator.types import Check
from mini.judge.write_records import drawn, judged
from mini.training import console
from mini.world import oracle, questions
from mini.world.questions import NUMBERS, Noun, Query
from mini.world.sampling import Rng, Split
from mini.world.scene import COLORS, FILLS, INVERSE, SHEETS, SIZES, WORDS, Scene
from redraft.coroutines import run_coroutine
from redraft.images import save_png
from redraft.profiles import load_profile
from redraft.statistics import Floats, Interval, area_under_curve, bootstrap

STYLE = "package:mini/judge/listening_style"
_SILENT = 0.3
"""Share of lessons whose thought leaves the deciding statement out."""
_VALUES = {"size": SIZES, "fill": FILLS, "color": tuple(COLORS), "sheet": tuple(SHEETS), "word": WORDS}
_OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


@dataclass(frozen=True)
class Thoughts:
    """A check of a picture, with a thought of each kind about it, and a silent one."""

    image: Image.Image
    request: str
    key_point: str
    question: str
    truth: str
    agreeing: str
    contradicting: str
    silent: str


def list_states(query: Query) -> list[Query]:
    """Statements of which at most one is true, each of which decides `query`. None for questions without an opposite."""
    nouns = [noun for noun in (query.noun, query.other) if noun is not None]
    if query.kind in ("exists", "absent", "count"):
        return [_number(nouns[0], n) for n in range(len(NUMBERS))]
    missing = [_number(noun, 0) for noun in nouns]
    if query.kind in _VALUES:
        return [*(Query(query.kind, query.noun, value=value) for value in _VALUES[query.kind]), *missing]
    if query.kind in ("place", "word_place"):
        return [query, Query(query.kind, query.noun, value=_OPPOSITE[query.value]), *missing]
    other = next((to for of, to in INVERSE.items() if of == query.kind), None)
    return [] if other is None else [query, Query(other, query.noun, query.other), *missing]


def _number(noun: Noun, n: int) -> Query:
    return Query("count", Noun(noun.shape, noun.color, n != 1), value=NUMBERS[n])


def decide(state: Query, query: Query) -> bool:
    """The answer to `query` if `state` is true."""
    if state.kind == "count" and query.kind in ("exists", "absent"):
        return (state.value == NUMBERS[0]) == (query.kind == "absent")
    return state == query


def state_words(state: Query) -> str:
    """A question as a statement: "Is the star left of the circle?" as "the star left of the circle"."""
    return str(state).split(" ", 1)[1].removesuffix("?")


def list_asides(scene: Scene, query: Query) -> list[Query]:
    """What is true of the scene and says nothing of what `query` is about."""
    nouns = [noun for noun in (query.noun, query.other) if noun is not None]
    of = {cut for noun in nouns for cut in Noun("shape", noun.color).find(scene) + Noun(noun.shape).find(scene)}
    names = dict.fromkeys(Noun(cut.shape, cut.color) for cut in scene.cutouts if cut not in of)
    numbers = [_number(noun, min(len(noun.find(scene)), 6)) for noun in names if noun.shape != "unknown"]
    return numbers if query.kind == "sheet" else [*numbers, Query("sheet", value=scene.sheet)]


def think(rng: Rng, scene: Scene, query: Query) -> tuple[str, str, str] | None:
    """A thought that agrees with the scene, one that contradicts it, a silent one; None if the question has no opposite, or if
    neither is true of the scene."""
    states = list_states(query)
    true = next((state for state in states if questions.answer(state, scene)), None)
    asides = list_asides(scene, query)
    if true is None or not asides:
        return None
    wrong = [state for state in states if decide(state, query) != decide(true, query)]
    if true.kind == "count" and query.kind in ("exists", "absent", "count"):
        apart = [abs(states.index(state) - states.index(true)) for state in wrong]
        wrong = [state for state, n in zip(wrong, apart, strict=True) if n == min(apart)]
    chosen = [asides[i] for i in rng.permutation(len(asides))[: int(rng.integers(1, 3))]]
    at = int(rng.integers(len(chosen) + 1))
    turned = wrong[int(rng.integers(len(wrong)))]
    many = ([*chosen[:at], *state, *chosen[at:]] for state in ([true], [turned], []))
    agreeing, contradicting, silent = (". ".join(map(state_words, some)) + "." for some in many)
    return agreeing, contradicting, silent


def thoughts(rng: Rng, count: int, split: Split) -> Iterator[tuple[int, Thoughts]]:
    """The checks of `count` pictures of a split that have an opposite, each with the number of its picture."""
    for number, one in enumerate(track(drawn(rng, count, split=split), total=count, description="pictures")):
        scene = oracle.read_scene(one.image)
        for point, question, accept in judged(rng, one):
            query = questions.parse(question)
            made = think(rng, scene, query) if query is not None else None
            if made is not None:
                yield number, Thoughts(one.image, one.wording.text, point, question, "yes" if accept else "no", *made)


def write(out: Path, count: int, seed: int, false: float = 0.2) -> int:
    """Writes `count` pictures of the training split, empty sheets and their records to `out`; returns how many records. `false`:
    the share of deciding statements about pictures that are."""
    rng = np.random.default_rng((seed, 20))
    listener, reader = (ListenerWording(STYLE, sees=sees) for sees in (True, False))
    lines = []
    for number, one in thoughts(rng, count, "train"):
        looks = rng.random() >= 1 / 3
        silent, wrong = rng.random() < _SILENT, looks and rng.random() < false
        thought = one.silent if silent else one.contradicting if wrong else one.agreeing
        name = f"pictures/{number:06d}{'' if looks else '_empty'}.png"
        if not (out / name).is_file():
            # No two are alike: records of one picture are held out together.
            empty = Image.new("RGB", (96, 96), (number % 256, number // 256 % 256, 128))
            save_png(one.image if looks else empty, out / name, {})
        text = (listener if looks else reader)(thought, one.question, ("yes", "no"))
        verdict = "accept" if one.truth == "yes" else "reject"
        record = {"image": name, "request": one.request, "key_point": one.key_point, "question": text}
        lines.append(json.dumps(record | {"verdict": verdict}))
    (out / "judgements.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def rate(listener: Listener, checks: Sequence[Thoughts]) -> Floats:
    """(3, checks): the reward of replies whose thought agrees, contradicts, is silent; NaN if it could not be had. Their answers
    are right, which this reward does not look at."""
    samples = [
        Sample(
            reply=read_reasoned(f"<description>{text}</description><think>{text}</think><answer>{one.truth}</answer>"),
            kind="check",
            truth=one.truth,
            question=one.question,
            options=("yes", "no"),
            row=row,
            pictures=(one.image,),
        )
        for row, one in enumerate(checks)
        for text in (one.agreeing, one.contradicting, one.silent)
    ]
    return np.array(listener(samples), dtype=np.float64).reshape(-1, 3).T


def rate_alone(profile: str, checks: Sequence[Thoughts]) -> Floats:
    """(3, checks) likewise, by the judge's model of a profile without any thought: the same for all three."""
    config = load_profile(profile).judge
    assert config is not None
    judge = open_judge(config.model_copy(update={"tools": (), "second": None, "looks": 0}))

    async def ask(one: Thoughts) -> float:
        [verdict] = await judge(one.image, one.request, [Check(one.key_point, one.question)])
        yes = math.nan if verdict.probability is None else verdict.probability
        return yes if one.truth == "yes" else 1 - yes

    async def ask_all() -> list[float]:
        return list(await asyncio.gather(*map(ask, checks)))

    return np.tile(run_coroutine(ask_all()), (3, 1))


def measure(seeds: Sequence[Floats], pictures: Sequence[int], resamples: int = 1000) -> list[Interval]:
    """Of the rewards (3, checks) of each seed: the mean of agreeing, silent and contradicting thoughts; in which share of checks
    the agreeing one is rewarded more; AUC over all checks; the share of contradicting and of agreeing thoughts after which the
    true answer seems the less likely. Means over seeds; intervals resample pictures."""
    values = np.array(seeds)
    of = [np.flatnonzero(np.array(pictures) == picture) for picture in dict.fromkeys(pictures)]

    def over_pictures(statistic: Callable[[Floats], float]) -> Interval:
        def each(which: NDArray[np.int_]) -> Floats:
            rows = np.atleast_2d(which)
            made = [statistic(values[..., np.concatenate([of[picture] for picture in row])]) for row in rows]
            return np.array(made).reshape(which.shape[:-1])

        return bootstrap(each, np.arange(len(of)), resamples=resamples, batch=100)

    return [
        over_pictures(lambda v: float(v[:, 0].mean())),
        over_pictures(lambda v: float(v[:, 2].mean())),
        over_pictures(lambda v: float(v[:, 1].mean())),
        over_pictures(lambda v: float(((v[:, 0] > v[:, 1]) + 0.5 * (v[:, 0] == v[:, 1])).mean())),
        over_pictures(lambda v: float(np.mean([area_under_curve(seed[0], seed[1]) for seed in v]))),
        over_pictures(lambda v: float((v[:, 1] < 0.5).mean())),
        over_pictures(lambda v: float((v[:, 0] < 0.5).mean())),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m mini.judge.listening", description="Listeners on mini.")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write lessons for a listener")
    parser.add_argument("--measure", nargs="+", metavar="PROFILE", help="measure listeners, one a seed")
    parser.add_argument("--count", type=int, default=3000, help="pictures")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pictures")
    parser.add_argument(
        "--false", type=float, default=0.2, help="share of the lessons' deciding statements that are false"
    )
    options = parser.parse_args(argv)
    if options.write is not None:
        console.print(
            f"{write(options.write, options.count, options.seed, options.false):,} lessons in {options.write}"
        )
    if options.measure is None:
        return
    made = list(thoughts(np.random.default_rng((options.seed, 21)), options.count, "test"))
    truths = {(one.key_point, one.truth) for _, one in made}
    # Of a key point that is always met, a listener knows the truth without a look or a word.
    made = [row for row in made if {(row[1].key_point, truth) for truth in ("yes", "no")} <= truths]
    pictures, checks = zip(*made, strict=True)
    console.print(f"{len(checks):,} checks of {len(set(pictures)):,} pictures")
    columns = "reward", "checks", "agreeing", "silent", "contradicting", "told apart", "AUC", "caught", "caught wrongly"
    table = [format_row(*columns), format_row(*["---"] * len(columns))]
    for name in ("no thought", "listener", "description"):
        seeds = [
            rate_alone(profile, checks)
            if name == "no thought"
            else rate(open_listener(profile, STYLE)(sees=name == "listener"), checks)
            for profile in options.measure
        ]
        had = [at for at in range(len(checks)) if np.isfinite([seed[:, at] for seed in seeds]).all()]
        points = sorted({checks[at].key_point for at in had}) if name != "no thought" else []
        for point in ("", *points):
            of = [at for at in had if point in ("", checks[at].key_point)]
            figures = measure([seed[:, of] for seed in seeds], [pictures[at] for at in of]) if of else [None] * 7
            table.append(format_row(point or name, f"{len(of):,}", *figures))
    sys.stdout.write("".join(table))


if __name__ == "__main__":
    main()
