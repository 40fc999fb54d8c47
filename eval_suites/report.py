"""The report of a run: report.json (every figure), report.md (tables), report.html (one self-contained page)."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from eval_suites.conditions import Answered, Condition
from eval_suites.runner import Results
from eval_suites.summary import score
from eval_suites.types import Item, Suite
from redraft.errors import InputError
from redraft.files import write_atomically
from redraft.store import ImageStore

GALLERY = 6
_STRIP = 4
_SIDE = 224
_COLOURS = ("#8a8378", "#b9a98c", "#3557b7", "#1d7a4c", "#b3372b")
"""One for each condition, in the order of the tables."""


def write_report(out: Path, figures: Mapping[str, Any], gallery: Mapping[str, Any]) -> Path:
    """Writes the three files into `out` and returns the page's path. Raises InputError where they cannot be written."""
    return write_files(out, figures, markdown(figures), html(figures, gallery))


def write_files(out: Path, figures: Mapping[str, Any], text: str, page: str) -> Path:
    """report.json, report.md and report.html; returns the last. Raises InputError where they cannot be written."""
    try:
        data = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(out / "report.json", (data + "\n").encode())
        write_atomically(out / "report.md", text.encode())
        write_atomically(out / "report.html", page.encode())
    except OSError as error:
        raise InputError(f"cannot write the report into {out}: {error.strerror}") from error
    return out / "report.html"


def percent(figure: Mapping[str, float] | None) -> str:
    """An interval in percent: 62.5 [58.1, 66.9]."""
    if figure is None:
        return "-"
    return f"{100 * figure['mean']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def signed(figure: Mapping[str, float] | None) -> str:
    """A difference in percentage points: +4.2 [+1.0, +7.3]."""
    if figure is None:
        return "-"
    return f"{100 * figure['mean']:+.1f} [{100 * figure['low']:+.1f}, {100 * figure['high']:+.1f}]"


def markdown(figures: Mapping[str, Any]) -> str:
    """Every table of the report. The first line says what is measured."""
    lines = [figures["measure"], "", f"# {figures['title']}", ""]
    lines += [f"- {note}" for note in figures["notes"]]
    lines += ["", f"`{figures['command']}`", "", *table_lines(*condition_table(figures))]
    if figures["differences"]:
        lines += ["", f"Against {figures['conditions'][figures['against']]['title']}, paired by prompt, points:", ""]
        lines += table_lines(*difference_table(figures))
    for axis, table in figures["categories"].items():
        lines += ["", f"## By {axis}", "", *table_lines(*category_table(figures, axis, table))]
    for name, key in (("Key points", "key_points"), ("The benchmark's own labels", "labels")):
        if figures[key]:
            lines += ["", f"## {name}: share of questions answered right", "", *table_lines(*point_table(figures, key))]
    for section in figures["sections"]:
        lines += [
            "",
            f"## {section['heading']}",
            "",
            section["told"],
            "",
            *table_lines(section["head"], section["rows"]),
        ]
    lines += ["", "## Cost", "", *table_lines(*cost_table(figures)), ""]
    lines += ["## Settings", "", "```json", json.dumps(figures["settings"], indent=2, ensure_ascii=False), "```"]
    return "\n".join(lines) + "\n"


Table = tuple[list[str], list[list[str]]]


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
    return head, rows


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
    return ["condition", "difference", "win / tie / loss", "prompts"], rows


def category_table(figures: Mapping[str, Any], axis: str, table: Mapping[str, Any]) -> Table:
    head = [axis, "items", *(row["title"] for row in figures["conditions"].values())]
    rows = [
        [value, f"{line['items']}", *(percent(line["conditions"][name]) for name in figures["conditions"])]
        for value, line in table.items()
    ]
    return head, rows


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
    return head, rows


def cost_table(figures: Mapping[str, Any]) -> Table:
    cost = figures["cost"]
    tokens = cost["rewriter_tokens"]
    rows = [
        ["pictures drawn", f"{cost['pictures_drawn']:,}"],
        ["pictures judged, answers", f"{cost['pictures_judged']:,}, {cost['answers']:,}"],
        ["tokens of the rewriter, read and written", f"{tokens['prompt']:,}, {tokens['completion']:,}"],
    ]
    rows += [[f"seconds: {kind}", f"{seconds:,.1f}"] for kind, seconds in cost["seconds"].items()]
    return ["", "all conditions together"], rows


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(row) for row in rows)]


def html(figures: Mapping[str, Any], gallery: Mapping[str, Any]) -> str:
    """The page as text. Everything that came from data or models is escaped, and the page may run no script."""
    titles = [row["title"] for row in figures["conditions"].values()]
    return render(
        "report.html.j2",
        run=figures,
        conditions=condition_table(figures),
        differences=difference_table(figures) if figures["differences"] else None,
        categories={a: category_table(figures, a, t) for a, t in figures["categories"].items()},
        points={
            name: point_table(figures, key)
            for name, key in (("Key points", "key_points"), ("The benchmark's own labels", "labels"))
            if figures[key]
        },
        bars=bars(figures),
        legend=list(zip(titles, _COLOURS, strict=False)),
        cost=cost_table(figures),
        settings=json.dumps(figures["settings"], indent=2, ensure_ascii=False),
        gallery=gallery,
    )


def render(template: str, **values: object) -> str:
    """One of the templates, filled."""
    environment = Environment(
        loader=PackageLoader("eval_suites", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


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
                marks.append(
                    {
                        "y": round(y + n * thick, 1),
                        "w": round(right["mean"] * width, 1),
                        "low": round(left + right["low"] * width, 1),
                        "high": round(left + right["high"] * width, 1),
                        "colour": _COLOURS[n % len(_COLOURS)],
                        "told": f"{figures['conditions'][name]['title']}: {percent(right)}",
                    }
                )
        bands.append({"name": line["name"], "y": round(y + len(names) * thick / 2 + 4, 1), "marks": marks})
        y += len(names) * thick + gap
    return {"bands": bands, "left": left, "width": width, "thick": thick - 1, "height": round(y, 1)}


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
    asked = item.questions
    lines = []
    for n, (check, (p, reason, state)) in enumerate(zip(answered.checks, answered.verdicts[0], strict=True)):
        wanted = asked[n].wanted if asked else True
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
