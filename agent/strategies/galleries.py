"""Strategy `gallery`: several frozen generators, of which each request gets the one that is best at what it asks (the
idea of IterComp's gallery, arXiv 2410.07171, without its training).

What a generator is good at is a table: for each key point the mean of the judge's probabilities on its pictures, in this
run and in earlier ones, shrunk to the generator's own mean, and that to the mean of all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from agent.strategies.drafts import with_places
from agent.strategies.moves import EDITOR, GENERATOR, KeyPointMeans, MakePictures, Move, View, room, too_little
from agent.strategies.rounds import draw_round, loop
from agent.types import Attempt
from evaluator.types import Outcome

PRIOR = 8
"""So many answers a mean is worth before there are any."""
MANY = 100
"""Answers on a generator's pictures from which on it need not be tried in the first round."""
RECENT = 200
"""So many of a run's latest pictures count: more would tell nothing new, and cost time at every move."""
NO_GALLERY = "the profile has no gallery: the search is that of the loop"


def gallery(view: View) -> Move:
    """The loop, but in the first round each generator draws one picture that is not known well enough yet, and after that
    the one that promises most for this request's checks draws all."""
    names = [name for name in view.backends if name != EDITOR]
    if len(names) < 2:
        return replace(loop(view), note=NO_GALLERY)
    table = tabulate(list(view.attempts.values())[-RECENT:], view.experience)
    known = {name: sum(count for _, count in table.get(name, {}).values()) for name in names}
    fresh = [name for name in names if not known[name]]
    if view.round == view.began:
        fresh = [name for name in names if known[name] < MANY]
    best = route(names, table, [check.key_point for check in view.checks])
    turns = [*fresh, best] if fresh else [best]
    places = min(max(view.limits.images_per_round, len(fresh)), *(room(view, backend=name) for name in turns))
    if not places:
        return too_little(view)
    move = draw_round(view, with_places(view, places))
    if not isinstance(move, MakePictures):
        return move
    # The request itself is drawn first: by the best, so that the others are compared on one prompt.
    return replace(
        move,
        tasks=tuple(replace(task, backend=turns[n] if n < len(turns) else best) for n, task in enumerate(move.tasks)),
    )


def route(names: Sequence[str], table: Mapping[str, KeyPointMeans], key_points: Sequence[str]) -> str:
    """The generator with the highest mean over the key points of the checks, each as often as it is asked; the first of
    equals. Without checks, the highest on the whole."""
    answers = [(total, count) for name in names for total, count in table.get(name, {}).values()]
    overall = sum(total for total, _ in answers) / max(1, sum(count for _, count in answers)) if answers else 0.5

    def promise(name: str) -> float:
        means = table.get(name, {})
        own = shrink(sum(total for total, _ in means.values()), sum(count for _, count in means.values()), overall)
        return fmean(shrink(*means.get(point, (0.0, 0)), own) for point in key_points) if key_points else own

    return max(names, key=promise)


def shrink(total: float, count: int, prior: float) -> float:
    """The mean of `count` values that sum to `total`, pulled towards `prior` as if PRIOR values had that mean."""
    return (total + PRIOR * prior) / (count + PRIOR)


def tabulate(attempts: Iterable[Attempt], before: Mapping[str, KeyPointMeans]) -> dict[str, KeyPointMeans]:
    """How each generator did: what is known from `before`, and these attempts' answers."""
    probabilities: dict[str, dict[str, list[float]]] = {}
    for attempt in attempts:
        if attempt.kind != "generate":
            continue
        mine = probabilities.setdefault(attempt.backend, defaultdict(list))
        for verdict in attempt.report.verdicts:
            if verdict.probability is not None and verdict.outcome is Outcome.SCORED:
                mine[verdict.check.key_point].append(verdict.probability)
    table: dict[str, dict[str, tuple[float, int]]] = {name: dict(means) for name, means in before.items()}
    for name, points in probabilities.items():
        means = table.setdefault(name, {})
        for point, values in points.items():
            total, count = means.get(point, (0.0, 0))
            means[point] = (total + sum(values), count + len(values))
    return dict(table)


def remember(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, tuple[float, int]]]:
    """The table of earlier runs, from their run.json."""
    table: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    for record in records:
        for attempt in record.get("attempts", ()):
            if attempt["kind"] != "generate":
                continue
            means = table[attempt.get("backend", GENERATOR)]
            for verdict in attempt["report"]["verdicts"]:
                if verdict["probability"] is not None:
                    total, count = means.get(verdict["check"]["key_point"], (0.0, 0))
                    means[verdict["check"]["key_point"]] = (total + verdict["probability"], count + 1)
    return dict(table)
