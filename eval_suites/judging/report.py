"""The report on a judge: report.json, report.md, report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval_suites.report import Table, percent, render, signed, table_lines, write_files

Section = tuple[str, str, Table]
"""Heading, what it says, table."""


def write_judge_report(out: Path, figures: Mapping[str, Any]) -> Path:
    """Writes the three files into `out` and returns the page's path. Raises InputError where they cannot be written."""
    return write_files(out, figures, markdown(figures), html(figures))


def sections(figures: Mapping[str, Any]) -> list[Section]:
    """Every table, in the order of the page; those that were not measured are left out."""
    made: list[Section] = []
    if "accuracy" in figures:
        rows = [("all", figures["accuracy"]), *figures["perspectives"].items()]
        if len(figures["perspectives"]) == 1:
            rows = rows[:1]
        if "second" in figures:
            rows.append((f"second judge: {figures['second']['name']}", figures["second"]))
        grouped = figures["accuracy"]["groups"] is not None
        head = ["", "pairs", "failed", "with ties", "without ties", "ties: labelled, judge"]
        head += ["whole groups"] if grouped else []
        table = [
            [
                name,
                f"{row['pairs']}",
                f"{row['failed']}",
                percent(row["with_ties"]),
                percent(row["without_ties"]),
                f"{row['labelled_ties']}, {row['judge_ties']}",
                *([percent(row["groups"])] if grouped else []),
            ]
            for name, row in rows
        ]
        told = "Percent of answered pairs that the judge decides as labelled; 95% intervals, pairs resampled."
        made.append(("Pairwise accuracy", told, (head, table)))
    made += _robustness(figures)
    made += _attacks(figures)
    if figures.get("calibration") is not None:
        told = f"Expected calibration error {figures['calibration']['ece']:.3f} (Guo et al. 2017)."
        bins = [
            [f"{b['low']:.1f} to {b['high']:.1f}", f"{b['count']}", f"{b['confidence']:.3f}", f"{b['frequency']:.3f}"]
            for b in figures["calibration"]["bins"]
        ]
        made.append(("Calibration", told, (["P(first better)", "pairs", "mean P", "first labelled better"], bins)))
    if "ratings" in figures:
        rows = [("all", figures["ratings"]), *figures["rating_tags"].items()]
        head = ["", "pictures", "failed", "Spearman", "Kendall tau-b", "order within a prompt"]
        table = [
            [n, f"{r['pictures']}", f"{r['failed']}", _plain(r["spearman"]), _plain(r["kendall"]), percent(r["within"])]
            for n, r in rows
        ]
        made.append(("Against people's ratings", "Rank correlation; pairs of one prompt in percent.", (head, table)))
    for axis, rows in figures.get("edits", {}).items():
        head = ["", "edits", "failed", "overall", "followed", "kept", "looks right"]
        names = ("overall", "followed", "kept", "perceptual")
        table = [
            [value, f"{row['edits']}", f"{row['failed']}", *(percent(row[name]) for name in names)]
            for value, row in rows.items()
        ]
        told = "Mean of each scored edit's scores, percent of the scale; 95% intervals, edits resampled."
        made.append((f"Edits by {axis}", told, (head, table)))
    return made


def _robustness(figures: Mapping[str, Any]) -> list[Section]:
    rows = []
    if "position" in figures:
        row = figures["position"]
        rows += [
            ["same decision in both orders", percent(row["consistent"]), f"{row['pairs']}"],
            ["decided for the one shown first (50 without bias)", percent(row["shown_first"]), f"{row['pairs']}"],
        ]
    elif "accuracy" in figures:
        rows.append(["order of the pictures", "none by construction: each is scored by itself", ""])
    if "consistency" in figures:
        row = figures["consistency"]
        rows.append(
            [f"agreement with itself over {row['passes']} passes", percent(row["agreement"]), f"{row['pairs']}"]
        )
    if "verbosity" in figures:
        row = figures["verbosity"]
        rows.append(["decisions that a wordy prompt changes", percent(row["changed"]), f"{row['pairs']}"])
    if "agreement" in figures:
        row = figures["agreement"]
        kappa = "" if row["kappa"] is None else f", kappa {row['kappa']:.3f}"
        rows.append(["same decision as the second judge", percent(row["same"]) + kappa, f"{row['pairs']}"])
    if not rows:
        return []
    return [("What moves it", "Percent, 95% intervals.", (["", "figure", "pairs"], rows))]


def _attacks(figures: Mapping[str, Any]) -> list[Section]:
    """How often something painted into the worse picture wins it the pair, by what defends the judge."""
    rows = [
        [
            told,
            title,
            *(percent(row[key]) for key in ("success", "refused")),
            signed(row["gain"]),
            percent(row["failed"]),
            f"{row['pairs']}",
        ]
        for told, by_defence in figures.get("attacks", {}).items()
        for title, row in by_defence.items()
    ]
    if not rows:
        return []
    head = [
        "in the worse picture",
        "the judge",
        "fooled",
        "no answer",
        "rise of P(worse)",
        "no answer without it",
    ]
    told = "Percent of the pairs it had right; 95% intervals. " + figures.get("defences", "")
    return [("Orders in the picture", told.strip(), ([*head, "pairs"], rows))]


def markdown(figures: Mapping[str, Any]) -> str:
    """Every table. The first line says what is measured."""
    lines = [figures["measure"], "", f"# {figures['title']}: {figures['judge']}", ""]
    lines += [f"- {note}" for note in figures["notes"]]
    lines += ["", f"`{figures['command']}`"]
    for heading, told, table in sections(figures):
        lines += ["", f"## {heading}", "", told, "", *table_lines(*table)]
    lines += ["", "## Settings", "", "```json", json.dumps(figures["settings"], indent=2, ensure_ascii=False), "```"]
    return "\n".join(lines) + "\n"


def html(figures: Mapping[str, Any]) -> str:
    """The page as text; it runs no script and needs nothing else."""
    return render(
        "judge.html.j2",
        run=figures,
        sections=sections(figures),
        settings=json.dumps(figures["settings"], indent=2, ensure_ascii=False),
        dots=dots(figures),
    )


def dots(figures: Mapping[str, Any]) -> list[dict[str, float]]:
    """Geometry of the reliability diagram in a 320 x 320 box: a dot a bin, its area by how many pairs it holds."""
    if figures.get("calibration") is None:
        return []
    bins = figures["calibration"]["bins"]
    total = sum(b["count"] for b in bins)
    return [
        {
            "x": round(b["confidence"] * 320, 1),
            "y": round((1 - b["frequency"]) * 320, 1),
            "r": round(3 + 14 * (b["count"] / total) ** 0.5, 1),
        }
        for b in bins
    ]


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
