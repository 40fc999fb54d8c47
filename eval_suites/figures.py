"""The figures of a suite of pictures, from its answers: per condition, per category, per key point, and against the
prompt as typed; and the tables that tell them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from eval_suites.report import Section, Table, percent, signed
from eval_suites.stats import bootstrap, mean_of_means, paired_difference, ratio, ratio_difference
from eval_suites.suite import Answered, Condition, Headline, Item, Question, Results, Suite, every_right, resolved
from evaluator.keypoints import find_keypoint, group_names
from redraft.images import ImageStore
from redraft.statistics import Interval

_SAME = 1e-9
Figure = dict[str, Any]
GALLERY = 6
_STRIP = 4
_SIDE = 224
_COLOURS = ("#8a8378", "#b9a98c", "#3557b7", "#1d7a4c", "#b3372b")
"""One for each condition, in the order of the tables."""


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
    questions = item.questions or tuple(Question(check) for check in answered.checks)
    full = Item(item.id, item.prompt, questions, item.tags, item.row)
    rights = [
        [None if p is None else (p if q.wanted else 1.0 - p) for q, (p, _, _) in zip(questions, row, strict=True)]
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
        answers = results[row.name]
        scored[row.name] = {i.id: _scored(suite, i, answers[i.id], pass_at) for i in items}
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
    """The suite's one number, with its interval; None if no item has a value."""
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
            answered, one = results[row.name][item.id], scored[row.name][item.id]
            if isinstance(answered, str) or one is None:
                continue
            questions = item.questions or tuple(Question(check) for check in answered.checks)
            for k, picture in enumerate(one.states):
                for n, (question, state) in enumerate(zip(questions, picture, strict=True)):
                    if not name(question):
                        continue
                    at = counts.setdefault(name(question), {}).setdefault(row.name, {})
                    hit, total, failed = at.get(item.id, (0.0, 0.0, 0))
                    lost = answered.verdicts[k][n][2] == "failed"
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
    """The benchmark's name for what is tested, if it says more than the key point."""
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


def picture_sections(figures: Mapping[str, Any]) -> list[Section]:
    """Every table of a suite of pictures, in the order of the page."""
    text = (
        f"{figures['prompts']} prompts, percent, 95% intervals by bootstrap over prompts. Failed answers count as "
        "neither right nor wrong."
    )
    sections = [Section("Conditions", text, condition_table(figures))]
    if figures["differences"]:
        text = f"Percentage points of {figures['value_name']}, paired by prompt."
        against = figures["conditions"][figures["against"]]["title"]
        sections.append(Section(f"Against: {against}", text, difference_table(figures)))
    sections.append(Section("What the questions are about", "", None, "bars.html.j2"))
    for name, key in (("Key points", "key_points"), ("The benchmark's own labels", "labels")):
        if figures[key]:
            text = "Share of questions answered right, the greatest gain first."
            sections.append(Section(name, text, point_table(figures, key)))
    sections += [
        Section(f"By {axis}", "", category_table(figures, axis, t)) for axis, t in figures["categories"].items()
    ]
    sections.append(Section("What the last condition changed most", "", None, "gallery.html.j2"))
    sections += [Section(s["heading"], s["told"], Table(s["head"], s["rows"])) for s in figures["sections"]]
    return [*sections, Section("Cost", "", cost_table(figures))]


def condition_table(figures: Mapping[str, Any]) -> Table:
    """The head of the report: every condition in one row."""
    extras = list(next(iter(figures["conditions"].values()))["extras"])
    head = [
        "condition",
        figures["value_name"],
        *extras,
        "every question right",
        "questions right",
        "failed answers",
        "items",
        "pictures an item",
    ]
    rows = []
    for row in figures["conditions"].values():
        lost = row["items_failed"] + row["items_without_value"]
        drawn = "-" if row["pictures_per_item"] is None else f"{row['pictures_per_item']:.2f}"
        items = f"{row['items']}" + (f" ({lost} without a value or failed)" if lost else "")
        failed = f"{row['failed_answers']} of {row['answers']}"
        shares = [percent(row[key]) for key in ("value", "every_right", "questions_right")]
        shares[1:1] = [percent(row["extras"][name]) for name in extras]
        rows.append([row["title"], *shares, failed, items, drawn])
    return Table(head, rows)


def difference_table(figures: Mapping[str, Any]) -> Table:
    """Each condition against the first: paired difference, and on how many prompts it wins, ties and loses."""
    rows = [
        [
            figures["conditions"][name]["title"],
            signed(row["difference"]),
            f"{row['win']} / {row['tie']} / {row['loss']}",
            f"{row['pairs']}",
        ]
        for name, row in figures["differences"].items()
    ]
    return Table(["condition", "difference", "win / tie / loss", "prompts"], rows)


def category_table(figures: Mapping[str, Any], axis: str, table: Mapping[str, Any]) -> Table:
    head = [axis, "items", *(row["title"] for row in figures["conditions"].values())]
    rows = [
        [value, f"{line['items']}", *(percent(line["conditions"][name]) for name in figures["conditions"])]
        for value, line in table.items()
    ]
    return Table(head, rows)


def point_table(figures: Mapping[str, Any], key: str) -> Table:
    """Sorted by the gain of the last condition over the first, the greatest first."""
    names = list(figures["conditions"])
    grouped = any(line["group"] for line in figures[key].values())
    titles = [figures["conditions"][name]["title"] for name in names]
    head = ["", *(["group"] if grouped else []), *titles, "gain of the last", "answers, failed"]

    def gain(line: Mapping[str, Any]) -> float:
        figure = line["conditions"][names[-1]]["gain"]
        return float("-inf") if figure is None else float(figure["mean"])

    rows = []
    for line in sorted(figures[key].values(), key=gain, reverse=True):
        by = line["conditions"]
        shares = [percent(by[name]["right"]) for name in names]
        counted = f"{sum(by[n]['answers'] for n in names)}, {sum(by[n]['failed'] for n in names)}"
        group = [line["group"]] if grouped else []
        rows.append([line["name"], *group, *shares, signed(by[names[-1]]["gain"]), counted])
    return Table(head, rows)


def cost_table(figures: Mapping[str, Any]) -> Table:
    cost = figures["cost"]
    tokens = cost["rewriter_tokens"]
    rows = [
        ["pictures drawn", f"{cost['pictures_drawn']:,}"],
        ["pictures judged, answers", f"{cost['pictures_judged']:,}, {cost['answers']:,}"],
        ["tokens of the rewriter, read and written", f"{tokens['prompt']:,}, {tokens['completion']:,}"],
    ]
    rows += [[f"seconds: {kind}", f"{seconds:,.1f}"] for kind, seconds in cost["seconds"].items()]
    return Table(["", "all conditions together"], rows)


def bars(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Geometry of the plot over key points: a band for each, a bar with its interval for each condition; a unit is a
    pixel of the view box."""
    names, key = list(figures["conditions"]), "key_points" if figures["key_points"] else "labels"
    left, width, thick, gap = 190.0, 520.0, 9.0, 10.0
    bands, y = [], 4.0
    for line in figures[key].values():
        marks = []
        for n, name in enumerate(names):
            right = line["conditions"][name]["right"]
            if right is not None:
                low, high = (right["mean"] if right[key] is None else right[key] for key in ("low", "high"))
                marks.append(
                    {
                        "y": round(y + n * thick, 1),
                        "w": round(right["mean"] * width, 1),
                        "low": round(left + low * width, 1),
                        "high": round(left + high * width, 1),
                        "colour": _COLOURS[n % len(_COLOURS)],
                        "told": f"{figures['conditions'][name]['title']}: {percent(right)}",
                    }
                )
        bands.append({"name": line["name"], "y": round(y + len(names) * thick / 2 + 4, 1), "marks": marks})
        y += len(names) * thick + gap
    return {"bands": bands, "left": left, "width": width, "thick": thick - 1, "height": round(y, 1)}


def legend(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(title, colour) of the conditions."""
    return list(zip([row["title"] for row in figures["conditions"].values()], _COLOURS, strict=False))


def gallery(
    suite: Suite, items: Sequence[Item], rows: Sequence[Condition], results: Results, store: ImageStore, pass_at: float
) -> dict[str, Any]:
    """The items that the last condition changed most, for the better and for the worse, with pictures embedded."""
    first, last = rows[0], rows[-1]
    changes = []
    for item in items:
        before, after = results[first.name][item.id], results[last.name][item.id]
        if isinstance(before, str) or isinstance(after, str) or first is last:
            continue
        was, now = (score(suite, item, side, pass_at).value for side in (before, after))
        if was is not None and now is not None:
            changes.append((now - was, was, now, item, before, after))
    changes.sort(key=lambda change: change[0])

    def entry(change: tuple[float, float, float, Item, Answered, Answered]) -> dict[str, Any]:
        gain, was, now, item, before, after = change
        return {
            "gain": f"{100 * gain:+.0f}",
            "prompt": item.prompt,
            "tags": [value for values in item.tags.values() for value in values],
            "sides": [
                _side(first.title, was, before, item, store, pass_at),
                _side(last.title, now, after, item, store, pass_at),
            ],
        }

    best = [entry(change) for change in reversed(changes[-GALLERY:]) if change[0] > 0]
    worst = [entry(change) for change in changes[:GALLERY] if change[0] < 0]
    return {"best": best, "worst": worst, "first": first.title, "last": last.title}


def _side(
    title: str, value: float, answered: Answered, item: Item, store: ImageStore, pass_at: float
) -> dict[str, Any]:
    questions = item.questions
    lines = []
    for n, (check, (p, reason, state)) in enumerate(zip(answered.checks, answered.verdicts[0], strict=True)):
        wanted = questions[n].wanted if questions else True
        met = None if p is None else (p >= pass_at) == wanted
        lines.append({"question": check.question, "p": p, "met": met, "failed": state == "failed", "reason": reason})
    return {
        "title": title,
        "value": f"{100 * value:.0f}",
        "prompt": answered.made.prompt,
        "thought": answered.made.thought,
        "trace": answered.made.trace,
        "story": [
            {**step, "score": "no score" if step["score"] is None else f"{100 * step['score']:.0f}"}
            for step in answered.made.story
        ],
        "pictures": [_embedded(store, picture) for picture in answered.made.pictures[:_STRIP]],
        "lines": lines,
    }


def _embedded(store: ImageStore, picture: str) -> str:
    image = store.get(picture).convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
