"""From answers to figures: per condition, per category, per key point, and against the prompt as typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from eval_suites.conditions import Answered, Condition
from eval_suites.runner import Results
from eval_suites.stats import Interval, bootstrap, mean_of_means, paired_difference, ratio, ratio_difference
from eval_suites.types import Headline, Item, Question, Suite
from eval_suites.values import every_right, resolved
from evaluator.keypoints import find_keypoint, group_names

_SAME = 1e-9
Figure = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """An item under a condition. `states`: of each shown picture, each question right, wrong or open (None)."""

    value: float | None
    every: float | None
    states: tuple[tuple[bool | None, ...], ...]
    failed: int
    extras: Mapping[str, float | None]


def score(suite: Suite, item: Item, answered: Answered, pass_at: float) -> Scored:
    """Values of the shown pictures, averaged over those that have one."""
    asked = item.questions or tuple(Question(check) for check in answered.checks)
    full = Item(item.id, item.prompt, asked, item.tags, item.row)
    rights = [
        [None if p is None else (p if q.wanted else 1.0 - p) for q, (p, _, _) in zip(asked, row, strict=True)]
        for row in answered.verdicts
    ]
    return Scored(
        value=_mean([suite.value(full, right, pass_at) for right in rights]),
        every=_mean([every_right(full, right, pass_at) for right in rights]),
        states=tuple(tuple(resolved(full, right, pass_at)) for right in rights),
        failed=sum(state == "failed" for row in answered.verdicts for _, _, state in row),
        extras={name: _mean([value(full, r, pass_at) for r in rights]) for name, value in suite.extras.items()},
    )


def summary(suite: Suite, items: Sequence[Item], rows: Sequence[Condition], results: Results, pass_at: float) -> Figure:
    """All figures of a run as plain JSON values; intervals are {mean, low, high}, 95%, items resampled."""
    scored: dict[str, dict[str, Scored | None]] = {}
    for row in rows:
        found = results[row.name]
        scored[row.name] = {i.id: _scored(suite, i, found[i.id], pass_at) for i in items}
    base = rows[0].name
    axes = sorted({axis for item in items for axis in item.tags})
    return {
        "conditions": {row.name: _condition(suite, items, row, results[row.name], scored[row.name]) for row in rows},
        "against": base,
        "differences": {row.name: _against(items, scored[row.name], scored[base]) for row in rows[1:]},
        "categories": {axis: _categories(items, axis, rows, scored) for axis in axes},
        "key_points": _points(items, rows, results, scored, lambda q: find_keypoint(q.check.key_point).id, True),
        "labels": _points(items, rows, results, scored, _own_label, False),
    }


def _scored(suite: Suite, item: Item, found: Answered | str, pass_at: float) -> Scored | None:
    return None if isinstance(found, str) else score(suite, item, found, pass_at)


def _condition(
    suite: Suite, items: Sequence[Item], row: Condition, found: Mapping[str, Answered | str],
    scored: Mapping[str, Scored | None],
) -> Figure:  # fmt: skip
    there = [one for one in scored.values() if one is not None]
    drawn = [one.made.drawn for one in found.values() if isinstance(one, Answered)]
    hits = [float(sum(state is True for picture in one.states for state in picture)) for one in there]
    totals = [float(sum(state is not None for picture in one.states for state in picture)) for one in there]
    return {
        "title": row.title,
        "value": headline(suite.headline, items, {name: None if s is None else s.value for name, s in scored.items()}),
        "extras": {
            name: headline(suite.headline, items, {n: None if s is None else s.extras[name] for n, s in scored.items()})
            for name in suite.extras
        },
        "every_right": _interval(bootstrap, [one.every for one in there]),
        "questions_right": asdict(ratio(hits, totals)) if sum(totals) else None,
        "answers": int(sum(len(picture) for one in there for picture in one.states)),
        "failed_answers": sum(one.failed for one in there),
        "items": len(there),
        "items_without_value": sum(one.value is None for one in there),
        "items_failed": len(items) - len(there),
        "pictures_per_item": fmean(drawn) if drawn else None,
    }


def headline(how: Headline, items: Sequence[Item], values: Mapping[str, float | None]) -> Figure | None:
    """The suite's one number, with its interval; None where no item has a value."""
    groups: dict[str, list[float]] = {}
    for item in items:
        value = values[item.id]
        if value is not None:
            group = "" if how.axis is None else item.tags[how.axis][0]
            groups.setdefault(group, []).append(value)
    return asdict(mean_of_means(groups, how.weights)) if groups else None


def _against(items: Sequence[Item], ours: Mapping[str, Scored | None], theirs: Mapping[str, Scored | None]) -> Figure:
    pairs = [
        (a.value, b.value)
        for item in items
        if (a := ours[item.id]) and (b := theirs[item.id]) and a.value is not None and b.value is not None
    ]
    gains = [a - b for a, b in pairs]
    return {
        "pairs": len(pairs),
        "difference": asdict(paired_difference([a for a, _ in pairs], [b for _, b in pairs])) if pairs else None,
        "win": sum(gain > _SAME for gain in gains),
        "tie": sum(abs(gain) <= _SAME for gain in gains),
        "loss": sum(gain < -_SAME for gain in gains),
    }


def _categories(
    items: Sequence[Item], axis: str, rows: Sequence[Condition], scored: Mapping[str, Mapping[str, Scored | None]]
) -> Figure:
    values = sorted({value for item in items for value in item.tags.get(axis, ())})
    table: Figure = {}
    for value in values:
        mine = [item.id for item in items if value in item.tags.get(axis, ())]
        figures = {r.name: _interval(bootstrap, [s.value for i in mine if (s := scored[r.name][i])]) for r in rows}
        table[value] = {"items": len(mine), "conditions": figures}
    return table


def _points(
    items: Sequence[Item],
    rows: Sequence[Condition],
    results: Results,
    scored: Mapping[str, Mapping[str, Scored | None]],
    name: Callable[[Question], str],
    key_points: bool,
) -> Figure:
    """Right answers over answers, for each thing that questions are about; gains over the first condition are of the
    items that both have answers on."""
    counts: dict[str, dict[str, dict[str, tuple[float, float, int]]]] = {}
    for row in rows:
        for item in items:
            found, one = results[row.name][item.id], scored[row.name][item.id]
            if isinstance(found, str) or one is None:
                continue
            asked = item.questions or tuple(Question(check) for check in found.checks)
            for k, picture in enumerate(one.states):
                for n, (question, state) in enumerate(zip(asked, picture, strict=True)):
                    if not name(question):
                        continue
                    at = counts.setdefault(name(question), {}).setdefault(row.name, {})
                    hit, total, failed = at.get(item.id, (0.0, 0.0, 0))
                    lost = found.verdicts[k][n][2] == "failed"
                    at[item.id] = (hit + (state is True), total + (state is not None), failed + lost)
    groups = group_names()
    table: Figure = {}
    for label, by_row in counts.items():
        base = by_row.get(rows[0].name, {})
        point = find_keypoint(label) if key_points else None
        table[label] = {
            "name": label if point is None else point.name,
            "group": "" if point is None else groups[point.group],
            "conditions": {row.name: _point(by_row.get(row.name, {}), base) for row in rows},
        }
    return dict(sorted(table.items()))


def _own_label(question: Question) -> str:
    """The benchmark's name for what is tested, where it says more than the key point."""
    return "" if find_keypoint(question.label).id == question.check.key_point else question.label


def _point(mine: Mapping[str, tuple[float, float, int]], base: Mapping[str, tuple[float, float, int]]) -> Figure:
    hits, totals = [v[0] for v in mine.values()], [v[1] for v in mine.values()]
    both = [i for i in mine if i in base and mine[i][1] and base[i][1]]
    gain: Interval | None = None
    if both and mine is not base:
        ours, theirs = [mine[i] for i in both], [base[i] for i in both]
        gain = ratio_difference(
            [v[0] for v in ours], [v[1] for v in ours], [v[0] for v in theirs], [v[1] for v in theirs]
        )
    return {
        "right": asdict(ratio(hits, totals)) if sum(totals) else None,
        "answers": int(sum(totals)),
        "failed": sum(v[2] for v in mine.values()),
        "gain": None if gain is None else asdict(gain),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _interval(how: Callable[[Sequence[float]], Interval], values: Sequence[float | None]) -> Figure | None:
    known = [value for value in values if value is not None]
    return asdict(how(known)) if known else None
